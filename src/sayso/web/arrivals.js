// @ts-check
/** Files that are dropped or pasted anywhere on the page go where they belong. */

/** @param {{picture: (file: File) => void, sound: (file: File) => void, folder: () => void}} takers */
export function takeArrivals({ picture, sound, folder }) {
  /** @param {Iterable<File>} files */
  const take = (files) => {
    for (const file of files) {
      // Systems name few recordings as such and some videos not at all; the service looks inside.
      if (file.type.startsWith("image/") || /\.(hei[cf]|avif|webp|tiff?|bmp)$/i.test(file.name)) picture(file);
      else sound(file);
    }
  };
  const isOfFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!isOfFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
  addEventListener("drop", (event) => {
    if (!isOfFiles(event)) return;
    event.preventDefault();
    document.body.classList.remove("over");
    const items = [...(event.dataTransfer?.items ?? [])];
    if (items.some((item) => item.webkitGetAsEntry()?.isDirectory)) folder();
    else take(event.dataTransfer?.files ?? []);
  });
  addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData ?? {};
    // What is copied from a document is text, and a picture of it.
    const isText = types?.includes("text/plain") && /** @type {Element} */ (event.target).matches("textarea, input");
    if (!files?.length || isText) return;
    event.preventDefault();
    take(files);
  });
}
