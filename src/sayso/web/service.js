// @ts-check
/**
 * Talking to the service: requests, and the key where it asks for one.
 *
 *   call(), post()     a request; what the service refuses is a `Refused`
 *   start()            the one that costs: pressed again without an answer, it is the same
 *   check(), isFinal() a generation as it is
 *   bring()            a module that is only needed now
 *   asksForKey()       whether this service has a key, as far as the page has noticed
 *
 * What the page knows of a generation always comes from one check body, which `stream.js` brings.
 */

import { element, show } from "./dom.js";
import { recall, remember } from "./memory.js";
import { reason, t } from "./words.js";

/** A module that does not come is asked for again after so long, and so often. */
const BRING_AGAIN_MS = 3000;
const BRING_TRIES = 100;

export class Refused extends Error {
  /** @param {number} status @param {any} problem */
  constructor(status, problem) {
    super(reason(problem.code, problem.detail || problem.error || t("service.odd", { status })));
    this.status = status;
    this.code = problem.code;
  }
}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
export async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused(0, { detail: t("service.unreachable") });
  }
  if (answer.status === 401 && (await askForKey())) return call(path, options);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

/** @param {string} path @param {object} body @param {Record<string, string>} [headers]
 * @param {AbortSignal} [signal] */
export const post = (path, body, headers = {}, signal) =>
  call(path, {
    signal,
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(body),
  });

/** An order that has no answer yet: whether it has begun, only the same key finds out. */
let unanswered = { order: "", key: "" };

/** Start a generation. @param {object} order */
export async function start(order) {
  const same = JSON.stringify(order);
  if (unanswered.order !== same) unanswered = { order: same, key: newKey() };
  try {
    const started = await post("/api/generate-lipsync", order, { "Idempotency-Key": unanswered.key });
    unanswered.order = "";
    return started;
  } catch (problem) {
    const isAnswer = problem.status >= 400 && problem.status < 500 && problem.code !== "still_creating";
    if (isAnswer) unanswered.order = "";
    throw problem;
  }
}

/** @type {Map<string, Promise<any>>} */
const modules = new Map();

/** Load one of the page's modules, once the service answers. @param {string} name @returns {Promise<any>} */
export function bring(name) {
  const coming = modules.get(name) ?? brought(name, 0);
  modules.set(name, coming);
  return coming;
}

/** @param {string} name @param {number} tries @returns {Promise<any>} */
async function brought(name, tries) {
  try {
    // Browsers remember an address that failed.
    return await import(`./${name}.js${tries ? `?${tries}` : ""}`);
  } catch (problem) {
    if (tries === BRING_TRIES) throw problem;
    await new Promise((resolve) => setTimeout(resolve, BRING_AGAIN_MS));
    return brought(name, tries + 1);
  }
}

/** @param {string} id */
export const check = (id) => call(`/api/check-lipsync?prediction_id=${encodeURIComponent(id)}`);

/** The address of something that a generation has. @param {string} id @param {string} [part] */
export const generationPath = (id, part) => `/api/generations/${encodeURIComponent(id)}${part ? `/${part}` : ""}`;

/** @param {any} body */
export const isFinal = (body) => ["succeeded", "failed", "canceled"].includes(body.status);

/** `crypto.randomUUID` is for https and this machine alone; a service on a LAN may be neither. */
export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export const asksForKey = () => recall("has-key") === "yes";

/** @type {Promise<boolean> | null} */
let asking = null;

/** Ask once for the key; the service keeps it in a cookie that scripts cannot read. */
function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = element("key-dialog");
    remember("has-key", "yes");
    dialog.showModal();
    element("key-form").onsubmit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      const answer = await fetch("/api/session", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ key: element("key").value }),
      });
      if (answer.ok) {
        dialog.close();
        resolve(true);
      } else {
        const problem = await answer.json().catch(() => ({}));
        show("key-error", reason(problem.code, problem.detail || t("key.wrong")));
      }
    };
    dialog.oncancel = () => resolve(false);
  }).finally(() => {
    asking = null;
  });
  return asking;
}
