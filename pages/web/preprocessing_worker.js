// Preprocessing beside the page's own thread, which answers its user meanwhile: a large photo takes
// half a second, on a phone more.

import { preprocess } from "./preprocessing.js";

self.addEventListener("message", async ({ data: { id, blob, settings } }) => {
  try {
    const pixels = await preprocess(blob, settings);
    self.postMessage({ id, pixels }, [pixels.buffer]);
  } catch (error) {
    const isUnreadable = error instanceof DOMException;  // which old browsers cannot send
    self.postMessage({ id, error: { name: error.name, message: error.message, isUnreadable } });
  }
});
self.postMessage({ isReady: true });
