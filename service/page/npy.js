// NumPy's file format, version 1.0: how arrays travel without becoming text.

const KINDS = { "<f4": Float32Array, "<f8": Float64Array, "<i8": BigInt64Array };

/** The array of an npy body as `{ shape, data }`. */
export function read(buffer) {
  const length = new DataView(buffer).getUint16(8, true);
  const head = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, length));
  const kind = KINDS[/'descr': '([^']*)'/.exec(head)[1]];
  const shape = /'shape': \(([^)]*)\)/.exec(head)[1].split(",").filter((part) => part.trim()).map(Number);
  const data = new kind(buffer.slice(10 + length));
  return { shape, data: kind === BigInt64Array ? Float64Array.from(data, Number) : data };
}

/** Rows of numbers as an npy body of float64, (B, ...shape). */
export function write(rows, shape) {
  let head = `{'descr': '<f8', 'fortran_order': False, 'shape': (${[rows.length, ...shape].join(", ")},), }`;
  head = head.padEnd(128 - 10 - 1 + Math.ceil(Math.max(0, head.length - 117) / 64) * 64) + "\n";
  const size = shape.reduce((a, b) => a * b, 1);
  const body = new Uint8Array(10 + head.length + rows.length * size * 8);
  body.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, head.length & 255, head.length >> 8]);
  body.set(new TextEncoder().encode(head), 10);
  const numbers = new Float64Array(rows.length * size);
  rows.forEach((row, index) => numbers.set(row, index * size));
  body.set(new Uint8Array(numbers.buffer), 10 + head.length);
  return body;
}
