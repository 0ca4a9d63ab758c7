// @ts-check
/**
 * What is remembered of a person's choices; a browser that keeps nothing forgets them.
 *
 *   recall(), remember()        by this browser: the language, a key, notifications
 *   recallDraft(), keepDraft()  by this tab: what is being composed, which a reload finds again
 *
 * Of a draft the links to its inputs are kept, which work for a day. What was cut off was never
 * handed in: originals.js has the whole of it.
 *
 * @typedef {{imageUrl: string | null, audioUrl: string | null, imageName: string, audioName: string,
 *   imagePart: any, audioPart: any, model: string, prompt: string, options: Record<string, any>}} Draft
 */

/** @param {string} name @returns {string | null} */
export const recall = (name) => get("localStorage", name);

/** @param {string} name @param {string} value */
export const remember = (name, value) => set("localStorage", name, value);

/** @returns {Draft | null} */
export const recallDraft = () => JSON.parse(get("sessionStorage", "draft") ?? "null");

/** @param {Draft} draft */
export const keepDraft = (draft) => set("sessionStorage", "draft", JSON.stringify(draft));

/** @typedef {"localStorage" | "sessionStorage"} Where */

/** @param {Where} where @param {string} name */
function get(where, name) {
  try {
    return window[where].getItem(`sayso-${name}`);
  } catch {
    return null;
  }
}

/** @param {Where} where @param {string} name @param {string} value */
function set(where, name, value) {
  try {
    window[where].setItem(`sayso-${name}`, value);
  } catch {
    // The next visit asks again.
  }
}
