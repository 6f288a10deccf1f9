// Codes, decoded while they are moved: on a map of two of them, by a slider each, and along named directions.

import { array, call } from "../api.js";
import { directions, strengths } from "../directions.js";
import { button, canvas, h, number, place, select, slider } from "../dom.js";
import { Plane, colour } from "../draw.js";
import { fromText } from "../own.js";
import { fixed } from "../words.js";

const REACH = { standard_normal: [-3, 3], logistic: [-5, 5], uniform: [0, 1] };
const USUAL = "1.0"; // the address to begin at
const MIDDLE = "middle"; // ... or the code in the middle of all
const TILES = 11; // of the map, each way
const LINES = 13; // of the lattice that is pushed forward, each way
const FINE = 145; // points of each of its lines
const FEW = 12; // sliders, before all are wanted

export const codes = {
  name: "codes",
  title: "Codes",
  lacking: ({ subject }) => (subject.can("decode") ? null : h("p", { class: "note" }, `${subject.detail.name} has no codes to decode.`)),
  show: (screen) => new Codes(screen).parts(),
};

class Codes {
  constructor(screen) {
    Object.assign(this, { screen, subject: screen.subject });
    this.reach = REACH[this.subject.detail.latent.prior];
    this.set = screen.pairs("z");
    this.axes = [screen.index("ax", 0), screen.index("ay", 1)].map((axis) => Math.min(axis, this.subject.codes - 1));
    this.map = canvas(960, 960, {
      tabIndex: 0, role: "img", class: "sheet pick", "data-shows": "map",
      "aria-label": "Map of two codes; the pointer decodes, arrow keys move",
    });
    this.marker = h("div", { class: "marker" });
    this.image = canvas(960, 960, { class: "sheet", role: "img", "data-shows": "decoded", "aria-label": "What the code is decoded to" });
    this.said = h("p", { class: "numbers", role: "status" });
    this.drawMap = screen.work(() => this.decodeMap());
    this.drawOne = screen.work((code) => this.decodeOne(code));
    this.follow();
  }

  /** The code that the page stands on: where it began, and what was moved since. */
  get code() {
    const code = this.origin.slice();
    for (const [axis, value] of this.set) if (axis in code) code[axis] = value;
    return code;
  }

  /** The code to begin at: of a row of the visitor's own, of an address, or in the middle. */
  async begin() {
    const own = this.screen.text("own") && this.subject.can("encode") && fromText(this.subject, this.screen.text("own"));
    const [seed, index] = this.screen.text("base", USUAL).split(".").map(Number);
    const drawn = Number.isSafeInteger(seed) && Number.isSafeInteger(index);
    if (own) this.origin = await this.encode(own);
    else if (drawn) this.origin = this.subject.drawn(seed, index);
    else this.origin = new Float32Array(this.subject.codes).fill((this.reach[0] + this.reach[1]) / 2);
    this.fillSliders(this.few);
    this.everything();
  }

  async encode(own) {
    const { latents } = await call("encode", this.screen.ask("encode", { inputs: [this.subject.nested(own)] }));
    return Float32Array.from(latents.flat(Infinity));
  }

  parts() {
    this.sliders = h("fieldset", { class: "latents" });
    this.few = this.subject.codes > FEW && ![...this.set.keys()].some((axis) => axis >= FEW);
    this.restart = this.screen.work(() => this.begin());
    this.restart();
    const flat = this.subject.codes > 1;
    return [
      h("div", { class: "controls" }, ...this.start(), ...(flat ? this.chooseAxes() : [])),
      h(
        "div", { class: "columns map-first" },
        flat ? h("div", { class: "stack" }, this.map, this.marker) : null,
        h("div", {}, this.image, this.said),
      ),
      h("div", { class: "columns" }, this.sliders, directions(this.screen, () => this.everything())),
    ].filter(Boolean);
  }

  start() {
    const [seed, index = 0] = this.screen.text("base", USUAL).split(".").map((part) => Number(part) || 0);
    const from = { seed, index };
    const begin = (base) => { this.set.clear(); this.screen.set({ base, z: "", own: "" }); this.restart(); };
    const put = (name) => (value) => { from[name] = value; begin(`${from.seed}.${from.index}`); };
    const row = number("row", { value: index, onchange: put("index") });
    const next = () => { from.index += 1; row.set(from.index); begin(`${from.seed}.${from.index}`); };
    return [
      number("from seed", { value: seed, onchange: put("seed") }), row,
      button("Next row", next, { class: "quiet" }),
      button("The middle", () => begin(MIDDLE), { class: "quiet" }),
    ];
  }

  chooseAxes() {
    const choices = Array.from({ length: this.subject.codes }, (_, axis) => [axis, `z${axis + 1}`]);
    return ["ax", "ay"].map((name, which) => select(which ? "up" : "across", {
      value: this.axes[which], choices,
      onchange: (value) => { this.axes[which] = Number(value); this.screen.set({ [name]: value }); this.everything(); },
    }));
  }

  fillSliders(few) {
    this.few = few;
    const shown = few ? FEW : this.subject.codes;
    const [low, high] = this.reach;
    const code = this.code;
    this.each = Array.from({ length: shown }, (_, axis) => slider(`z${axis + 1}`, {
      value: code[axis], min: low, max: high, step: 0.01, text: fixed, oninput: (value) => this.move([[axis, value]], axis),
    }));
    const all = few ? button(`All ${this.subject.codes}`, () => this.fillSliders(false), { class: "quiet" }) : null;
    this.sliders.replaceChildren(...[h("legend", {}, "Codes"), ...this.each, all].filter(Boolean));
  }

  /** Put some numbers of the code; the map stays as long as they are its own axes. */
  move(values, by) {
    for (const [axis, value] of values) this.set.set(axis, Math.round(value * 1000) / 1000);
    this.screen.setPairs("z", this.set);
    const code = this.code;
    for (const [axis] of values) if (axis !== by) this.each[axis]?.set(code[axis]);
    if (values.every(([axis]) => this.axes.includes(axis))) this.drawOne(code);
    else this.everything();
  }

  everything() {
    if (!this.origin) return; // not yet there, and drawn when it is
    if (this.subject.codes > 1) this.drawMap();
    this.drawOne(this.code);
  }

  follow() {
    const at = (event) => {
      const [low, high] = this.reach;
      const [x, y] = place(this.map, event);
      const within = (part) => low + Math.max(0, Math.min(1, part)) * (high - low);
      return [[this.axes[0], within(x / this.map.width)], [this.axes[1], within(1 - y / this.map.height)]];
    };
    this.map.addEventListener("pointermove", (event) => this.origin && (event.buttons ? this.move(at(event)) : this.drawOne(this.moved(at(event)))));
    this.map.addEventListener("pointerdown", (event) => { this.map.setPointerCapture(event.pointerId); this.origin && this.move(at(event)); });
    this.map.addEventListener("pointerleave", () => this.origin && this.drawOne(this.code));
    this.map.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const by = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by || !this.origin) return;
    event.preventDefault();
    const [code, [low, high]] = [this.code, this.reach];
    const step = ((high - low) / 60) * (event.shiftKey ? 5 : 1);
    this.move(this.axes.map((axis, which) => [axis, Math.max(low, Math.min(high, code[axis] + step * by[which]))]).filter((_, which) => by[which]));
  }

  moved(values) {
    const code = this.code;
    for (const [axis, value] of values) code[axis] = value;
    return code;
  }

  decode(rows) {
    const latents = rows.map((code) => this.subject.nested(code, "latent"));
    return this.screen.ask("decode", { latents, ...strengths(this.screen) });
  }

  async decodeOne(code) {
    const fields = this.decode([code]);
    const { data } = await array("decode", fields);
    const shown = await this.subject.show(this.image, data, { columns: 1, side: 960, label: this.screen.label });
    if (this.subject.kind === "plane") this.drawLattice(shown.plane, data);
    const own = this.screen.text("own") ? "from your own row:   " : "";
    this.said.textContent = own + this.axes.map((axis) => `z${axis + 1} = ${fixed(code[axis])}`).join("   ") + this.numbers(data);
    this.mark(code);
    this.screen.told("decode", fields);
  }

  numbers(data) {
    return this.subject.size <= 8 ? `   →   ${Array.from(data, (value) => fixed(value, 3)).join("   ")}` : "";
  }

  mark(code) {
    const [low, high] = this.reach;
    const [x, y] = this.axes.map((axis) => (code[axis] - low) / (high - low));
    Object.assign(this.marker.style, { left: `${100 * Math.max(0, Math.min(1, x))}%`, top: `${100 * (1 - Math.max(0, Math.min(1, y)))}%` });
  }

  async decodeMap() {
    if (this.subject.kind === "pictures") return this.tile();
    const plane = new Plane(this.map, this.reach, this.reach);
    if (this.subject.kind === "plane") return this.push(plane);
  }

  /** Decoded codes on a sheet, each at its place. */
  async tile() {
    const [low, high] = this.reach;
    const at = (tile) => low + ((tile + 0.5) / TILES) * (high - low);
    const rows = Array.from({ length: TILES * TILES }, (_, index) => this.moved([
      [this.axes[0], at(index % TILES)], [this.axes[1], at(TILES - 1 - Math.floor(index / TILES))],
    ]));
    const { data } = await array("decode", this.decode(rows));
    await this.subject.show(this.map, data, { columns: TILES });
  }

  /** The straight lines of a lattice, and where the model pushes them. */
  async push(plane) {
    const [low, high] = this.reach;
    const part = (index, count) => low + (index / (count - 1)) * (high - low);
    const lines = Array.from({ length: 2 * LINES }, (_, line) => Array.from({ length: FINE }, (_, point) => {
      const ends = [part(line % LINES, LINES), part(point, FINE)];
      return line < LINES ? ends : ends.reverse();
    }));
    lines.forEach((line, index) => plane.path(line, this.shade(index), 2));
    const rows = lines.flat().map(([x, y]) => this.moved([[this.axes[0], x], [this.axes[1], y]]));
    const { data } = await array("decode", this.decode(rows));
    this.lattice = lines.map((_, line) => Array.from({ length: FINE }, (_, point) => {
      const from = 2 * (line * FINE + point);
      return [data[from], data[from + 1]];
    }));
    this.drawOne(this.code);
  }

  shade(index) {
    return colour(index < LINES ? "accent" : "third");
  }

  async drawLattice(plane, data) {
    (this.lattice ?? []).forEach((line, index) => plane.path(line, this.shade(index), 1.6));
    plane.mark(data, colour("second"));
  }
}
