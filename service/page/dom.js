// Elements, and the few controls that the panels are made of.

/** An element; `on…` are listeners, `data-…`, `aria-…` and `role` attributes, all else properties. */
export function h(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (/^(data|aria)-|^(role|for)$/.test(name)) element.setAttribute(name, value);
    else element[name === "class" ? "className" : name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

let count = 0;

function labelled(label, control, ...more) {
  control.id = `control-${(count += 1)}`;
  return h("div", { class: "control" }, h("label", { for: control.id }, label), control, ...more);
}

export function button(label, onclick, more = {}) {
  return h("button", { type: "button", onclick, ...more }, label);
}

/** A whole number; what lies outside of its bounds is brought back. */
export function number(label, { value, min = 0, max = Number.MAX_SAFE_INTEGER, onchange }) {
  const input = h("input", { type: "number", inputMode: "numeric", min, max, step: 1, value });
  input.addEventListener("change", () => {
    const wanted = Math.round(Number(input.value));
    input.value = Number.isFinite(wanted) ? Math.min(max, Math.max(min, wanted)) : min;
    onchange(Number(input.value));
  });
  const control = labelled(label, input);
  control.set = (next) => { input.value = next; };
  return control;
}

/** A range with its value beside it. */
export function slider(label, { value, min, max, step, text = String, title, oninput }) {
  const shown = h("output", {}, text(value));
  const input = h("input", { type: "range", min, max, step, title });
  input.value = value;
  input.addEventListener("input", () => {
    shown.textContent = text(Number(input.value));
    oninput(Number(input.value));
  });
  const control = labelled(label, input, shown);
  control.classList.add("slider");
  control.set = (next) => { input.value = next; shown.textContent = text(next); };
  return control;
}

/** One of several; `choices` are pairs of a value and how it is called. */
export function select(label, { value, choices, onchange }) {
  const options = choices.map(([each, name]) => h("option", { value: each, selected: String(each) === String(value) }, name));
  const input = h("select", {}, options);
  input.addEventListener("change", () => onchange(input.value));
  return labelled(label, input);
}

/** A canvas of so many pixels, whatever the screen: what a link shows does not depend on who looks. */
export function canvas(width, height, more = {}) {
  return h("canvas", { width, height, ...more });
}

/** Where on a canvas a pointer is, in the canvas' pixels. */
export function place(target, event) {
  const box = target.getBoundingClientRect();
  return [
    ((event.clientX - box.left) / box.width) * target.width,
    ((event.clientY - box.top) / box.height) * target.height,
  ];
}
