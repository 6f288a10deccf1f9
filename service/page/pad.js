// A picture that one can draw on, drop a file on, or choose a file for; numbers on the model's own levels.

import { button, canvas, h, place } from "./dom.js";
import { picture } from "./draw.js";
import { fromText, toText } from "./own.js";

const SIDE = 320; // pixels of the canvas, about

export class Pad {
  /** `changed(values)` is called with flat numbers in data units after every stroke or file. */
  constructor(subject, name, changed) {
    const space = subject.detail.data;
    const [channels, height, width] = space.shape;
    const scale = Math.max(1, Math.floor(SIDE / width));
    Object.assign(this, { subject, space, changed, channels, height, width, scale });
    this.values = new Float32Array(channels * height * width).fill(space.display[0]);
    this.cursor = [Math.floor(width / 2), Math.floor(height / 2)];
    this.sheet = canvas(width * this.scale, height * this.scale, {
      class: "pad", tabIndex: 0, role: "img", "data-shows": `pad ${name}`,
      "aria-label": `Picture ${name}: draw with the pointer, or with arrow keys and space; or drop a file`,
    });
    this.listen();
    this.element = h("div", {}, this.sheet, this.tools());
  }

  show(values) {
    this.values = Float32Array.from(values);
    this.draw();
  }

  draw() {
    this.sheet.getContext("2d").putImageData(picture(this.values, this.space, this.scale), 0, 0);
  }

  done() {
    this.show(fromText(this.subject, toText(this.subject, this.values))); // what is sent is what a link carries
    this.changed(this.values);
  }

  tools() {
    const [low, high] = this.space.display;
    const file = h("input", { type: "file", accept: "image/*", hidden: true, onchange: () => this.take(file.files[0]) });
    return h(
      "div", { class: "tools" },
      button("Clear", () => { this.values.fill(low); this.draw(); }, { class: "quiet" }),
      button("Invert", () => { this.show(this.values.map((value) => low + high - value)); this.done(); }, { class: "quiet" }),
      button("File …", () => file.click(), { class: "quiet" }),
      file,
    );
  }

  listen() {
    const on = (name, listener) => this.sheet.addEventListener(name, listener);
    on("pointerdown", (event) => { this.sheet.setPointerCapture(event.pointerId); this.stroke(event); });
    on("pointermove", (event) => event.buttons && this.stroke(event));
    on("pointerup", () => this.done());
    on("keydown", (event) => this.key(event));
    on("dragover", (event) => event.preventDefault());
    on("drop", (event) => { event.preventDefault(); this.take(event.dataTransfer.files[0]); });
  }

  stroke(event) {
    const [x, y] = place(this.sheet, event).map((pixel) => pixel / this.scale);
    this.ink(x, y, Math.max(0.75, this.width / 18));
  }

  /** Ink around a point, full in the middle. */
  ink(x, y, radius) {
    const [low, high] = this.space.display;
    for (let pixel = 0; pixel < this.width * this.height; pixel += 1) {
      const far = Math.hypot((pixel % this.width) + 0.5 - x, Math.floor(pixel / this.width) + 0.5 - y);
      const value = low + (high - low) * Math.max(0, Math.min(1, 1.6 - far / radius));
      for (let at = pixel; at < this.values.length; at += this.width * this.height) {
        if ((value - this.values[at]) * (high - low) > 0) this.values[at] = value;
      }
    }
    this.draw();
  }

  key(event) {
    const by = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!by && event.key !== " ") return;
    event.preventDefault();
    const [x, y] = this.cursor;
    if (by) this.cursor = [(x + by[0] + this.width) % this.width, (y + by[1] + this.height) % this.height];
    else { this.ink(x + 0.5, y + 0.5, 0.75); this.done(); }
    const context = this.sheet.getContext("2d");
    this.draw();
    context.strokeStyle = "#e8743b";
    context.lineWidth = 3;
    context.strokeRect(this.cursor[0] * this.scale, this.cursor[1] * this.scale, this.scale, this.scale);
  }

  /** The middle of a picture file, at the model's size. */
  async take(file) {
    if (!file?.type.startsWith("image/")) return;
    const image = await createImageBitmap(file);
    const scale = Math.max(this.width / image.width, this.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    const context = canvas(this.width, this.height).getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, (this.width - width) / 2, (this.height - height) / 2, width, height);
    this.read(context.getImageData(0, 0, this.width, this.height).data);
    this.done();
  }

  read(pixels) {
    const [low, high] = this.space.display;
    const plane = this.width * this.height;
    const grey = (at) => (0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2]) / 255;
    this.values.forEach((_, index) => {
      const at = 4 * (index % plane);
      const part = this.channels === 3 ? pixels[at + Math.floor(index / plane)] / 255 : grey(at);
      this.values[index] = low + part * (high - low);
    });
  }
}
