// Keeps the cells of an open page up to date. Text alone: nothing of an answer ever becomes markup.
"use strict";
(() => {
  if (document.querySelector("[data-running]")) setTimeout(() => location.reload(), 1500);
  const place = document.querySelector("[data-live]");
  const said = document.getElementById("live");
  if (!place || !window.EventSource) return;
  const source = new EventSource(place.dataset.live);
  source.onmessage = (event) => {
    const changed = JSON.parse(event.data);
    for (const cell of document.querySelectorAll("[data-cell]")) {
      const text = changed[cell.dataset.cell];
      if (text === undefined || cell.textContent === text) continue;
      cell.textContent = text;
      if ("state" in cell.dataset) cell.className = `state ${text}`;
    }
    if (said) said.textContent = "Kept up to date.";
  };
  source.onerror = () => {
    if (said) said.textContent = "The relay does not answer; this is how it was.";
  };
  addEventListener("pagehide", () => source.close());
})();
