// @ts-check
/**
 * The order: what it needs, what it costs, and the button.
 *
 *   portrait.js, crop.js, camera.js    the face          models.js     who makes the video
 *   speech.js, waveform.js, recorder.js    the voice     arrivals.js   files dropped and pasted
 *   upload.js                          handing files in
 *   refill.js                          putting back what was not chosen just now
 *
 * The price is the service's own, and is there before anything is held.
 */

import { takeArrivals } from "./arrivals.js";
import { element, hide, show } from "./dom.js";
import { keepDraft } from "./memory.js";
import { chosenModel, chosenOptions, offerModels, prepareModels } from "./models.js";
import {
  chosenPortrait, dropPortrait, handInPortrait, hasPortrait, isPortraitPending, judgePortraitFor, portraitFile, portraitPart,
  portraitPicture, portraitProblem, preparePortrait, takePortrait,
} from "./portrait.js";
import { bring, post, start } from "./service.js";
import {
  chosenSpeech, dropSpeech, handInSpeech, hasSpeech, isSpeechPending, limitSpeechTo, prepareSpeech, speechFile, speechLength,
  speechPart, speechProblem, takeSpeech,
} from "./speech.js";
import { money, onLanguage, reason, seconds, t } from "./words.js";

export { offerModels, portraitPicture };

const QUOTE_DELAY_MS = 120;
/** Inputs that are gone again so soon will not come back by being sent once more. */
const AGAIN_AFTER_MS = 10_000;

let quoteTimer = 0;
let quoteTurn = 0;
let quoted = /** @type {any} */ (null);
let quoteProblem = /** @type {any} */ (null);
/** Whether the price on the page is that of what the form holds. */
let isPriceShown = false;
let handedInAt_ms = -Infinity;
let isSending = false;
/** Until the tab's draft is back, what the form holds is not kept in its place. */
let isKept = false;
/** Of which parts the whole is kept, by their links. @type {Record<string, string | null>} */
const wholes = { portrait: null, speech: null };
/** What the button says while a generation is made. @type {string | null} */
let progress = null;
/** @type {(id: string) => Promise<void>} */
let onStart = async () => {};

export const isReady = () => missing() === null && !isSending;

/** The request that the form stands for, as far as it is filled in; null without a model. */
export function currentRequest() {
  const model = chosenModel();
  if (!model) return null;
  const prompt = element("prompt").value.trim();
  return {
    imageUrl: chosenPortrait()?.url ?? null,
    audioUrl: chosenSpeech()?.url ?? null,
    model: model.name,
    options: chosenOptions(),
    ...(model.takes_prompt && prompt && { prompt }),
  };
}

/** @param {(id: string) => Promise<void>} onStarted */
export function prepareOrder(onStarted) {
  onStart = onStarted;
  preparePortrait(changed);
  prepareSpeech(changed);
  prepareModels((model) => {
    judgePortraitFor(model);
    limitSpeechTo(model);
    changed();
  });
  takeArrivals({
    picture: (file) => {
      showComposer();
      takePortrait(file);
    },
    sound: takeSpeech,
    folder: () => show("order-error", t("arrival.folder")),
  });
  element("sample").addEventListener("click", async () => {
    element("sample").setAttribute("aria-busy", "true");
    (await bring("refill")).takeSample();
  });
  element("chip-open").addEventListener("click", showComposer);
  element("order").addEventListener("input", keep);
  element("order").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    generate();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      generate();
    }
  });
  new MutationObserver(renderChip).observe(element("generation"), { attributeFilter: ["hidden"] });
  onLanguage(render);
  changed();
}

/** Show on the button how far the generation on the stage is; null when none is being made.
 * @param {string | null} text */
export function showProgress(text) {
  progress = text;
  render();
}

/** Ask again what it costs, as the balance has changed. */
export function quoteAgain() {
  isPriceShown = false;
  clearTimeout(quoteTimer);
  quoteTimer = setTimeout(quote, QUOTE_DELAY_MS);
  render();
}

/** The service is back: hand in what it was away for. */
export function resumeOrder() {
  handInPortrait(true);
  handInSpeech(true);
  quoteAgain();
}

/** The person has changed something: what was wrong before may be right now. */
function changed() {
  hide("order-error");
  quoteAgain();
}

/** Show the portrait again in place of a generation. */
function showComposer() {
  if (element("generation").hidden) return;
  // The stage shows what the address names, and so nothing but the portrait.
  history.pushState(null, "", "/");
  dispatchEvent(new PopStateEvent("popstate"));
}

/** Ask at once what it costs. */
export async function quote() {
  clearTimeout(quoteTimer);
  const turn = ++quoteTurn;
  const model = chosenModel();
  const speech = chosenSpeech();
  const length_s = speechLength();
  quoteProblem = null;
  if (!model || (!speech && length_s === null)) {
    quoted = null;
    return render();
  }
  // Until the service has the speech itself, its length is the page's own.
  const what = speech ? { audioUrl: speech.url } : { audioDuration: length_s };
  try {
    const answer = await post("/api/quote", { ...what, model: model.name });
    if (turn !== quoteTurn) return;
    quoted = answer;
    isPriceShown = true;
  } catch (problem) {
    if (turn !== quoteTurn) return;
    if (isGone(problem) && handInAgain()) return;
    quoted = null;
    quoteProblem = problem;
  }
  render();
}

/** Whether the service has an input no longer: its link is a day old, or the last generation that
 * used it was deleted. @param {any} problem */
const isGone = (problem) => ["url_refused", "link_expired", "artifact_missing"].includes(problem.code);

/** Send both inputs again; false when that was tried just before. */
function handInAgain() {
  const isTooSoon = performance.now() - handedInAt_ms < AGAIN_AFTER_MS;
  if (isTooSoon) return false;
  handedInAt_ms = performance.now();
  handInPortrait();
  handInSpeech();
  return true;
}

/** What keeps the order from being placed: the sentence, and where to go; null when nothing does.
 * @returns {{text: string, place: string} | null} */
function missing() {
  const model = chosenModel();
  const wrongFace = portraitProblem();
  const wrongSpeech = speechProblem();
  if (!hasPortrait()) return { text: t("order.need_portrait"), place: "portrait" };
  if (wrongFace) return { text: wrongFace, place: "replace" };
  if (!hasSpeech()) return { text: t("order.need_speech"), place: "speech" };
  if (wrongSpeech) return { text: wrongSpeech, place: "speech-replace" };
  if (isPortraitPending() || isSpeechPending() || !model) return { text: t("order.wait"), place: "generate" };
  if (quoteProblem) return { text: reason(quoteProblem.code, quoteProblem.message), place: "generate" };
  if (quoted && !quoted.sufficient) return { text: outOfCredits(), place: "generate" };
  return null;
}

const outOfCredits = () => t("order.short", { available: money(quoted.available_micros) });

/** Forget the inputs, for another order. */
export function clearOrder() {
  dropPortrait();
  dropSpeech();
  element("prompt").value = "";
  changed();
}

/** Keep what the form holds, for a reload. */
function keep() {
  const request = isKept && currentRequest();
  if (!request) return;
  const [picture, sound] = [portraitFile(), speechFile()];
  const draft = {
    ...request,
    prompt: element("prompt").value,
    imageName: picture?.name ?? "",
    audioName: sound?.name ?? "",
    imagePart: portraitPart(),
    audioPart: speechPart(),
  };
  keepDraft(draft);
  keepWhole("portrait", draft.imagePart && draft.imageUrl, picture);
  keepWhole("speech", draft.audioPart && draft.audioUrl, sound);
}

/** Keep that of which a part was handed in. @param {string} kind @param {string | null} url @param {File | null} file */
function keepWhole(kind, url, file) {
  if (wholes[kind] === url) return;
  wholes[kind] = url;
  bring("originals").then(({ keepOriginal }) => keepOriginal(kind, url, file));
}

/** What the form holds now may take the place of what it held before. */
export function keepFromNow() {
  isKept = true;
  keep();
}

/** Draw what follows from the order; whoever else shows something of it hears of it too. */
function render() {
  keep();
  renderChip();
  element("order").dispatchEvent(new Event("order"));
  element("generate-text").textContent = progress ?? t(isSending ? "order.sending" : "order.generate");
  element("generate").setAttribute("aria-disabled", String(!isReady() || progress !== null));
  renderPrice();
}

/** Which portrait would be used has to be seen when something else is on the stage. */
function renderChip() {
  element("portrait-chip").hidden = element("generation").hidden || !hasPortrait();
}

function renderPrice() {
  const place = element("quote");
  const balance = element("balance");
  place.classList.toggle("short", Boolean(quoted && !quoted.sufficient));
  place.classList.toggle("none", !quoted);
  balance.textContent = "";
  if (quoteProblem) {
    place.textContent = reason(quoteProblem.code, quoteProblem.message);
  } else if (!quoted) {
    place.textContent = t("order.need");
  } else {
    const { seconds: length_s, amount_micros, rate } = quoted.cost;
    const values = { seconds: seconds(length_s), rate: money(Number(rate) * 1e6), amount: money(amount_micros) };
    place.textContent = amount_micros ? t("order.sum", values) : t("order.free", values);
    if (!quoted.sufficient) balance.textContent = outOfCredits();
    else if (amount_micros) balance.textContent = t("order.after", { after: money(quoted.available_micros - amount_micros) });
  }
}

async function generate() {
  if (isSending || progress !== null) return;
  isSending = true;
  hide("order-error");
  render();
  if (await maySend()) await send();
  isSending = false;
  quoteAgain();
}

/** Whether all is there, and no more to pay than was to be seen when the button was pressed. */
async function maySend() {
  const seen_micros = quoted?.cost.amount_micros ?? -1;
  if (!isPriceShown) await quote();
  const gap = missing();
  if (gap) {
    show("order-error", gap.text);
    element(gap.place).focus();
  }
  return !gap && quoted?.cost.amount_micros <= seen_micros;
}

async function send() {
  try {
    const started = await start(currentRequest() ?? {});
    await onStart(started.prediction_id);
  } catch (problem) {
    if (isGone(problem) && handInAgain()) show("order-error", t("order.wait"));
    else show("order-error", reason(problem.code, problem.message));
  }
}
