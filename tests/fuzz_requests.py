"""Requests that no client should send, over raw sockets, to a server that has to stay whole.

    python -m tests.fuzz_requests --url http://127.0.0.1:5001 --count 10000 [--seed N]

Takes whole requests and spoils their images, parts, headers and framing. A server that answers
with status 500, a traceback or anything that is not HTTP has failed.
"""

import argparse
import io
import json
import random
import socket
import urllib.parse
from collections import Counter

import numpy as np
from PIL import Image

BOUNDARY = b"a-boundary"
PATHS = (b"/predict", b"/predict?top_k=1", b"/labels", b"/healthz", b"/metrics", b"/",
         b"/openapi.json", b"/readyz", b"/predict/", b"/nowhere")
ODD_PATHS = (b"//predict", b"/../../etc/passwd", b"/%00", b"/predict?top_k=" + b"9" * 5000,
             b"/predict?top_k=-1", b"/predict?top_k=%ff%fe", b"/\xff\xfe", b"*", b"predict",
             b"/predict?top_k=1e1", b"http://other/predict", b"/" + b"a" * 9000, b"/predict;x=1",
             b"/%2e%2e/x")
METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE", b"BREW", b"post")
HEADERS = (b"Content-Type: multipart/form-data", b"Content-Type: multipart/form-data; boundary=",
           b"Content-Type: \xff\xfe", b'Content-Type: multipart/form-data; boundary="\xff"',
           b"Content-Type: text/html; charset=utf-99", b"Content-Type: application/json",
           b"Content-Encoding: gzip", b"Expect: 100-continue", b"Range: bytes=0-1",
           b"X-Request-ID: " + b"x" * 500, b"X-Request-ID: <script>", b"X-Request-ID: ../../x",
           b"Authorization: Bearer \xff", b"Authorization: Basic eDp4", b"Host: \xff:99999",
           b"Host: a b", b"Cookie: " + b"a=b; " * 300, b"X-Forwarded-For: 1, 2, \xff",
           b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked", b"no colon",
           b": no name", b"Big: " + b"b" * 70000, b"Content-Length: -1", b"Content-Length: x",
           b"If-None-Match: *", b"Accept: text/nothing", b"Connection: close, x")


def images():
    """Small files of every format that is read, bytes."""
    grey_levels = np.random.default_rng(0).integers(0, 256, (24, 32), np.uint8)
    image_files = []
    for mode, formats in (("RGB", "JPEG PNG BMP WEBP GIF TIFF"), ("L", "JPEG PNG TIFF"),
                          ("CMYK", "JPEG TIFF"), ("RGBA", "PNG WEBP TIFF"), ("P", "PNG GIF"),
                          ("I;16", "PNG TIFF")):
        picture = Image.fromarray(grey_levels)
        picture = picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
        for format_name in formats.split():
            buffer = io.BytesIO()
            picture.save(buffer, format_name)
            image_files.append(buffer.getvalue())
    return image_files


def spoil(data, generator):
    """Changes some bytes, or cuts, repeats or mixes up a part."""
    data = bytearray(data)
    for _ in range(generator.choice((0, 1, 1, 2, 8))):
        if not data:
            break
        position, length = generator.randrange(len(data)), generator.randrange(1, 64)
        damage = generator.randrange(5)
        if damage == 0:
            data[position] = generator.randrange(256)
        elif damage == 1:
            del data[position : position + length]
        elif damage == 2:
            data[position:position] = data[position : position + length] * generator.randrange(1, 9)
        elif damage == 3:
            data[position : position + 4] = generator.choice((b"\0\0\0\0", b"\xff\xff\xff\xff",
                                                              b"\x7f\xff\xff\xff", b"\r\n\r\n"))
        else:
            del data[position:]
    return bytes(data)


def form(parts, generator):
    """A multipart/form-data body, mostly right."""
    form_body = b""
    for part in parts:
        disposition = generator.choice((
            b'form-data; name="image"; filename="a.jpg"', b'form-data; name="image"',
            b'form-data; name=image; filename="../../x"', b'form-data; name="other"',
            b"form-data; name*=utf-8''image", b'form-data; name="image', b"\xff", b"",
        ) if generator.random() < 0.4 else (b'form-data; name="image"',))
        form_body += (b"--" + BOUNDARY + b"\r\nContent-Disposition: " + disposition
                      + b"\r\nContent-Type: image/jpeg\r\n\r\n" + part + b"\r\n")
    return form_body + b"--" + BOUNDARY + b"--\r\n"


def request(files, generator):
    """One request, bytes."""
    chance = generator.random
    image = generator.choice(files)
    if chance() < 0.6:
        image = spoil(image, generator)
    headers = [b"Host: localhost"]
    if chance() < 0.4:
        body = form([image] * generator.choice((1, 1, 2, 3, 40)), generator)
        if chance() < 0.4:
            body = spoil(body, generator)
        headers.append(b"Content-Type: multipart/form-data; boundary=" + BOUNDARY)
    else:
        body = image
        headers.append(b"Content-Type: image/jpeg")
    method, path = b"POST", generator.choice(PATHS[:2])
    if chance() < 0.3:
        method, path = generator.choice(METHODS), generator.choice(PATHS + ODD_PATHS)
    content_length = len(body)
    if chance() < 0.1:
        change = generator.choice((-content_length, -7, 7, 10**7, 10**12, 10**30))
        content_length = max(0, content_length + change)
    if chance() < 0.15:
        headers.append(b"Transfer-Encoding: chunked")
        chunk_size = generator.choice((b"%x" % len(body), b"%x" % (len(body) + 5), b"-1", b"zz",
                                       b"", b"f" * 40, b"5;x=" + b"y" * 999))
        body = chunk_size + b"\r\n" + body + b"\r\n0\r\n\r\n"
    else:
        headers.append(b"Content-Length: %d" % content_length)
    for _ in range(generator.choice((0, 0, 0, 1, 2))):
        headers.append(generator.choice(HEADERS))
    generator.shuffle(headers)
    version = b"HTTP/1.1" if chance() < 0.95 else generator.choice((b"HTTP/1.0", b"HTTP/9", b""))
    head = b" ".join((method, path, version)) + b"\r\n" + b"\r\n".join(headers) + b"\r\n\r\n"
    if chance() < 0.05:
        head = spoil(head, generator)
    request_bytes = head + body
    if chance() < 0.05:
        return request_bytes[: generator.randrange(len(request_bytes))]
    return request_bytes


def exchange(host, port, data, seconds=15):
    """Sends bytes, nothing more, and returns all that comes back."""
    with socket.create_connection((host, port), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while received := connection.recv(1 << 16):
                answer += received
        except (ConnectionError, BrokenPipeError):
            return b""
        return answer


def check(answer):
    """The status of an answer, or "none"; refuses what may not come."""
    if not answer:
        return "none"
    assert answer.startswith(b"HTTP/1."), answer[:200]
    assert b"Traceback" not in answer and b'File "' not in answer, answer[:2000]
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if status == 100:
        return check(body)
    assert status < 500 or status in (501, 503, 504), answer[:2000]
    lower_head = head.lower()
    assert b"x-content-type-options: nosniff" in lower_head, head
    assert b"\r\nserver:" not in lower_head, head
    if status >= 400 and body:
        error_answer = json.loads(body[: int(lower_head.split(b"content-length: ")[1].split()[0])])
        assert error_answer["success"] is False, error_answer
    return status


def fuzz(host, port, count, seed=0, shown=lambda number: None):
    """Sends `count` requests, one after another; returns a Counter of the answers' statuses.

    Raises:
        AssertionError: an answer that may not come; names the request's number.
    """
    files, status_counts = images(), Counter()
    for index in range(count):
        request_bytes = request(files, random.Random(f"{seed}-{index}"))
        try:
            status_counts[check(exchange(host, port, request_bytes))] += 1
        except (AssertionError, ValueError, OSError) as error:
            raise AssertionError(f"seed {seed}, request {index}: {error!r}") from error
        shown(index)
    return status_counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    server_url = urllib.parse.urlsplit(arguments.url)
    status_counts = fuzz(server_url.hostname, server_url.port, arguments.count, arguments.seed)
    health_answer = exchange(server_url.hostname, server_url.port, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert b"alive" in health_answer, health_answer
    print(dict(sorted(status_counts.items(), key=str)))


if __name__ == "__main__":
    main()
