"""The proof that a page answers as the trained model does: a headless browser computes photos.

A server on the loopback serves the page's folder as it is, and beside it the photos and a script
of its own, which runs in the page under the page's own policy and sends back what it computes.
"""

import contextlib
import http.server
import os
import queue
import threading
import time
import urllib.parse
from typing import NamedTuple

import numpy as np

from common.errors import RunError
from data.decoding import load
from export.browser import open_page
from prediction.runtimes import Answers

START_SECONDS, PHOTO_SECONDS = 120, 60  # without a sign of the browser
# Added to the page that is served, not to the one in the folder.
SCRIPT_TAG = b'<script type="module" src="proof/script.js"></script>\n</body>'
SCRIPT = """
import { open } from "../classifier.js";

const post = (name, body) => fetch(`/proof/${name}`, { method: "POST", body });
try {
  const classifier = await open();
  for (let i = 0; ; i++) {
    const response = await fetch(`/proof/photo/${i}`);
    if (response.status === 204) break;
    let pixels;
    try {
      pixels = await classifier.preprocess(await response.blob());
    } catch (error) {
      await post(`undecodable/${i}`, String(error));
      continue;
    }
    const { probabilities, similarity } = await classifier.compute(pixels);
    const numbers = Float32Array.from([...probabilities, similarity ?? NaN]);
    await post(`answer/${i}`, new Blob([numbers, pixels]));
  }
  await post("end", "");
} catch (error) {
  await post("failure", `${error}`);
}
"""
TYPES = {".js": "text/javascript", ".html": "text/html", ".wasm": "application/wasm"}


class WebAnswers(NamedTuple):
    """What a browser computed of some photos.

    Attributes:
        answers: `Answers` of the photos that it decoded.
        pixels: uint8 (N, S, S, 3), what it made of them.
        decoded: list of N int, their positions among the photos.
    """

    answers: Answers
    pixels: np.ndarray
    decoded: list


def predict(web_folder, image_paths, class_count, size):
    """The answers of a page in a headless browser.

    Args:
        web_folder: str, the page's folder.
        image_paths: list of image files.
        class_count: int, number of the model's classes.
        size: int, side of the model's input in pixels.

    Returns:
        `WebAnswers`.

    Raises:
        InputError: there is no browser.
        RunError: the page fails, or nothing comes from the browser.
    """
    messages = queue.SimpleQueue()
    handler = _handler(os.path.abspath(web_folder), image_paths, messages.put)
    with _serving(handler) as address, open_page(f"{address}/index.html#here") as browser:
        rows = dict(_received(messages, browser))
    if not rows:
        raise RunError("web: the browser can decode none of the images; photos as JPEG are needed")
    decoded = sorted(rows)
    numbers = np.stack(
        [np.frombuffer(rows[position][: 4 * (class_count + 1)], "<f4") for position in decoded]
    )
    pixels = [
        np.frombuffer(rows[position][4 * (class_count + 1) :], np.uint8) for position in decoded
    ]
    similarities = numbers[:, -1]
    return WebAnswers(
        Answers(numbers[:, :-1], None if np.isnan(similarities).all() else similarities),
        np.stack(pixels).reshape(len(decoded), size, size, 3),
        decoded,
    )


def pixel_difference(pixels, image_paths, preprocessing):
    """How far a browser's pixels are from those of Python.

    Args:
        pixels: uint8 (N, S, S, 3).
        image_paths: list of N image files.
        preprocessing: `geometry.Preprocessing`.

    Returns:
        float, the mean absolute difference in levels of 0 to 255.
    """
    sums = [
        np.abs(own.astype(np.int16) - load(image_path, preprocessing)).mean()
        for own, image_path in zip(pixels, image_paths)
    ]
    return float(np.mean(sums))


def _received(messages, browser):
    """(position, bytes) of each photo that the page sends; ends when it says so."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            kind, position, body = messages.get(timeout=1)
        except queue.Empty:
            if browser.poll() is not None:
                raise RunError(
                    f"web: the browser ended with status {browser.returncode} before it answered"
                ) from None
            if time.monotonic() > deadline:
                raise RunError("web: nothing came from the browser in time") from None
            continue
        deadline = time.monotonic() + PHOTO_SECONDS
        if kind == "end":
            return
        if kind == "failure":
            reason = " ".join(body.decode("utf-8", "replace").split())[:300]
            raise RunError(f"web: the page fails in a browser: {reason}")
        if kind == "answer":
            yield position, body


@contextlib.contextmanager
def _serving(handler):
    """A context with the address of a server on the loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(web_folder, image_paths, send):
    """A class of requests' handlers for one proof.

    Args:
        web_folder: str, absolute path.
        image_paths: list of image files.
        send: function of a (kind, position, bytes) that the page sends.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = urllib.parse.urlsplit(self.path).path
            if path == "/proof/script.js":
                self.reply(200, SCRIPT.encode(), "text/javascript")
            elif path.startswith("/proof/photo/"):
                self.reply_photo(int(path.rpartition("/")[2]))
            else:
                self.reply_file(path)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            _, _, kind, *position = self.path.split("/")
            send((kind, int(position[0]) if position else None, body))
            self.reply(204)

        def reply_photo(self, position):
            if position >= len(image_paths):
                self.reply(204)
                return
            with open(image_paths[position], "rb") as image_file:
                self.reply(200, image_file.read(), "application/octet-stream")

        def reply_file(self, path):
            name = path.lstrip("/")
            if name not in os.listdir(web_folder):
                self.reply(404)
                return
            with open(os.path.join(web_folder, name), "rb") as page_file:
                content = page_file.read()
            if name.endswith(".html"):
                content = content.replace(b"</body>", SCRIPT_TAG)
            extension = os.path.splitext(name)[1]
            self.reply(200, content, TYPES.get(extension, "application/octet-stream"))

        def reply(self, status, content=b"", content_type=None):
            self.send_response(status)
            if content_type:
                self.send_header("Content-Type", content_type)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words):
            pass

    return Handler
