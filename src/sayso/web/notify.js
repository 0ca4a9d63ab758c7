// @ts-check
/** Telling somebody who looks elsewhere that a generation has ended; asked for by a click only. */

import { recall, remember } from "./memory.js";
import { t } from "./words.js";

export const isNotifying = () =>
  "Notification" in window && Notification.permission === "granted" && recall("notify") === "yes";

/** Whether the person, or the browser for them, has said no. */
export const isRefused = () => "Notification" in window && Notification.permission === "denied";

/** Turn it on or off; the browser asks the person once. Return whether it is on. */
export async function toggleNotifying() {
  const isOn = !isNotifying() && (await Notification.requestPermission()) === "granted";
  remember("notify", isOn ? "yes" : "no");
  return isOn;
}

/** @param {any} body A check body that has just become final. */
export function notifyOf(body) {
  if (!isNotifying() || document.visibilityState === "visible" || body.status === "canceled") return;
  try {
    const key = body.status === "succeeded" ? "notify.succeeded" : "notify.failed";
    // The tag keeps several tabs from telling it several times.
    const told = new Notification(t(key), { body: body.error ?? body.model, tag: body.id, icon: "/web/icon.svg" });
    told.onclick = () => {
      window.focus();
      told.close();
    };
  } catch {
    // Some phones have the class, and give notifications to service workers alone.
  }
}
