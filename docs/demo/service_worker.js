// Keeps the page's files for use without a network. `build.py` fills in the next line; a new build is a new version.
const BUILT = { version: "", files: [] };
const PREFIX = `driqa page ${self.registration.scope} `; // other pages of this origin keep their own caches
const NAME = PREFIX + BUILT.version;

async function install() {
  const cache = await caches.open(NAME);
  await cache.addAll(BUILT.files.map((path) => new Request(path, { cache: "reload" })));
  await self.skipWaiting();
}

async function activate() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== NAME);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request, path) {
  const kept = await (await caches.open(NAME)).match(path);
  return kept ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || !url.href.startsWith(self.registration.scope)) return;
  const path = url.pathname.slice(new URL(self.registration.scope).pathname.length);
  const kept = path === "" || path === "index.html" ? "./" : path;
  if (BUILT.files.includes(kept)) event.respondWith(answer(request, kept));
});
