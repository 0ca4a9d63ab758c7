// @ts-check
/**
 * What was made before: a list that the stream keeps fresh.
 *
 * A row shows a face and opens its generation; one that has ended can be downloaded and deleted from
 * here. Filters look at what is loaded, and load more until there is enough to see.
 */

import { element, node, show } from "./dom.js";
import { call, generationPath, isFinal } from "./service.js";
import { shownId } from "./stage.js";
import { moment, money, onLanguage, percent, t } from "./words.js";

/** @type {Record<string, (body: any) => boolean>} */
const FILTERS = {
  all: () => true,
  active: (body) => !isFinal(body),
  succeeded: (body) => body.status === "succeeded",
  ended: (body) => isFinal(body) && body.status !== "succeeded",
};
const ENOUGH = 8;
const MOST_PAGES = 10;

/** What is loaded, newest first. @type {Map<string, any>} */
const bodies = new Map();
/** Their pictures: a row is drawn again often, and its picture neither asked for nor decoded again.
 * @type {Map<string, any>} */
const faces = new Map();
/** @type {string | null} */
let next = null;
let filter = "all";
/** The row whose deletion is being asked for. @type {string | null} */
let doomed = null;
/** @type {{onOpen: (id: string) => Promise<void>, onDeleted: (id: string) => void}} */
let hooks;

/** @param {typeof hooks} given */
export function prepareHistory(given) {
  hooks = given;
  element("more").addEventListener("click", () => loadMore().catch(tell));
  element("filter").addEventListener("change", async () => {
    filter = element("filter").value;
    draw();
    await fill().catch(tell);
  });
  onLanguage(draw);
}

/** Look at the newest; what is older and loaded stays. */
export async function listHistory() {
  const page = await call("/api/generations");
  const listed = new Set(page.generations.map((/** @type {any} */ body) => body.id));
  const oldest = page.generations.at(-1)?.created_at ?? "";
  // What the service no longer lists was deleted elsewhere.
  for (const [id, body] of bodies) {
    if (!listed.has(id) && (body.created_at >= oldest || !page.next)) drop(id);
  }
  if (!bodies.size) next = page.next;
  const older = [...bodies.values()].filter((body) => !listed.has(body.id));
  bodies.clear();
  for (const body of [...page.generations, ...older]) bodies.set(body.id, body);
  if (!older.length) next = page.next;
  draw();
}

/** Take what the stream brings; return whether it is new here. @param {any} body */
export function updateHistory(body) {
  const known = bodies.get(body.id);
  if (known && isFinal(known) && !isFinal(body)) return false;
  if (known) {
    bodies.set(body.id, body);
    const row = doomed === body.id ? null : rowOf(body.id);
    // What has the focus stays as it is, and so does what only moves on: its words change.
    if (row && !isFinal(body)) describe(row.firstChild, body);
    else if (row && FILTERS[filter](body) && !row.contains(document.activeElement)) row.replaceWith(drawRow(body));
    else draw();
    return false;
  }
  const newest = [body, ...bodies.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
  bodies.clear();
  for (const one of newest) bodies.set(one.id, one);
  draw();
  return true;
}

/** Take out what was deleted elsewhere. @param {string} id */
export function forgetHistory(id) {
  if (drop(id)) draw();
}

/** @param {string} id */
function drop(id) {
  faces.delete(id);
  if (doomed === id) doomed = null;
  return bodies.delete(id);
}

/** Mark the row of what is on the stage. */
export function markShown() {
  for (const row of element("generations").children) {
    row.querySelector("button")?.setAttribute("aria-current", String(row.dataset.id === shownId()));
  }
}

function draw() {
  const focused = element("generations").contains(document.activeElement)
    ? /** @type {HTMLElement} */ (document.activeElement)
    : null;
  const at = focused?.closest("li")?.dataset.id;
  const role = focused?.dataset.role;
  const shown = [...bodies.values()].filter(FILTERS[filter]);
  element("generations").replaceChildren(...shown.map(drawRow));
  element("no-history").hidden = shown.length > 0;
  element("no-history").textContent = t(bodies.size ? "history.none" : "history.empty");
  element("filter-row").hidden = bodies.size === 0;
  element("more").hidden = !next;
  if (at) (rowOf(at)?.querySelector(`[data-role=${role}]`) ?? element("filter")).focus();
}

/** @param {any} body */
function drawRow(body) {
  const row = node("li", {});
  row.dataset.id = body.id;
  row.append(...(doomed === body.id ? drawQuestion(body) : drawEntry(body)));
  return row;
}

/** @param {any} body */
function drawEntry(body) {
  const [owner, name] = body.model.split("/");
  // What did not succeed costs nothing.
  const isPaid = body.status === "succeeded" || !isFinal(body);
  const price = body.credits ? money(body.cost.amount_micros) : t("free");
  const open = node("button", { type: "button", className: "entry" });
  open.dataset.role = "open";
  open.setAttribute("aria-current", String(body.id === shownId()));
  open.addEventListener("click", async () => {
    open.setAttribute("aria-busy", "true");
    await hooks.onOpen(body.id);
    open.removeAttribute("aria-busy");
  });
  open.append(
    faceOf(body.id),
    node("span", { className: "line" }, node("span"), node("span", {}, isPaid ? price : "")),
    // There is no room for all of a model's name; it is heard, and shown to whoever points at it.
    node("span", { className: "hint", title: body.model }, `${moment(body.created_at)} · `, node("span", { className: "unseen" }, `${owner}/`), name),
  );
  describe(open, body);
  if (!isFinal(body)) return [open];
  const tools = node("span", { className: "row-tools" });
  if (body.status === "succeeded") {
    const download = node("a", { href: generationPath(body.id, "video"), download: `${body.id}.mp4`, className: "tool download" });
    label(download, "history.download", body);
    tools.append(download);
  }
  const remove = node("button", { type: "button", className: "tool remove" });
  remove.dataset.role = "remove";
  label(remove, "history.delete", body);
  remove.addEventListener("click", () => ask(body.id));
  tools.append(remove);
  return [open, tools];
}

/** What changes in a row while its generation moves on. @param {any} open @param {any} body */
function describe(open, body) {
  const status = t(`status.${body.status}`);
  const chip = open.querySelector(".line").firstChild;
  open.dataset.status = body.status;
  chip.className = `chip ${body.status}`;
  chip.textContent = isFinal(body) ? status : `${status} ${percent(body.progress.percent)}`;
}

/** The picture of a row, in a box that shows a silhouette until there is one. @param {string} id */
function faceOf(id) {
  let face = faces.get(id);
  if (!face) {
    const picture = node("img", { alt: "", loading: "lazy", width: 40, height: 40, src: generationPath(id, "thumbnail") });
    picture.addEventListener("error", () => picture.remove());
    faces.set(id, (face = node("span", { className: "face" }, picture)));
  }
  return face;
}

/** @param {any} body */
function drawQuestion(body) {
  const yes = node("button", { type: "button", className: "primary" }, t("delete.yes"));
  const no = node("button", { type: "button" }, t("delete.no"));
  no.dataset.role = "keep";
  yes.dataset.role = "erase";
  no.addEventListener("click", () => ask(null, body.id));
  yes.addEventListener("click", () => erase(body.id));
  const question = t(body.status === "succeeded" ? "delete.sure" : "delete.sure.other");
  return [node("p", { className: "question" }, question), node("span", { className: "choices" }, no, yes)];
}

/** @param {any} one @param {string} key @param {any} body */
function label(one, key, body) {
  one.setAttribute("aria-label", `${t(key)}: ${moment(body.created_at)}`);
  one.title = t(key);
}

/** Ask whether to delete a row; null takes the question back. @param {string | null} id @param {string} [from] */
function ask(id, from) {
  doomed = id;
  draw();
  if (id) rowOf(id)?.querySelector("[data-role=keep]")?.focus();
  else if (from) rowOf(from)?.querySelector("[data-role=remove]")?.focus();
}

/** @param {string} id */
async function erase(id) {
  const following = rowOf(id)?.nextElementSibling?.dataset.id;
  try {
    await call(generationPath(id), { method: "DELETE" });
  } catch (problem) {
    if (problem.status !== 404) {
      tell(problem);
      return ask(null, id);
    }
  }
  element("history-error").hidden = true;
  forgetHistory(id);
  (rowOf(following)?.querySelector("button") ?? element("filter")).focus();
  hooks.onDeleted(id);
}

async function loadMore() {
  if (!next) return;
  const page = await call(`/api/generations?cursor=${encodeURIComponent(next)}`);
  for (const body of page.generations) bodies.set(body.id, body);
  next = page.next;
  draw();
}

/** Load more until the filter shows enough. */
async function fill() {
  for (let pages = 0; pages < MOST_PAGES && next && element("generations").children.length < ENOUGH; pages++) await loadMore();
}

/** @param {any} problem */
const tell = (problem) => show("history-error", problem.message);

/** @param {string | undefined} id @returns {any} */
const rowOf = (id) => id && element("generations").querySelector(`[data-id="${CSS.escape(id)}"]`);
