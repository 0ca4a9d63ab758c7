// @ts-check
/** What a generation is doing and what its end means, in words: quality, advice, the receipt. */

import { clock, has, instant, money, number, seconds, t } from "./words.js";

/** From which correlation of lips and speech on a video counts as in sync; the engine's own gates. */
const GOOD = { r: 0.85, lag_ms: 40, over_chance: 0.3 };
const NEAR = { r: 0.7, lag_ms: 80, over_chance: 0.15 };

/** What is being done, by the stage that the service names; one that we do not know is rendering.
 * @param {string | null} stage */
export const nowText = (stage) => t(has(`now.${stage ?? "starting"}`) ? `now.${stage ?? "starting"}` : "now.rendering");

/** Which part of the order a failure is about. @type {[string, RegExp][]} */
const ADVICE = [
  ["advice.timed_out", /timed_out|deadline/],
  ["advice.portrait", /face|image/],
  ["advice.speech", /speech|audio/],
  ["advice.provider", /provider_rejected|input_(refused|flagged|too_hard)|too_much_for|option_|model_/],
];

/** What to change after a failure: the key of a sentence. @param {string | null} code */
export const adviceFor = (code) => ADVICE.find(([, codes]) => codes.test(code ?? ""))?.[0] ?? "advice";

/** How well the lips follow the speech, in words. @param {any} quality The receipt's figures. */
export function qualityOf(quality) {
  if (typeof quality?.sync_r !== "number") {
    return { verdict: "unmeasured", name: t("quality.none"), text: t("quality.none.text") };
  }
  const verdict = reaches(quality, GOOD) ? "sync" : reaches(quality, NEAR) ? "sync.near" : "sync.off";
  const lag_ms = quality.sync_lag_ms ?? 0;
  const lag = lag_ms && t(lag_ms < 0 ? "quality.lag.early" : "quality.lag.late", { ms: number(Math.abs(lag_ms)) });
  return {
    verdict: verdict.replace(".", "-"),
    name: t(`quality.${verdict}`),
    text: [t(`quality.${verdict}.text`), lag].filter(Boolean).join(" "),
  };
}

/** @param {any} quality @param {typeof GOOD} least */
const reaches = (quality, least) =>
  quality.sync_r >= least.r &&
  Math.abs(quality.sync_lag_ms ?? 0) <= least.lag_ms &&
  (quality.sync_over_chance ?? 1) >= least.over_chance;

/** The receipt as names and values. @param {any} receipt @returns {[string, string][]} */
export function receiptRows(receipt) {
  const { cost, credits } = receipt;
  const amount = money(cost.amount_micros);
  const length = seconds(cost.seconds);
  const took_s = (Date.parse(receipt.completed_at) - Date.parse(receipt.created_at)) / 1000;
  return /** @type {[string, string][]} */ ([
    [t("receipt.model"), receipt.model],
    [t("receipt.price"), cost.amount_micros ? t("receipt.sum", { seconds: length, rate: money(Number(cost.rate) * 1e6), amount }) : t("receipt.free", { seconds: length })],
    credits && [t("receipt.held"), amount],
    credits && receipt.captured_micros > 0 && [t("receipt.captured"), money(receipt.captured_micros)],
    credits?.state === "released" && [t("receipt.released"), amount],
    receipt.release_reason && [t("receipt.because"), t(`receipt.because.${receipt.release_reason}`)],
    receipt.attempts.length > 1 && [t("receipt.attempts"), number(receipt.attempts.length)],
    [t("receipt.ordered"), instant(receipt.created_at)],
    receipt.completed_at && [t("receipt.took"), clock(took_s)],
    receipt.notices.length && [t("receipt.notes"), receipt.notices.map((/** @type {any} */ notice) => notice.text).join(" ")],
  ]).filter(Boolean);
}
