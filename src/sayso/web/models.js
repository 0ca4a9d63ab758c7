// @ts-check
/** The models to choose from, and the settings of the one that is chosen. */

import { capitalised, element, node } from "./dom.js";
import { has, length, money, onLanguage, t } from "./words.js";

/** A model that takes no more than this says so before it is chosen. */
const TIGHT_S = 300;

/** @type {any[]} */
let models = [];
let chosen = /** @type {any} */ (null);
/** @type {(model: any) => void} */
let onChoice = () => {};

export const chosenModel = () => chosen;

/** @param {(model: any) => void} onChosen */
export function prepareModels(onChosen) {
  onChoice = onChosen;
  onLanguage(() => models.length && draw());
}

/** @param {any[]} offered */
export function offerModels(offered) {
  models = offered;
  chosen ??= models.find((model) => model.default) ?? null;
  draw();
  if (chosen) choose(chosen);
}

/** Choose a model by its name, if it can be. @param {string} name */
export function chooseModel(name) {
  const model = models.find((one) => one.name === name && one.available);
  if (!model) return;
  chosen = model;
  draw();
  choose(model);
}

function draw() {
  const place = element("models");
  const unavailable = models.filter((model) => !model.available);
  place.replaceChildren(place.querySelector("legend"), ...models.filter((model) => model.available).map(card));
  if (!unavailable.length) return;
  const summary = node("summary", {}, t("model.others", { n: unavailable.length }));
  place.append(node("details", { className: "others" }, summary, ...unavailable.map(card)));
}

/** @param {any} model */
function card(model) {
  const radio = node("input", { type: "radio", name: "model", value: model.name });
  radio.checked = model.name === chosen?.name;
  radio.disabled = !model.available;
  radio.addEventListener("change", () => choose(model));
  const price = model.rate_micros ? t("model.rate", { rate: money(model.rate_micros) }) : t("model.free");
  return node("label", { className: "model", title: model.description }, radio,
    node("span", { className: "name" }, ...named(model.name)),
    node("span", {}, price),
    node("span", { className: "hint" }, ...(model.available ? facts(model) : [model.unavailable_because])));
}

/** `owner/name`, which may only be broken between the two. @param {string} name */
function named(name) {
  const at = name.indexOf("/") + 1;
  return [node("span", { className: "owner" }, name.slice(0, at)), node("wbr"), node("b", {}, name.slice(at))];
}

/** Where it runs, how long it takes, how much it takes. @param {any} model */
function facts(model) {
  const place = has(`runs.${model.provider}`) ? t(`runs.${model.provider}`) : model.provider;
  const isTight = model.max_seconds <= TIGHT_S;
  const all = [place, ...typical(model), ...(isTight ? [t("model.limit", { limit: length(model.max_seconds) })] : [])];
  // Broken between facts, not within one.
  return all.flatMap((fact, index) => [...(index ? [" · "] : []), node("span", { className: "fact" }, fact)]);
}

/** @param {any} model */
function typical(model) {
  if (model.typical_seconds === undefined) return [];
  const n = model.typical_seconds;
  const time = n < 90 ? t("time.seconds", { n: Math.max(1, Math.round(n)) }) : t("time.minutes", { n: Math.round(n / 60) });
  return [t("model.typical", { time })];
}

/** @param {any} model */
function choose(model) {
  chosen = model;
  element("prompt-field").hidden = !model.takes_prompt;
  element("options-fold").hidden = model.options.length === 0;
  element("options").replaceChildren(...model.options.map(field));
  onChoice(model);
}

/** An input for one of the model's own settings; empty means that the model decides.
 * @param {any} option */
function field(option) {
  const name = `option-${option.name}`;
  const input = inputFor(option);
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

/** @param {any} option */
function inputFor(option) {
  if (option.choices.length) {
    return node("select", {}, ...option.choices.map((/** @type {string} */ choice) => node("option", {}, choice)));
  }
  if (option.kind === "boolean") return node("input", { type: "checkbox", checked: option.default === true });
  if (option.kind === "text") {
    const input = node("textarea", { rows: 2 });
    if (option.maximum) input.maxLength = option.maximum;
    return input;
  }
  const input = node("input", { type: "number", step: option.kind === "integer" ? 1 : "any" });
  if (option.minimum !== null) input.min = option.minimum;
  if (option.maximum !== null && option.maximum <= Number.MAX_SAFE_INTEGER) input.max = option.maximum;
  return input;
}

/** Put values into the settings' inputs; those without one stay as they are. @param {Record<string, any>} given */
export function chooseOptions(given) {
  for (const input of element("options").querySelectorAll("[data-option]")) {
    const { option, kind } = input.dataset;
    if (!(option in given)) continue;
    if (kind === "boolean") input.checked = given[option];
    else input.value = given[option];
  }
}

/** What the settings' inputs say. @returns {Record<string, any>} */
export function chosenOptions() {
  /** @type {Record<string, any>} */
  const given = {};
  for (const input of element("options").querySelectorAll("[data-option]")) {
    const { option, kind } = input.dataset;
    if (kind === "boolean") given[option] = input.checked;
    else if (input.value !== "") given[option] = kind === "text" ? input.value : Number(input.value);
  }
  return given;
}
