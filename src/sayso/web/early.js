// @ts-check
/**
 * Before anything is painted: what a generation's address shows, or the inputs that this tab had,
 * comes from the service. The page waits for it hidden (style.css says how long at most), because
 * an empty form that gives way to it would jump.
 */

{
  let draft = "";
  try {
    draft = sessionStorage.getItem("sayso-draft") ?? "";
  } catch {
    // A browser that keeps nothing has nothing to wait for.
  }
  const isAwaited = new URLSearchParams(location.search).has("prediction_id") || /Url":"/.test(draft);
  document.documentElement.classList.toggle("awaited", isAwaited);
}
