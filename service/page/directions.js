// Sliders of a model's named directions.

import { button, h, slider } from "./dom.js";
import { fixed, short } from "./words.js";

/** The sliders, or `null` if the model has no directions; `moved` is called when one was. */
export function directions(screen, moved) {
  const known = Object.entries(screen.subject.detail.directions);
  if (!known.length) return null;
  const now = screen.pairs("move");
  const sliders = known.map(([name, control]) => slider(name, {
    value: now.get(name) ?? 0, min: -4, max: 4, step: 0.1, text: (value) => fixed(value, 1), title: meaning(control),
    oninput: (value) => {
      value ? now.set(name, value) : now.delete(name);
      screen.setPairs("move", now);
      moved();
    },
  }));
  const reset = () => { now.clear(); screen.setPairs("move", now); sliders.forEach((each) => each.set(0)); moved(); };
  return h("fieldset", {}, h("legend", {}, "Directions"), ...sliders, button("Back to 0", reset, { class: "quiet" }));
}

function meaning({ attribute, unit, correlation, effect }) {
  const [[from, low], [to, high]] = [effect[0], effect.at(-1)];
  return `${attribute}: ${short(low)} at ${short(from)}, ${short(high)} at ${short(to)}; 1 is ${unit}; correlation ${fixed(correlation)}`;
}

/** The member of a call, absent where nothing is moved. */
export function strengths(screen) {
  const known = screen.subject.detail.directions;
  const wanted = [...screen.pairs("move")].filter(([name]) => name in known);
  return wanted.length ? { directions: Object.fromEntries(wanted) } : {};
}
