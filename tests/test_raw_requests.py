"""Requests that are written by hand, one byte after the other, and the status that each must get.

What RFC 9110 and 9112 say, not what the server happens to do: the numbers stand in the table. None
may be a failure of the server (5xx), leave a traceback in the log, or smuggle a second request.
"""

import contextlib
import re
import socket

import pytest
from test_server import PNG, Process, folder, rest  # noqa: F401  fixtures

HOST = b"Host: localhost\r\n"
END = b"Connection: close\r\n\r\n"
SMUGGLED = b"GET /labels HTTP/1.1\r\nHost: localhost\r\n\r\n"


def get(target=b"/healthz", headers=b"", version=b"HTTP/1.1", host=HOST, method=b"GET"):
    return method + b" " + target + b" " + version + b"\r\n" + host + headers + END


def post(body, headers, target=b"/predict"):
    return b"POST " + target + b" HTTP/1.1\r\n" + HOST + headers + END + body


def chunked(*parts, coding=b"chunked", headers=b""):
    return post(b"".join(parts), b"Transfer-Encoding: " + coding + b"\r\n" + headers)


def length(value):
    return b"Content-Length: " + value + b"\r\n"


SIZE = str(len(PNG)).encode()
WHOLE = b"%x\r\n%s\r\n" % (len(PNG), PNG)
LAST = b"0\r\n\r\n"
BODY = length(SIZE)

# name: (request, the statuses that are right); 0 stands for no answer at all
REQUESTS = {
    # the request line
    "plain": (get(), {200}),
    "of HTTP 1.0": (get(version=b"HTTP/1.0", host=b""), {200}),
    "line breaks of one byte": (get().replace(b"\r\n", b"\n"), {0, 200, 400}),
    "an empty line before": (b"\r\n" + get(), {200}),
    "no version": (b"GET /healthz\r\n" + HOST + END, {200, 400}),
    "another protocol": (get(version=b"HTCPCP/1.0"), {400, 505}),
    "version 9.9": (get(version=b"HTTP/9.9"), {200, 400, 505}),
    "version in words": (get(version=b"HTTP/x.y"), {400, 505}),
    "a word too many": (get(b"/healthz /x"), {400, 404}),
    "only a method": (b"GET\r\n\r\n", {400}),
    "only spaces": (b"   \r\n\r\n", {400}),
    "a tab between words": (b"GET\t/healthz\tHTTP/1.1\r\n" + HOST + END, {400}),
    "a method of small letters": (get(method=b"get"), {400, 405, 501}),
    "a method that nobody has": (get(method=b"BREW"), {405, 501}),
    "a method with a space before": (get(method=b" GET"), {200, 400, 501}),
    "a method of 5,000 letters": (get(method=b"G" * 5000), {400, 405, 414, 431, 501}),
    "a method with a control character": (get(method=b"GE\x01T"), {400, 405, 501}),
    "TLS instead of HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60)
                            + b"\r\n\r\n", {400}),
    "HTTP 2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 404, 405, 505}),
    "a binary line": (bytes(range(128, 256)) + b"\r\n\r\n", {400}),
    # the target
    "an absolute target": (get(b"http://localhost/healthz"), {200}),
    "an absolute target that is cut off": (get(b"http://["), {400}),
    "an absolute target of a bad port": (get(b"http://localhost:99999999/healthz"), {200, 400}),
    "an asterisk": (get(b"*", method=b"OPTIONS"), {200, 204, 400, 404, 405}),
    "a target of CONNECT": (get(b"localhost:443", method=b"CONNECT"), {400, 404, 405, 501}),
    "an empty target": (b"GET  HTTP/1.1\r\n" + HOST + END, {200, 400, 404}),
    "no slash": (get(b"healthz"), {200, 400, 404}),
    "two slashes": (get(b"//healthz"), {200, 400, 404}),
    "a way up": (get(b"/../../../etc/passwd"), {400, 404}),
    "a way up in escapes": (get(b"/%2e%2e/%2e%2e/etc/passwd"), {400, 404}),
    "a broken escape": (get(b"/%zz"), {400, 404}),
    "an escape of no UTF-8": (get(b"/%ff%fe"), {400, 404}),
    "a NUL in escapes": (get(b"/labels%00.json"), {400, 404}),
    "a NUL": (get(b"/lab\0els"), {400, 404}),
    "bytes above ASCII": (get("/标签".encode()), {400, 404}),
    "a line break in escapes": (get(b"/healthz%0d%0aX:%20y"), {400, 404}),
    "a fragment": (get(b"/healthz#top"), {200, 400, 404}),
    "a query of 100,000 bytes": (get(b"/healthz?" + b"a" * 100_000), {400, 414, 431}),
    "a query of brackets": (get(b"/predict?top_k[]=1", method=b"POST", headers=BODY) + PNG, {200}),
    "a number that is none": (get(b"/predict?top_k=1e9", method=b"POST", headers=BODY) + PNG,
                              {400}),
    # headers
    "no host": (get(host=b""), {200, 400}),  # no browser can be made to leave it out
    "two hosts": (get(host=HOST + b"Host: localhost\r\n"), {400}),
    "a host that is none": (get(b"/labels", host=b"Host: [::1\r\n"), {400, 403, 421}),
    "a host of somebody else": (get(b"/labels", host=b"Host: evil.example\r\n"), {400, 403, 421}),
    "a header without a colon": (get(headers=b"nonsense\r\n"), {400}),
    "a header without a name": (get(headers=b": x\r\n"), {400}),
    "a space before the colon": (get(headers=b"X : y\r\n"), {400}),
    "a header that is folded": (get(headers=b"X: a\r\n b\r\n"), {200, 400}),
    "a first header that is folded": (get(host=b" X: y\r\n" + HOST), {400}),
    "a NUL in a header": (get(headers=b"X: a\0b\r\n"), {200, 400}),
    "a line feed alone in a header": (get(headers=b"X: a\nY: b\r\n"), {200, 400}),
    "a carriage return alone in a header": (get(headers=b"X: a\rY: b\r\n"), {400}),
    "an underscore for a hyphen": (post(b"", b"Content_Length: 5\r\n"), {400, 411, 422}),
    "10,000 headers": (get(headers=b"A: b\r\n" * 10_000), {400, 431}),
    "a header of 100,000 bytes": (get(headers=b"A: " + b"b" * 100_000 + b"\r\n"), {400, 431}),
    "an upgrade": (get(headers=b"Upgrade: websocket\r\nConnection: Upgrade\r\n"), {200, 400}),
    "a range": (get(headers=b"Range: bytes=5-1\r\n"), {200, 416}),
    "an expectation of something else": (post(PNG, BODY + b"Expect: coffee\r\n"), {200, 417}),
    # bodies of a known length
    "a photo": (post(PNG, BODY), {200}),
    "no length": (post(b"", b""), {400, 411, 422}),
    "a length of 0": (post(b"", length(b"0")), {400, 422}),
    "a length in hexadecimal": (post(PNG, length(b"0x10")), {400}),
    "a length with a sign": (post(PNG, length(b"+" + SIZE)), {400}),
    "a negative length": (post(PNG, length(b"-1")), {400}),
    "a length of Arabic digits": (post(PNG, length("٣".encode())), {400}),
    "a length of 5,000 digits": (post(PNG, length(b"9" * 5000)), {400, 413}),
    "a length that is too large": (post(b"", length(b"999999999999")), {413}),
    "two lengths that differ": (post(PNG, BODY + length(b"3")), {400}),
    "two lengths that agree": (post(PNG, BODY + BODY), {200, 400}),
    "a list of lengths": (post(PNG, length(SIZE + b", 3")), {400}),
    "a second request behind a length of 0": (post(SMUGGLED, length(b"0")), {400, 422}),
    # bodies in chunks
    "a chunked photo": (chunked(WHOLE, LAST), {200}),
    "a chunk with an extension": (chunked(WHOLE.replace(b"\r\n", b";a=b\r\n", 1), LAST), {200}),
    "a trailer": (chunked(WHOLE, b"0\r\nX: y\r\n\r\n"), {200}),
    "a chunk length that is none": (chunked(b"zz\r\n"), {400}),
    "a chunk length with a sign": (chunked(b"-5\r\nabcde\r\n", LAST), {400}),
    "a chunk length with an underscore": (chunked(b"1_0\r\n" + bytes(16) + b"\r\n", LAST), {400}),
    "a chunk length of 100 digits": (chunked(b"f" * 100 + b"\r\n"), {400, 413}),
    "a chunk that is longer than it says": (chunked(b"3\r\nabcde\r\n", LAST), {400}),
    "chunks and a length": (chunked(WHOLE, LAST, headers=length(b"5")), {200, 400}),
    "a length first and chunks": (post(LAST + SMUGGLED, length(b"5")
                                       + b"Transfer-Encoding: chunked\r\n"), {400, 422}),
    "another coding": (chunked(WHOLE, LAST, coding=b"gzip"), {400, 501}),
    "chunked and another coding": (chunked(WHOLE, LAST, coding=b"chunked, gzip"), {400, 501}),
    "a coding that hides": (chunked(WHOLE, LAST, coding=b"xchunked"), {400, 501}),
    "a coding behind a tab": (chunked(WHOLE, LAST, coding=b"\tchunked"), {200, 400, 501}),
    "a coding in HTTP 1.0": (chunked(WHOLE, LAST).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
                             {200, 400, 411, 422, 501}),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, folder):  # noqa: F811
    process = Process(tmp_path_factory.mktemp("raw"), "--model", folder)
    yield process
    process.kill()


@pytest.mark.parametrize("name", REQUESTS)
def test_every_request_gets_its_status(server, name):
    request, right = REQUESTS[name]
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    with contextlib.suppress(ConnectionError):  # it has answered and closed before the end
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
    answer = rest(connection)
    statuses = [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
    final = [status for status in statuses if status >= 200] or [0]
    assert len(final) == 1 and final[0] in right, statuses  # one answer: nothing was smuggled
    assert "Traceback" not in server.errors()


def test_the_table_is_long_enough():
    assert len(REQUESTS) >= 75 and all(right for _, right in REQUESTS.values())
