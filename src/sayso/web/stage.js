// @ts-check
/** The stage: the one generation that is looked at, from the first percent to the download. */

import { capitalised, element, hide, node, show } from "./dom.js";
import { portraitPicture } from "./order.js";
import { call, check, isFinal } from "./service.js";

/** The check body that is shown. */
let shown = null;

export const shownId = () => shown?.id ?? null;

/** @param {() => void} onDeleted */
export function prepareStage(onDeleted) {
  element("copy").addEventListener("click", copy);
  element("cancel").addEventListener("click", () => act("cancel", "POST"));
  element("delete").addEventListener("click", async () => {
    if (await act("", "DELETE")) {
      leaveStage();
      onDeleted();
    }
  });
  element("receipt-fold").addEventListener("toggle", () => element("receipt-fold").open && showReceipt());
}

/** Show a generation. @param {string} id */
export async function openStage(id) {
  try {
    render(await check(id));
  } catch (problem) {
    leaveStage(problem.message);
  }
}

/** Take what the stream brings. @param {any} body */
export function updateStage(body) {
  if (shown?.id === body.id) render(body);
}

/** @param {string} [because] */
export function leaveStage(because) {
  shown = null;
  hide("generation");
  show("empty", because);
}

/** @param {any} body */
function render(body) {
  const isOther = shown?.id !== body.id;
  shown = body;
  hide("empty");
  show("generation");
  const done = isFinal(body);
  element("prediction-id").textContent = body.prediction_id;
  element("badge").hidden = done;
  element("bar-row").hidden = done;
  element("bar").value = body.progress.percent;
  element("stage-text").textContent = capitalised(body.progress.stage || body.status);
  element("percent").textContent =
    body.progress.basis === "estimated" ? `about ${body.progress.percent} %` : `${body.progress.percent} %`;
  renderPicture(body, isOther);
  element("download").hidden = body.status !== "succeeded";
  element("cancel").hidden = done;
  element("delete").hidden = !done;
  element("again").hidden = !done || body.status === "succeeded";
  element("receipt-fold").hidden = !done;
  if (isOther) element("receipt-fold").open = false;
  element("outcome").className = done ? body.status : "";
  element("outcome").textContent = sentence(body);
}

/** @param {any} body @param {boolean} isOther */
function renderPicture(body, isOther) {
  const video = element("video");
  const still = element("still");
  const succeeded = body.status === "succeeded";
  video.hidden = !succeeded;
  if (succeeded && video.dataset.of !== body.id) {
    video.src = body.output;
    video.dataset.of = body.id;
  } else if (!succeeded && video.dataset.of) {
    video.removeAttribute("src");
    video.load();
    delete video.dataset.of;
  }
  if (succeeded) {
    element("download").href = `/api/generations/${encodeURIComponent(body.id)}/video`;
    element("download").download = `${body.id}.mp4`;
  }
  if (isOther) still.src = portraitPicture() ?? "";
  still.hidden = succeeded || !still.getAttribute("src");
}

/** What happened, and what it means for the credits. @param {any} body */
function sentence(body) {
  const amount = body.credits ? `$${body.credits.amount}` : "";
  switch (body.status) {
    case "succeeded":
      return amount ? `Done. ${amount} captured.` : "Done.";
    case "failed":
      return `${body.error} ${amount ? `${amount} released: you pay nothing.` : ""}`;
    case "canceled":
      return `Canceled. ${amount ? `${amount} released: you pay nothing.` : ""}`;
    default:
      return amount ? `${amount} held. You may close this page.` : "You may close this page.";
  }
}

/** @param {string} verb @param {string} method */
async function act(verb, method) {
  try {
    await call(`/api/generations/${encodeURIComponent(shown.id)}${verb && `/${verb}`}`, { method });
    return true;
  } catch (problem) {
    element("outcome").textContent = problem.message;
    return false;
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText(shown.prediction_id);
    element("copy").textContent = "Copied";
  } catch {
    // Plain http on a LAN has no clipboard: mark the text, so that Ctrl+C does it.
    getSelection()?.selectAllChildren(element("prediction-id"));
  }
  setTimeout(() => (element("copy").textContent = "Copy"), 2000);
}

async function showReceipt() {
  const receipt = await call(`/api/generations/${encodeURIComponent(shown.id)}/receipt`);
  const rows = {
    Model: receipt.model,
    Price: `${receipt.cost.seconds} s × $${receipt.cost.rate} = $${receipt.cost.amount}`,
    Captured: `$${receipt.captured}`,
    ...(receipt.release_reason && { "Released because": receipt.release_reason }),
    Attempts: String(receipt.attempts.length),
    Made: new Date(receipt.created_at).toLocaleString(),
    ...(receipt.notices.length && { Notes: receipt.notices.map((notice) => notice.text).join(" ") }),
  };
  element("receipt").replaceChildren(
    ...Object.entries(rows).flatMap(([name, value]) => [node("dt", {}, name), node("dd", {}, value)]),
  );
}
