// What is on the screen, as text: the part of the address behind the #. Who opens the link sees the same.

/** The fields of the address. */
export function read() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

/** A link to these fields, on this page. */
export function link(fields) {
  const present = Object.entries(fields).filter(([, value]) => value !== undefined && value !== "");
  return `#${new URLSearchParams(present)}`;
}

/** Numbers between 0 and `levels`, a byte or two each, as text that an address can carry. */
export function pack(values, levels) {
  const wide = levels > 255;
  const bytes = wide ? new Uint8Array(Uint16Array.from(values).buffer) : Uint8Array.from(values);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The numbers again; `null` for text that does not hold `size` of them. */
export function unpack(text, levels, size) {
  try {
    const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
    const values = levels > 255 ? new Uint16Array(bytes.buffer) : bytes;
    return values.length === size ? Array.from(values, (value) => Math.min(value, levels)) : null;
  } catch {
    return null;
  }
}
