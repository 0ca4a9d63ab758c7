// @ts-check
/**
 * Everything that the page says, in the person's language.
 *
 *   t()              a text by its key, with values and the right plural
 *   money(), number(), seconds(), bytes(), clock(), moment(), percent()   figures, by Intl
 *   reason()         what an error means: in English the service's own sentence
 *   say()            put the texts into elements that name them: data-t, data-t-label, ...
 *   chooseLanguage(), onLanguage()   the switch, remembered; whoever draws again because of it
 *
 * The texts are in words.en.js and words.de.js, of which only the chosen one is loaded. A text is a
 * string with {names}, or an object of such by plural category, chosen by the value called `n`.
 */

import { recall, remember } from "./memory.js";

/** @type {Record<string, string>} */
export const LANGUAGES = { en: "English", de: "Deutsch" };

/** The switch, else what the browser asks for. */
export let language = remembered() ?? preferred();

/** @type {[string, (element: Element, text: string) => void][]} */
const PLACES = [
  ["t", (element, text) => (element.textContent = text)],
  ["t-label", (element, text) => element.setAttribute("aria-label", text)],
  ["t-title", (element, text) => element.setAttribute("title", text)],
  ["t-alt", (element, text) => element.setAttribute("alt", text)],
  ["t-placeholder", (element, text) => element.setAttribute("placeholder", text)],
];

/** @type {Record<string, string | Record<string, string>>} */
let texts = (await import(`./words.${language}.js`)).default;
let formats = formatsOf(language);
/** @type {Set<() => void>} */
const listeners = new Set();

/** @param {string} key @param {Record<string, any>} [values] @returns {string} */
export function t(key, values = {}) {
  let text = texts[key];
  if (text === undefined) throw new Error(`no text is called ${key}`);
  if (typeof text !== "string") text = text[formats.plural.select(values.n)] ?? text.other;
  return text.replaceAll(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? formats.number.format(value) : String(value);
  });
}

/** Whether there is such a text. @param {string} key */
export const has = (key) => key in texts;

/** @param {number} micros Millionths of a dollar. */
export const money = (micros) => formats.money.format(micros / 1e6);

/** @param {number} value @param {number} [digits] */
export const number = (value, digits = 0) =>
  new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

/** `9.8 s` @param {number} value @param {number} [digits] */
export const seconds = (value, digits = 0) => `${number(value, digits)}\u00a0s`;

/** `9.8 s`, `10 min`, `2:05 min` @param {number} length_s @param {number} [digits] Of seconds. */
export function length(length_s, digits = 0) {
  if (length_s < 60) return seconds(length_s, digits);
  return `${length_s % 60 ? clock(length_s) : number(length_s / 60)}\u00a0min`;
}

/** `42 %`, as the language writes it. @param {number} value Of a hundred. */
export const percent = (value) => formats.percent.format(value / 100);

/** `1.2 MB`, `840 kB` @param {number} size */
export const bytes = (size) => (size < 1e6 ? formats.kilobytes.format(size / 1e3) : formats.megabytes.format(size / 1e6));

/** `0:48`, `1:02:03` @param {number} value Seconds. */
export function clock(value) {
  const whole = Math.max(0, Math.floor(value));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [first, ...rest] = parts[0] ? parts : parts.slice(1);
  return [first, ...rest.map((part) => String(part).padStart(2, "0"))].join(":");
}

/** When something was: the time, and the day unless it is today. @param {string} iso */
export function moment(iso) {
  const at = new Date(iso);
  const isToday = at.toDateString() === new Date().toDateString();
  return (isToday ? formats.time : formats.day).format(at);
}

/** Day and time in full. @param {string} iso */
export const instant = (iso) => formats.instant.format(new Date(iso));

/** What an error means for the person. In English the service's own sentence says more than we
 * could; elsewhere a code that we know is translated. @param {string | null} code @param {string} text */
export const reason = (code, text) =>
  language !== "en" && code && has(`error.${code}`) ? t(`error.${code}`) : text;

/** Put the texts into the elements of a tree that name them. @param {Document | Element} root */
export function say(root) {
  for (const [name, put] of PLACES) {
    for (const one of root.querySelectorAll(`[data-${name}]`)) put(one, t(one.getAttribute(`data-${name}`) ?? ""));
  }
}

/** Speak another language from now on. @param {string} code */
export async function chooseLanguage(code) {
  if (!(code in LANGUAGES) || code === language) return;
  texts = (await import(`./words.${code}.js`)).default;
  language = code;
  formats = formatsOf(code);
  remember("language", code);
  document.documentElement.lang = code;
  say(document);
  for (const listener of listeners) listener();
}

/** Draw again when the language changes. @param {() => void} listener */
export const onLanguage = (listener) => listeners.add(listener);

function remembered() {
  const code = recall("language");
  return code && code in LANGUAGES ? code : null;
}

function preferred() {
  const wanted = navigator.languages.map((tag) => tag.toLowerCase().split("-")[0]);
  return wanted.find((code) => code in LANGUAGES) ?? "en";
}

/** @param {string} code */
function formatsOf(code) {
  const time = /** @type {const} */ ({ hour: "numeric", minute: "2-digit" });
  return {
    plural: new Intl.PluralRules(code),
    number: new Intl.NumberFormat(code),
    percent: new Intl.NumberFormat(code, { style: "percent" }),
    money: new Intl.NumberFormat(code, {
      style: "currency",
      currency: "USD",
      currencyDisplay: "narrowSymbol",
      minimumFractionDigits: 2,
      maximumFractionDigits: 6,
    }),
    kilobytes: new Intl.NumberFormat(code, { style: "unit", unit: "kilobyte", maximumFractionDigits: 0 }),
    megabytes: new Intl.NumberFormat(code, { style: "unit", unit: "megabyte", maximumFractionDigits: 1 }),
    time: new Intl.DateTimeFormat(code, time),
    day: new Intl.DateTimeFormat(code, { month: "short", day: "numeric", ...time }),
    instant: new Intl.DateTimeFormat(code, { dateStyle: "medium", timeStyle: "medium" }),
  };
}

document.documentElement.lang = language;
say(document);
