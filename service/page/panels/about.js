// What one model promises, and what was measured when it was exported.

import { h } from "../dom.js";
import { grades, plain, short, space } from "../words.js";

export const about = {
  name: "about",
  title: "Certificate",
  show: ({ subject: { detail } }) => [
    h("div", { class: "columns" }, promises(detail), facts(detail)),
    measured(detail),
    moves(detail),
    certificate(detail),
  ].filter(Boolean),
};

function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", {}, title), ...content);
}

function promises(detail) {
  const rows = grades(detail.grades).map(([part, grade, words]) => [h("dt", {}, part), h("dd", {}, h("b", {}, plain(grade)), " ", words)]);
  return card("What the answers are worth", h("dl", {}, ...rows));
}

function facts(detail) {
  const { data, latent, calibration, limits } = detail;
  const points = Object.entries(detail.entry_points).map(([name, { provider }]) => `${name} on ${provider.replace("ExecutionProvider", "")}`);
  const told = [
    ["verbs", detail.verbs.join(", ")],
    ["rows", space(data)],
    ["codes", latent ? `${latent.shape.join("×")}, ${plain(latent.prior)}` : "none"],
    ["graphs", points.join(", ")],
    ["held-out rows", calibration ? `${calibration.rows}${calibration.k > 1 ? `, ${calibration.k} draws each` : ""}` : "none scored"],
    ["versions", detail.versions.join(", ")],
    ["one request", `at most ${limits.max_rows.toLocaleString("en")} rows`],
    ["digest", h("code", {}, detail.digest.slice(0, 16))],
  ];
  return card("What it is", h("dl", {}, ...told.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

function certificate({ certificate: { checks } }) {
  const head = ["law", "rows", "measured", "allowed", "unit", ""];
  const rows = checks.map(({ name, rows: which, value, tolerance, unit, passed }) => [
    name, which, short(value), short(tolerance), unit, h("span", { class: passed ? "ok" : "bad" }, passed ? "held" : "broken"),
  ]);
  const kept = checks.filter(({ passed }) => passed).length;
  const verdict = `${kept} of ${checks.length} laws held when the graphs were measured at export.`;
  return card("Certificate", h("p", { class: "muted" }, verdict), table(head, rows));
}

function measured({ metrics }) {
  const rows = Object.entries(metrics).map(([name, { value, unit, kind, k, standard_error: error }]) => [
    plain(name), error ? `${short(value)} ± ${short(error)}` : short(value), unit, plain(kind) + (k > 1 ? `, ${k} draws` : ""),
  ]);
  if (!rows.length) return null;
  return card("Measured on rows that training never saw", table(["what", "value", "unit", "kind"], rows));
}

function moves({ directions }) {
  const rows = Object.entries(directions).map(([name, { attribute, unit, correlation, effect, judge }]) => [
    name, attribute, unit, short(correlation), effect.map(([at, value]) => `${short(value)} at ${short(at)}`).join(", "), judge,
  ]);
  const head = ["direction", "what grows", "a step of 1", "correlation", "seen at strengths", "judge"];
  return rows.length ? card("Directions", table(head, rows)) : null;
}

function table(head, rows) {
  return h("div", { class: "scroll", tabIndex: 0 }, h(
    "table", {},
    h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((cell) => h("td", {}, cell))))),
  ));
}
