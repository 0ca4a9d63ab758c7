// @ts-check
/**
 * The stream of changes: one for all tabs of this browser, polling when it fails.
 *
 * A browser opens six connections to a server at most (HTTP/1.1), and a stream keeps one: with one
 * in each tab, the seventh tab would wait for ever. So the tab that holds a lock has the stream and
 * tells the others what comes; when it closes, another one takes the lock. Without locks, which a
 * plain-http page on a LAN does not have, each tab has a stream of its own.
 *
 * The stream tells of what there is. What was deleted, the tab that did it tells the others.
 */

const POLL_MS = 5000;
/** A stream that ends because the service starts again is back before anybody needs to know. */
const SILENT_MS = 1500;
const LOCK = "sayso-stream";

/** Between the tabs of this browser. */
const channel = window.BroadcastChannel && new BroadcastChannel(LOCK);

/** Tell the other tabs that a generation is deleted. @param {string} id */
export const tellDeleted = (id) => channel?.postMessage({ kind: "deleted", id });

/**
 * Tell of every generation that changes or is deleted in another tab, of each new connection (what
 * happened before it may have been missed), and of silence: at once, and then every few seconds.
 *
 * @typedef {{onChange: (body: any) => void, onDeleted: (id: string) => void,
 *   onConnect: () => void, onSilence: () => void}} Hooks
 * @param {Hooks} hooks
 */
export function follow(hooks) {
  const followed = new Followed(hooks);
  if (channel) channel.onmessage = (event) => followed.take(event.data);
  if (!channel || !navigator.locks) return listen(followed.take);
  navigator.locks.request(LOCK, () => {
    const say = (/** @type {Message} */ message) => {
      followed.take(message);
      channel.postMessage(message);
    };
    // Between the last holder's stream and this one something may have been missed.
    say({ kind: "silent" });
    const state = listen(say);
    // A tab that opens later asks how things stand.
    channel.onmessage = (event) => (event.data.kind === "ask" ? channel.postMessage(state()) : followed.take(event.data));
    return new Promise(() => {}); // Held until the tab is gone.
  });
  channel.postMessage({ kind: "ask" });
}

/** @typedef {{kind: "open" | "silent" | "ask"} | {kind: "change", body: any} | {kind: "deleted", id: string}} Message */

/** What this tab knows of the stream, wherever that is. */
class Followed {
  /** @param {Hooks} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    this.isOpen = false;
    this.isTold = false;
    this.since_ms = performance.now();
    setInterval(() => this.look(), 500);
    addEventListener("offline", () => this.take({ kind: "silent" }));
  }

  /** @param {Message} message */
  take = (message) => {
    if (message.kind === "change") this.hooks.onChange(message.body);
    if (message.kind === "deleted") this.hooks.onDeleted(message.id);
    // A stream that has just come may end without a word when the network has gone.
    if (message.kind === "open" && !this.isOpen && navigator.onLine) {
      this.isOpen = true;
      this.isTold = false;
      this.hooks.onConnect();
    }
    if (message.kind === "silent" && this.isOpen) {
      this.isOpen = false;
      this.since_ms = performance.now();
    }
  };

  look() {
    const silent_ms = performance.now() - this.since_ms;
    if (this.isOpen || silent_ms < (this.isTold ? POLL_MS : SILENT_MS)) return;
    this.isTold = true;
    this.since_ms = performance.now();
    this.hooks.onSilence();
  }
}

/** Hold a stream open and say what comes; return a function that says how it stands.
 * @param {(message: Message) => void} say @returns {() => Message} */
function listen(say) {
  let stream = open();
  // One that the server refused does not come back by itself.
  setInterval(() => {
    if (stream.readyState === EventSource.CLOSED) stream = open();
  }, POLL_MS);
  // Not all browsers notice at once that the way to the network is gone, or back.
  addEventListener("online", () => {
    stream.close();
    stream = open();
  });
  return () => ({ kind: stream.readyState === EventSource.OPEN ? "open" : "silent" });

  function open() {
    const made = new EventSource("/api/events");
    made.onopen = () => say({ kind: "open" });
    made.onmessage = (event) => say({ kind: "change", body: JSON.parse(event.data) });
    made.onerror = () => say({ kind: "silent" });
    return made;
  }
}
