// @ts-check
/**
 * The speech: drop, pick or record it; hear it, cut it to length.
 *
 * A recording that the browser can decode is drawn, and what is cut off is never uploaded: the kept
 * part goes as WAV. One that it cannot decode goes as it is, and the service says how long it is.
 * What only a recording needs is loaded with the first one.
 */

import { element } from "./dom.js";
import { bring } from "./service.js";
import { clock, length, onLanguage, percent, reason, seconds, t } from "./words.js";

/** Rates for what is uploaded of a cut recording, and for its outline: the ear, and the eye. */
const SOUND_HZ = 48_000;
const OUTLINE_HZ = 8_000;
/** Handles that stand still this long are where the person wants them. */
const SETTLED_MS = 500;
/** Decoding more than this in a page would take more memory than a phone has. */
const DECODED_BYTES_MAX = 64 << 20;

/** The recording as it came, or as it was heard. @type {File | null} */
let original = null;
/** Its samples, where the browser can decode it. @type {{length_s: number} | null} */
let decoded = null;
let uploaded = /** @type {any} */ (null);
let problem = /** @type {any} */ (null);
/** What is said below it: a key and its values. @type {[string, Record<string, any>]} */
let said = ["speech.invite", {}];
let current = new AbortController();
let settling = 0;
let model = /** @type {any} */ (null);
let wasTrimmed = false;
/** @type {(() => Promise<{channels: Float32Array[], rate_hz: number}>) | null} */
let stopRecording = null;
let onChange = () => {};
const player = new Audio();

/** The upload's answer, once the service has looked at the speech. */
export const chosenSpeech = () => (isTooLong() ? null : uploaded);
export const speechFile = () => original;
/** What of it is kept; null for all. */
export const speechPart = () => (decoded && element("waveform").isTrimmed ? element("waveform").selection : null);
export const hasSpeech = () => original !== null;
/** Whether it is still on its way. */
export const isSpeechPending = () => original !== null && !uploaded && !problem;
/** How long what is kept is, as far as is known. */
export const speechLength = () => uploaded?.duration ?? (decoded ? element("waveform").selection.length_s : null);

/** Why the speech cannot be used with the chosen model, if so. */
export function speechProblem() {
  if (problem) return reason(problem.code, problem.message);
  return isTooLong() ? t("speech.too_long", limits()) : null;
}

/** @param {() => void} onChanged */
export function prepareSpeech(onChanged) {
  onChange = onChanged;
  const input = element("speech");
  const take = () => {
    if (input.files[0]) takeSpeech(input.files[0]);
    input.value = "";
  };
  input.addEventListener("change", take);
  take();
  element("speech-replace").addEventListener("click", startOver);
  element("record").addEventListener("click", startToRecord);
  element("stop").addEventListener("click", finishRecording);
  element("play").addEventListener("click", () => (player.paused ? play() : player.pause()));
  element("waveform").addEventListener("select", onSelect);
  element("waveform").addEventListener("seek", (/** @type {CustomEvent} */ event) => play(event.detail));
  for (const name of ["play", "pause", "ended"]) player.addEventListener(name, renderPlay);
  onLanguage(render);
}

/** The model decides how long it may be. @param {any} chosen */
export function limitSpeechTo(chosen) {
  model = chosen;
  wasTrimmed = decoded !== null && element("waveform").limit(chosen.max_seconds);
  render();
}

/** @param {File} file @param {import("./waveform.js").Part | null} [part] What of it is kept; all if none. */
export async function takeSpeech(file, part = null) {
  stopRecording = null;
  const hadFocus = element("speech-drop").contains(document.activeElement) || document.activeElement === element("speech");
  const signal = begin(file);
  say("speech.reading", { name: file.name });
  const [sound] = await Promise.all([decode(file, OUTLINE_HZ), bring("waveform")]);
  if (signal.aborted) return;
  decoded = sound && { length_s: sound.duration };
  if (sound) {
    if (model) element("waveform").limit(model.max_seconds);
    element("waveform").show(sound.getChannelData(0), sound.duration, part);
    wasTrimmed = !part && element("waveform").isTrimmed;
  }
  element("speech-drop").dataset.state = "ready";
  element("waveform").hidden = !sound;
  if (hadFocus) element("play").focus();
  clearTimeout(settling);
  await handIn();
}

/** Forget what there was. @param {File | null} file */
function begin(file) {
  current.abort();
  current = new AbortController();
  clearTimeout(settling);
  player.pause();
  if (player.src) URL.revokeObjectURL(player.src);
  original = file;
  if (file) player.src = URL.createObjectURL(file);
  else player.removeAttribute("src");
  decoded = uploaded = problem = null;
  wasTrimmed = false;
  onChange();
  return current.signal;
}

/** Forget it. */
export function dropSpeech() {
  stopRecording = null;
  begin(null);
  element("speech-drop").dataset.state = "empty";
  say("speech.invite");
}

function startOver() {
  dropSpeech();
  element("speech").focus();
}

/** What the browser makes of a file; null where it cannot. @param {Blob} file @param {number} rate_hz */
async function decode(file, rate_hz) {
  if (file.size > DECODED_BYTES_MAX) return null;
  try {
    return await new OfflineAudioContext(1, 1, rate_hz).decodeAudioData(await file.arrayBuffer());
  } catch {
    return null;
  }
}

function onSelect() {
  if (!decoded) return;
  wasTrimmed = false;
  current.abort();
  current = new AbortController();
  uploaded = problem = null;
  clearTimeout(settling);
  settling = setTimeout(handIn, SETTLED_MS);
  say("speech.checking");
  onChange();
}

/** Send it once more: the service has it no longer, or was away. @param {boolean} [wasAway] */
export function handInSpeech(wasAway) {
  if (!original || isSpeechPending() || (wasAway && problem?.status !== 0)) return;
  current.abort();
  current = new AbortController();
  uploaded = problem = null;
  handIn();
}

/** Hand in what is kept, at once, so that problems show before anything is held. */
async function handIn() {
  const { signal } = current;
  const file = /** @type {File} */ (original);
  say("speech.checking");
  try {
    const { upload } = await bring("upload");
    const answer = await upload("speech", await kept(), {
      name: file.name,
      signal,
      onProgress: (/** @type {number} */ sent) => say(sent < 100 ? "speech.uploading" : "speech.checking", { percent: percent(sent) }),
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

/** The part that is kept: the file itself when nothing is cut off. @returns {Promise<Blob>} */
async function kept() {
  const file = /** @type {File} */ (original);
  const part = speechPart();
  if (!part) return file;
  const { from_s, to_s } = part;
  const { cut, wavOf } = await bring("wav");
  const sound = /** @type {AudioBuffer} */ (await decode(file, SOUND_HZ));
  const channels = Array.from({ length: Math.min(2, sound.numberOfChannels) }, (_, index) => sound.getChannelData(index));
  return new Blob([wavOf(cut(channels, SOUND_HZ, from_s, to_s), SOUND_HZ)], { type: "audio/wav" });
}

async function startToRecord() {
  const levels = /** @type {number[]} */ ([]);
  const { drawLevels, mediaProblem, record } = await bring("recorder");
  try {
    stopRecording = await record((/** @type {number} */ level, /** @type {number} */ length_s) => {
      levels.push(level);
      drawLevels(element("level"), levels);
      element("recorded").textContent = clock(length_s);
      if (model && length_s >= model.max_seconds) finishRecording();
    });
  } catch (refused) {
    said = ["", { text: mediaProblem(refused, "microphone") }];
    return render();
  }
  element("speech-drop").dataset.state = "recording";
  element("recorded").textContent = clock(0);
  say("speech.recording");
  element("stop").focus();
}

async function finishRecording() {
  const stop = stopRecording;
  stopRecording = null;
  if (!stop) return;
  const [{ channels, rate_hz }, { wavOf }] = await Promise.all([stop(), bring("wav")]);
  element("speech-drop").dataset.state = "empty";
  const wav = new Blob([wavOf(channels, rate_hz)], { type: "audio/wav" });
  element("record").focus();
  await takeSpeech(new File([wav], `${t("speech.name")}.wav`, { type: "audio/wav" }));
}

/** Play what is kept. @param {number} [at_s] */
async function play(at_s) {
  const waveform = element("waveform");
  const { from_s, to_s } = decoded ? waveform.selection : { from_s: 0, to_s: Infinity };
  const isInside = player.currentTime > from_s && player.currentTime < to_s - 0.05 && !player.ended;
  player.currentTime = at_s ?? (isInside ? player.currentTime : from_s);
  try {
    await player.play();
  } catch {
    return; // Another file was chosen meanwhile, or the browser cannot play it.
  }
  const follow = () => {
    if (player.paused) return;
    if (decoded && player.currentTime >= waveform.selection.to_s) player.pause();
    if (decoded) waveform.play(player.currentTime);
    requestAnimationFrame(follow);
  };
  follow();
}

function renderPlay() {
  element("play").textContent = t(player.paused ? "speech.play" : "speech.pause");
  if (player.ended) element("waveform").play(null);
}

function isTooLong() {
  return Boolean(model && uploaded && uploaded.duration > model.max_seconds + 0.001);
}

const limits = () => ({
  model: model.name,
  limit: length(model.max_seconds),
  length: length(speechLength() ?? 0, 1),
});

/** @param {string} key @param {Record<string, any>} [values] */
function say(key, values = {}) {
  said = [key, values];
  render();
}

function render() {
  const hint = element("speech-hint");
  const wrong = speechProblem();
  // What passes in a moment stands where there is room for it anyway, so that nothing moves.
  const isDrawn = element("speech-drop").dataset.state === "ready";
  const passing = isSpeechPending() && isDrawn ? t(said[0], said[1]) : "";
  hint.classList.toggle("error", Boolean(wrong) || said[0] === "");
  if (wrong) hint.textContent = wrong;
  else if (uploaded) hint.textContent = notes().join(" ");
  else hint.textContent = passing ? "" : said[0] ? t(said[0], said[1]) : said[1].text;
  const length_s = speechLength();
  const limit = model ? length(model.max_seconds) : "";
  element("speech-length").textContent =
    length_s === null ? (model ? t("speech.limit", { limit }) : "") : t("speech.length", { length: length(length_s, 1), limit });
  element("speech-range").textContent = passing || original?.name || "";
  if (!passing && decoded && element("waveform").isTrimmed) {
    const { from_s, to_s } = element("waveform").selection;
    element("speech-range").textContent = t("speech.range", { from: seconds(from_s, 1), to: seconds(to_s, 1) });
  }
  renderPlay();
}

/** What is worth knowing about a speech that can be used. */
function notes() {
  return [
    ...(wasTrimmed ? [t("speech.trimmed", limits())] : []),
    ...(decoded ? [] : [t("speech.unshown")]),
    ...uploaded.warnings.map((/** @type {any} */ warning) => reason(warning.code, warning.text)),
  ];
}
