// @ts-check
/** Sound as numbers: cut it, write it as WAV, draw its outline. Nothing here touches the page. */

const HEADER_BYTES = 44;
const LOUDEST = 0x7fff;

/** The frames from one second to another. @param {Float32Array[]} channels @param {number} rate_hz
 * @param {number} from_s @param {number} to_s */
export function cut(channels, rate_hz, from_s, to_s) {
  const start = Math.round(from_s * rate_hz);
  // The length is rounded, not the end: ten seconds stay ten seconds wherever they begin.
  const end = start + Math.round((to_s - from_s) * rate_hz);
  return channels.map((samples) => samples.subarray(start, end));
}

/** A WAV file of 16 bits. @param {Float32Array[]} channels -1 to 1, of one length
 * @param {number} rate_hz @returns {ArrayBuffer} */
export function wavOf(channels, rate_hz) {
  const frames = channels[0].length;
  const width_bytes = 2 * channels.length;
  const file = new ArrayBuffer(HEADER_BYTES + frames * width_bytes);
  const view = new DataView(file);
  const words = [
    ["RIFF", 0], ["WAVEfmt ", 8], ["data", 36],
  ];
  for (const [word, at] of words) {
    [...String(word)].forEach((letter, index) => view.setUint8(Number(at) + index, letter.charCodeAt(0)));
  }
  view.setUint32(4, file.byteLength - 8, true);
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, channels.length, true);
  view.setUint32(24, rate_hz, true);
  view.setUint32(28, rate_hz * width_bytes, true);
  view.setUint16(32, width_bytes, true);
  view.setUint16(34, 16, true);
  view.setUint32(40, frames * width_bytes, true);
  let at = HEADER_BYTES;
  for (let frame = 0; frame < frames; frame++) {
    for (const samples of channels) {
      const loudness = Math.max(-1, Math.min(1, samples[frame]));
      view.setInt16(at, Math.round(loudness * LOUDEST), true);
      at += 2;
    }
  }
  return file;
}

/** The loudest sample of each of `count` parts, 0 to 1. @param {Float32Array} samples
 * @param {number} count */
export function outline(samples, count) {
  return Array.from({ length: count }, (_, part) => {
    const end = Math.floor(((part + 1) * samples.length) / count);
    let loudest = 0;
    for (let at = Math.floor((part * samples.length) / count); at < end; at++) {
      const loudness = Math.abs(samples[at]);
      if (loudness > loudest) loudest = loudness;
    }
    return loudest;
  });
}

/** One piece of many. @param {Float32Array[]} pieces */
export function joined(pieces) {
  const whole = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
