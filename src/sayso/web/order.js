// @ts-check
/** The form: portrait, speech, model and its options, the price, and the order itself. */

import { capitalised, element, hide, node, show } from "./dom.js";
import { call, post } from "./service.js";

const QUOTE_DELAY_MS = 150;

/** What the person has chosen: the uploads' answers, not the files. */
const chosen = { portrait: null, speech: null, model: null };
/** Which upload of a kind is the latest: an earlier one that answers late does not count. */
const latest = { portrait: 0, speech: 0 };
let quoteTimer = 0;
let isSending = false;

/** The picture that is chosen, to show while it is being animated. */
export const portraitPicture = () => (chosen.portrait ? element("portrait-preview").src : null);
export const isReady = () => Boolean(chosen.portrait && chosen.speech && chosen.model) && !isSending;

/** @param {(id: string) => Promise<void>} onStarted */
export function prepareOrder(onStarted) {
  for (const kind of ["portrait", "speech"]) prepareDrop(kind);
  element("order").addEventListener("submit", (event) => {
    event.preventDefault();
    generate(onStarted);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) generate(onStarted);
  });
  element("again").addEventListener("click", () => {
    if (isReady()) generate(onStarted);
    else element("portrait").focus();
  });
}

/** @param {any[]} models */
export function offerModels(models) {
  const place = element("models");
  const others = node("details", { className: "others" });
  const unavailable = models.filter((model) => !model.available);
  place.replaceChildren(place.querySelector("legend"));
  for (const model of models) {
    const radio = node("input", { type: "radio", name: "model", value: model.name });
    radio.checked = model.default;
    radio.disabled = !model.available;
    radio.addEventListener("change", () => choose(model));
    const price = model.rate_micros ? `$${model.rate}/s` : "free";
    (model.available ? place : others).append(
      node("label", { className: "model" }, radio,
        node("span", {}, model.name),
        node("span", {}, price),
        node("span", { className: "hint" }, model.available ? model.description : model.unavailable_because)),
    );
    if (model.default) choose(model);
  }
  if (unavailable.length) {
    others.prepend(node("summary", {}, `${unavailable.length} more, not set up here`));
    place.append(others);
  }
}

/** Ask again what it costs, as the balance has changed. */
export function quoteAgain() {
  clearTimeout(quoteTimer);
  quoteTimer = setTimeout(quote, QUOTE_DELAY_MS);
  element("generate").disabled = !isReady();
}

/** @param {string} kind */
function prepareDrop(kind) {
  const input = element(kind);
  const drop = input.closest(".drop");
  input.addEventListener("change", () => input.files[0] && take(kind, input.files[0]));
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (!event.dataTransfer.files[0]) return;
    input.files = event.dataTransfer.files;
    take(kind, event.dataTransfer.files[0]);
  });
}

/** Upload a file at once, so that problems show before anything is held.
 * @param {string} kind @param {File} file */
async function take(kind, file) {
  const turn = ++latest[kind];
  chosen[kind] = null;
  preview(kind, file);
  hint(kind, "Uploading …");
  quoteAgain();
  const form = new FormData();
  form.append("kind", kind);
  form.append("file", file);
  try {
    const upload = await call("/api/uploads", { method: "POST", body: form });
    if (turn !== latest[kind]) return;
    chosen[kind] = upload;
    const notes = upload.warnings.map((warning) => warning.text);
    hint(kind, [`${file.name}: ${describe(kind, upload)}`, ...notes].join(" "));
    if (kind === "portrait") drawFace(upload);
  } catch (problem) {
    if (turn === latest[kind]) hint(kind, problem.message, true);
  }
  quoteAgain();
}

/** @param {string} kind @param {File} file */
function preview(kind, file) {
  const shown = element(`${kind}-preview`);
  if (shown.src) URL.revokeObjectURL(shown.src);
  shown.src = URL.createObjectURL(file);
  if (kind === "portrait") hide("face-box");
  show(kind === "portrait" ? "portrait-frame" : "speech-preview");
}

/** Frame the face that will speak. @param {any} upload */
function drawFace(upload) {
  const box = element("face-box");
  box.hidden = !upload.face;
  if (!upload.face) return;
  const { x, y, width, height } = upload.face;
  box.style.left = `${(100 * x) / upload.width}%`;
  box.style.top = `${(100 * y) / upload.height}%`;
  box.style.width = `${(100 * width) / upload.width}%`;
  box.style.height = `${(100 * height) / upload.height}%`;
}

/** @param {string} kind @param {any} upload */
const describe = (kind, upload) =>
  kind === "speech" ? `${upload.duration.toFixed(1)} s of speech.` : `${upload.width} × ${upload.height} pixels.`;

/** @param {string} kind @param {string} text @param {boolean} [wrong] */
function hint(kind, text, wrong = false) {
  element(`${kind}-hint`).textContent = text;
  element(`${kind}-hint`).classList.toggle("error", wrong);
}

/** @param {any} model */
function choose(model) {
  chosen.model = model;
  element("prompt-field").hidden = !model.takes_prompt;
  element("options-fold").hidden = model.options.length === 0;
  element("options").replaceChildren(...model.options.map(field));
  quoteAgain();
}

/** An input for one of the model's own settings; empty means that the model decides.
 * @param {any} option */
function field(option) {
  const name = `option-${option.name}`;
  let input;
  if (option.choices.length) {
    input = node("select", {}, ...option.choices.map((choice) => node("option", {}, choice)));
  } else if (option.kind === "boolean") {
    input = node("input", { type: "checkbox", checked: option.default === true });
  } else if (option.kind === "text") {
    input = node("textarea", { rows: 2 });
    if (option.maximum) input.maxLength = option.maximum;
  } else {
    input = node("input", { type: "number", step: option.kind === "integer" ? 1 : "any" });
    if (option.minimum !== null) input.min = option.minimum;
    if (option.maximum !== null && option.maximum <= Number.MAX_SAFE_INTEGER) input.max = option.maximum;
  }
  if (option.kind !== "boolean" && option.default !== null) input.value = option.default;
  input.id = name;
  input.dataset.option = option.name;
  input.dataset.kind = option.kind;
  input.setAttribute("aria-describedby", `${name}-hint`);
  return node("div", { className: "option" },
    node("label", { htmlFor: name }, capitalised(option.name.replaceAll("_", " "))),
    input,
    node("p", { className: "hint", id: `${name}-hint` }, option.description));
}

/** What the options' inputs say. */
function options() {
  const given = {};
  for (const input of element("options").querySelectorAll("[data-option]")) {
    const { option, kind } = input.dataset;
    if (kind === "boolean") given[option] = input.checked;
    else if (input.value !== "") given[option] = kind === "text" ? input.value : Number(input.value);
  }
  return given;
}

async function quote() {
  if (!chosen.speech || !chosen.model) return;
  try {
    const answer = await post("/api/quote", { audioUrl: chosen.speech.url, model: chosen.model.name });
    const { seconds, rate, amount, amount_micros } = answer.cost;
    element("quote").textContent =
      amount_micros === 0
        ? `${seconds} s, free.`
        : `${seconds} s × $${rate} = $${amount}, paid only when the video is there.` +
          (answer.sufficient ? "" : ` You have $${answer.available}.`);
  } catch (problem) {
    element("quote").textContent = problem.message;
  }
}

/** @param {(id: string) => Promise<void>} onStarted */
async function generate(onStarted) {
  if (!isReady()) return;
  isSending = true;
  quoteAgain();
  hide("order-error");
  const prompt = element("prompt").value;
  const order = {
    imageUrl: chosen.portrait.url,
    audioUrl: chosen.speech.url,
    model: chosen.model.name,
    options: options(),
    ...(chosen.model.takes_prompt && prompt && { prompt }),
  };
  try {
    // The key makes a retry after a lost answer the same generation.
    const started = await post("/api/generate-lipsync", order, { "Idempotency-Key": newKey() });
    await onStarted(started.prediction_id);
  } catch (problem) {
    show("order-error", problem.message);
  }
  isSending = false;
  quoteAgain();
}

/** `crypto.randomUUID` is for https and this machine alone; a service on a LAN may be neither. */
const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
