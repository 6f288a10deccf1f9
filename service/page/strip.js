// The live strip: what the service is doing now, from its own metrics, looked at every other second.

import { get } from "./api.js";
import { canvas, h } from "./dom.js";
import { spark } from "./draw.js";
import { mean, parse, quantile, total } from "./metrics.js";

const EVERY_MS = 2000;
const KEPT = 60; // looks, two minutes
const LATENCY = "pushforward_request_seconds";

// What is shown: its name, its value between two looks of so many seconds, and its unit.
const GAUGES = [
  ["queue", (_, now) => total(now, "pushforward_queue_rows"), "rows"],
  ["batch", (before, now) => mean(before, now, "pushforward_batch_rows"), "rows"],
  ["traffic", (before, now, s) => (total(now, "pushforward_requests_total") - total(before, "pushforward_requests_total")) / s, "/s"],
  ["p50", (before, now) => ms(quantile(before, now, LATENCY, 0.5)), "ms"],
  ["p99", (before, now) => ms(quantile(before, now, LATENCY, 0.99)), "ms"],
];

const ms = (seconds) => (seconds === null ? null : seconds * 1000);
const written = (value) => (value === null ? "–" : value < 10 && value % 1 ? value.toFixed(1) : String(Math.round(value)));

/** Fill the strip, and keep it true while somebody looks. */
export function live(root) {
  const gauges = GAUGES.map(([name, value, unit]) => new Gauge(name, value, unit));
  root.replaceChildren(...gauges.map(({ element }) => element));
  let before = null;
  const look = async () => {
    if (document.hidden) return;
    const samples = await get("/metrics").then(parse, () => null);
    const now = performance.now();
    root.classList.toggle("stale", !samples);
    if (samples && before) gauges.forEach((gauge) => gauge.add(before.samples, samples, (now - before.at) / 1000));
    before = samples && { samples, at: now };
  };
  look();
  setInterval(look, EVERY_MS);
}

class Gauge {
  constructor(name, value, unit) {
    Object.assign(this, { value, unit, kept: [] });
    this.number = h("b", {}, "–");
    this.line = canvas(88, 28, { "aria-hidden": "true" });
    this.element = h("span", { class: "gauge", "data-gauge": name }, h("i", {}, name), this.number, h("i", {}, unit), this.line);
  }

  add(before, now, seconds) {
    const value = this.value(before, now, seconds);
    this.kept = [...this.kept, value ?? 0].slice(-KEPT);
    this.number.textContent = written(value);
    spark(this.line, this.kept, KEPT);
  }
}
