"use strict";
// One clip plays at a time. Without this script the page still plays: the audio elements are the browser's own.
(() => {
  const cells = [...document.querySelectorAll(".cell")];
  const audioOf = (cell) => cell.querySelector("audio");
  let current = cells[0];
  let playing = null;

  // Streamed files may not tell their duration; the manifest does.
  const secondsOf = (cell) => {
    const { duration } = audioOf(cell);
    return Number.isFinite(duration) && duration > 0 ? duration : Number(cell.dataset.seconds);
  };

  // One stop for the Tab key: the cell last visited. The arrows reach the others.
  const choose = (cell) => {
    current.tabIndex = -1;
    current = cell;
    current.tabIndex = 0;
  };

  const toggle = (cell) => {
    const audio = audioOf(cell);
    if (!audio.paused) return audio.pause();
    audio.play().catch((error) => {
      if (error.name !== "AbortError") fail(cell); // aborted: another clip was started first
    });
  };

  const fail = (cell) => {
    if (cell.querySelector(".failed")) return;
    const note = document.createElement("p");
    note.className = "failed";
    note.setAttribute("role", "alert");
    note.textContent = "cannot be played: is the file still where the page expects it?";
    cell.append(note);
  };

  const follow = () => {
    if (!playing) return;
    const share = Math.min(1, audioOf(playing).currentTime / secondsOf(playing));
    playing.querySelector(".cursor").style.left = `${100 * share}%`;
    requestAnimationFrame(follow);
  };

  const neighbour = (key) => {
    const place = cells.indexOf(current);
    if (key === "ArrowRight") return cells[place + 1];
    if (key === "ArrowLeft") return cells[place - 1];
    // Rows wrap to the width of the window, so up and down are a matter of where cells are.
    const here = current.getBoundingClientRect();
    const sign = key === "ArrowDown" ? 1 : -1;
    let best = null;
    let least = Infinity;
    for (const cell of cells) {
      const there = cell.getBoundingClientRect();
      const down = sign * (there.top - here.top);
      const distance = down * 1e4 + Math.abs(there.left - here.left);
      if (down > 8 && distance < least) [best, least] = [cell, distance];
    }
    return best;
  };

  document.addEventListener("play", (event) => {
    const cell = event.target.closest(".cell");
    for (const other of cells) {
      if (other === cell || !other.classList.contains("playing")) continue;
      other.classList.remove("playing");
      audioOf(other).pause();
      audioOf(other).currentTime = 0;
    }
    playing = cell;
    cell.classList.add("playing");
    choose(cell);
    follow();
  }, true);

  const stopped = (event) => {
    const cell = event.target.closest(".cell");
    if (event.type === "ended") cell.classList.remove("playing"); // a pause keeps its cursor
    if (cell === playing) playing = null;
  };
  document.addEventListener("pause", stopped, true);
  document.addEventListener("ended", stopped, true);
  document.addEventListener("error", (event) => {
    if (event.target.tagName === "AUDIO") fail(event.target.closest(".cell"));
  }, true);
  document.addEventListener("focusin", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) choose(cell);
  });

  document.addEventListener("click", (event) => {
    const picture = event.target.closest(".picture");
    const link = event.target.closest("a[download]");
    if (picture) {
      const cell = picture.closest(".cell");
      const box = picture.getBoundingClientRect();
      audioOf(cell).currentTime = Math.max(0, (event.clientX - box.left) / box.width) * secondsOf(cell);
      if (audioOf(cell).paused) toggle(cell);
    } else if (link && link.getAttribute("href") === "#") {
      link.href = audioOf(link.closest(".cell")).src; // a page that embeds its audio holds it only once
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    // The browser's own player and links keep their keys.
    const cell = event.target.matches(".cell") ? event.target : event.target === document.body ? playing : null;
    if (!cell) return;
    if (event.key === " ") {
      event.preventDefault();
      toggle(cell);
    } else if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      const next = neighbour(event.key);
      if (next) next.focus();
    }
  });

  cells.forEach((cell, i) => { cell.tabIndex = i ? -1 : 0; });
})();
