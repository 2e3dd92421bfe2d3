// Small helps that the page works without: local time, copying, finding a tenant, choosing all messages of a list.
"use strict";
(() => {
  const zone = Intl.DateTimeFormat(undefined, { timeZoneName: "short" });
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const named = zone.formatToParts(new Date()).find((part) => part.type === "timeZoneName")?.value ?? "here";
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const words = `${local.format(at)} ${named}`;
    if (at.getTimezoneOffset() === 0) continue;
    time.title = `${time.dateTime}, ${words}`;
    if (time.textContent.trim() === time.dateTime) {
      const beside = document.createElement("span");
      beside.className = "quiet local";
      beside.textContent = ` (${words})`;
      time.after(beside);
    }
  }
  for (const place of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${place.dataset.copy}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(place.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    place.after(button);
  }
  const search = document.querySelector("input[data-finds]");
  search?.addEventListener("input", () => {
    const wanted = search.value.trim().toUpperCase();
    for (const row of document.querySelectorAll("tr[data-name]")) {
      row.hidden = wanted !== "" && !row.dataset.name.includes(wanted);
    }
  });
  const all = document.querySelector("input[data-all]");
  const boxes = [...document.querySelectorAll("input[name=id][type=checkbox]")];
  if (all) {
    all.closest("label").hidden = false;
    all.addEventListener("change", () => boxes.forEach((box) => (box.checked = all.checked)));
  }
})();
