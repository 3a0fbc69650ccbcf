"use strict";
// Clips to keep: marked by whoever listens, remembered by this browser, saved as a list for `audio-gen page --only`.
(() => {
  const cells = [...document.querySelectorAll(".cell[data-file]")];
  if (!cells.length) return;
  const place = `audio-gen: kept of ${location.pathname}`;
  const kept = new Set(remembered());

  function remembered() {
    try {
      return JSON.parse(localStorage.getItem(place)) ?? [];
    } catch {
      return []; // a browser that remembers nothing
    }
  }

  const remember = () => {
    try {
      localStorage.setItem(place, JSON.stringify([...kept]));
    } catch { /* then the list lasts as long as the page is open */ }
  };

  const made = (tag, settings, ...within) => {
    const element = Object.assign(document.createElement(tag), settings);
    element.append(...within);
    return element;
  };

  const buttons = new Map(cells.map((cell) => {
    const button = made("button", { type: "button", className: "keep", title: "keep (k)" });
    button.addEventListener("click", () => turn(cell));
    cell.querySelector(".picture").after(button);
    return [cell, button];
  }));

  const count = made("span", {});
  const only = made("input", { type: "checkbox" });
  const save = made("button", { type: "button" }, "Save the list");
  const bar = made("aside", { className: "kept", hidden: true }, count, made("label", {}, only, " Show no others"), save);
  bar.setAttribute("aria-label", "Kept clips");
  document.body.append(bar);

  function turn(cell) {
    const { file } = cell.dataset;
    if (!kept.delete(file)) kept.add(file);
    remember();
    show();
  }

  function show() {
    const here = cells.filter((cell) => kept.has(cell.dataset.file));
    for (const [cell, button] of buttons) {
      const is = kept.has(cell.dataset.file);
      button.textContent = is ? "★ kept" : "☆ keep";
      button.setAttribute("aria-pressed", is);
      cell.closest("td").hidden = only.checked && !is;
    }
    for (const row of document.querySelectorAll(".clips tr:not(.name, .real)")) {
      row.hidden = only.checked && !row.querySelector("td:not([hidden])");
    }
    for (const group of document.querySelectorAll(".clips tbody")) {
      group.hidden = only.checked && !group.querySelector('.keep[aria-pressed="true"]');
    }
    count.textContent = `${here.length} of ${cells.length} kept`;
    bar.hidden = !here.length && !only.checked;
  }

  only.addEventListener("change", show);
  save.addEventListener("click", () => {
    const list = cells.map((cell) => cell.dataset.file).filter((file) => kept.has(file));
    const href = URL.createObjectURL(new Blob([`${list.join("\n")}\n`], { type: "text/plain" }));
    made("a", { href, download: "kept.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "k" || event.ctrlKey || event.altKey || event.metaKey) return;
    const cell = document.activeElement.closest?.(".cell") ?? document.querySelector(".cell.playing");
    if (buttons.has(cell)) turn(cell);
  });
  show();
})();
