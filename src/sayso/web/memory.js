// @ts-check
/** What this browser remembers of a person's choices; one that keeps nothing forgets them. */

/** @param {string} name @returns {string | null} */
export function recall(name) {
  try {
    return localStorage.getItem(`sayso-${name}`);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string} value */
export function remember(name, value) {
  try {
    localStorage.setItem(`sayso-${name}`, value);
  } catch {
    // The next visit asks again.
  }
}
