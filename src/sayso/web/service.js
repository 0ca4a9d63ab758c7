// @ts-check
/**
 * Talking to the service: requests, the key, and the stream of changes.
 *
 * What the page knows of a generation always comes from one check body, which the stream brings
 * and, when that fails, polling: closing the page loses nothing.
 */

import { element, show } from "./dom.js";

const POLL_MS = 5000;

export class Refused extends Error {
  /** @param {number} status @param {any} problem */
  constructor(status, problem) {
    super(problem.detail || problem.error || `The service answered ${status}.`);
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
    throw new Refused(0, { detail: "The service does not answer. Is it still running?" });
  }
  if (answer.status === 401 && (await askForKey())) return call(path, options);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

/** @param {string} path @param {object} body @param {Record<string, string>} [headers] */
export const post = (path, body, headers = {}) =>
  call(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(body),
  });

/** @param {string} id */
export const check = (id) => call(`/api/check-lipsync?prediction_id=${encodeURIComponent(id)}`);

/** @param {any} body */
export const isFinal = (body) => ["succeeded", "failed", "canceled"].includes(body.status);

/**
 * Tell of every generation that changes, and of each new connection: what happened before it may
 * have been missed. While there is no stream `onSilence` is called every few seconds.
 * @param {{onChange: (body: any) => void, onConnect: () => void, onSilence: () => void}} hooks
 */
export function follow({ onChange, onConnect, onSilence }) {
  const stream = new EventSource("/api/events");
  const timer = setInterval(() => stream.readyState !== EventSource.OPEN && onSilence(), POLL_MS);
  stream.onopen = onConnect;
  stream.onmessage = (event) => onChange(JSON.parse(event.data));
  stream.onerror = () => {
    if (stream.readyState !== EventSource.CLOSED) return; // It comes back by itself.
    clearInterval(timer);
    setTimeout(() => {
      onSilence();
      follow({ onChange, onConnect, onSilence });
    }, POLL_MS);
  };
}

let asking = null;

/** Ask once for the key; the service keeps it in a cookie that scripts cannot read. */
function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = element("key-dialog");
    dialog.showModal();
    element("key-form").onsubmit = async (event) => {
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
        show("key-error", problem.detail || "That is not the key.");
      }
    };
    dialog.oncancel = () => resolve(false);
  }).finally(() => {
    asking = null;
  });
  return asking;
}
