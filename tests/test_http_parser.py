"""What the HTTP layer keeps of a request while it arrives, piece by piece."""

import gc
import importlib.metadata
import random

import pytest
from waitress.adjustments import Adjustments

from deployment import http_parser
from deployment.body_memory import SMALL, BodyBudget
from deployment.http_parser import (
    MAX_CHUNK_LINE,
    MAX_HEADER,
    MAX_HEADER_LINES,
    MAX_TRAILER,
    ChunkedReceiver,
    Parser,
    SizedReceiver,
)

ADJUSTMENTS = Adjustments(max_request_header_size=MAX_HEADER, max_request_body_size=10_000)


def test_waitress_is_the_version_that_was_read():
    assert importlib.metadata.version("waitress") == http_parser.WAITRESS


def chunks(body, sizes, extension=b""):
    """A body in chunks of these sizes, as RFC 9112 has them."""
    framed, start = b"", 0
    for size in sizes:
        framed += b"%x%s\r\n%s\r\n" % (size, extension, body[start : start + size])
        start += size
    return framed + b"0\r\n"


def receive(framed, piece_size, capacity=1000):
    """The receiver after all pieces, and how many bytes it took."""
    receiver = ChunkedReceiver(BodyBudget(10_000).take(capacity))
    taken = 0
    while taken < len(framed) and not (receiver.completed or receiver.error):
        piece = framed[taken : taken + piece_size]
        count = receiver.received(piece)
        assert 0 < count <= len(piece)
        taken += count
    return receiver, taken


@pytest.mark.parametrize("piece_size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"\r\n", b"A: b\r\nC: d\r\n\r\n"])
def test_chunks_are_put_together(piece_size, end):
    body = random.Random(piece_size).randbytes(300) + b"\r\n0\r\n\r\n"
    framed = chunks(body, [100, 1, 199, len(body) - 300], b';a=b;c="d"') + end
    receiver, taken = receive(framed + b"GET / HTTP/1.1", piece_size)
    assert receiver.completed and not receiver.error and taken == len(framed)
    assert bytes(receiver.getbuf().view()) == body == receiver.getfile().read()


@pytest.mark.parametrize("framed", [
    b"5\nhello\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhell\r\n0\r\n\r\n", b"-5\r\n",
    b"0x5\r\n",
    b" 5\r\n", b"5 \r\n", b"\r\n", b"5;\x01\r\n", b"5;a=\r\n", b"g\r\n", b"f" * 17 + b"\r\n",
    b"5\r\r\nhello", b"0\r\nno colon\r\n\r\n", b"0\r\na: b\n\r\n", b"0\r\na: b\rc\r\n\r\n",
], ids=repr)
def test_what_is_no_chunk(framed):
    for piece_size in (1, 1000):
        receiver, _ = receive(framed, piece_size)
        assert receiver.error.code == 400 and not receiver.completed


def test_chunks_that_are_larger_than_the_body_may_be():
    receiver, _ = receive(b"3e9\r\n", 100)
    assert receiver.error.code == 413
    receiver, _ = receive(chunks(b"x" * 1200, [600, 600]), 100)
    assert receiver.error.code == 413


@pytest.mark.parametrize("first, more, bound", [
    (b"5;", b"x" * 100, MAX_CHUNK_LINE), (b"", b"5" * 100, MAX_CHUNK_LINE),
    (b"0\r\n", b"a" * 100, MAX_TRAILER), (b"0\r\n", b"a: b\r\n" * 50, 200 * MAX_HEADER_LINES),
    (b"", b"1\r\nx\r\n" * 20, 20_000),
], ids=["extension", "size", "trailer line", "trailer", "small chunks"])
def test_nothing_between_chunks_is_endless(first, more, bound):
    receiver = ChunkedReceiver(BodyBudget(10**6).take(10**5))
    receiver.received(first)
    sent = 0
    while not receiver.error:
        receiver.received(more)
        sent += len(more)
        assert sent <= bound + len(more)
    assert receiver.error.code == 400


def test_small_chunks_that_are_few():
    body = b"x" * 900
    receiver, _ = receive(chunks(body, [1] * 900) + b"\r\n", 50)
    assert bytes(receiver.getbuf().view()) == body


def test_a_body_of_known_length():
    receiver = SizedReceiver(BodyBudget(100).take(10))
    assert receiver.received(b"1234567") == 7 and not receiver.completed
    assert receiver.received(b"890GET") == 3 and receiver.completed
    assert bytes(receiver.getbuf().view()) == b"1234567890"


@pytest.mark.parametrize("head", [
    b"GET http://[ HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
], ids=["address", "number", "lines"])
def test_headers_that_are_refused_in_words(head):
    parser = Parser(ADJUSTMENTS)
    parser.received(head)
    assert parser.completed and parser.error.code == 400


# --- the budget -----------------------------------------------------------------------


def test_a_body_takes_half_of_what_is_free():
    budget = BodyBudget(100)
    bodies = [budget.take(size) for size in (50, 26, 25, 25, 12)]
    assert [body is not None for body in bodies] == [True, False, True, False, True]
    assert budget.free == 13


@pytest.mark.parametrize("unit", [1, SMALL])
def test_a_place_ends_with_the_last_view(unit):
    budget = BodyBudget(100 * unit)
    body = budget.take(40 * unit)
    body.append(b"a" * 30)
    view = body.view()[10:20]
    assert budget.free == 60 * unit
    body.close()
    del body
    gc.collect()
    assert budget.free == 60 * unit and bytes(view) == b"a" * 10
    del view
    assert budget.free == 100 * unit


def test_what_chunks_did_not_need_is_free():
    budget = BodyBudget(1000)
    receiver = ChunkedReceiver(budget.take(500))
    receiver.received(chunks(b"x" * 20, [20]) + b"\r\n")
    assert receiver.completed and budget.free == 980
    receiver.getbuf().close()
    assert budget.free == 1000
