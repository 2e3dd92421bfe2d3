// Keeps the cells of an open page up to date, as text, and the progress of an action, as the server draws it.
"use strict";
(() => {
  const refresh = async () => {
    const part = document.querySelector("[data-part]");
    if (!part?.querySelector("[data-running]")) return;
    const answer = await fetch(location.href, { redirect: "error" }).catch(() => null);
    const next = answer?.ok && new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-part]");
    if (next) {
      const focused = [...part.querySelectorAll("a, button")].indexOf(document.activeElement);
      part.replaceChildren(...next.childNodes);
      part.querySelectorAll("a, button")[focused]?.focus({ preventScroll: true });
    }
    setTimeout(refresh, 1500);
  };
  setTimeout(refresh, 1500);
  const container = document.querySelector("[data-live]");
  const status = document.getElementById("live");
  if (!container || !window.EventSource) return;
  const silent = document.getElementById("silent");
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
    silent.hidden = true;
    silent.removeAttribute("role");
  };
  source.onerror = () => {
    if (status) status.textContent = "";
    if (!silent.hidden) return;
    const since = new Date().toLocaleTimeString();
    silent.textContent = `The relay does not answer since ${since} (your time). What you see is its last known state.`;
    silent.setAttribute("role", "alert");
    silent.hidden = false;
  };
  addEventListener("pagehide", () => source.close());
})();
