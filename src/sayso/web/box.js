// @ts-check
/**
 * The part of a picture that is kept, in its pixels. Nothing here touches the page.
 *
 * @typedef {{left: number, top: number, right: number, bottom: number}} Box
 * @typedef {"left" | "top" | "right" | "bottom"} Edge
 */

/** The engine refuses smaller faces; a smaller picture could hold none. */
export const SMALLEST_PX = 96;

/** A face fills this share of what is cropped around it. */
const FACE_SHARE = 0.42;
/** Of the space above and below a face, this much is above: shoulders say more than a ceiling. */
const ABOVE_SHARE = 0.45;

/** @param {number} width @param {number} height @returns {Box} */
export const whole = (width, height) => ({ left: 0, top: 0, right: width, bottom: height });

/** Move one edge, which stops at the border and before the opposite edge.
 * @param {Box} box @param {Edge} edge @param {number} to @param {{width: number, height: number}} picture
 * @returns {Box} */
export function withEdge(box, edge, to, picture) {
  const limits = {
    left: [0, box.right - SMALLEST_PX],
    right: [box.left + SMALLEST_PX, picture.width],
    top: [0, box.bottom - SMALLEST_PX],
    bottom: [box.top + SMALLEST_PX, picture.height],
  };
  const [least, most] = limits[edge];
  return { ...box, [edge]: Math.round(Math.max(least, Math.min(most, to))) };
}

/** Move the whole box, which keeps its size. @param {Box} box @param {number} x @param {number} y
 * @param {{width: number, height: number}} picture @returns {Box} */
export function moved(box, x, y, picture) {
  const width = box.right - box.left;
  const height = box.bottom - box.top;
  const left = Math.round(Math.max(0, Math.min(picture.width - width, box.left + x)));
  const top = Math.round(Math.max(0, Math.min(picture.height - height, box.top + y)));
  return { left, top, right: left + width, bottom: top + height };
}

/** A square around a face, as large as the picture lets it be.
 * @param {{x: number, y: number, width: number, height: number}} face
 * @param {{width: number, height: number}} picture @returns {Box} */
export function aroundFace(face, picture) {
  const wanted = Math.max(face.width, face.height) / FACE_SHARE;
  const side = Math.round(Math.min(wanted, picture.width, picture.height));
  const left = face.x + face.width / 2 - side / 2;
  const top = face.y + face.height / 2 - side / 2 + (0.5 - ABOVE_SHARE) * (side - face.height);
  return moved({ left: 0, top: 0, right: side, bottom: side }, left, top, picture);
}

/** Whether that leaves enough of a picture out to be worth a button.
 * @param {Box} box @param {{width: number, height: number}} picture */
export const isMuchSmaller = (box, picture) =>
  (box.right - box.left) * (box.bottom - box.top) < 0.6 * picture.width * picture.height;
