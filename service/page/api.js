// The calls of the service, as any client makes them.

import { read, write } from "./npy.js";

const NPY = "application/x-npy";

/** A refusal: the sentence that the service gave, with its status and code. */
class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

// Where the service asks for a key, the browser has it already: it got this file with it.
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Problem(0, "unreachable", "The service does not answer.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, said.code ?? "", said.detail ?? `The service answered ${answer.status}.`);
}

/** What is said about models, or the text of the metrics. */
export async function get(path) {
  const answer = await ask(path);
  return answer.headers.get("Content-Type").includes("json") ? answer.json() : answer.text();
}

/** A verb, answered in JSON. */
export async function call(verb, fields) {
  return (await post(verb, fields, "application/json")).json();
}

/** A verb, answered by its main array: `{ shape, data }`. */
export async function array(verb, fields) {
  return read(await (await post(verb, fields, NPY)).arrayBuffer());
}

function post(verb, fields, accept) {
  const headers = { "Content-Type": "application/json", Accept: accept };
  return ask(`/${verb}`, { method: "POST", headers, body: JSON.stringify(fields) });
}

/** A verb on many rows, which travel as one array, the other fields beside it. */
export async function send(verb, fields, rows, shape) {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== undefined));
  const headers = { "Content-Type": NPY, Accept: "application/json" };
  return (await ask(`/${verb}?${query}`, { method: "POST", headers, body: write(rows, shape) })).json();
}
