// What grades, verbs and numbers are called.

const DENSITY = {
  exact: "The log-likelihood of a row is exact.",
  lower_bound: "The log-likelihood of a row is bounded from below, tighter with more draws, and has a standard error.",
  estimate: "The log-likelihood of a row is estimated, and has a standard error.",
  unnormalised: "The log-likelihood of a row is known up to a constant.",
  none: "There is no log-likelihood.",
};
const LATENTS = {
  bijection: "A row has exactly one code, and the code gives it back.",
  posterior: "A row has a distribution of codes, with a mean and a standard deviation.",
  code: "A code is decoded; no row has one unless an encoder was learned.",
  none: "There are no codes.",
};
const GENERATOR = {
  one_shot: "A sample is one pass through the graph.",
  sequential: "A sample is made number by number.",
  chain: "A sample is the end of a chain.",
  none: "It draws no samples.",
};

/** Each part of the grades with its grade, and the sentence that goes with it. */
export function grades(given) {
  const told = { density: DENSITY, latents: LATENTS, generator: GENERATOR };
  return Object.entries(told).map(([part, words]) => [part, given[part], words[given[part]] ?? ""]);
}

export const plain = (name) => name.replaceAll("_", " ");

/** A number as short as it can be read: four digits, and powers of ten where there are many. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const many = value !== 0 && (size < 1e-3 || size >= 1e5);
  const text = many ? value.toExponential(1).replace("e", " e") : String(Number(value.toPrecision(4)));
  return text.replaceAll("-", "−");
}

/** A number of fixed digits, with a true minus sign. */
export const fixed = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));

/** What the rows of a model are, in one line. */
export function space(data) {
  const size = data.shape.join("×");
  const [first] = data.support;
  const kind = data.levels ? `${data.levels} levels` : first.lattice ? "whole numbers" : "continuous";
  const bounded = first.low !== null || first.high !== null;
  const end = (value, open) => (value === null ? open : short(value));
  return `${size}, ${kind}${bounded ? ` from ${end(first.low, "−∞")} to ${end(first.high, "∞")}` : ""}`;
}
