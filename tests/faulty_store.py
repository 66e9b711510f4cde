"""A store on this machine that fails on demand: moto's S3, or a folder over HTTP, behind a proxy.

`FaultyStore.plan` decides what happens to each `Request`: a function that returns the name of a
fault, or None.
"""

import contextlib
import http.client
import io
import logging
import os
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"
# Fault -> (status, code of S3, further headers)
ANSWERS = {
    "500": (500, "InternalError", {}), "503": (503, "SlowDown", {"Retry-After": "0"}),
    "429": (429, "TooManyRequests", {"Retry-After": "0.01"}), "403": (403, "AccessDenied", {}),
    "404": (404, "NoSuchKey", {}), "expired": (400, "ExpiredToken", {}),
    "401": (401, "Unauthorized", {}),
}
# What happens to the bytes of an answer: "reset" before any of them, "cut" after half of them
FAULTS = ("reset", "cut", "short", "flip")


class Request(NamedTuple):
    """One request: its number from 0, method, path, header Range or None, and who signed it."""

    number: int
    method: str
    path: str
    range: str | None
    signature: str


class FaultyStore:
    """A server on 127.0.0.1 between a test and moto, or a folder.

    Args:
        folder: str, served by HTTP with ranges; None for moto's S3 with a bucket "bucket".
        ranges: bool, whether the server of a folder knows ranges.

    Attributes:
        url: str.
        plan: function (`Request`) -> fault or None.
        delay: float, seconds before each answer.
        requests: list of `Request`.
        most_at_once: int, requests that were under way at the same time.
    """

    def __init__(self, folder=None, ranges=True):
        self.folder, self.ranges = folder, ranges
        self.plan, self.delay = (lambda request: None), 0.0
        self.requests, self.most_at_once, self.at_once = [], 0, 0
        self.lock = threading.Lock()
        self.moto = None
        if folder is None:
            from moto.server import ThreadedMotoServer

            logging.getLogger("werkzeug").setLevel(logging.ERROR)
            self.moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
            self.moto.start()
            self.backend = self.moto.get_host_and_port()
        store = self

        class Handler(_Handler):
            faulty_store = store

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *words: None  # connections that it has broken itself
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        if self.moto:
            self.forward("PUT", "/bucket", {}, b"")

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        if self.moto:
            self.moto.stop()

    def forward(self, method, path, headers, body):
        """(status, headers, body) of moto, or of the folder."""
        if self.moto is None:
            return self._from_folder(method, path, headers.get("Range"))
        connection = http.client.HTTPConnection(*self.backend)
        with contextlib.closing(connection):
            connection.request(method, path, body, {
                name: value for name, value in headers.items()
                if name.lower() not in ("connection", "transfer-encoding", "content-length",
                                        "expect")})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def _from_folder(self, method, path, wanted):
        full_path = os.path.join(self.folder, path.lstrip("/"))
        if not os.path.isfile(full_path):
            return 404, {}, b""
        with open(full_path, "rb") as file:
            content = file.read()
        headers = {"ETag": f'"{os.stat(full_path).st_mtime_ns:x}"'}
        if not wanted or not self.ranges:
            return 200, headers, content
        first, last = wanted.removeprefix("bytes=").split("-")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return 206, headers, content[int(first):int(last) + 1]

    @property
    def ranged_reads(self):
        return [request for request in self.requests if request.range]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty_store = None

    def log_message(self, *words):
        pass

    def _answer(self):
        store = self.faulty_store
        with store.lock:
            request = Request(len(store.requests), self.command, self.path,
                              self.headers.get("Range"), self.headers.get("Authorization", ""))
            store.requests.append(request)
            store.at_once += 1
            store.most_at_once = max(store.most_at_once, store.at_once)
        try:
            body = self._read_body()
            time.sleep(store.delay)
            fault = store.plan(request)
            if fault in ANSWERS:
                status, code, headers = ANSWERS[fault]
                self._send(status, headers, ERROR.format(code, fault).encode())
            elif fault == "reset":
                self._break()
            else:
                status, headers, content = store.forward(
                    self.command, self.path, dict(self.headers), body)
                self._send_with_fault(fault, status, headers, content)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        finally:
            with store.lock:
                store.at_once -= 1

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def _read_body(self):
        length = self.headers.get("Content-Length")
        if length:
            if self.headers.get("Expect"):
                self.send_response_only(100)
                self.end_headers()
            return self.rfile.read(int(length))
        body = io.BytesIO()
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body.write(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        return body.getvalue()

    def _break(self):
        linger = struct.pack("ii", 1, 0)  # the other side sees a reset, not an end
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _send_with_fault(self, fault, status, headers, content):
        if fault == "flip" and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]
        elif fault == "short":
            content = content[:len(content) // 2]
        self._send(status, headers, content, fault == "cut")

    def _send(self, status, headers, content, is_cut=False):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date",
                                    "server"):
                self.send_header(name, value)
        length = len(content)
        if self.command == "HEAD":
            length = next((value for name, value in headers.items()
                           if name.lower() == "content-length"), length)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:len(content) // 2] if is_cut else content)
        if is_cut:
            self.wfile.flush()
            self._break()
