// Posts dropped images in small batches, shows their scores, and fetches an explanation when a row is opened.
const TOGETHER = 4; // images in one request: enough to keep the server busy, few enough to show progress
const IN_FLIGHT = 2; // concurrent requests: one is scored while one is sent
const PICTURE = /\.(jpe?g|jpe|jfif|mpo|a?png|webp|gif|bmp|dib|tiff?|p[pgbn]m|jp2|j2k|avif|heic|heif|ico)$/i;

const $ = (id) => document.getElementById(id);
const items = []; // {name, file, score, uncertainty, error, done, node}
let waiting = []; // items without a request
let flying = 0;
let limits = { request_bytes: Infinity, pictures: TOGETHER };

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

// One request with retries while the server is busy, starting or unreachable. The answer is {results} or {error}.
async function ask(path, body) {
  for (let tries = 0; ; tries++) {
    let answer;
    try {
      answer = await fetch(path, { method: "POST", body });
    } catch {
      if (tries === 5) return { error: "the server cannot be reached" };
      await pause(2 ** tries);
      continue;
    }
    if (answer.status === 429 || (answer.status === 503 && answer.headers.has("retry-after"))) {
      await pause(Math.min(Number(answer.headers.get("retry-after")) || 2, 30));
      continue;
    }
    try {
      return await answer.json();
    } catch {
      return { error: `the server answered ${answer.status}` };
    }
  }
}

function formOf(taken) {
  const form = new FormData();
  for (const item of taken) form.append("image", item.file, item.name);
  return form;
}

// ---- scoring

function nextFew() {
  const most = Math.min(TOGETHER, limits.pictures);
  const taken = [];
  let bytes = 0;
  while (waiting.length && taken.length < most) {
    const size = waiting[0].file.size + 1000; // plus the form header
    if (taken.length && bytes + size > limits.request_bytes) break;
    bytes += size;
    taken.push(waiting.shift());
  }
  return taken;
}

async function work() {
  if (flying >= IN_FLIGHT || !waiting.length) return;
  flying++;
  const taken = nextFew();
  work();
  await Promise.all(taken.map(drawThumbnail));
  const large = taken.filter((item) => item.file.size + 1000 > limits.request_bytes);
  for (const item of large) finish(item, { error: `larger than this server's ${megabytes(limits.request_bytes)}` });
  const sent = taken.filter((item) => !large.includes(item));
  if (sent.length) {
    const said = await ask("v1/score", formOf(sent));
    sent.forEach((item, i) => finish(item, said.results?.[i] ?? { error: said.error ?? "the server sent no answer" }));
  }
  flying--;
  work();
}

function finish(item, result) {
  Object.assign(item, { done: true, score: result.score ?? null, uncertainty: result.uncertainty ?? null, error: result.error ?? null });
  Object.assign(item, { band: result.band ?? null, percentile: result.percentile ?? null }); // if the server gives them
  const row = item.node;
  row.classList.remove("waiting");
  row.classList.toggle("failed", item.score === null);
  const button = row.querySelector(".row");
  button.disabled = item.score === null;
  row.querySelector(".error").textContent = item.error ?? "";
  if (item.score !== null) {
    row.querySelector(".score").textContent = item.score.toFixed(1);
    row.querySelector(".meaning").textContent = [item.band && `band ${item.band}`, item.percentile !== null && `percentile ${item.percentile}`].filter(Boolean).join(", ");
    row.querySelector(".meter i").style.width = `${item.score}%`;
    button.setAttribute("aria-label", `${item.name}: ${item.score.toFixed(1)}, show why`);
  }
  soon();
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MB`;

// ---- the list

function add(files) {
  for (const { file, name } of files) {
    const node = $("row").content.firstElementChild.cloneNode(true);
    const item = { name, file, score: null, uncertainty: null, error: null, done: false, node };
    node.classList.add("waiting");
    node.querySelector("bdi").textContent = node.querySelector(".name").title = name;
    node.querySelector(".row").addEventListener("click", () => toggle(item));
    items.push(item);
    waiting.push(item);
    $("list").append(node);
  }
  if (items.length) document.body.classList.add("filled");
  $("results").hidden = !items.length;
  soon();
  for (let i = 0; i < IN_FLIGHT; i++) work();
}

async function drawThumbnail(item) {
  const canvas = item.node.querySelector("canvas");
  try {
    const image = await createImageBitmap(item.file, { resizeWidth: 2 * canvas.width, resizeQuality: "medium" });
    const scale = Math.max(canvas.width / image.width, canvas.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    canvas.getContext("2d").drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    image.close();
  } catch {
    // The server may score an image that the browser cannot show.
  }
}

const ORDERS = {
  added: () => 0,
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  best: (a, b) => (b.score ?? -1) - (a.score ?? -1),
  worst: (a, b) => (a.score ?? 101) - (b.score ?? 101),
};

const ordered = () => [...items].sort(ORDERS[$("sort").value]); // stable: ties keep their order

let due = false;
function soon() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    arrange();
    summarize();
  });
}

function arrange() {
  const list = $("list");
  ordered().forEach((item, i) => {
    if (list.children[i] === item.node) return;
    const focused = item.node.contains(document.activeElement) ? document.activeElement : null;
    list.insertBefore(item.node, list.children[i] ?? null);
    focused?.focus({ preventScroll: true });
  });
}

function summarize() {
  const done = items.filter((item) => item.done);
  const scored = done.filter((item) => item.score !== null);
  const mean = scored.reduce((sum, item) => sum + item.score, 0) / scored.length;
  const parts = [done.length < items.length ? `${done.length} of ${items.length} done` : `${count(items.length)}`];
  if (scored.length > 1) parts.push(`mean ${mean.toFixed(1)}`);
  if (done.length > scored.length) parts.push(`${done.length - scored.length} could not be scored`);
  $("summary").textContent = parts.join(" · ");
  $("progress").max = items.length || 1;
  $("progress").value = done.length;
  $("progress").classList.toggle("done", done.length === items.length);
  $("csv").disabled = !done.length;
}

const count = (n) => (n === 1 ? "1 image" : `${n} images`);

// ---- explanations

async function toggle(item) {
  const button = item.node.querySelector(".row");
  const panel = item.node.querySelector(".why");
  panel.hidden = !panel.hidden;
  button.setAttribute("aria-expanded", String(!panel.hidden));
  if (panel.hidden || panel.childElementCount) return;
  panel.append(notice("Computing the explanation …", "quiet"));
  panel.firstChild.setAttribute("role", "status");
  const answer = await ask("v1/explain", formOf([item]));
  const found = answer.results?.[0];
  if (!found || found.error) {
    panel.replaceChildren(notice(found?.error ?? answer.error ?? "the server sent no answer", "error"));
    return;
  }
  panel.replaceChildren(explanation(item, found));
}

function notice(text, kind) {
  const line = document.createElement("p");
  line.className = kind;
  line.textContent = text;
  return line;
}

function explanation(item, found) {
  const view = $("explanation").content.cloneNode(true);
  const set = (selector, url, alt) => Object.assign(view.querySelector(selector), { src: url, alt });
  set(".before", found.images.picture, `${item.name}, original`);
  set(".map", found.images.quality_map, `quality map over ${item.name}`);
  for (const image of view.querySelectorAll(".before, .map")) image.addEventListener("load", fit, { once: true });
  const compare = view.querySelector(".compare");
  const slider = compare.querySelector("input");
  slider.setAttribute("aria-label", `divider between the original ${item.name} on the left and the restored image on the right`);
  slider.addEventListener("input", () => compare.style.setProperty("--at", `${slider.value}%`));
  if (found.images.restored) set(".after", found.images.restored, `${item.name}, restored by the model`);
  else {
    for (const part of [view.querySelector(".after"), slider]) part.remove();
    compare.classList.remove("compare");
    view.querySelector(".below").textContent = "This model has no restoration network, so there is no restored image.";
  }
  const { lowest, highest, scale, even, resolution } = found.map;
  const spread = found.uncertainty === null ? "" : `; score ± ${found.uncertainty.toFixed(1)} (90 % interval)`;
  const said = even ? `even, from ${lowest.toFixed(1)} to ${highest.toFixed(1)}` : `from ${lowest.toFixed(0)} to ${highest.toFixed(0)}`;
  view.querySelector("figcaption").textContent = `Quality map${even ? ": " : ", "}${said}${spread}`;
  view.querySelector("figure").classList.toggle("even", even);
  const ends = view.querySelectorAll(".scale span");
  ends[0].textContent = even ? `even: the parts differ by less than ${resolution} points` : scale[0].toFixed(1);
  ends[1].textContent = even ? "" : scale[1].toFixed(1);
  view.querySelector(".whole").style.setProperty("--low", `${lowest}%`);
  view.querySelector(".whole").style.setProperty("--high", `${highest}%`);
  view.querySelector(".none").hidden = found.findings.length > 0;
  for (const one of found.findings) {
    const [line, words, details] = ["p", "b", "span"].map((tag) => document.createElement(tag));
    words.textContent = one.words;
    details.className = "quiet";
    details.textContent = one.where ? `${one.visible}, ${one.where}` : one.visible;
    line.append(words, " ", details);
    view.querySelector(".findings").append(line);
  }
  const named = found.degradations.filter((one) => found.named.includes(one.name));
  view.querySelector("details").hidden = !named.length;
  for (const one of named) {
    const row = view.querySelector("tbody").insertRow();
    const head = row.appendChild(document.createElement("th"));
    head.scope = "row";
    head.textContent = one.label;
    row.append(share(one.visibility ?? one.probability, "probability"), share(one.severity, "severity"));
  }
  return view;
}

// At most twice the image size and the window height.
function fit({ target: { naturalWidth: width, naturalHeight: height, parentElement: frame } }) {
  for (const box of frame.matches(".compare") ? [frame, frame.nextElementSibling] : [frame]) {
    box.classList.add("fit");
    box.style.setProperty("--widest", `${2 * width}px`);
    box.style.setProperty("--tallest", `${(85 * width) / height}vh`);
  }
}

function share(value, kind) {
  const cell = document.createElement("td");
  cell.className = kind;
  const [box, meter, fill] = ["div", "span", "i"].map((tag) => document.createElement(tag));
  box.className = "share";
  meter.className = "meter";
  fill.style.width = `${100 * value}%`;
  meter.append(fill);
  box.append(meter, value.toFixed(2));
  cell.append(box);
  return cell;
}

// ---- input and output

// Folders are read recursively; only files with an image type or extension are taken.
async function filesOf(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return !path || PICTURE.test(file.name) ? [{ file, name: path + file.name }] : [];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found; // a reader returns at most 100 entries per call
    for (const one of some) {
      if (!one.name.startsWith(".")) found.push(...(await filesOf(one, `${path}${entry.name}/`)));
    }
  }
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean); // not available after an await
  const plain = [...transfer.files];
  if (!entries.length) return add(plain.map((file) => ({ file, name: file.name })));
  for (const entry of entries) add(await filesOf(entry).catch(() => []));
}

function csv() {
  const more = ["percentile", "band"].filter((key) => items.some((item) => (item[key] ?? null) !== null));
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = ordered()
    .filter((item) => item.done)
    .map((item) => [item.name, item.score?.toFixed(2) ?? "", item.uncertainty?.toFixed(2) ?? "", item.error ?? "", ...more.map((key) => `${item[key] ?? ""}`)]);
  return [["name", "score", "uncertainty", "error", ...more], ...lines].map((line) => `${line.map(quoted).join(",")}\n`).join("");
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "scores.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function clear() {
  items.length = 0;
  waiting = [];
  $("list").replaceChildren();
  document.body.classList.remove("filled");
  $("results").hidden = true;
  $("choose").focus();
}

async function greet() {
  for (;;) {
    try {
      const health = await (await fetch("healthz")).json();
      limits = health.limits;
      $("server").textContent =
        health.status === "ok" ? `Model ${health.model.name}.` : "The model is being compiled; images wait.";
      if (health.status === "ok") return;
    } catch {
      $("server").textContent = "The server cannot be reached.";
    }
    await pause(2);
  }
}

$("choose").addEventListener("change", (event) => {
  add([...event.target.files].map((file) => ({ file, name: file.name })));
  event.target.value = ""; // so that the same image can be chosen again
});
$("sort").addEventListener("change", arrange);
$("csv").addEventListener("click", download);
$("clear").addEventListener("click", clear);

let depth = 0; // nested elements under the pointer; each sends its own events
const over = (inside) => document.body.classList.toggle("over", inside);
addEventListener("dragenter", () => over(++depth > 0));
addEventListener("dragleave", () => over(--depth > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over((depth = 0) > 0);
  dropped(event.dataTransfer);
});
addEventListener("paste", (event) => {
  const pasted = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
  if (pasted.length) add(pasted.map((file) => ({ file, name: file.name })));
});

greet();
