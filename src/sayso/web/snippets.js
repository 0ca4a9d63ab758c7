// @ts-check
/**
 * The form as a program: the request that Generate would send, as curl, Python and JavaScript.
 *
 * What is copied runs as it stands, with nothing installed but the language: it waits for the video
 * and prints where it is. Each copy has an `Idempotency-Key` of its own, so running one twice pays
 * once.
 */

import { element, node } from "./dom.js";
import { currentRequest } from "./order.js";
import { asksForKey, newKey } from "./service.js";
import { onLanguage, t } from "./words.js";

const PATH = "/api/generate-lipsync";
const COPIED_MS = 2000;

/** @typedef {{url: string, body: Record<string, any>, key: string, hasKey: boolean}} Request */

/** @type {Record<string, {name: string, write: (request: Request) => string}>} */
const PROGRAMS = {
  curl: { name: "curl", write: curl },
  python: { name: "Python", write: python },
  javascript: { name: "JavaScript", write: javascript },
};

let chosen = "curl";

export function prepareSnippets() {
  const radios = Object.entries(PROGRAMS).map(([value, { name }]) => {
    const radio = node("input", { type: "radio", name: "program", value, checked: value === chosen });
    radio.addEventListener("change", () => {
      chosen = value;
      draw();
    });
    return node("label", {}, radio, name);
  });
  element("programs").append(...radios);
  element("code-copy").addEventListener("click", copy);
  element("code-fold").addEventListener("toggle", draw);
  element("order").addEventListener("order", draw);
  element("order").addEventListener("input", draw);
  onLanguage(draw);
  draw();
}

/** The program for a request. @param {string} language @param {Request} request */
export const programFor = (language, request) => PROGRAMS[language].write(request);

function draw() {
  if (!element("code-fold").open) return;
  const request = currentRequest();
  const isWhole = Boolean(request?.imageUrl && request.audioUrl);
  element("code").hidden = !isWhole;
  element("code-copy").hidden = !isWhole;
  element("code-hint").textContent = isWhole
    ? [t("code.links"), asksForKey() && t("code.key")].filter(Boolean).join(" ")
    : t("code.empty");
  if (!request || !isWhole) return;
  const { options, ...rest } = request;
  const body = { ...rest, ...(Object.keys(options).length && { options }), pollForCompletion: true };
  element("code").textContent = programFor(chosen, { url: location.origin + PATH, body, key: newKey(), hasKey: asksForKey() });
}

/** @param {Request} request */
function curl({ url, body, key, hasKey }) {
  return [
    `curl ${quoted(url)}`,
    "-H 'Content-Type: application/json'",
    ...(hasKey ? ['-H "Authorization: Bearer $SAYSO_API_KEY"'] : []),
    `-H 'Idempotency-Key: ${key}'`,
    `-d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join(" \\\n  ");
}

/** @param {Request} request */
function python({ url, body, key, hasKey }) {
  return `import json
${hasKey ? "import os\n" : ""}import urllib.request

order = ${pythonic(body)}
request = urllib.request.Request(
    ${JSON.stringify(url)},
    data=json.dumps(order).encode(),
    headers={
        "Content-Type": "application/json",${hasKey ? '\n        "Authorization": "Bearer " + os.environ["SAYSO_API_KEY"],' : ""}
        "Idempotency-Key": ${JSON.stringify(key)},
    },
)
with urllib.request.urlopen(request) as answer:
    generation = json.load(answer)
print(generation["output"] or generation["error"])
`;
}

/** @param {Request} request */
function javascript({ url, body, key, hasKey }) {
  const authorization = hasKey ? "\n    Authorization: `Bearer ${process.env.SAYSO_API_KEY}`," : "";
  return `const answer = await fetch(${JSON.stringify(url)}, {
  method: "POST",
  headers: {
    "Content-Type": "application/json",${authorization}
    "Idempotency-Key": ${JSON.stringify(key)},
  },
  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),
});
const generation = await answer.json();
console.log(generation.output ?? generation.error);
`;
}

/** A word of a POSIX shell. @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A value as Python writes it; JSON's strings and numbers are Python's as well.
 * @param {any} value @param {string} [indent] @returns {string} */
function pythonic(value, indent = "") {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null || value === undefined) return "None";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const items = Array.isArray(value)
    ? value.map((item) => pythonic(item, inner))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${pythonic(item, inner)}`);
  if (!items.length) return open + close;
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${indent}${close}`;
}

async function copy() {
  try {
    await navigator.clipboard.writeText(element("code").textContent);
    element("code-copy").textContent = t("code.copied");
    setTimeout(() => {
      element("code-copy").textContent = t("code.copy");
      draw(); // The next copy is another request.
    }, COPIED_MS);
  } catch {
    getSelection()?.selectAllChildren(element("code"));
  }
}
