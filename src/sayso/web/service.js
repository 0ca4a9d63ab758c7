// @ts-check
/**
 * Talking to the service: requests, and the key where it asks for one.
 *
 *   call(), post()     a request; what the service refuses is a `Refused`
 *   check(), isFinal() a generation as it is
 *   asksForKey()       whether this service has a key, as far as the page has noticed
 *
 * What the page knows of a generation always comes from one check body, which `stream.js` brings.
 */

import { element, show } from "./dom.js";
import { recall, remember } from "./memory.js";
import { reason, t } from "./words.js";

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
