// The page: takes photos, sends them one by one to the worker (scoring.js), and shows what it answers.
const $ = (id) => document.getElementById(id);
const SHOWN = 5; // findings; the others are in the folded list
const items = []; // {name, file, node, state}, state: waiting, working, scored, failed
let described; // model.json
let worker;
let ready = false;
let stopped = false;

// A function that WebAssembly accepts only with SIMD: (func (result v128) (i8x16.splat (i32.const 0))), then popcnt.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

// What this browser lacks, as a sentence, or null.
function lacking() {
  if (!globalThis.WebAssembly?.validate(new Uint8Array(SIMD))) {
    return "This browser has no WebAssembly SIMD, which the model needs. Use a current Chrome, Edge, Firefox or Safari.";
  }
  if (!globalThis.OffscreenCanvas || !globalThis.createImageBitmap) {
    return "This browser cannot decode photos in the background. Use a current Chrome, Edge, Firefox or Safari.";
  }
  return null;
}

// ---- the model

async function start() {
  const lack = lacking();
  if (lack) return stop(lack);
  try {
    described = await (await fetch("model.json")).json();
  } catch {
    return stop("model.json is missing beside this page, or damaged. Build the page with docs/demo/build.py.");
  }
  const { variant, licence, runtime, files, examples } = described;
  const sha = files["model.onnx"].sha256.slice(0, 8);
  $("model").textContent = [`Model ${variant || "unnamed"} (${sha})`, licence, `run by ${runtime}`].filter(Boolean).join(", ") + ".";
  $("examples").hidden = !examples.length;
  launch();
  keepOffline();
}

function launch() {
  ready = false;
  // A worker of the page's own address would not be bound by the page's security policy; one of a blob inherits it.
  const url = URL.createObjectURL(new Blob([`import ${JSON.stringify(new URL("scoring.js", location.href))};`], { type: "text/javascript" }));
  worker = new Worker(url, { type: "module" });
  worker.onmessage = ({ data }) => heard[data.kind](data);
  worker.onerror = (event) => {
    event.preventDefault();
    stop("scoring.js is missing beside this page, or damaged. Build the page again.");
  };
}

const heard = {
  started() {
    worker.postMessage({ kind: "load", files: described.files });
  },
  loading({ loaded, total }) {
    $("loading").hidden = false;
    $("progress").value = loaded / total;
    $("loaded").textContent = `Loading the model, once: ${megabytes(loaded)} of ${megabytes(total)} MB`;
  },
  starting() {
    $("loaded").textContent = "Starting the model";
  },
  ready() {
    $("loading").hidden = true;
    document.documentElement.dataset.state = "ready";
    ready = true;
    if (items.some((item) => item.state === "waiting")) return next();
    worker.postMessage({ kind: "warm" });
  },
  warm() {
    document.documentElement.dataset.state = "warm";
    next();
  },
  failed({ error }) {
    stop(error);
  },
  scored(result) {
    show(items[result.id], result);
    next();
  },
  refused({ id, error, broken }) {
    fail(items[id], error);
    if (broken) {
      worker.terminate();
      launch();
    } else next();
  },
};

const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e6 ? 1 : 0);

// Nothing can be scored: one sentence at the top, and none of the photos waits for ever.
function stop(sentence) {
  stopped = true;
  worker?.terminate();
  $("problem").textContent = sentence;
  $("problem").hidden = false;
  $("loading").hidden = true;
  $("choose").disabled = $("examples").disabled = true;
  document.body.classList.add("off");
  for (const item of items) if (item.state === "waiting" || item.state === "working") fail(item, "Not scored, see above.");
}

async function keepOffline() {
  if (!navigator.serviceWorker) return; // not a secure context
  try {
    await navigator.serviceWorker.register("service_worker.js");
    await navigator.serviceWorker.ready;
    while (!ready && !stopped) await new Promise((resolve) => setTimeout(resolve, 200));
    if (stopped) return;
    $("offline").hidden = false;
    document.documentElement.dataset.offline = "ready";
  } catch {
    // Without storage the page works as long as its server does.
  }
}

// ---- the list

function add(files) {
  if (stopped) return;
  for (const file of files) {
    const node = $("card").content.firstElementChild.cloneNode(true);
    const item = { name: file.name || "pasted photo", file, node, state: "waiting" };
    node.querySelector("bdi").textContent = item.name;
    items.push(item);
    $("list").append(node);
  }
  document.body.classList.toggle("filled", items.length > 0);
  summarize();
  next();
}

function next() {
  if (!ready || items.some((item) => item.state === "working")) return;
  const id = items.findIndex((item) => item.state === "waiting");
  if (id < 0) return;
  set(items[id], "working");
  items[id].node.querySelector(".pending").textContent = "Scoring";
  worker.postMessage({ kind: "score", id, file: items[id].file });
}

function set(item, state) {
  item.state = state;
  item.node.className = state === "working" ? "waiting working" : state;
  summarize();
}

function finish(item, state) {
  item.file = null; // the photo's memory is free again
  item.node.querySelector(".pending").hidden = true;
  set(item, state);
}

function fail(item, sentence) {
  const line = item.node.querySelector(".error");
  line.textContent = sentence;
  line.hidden = false;
  finish(item, "failed");
}

function summarize() {
  const of = (state) => items.filter((item) => item.state === state).length;
  const [scored, failed] = [of("scored"), of("failed")];
  const parts = [`${scored + failed} of ${items.length} done`];
  if (failed) parts.push(`${failed} could not be scored`);
  $("summary").textContent = items.length ? parts.join(", ") : "";
}

// ---- one result

function show(item, result) {
  const { node } = item;
  const one = (selector) => node.querySelector(selector);
  showPhoto(item, result);
  const { score, uncertainty } = result;
  const known = Number.isFinite(uncertainty);
  one(".score b").textContent = score.toFixed(1);
  one(".spread").textContent = known ? `± ${uncertainty.toFixed(1)}` : "";
  const [low, high] = known ? [Math.max(score - uncertainty, 0), Math.min(score + uncertainty, 100)] : [score, score];
  Object.assign(one(".scale i").style, { left: `${low}%`, width: `${high - low}%` });
  one(".scale b").style.left = `${score}%`;
  showFindings(one, result.findings);
  one(".where").textContent = where(result.map);
  const seconds = result.seconds.decode + result.seconds.model;
  one(".facts-line").textContent = `${result.width} × ${result.height} pixels, ${seconds.toFixed(1)} s`;
  one(".result").hidden = false;
  finish(item, "scored");
  Object.assign(node.dataset, { score, uncertainty, findings: JSON.stringify(result.findings), seconds: JSON.stringify(result.seconds) });
}

function showPhoto({ node, name }, { picture, map }) {
  const frame = node.querySelector(".frame");
  const canvas = frame.querySelector(".picture");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(picture);
  frame.style.setProperty("--ratio", canvas.width / canvas.height);
  drawMap(frame.querySelector(".map"), map, canvas);
  const slider = node.querySelector(".strength input");
  slider.setAttribute("aria-label", `Strength of the quality map over ${name}`);
  const fade = () => frame.style.setProperty("--strength", slider.value / 100);
  slider.addEventListener("input", fade);
  fade();
  node.querySelector(".bar i").style.background = `linear-gradient(to right, ${described.map.colors.join(", ")})`;
  frame.hidden = node.querySelector(".legend").hidden = false;
}

function showFindings(one, probabilities) {
  const found = described.findings.map(({ label }, i) => ({ label, share: probabilities[i] })).sort((a, b) => b.share - a.share);
  const named = found.filter(({ share }) => share >= described.stands_out);
  const titles = ["Nothing stands out", "This stands out", "These stand out", "These stand out most"];
  one("h3").textContent = titles[named.length > SHOWN ? 3 : Math.min(named.length, 2)];
  for (const { label, share } of named.slice(0, SHOWN)) {
    const row = document.createElement("li");
    const [text, bar, number] = ["span", "i", "span"].map((tag) => row.appendChild(document.createElement(tag)));
    text.textContent = label;
    bar.style.setProperty("--share", `${100 * share}%`);
    number.textContent = percent(share);
    one(".findings").append(row);
  }
  for (const { label, share } of found) {
    const row = one("tbody").insertRow();
    const head = row.appendChild(document.createElement("th"));
    head.scope = "row";
    head.textContent = label;
    row.insertCell().textContent = percent(share);
  }
}

const percent = (share) => `${Math.round(100 * share)} %`;

// ---- the map

// Points of the map at a place in [0, 1]², between the centers of its cells.
function at({ rows, columns, points }, y, x) {
  const place = (share, count) => {
    const cell = Math.min(Math.max(share * count - 0.5, 0), count - 1);
    return [Math.floor(cell), Math.min(Math.floor(cell) + 1, count - 1), cell % 1];
  };
  const [top, bottom, down] = place(y, rows);
  const [left, right, across] = place(x, columns);
  const row = (r) => points[r * columns + left] * (1 - across) + points[r * columns + right] * across;
  return row(top) * (1 - down) + row(bottom) * down;
}

function drawMap(canvas, map, { width, height }) {
  const scale = 160 / Math.max(width, height); // fine enough that the browser's own enlargement does not show
  [canvas.width, canvas.height] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const table = described.map.colors.map((color) => [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16)));
  for (let y = 0, to = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const points = Math.min(Math.max(at(map, (y + 0.5) / canvas.height, (x + 0.5) / canvas.width), 0), 100);
      const stop = (points / 100) * (table.length - 1);
      const low = Math.min(Math.floor(stop), table.length - 2);
      for (let c = 0; c < 3; c++) image.data[to++] = table[low][c] + (table[low + 1][c] - table[low][c]) * (stop - low);
      image.data[to++] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

const PLACES = ["at the top left", "at the top", "at the top right", "on the left", "in the center", "on the right", "at the bottom left", "at the bottom", "at the bottom right"];
const EVEN = 5; // points; smaller differences mean nothing to a viewer

// The map in words: the mean of each ninth of the photo.
function where(map) {
  const means = PLACES.map((_, ninth) => {
    let sum = 0;
    for (let i = 0; i < 36; i++) sum += at(map, (Math.floor(ninth / 3) + (Math.floor(i / 6) + 0.5) / 6) / 3, ((ninth % 3) + ((i % 6) + 0.5) / 6) / 3);
    return sum / 36;
  });
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const [least, most] = [low.toFixed(0), high.toFixed(0)];
  if (high - low < EVEN) return `Much the same over the whole photo (${least === most ? least : `${least} to ${most}`}).`;
  return `Lowest ${PLACES[means.indexOf(low)]} (${least}), highest ${PLACES[means.indexOf(high)]} (${most}).`;
}

// ---- input

$("choose").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = ""; // so that the same photo can be chosen again
});
$("examples").addEventListener("click", async () => {
  const answers = await Promise.all(described.examples.map((name) => fetch(name).catch(() => null)));
  const blobs = await Promise.all(answers.map((answer) => answer?.blob() ?? new Blob()));
  add(blobs.map((blob, i) => new File([blob], described.examples[i])));
});
let depth = 0; // nested elements under the pointer; each sends its own events
const over = (inside) => document.body.classList.toggle("over", inside);
addEventListener("dragenter", () => over(++depth > 0));
addEventListener("dragleave", () => over(--depth > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over((depth = 0) > 0);
  add([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => add([...event.clipboardData.files].filter((file) => file.type.startsWith("image/"))));

start();
