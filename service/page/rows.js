// Rows as text: a CSV file, or what was pasted.

/**
 * Rows of `size` numbers; a first line of names is passed over.
 *
 * Throws an Error that names the line if one does not hold such a row.
 */
export function parse(text, size) {
  const lines = text.split(/\r?\n/).map((line, index) => [index + 1, line.trim()]).filter(([, line]) => line);
  if (lines.length && !cells(lines[0][1]).some((cell) => cell !== "" && Number.isFinite(Number(cell)))) lines.shift();
  return lines.map(([number, line]) => {
    const row = cells(line);
    const values = row.map((cell) => (cell === "" ? NaN : Number(cell)));
    if (row.length !== size) throw new Error(`Line ${number} has ${row.length} numbers; a row of this model has ${size}.`);
    const wrong = values.findIndex((value) => !Number.isFinite(value));
    if (wrong >= 0) throw new Error(`Line ${number} has “${row[wrong].slice(0, 20)}” in column ${wrong + 1}; allowed: numbers.`);
    return values;
  });
}

function cells(line) {
  return line.split(/[,;\t]/.test(line) ? /\s*[,;\t]\s*/ : /\s+/).map((cell) => cell.replace(/^["[\s]+|["\]\s]+$/g, ""));
}

/** The rows as lines of text. */
export function text(rows) {
  return rows.map((row) => Array.from(row, (value) => Number(value.toPrecision(7))).join(", ")).join("\n");
}
