// The code behind row `index` of a seed, as `models/noise.py` defines it, so that a sample's code can be
// looked at, and moved, without asking for it.
//
// Reference: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".

const [M0, M1, W0, W1] = [0xd2511f53n, 0xcd9e8d57n, 0x9e3779b9n, 0xbb67ae85n];
const WORD = 0xffffffffn;

function philox([a, b, c, d], [low, high]) {
  for (let round = 0; round < 10; round += 1) {
    const [first, second] = [M0 * a, M1 * c];
    [a, b, c, d] = [(second >> 32n) ^ b ^ low, second & WORD, (first >> 32n) ^ d ^ high, first & WORD];
    [low, high] = [(low + W0) & WORD, (high + W1) & WORD];
  }
  return [a, b, c, d];
}

const halves = (whole) => [BigInt(whole) & WORD, BigInt(whole) >> 32n];
const uniform = (word) => (Number(word) + 0.5) / 2 ** 32;

const LAWS = {
  uniform: (u, v) => [u, v],
  logistic: (u, v) => [Math.log(u) - Math.log1p(-u), Math.log(v) - Math.log1p(-v)],
  standard_normal: (u, v) => {
    const [radius, angle] = [Math.sqrt(-2 * Math.log(u)), 2 * Math.PI * v];
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  },
};

/** `size` numbers of float32 that follow the law. */
export function code(seed, index, law, size) {
  const numbers = [];
  for (let block = 0n; numbers.length < size; block += 1n) {
    const [a, b, c, d] = philox([...halves(index), block, 0n], halves(seed)).map(uniform);
    numbers.push(...LAWS[law](a, b), ...LAWS[law](c, d));
  }
  return Float32Array.from(numbers.slice(0, size));
}
