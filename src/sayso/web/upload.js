// @ts-check
/** Handing a file in, with its progress: `fetch` does not tell how much has been sent. */

import { Refused, call } from "./service.js";
import { t } from "./words.js";

/**
 * Hand in a portrait or a speech; the answer says what is in it.
 *
 * @param {"portrait" | "speech"} kind @param {Blob} file
 * @param {{name: string, signal: AbortSignal, onProgress: (percent: number) => void}} options
 * `onProgress` says 100 when everything is sent and the service looks at it.
 * @returns {Promise<any>}
 */
export async function upload(kind, file, options) {
  const answer = await send(kind, file, options);
  if (answer.status === 401) {
    // Whatever asks next asks for the key.
    await call("/api/credits");
    return upload(kind, file, options);
  }
  if (answer.status !== 201) throw new Refused(answer.status, answer.body);
  return answer.body;
}

/** @param {string} kind @param {Blob} file
 * @param {{name: string, signal: AbortSignal, onProgress: (percent: number) => void}} options
 * @returns {Promise<{status: number, body: any}>} */
function send(kind, file, { name, signal, onProgress }) {
  const form = new FormData();
  form.append("kind", kind);
  form.append("file", file, name);
  const request = new XMLHttpRequest();
  signal.addEventListener("abort", () => request.abort());
  return new Promise((resolve, reject) => {
    request.upload.onprogress = (event) =>
      event.lengthComputable && onProgress(Math.floor((100 * event.loaded) / event.total));
    request.upload.onload = () => onProgress(100);
    request.onload = () => resolve({ status: request.status, body: request.response ?? {} });
    request.onerror = () => reject(new Refused(0, { detail: t("service.unreachable") }));
    request.onabort = () => reject(new DOMException("another file was chosen", "AbortError"));
    request.open("POST", "/api/uploads");
    request.responseType = "json";
    request.send(form);
  });
}
