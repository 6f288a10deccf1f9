// Rows of the visitor's own as text that a link can carry: pictures on their levels, other rows as numbers.

import { pack, unpack } from "./state.js";

const DIGITS = 4; // of a number, behind the point

/** How many steps lie between black and white. */
function steps({ levels }) {
  return (levels ?? 256) - 1;
}

/** Flat numbers in data units as text. */
export function toText({ kind, detail: { data } }, values) {
  if (kind !== "pictures") return Array.from(values, (value) => Number(value.toFixed(DIGITS))).join(" ");
  const [low, high] = data.display;
  const within = (value) => Math.max(0, Math.min(1, (value - low) / (high - low)));
  return pack(Array.from(values, (value) => Math.round(within(value) * steps(data))), steps(data));
}

/** The numbers again, `null` if the text does not hold a row of this model. */
export function fromText({ kind, size, detail: { data } }, text) {
  if (kind === "pictures") {
    const [low, high] = data.display;
    const found = unpack(text, steps(data), size);
    return found && Float32Array.from(found, (step) => low + (step / steps(data)) * (high - low));
  }
  const values = text.split(" ").map(Number);
  return values.length === size && values.every(Number.isFinite) ? Float32Array.from(values) : null;
}
