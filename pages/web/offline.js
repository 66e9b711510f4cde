// After the first load the page needs no server: a service worker keeps its files.
// CACHE, which changes with every file, and FILES stand above.

const PREFIX = `${self.registration.scope} `;  // other models may lie on the same server

self.addEventListener("install", event => event.waitUntil((async () => {
  const cache = await caches.open(PREFIX + CACHE);
  // What the page has just loaded is asked for again, not taken from a stale cache.
  await cache.addAll(FILES.map(name => new Request(name, { cache: "no-cache" })));
})()));

self.addEventListener("activate", event => event.waitUntil((async () => {
  for (const name of await caches.keys()) {
    if (name.startsWith(PREFIX) && name !== PREFIX + CACHE) await caches.delete(name);
  }
})()));

self.addEventListener("fetch", event => {
  if (event.request.method === "GET") event.respondWith(answer(event.request));
});

async function answer(request) {
  const isFolder = request.url.split(/[?#]/)[0] === self.registration.scope;
  const cache = await caches.open(PREFIX + CACHE);
  const kept = await cache.match(isFolder ? "index.html" : request, { ignoreSearch: true });
  if (!kept) return fetch(request);
  // A server may have sent /index.html on to /; a page is not shown from such an answer.
  return kept.redirected ? new Response(kept.body, { headers: kept.headers }) : kept;
}
