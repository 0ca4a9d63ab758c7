// @ts-check
/**
 * The free preview: two seconds of the chosen face with the chosen speech, by the service's own
 * engine. It is offered where it saves something: before a model that is paid and is another's.
 */

import { element, hide, show } from "./dom.js";
import { chosenModel } from "./models.js";
import { currentRequest } from "./order.js";
import { post } from "./service.js";
import { onLanguage, t } from "./words.js";

/** Who makes previews: the provider of the service's own engine. */
const OURS = "embedded";

/** Of which inputs a preview is shown or being made. */
let inputs = "";
let current = new AbortController();

export function preparePreview() {
  element("preview-make").addEventListener("click", make);
  element("preview-close").addEventListener("click", () => {
    drop();
    element("preview-make").focus();
  });
  element("order").addEventListener("order", offer);
  onLanguage(offer);
  offer();
}

/** Offer it when there is something to preview; a preview of other inputs than now is dropped. */
function offer() {
  const request = currentRequest();
  const model = chosenModel();
  if (inputs && nameOf(request) !== inputs) return drop();
  const isWanted = Boolean(nameOf(request) && model?.rate_micros > 0 && model.provider !== OURS);
  element("preview").hidden = !isWanted;
  if (isWanted) draw(model);
  else if (inputs) drop();
}

/** @param {any} model */
function draw(model) {
  const isShown = !element("preview-video").hidden;
  const isMaking = element("preview-make").getAttribute("aria-busy") === "true";
  element("preview-make").textContent = t(isMaking ? "preview.making" : isShown ? "preview.again" : "preview.button");
  element("preview-hint").textContent = t(isShown ? "preview.note" : "preview.hint", { model: model.name });
  element("preview-close").hidden = !isShown;
}

async function make() {
  const video = element("preview-video");
  if (!video.hidden) {
    video.currentTime = 0;
    return video.play();
  }
  const request = currentRequest();
  if (!request || inputs) return;
  const mine = (current = new AbortController());
  inputs = nameOf(request);
  hide("preview-error");
  busy(true);
  try {
    const { imageUrl, audioUrl } = request;
    const preview = await post("/api/previews", { imageUrl, audioUrl }, {}, mine.signal);
    if (mine !== current) return;
    video.src = preview.url;
    show("preview-video");
    show("preview-badge");
    busy(false);
    // Where sound needs another click, the controls are there for it.
    await video.play().catch(() => {});
  } catch (problem) {
    if (mine !== current) return;
    drop();
    show("preview-error", problem.message);
  }
}

/** @param {boolean} isBusy */
function busy(isBusy) {
  element("preview-make").setAttribute("aria-busy", String(isBusy));
  offer();
}

/** Forget the preview, shown or on its way. */
function drop() {
  current.abort();
  current = new AbortController();
  inputs = "";
  const video = element("preview-video");
  if (!video.hidden) {
    video.pause();
    video.removeAttribute("src");
    video.load();
  }
  hide("preview-video", "preview-badge", "preview-error");
  busy(false);
}

/** The inputs that a preview is of; empty as long as one is missing. @param {any} request */
const nameOf = (request) => (request?.imageUrl && request.audioUrl ? `${request.imageUrl} ${request.audioUrl}` : "");
