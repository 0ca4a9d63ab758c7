// @ts-check
/**
 * The stage: the one generation that is looked at, from the first percent to the download.
 *
 *   outcome.js   what it is doing and what its end means, in words
 *   notify.js    telling somebody who looks elsewhere
 *
 * Both are loaded with the first generation. Everything shown comes from one check body; what a body
 * does not have (the portrait, the receipt) is asked for once and kept.
 */

import { element, hide, node, show } from "./dom.js";
import { clearOrder } from "./order.js";
import { bring, call, check, generationPath, isFinal, start } from "./service.js";
import { bytes, clock, language, money, onLanguage, percent, reason, seconds, t } from "./words.js";

const COPIED_MS = 2000;
const TICK_MS = 1000;

/** The steps of every generation, and the stages that the service names in them. */
const STEPS = [
  ["stored", []],
  ["queued", ["starting", "queued", null]],
  ["rendering", ["listening", "rendering", "processing"]],
  ["saving", ["storing"]],
];

/** @type {typeof import("./outcome.js")} */
let outcome;
/** @type {typeof import("./notify.js")} */
let notify;
/** The check body that is shown. */
let shown = /** @type {any} */ (null);
/** What was asked for, for its picture and for another try; and its receipt once it has ended. */
let order = /** @type {any} */ (null);
let receipt = /** @type {any} */ (null);
/** What of it is still on its way. @type {Promise<unknown>} */
let coming = Promise.resolve();
let isCanceling = false;
let turn = 0;
/** @type {{onClosed: () => void, onDeleted: (id: string) => void,
 *   onOpen: (id: string) => Promise<void>, onChanged: () => Promise<void>}} */
let hooks;

export const shownId = () => shown?.id ?? null;
export const shownBody = () => shown;
/** What is being done, in words. */
export const shownStage = () => outcome.nowText(shown.progress.stage);
/** Settled once everything about the generation is shown. */
export const stageIsWhole = () => coming;

/** @param {typeof hooks} given */
export function prepareStage(given) {
  hooks = given;
  element("copy").addEventListener("click", copyId);
  element("cancel").addEventListener("click", cancel);
  element("again").addEventListener("click", again);
  element("change").addEventListener("click", change);
  element("another").addEventListener("click", another);
  element("notify").addEventListener("click", async () => {
    drawNotify(await notify.toggleNotifying());
    // Who has just said no learns what follows; who said it before was not asked again.
    if (!notify.isRefused()) return;
    show("notify-refused");
    element("cancel").focus();
  });
  element("delete").addEventListener("click", () => askBeforeDeletion(true));
  element("delete-no").addEventListener("click", () => askBeforeDeletion(false));
  element("delete-yes").addEventListener("click", erase);
  element("still").addEventListener("error", () => hide("still"));
  onLanguage(() => shown && draw());
  setInterval(tick, TICK_MS);
}

/** Show a generation. @param {string} id */
export async function openStage(id) {
  const mine = ++turn;
  try {
    const [body] = await Promise.all([check(id), loadWords()]);
    if (mine === turn) render(body);
  } catch (problem) {
    if (mine !== turn) return;
    // A service that is away for a moment is no reason to show nothing.
    if (problem.status !== 404 && shown?.id === id) throw problem;
    leaveStage();
    show("empty", problem.status === 404 ? `${t("stage.missing")} ${t("stage.missing.hint")}` : problem.message);
  }
}

async function loadWords() {
  [outcome, notify] = await Promise.all([bring("outcome"), bring("notify")]);
}

/** Take what the stream brings. @param {any} body */
export function updateStage(body) {
  if (shown?.id === body.id) render(body);
}

export function leaveStage() {
  turn++;
  shown = order = receipt = null;
  element("video").pause();
  hide("generation", "empty");
}

/** @param {any} body */
function render(body) {
  const isOther = shown?.id !== body.id;
  // An answer that was on its way for longer than the last event says nothing new.
  if (!isOther && isFinal(shown) && !isFinal(body)) return;
  const hasEnded = isFinal(body) && !(shown && !isOther && isFinal(shown));
  const wasWatched = !isOther && hasEnded;
  shown = body;
  if (isOther) {
    order = receipt = null;
    isCanceling = false;
    element("receipt-fold").open = false;
    askBeforeDeletion(false);
    coming = loadOrder(body.id);
  }
  hide("empty");
  if (isOther || hasEnded) hide("stage-error");
  show("generation");
  draw();
  if (hasEnded) coming = Promise.all([coming, loadReceipt(body.id)]);
  if (wasWatched) notify.notifyOf(body);
}

function draw() {
  const done = isFinal(shown);
  element("generation").dataset.status = shown.status;
  element("prediction-id").textContent = shown.prediction_id;
  element("badge").hidden = done;
  element("bar-row").hidden = done;
  element("waiting").hidden = done;
  element("ended").hidden = !done;
  element("receipt-fold").hidden = !receipt;
  drawPicture();
  if (done) drawEnd();
  else drawProgress();
}

function drawProgress() {
  const { percent: value, basis, stage } = shown.progress;
  const isGuess = basis === "estimated";
  const amount = shown.credits && money(shown.credits.amount_micros);
  say("stage-text", isCanceling ? t("now.canceling") : outcome.nowText(stage));
  element("percent").textContent = isGuess ? t("about", { percent: percent(value) }) : percent(value);
  element("bar").value = value;
  element("bar").classList.toggle("guess", isGuess);
  element("basis").textContent = t(isGuess ? "basis.estimated" : "basis.measured");
  drawSteps(stage);
  element("held").textContent = amount ? t("held", { amount }) : t("money.free");
  element("cancel").disabled = isCanceling;
  element("cancel-effect").textContent = amount ? t("cancel.effect", { amount }) : t("cancel.free");
  drawNotify(notify.isNotifying());
  tick();
}

/** Draw the steps when another one begins. @param {string} stage */
function drawSteps(stage) {
  const known = STEPS.findIndex(([, stages]) => stages.includes(stage));
  const at = known < 0 ? 2 : known;
  const drawn = `${at} ${language}`;
  if (element("steps").dataset.at === drawn) return;
  element("steps").dataset.at = drawn;
  element("steps").replaceChildren(
    ...STEPS.map(([name], index) => {
      const step = node("li", { className: index < at ? "past" : "" }, t(`step.${name}`));
      if (index === at) step.setAttribute("aria-current", "step");
      return step;
    }),
  );
}

function drawEnd() {
  const { status } = shown;
  const code = receipt?.error_code ?? null;
  const amount = shown.credits && money(shown.credits.amount_micros);
  const succeeded = status === "succeeded";
  say("stage-text", t(succeeded ? "done.title" : code === "timed_out" ? "timed_out.title" : `${status}.title`));
  element("percent").textContent = succeeded ? percent(100) : "";
  element("outcome").hidden = succeeded;
  element("outcome").textContent = status === "failed" ? reason(code, shown.error) : t("canceled.text");
  element("advice").hidden = status !== "failed";
  element("advice").textContent = t(outcome.adviceFor(code));
  element("settled").textContent = amount ? t(succeeded ? "money.captured" : "money.released", { amount }) : t("money.free");
  element("took").textContent = [...videoFacts(), t("done.took", { clock: clock(spent_s()) })].join(" · ");
  element("took").hidden = !succeeded;
  element("download").hidden = !succeeded;
  element("download").href = generationPath(shown.id, "video");
  element("download").download = `${shown.id}.mp4`;
  element("again").hidden = succeeded;
  element("again").textContent = amount ? t("again.price", { amount }) : t("again");
  element("change").hidden = succeeded;
  element("delete-question").textContent = t(succeeded ? "delete.sure" : "delete.sure.other");
  drawQuality(succeeded);
  if (receipt) element("receipt").replaceChildren(...outcome.receiptRows(receipt).flatMap(([name, value]) => [node("dt", {}, name), node("dd", {}, value)]));
}

/** How long and how large the video is, once the receipt says so. */
function videoFacts() {
  const { duration_video_s, size_bytes } = receipt?.quality ?? {};
  return [...(duration_video_s ? [seconds(duration_video_s, 1)] : []), ...(size_bytes ? [bytes(size_bytes)] : [])];
}

/** @param {boolean} succeeded */
function drawQuality(succeeded) {
  const quality = succeeded && receipt ? outcome.qualityOf(receipt.quality) : null;
  element("quality").hidden = !quality;
  if (!quality) return;
  element("quality").className = `chip ${quality.verdict}`;
  element("quality-name").textContent = quality.name;
  element("quality-text").textContent = quality.text;
}

/** The video, else the portrait; both in a box that has the portrait's shape from the start. */
function drawPicture() {
  const video = element("video");
  const still = element("still");
  const succeeded = shown.status === "succeeded";
  video.hidden = !succeeded;
  if (succeeded && video.dataset.of !== shown.id) {
    video.src = shown.output;
    video.dataset.of = shown.id;
  } else if (!succeeded && video.dataset.of) {
    video.removeAttribute("src");
    video.load();
    delete video.dataset.of;
  }
  const isKnown = Boolean(order?.imageUrl) && still.dataset.of === shown.id;
  still.hidden = succeeded || !isKnown;
}

/** @param {string} id */
async function loadOrder(id) {
  try {
    const found = await call(generationPath(id, "order"));
    if (shown?.id !== id) return;
    order = found;
    if (order.width) element("shown-picture").style.setProperty("--ratio", String(order.width / order.height));
    element("still").src = order.imageUrl;
    element("still").dataset.of = id;
    drawPicture();
  } catch {
    // Without its portrait it is still what it is.
  }
}

/** @param {string} id */
async function loadReceipt(id) {
  try {
    const found = await call(generationPath(id, "receipt"));
    if (shown?.id !== id) return;
    receipt = found;
    draw();
  } catch {
    // The next look brings it.
  }
}

const spent_s = () => (Date.parse(shown.completed_at ?? new Date().toISOString()) - Date.parse(shown.created_at)) / 1000;

/** Only the clock moves by itself. */
function tick() {
  if (shown && !isFinal(shown)) element("elapsed").textContent = t("elapsed", { clock: clock(spent_s()) });
}

/** Say it where a screen reader hears it, and only when it is new. @param {string} id @param {string} text */
function say(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

async function cancel() {
  isCanceling = true;
  drawProgress();
  try {
    const body = await call(generationPath(shown.id, "cancel"), { method: "POST" });
    if (shown?.id === body.id) render(body);
  } catch (problem) {
    isCanceling = false;
    if (!isFinal(shown)) drawProgress();
    show("stage-error", problem.message);
  }
}

/** The same order once more, with the inputs that the service has kept. */
async function again() {
  await attempt("again", async () => {
    const body = order ?? (await call(generationPath(shown.id, "order")));
    const started = await start(body);
    await hooks.onOpen(started.prediction_id);
    await hooks.onChanged();
  });
}

/** Back to the form, with the inputs in it. */
async function change() {
  await attempt("change", async () => {
    const body = order ?? (await call(generationPath(shown.id, "order")));
    await (await bring("refill")).refillOrder(body);
    hooks.onClosed();
  });
}

/** An empty form, for another video. */
function another() {
  clearOrder();
  hooks.onClosed();
  element("portrait").focus();
}

async function erase() {
  await attempt("delete-yes", async () => {
    const { id } = shown;
    await call(generationPath(id), { method: "DELETE" });
    hooks.onClosed();
    hooks.onDeleted(id);
    await hooks.onChanged();
  });
}

/** Do what a button asks for, once, and say what went wrong. @param {string} id @param {() => Promise<void>} work */
async function attempt(id, work) {
  hide("stage-error");
  element(id).disabled = true;
  try {
    await work();
  } catch (problem) {
    show("stage-error", problem.message);
  }
  element(id).disabled = false;
}

/** @param {boolean} isAsked */
function askBeforeDeletion(isAsked) {
  const hadFocus = element("delete-sure").contains(document.activeElement);
  element("delete-sure").hidden = !isAsked;
  element("actions").hidden = isAsked;
  if (isAsked) element("delete-no").focus();
  else if (hadFocus) element("delete").focus();
}

/** @param {boolean} isOn */
function drawNotify(isOn) {
  const button = element("notify");
  button.hidden = !("Notification" in window) || notify.isRefused();
  button.setAttribute("aria-pressed", String(isOn));
  button.textContent = t(isOn ? "notify.on" : "notify");
}

async function copyId() {
  try {
    await navigator.clipboard.writeText(shown.prediction_id);
    element("copy").textContent = t("copied");
    setTimeout(() => (element("copy").textContent = t("copy")), COPIED_MS);
  } catch {
    // Plain http on a LAN has no clipboard: mark the text, so that Ctrl+C does it.
    getSelection()?.selectAllChildren(element("prediction-id"));
  }
}
