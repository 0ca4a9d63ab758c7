// @ts-check
/**
 * The page: choose a portrait and a speech, see the price, generate, watch, download.
 *
 *   order.js     the form            stage.js     the generation that is looked at
 *   preview.js   two seconds, free   history.js   what was before
 *   snippets.js  the form as code    words.js     everything that it says
 *   service.js   requests            stream.js    what changes, as it changes
 *
 * This module knows where we are (each generation has an address of its own) and passes changes on.
 * It uses only the public API.
 */

import { element, node, show } from "./dom.js";
import { forgetHistory, listHistory, markShown, prepareHistory, updateHistory } from "./history.js";
import { currentRequest, keepFromNow, offerModels, prepareOrder, quoteAgain, resumeOrder, showProgress } from "./order.js";
import { recallDraft } from "./memory.js";
import { bring, call, isFinal } from "./service.js";
import { leaveStage, openStage, prepareStage, shownBody, shownId, shownStage, stageIsWhole, updateStage } from "./stage.js";
import { follow, tellDeleted } from "./stream.js";
import { LANGUAGES, chooseLanguage, language, money, onLanguage, percent, t } from "./words.js";

const BACK_MS = 3000;

/** A stream that opens this soon after the page was loaded brings what it may have missed. */
const FRESH_MS = 1500;

/** A page that nobody saw for this long looks again: what was deleted elsewhere no stream tells. */
const AWAY_MS = 5000;

/** How a generation ended, for who looks at another tab. @type {Record<string, string>} */
const ICONS = { succeeded: "-ready", failed: "-failed" };

let credits = /** @type {any} */ (null);
let hasModels = false;
let loaded_ms = -Infinity;
/** What brings the preview, once it is worth it. @type {Promise<unknown>} */
let preview = Promise.resolve();

/** @param {string} id */
async function open(id) {
  if (id !== idOfAddress()) history.pushState(null, "", `/?prediction_id=${encodeURIComponent(id)}`);
  await openFromAddress();
}

/** Leave the generation, for the form. */
function close() {
  if (idOfAddress()) history.pushState(null, "", "/");
  leaveStage();
  tellWhereWeAre();
}

const idOfAddress = () => new URLSearchParams(location.search).get("prediction_id");

async function openFromAddress() {
  const id = idOfAddress();
  if (id) await openStage(id);
  else leaveStage();
  tellWhereWeAre();
}

/** What is on the stage shows in the history, on the button and in the title. */
function tellWhereWeAre() {
  markShown();
  const body = shownBody();
  const isLive = Boolean(body) && !isFinal(body);
  const isGuess = body?.progress.basis === "estimated";
  const done = body && percent(body.progress.percent);
  showProgress(isLive ? t(isGuess ? "generating.about" : "generating", { percent: done }) : null);
  const state = isLive
    ? t("title.progress", { percent: done, stage: shownStage() })
    : body && t(`title.${body.status}`);
  document.title = state ? `${state} · Sayso` : t("page.title");
  const sign = isLive ? "-live" : body && ICONS[body.status] ? ICONS[body.status] : "";
  element("icon").href = `/web/icon${sign}.svg`;
}

async function showCredits() {
  credits = await call("/api/credits");
  drawCredits();
}

function drawCredits() {
  if (!credits) return;
  // The sum by itself: on a phone the words stand below it, or what is held does.
  const amount = money(credits.available_micros);
  const [before, after] = t("credits.available", { amount }).split(amount);
  element("available").replaceChildren(node("span", {}, before), node("b", {}, amount), node("span", {}, after));
  element("held-now").textContent = credits.held_micros ? t("credits.held", { amount: money(credits.held_micros) }) : "";
}

/** Look at everything for the first time. */
async function load() {
  const begun_ms = performance.now();
  const [models] = await Promise.all([call("/api/models"), showCredits(), listHistory()]);
  hasModels = true;
  offerModels(models.models);
  const restored = restore();
  await openFromAddress();
  Promise.all([stageIsWhole(), restored.then(() => preview)]).finally(reveal);
  loaded_ms = begun_ms;
}

/** Bring back what this tab was composing. */
async function restore() {
  const draft = recallDraft();
  if (draft) await (await bring("refill")).restoreDraft(draft);
  keepFromNow();
}

/** Look again at everything that the stream would have told. */
async function refresh() {
  if (!hasModels) return load();
  await Promise.all([listHistory(), showCredits(), ...(shownId() ? [openStage(/** @type {string} */ (shownId()))] : [])]);
  tellWhereWeAre();
}

/** @param {any} body */
async function onChange(body) {
  updateStage(body);
  const isNew = updateHistory(body);
  if (body.id === shownId()) tellWhereWeAre();
  if (isNew || isFinal(body)) {
    await showCredits().catch(() => {});
    quoteAgain();
  }
}

/** Another tab has deleted one: its row goes, and who looks at it is told. @param {string} id */
async function onDeleted(id) {
  forgetHistory(id);
  if (id === shownId()) await openFromAddress();
}

/** There is a stream: what happened without it is looked up. The first one tells what has changed
 * in the seconds before it, so a page that has just been loaded knows it all. */
async function onConnect() {
  if (performance.now() - loaded_ms > FRESH_MS) {
    await refresh().catch(() => {});
    resumeOrder();
  }
  if (element("connection").hidden) return;
  tellConnection("connection.back");
  setTimeout(() => element("connection").dataset.state === "connection.back" && (element("connection").hidden = true), BACK_MS);
}

/** There is no stream: look from time to time, and say so if that fails too. A service on this
 * machine answers without a network. */
async function onSilence() {
  try {
    await refresh();
    element("connection").hidden = true;
  } catch {
    tellConnection(navigator.onLine ? "connection.silent" : "connection.offline");
  }
}

/** @param {string} key */
function tellConnection(key) {
  element("connection").dataset.state = key;
  show("connection", t(key));
}

function bringPreview() {
  const request = currentRequest();
  if (!request?.imageUrl || !request.audioUrl) return;
  element("order").removeEventListener("order", bringPreview);
  preview = bring("preview").then(({ preparePreview }) => preparePreview());
}

/** Show what early.js keeps hidden until it is whole. */
const reveal = () => document.documentElement.classList.remove("awaited");

function prepareLanguages() {
  const select = element("language");
  select.append(...Object.entries(LANGUAGES).map(([code, name]) => node("option", { value: code, lang: code }, name)));
  select.value = language;
  select.addEventListener("change", () => chooseLanguage(select.value).catch(() => (select.value = language)));
  onLanguage(() => {
    drawCredits();
    tellWhereWeAre();
    if (!element("connection").hidden) tellConnection(element("connection").dataset.state);
  });
}

prepareLanguages();
prepareOrder(async (id) => {
  await open(id);
  await refresh().catch(() => {});
});
prepareStage({ onClosed: close, onDeleted: tellDeleted, onOpen: open, onChanged: refresh });
prepareHistory({
  onOpen: open,
  onDeleted: (id) => {
    tellDeleted(id);
    if (id === shownId()) close();
  },
});
// What is needed later comes later: the preview with its inputs, what writes code when it is looked at.
element("order").addEventListener("order", bringPreview);
element("code-fold").addEventListener("toggle", async () => (await bring("snippets")).prepareSnippets(), { once: true });
addEventListener("popstate", openFromAddress);
await load().catch((problem) => {
  show("order-error", problem.message);
  reveal();
});
follow({ onChange, onDeleted, onConnect, onSilence });
let hidden_at = Infinity;
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hidden_at = Date.now();
  else if (Date.now() - hidden_at > AWAY_MS) refresh().catch(() => {});
});
