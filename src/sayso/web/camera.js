// @ts-check
/** A photo from the camera: a dialog with what it sees. */

import { node } from "./dom.js";
import { mediaProblem } from "./recorder.js";
import { t } from "./words.js";

const JPEG_QUALITY = 0.95;

/** @returns {Promise<File | null>} null when nothing was taken. */
export async function takePhoto() {
  const picture = node("video", { autoplay: true, muted: true, playsInline: true });
  const take = node("button", { type: "button", className: "primary", disabled: true }, t("camera.take"));
  const stop = node("button", { type: "button", className: "quiet" }, t("close"));
  const hint = node("p", { className: "hint" }, t("camera.hint"));
  const title = node("h2", { id: "camera-title" }, t("camera.title"));
  hint.setAttribute("role", "status");
  const dialog = node("dialog", { className: "wide camera" }, title,
    node("div", { className: "camera-view" }, picture), hint, node("div", { className: "tools" }, take, stop));
  dialog.setAttribute("aria-labelledby", "camera-title");
  document.body.append(dialog);
  dialog.showModal();
  let stream = /** @type {MediaStream | null} */ (null);
  /** @type {Promise<File | null>} */
  const ended = new Promise((resolve) => {
    take.addEventListener("click", async () => {
      const photo = await still(picture);
      resolve(photo);
      dialog.close();
    });
    stop.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => resolve(null));
  });
  ended.finally(() => {
    stream?.getTracks().forEach((track) => track.stop());
    dialog.remove();
  });
  try {
    stream = await openCamera();
    if (!dialog.open) stream.getTracks().forEach((track) => track.stop());
    picture.srcObject = stream;
    await picture.play();
    take.disabled = false;
    take.focus();
  } catch (problem) {
    hint.textContent = mediaProblem(problem, "camera");
    hint.classList.add("error");
  }
  return ended;
}

function openCamera() {
  if (!navigator.mediaDevices) throw new DOMException("insecure", "SecurityError");
  return navigator.mediaDevices.getUserMedia({
    video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 960 } },
  });
}

/** @param {HTMLVideoElement} picture @returns {Promise<File>} */
async function still(picture) {
  const canvas = node("canvas", { width: picture.videoWidth, height: picture.videoHeight });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
  return new File([blob], "photo.jpg", { type: "image/jpeg" });
}
