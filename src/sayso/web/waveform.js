// @ts-check
/**
 * `<sayso-waveform>`: the outline of a recording, the part of it that is kept, and where it plays.
 *
 * The two handles are sliders: drag them, or use the arrow keys (with Shift for whole seconds).
 * A click between them seeks. It tells with the event `select` that the kept part has changed, and
 * with `seek` where to play.
 */

import { node } from "./dom.js";
import { outline } from "./wav.js";
import { clock, onLanguage, seconds, t } from "./words.js";

const BAR_PX = 3;
const GAP_PX = 2;
const STEP_S = 0.1;
const BIG_STEP_S = 1;
const SHORTEST_S = 0.2;

/** @typedef {{from_s: number, to_s: number}} Part */

export class Waveform extends HTMLElement {
  /** @type {Float32Array} */
  #samples = new Float32Array();
  #length_s = 0;
  #longest_s = Infinity;
  #from_s = 0;
  #to_s = 0;
  #at_s = /** @type {number | null} */ (null);
  #canvas = node("canvas");
  #handles = /** @type {Record<"from" | "to", HTMLElement>} */ ({ from: handle("from"), to: handle("to") });

  connectedCallback() {
    this.append(this.#canvas, this.#handles.from, this.#handles.to);
    for (const end of /** @type {("from" | "to")[]} */ (["from", "to"])) this.#listen(end);
    this.addEventListener("click", (event) => {
      if (event.target !== this.#canvas) return;
      const at_s = this.#secondOf(event.clientX);
      this.dispatchEvent(new CustomEvent("seek", { detail: Math.max(this.#from_s, Math.min(this.#to_s, at_s)) }));
    });
    new ResizeObserver(() => this.#draw()).observe(this);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    onLanguage(() => this.#describe());
  }

  /** The kept part. */
  get selection() {
    return { from_s: this.#from_s, to_s: this.#to_s, length_s: this.#to_s - this.#from_s };
  }

  /** Whether anything is cut off. */
  get isTrimmed() {
    return this.#from_s > 0 || this.#to_s < this.#length_s;
  }

  /** Show a recording, and keep a part of it, or all; but no more than may be.
   * @param {Float32Array} samples @param {number} length_s @param {Part | null} part */
  show(samples, length_s, part) {
    this.#samples = samples;
    this.#length_s = length_s;
    this.#at_s = null;
    const from_s = part?.from_s ?? 0;
    this.#put(from_s, Math.min(part?.to_s ?? length_s, length_s, from_s + this.#longest_s));
  }

  /** Keep no more than this; return whether something had to go. @param {number} longest_s */
  limit(longest_s) {
    this.#longest_s = longest_s;
    const isTooLong = this.#to_s - this.#from_s > longest_s;
    if (isTooLong) this.#put(this.#from_s, this.#from_s + longest_s);
    return isTooLong;
  }

  /** Show where it plays; null when it does not. @param {number | null} at_s */
  play(at_s) {
    this.#at_s = at_s;
    this.#draw();
  }

  /** @param {"from" | "to"} end */
  #listen(end) {
    const slider = this.#handles[end];
    slider.addEventListener("keydown", (event) => {
      const step_s = event.shiftKey ? BIG_STEP_S : STEP_S;
      const at_s = end === "from" ? this.#from_s : this.#to_s;
      const to = {
        ArrowLeft: at_s - step_s, ArrowDown: at_s - step_s,
        ArrowRight: at_s + step_s, ArrowUp: at_s + step_s,
        Home: 0, End: this.#length_s,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.#move(end, to);
    });
    slider.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      slider.focus();
      slider.setPointerCapture(event.pointerId);
      const move = (/** @type {PointerEvent} */ now) => this.#move(end, this.#secondOf(now.clientX));
      slider.addEventListener("pointermove", move);
      slider.addEventListener("lostpointercapture", () => slider.removeEventListener("pointermove", move), { once: true });
    });
  }

  /** Move one end; the other gives way where the part would become too long.
   * @param {"from" | "to"} end @param {number} at_s */
  #move(end, at_s) {
    // Tenths, but the end of the recording itself can be reached.
    const snapped_s = at_s >= this.#length_s ? this.#length_s : Math.round(at_s / STEP_S) * STEP_S;
    if (end === "from") {
      const from_s = Math.max(0, Math.min(snapped_s, this.#length_s - SHORTEST_S));
      const to_s = Math.max(this.#to_s, from_s + SHORTEST_S);
      this.#put(from_s, Math.min(to_s, from_s + this.#longest_s));
    } else {
      const to_s = Math.min(this.#length_s, Math.max(snapped_s, SHORTEST_S));
      const from_s = Math.min(this.#from_s, to_s - SHORTEST_S);
      this.#put(Math.max(from_s, to_s - this.#longest_s), to_s);
    }
  }

  /** @param {number} from_s @param {number} to_s */
  #put(from_s, to_s) {
    const isChange = from_s !== this.#from_s || to_s !== this.#to_s;
    this.#from_s = from_s;
    this.#to_s = to_s;
    this.#describe();
    this.#draw();
    if (isChange) this.dispatchEvent(new CustomEvent("select"));
  }

  #describe() {
    const places = /** @type {const} */ ([["from", this.#from_s], ["to", this.#to_s]]);
    for (const [end, at_s] of places) {
      const slider = this.#handles[end];
      slider.style.left = `${(100 * at_s) / (this.#length_s || 1)}%`;
      slider.setAttribute("aria-label", t(end === "from" ? "speech.start" : "speech.end"));
      slider.setAttribute("aria-valuemin", "0");
      slider.setAttribute("aria-valuemax", this.#length_s.toFixed(1));
      slider.setAttribute("aria-valuenow", at_s.toFixed(1));
      slider.setAttribute("aria-valuetext", at_s < 60 ? seconds(at_s, 1) : clock(at_s));
    }
  }

  /** @param {number} x In the window's pixels. */
  #secondOf(x) {
    const { left, width } = this.getBoundingClientRect();
    return ((x - left) / width) * this.#length_s;
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this;
    if (!width || !this.#length_s) return;
    const scale = devicePixelRatio;
    Object.assign(this.#canvas, { width: width * scale, height: height * scale });
    const pen = this.#canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(this);
    const kept = style.getPropertyValue("--kept");
    const cutOff = style.getPropertyValue("--cut");
    const bars = outline(this.#samples, Math.floor(width / (BAR_PX + GAP_PX)));
    const loudest = Math.max(0.02, ...bars);
    bars.forEach((level, index) => {
      const x = index * (BAR_PX + GAP_PX);
      const at_s = ((x + BAR_PX / 2) / width) * this.#length_s;
      const tall = Math.max(BAR_PX, (level / loudest) * (height - 14));
      pen.fillStyle = at_s >= this.#from_s && at_s <= this.#to_s ? kept : cutOff;
      pen.beginPath();
      pen.roundRect(x, (height - tall) / 2, BAR_PX, tall, BAR_PX / 2);
      pen.fill();
    });
    if (this.#at_s === null) return;
    pen.fillStyle = style.color;
    pen.fillRect((this.#at_s / this.#length_s) * width - 1, 0, 2, height);
  }
}

/** @param {"from" | "to"} end */
function handle(end) {
  const slider = node("span", { className: `handle ${end}`, tabIndex: 0, role: "slider" });
  return slider;
}

customElements.define("sayso-waveform", Waveform);
