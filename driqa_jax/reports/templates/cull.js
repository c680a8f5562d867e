"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const CHOICE = data.columns.indexOf("choice");
const groups = [...document.querySelectorAll(".group")];
const summary = document.querySelector(".tools output");
const help = document.querySelector("dialog");
const KEY = "driqa-cull-" + data.key;
const proposed = data.rows.map((row) => row[CHOICE]);

// A browser may refuse storage to local files; the choice then lives as long as the page.
const store = {
  read() {
    try {
      return JSON.parse(localStorage.getItem(KEY)) || {};
    } catch {
      return {};
    }
  },
  write(value) {
    try {
      localStorage.setItem(KEY, JSON.stringify(value));
    } catch {}
  },
};

const rowOf = (photo) => data.rows[photo.dataset.row];

function show(photo) {
  const choice = rowOf(photo)[CHOICE];
  photo.classList.toggle("keep", choice === "keep");
  photo.classList.toggle("reject", choice === "reject");
  for (const button of photo.querySelectorAll("[data-choice]"))
    button.setAttribute("aria-pressed", button.dataset.choice === choice);
}

function summarize() {
  const count = { keep: 0, reject: 0, "": 0 };
  for (const row of data.rows) count[row[CHOICE]]++;
  const several = groups.filter((group) => group.dataset.group !== "0");
  const accepted = several.filter((group) => group.classList.contains("accepted")).length;
  summary.textContent =
    `${accepted} of ${several.length} groups accepted · ${count.keep} keep · ${count.reject} reject · ${count[""]} open`;
}

function save() {
  const changed = {};
  data.rows.forEach((row, i) => row[CHOICE] !== proposed[i] && (changed[i] = row[CHOICE]));
  const accepted = groups.filter((group) => group.classList.contains("accepted")).map((group) => group.dataset.group);
  store.write({ changed, accepted });
  summarize();
}

function choose(photo, choice) {
  rowOf(photo)[CHOICE] = choice;
  show(photo);
  save();
}

function toggle(photo, choice) {
  choose(photo, rowOf(photo)[CHOICE] === choice ? "" : choice);
}

function current() {
  const focused = document.activeElement.closest(".photo");
  return focused || document.querySelector(".group:not(.accepted) .photo") || document.querySelector(".photo");
}

function focusOn(photo) {
  if (!photo) return;
  photo.focus({ preventScroll: true });
  const group = photo.closest(".group");
  // The whole group if it fits the window or the shot is its first, otherwise the shot.
  const fits = group.getBoundingClientRect().height < innerHeight - 60 || photo === group.querySelector(".photo");
  (fits ? group : photo).scrollIntoView({ block: fits ? "start" : "nearest" });
}

function step(by) {
  const photos = [...document.querySelectorAll(".photo")];
  const at = photos.indexOf(document.activeElement.closest(".photo"));
  focusOn(at < 0 ? current() : photos[Math.min(Math.max(at + by, 0), photos.length - 1)]);
}

function stepGroup(by) {
  const focused = document.activeElement.closest(".group");
  if (!focused) return focusOn(current());
  const at = Math.min(Math.max(groups.indexOf(focused) + by, 0), groups.length - 1);
  focusOn(groups[at].querySelector(".photo"));
}

function accept() {
  const photo = current();
  if (!photo) return;
  const group = photo.closest(".group");
  group.classList.add("accepted");
  save();
  const next = groups[groups.indexOf(group) + 1];
  focusOn(next ? next.querySelector(".photo") : photo);
}

function keepOnly(photo) {
  for (const other of photo.closest(".group").querySelectorAll(".photo"))
    choose(other, other === photo ? "keep" : "reject");
}

function zoom() {
  const on = document.body.classList.toggle("zoomed");
  document.getElementById("zoom").setAttribute("aria-pressed", on);
  focusOn(document.activeElement.closest(".photo"));
}

const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function exportCSV() {
  const lines = [data.columns, ...data.rows].map((row) => row.map(cell).join(",") + "\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "text/csv" }));
  link.download = "choices.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const KEYS = {
  ArrowRight: () => step(1),
  ArrowLeft: () => step(-1),
  ArrowDown: () => stepGroup(1),
  ArrowUp: () => stepGroup(-1),
  k: () => toggle(current(), "keep"),
  x: () => toggle(current(), "reject"),
  b: () => keepOnly(current()),
  a: accept,
  Enter: accept,
  z: zoom,
  e: exportCSV,
  "?": () => help.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.key === "Enter" && event.target.closest("button")) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action || (!groups.length && event.key !== "?" && event.key !== "e")) return;
  event.preventDefault();
  action();
});

document.addEventListener("click", (event) => {
  const photo = event.target.closest(".photo");
  const button = event.target.closest("[data-choice]");
  if (button) toggle(photo, button.dataset.choice);
  if (photo) photo.focus({ preventScroll: true });
});

document.getElementById("accept").addEventListener("click", accept);
document.getElementById("zoom").addEventListener("click", zoom);
document.getElementById("export").addEventListener("click", exportCSV);
document.getElementById("help").addEventListener("click", () => help.showModal());

const before = store.read();
for (const [i, choice] of Object.entries(before.changed || {})) if (data.rows[i]) data.rows[i][CHOICE] = choice;
for (const group of groups) group.classList.toggle("accepted", (before.accepted || []).includes(group.dataset.group));
document.querySelectorAll(".photo").forEach(show);
summarize();
