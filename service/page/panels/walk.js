// From one row to another: encode both, walk between their codes, decode every step.

import { array, call } from "../api.js";
import { directions, strengths } from "../directions.js";
import { button, canvas, h, number, place, select } from "../dom.js";
import { Plane, bars, colour } from "../draw.js";
import { fromText, toText } from "../own.js";
import { Pad } from "../pad.js";
import { fixed } from "../words.js";

const USUAL = { a: "1.0", b: "1.5" };

export const walk = {
  name: "walk",
  title: "Walk",
  lacking: ({ subject }) => (subject.can("interpolate") ? null : h("p", { class: "note" }, `${subject.detail.name} has no codes to walk between.`)),
  show: (screen) => new Walk(screen).parts(),
};

class Walk {
  constructor(screen) {
    Object.assign(this, { screen, subject: screen.subject });
    this.strip = canvas(960, 96, { class: "sheet", role: "img", "data-shows": "walk", "aria-label": "The steps of the walk, decoded" });
    this.ends = ["a", "b"].map((name) => new End(this, name));
    this.refresh = screen.work(() => this.ask());
    if (this.subject.kind === "plane") this.dragEnds();
  }

  get steps() { return Math.max(2, this.screen.index("steps", this.subject.kind === "plane" ? 60 : 12)); }

  parts() {
    this.refresh();
    const put = (name) => (value) => { this.screen.set({ [name]: value }); this.refresh(); };
    const choices = [["", "as the prior is"], ["slerp", "great circle"], ["lerp", "straight line"]];
    const plane = this.subject.kind === "plane";
    const ends = this.ends.map(({ element }) => element);
    this.strip.classList.toggle("long", !plane);
    const hint = plane && this.subject.can("encode") ? "Drag A and B." : "";
    return [
      h(
        "div", { class: "controls" },
        number("steps", { value: this.steps, min: 2, max: plane ? 400 : 40, onchange: put("steps") }),
        select("path", { value: this.screen.text("path"), choices, onchange: put("path") }),
        h("span", { class: "muted" }, hint),
      ),
      ...(plane
        ? [h("div", { class: "columns wide-first" }, this.strip, h("div", { class: "ends" }, ...ends))]
        : [h("div", { class: "scroll", tabIndex: 0 }, this.strip), h("div", { class: "columns" }, ...ends)]),
      directions(this.screen, () => this.refresh()),
    ].filter(Boolean);
  }

  async ask() {
    await Promise.all(this.ends.map((end) => end.find()));
    const path = this.screen.text("path");
    const [start, end] = this.ends.map((each) => each.member);
    const fields = this.screen.ask("interpolate", { start, end, steps: this.steps, ...(path && { path }), ...strengths(this.screen) });
    const { data } = await array("interpolate", fields);
    this.screen.told("interpolate", fields);
    await this.draw(data);
  }

  async draw(data) {
    if (this.subject.kind !== "plane") return this.subject.show(this.strip, data, { columns: this.steps, side: 90 * this.steps });
    const { cloud, x, y } = await this.subject.ranges(this.screen.label);
    [this.strip.width, this.strip.height] = [960, 960];
    this.plane = new Plane(this.strip, x, y);
    this.plane.points(cloud, colour("bar"), 3);
    const steps = Array.from({ length: data.length / 2 }, (_, step) => [data[2 * step], data[2 * step + 1]]);
    this.plane.path(steps, colour("accent"), 3);
    this.plane.points(data, colour("accent"), 5);
    this.ends.forEach((end) => this.plane.mark(end.values, colour(end.name === "a" ? "third" : "second"), end.name.toUpperCase()));
  }

  dragEnds() {
    if (!this.subject.can("encode")) return;
    let held = null;
    const far = (end, [px, py]) => Math.hypot(this.plane.x(end.values[0]) - px, this.plane.y(end.values[1]) - py);
    this.strip.classList.add("pick");
    this.strip.addEventListener("pointerdown", (event) => {
      if (!this.plane) return;
      const at = place(this.strip, event);
      held = this.ends.reduce((best, end) => (far(end, at) < far(best, at) ? end : best));
      this.strip.setPointerCapture(event.pointerId);
      held.put(this.plane.numbers(at));
    });
    this.strip.addEventListener("pointermove", (event) => event.buttons && held?.put(this.plane.numbers(place(this.strip, event))));
  }
}

/** One end: an address of `/sample`, or a row of the visitor's own. */
class End {
  constructor(walking, name) {
    Object.assign(this, { walking, name, screen: walking.screen, subject: walking.subject });
    const title = name.toUpperCase();
    this.bars = canvas(320, 72, { class: "bars", role: "img", "aria-label": `code of ${title}` });
    this.said = h("p", { class: "muted" });
    const back = canvas(80, 80, { class: "thumb", role: "img", "data-shows": `back ${title}`, "aria-label": "given back" });
    this.back = h("div", { class: "back", hidden: true }, back, h("span", { class: "muted" }, "given back by its code"));
    if (this.editable && this.subject.kind === "pictures") this.pad = new Pad(this.subject, title, (values) => this.put(values));
    else if (this.subject.kind !== "plane") {
      this.still = canvas(320, 320, { class: "pad", role: "img", "data-shows": `pad ${title}`, "aria-label": `end ${title}` });
    }
    this.element = h(
      "section", { class: "card end" }, h("h2", {}, title), this.pad?.element ?? this.still ?? "",
      h("div", { class: "about" }, this.address(), this.bars, this.said, this.back, this.around()),
    );
  }

  get editable() { return this.subject.can("encode"); }

  get where() {
    const [seed, index] = this.screen.text(this.name, USUAL[this.name]).split(".").map(Number);
    return Number.isSafeInteger(seed) && Number.isSafeInteger(index) ? { seed, index } : { seed: 1, index: 0 };
  }

  /** The visitor's own row as the address carries it, `null` for none. */
  get own() {
    const text = this.screen.text(`${this.name}x`);
    return text && this.editable ? fromText(this.subject, text) : null;
  }

  address() {
    const put = (part) => (value) => {
      const { seed, index } = { ...this.where, [part]: value };
      this.screen.set({ [this.name]: `${seed}.${index}`, [`${this.name}x`]: undefined });
      this.walking.refresh();
    };
    const { seed, index } = this.where;
    return h(
      "div", { class: "controls" },
      number("seed", { value: seed, onchange: put("seed") }), number("row", { value: index, onchange: put("index") }),
    );
  }

  around() {
    const look = () => {
      const { seed, index } = this.where;
      this.screen.go({ panel: "codes", z: undefined, base: `${seed}.${index}`, own: this.screen.text(`${this.name}x`) });
    };
    return button("Look around its code", look, { class: "quiet" });
  }

  /** A picture was drawn, or a point put on the plane. */
  put(values) {
    this.screen.set({ [`${this.name}x`]: toText(this.subject, values) });
    this.walking.refresh();
  }

  /** The row, its code, and how the walk is told about it. */
  async find() {
    const own = this.own;
    if (own) await this.encode(own);
    else await this.look();
    const few = this.subject.size <= 8 ? `${Array.from(this.values, (value) => fixed(value, 3)).join("   ")} · ` : "";
    this.said.textContent = few + (own ? "your own" : `row ${this.where.index} of seed ${this.where.seed}`);
    this.draw();
  }

  async encode(own) {
    this.pad?.show(own);
    this.values = own;
    this.member = { input: this.subject.nested(own) };
    const inputs = [this.member.input];
    const [{ latents, std }, back] = await Promise.all([
      call("encode", this.screen.ask("encode", { inputs })),
      array("reconstruct", this.screen.ask("reconstruct", { inputs, ...strengths(this.screen) })),
    ]);
    [this.code, this.deviations, this.given] = [latents.flat(Infinity), std?.flat(Infinity), back.data];
  }

  async look() {
    const { seed, index } = this.where;
    this.member = { seed, index };
    [this.code, this.deviations, this.given] = [Array.from(this.subject.drawn(seed, index)), undefined, null];
    this.values = (await array("sample", this.screen.ask("sample", { n: 1, seed, offset: index }))).data;
    this.pad?.show(this.values);
  }

  draw() {
    bars(this.bars, this.code, { fill: colour(this.name === "a" ? "third" : "second"), deviations: this.deviations });
    if (this.still) this.subject.show(this.still, this.values, { columns: 1, side: 320 });
    this.back.hidden = !this.given || this.subject.kind !== "pictures";
    if (!this.back.hidden) this.subject.show(this.back.firstChild, this.given, { columns: 1, side: 80 });
  }
}
