// @ts-check
/**
 * Filling the form with what was not chosen just now: the sample, an earlier order, or what this tab
 * held before it was loaded again.
 */

import { element, show } from "./dom.js";
import { chooseModel, chooseOptions, chosenModel } from "./models.js";
import { quote } from "./order.js";
import { hasPortrait, takePortrait } from "./portrait.js";
import { Refused, bring } from "./service.js";
import { hasSpeech, takeSpeech } from "./speech.js";

const SAMPLE = { portrait: "/web/sample/portrait.jpg", speech: "/web/sample/speech.ogg" };

export async function takeSample() {
  try {
    const [portrait, speech] = await Promise.all([fetched(SAMPLE.portrait), fetched(SAMPLE.speech)]);
    await Promise.all([takePortrait(portrait), takeSpeech(speech)]);
    element("generate").focus();
  } catch (problem) {
    show("order-error", problem.message);
  } finally {
    element("sample").removeAttribute("aria-busy");
  }
}

/** Put an earlier order's inputs back into the form. @param {any} order */
export async function refillOrder(order) {
  const [portrait, speech] = await Promise.all([fetched(order.imageUrl), fetched(order.audioUrl)]);
  fillSettings(order);
  await Promise.all([takePortrait(portrait), takeSpeech(speech)]);
}

/** Put back what this tab held before it was loaded again; an input that is gone is left out.
 * @param {import("./memory.js").Draft} draft */
export async function restoreDraft(draft) {
  fillSettings(draft);
  const [portrait, speech] = await Promise.all([
    refound("portrait", draft.imageUrl, draft.imageName, draft.imagePart),
    refound("speech", draft.audioUrl, draft.audioName, draft.audioPart),
  ]);
  // Whoever was faster than that has chosen something else.
  await Promise.all([portrait && !hasPortrait() && takePortrait(...portrait), speech && !hasSpeech() && takeSpeech(...speech)]);
  await quote();
}

/** What was handed in, or the whole that it is a part of. @param {string} kind @param {string | null} url
 * @param {string} name @param {any} part @returns {Promise<[File, any] | null>} */
async function refound(kind, url, name, part) {
  const file = url && (await fetched(url, name).catch(() => null));
  if (!url || !file) return null;
  const whole = part && (await (await bring("originals")).recallOriginal(kind, url));
  return whole ? [whole, part] : [file, null];
}

/** @param {string} address @param {string} [name] */
async function fetched(address, name) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
  const content = await answer.blob();
  return new File([content], name ?? new URL(address, location.href).pathname.split("/").pop() ?? "", { type: content.type });
}

/** @param {{model: string, prompt: string | null, options: Record<string, any>}} settings */
function fillSettings({ model, prompt, options }) {
  chooseModel(model);
  if (chosenModel()?.name === model) chooseOptions(options ?? {});
  element("prompt").value = prompt ?? "";
}
