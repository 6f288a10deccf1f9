// How likely rows are: each among the scores of held-out rows, the worst first.

import { array, send } from "../api.js";
import { button, canvas, h, number, select } from "../dom.js";
import { histogram } from "../draw.js";
import { parse, text } from "../rows.js";
import { fixed, plain } from "../words.js";

const BATCH = 2000; // rows of one request, so that many show how far they are
const SHOWN = 100; // rows of the table
const CARRIED = 6000; // letters that a link may have for rows
const MEMBERS = ["log_likelihood", "bits_per_dim", "standard_error", "p_value", "status"];
const UNITS = {
  exact: "the log-density itself", lower_bound: "a bound from below", estimate: "an estimate", unnormalised: "up to a constant",
};

export const likelihood = {
  name: "likelihood",
  title: "Likelihood",
  lacking: ({ subject, catalogue }) => (subject.can("loglik") ? null : absent(subject, catalogue)),
  show: (screen) => new Likelihood(screen).parts(),
};

function absent({ detail }, catalogue) {
  const able = catalogue.filter(({ verbs }) => verbs.includes("loglik")).map(({ name }) => name);
  const others = able.length ? `Models that have one: ${able.join(", ")}.` : "";
  return h("p", { class: "note" }, `${detail.name} has no log-likelihood: its density is ${plain(detail.grades.density)}. `, others);
}

class Likelihood {
  constructor(screen) {
    Object.assign(this, { screen, subject: screen.subject, rows: [] });
    this.area = h("textarea", {
      rows: 6, spellcheck: false, "aria-label": "Rows, one a line",
      placeholder: `${this.subject.size} numbers a line; or drop a CSV file here`,
    });
    this.chart = canvas(960, 400, {
      class: "sheet", role: "img", "data-shows": "histogram", "aria-label": "Scores among those of held-out rows",
    });
    this.said = h("p", { class: "verdict", role: "status" });
    this.table = h("div", { class: "scroll tall", tabIndex: 0 });
    this.score = screen.work(() => this.ask());
    this.fetch = screen.work(() => this.draw());
  }

  /** Models whose rows this one can score. */
  get sources() {
    const same = ({ data_shape: shape, verbs }) => verbs.includes("sample") && String(shape) === String(this.subject.detail.data.shape);
    return this.screen.catalogue.filter(same).map(({ name }) => name);
  }

  parts() {
    this.begin();
    return [
      h("div", { class: "columns" },
        h(
          "section", { class: "card" }, h("h2", {}, "Rows"), this.drop(),
          h("div", { class: "controls" }, ...this.files()), h("div", { class: "controls" }, ...this.borrowed()),
        ),
        h("section", { class: "card" }, h("h2", {}, "Among held-out rows"), this.chart, this.said)),
      this.table,
    ];
  }

  /** Score what the address says: rows of its own, or those of a seed. */
  begin() {
    const rows = this.screen.text("rows");
    if (!rows) return this.fetch();
    this.area.value = rows.replaceAll("|", "\n").replaceAll(" ", ", ");
    return this.score();
  }

  drop() {
    const take = async (file) => { if (file) { this.area.value = ""; this.typed(await file.text(), file.name); } };
    this.file = h("input", { type: "file", accept: ".csv,.txt,text/csv,text/plain", hidden: true, onchange: () => take(this.file.files[0]) });
    const target = h("div", { class: "drop" }, this.area, this.file);
    target.addEventListener("dragover", (event) => event.preventDefault());
    target.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
    this.area.addEventListener("paste", () => setTimeout(() => this.typed(this.area.value)));
    return target;
  }

  files() {
    return [
      button("Score", () => this.typed(this.area.value), { class: "main" }),
      button("CSV file …", () => this.file.click(), { class: "quiet" }),
      ...(this.estimated ? [number("draws", { value: this.k, min: 1, max: 4096, onchange: (k) => { this.screen.set({ k }); this.score(); } })] : []),
    ];
  }

  /** Samples to score, of this model or of another with rows of the same shape. */
  borrowed() {
    const { screen } = this;
    const put = (name) => (value) => { screen.set({ [name]: value, rows: undefined }); this.fetch(); };
    const sources = this.sources.map((name) => [name, name]);
    return [
      select("or samples of", { value: this.source, choices: sources, onchange: put("from") }),
      number("seed", { value: screen.index("lseed", 1), onchange: put("lseed") }),
      number("from row", { value: screen.index("lfirst", 0), onchange: put("lfirst") }),
      number("rows", { value: screen.index("ln", 100), min: 1, max: 10000, onchange: put("ln") }),
    ];
  }

  get source() {
    const wanted = this.screen.text("from");
    return this.sources.includes(wanted) ? wanted : this.subject.detail.name;
  }

  get estimated() {
    return this.subject.detail.entry_points.log_weight.inputs.some(({ role }) => role === "noise");
  }

  get k() { return this.screen.index("k", this.subject.detail.calibration?.k ?? 64); }

  async draw() {
    const { screen } = this;
    const call = { n: Math.max(1, screen.index("ln", 100)), seed: screen.index("lseed", 1), offset: screen.index("lfirst", 0) };
    const own = this.source === this.subject.detail.name;
    const { data } = await array("sample", own ? screen.ask("sample", call) : { model: this.source, ...call });
    this.rows = Array.from({ length: call.n }, (_, index) => this.subject.levelled(this.subject.row(data, index)));
    this.area.value = this.rows.length * this.subject.size <= 20000 ? text(this.rows) : "";
    const rounded = this.subject.detail.data.support.some(({ lattice }) => lattice);
    await this.answer(`samples of ${this.source}${rounded ? ", brought to whole numbers" : ""}`);
  }

  /** Rows were pasted, typed or dropped. */
  typed(given, name) {
    const carried = given.trim().split(/\n/).map((line) => line.trim().split(/[,;\s]+/).join(" ")).join("|");
    const short = carried.length <= CARRIED;
    this.screen.set({ rows: short ? carried : undefined, from: undefined });
    this.given = short && !name ? null : { text: given, name };
    if (short) this.area.value = given;
    this.note = short ? "" : " The link does not carry so many rows.";
    this.score();
  }

  async ask() {
    try {
      this.rows = parse(this.given?.text ?? this.area.value, this.subject.size);
    } catch (error) {
      this.screen.message.textContent = error.message;
      throw Object.assign(error, { status: 0 });
    }
    if (!this.rows.length) throw Object.assign(new Error("There are no rows yet."), { status: 0 });
    await this.answer(this.given?.name ?? "your rows");
  }

  async answer(what) {
    const parts = [];
    const fields = this.screen.ask("loglik", this.estimated ? { k: this.k } : {});
    for (let first = 0; first < this.rows.length; first += BATCH) {
      this.said.textContent = `${first.toLocaleString("en")} of ${this.rows.length.toLocaleString("en")} rows scored …`;
      parts.push(await send("loglik", fields, this.rows.slice(first, first + BATCH), this.subject.detail.data.shape));
    }
    this.screen.told("loglik", { ...fields, inputs: this.rows.slice(0, 2).map((row) => this.subject.nested(row)) });
    this.tell(parts, what);
  }

  tell(parts, what) {
    const [first] = parts;
    const column = (member) => (first[member] ? parts.flatMap((part) => part[member]) : null);
    this.answers = Object.fromEntries(MEMBERS.map((member) => [member, column(member)]));
    const scores = this.answers.log_likelihood;
    const worst = scores.map((_, row) => row).sort((a, b) => (scores[a] ?? -Infinity) - (scores[b] ?? -Infinity) || a - b);
    const finite = scores.filter((score) => score !== null);
    const mean = finite.length ? finite.reduce((sum, score) => sum + score, 0) / finite.length : null;
    const kind = `${plain(first.kind)} (${UNITS[first.kind]}${first.k ? `, ${first.k} draws` : ""})`;
    const told = `${scores.length.toLocaleString("en")} ${what}: mean ${fixed(mean)} ${first.unit}, ${kind}`;
    this.said.textContent = `${told}; ${this.found()}.${this.note ?? ""}`;
    this.plot(finite);
    this.list(worst, first);
  }

  /** How many rows have which status. */
  found() {
    const counts = new Map();
    for (const status of this.answers.status) counts.set(status, (counts.get(status) ?? 0) + 1);
    return [...counts].map(([status, count]) => `${count} ${plain(status)}`).join(", ");
  }

  plot(scores) {
    const held = this.subject.detail.calibration;
    this.chart.hidden = !held;
    if (!held) return;
    const span = held.highest - held.lowest || 1;
    const left = Math.max(held.lowest - span, Math.min(held.lowest, ...scores.slice(0, 1e5)));
    const right = Math.min(held.highest + span, Math.max(held.highest, ...scores.slice(0, 1e5)));
    histogram(this.chart, held, scores, [left, right]);
  }

  list(worst, { unit }) {
    const { bits_per_dim: bits, standard_error: errors, p_value: p, status, log_likelihood: scores } = this.answers;
    const columns = [
      ["row", (row) => (row + 1).toLocaleString("en")],
      [this.subject.kind === "pictures" ? "picture" : "values", (row) => this.thumb(row)],
      [`log-likelihood, ${unit}`, (row) => (scores[row] === null ? "−∞" : fixed(scores[row]) + (errors?.[row] ? ` ± ${fixed(errors[row])}` : ""))],
      ...(bits ? [["bits/dim", (row) => fixed(bits[row], 3)]] : []),
      ...(p ? [["p-value", (row) => (p[row] === null ? "–" : p[row].toFixed(4))]] : []),
      ["status", (row) => h("span", { class: status[row] === "ok" ? "ok" : "bad" }, plain(status[row]))],
    ];
    const lines = worst.slice(0, SHOWN).map((row) => h("tr", {}, ...columns.map(([, cell]) => h("td", {}, cell(row)))));
    this.table.replaceChildren(h("table", { class: "worst" },
      h("caption", {}, worst.length > SHOWN ? `The ${SHOWN} least likely of ${worst.length.toLocaleString("en")} rows` : "The least likely first"),
      h("thead", {}, h("tr", {}, ...columns.map(([name]) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, ...lines)));
  }

  thumb(row) {
    const values = Float32Array.from(this.rows[row]);
    const few = Array.from(values.slice(0, 6), (value) => fixed(value, 3)).join("  ");
    if (this.subject.kind !== "pictures") return values.length > 6 ? `${few} …` : few;
    const one = canvas(48, 48, { class: "thumb", role: "img", "aria-label": `row ${row + 1}` });
    this.subject.show(one, values, { columns: 1, side: 48 });
    return one;
  }
}
