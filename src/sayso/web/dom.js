// @ts-check
/** Small words for the page's elements. */

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/** @param {string} id @param {string} [content] */
export function show(id, content) {
  element(id).hidden = false;
  if (content !== undefined) element(id).textContent = content;
}

/** @param {...string} ids */
export function hide(...ids) {
  for (const id of ids) element(id).hidden = true;
}

/** @param {string} tag @param {Record<string, any>} [properties] @param {...(Node | string)} children
 * @returns {any} */
export function node(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** @param {string} word */
export const capitalised = (word) => word.charAt(0).toUpperCase() + word.slice(1);
