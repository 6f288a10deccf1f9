// One served model, as the panels ask for it: what its rows are, how they are drawn, what a call takes.

import * as api from "./api.js";
import { Plane, bars, colour, pictures, sheet } from "./draw.js";
import { code } from "./philox.js";

// Of which entry points a call's label is.
const LABELLED = {
  sample: ["decode"], decode: ["decode"], encode: ["encode"], reconstruct: ["encode", "decode"],
  interpolate: ["decode"], loglik: ["log_weight"],
};
const REFERENCE = { n: 2000, seed: 0 }; // the rows that show where a model's points lie
const ROW_PX = 44; // of rows drawn as bars, one below the other
const ALONE_PX = 240; // ... and of one alone

export class Subject {
  constructor(detail) {
    this.detail = detail;
    this.clouds = new Map(); // by class
    this.size = detail.data.shape.reduce((a, b) => a * b, 1);
    this.codes = detail.latent ? detail.latent.shape.reduce((a, b) => a * b, 1) : 0;
    const { shape, display } = detail.data;
    const drawn = shape.length === 3 && [1, 3].includes(shape[0]) && display;
    this.kind = drawn ? "pictures" : this.size === 2 ? "plane" : "rows";
  }

  can(verb) {
    return this.detail.verbs.includes(verb);
  }

  /** Whether a call to the verb takes a class. */
  labelled(verb) {
    return LABELLED[verb].some((name) => this.detail.entry_points[name]?.inputs.some(({ role }) => role === "label"));
  }

  /** The fields of a call, with what every call to this model carries. */
  fields(verb, label, more) {
    const { name, version } = this.detail;
    return { model: name, version, ...(this.labelled(verb) && { label }), ...more };
  }

  /** The code behind an address of `/sample`. */
  drawn(seed, index) {
    return code(seed, index, this.detail.latent.prior, this.codes);
  }

  /** Flat numbers as one row of data, or one code, nested as the calls take it. */
  nested(values, space = "data") {
    const nest = (flat, [length, ...inner]) => {
      if (!inner.length) return Array.from(flat);
      const step = flat.length / length;
      return Array.from({ length }, (_, i) => nest(flat.slice(i * step, (i + 1) * step), inner));
    };
    return nest(values, this.detail[space].shape);
  }

  row(values, index) {
    return values.subarray(index * this.size, (index + 1) * this.size);
  }

  /** The nearest row of whole numbers in the support, for models that know no others. */
  levelled(values) {
    const { support } = this.detail.data;
    return values.map((value, index) => {
      const { lattice, low, high } = support[support.length > 1 ? index : 0];
      return lattice ? Math.max(low ?? -Infinity, Math.min(high ?? Infinity, Math.round(value))) : value;
    });
  }

  /** Where the points of the plane lie: the ranges of both axes, the same for everyone. */
  async ranges(label) {
    if (!this.clouds.has(label)) this.clouds.set(label, api.array("sample", this.fields("sample", label, REFERENCE)));
    const { data } = await this.clouds.get(label);
    const axes = [0, 1].map((axis) => data.filter((_, index) => index % 2 === axis).sort());
    const middle = axes.map((sorted) => (sorted[0] + sorted.at(-1)) / 2);
    const half = 0.58 * Math.max(...axes.map((sorted) => sorted.at(-1) - sorted[0]), 1e-6);
    return { cloud: data, x: [middle[0] - half, middle[0] + half], y: [middle[1] - half, middle[1] + half] };
  }

  /** Rows on a canvas, each in a place of its own; gives the function that finds the row at a place. */
  async show(target, values, { columns, side = 960, label }) {
    const count = values.length / this.size;
    if (this.kind === "plane") return this.showPoints(target, values, label);
    if (this.kind === "rows") return this.showBars(target, values, count);
    const place = sheet(this.detail.data.shape, count, columns ?? Math.ceil(Math.sqrt(count)), side);
    pictures(target, values, this.detail.data, place);
    return { find: place.index, box: place.at };
  }

  async showPoints(target, values, label) {
    const { x, y } = await this.ranges(label);
    [target.width, target.height] = [960, 960];
    const plane = new Plane(target, x, y);
    plane.points(values, colour("accent"), values.length > 2000 ? 3.5 : 6, values.length > 2000 ? 0.55 : 0.8);
    const far = ([px, py], row) => Math.hypot(plane.x(values[2 * row]) - px, plane.y(values[2 * row + 1]) - py);
    const rows = Array.from({ length: values.length / 2 }, (_, row) => row);
    const find = (at) => rows.reduce((best, row) => (far(at, row) < far(at, best) ? row : best), 0);
    const box = (row) => [plane.x(values[2 * row]) - 14, plane.y(values[2 * row + 1]) - 14, 28, 28];
    return { find, box, plane };
  }

  showBars(target, values, count) {
    const limit = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
    const tall = count === 1 ? ALONE_PX : ROW_PX;
    [target.width, target.height] = [960, tall * count];
    const one = Object.assign(document.createElement("canvas"), { width: 960, height: tall - 4 });
    for (let row = 0; row < count; row += 1) {
      bars(one, Array.from(this.row(values, row)), { limit });
      target.getContext("2d").drawImage(one, 0, row * tall);
    }
    const box = (row) => [0, row * tall, 960, tall - 4];
    return { find: ([, y]) => Math.min(count - 1, Math.floor(y / tall)), box };
  }
}
