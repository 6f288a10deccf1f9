// The service's metrics, as Prometheus would read them.

/** All samples of an exposition: `{ name, labels, value }`. */
export function parse(text) {
  const line = /^([a-z_:]+)(?:\{(.*)\})? (\S+)$/i;
  return text.split("\n").filter((each) => each && !each.startsWith("#")).map((each) => {
    const [, name, labels = "", value] = line.exec(each) ?? [];
    const pairs = [...labels.matchAll(/([a-z_]+)="((?:\\.|[^"\\])*)"/gi)].map(([, key, said]) => [key, said]);
    return { name, labels: Object.fromEntries(pairs), value: value === "+Inf" ? Infinity : Number(value) };
  });
}

/** The sum of all samples of a name. */
export function total(samples, name) {
  return samples.filter((each) => each.name === name).reduce((sum, { value }) => sum + value, 0);
}

/** What a histogram counted between two looks: `[upper edge, count]` for each bucket, ascending. */
function between(before, now, name) {
  const counts = new Map();
  for (const [samples, sign] of [[now, 1], [before, -1]]) {
    for (const { name: each, labels, value } of samples) {
      if (each !== `${name}_bucket`) continue;
      const edge = labels.le === "+Inf" ? Infinity : Number(labels.le);
      counts.set(edge, (counts.get(edge) ?? 0) + sign * value);
    }
  }
  const cumulative = [...counts].sort(([a], [b]) => a - b);
  return cumulative.map(([edge, count], index) => [edge, count - (index ? cumulative[index - 1][1] : 0)]);
}

/** The quantile of a histogram between two looks, `null` if nothing happened. */
export function quantile(before, now, name, q) {
  const buckets = between(before, now, name);
  let left = q * buckets.reduce((sum, [, count]) => sum + count, 0);
  if (!left) return null;
  let low = 0;
  for (const [edge, count] of buckets) {
    if (left <= count) return edge === Infinity ? low : low + (edge - low) * (left / count);
    left -= count;
    low = edge;
  }
  return low;
}

/** The mean of a histogram between two looks, `null` if nothing happened. */
export function mean(before, now, name) {
  const grown = (part) => total(now, `${name}_${part}`) - total(before, `${name}_${part}`);
  return grown("count") > 0 ? grown("sum") / grown("count") : null;
}
