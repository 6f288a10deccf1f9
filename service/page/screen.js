// What a panel is given: the model, the fields of the address, and a way to work that shows.

import { h, number, select } from "./dom.js";
import { link } from "./state.js";
import { turns } from "./turns.js";

export class Screen {
  constructor(subject, catalogue, fields) {
    this.subject = subject;
    this.catalogue = catalogue;
    this.fields = { ...fields, model: subject.detail.name, version: subject.detail.version };
    this.busy = 0;
  }

  /** A whole panel: what it shows, what went wrong, and the call behind it. */
  fill(body, panel) {
    this.body = body;
    this.message = h("p", { class: "message", role: "status" });
    this.made = h("pre");
    this.call = h("details", { class: "call", hidden: true }, h("summary", {}, "The call"), this.made);
    const lacking = panel.lacking?.(this);
    body.replaceChildren(...(lacking ? [lacking] : panel.show(this)), this.message, this.call);
  }

  number(name, otherwise) {
    const value = Number(this.fields[name]);
    return this.fields[name] !== undefined && Number.isFinite(value) ? value : otherwise;
  }

  /** A whole number that a seed or an index may be. */
  index(name, otherwise) {
    const value = this.number(name, otherwise);
    return Number.isSafeInteger(value) && value >= 0 ? value : otherwise;
  }

  text(name, otherwise = "") {
    return this.fields[name] ?? otherwise;
  }

  /** Numbers by name, as `bold:1.5,slanted:-2` says them. */
  pairs(name) {
    const parts = this.text(name).split(",").map((part) => part.split(":"));
    return new Map(parts.filter(([key, value]) => key && Number.isFinite(Number(value))).map(([key, value]) => [key, Number(value)]));
  }

  setPairs(name, pairs) {
    this.set({ [name]: [...pairs].map(([key, value]) => `${key}:${value}`).join(",") });
  }

  /** Remember fields in the address; what is undefined or empty leaves it. */
  set(fields) {
    Object.assign(this.fields, fields);
    history.replaceState(null, "", link(this.fields));
  }

  /** Show something else; the browser's way back leads here. */
  go(fields) {
    location.hash = link({ ...this.fields, ...fields });
  }

  /** The class that calls carry, where the model takes one. */
  get label() {
    const { labels } = this.subject.detail.data;
    return labels?.includes(this.text("label")) ? this.text("label") : this.index("label", 0);
  }

  /** Where a class is chosen, `null` where the model takes none. */
  classes(chosen) {
    const { verbs, data: { labels: names } } = this.subject.detail;
    if (!verbs.some((verb) => this.subject.labelled(verb))) return null;
    const onchange = (label) => { this.set({ label }); chosen(); };
    if (!names) return number("class", { value: this.label, onchange });
    return select("class", { value: this.text("label", names[0]), choices: names.map((name) => [name, name]), onchange });
  }

  /** The fields of a call to this model. */
  ask(verb, more) {
    return this.subject.fields(verb, this.label, more);
  }

  /** A task that may be wanted again before it is done; the panel says that it works, and what went wrong. */
  work(task) {
    return turns(task, {
      begun: () => { this.busy += 1; this.body.setAttribute("aria-busy", "true"); },
      ended: (failure) => {
        this.busy -= 1;
        this.message.textContent = failure?.message ?? "";
        if (!this.busy) this.body.setAttribute("aria-busy", "false");
        if (failure && !("status" in failure)) throw failure;
      },
    });
  }

  /** Say which call is behind what is seen. */
  told(verb, fields) {
    const body = JSON.stringify(fields).replaceAll("'", "'\\''");
    this.call.hidden = false;
    this.made.textContent = `curl -s ${location.origin}/${verb} -H 'Content-Type: application/json' \\\n  -d '${body}'`;
  }
}
