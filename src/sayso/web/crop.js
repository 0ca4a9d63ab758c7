// @ts-check
/** Cropping a portrait: a dialog with four edges to move by pointer or arrow keys. */

import { moved, whole, withEdge } from "./box.js";
import { node } from "./dom.js";
import { t } from "./words.js";

/** @type {import("./box.js").Edge[]} */
const EDGES = ["left", "top", "right", "bottom"];
const STEP_SHARE = 0.01;
const BIG_STEP_SHARE = 0.1;
const JPEG_QUALITY = 0.95;

/** Ask which part to keep; null when the person changes their mind.
 * @param {Blob} picture @param {import("./box.js").Box | null} before
 * @returns {Promise<(import("./box.js").Box & {isWhole: boolean}) | null>} */
export async function askForCrop(picture, before) {
  const bitmap = await createImageBitmap(picture);
  const size = { width: bitmap.width, height: bitmap.height };
  const canvas = node("canvas", size);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  const frame = new CropFrame(canvas, size, before ?? whole(size.width, size.height));

  const title = node("h2", { id: "crop-title" }, t("crop.title"));
  const use = node("button", { type: "submit", className: "primary", value: "use" }, t("crop.use"));
  const all = node("button", { type: "button" }, t("crop.whole"));
  const stop = node("button", { type: "submit", className: "quiet", value: "" }, t("close"));
  all.addEventListener("click", () => frame.put(whole(size.width, size.height)));
  const form = node("form", { method: "dialog" },
    title, frame.root, frame.label, node("div", { className: "tools" }, use, all, stop));
  const dialog = node("dialog", { className: "wide" }, form);
  dialog.setAttribute("aria-labelledby", "crop-title");
  document.body.append(dialog);
  dialog.showModal();
  frame.edges.left.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      const { box } = frame;
      const isWhole = box.right - box.left === size.width && box.bottom - box.top === size.height;
      resolve(dialog.returnValue === "use" ? { ...box, isWhole } : null);
    });
  });
}

/** That part as a file. @param {File} picture @param {import("./box.js").Box} box
 * @returns {Promise<Blob>} */
export async function cropped(picture, box) {
  const bitmap = await createImageBitmap(picture);
  const canvas = node("canvas", { width: box.right - box.left, height: box.bottom - box.top });
  canvas.getContext("2d").drawImage(bitmap, -box.left, -box.top);
  bitmap.close();
  // What may be transparent stays so.
  const type = picture.type === "image/jpeg" ? "image/jpeg" : "image/png";
  return new Promise((resolve) => canvas.toBlob(resolve, type, JPEG_QUALITY));
}

class CropFrame {
  /** @param {HTMLCanvasElement} canvas @param {{width: number, height: number}} size
   * @param {import("./box.js").Box} box */
  constructor(canvas, size, box) {
    this.size = size;
    this.box = box;
    this.edges = /** @type {Record<string, HTMLElement>} */ ({});
    this.window = node("div", { className: "crop-window" });
    for (const edge of EDGES) this.window.append(this.#edge(edge));
    for (const corner of ["left top", "right top", "left bottom", "right bottom"]) {
      const handle = node("span", { className: "crop-corner" });
      handle.dataset.corner = corner;
      this.#drag(handle, (x, y, start) => {
        for (const edge of /** @type {import("./box.js").Edge[]} */ (corner.split(" "))) {
          const by = edge === "left" || edge === "right" ? x : y;
          this.put(withEdge(this.box, edge, start[edge] + by, this.size));
        }
      });
      this.window.append(handle);
    }
    this.root = node("div", { className: "crop-frame" }, canvas, this.window);
    this.root.style.setProperty("--ratio", String(size.width / size.height));
    this.label = node("p", { className: "hint clock" });
    this.#drag(this.window, (x, y, start) => this.put(moved(start, x, y, this.size)));
    this.put(box);
  }

  /** @param {import("./box.js").Box} box */
  put(box) {
    this.box = box;
    const { width, height } = this.size;
    const style = this.window.style;
    style.left = `${(100 * box.left) / width}%`;
    style.top = `${(100 * box.top) / height}%`;
    style.width = `${(100 * (box.right - box.left)) / width}%`;
    style.height = `${(100 * (box.bottom - box.top)) / height}%`;
    for (const edge of EDGES) {
      const slider = this.edges[edge];
      slider.setAttribute("aria-valuenow", String(box[edge]));
      slider.setAttribute("aria-valuetext", `${box[edge]} px`);
    }
    this.label.textContent = t("crop.size", { width: box.right - box.left, height: box.bottom - box.top });
  }

  /** @param {import("./box.js").Edge} edge */
  #edge(edge) {
    const isUpright = edge === "left" || edge === "right";
    const length = isUpright ? this.size.width : this.size.height;
    const slider = node("span", { className: "crop-edge", tabIndex: 0, role: "slider" });
    slider.dataset.edge = edge;
    const facts = {
      "aria-label": t(`crop.${edge}`),
      "aria-valuemin": 0,
      "aria-valuemax": length,
      "aria-orientation": isUpright ? "horizontal" : "vertical",
    };
    for (const [name, value] of Object.entries(facts)) slider.setAttribute(name, String(value));
    slider.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      const step = Math.ceil(length * (event.shiftKey ? BIG_STEP_SHARE : STEP_SHARE));
      this.put(withEdge(this.box, edge, this.box[edge] + way * step, this.size));
    });
    this.#drag(slider, (x, y, start) =>
      this.put(withEdge(this.box, edge, start[edge] + (isUpright ? x : y), this.size)));
    this.edges[edge] = slider;
    return slider;
  }

  /** Tell how far a pointer has moved, in the picture's pixels.
   * @param {HTMLElement} handle @param {(x: number, y: number, start: import("./box.js").Box) => void} onMove */
  #drag(handle, onMove) {
    handle.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      event.stopPropagation();
      handle.setPointerCapture(event.pointerId);
      const start = this.box;
      const scale = this.size.width / this.root.clientWidth;
      const move = (/** @type {PointerEvent} */ now) =>
        onMove((now.clientX - event.clientX) * scale, (now.clientY - event.clientY) * scale, start);
      handle.addEventListener("pointermove", move);
      handle.addEventListener("lostpointercapture", () => handle.removeEventListener("pointermove", move), { once: true });
    });
  }
}
