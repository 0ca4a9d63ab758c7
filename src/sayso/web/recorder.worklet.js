// @ts-check
/** Runs beside the page: passes on what the microphone hears, in pieces of a fiftieth of a second. */

const PIECE_FRAMES = 1024;

// @ts-ignore (an AudioWorkletGlobalScope, which the checker does not know)
class Listener extends AudioWorkletProcessor {
  #piece = new Float32Array(PIECE_FRAMES);
  #filled = 0;

  /** @param {Float32Array[][]} inputs */
  process([[samples]]) {
    if (!samples) return true;
    this.#piece.set(samples, this.#filled);
    this.#filled += samples.length;
    if (this.#filled === PIECE_FRAMES) {
      // @ts-ignore
      this.port.postMessage(this.#piece);
      this.#piece = new Float32Array(PIECE_FRAMES);
      this.#filled = 0;
    }
    return true;
  }
}

// @ts-ignore
registerProcessor("listener", Listener);
