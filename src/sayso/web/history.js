// @ts-check
/** What was made before: a list that the stream keeps fresh. */

import { element, node } from "./dom.js";
import { call } from "./service.js";
import { shownId } from "./stage.js";

let nextCursor = null;
/** @type {(id: string) => void} */
let open = () => {};

/** @param {(id: string) => void} onOpen */
export function prepareHistory(onOpen) {
  open = onOpen;
  element("more").addEventListener("click", () => listHistory(nextCursor));
}

/** @param {string | null} [cursor] */
export async function listHistory(cursor = null) {
  const query = cursor ? `?cursor=${encodeURIComponent(cursor)}` : "";
  const page = await call(`/api/generations${query}`);
  const place = element("generations");
  if (!cursor) place.replaceChildren();
  for (const body of page.generations) place.append(row(body));
  nextCursor = page.next;
  element("more").hidden = !nextCursor;
  element("no-history").hidden = place.children.length > 0;
}

/** Take what the stream brings; return whether it is new here. @param {any} body */
export function updateHistory(body) {
  const place = element("generations");
  const old = place.querySelector(`[data-id="${CSS.escape(body.id)}"]`);
  if (old) old.replaceWith(row(body));
  else place.prepend(row(body));
  element("no-history").hidden = true;
  return !old;
}

/** Mark the row of what is on the stage. */
export function markShown() {
  for (const item of element("generations").children) {
    item.firstChild.setAttribute("aria-current", String(item.dataset.id === shownId()));
  }
}

/** @param {any} body */
function row(body) {
  const made = new Date(body.created_at);
  const isToday = made.toDateString() === new Date().toDateString();
  const day = isToday ? {} : { month: "short", day: "numeric" };
  const when = made.toLocaleString([], { ...day, hour: "numeric", minute: "2-digit" });
  const button = node("button", { type: "button" },
    node("span", {}, when),
    node("span", { className: `chip ${body.status}` }, body.status),
    node("span", { className: "hint" }, body.model),
    node("span", { className: "hint" }, body.credits ? `$${body.cost.amount}` : "free"));
  button.setAttribute("aria-current", String(body.id === shownId()));
  button.addEventListener("click", () => open(body.id));
  const item = node("li", {}, button);
  item.dataset.id = body.id;
  return item;
}
