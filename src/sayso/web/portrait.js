// @ts-check
/**
 * The portrait: drop, paste, pick or photograph it; see at once whether it can speak; crop, replace.
 *
 * It is shown on the stage, as large as it fits, with the face that the service found. Cropping
 * happens here: what is uploaded is the part that is kept.
 */

import { element, hide, node, show } from "./dom.js";
import { bring } from "./service.js";
import { onLanguage, percent, reason, t } from "./words.js";

/** What keeps a face from being animated; models that need one refuse such a portrait. */
const FATAL = ["no_face", "face_too_small", "face_cut"];

/** What is good unless the service warns of it: what is said then, by the warning's code.
 * @type {[string, Record<string, string>][]} */
const CHECKS = [
  ["check.one_face", { several_faces: "check.largest" }],
  ["check.sharp", { face_small: "check.small" }],
  ["check.frontal", { face_turned: "check.turned" }],
  ["check.mouth", { mouth_hidden: "check.mouth_hidden" }],
];

/** The file as it was chosen, and what of it is used. */
let original = /** @type {File | null} */ (null);
let used = /** @type {Blob | null} */ (null);
/** The part that is kept, when that is not the whole. @type {import("./box.js").Box | null} */
let crop = null;
/** The service's answer about what is used. */
let uploaded = /** @type {any} */ (null);
let problem = /** @type {any} */ (null);
let isShown = false;
let sent_percent = 0;
let current = new AbortController();
let model = /** @type {any} */ (null);
/** Loaded with the first portrait. @type {typeof import("./box.js") | null} */
let boxes = null;
let onChange = () => {};

/** The upload's answer, once the service has looked at the portrait. */
export const chosenPortrait = () => uploaded;
export const portraitPicture = () => (isShown ? element("portrait-preview").src : null);
export const portraitFile = () => original;
/** What of it is used; null for all. */
export const portraitPart = () => crop;
export const hasPortrait = () => original !== null;
/** Whether it is still on its way. */
export const isPortraitPending = () => original !== null && !uploaded && !problem;

/** Why the portrait cannot be used with the chosen model, if so. */
export function portraitProblem() {
  if (problem) return problem.message;
  return model?.needs_face && fatal() ? t("order.need_face", { model: model.name }) : null;
}

/** @param {() => void} onChanged */
export function preparePortrait(onChanged) {
  onChange = onChanged;
  const input = element("portrait");
  const take = () => {
    if (input.files[0]) takePortrait(input.files[0]);
    input.value = ""; // The same file again is a choice as well.
  };
  input.addEventListener("change", take);
  take(); // Whoever was faster than the scripts.
  element("portrait-preview").addEventListener("load", fit);
  element("portrait-preview").addEventListener("error", () => original && showAs(false));
  element("replace").addEventListener("click", () => input.click());
  element("crop").addEventListener("click", cropByHand);
  element("crop-face").addEventListener("click", async () => {
    await keep(boxAroundFace());
    element("crop").focus();
  });
  element("camera").addEventListener("click", async () => {
    const { takePhoto } = await bring("camera");
    const photo = await takePhoto();
    if (photo) takePortrait(photo);
  });
  onLanguage(render);
}

/** The model decides whether a face is needed. @param {any} chosen */
export function judgePortraitFor(chosen) {
  model = chosen;
  render();
}

/** @param {File} file @param {import("./box.js").Box | null} [part] What of it is used; all if none. */
export async function takePortrait(file, part = null) {
  original = file;
  const hadFocus = element("portrait-invite").contains(document.activeElement);
  const done = keep(part);
  // What had the focus is gone from the page.
  if (hadFocus) element("replace").focus();
  await done;
}

/** Forget it. */
export function dropPortrait() {
  current.abort();
  original = used = crop = uploaded = problem = null;
  isShown = false;
  element("portrait-drop").dataset.state = "empty";
  show("portrait-invite");
  hide("portrait-tools", "portrait-frame");
  element("portrait-hint").textContent = "";
  element("portrait-checks").replaceChildren();
}

async function cropByHand() {
  const { askForCrop } = await bring("crop");
  const box = await askForCrop(/** @type {File} */ (original), crop);
  if (box) await keep(box.isWhole ? null : box);
}

/** Use a part of the picture as it is used now, or of the original. @param {any} box */
async function keep(box) {
  crop = box;
  if (!box) return use(/** @type {File} */ (original));
  const { cropped } = await bring("crop");
  return use(await cropped(/** @type {File} */ (original), box));
}

/** Show a picture and hand it in. @param {Blob} picture */
function use(picture) {
  used = picture;
  showAs(true);
  return handIn();
}

/** Send it once more: the service has it no longer, or was away. @param {boolean} [wasAway] */
export function handInPortrait(wasAway) {
  if (original && !isPortraitPending() && (!wasAway || problem?.status === 0)) handIn();
}

/** Hand in what is used, at once, so that problems show before anything is held. */
async function handIn() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  uploaded = problem = null;
  sent_percent = 0;
  render();
  onChange();
  try {
    const [{ upload }, box] = await Promise.all([bring("upload"), bring("box")]);
    boxes = box;
    const answer = await upload("portrait", /** @type {Blob} */ (used), {
      name: /** @type {File} */ (original).name,
      signal,
      onProgress: (/** @type {number} */ sent) => {
        sent_percent = sent;
        render();
      },
    });
    if (signal.aborted) return;
    uploaded = answer;
  } catch (refused) {
    if (signal.aborted) return;
    problem = refused;
  }
  render();
  onChange();
}

/** @param {boolean} canBeShown Whether this browser knows such pictures. */
function showAs(canBeShown) {
  const picture = element("portrait-preview");
  isShown = canBeShown;
  if (canBeShown) {
    if (picture.src) URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(/** @type {Blob} */ (used));
  }
  render();
}

/** Size the frame by the picture, so that the face's box lies on the face. */
function fit() {
  const picture = element("portrait-preview");
  const frame = element("portrait-frame");
  frame.style.setProperty("--ratio", String(picture.naturalWidth / picture.naturalHeight));
  frame.style.setProperty("--natural", String(picture.naturalWidth));
}

function render() {
  if (!original) return;
  const drop = element("portrait-drop");
  drop.dataset.state = problem ? "problem" : uploaded ? "ready" : "pending";
  hide("portrait-invite");
  show("portrait-tools");
  element("portrait-frame").hidden = !isShown;
  element("crop").hidden = !isShown;
  const around = boxAroundFace();
  element("crop-face").hidden = !around || !boxes?.isMuchSmaller(around, size());
  renderVerdict();
  renderFace();
  element("chip-name").textContent = original.name;
  element("chip-picture").src = isShown ? element("portrait-preview").src : "/web/icon.svg";
}

function size() {
  const picture = element("portrait-preview");
  return { width: picture.naturalWidth, height: picture.naturalHeight };
}

/** What would be kept of an uncropped picture that shows a face. */
const boxAroundFace = () => (isShown && uploaded?.face && !crop ? boxes?.aroundFace(uploaded.face, size()) : null);

function renderVerdict() {
  const hint = element("portrait-hint");
  const checks = element("portrait-checks");
  hint.className = "verdict";
  checks.replaceChildren();
  if (problem) {
    hint.textContent = reason(problem.code, problem.message);
    hint.classList.add("error");
  } else if (!uploaded) {
    hint.textContent =
      sent_percent < 100 ? t("portrait.uploading", { percent: percent(sent_percent) }) : t("portrait.checking");
  } else if (fatal()) {
    const blocks = !model || model.needs_face;
    hint.textContent = reason(fatal().code, fatal().text);
    hint.classList.toggle("error", blocks);
    if (!blocks) checks.append(node("li", {}, t("wrong.model", { model: model.name })));
  } else {
    hint.textContent = isShown ? t("portrait.ready") : t("portrait.unshown");
    checks.append(...checkLines());
  }
}

function checkLines() {
  const found = new Map(uploaded.warnings.map((/** @type {any} */ warning) => [warning.code, warning.text]));
  const lines = CHECKS.map(([good, bad]) => {
    const code = Object.keys(bad).find((known) => found.delete(known));
    return code ? node("li", { className: "warn" }, t(bad[code])) : node("li", {}, t(good));
  });
  return [...lines, ...Array.from(found, ([code, text]) => node("li", { className: "warn" }, reason(code, text)))];
}

/** Frame the face that will speak. */
function renderFace() {
  const box = element("face-box");
  box.hidden = !uploaded?.face;
  if (box.hidden) return;
  const { x, y, width, height } = uploaded.face;
  box.style.left = `${(100 * x) / uploaded.width}%`;
  box.style.top = `${(100 * y) / uploaded.height}%`;
  box.style.width = `${(100 * width) / uploaded.width}%`;
  box.style.height = `${(100 * height) / uploaded.height}%`;
}

/** Why no face of it can speak. The service warns of a face that is turned a little with the same
 * code as of one that is turned too far; then it names no face. */
function fatal() {
  return uploaded?.warnings.find(
    (/** @type {any} */ warning) => FATAL.includes(warning.code) || (warning.code === "face_turned" && !uploaded.face),
  );
}
