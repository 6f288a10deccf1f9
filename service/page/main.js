// The page: which models there are, which one is looked at, by which panel.

import { get } from "./api.js";
import { button, h } from "./dom.js";
import { about } from "./panels/about.js";
import { codes } from "./panels/codes.js";
import { likelihood } from "./panels/likelihood.js";
import { samples } from "./panels/samples.js";
import { walk } from "./panels/walk.js";
import { Screen } from "./screen.js";
import { link, read } from "./state.js";
import { live } from "./strip.js";
import { Subject } from "./subject.js";
import { plain, space } from "./words.js";

const PANELS = [samples, codes, walk, likelihood, about];
const main = document.querySelector("#model");
const subjects = new Map(); // by model and version, so that what is known of them is asked once
let catalogue = [];
let shown = 0;

async function start() {
  try {
    catalogue = (await get("/models")).models;
  } catch (problem) {
    return say(problem.message);
  }
  live(document.querySelector("#strip"));
  if (!catalogue.length) return say("No model is served. “make serve” trains four, and serves them.");
  return show();
}

function say(sentence) {
  main.replaceChildren(h("p", { class: "note", role: "status" }, sentence));
}

async function subjectOf({ model, version }) {
  const key = `${model} ${version ?? ""}`;
  const query = version ? `?version=${encodeURIComponent(version)}` : "";
  if (subjects.has(key)) return subjects.get(key);
  const subject = new Subject(await get(`/models/${encodeURIComponent(model)}${query}`));
  for (const each of [key, `${model} ${subject.detail.version}`]) subjects.set(each, subject);
  return subject;
}

/** Show what the address says; of two that overlap the later one wins. */
async function show() {
  const turn = (shown += 1);
  const fields = { panel: samples.name, ...read() };
  fields.model ??= catalogue[0].name;
  main.setAttribute("aria-busy", "true");
  listModels(fields);
  try {
    const subject = await subjectOf(fields);
    if (turn === shown) draw(subject, fields);
  } catch (problem) {
    if (turn === shown) say(problem.message);
  }
  if (turn === shown) main.setAttribute("aria-busy", "false");
}

function listModels({ model, panel }) {
  document.querySelector("#models").replaceChildren(...catalogue.map((each) => h(
    "a",
    { href: link({ model: each.name, panel }), class: "model", "aria-current": each.name === model ? "page" : null },
    h("b", {}, each.name),
    h("span", {}, `${each.family} · ${each.data_shape.join("×")}`),
    h("span", { class: "dots" }, ...Object.entries(each.grades).map(([part, grade]) => h(
      "i", { class: grade === "none" ? "dot off" : "dot", title: `${part}: ${plain(grade)}` }, part[0].toUpperCase(),
    ))),
  )));
}

function draw(subject, fields) {
  const screen = new Screen(subject, catalogue, fields);
  const panel = PANELS.find(({ name }) => name === fields.panel) ?? samples;
  const body = h("section", {
    id: "panel", class: "panel", role: "tabpanel", tabIndex: -1, "aria-labelledby": `tab-${panel.name}`, "aria-busy": "false",
  });
  const amongTabs = document.activeElement?.getAttribute("role") === "tab";
  main.replaceChildren(heading(subject, screen), tabs(panel, screen), body);
  if (amongTabs) main.querySelector("[aria-selected='true']").focus();
  screen.fill(body, panel);
  document.querySelectorAll(".models, .tabs").forEach(bringForward);
  document.title = `${subject.detail.name} · Pushforward`;
}

/** Scroll a list that is wider than the screen to what is chosen in it. */
function bringForward(list) {
  const chosen = list.querySelector("[aria-current], [aria-selected='true']");
  if (chosen) list.scrollLeft = chosen.offsetLeft - (list.clientWidth - chosen.offsetWidth) / 2;
}

function heading({ detail }, screen) {
  return h(
    "div", { class: "heading" },
    h("h1", {}, detail.name, h("small", {}, `version ${detail.version}`)),
    h("p", { class: "muted" }, `${detail.paper} · rows of ${space(detail.data)}`),
    h("div", { class: "chips" }, ...Object.entries(detail.grades).map(([part, grade]) => h(
      "span", { class: grade === "none" ? "chip off" : "chip" }, h("i", {}, part), plain(grade),
    ))),
    screen.classes(() => show()),
    button("Copy link", (event) => copy(event.target, screen), { class: "quiet copy" }),
  );
}

async function copy(target, screen) {
  history.replaceState(null, "", link(screen.fields));
  const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  target.textContent = copied ? "Copied" : "The link is in the address bar";
  setTimeout(() => { target.textContent = "Copy link"; }, 1600);
}

function tabs(chosen, screen) {
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": "What to look at", onkeydown: step });
  list.append(...PANELS.map((panel) => h("a", {
    id: `tab-${panel.name}`,
    role: "tab",
    href: link({ ...screen.fields, panel: panel.name }),
    class: panel.lacking?.(screen) ? "off" : "",
    "aria-selected": String(panel === chosen),
    "aria-controls": "panel",
    tabIndex: panel === chosen ? 0 : -1,
    onclick: (event) => { event.preventDefault(); screen.go({ panel: panel.name }); },
  }, panel.title)));
  return list;
}

/** Arrow keys go from tab to tab, as in any list of tabs. */
function step(event) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  const all = [...event.currentTarget.children];
  all[(all.indexOf(document.activeElement) + by + all.length) % all.length].click();
}

addEventListener("hashchange", show);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
start();
