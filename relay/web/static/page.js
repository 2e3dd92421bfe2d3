// Keeps the cells of an open page up to date. It sets text only: nothing of a response ever becomes markup.
"use strict";
(() => {
  if (document.querySelector("[data-running]")) setTimeout(() => location.reload(), 1500);
  const container = document.querySelector("[data-live]");
  const status = document.getElementById("live");
  if (!container || !window.EventSource) return;
  const source = new EventSource(container.dataset.live);
  source.onmessage = (event) => {
    const changed = JSON.parse(event.data);
    for (const cell of document.querySelectorAll("[data-cell]")) {
      const text = changed[cell.dataset.cell];
      if (text === undefined || cell.textContent === text) continue;
      cell.textContent = text;
    }
    for (const cell of document.querySelectorAll("[data-tone]")) {
      const tone = changed[cell.dataset.tone];
      if (tone !== undefined) cell.className = `state ${tone}`;
    }
    for (const link of document.querySelectorAll("[data-code]")) {
      const code = changed[link.dataset.code];
      if (code === undefined) continue;
      link.textContent = code;
      link.href = `/run-book/${encodeURIComponent(code)}`;
      link.hidden = !code;
    }
    if (status) status.textContent = "Live updates are on.";
  };
  source.onerror = () => {
    if (status) status.textContent = "The relay does not answer; this is its last known state.";
  };
  addEventListener("pagehide", () => source.close());
})();
