// @ts-check
/** The microphone as numbers: what it heard, uncompressed, ready to be cut and written as WAV. */

import { joined } from "./wav.js";
import { t } from "./words.js";

/** Why there is no microphone or camera. @param {any} problem @param {"microphone" | "camera"} device */
export function mediaProblem(problem, device) {
  if (problem?.name === "SecurityError" || !navigator.mediaDevices) return t("microphone.insecure");
  const isThere = problem?.name === "NotAllowedError";
  if (device === "camera") return isThere ? t("camera.refused") : t("camera.none");
  return isThere ? t("microphone.refused") : t("microphone.none");
}

/**
 * Start to record. @param {(level: number, length_s: number) => void} onLevel Called some fifty times
 * a second with the loudest sample, 0 to 1, and how long it has been.
 * @returns {Promise<() => Promise<{channels: Float32Array[], rate_hz: number}>>} What ends it.
 */
export async function record(onLevel) {
  if (!navigator.mediaDevices) throw new DOMException("insecure", "SecurityError");
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: true, autoGainControl: true },
  });
  const context = new AudioContext();
  await context.audioWorklet.addModule("/web/recorder.worklet.js");
  const listener = new AudioWorkletNode(context, "listener", { numberOfOutputs: 0 });
  /** @type {Float32Array[]} */
  const pieces = [];
  let frames = 0;
  listener.port.onmessage = (event) => {
    const piece = /** @type {Float32Array} */ (event.data);
    pieces.push(piece);
    frames += piece.length;
    const loudest = piece.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    onLevel(loudest, frames / context.sampleRate);
  };
  context.createMediaStreamSource(stream).connect(listener);
  return async () => {
    stream.getTracks().forEach((track) => track.stop());
    const rate_hz = context.sampleRate;
    await context.close();
    return { channels: [joined(pieces)], rate_hz };
  };
}

/** The last few seconds of what the microphone hears.
 * @param {HTMLCanvasElement} canvas @param {number[]} levels */
export function drawLevels(canvas, levels) {
  const { clientWidth: width, clientHeight: height } = canvas;
  Object.assign(canvas, { width: width * devicePixelRatio, height: height * devicePixelRatio });
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.scale(devicePixelRatio, devicePixelRatio);
  pen.fillStyle = getComputedStyle(canvas).color;
  levels.slice(-Math.floor(width / 4)).forEach((level, index, shown) => {
    const tall = Math.max(2, level * height);
    pen.fillRect(width - (shown.length - index) * 4, (height - tall) / 2, 2, tall);
  });
}
