// Samples by address: a seed, an offset, and how far the noise behind them reaches.

import { array } from "../api.js";
import { button, canvas, h, number, place, select, slider } from "../dom.js";
import { colour } from "../draw.js";
import { fixed } from "../words.js";

const COUNTS = { pictures: [16, 64, 144, 256], plane: [100, 500, 2000, 8000], rows: [8, 16, 32] };
const USUAL = { pictures: 64, plane: 2000, rows: 16 };

export const samples = {
  name: "samples",
  title: "Samples",
  lacking: ({ subject }) => (subject.can("sample") ? null : h("p", { class: "note" }, `${subject.detail.name} draws no samples.`)),
  show: (screen) => new Samples(screen).parts(),
};

/** The noise of a call to `/sample`, as the address says it. */
function noise(screen) {
  const [temperature, truncation] = [screen.number("t", 1), screen.number("tr", 0)];
  return { ...(temperature !== 1 && { temperature }), ...(truncation > 0 && { truncation }) };
}

class Samples {
  constructor(screen) {
    Object.assign(this, { screen, subject: screen.subject });
    this.sheet = canvas(960, 960, { tabIndex: 0, role: "img", "data-shows": "samples", class: "sheet pick" });
    this.frame = h("div", { class: "chosen", hidden: true });
    this.aside = h("div", { class: "card aside", "aria-live": "polite" });
    this.page = h("output", { class: "page" });
    this.refresh = screen.work(() => this.ask());
    this.sheet.addEventListener("click", (event) => this.choose(this.shown.find(place(this.sheet, event))));
    this.sheet.addEventListener("keydown", (event) => this.key(event));
  }

  get n() { return this.screen.index("n", USUAL[this.subject.kind]); }

  get seed() { return this.screen.index("seed", 1); }

  get offset() { return this.screen.index("offset", 0); }

  parts() {
    this.refresh();
    return [
      h("div", { class: "controls" }, ...this.address(), ...this.reach()),
      h("div", { class: "columns wide-first" }, h("div", { class: "stack" }, this.sheet, this.frame), this.aside),
    ];
  }

  address() {
    const { screen } = this;
    const set = (fields) => { screen.set({ row: undefined, ...fields }); this.refresh(); };
    const seed = number("seed", { value: this.seed, onchange: (value) => set({ seed: value }) });
    const roll = () => { const value = Math.floor(Math.random() * 1e6); seed.set(value); set({ seed: value, offset: 0 }); };
    this.turn = (by) => set({ offset: Math.max(0, this.offset + by * this.n) });
    const choices = COUNTS[this.subject.kind].map((count) => [count, String(count)]);
    return [
      seed,
      button("Roll", roll, { class: "quiet", title: "another seed" }),
      select("rows", { value: this.n, choices, onchange: (value) => set({ n: Number(value) }) }),
      h(
        "div", { class: "pager" },
        button("←", () => this.turn(-1), { "aria-label": "rows before" }), this.page,
        button("→", () => this.turn(1), { "aria-label": "rows after" }),
      ),
    ];
  }

  reach() {
    const prior = this.subject.detail.latent?.prior;
    const put = (name) => (value) => { this.screen.set({ [name]: value }); this.refresh(); };
    const temperature = slider("temperature", { value: this.screen.number("t", 1), min: 0, max: 2, step: 0.05, text: fixed, oninput: put("t") });
    const truncation = slider("truncation", {
      value: this.screen.number("tr", 0), min: 0, max: 3, step: 0.1, text: (value) => (value ? `± ${fixed(value, 1)} σ` : "off"), oninput: put("tr"),
    });
    return [["standard_normal", "logistic"].includes(prior) && temperature, prior === "standard_normal" && truncation].filter(Boolean);
  }

  async ask() {
    const fields = this.screen.ask("sample", { n: this.n, seed: this.seed, offset: this.offset, ...noise(this.screen) });
    const { data } = await array("sample", fields);
    this.data = data;
    this.shown = await this.subject.show(this.sheet, data, { label: this.screen.label });
    this.screen.told("sample", fields);
    this.page.textContent = `${this.offset.toLocaleString("en")} – ${(this.offset + this.n - 1).toLocaleString("en")}`;
    this.sheet.setAttribute("aria-label", `Rows ${this.page.textContent} of seed ${this.seed}; arrow keys choose one`);
    this.choose(Math.min(this.n - 1, this.screen.index("row", 0)), false);
  }

  key(event) {
    const columns = this.subject.kind === "pictures" ? Math.ceil(Math.sqrt(this.n)) : 1;
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (by) this.choose(Math.max(0, Math.min(this.n - 1, this.row + by)));
    else if (event.key === "PageDown") this.turn(1);
    else if (event.key === "PageUp") this.turn(-1);
    else return;
    event.preventDefault();
  }

  choose(row, keep = true) {
    if (row < 0) return;
    this.row = row;
    if (keep) this.screen.set({ row });
    this.outline(this.shown.box(row));
    const one = canvas(256, 256, { class: "one", role: "img", "aria-label": "the row that is chosen" });
    const values = this.subject.row(this.data, row);
    const [index, seed] = [(this.offset + row).toLocaleString("en"), String(this.seed)];
    const said = h("p", { class: "address" }, "row ", h("b", {}, index), " of seed ", h("b", {}, seed));
    const numbers = this.subject.size <= 8 ? h("p", { class: "numbers" }, Array.from(values, (value) => fixed(value, 4)).join("   ")) : null;
    this.aside.replaceChildren(...[this.subject.kind === "pictures" ? one : null, said, numbers, ...this.next(row)].filter(Boolean));
    if (this.subject.kind === "pictures") this.subject.show(one, values, { columns: 1, side: 512 });
  }

  outline([x, y, width, height]) {
    const percent = (part, whole) => `${(100 * part) / whole}%`;
    Object.assign(this.frame.style, {
      left: percent(x, this.sheet.width), top: percent(y, this.sheet.height),
      width: percent(width, this.sheet.width), height: percent(height, this.sheet.height), borderColor: colour("second"),
    });
    this.frame.classList.toggle("round", this.subject.kind === "plane");
    this.frame.hidden = false;
  }

  /** What can be done with the row; its code has an address of its own only for plain noise. */
  next(row) {
    const [address, moved] = [`${this.seed}.${this.offset + row}`, Object.keys(noise(this.screen)).length > 0];
    const score = { from: this.subject.detail.name, rows: undefined, lseed: this.seed, lfirst: this.offset + row, ln: 1 };
    const to = (panel, fields) => () => this.screen.go({ panel, ...fields });
    if (moved) return [h("p", { class: "muted" }, "At temperature 1, without truncation, its code has an address to start from.")];
    return [
      this.subject.can("decode") && button("Look around its code", to("codes", { base: address, z: undefined, own: undefined })),
      this.subject.can("interpolate") && button("Walk from it", to("walk", { a: address, ax: undefined })),
      this.subject.can("loglik") && button("What is its likelihood?", to("likelihood", score)),
    ].filter(Boolean);
  }
}
