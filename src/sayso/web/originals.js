// @ts-check
/**
 * The whole picture and the whole recording of which only a part was handed in: kept by this browser
 * alone, so that a reload finds crop and handles where they were, with what they have cut off.
 *
 * There is one of each kind, until it is used no longer. Where a browser keeps no files, or another
 * tab has kept its own meanwhile, a reload finds what was handed in.
 */

const STORE = "originals";

/** Keep the whole of which a part has this link; null forgets it.
 * @param {string} kind @param {string | null} url @param {File | null} file */
export async function keepOriginal(kind, url, file) {
  await inStore("readwrite", (store) => (url ? store.put({ url, file }, kind) : store.delete(kind))).catch(() => {});
}

/** The whole of which a part has this link. @param {string} kind @param {string} url
 * @returns {Promise<File | null>} */
export async function recallOriginal(kind, url) {
  const kept = await inStore("readonly", (store) => store.get(kind)).catch(() => null);
  return kept?.url === url ? kept.file : null;
}

/** @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest} work @returns {Promise<any>} */
function inStore(mode, work) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("sayso", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const database = opening.result;
      const request = work(database.transaction(STORE, mode).objectStore(STORE));
      request.transaction?.addEventListener("abort", () => reject(request.error));
      request.transaction?.addEventListener("complete", () => resolve(request.result));
      database.close(); // Once that is done.
    };
  });
}
