// @ts-check
/**
 * The page: choose a portrait and a speech, see the price, generate, watch, download.
 *
 *   order.js     the form            stage.js     the generation that is looked at
 *   history.js   what was before     service.js   requests and the stream of changes
 *
 * It uses only the public API.
 */

import { element, show } from "./dom.js";
import { listHistory, markShown, prepareHistory, updateHistory } from "./history.js";
import { offerModels, prepareOrder, quoteAgain } from "./order.js";
import { call, follow, isFinal } from "./service.js";
import { leaveStage, openStage, prepareStage, shownId, updateStage } from "./stage.js";

/** @param {string} id */
async function open(id) {
  history.pushState(null, "", `/?prediction_id=${encodeURIComponent(id)}`);
  await openStage(id);
  markShown();
}

async function openFromAddress() {
  const id = new URLSearchParams(location.search).get("prediction_id");
  if (id) await openStage(id);
  else leaveStage();
  markShown();
}

async function showCredits() {
  const credits = await call("/api/credits");
  element("available").textContent =
    `$${credits.available} available` + (credits.held_micros ? `, $${credits.held} held` : "");
}

/** Look again at everything that the stream would have told. */
async function refresh() {
  try {
    await Promise.all([listHistory(), showCredits(), ...(shownId() ? [openStage(shownId())] : [])]);
  } catch {
    // A service that starts again answers in a moment.
  }
}

/** @param {any} body */
async function onChange(body) {
  updateStage(body);
  const isNew = updateHistory(body);
  if (isNew || isFinal(body)) {
    await showCredits();
    quoteAgain();
  }
}

prepareOrder(async (id) => {
  await open(id);
  await refresh();
});
prepareStage(() => {
  history.pushState(null, "", "/");
  refresh();
});
prepareHistory(open);
addEventListener("popstate", openFromAddress);
try {
  const [models] = await Promise.all([call("/api/models"), showCredits(), listHistory()]);
  offerModels(models.models);
  await openFromAddress();
  follow({ onChange, onConnect: refresh, onSilence: refresh });
} catch (problem) {
  show("order-error", problem.message);
}
