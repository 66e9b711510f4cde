"""What a server takes and whom it still answers while others attack it, over loopback alone.

    python -m benchmarks.server_attacks --model RUN_OR_FOLDER [--seconds 60] [--connections 300]
        [--attacks NAME ...] [--cores 8] [--memory_group FOLDER] [-- OPTIONS OF THE SERVER]

Each attack goes against a server of its own, from a process of its own. Meanwhile `/healthz` is
asked over a new connection every 0.1 s, two clients send a small photo each over a kept connection
and try again where they are told to, and the memory of the server's processes (resident set) is
read. After the attack it is read again for 30 s.

With --cores the server believes to have so many, and so decodes on so many threads. FOLDER is that
of a control group with a limit, such as /sys/fs/cgroup/memory/NAME, in which it then runs; whoever
may write there makes one with mkdir and writes memory.limit_in_bytes (version 2: memory.max).
"""

import argparse
import asyncio
import contextlib
import http.client
import io
import json
import multiprocessing
import os
import statistics
import sys
import threading
import time
import urllib.request

import numpy as np
from PIL import Image

from benchmarks.server_process import free_port, running

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
RECOVERY = 30  # seconds
HOLD = 3600  # seconds: longer than any attack
ENTER_GROUP = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
WITH_CORES = """
import os, runpy, sys
cores = set(range(int(sys.argv[1])))
os.sched_getaffinity = lambda process_id: cores
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def photo(width, height, quality=95):
    """A JPEG of noise, as large as such a photo may become."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def post(body):
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def large_webp():
    buffer = io.BytesIO()
    Image.new("RGB", (5000, 5000)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


async def endless(writer, reader, first, more, pause=0.0):
    """Sends a beginning, then the same bytes again and again, until the server ends it."""
    writer.write(first)
    while True:
        writer.write(more)
        await writer.drain()
        await asyncio.sleep(pause)
        if reader.at_eof():
            return


async def repeated(writer, reader, request):
    """Sends whole requests, one after another, over the same connection."""
    while True:
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if b"connection: close" in head.lower():
            return


async def held(writer, reader, first):
    """Sends a beginning and nothing more."""
    writer.write(first)
    await writer.drain()
    await asyncio.wait_for(reader.read(), HOLD)


def tensor_request(model_name):
    """As many numbers as fit into a body, for the model's pixels."""
    body = b'{"inputs":[{"name":"input_img","data":[' + b"255," * 2_499_000 + b"0]}]}"
    head = f"POST /v2/models/{model_name}/infer HTTP/1.1\r\nHost: localhost\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def attacks(model_name=""):
    """Name -> function of (writer, reader) that plays one connection of it."""
    small_chunks = b"1\r\nx\r\n" * 5000
    upload, large_photo = post(os.urandom(9_000_000)), post(photo(2200, 1700))
    webp, tensor = post(large_webp()), tensor_request(model_name)
    return {
        "chunk_extension": lambda w, r: endless(w, r, CHUNKED + b"5;", b"x" * 65536),
        "chunk_extension_dripped": lambda w, r: endless(w, r, CHUNKED + b"5;", b"x" * 9, 0.01),
        "trailer": lambda w, r: endless(w, r, CHUNKED + b"0\r\n", b"a: b\r\n" * 9000),
        "header": lambda w, r: endless(w, r, HEAD, b"a: b\r\n" * 9000),
        "header_dripped": lambda w, r: endless(w, r, HEAD, b"a", 0.1),
        "small_chunks": lambda w, r: endless(w, r, CHUNKED, small_chunks),
        "blank_lines": lambda w, r: endless(w, r, b"", b"\r\n" * 30000),
        "pipelined": lambda w, r: endless(w, r, b"", b"GET /healthz HTTP/1.1\r\n\r\n" * 2500),
        "idle": lambda w, r: held(w, r, b""),
        "body_dripped": lambda w, r: endless(
            w, r, HEAD + b"Content-Length: 9000000\r\n\r\n", b"x" * 100, 0.1
        ),
        "body_unfinished": lambda w, r: held(
            w, r, HEAD + b"Content-Length: 9000000\r\n\r\n" + b"x" * 8_900_000
        ),
        "uploads_9_mb": lambda w, r: repeated(w, r, upload),
        "photos_4_mb": lambda w, r: repeated(w, r, large_photo),
        "large_webp": lambda w, r: repeated(w, r, webp),
        "tensors_10_mb": lambda w, r: repeated(w, r, tensor),
        "not_found": lambda w, r: repeated(
            w, r, b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ),
        "no_http": lambda w, r: held(w, r, b"GET http://[ HTTP/1.1\r\n\r\n"),
        "long_number": lambda w, r: held(
            w, r, HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"
        ),
    }


def play(name, model_name, port, connections, seconds):
    """Attacks for some seconds; runs in a process of its own."""
    attack = attacks(model_name)[name]

    async def connection():
        while True:
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await attack(writer, reader)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.01)

    async def all_connections():
        tasks = [asyncio.create_task(connection()) for _ in range(connections)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()

    asyncio.run(all_connections())


def resident_megabytes(process_id):
    """The resident memory of a process and of all that it has started, in 10^6 bytes."""
    total, waiting = 0, [process_id]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            with open(f"/proc/{one}/statm", encoding="ascii") as statm:
                total += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            with open(f"/proc/{one}/task/{one}/children", encoding="ascii") as children:
                waiting += children.read().split()
    return total / 1e6


class Repeating(threading.Thread):
    """Calls a function with a connection, again and again, and keeps what it returns."""

    def __init__(self, ask, port, pause, is_kept):
        super().__init__(daemon=True)
        self.ask, self.port, self.pause, self.is_kept = ask, port, pause, is_kept
        self.results, self.done = [], threading.Event()
        self.start()

    def run(self):
        connection = None
        while not self.done.is_set():
            if connection is None or not self.is_kept:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
            started_at = time.perf_counter()
            try:
                status = self.ask(connection)
            except (OSError, http.client.HTTPException):
                status = 0
            self.results.append((status, time.perf_counter() - started_at))
            if status != 200 or not self.is_kept:
                connection.close()
                connection = None
            self.done.wait(self.pause if status == 200 else max(self.pause, 0.3))

    def end(self):
        self.done.set()
        self.join(20)
        return self.results


def ask_health(connection):
    connection.request("GET", "/healthz")
    response = connection.getresponse()
    response.read()
    return response.status


def command(port, arguments):
    """list of str, the command of the attacked server."""
    words = [sys.executable]
    if arguments.memory_group:
        words = ["sh", "-c", ENTER_GROUP, arguments.memory_group, *words]
    if arguments.cores:
        words += ["-c", WITH_CORES, arguments.cores]
    words += ["deployment/server.py", "--model", arguments.model, "--port", port]
    return [*map(str, words), *arguments.options]


def measure(name, arguments, body):
    """The figures of one attack, a dict."""
    port = free_port()
    words = command(port, arguments)

    def ask_normal(connection):
        connection.request("POST", "/predict", body)
        response = connection.getresponse()
        response.read()
        return response.status

    with running(words, port) as process:
        clients = [Repeating(ask_normal, port, 0.1, is_kept=True) for _ in range(2)]
        time.sleep(2)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/labels") as answer:
            model_name = json.load(answer)["model"]
        for client in clients:
            client.results.clear()
        before = resident_megabytes(process.pid)
        health = Repeating(ask_health, port, 0.1, is_kept=False)
        attacker = multiprocessing.get_context("spawn").Process(
            target=play,
            args=(name, model_name, port, arguments.connections, arguments.seconds),
            daemon=True,
        )
        attacker.start()
        largest = 0
        while attacker.is_alive():
            largest = max(largest, resident_megabytes(process.pid))
            time.sleep(0.1)
        seconds = sorted(spent for _, spent in health.end())
        answers = [answer for client in clients for answer in client.end()]
        served = [spent for status, spent in answers if status == 200]
        after = largest
        until = time.monotonic() + RECOVERY
        while time.monotonic() < until and after > before + 20:
            time.sleep(0.5)
            after = resident_megabytes(process.pid)
        return {
            "attack": name,
            "before_mb": round(before),
            "largest_mb": round(largest),
            "after_mb": round(after),
            "health_median_ms": round(statistics.median(seconds) * 1000, 1),
            "health_worst_ms": round(seconds[-1] * 1000, 1),
            "health_failed": sum(status != 200 for status, _ in health.results),
            "normal_served": len(served),
            "normal_refused": sum(status == 503 for status, _ in answers),
            "normal_failed": sum(status not in (200, 503) for status, _ in answers),
            "normal_median_ms": round(statistics.median(served) * 1000, 1) if served else None,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--attacks", nargs="+", default=list(attacks()))
    parser.add_argument("--cores", type=int, help="that the server believes to have")
    parser.add_argument("--memory_group", help="folder of a control group for the server")
    parser.add_argument("options", nargs="*", help="of the server, after --")
    arguments = parser.parse_args()
    body = photo(320, 240)
    for name in arguments.attacks:
        print(json.dumps(measure(name, arguments, body)), flush=True)


if __name__ == "__main__":
    main()
