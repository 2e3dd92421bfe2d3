// Keeps the charts of an open page fresh: the server draws them, and the page takes the drawing over as it is.
"use strict";
(() => {
  const EVERY_MS = 20000;
  const FOCUSABLE = "summary, [tabindex]";
  const refresh = async (place) => {
    const answer = await fetch(place.dataset.fresh, { redirect: "error" });
    if (!answer.ok) return;
    const drawn = new DOMParser().parseFromString(await answer.text(), "text/html").body;
    const [before, after] = [place.querySelector("details"), drawn.querySelector("details")];
    if (before && after) after.open = before.open;
    const focused = [...place.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
    place.replaceChildren(...drawn.childNodes);
    place.querySelectorAll(FOCUSABLE)[focused]?.focus({ preventScroll: true });
  };
  setInterval(() => {
    if (document.hidden) return;
    for (const place of document.querySelectorAll("[data-fresh]")) refresh(place).catch(() => {});
  }, EVERY_MS);
})();
