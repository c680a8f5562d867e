// The worker: fetches the runtime and the model once, decodes a photo as a viewer shows it, and scores it.
const STRIP = 2 ** 20; // pixels that one canvas holds; a phone's browser has no canvas for a large photo
const MAX_PIXELS = 100e6;
const SHOWN = 1200; // the longer side of the picture that the page shows
const HERE = new URL("./", import.meta.url);

let session;
let tensor; // (rgb, height, width) -> the model's input

// ---- files

async function storage() {
  try {
    return await caches.open(`driqa model ${HERE}`);
  } catch {
    return null; // not a secure context, or storage is forbidden: then nothing is kept
  }
}

// A large file as bytes: from storage, else from the server, checked and then kept.
async function fetched(name, { bytes, sha256 }, progress) {
  const url = new URL(name, HERE);
  const key = `${url}?sha256=${sha256}`;
  const cache = await storage();
  const kept = await cache?.match(key);
  if (kept) return new Uint8Array(await kept.arrayBuffer());
  const answer = await request(url, name);
  const data = await received(answer, name, bytes, progress);
  const digest = await globalThis.crypto.subtle?.digest("SHA-256", data); // secure contexts only
  if (digest && hex(digest) !== sha256) throw new Error(`${name} is not the file that this page was built with. Reload the page.`);
  for (const old of (await cache?.keys()) ?? []) if (new URL(old.url).pathname === url.pathname) await cache.delete(old);
  await cache?.put(key, new Response(data)).catch(() => {}); // a full disk: it is fetched again next time
  return data;
}

async function request(url, name) {
  let answer;
  try {
    answer = await fetch(url, { cache: "no-cache" });
  } catch {
    throw new Error(`${name} could not be loaded: the server cannot be reached.`);
  }
  if (!answer.ok) throw new Error(`${name} is missing beside this page (the server answered ${answer.status}).`);
  return answer;
}

async function received(answer, name, bytes, progress) {
  const data = new Uint8Array(bytes);
  const reader = answer.body.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(() => ({ done: true })); // a connection that breaks off
    if (done) break;
    if (at + value.length <= bytes) data.set(value, at);
    at += value.length;
    progress(value.length);
  }
  if (at !== bytes) throw new Error(`${name} is damaged: ${at} bytes arrived instead of ${bytes}. Reload the page.`);
  return data;
}

const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

async function load(files) {
  const total = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
  let loaded = 0;
  const progress = (more) => postMessage({ kind: "loading", loaded: (loaded += more), total });
  let ort;
  try {
    ort = await import(new URL("ort.js", HERE));
  } catch {
    throw new Error("ort.js is missing beside this page, or damaged.");
  }
  const [wasm, model] = await Promise.all(["ort.wasm", "model.onnx"].map((name) => fetched(name, files[name], progress)));
  postMessage({ kind: "starting" });
  ort.env.logLevel = "fatal"; // the page itself says what went wrong
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
  try {
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Error(`The model cannot be started in this browser (${oneLine(error)}).`);
  }
  tensor = (rgb, height, width) => new ort.Tensor("uint8", rgb, [height, width, 3]);
}

const oneLine = (error) => String(error?.message ?? error).replace(/\s+/g, " ").trim().slice(0, 200);

// ---- pixels

async function decoded(file) {
  try {
    // Upright, in sRGB, alpha not yet applied: what driqa_jax.data.decode reads.
    const options = { imageOrientation: "from-image", colorSpaceConversion: "default", premultiplyAlpha: "none" };
    return await createImageBitmap(file, options);
  } catch (error) {
    if (error.name === "NotReadableError" || error.name === "NotFoundError") throw new Error("The file cannot be read.");
    throw new Error("This browser cannot decode the file: it is not a picture, is damaged, or has a format that the browser does not know.");
  }
}

// uint8 (height, width, 3), alpha over white.
function pixels(bitmap) {
  const { width, height } = bitmap;
  const rows = Math.min(height, Math.max(1, Math.floor(STRIP / width)));
  const context = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#fff";
  const rgb = new Uint8Array(3 * width * height);
  let to = 0;
  for (let top = 0; top < height; top += rows) {
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    const rgba = context.getImageData(0, 0, width, Math.min(rows, height - top)).data;
    for (let from = 0; from < rgba.length; from += 4) {
      rgb[to++] = rgba[from];
      rgb[to++] = rgba[from + 1];
      rgb[to++] = rgba[from + 2];
    }
  }
  return rgb;
}

function reduced(bitmap) {
  const scale = Math.min(1, SHOWN / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas.transferToImageBitmap();
}

// ---- scoring

async function score(file) {
  const began = performance.now();
  const bitmap = await decoded(file);
  const { width, height } = bitmap;
  try {
    if (width * height > MAX_PIXELS) {
      const size = `${Math.round((width * height) / 1e6)} megapixels`;
      throw new Error(`The photo has ${size}; this page takes up to ${MAX_PIXELS / 1e6}.`);
    }
    const picture = reduced(bitmap);
    const rgb = pixels(bitmap);
    const read = performance.now();
    const outputs = await run(tensor(rgb, height, width));
    const seconds = { decode: (read - began) / 1000, model: (performance.now() - read) / 1000 };
    return { ...outputs, width, height, seconds, picture };
  } finally {
    bitmap.close();
  }
}

async function run(image) {
  let outputs;
  try {
    outputs = await session.run({ image });
  } catch (error) {
    // Memory that has run out leaves the runtime in an unknown state, so the page starts another worker.
    throw Object.assign(new Error(`The model failed on this photo (${oneLine(error)}).`), { broken: true });
  }
  const { score, uncertainty, findings, map } = outputs;
  const [rows, columns] = map.dims;
  return {
    score: score.data[0],
    uncertainty: uncertainty?.data[0] ?? NaN, // a model may have no interval
    findings: [...findings.data],
    map: { rows, columns, points: [...map.data] },
  };
}

onmessage = async ({ data }) => {
  if (data.kind === "load") {
    try {
      await load(data.files);
      postMessage({ kind: "ready" });
    } catch (error) {
      postMessage({ kind: "failed", error: oneLine(error) });
    }
    return;
  }
  if (data.kind === "warm") {
    // The first run is several times slower, until the browser has compiled the runtime for speed.
    await run(tensor(new Uint8Array(3 * 320 * 448), 320, 448)).catch(() => {});
    postMessage({ kind: "warm" });
    return;
  }
  try {
    const result = await score(data.file);
    postMessage({ kind: "scored", id: data.id, ...result }, [result.picture]);
  } catch (error) {
    postMessage({ kind: "refused", id: data.id, error: oneLine(error), broken: Boolean(error.broken) });
  }
};
postMessage({ kind: "started" });
