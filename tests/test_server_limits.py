"""What the server does with clients that want its memory, its connections or its log.

Against real processes where memory, tokens and signals count, against a server in this process
where a limit has to be small.
"""

import contextlib
import ctypes
import gc
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from conftest import ROOT
from PIL import Image
from test_server import (  # noqa: F401  fixtures
    PNG,
    Process,
    application,
    connected,
    encoded,
    folder,
    picture,
    refused,
    rest,
    start,
)

from common import memory
from common.web_origins import host_problem, origin_problem
from data import decoding_budget
from data.decoding_budget import DecodingBudget, NoRoom, reserve
from deployment import flood_control, http_channel, http_server, log
from deployment.access import Access
from deployment.batching import Batcher, Threads, _Batch, wait
from deployment.prediction_service import PredictionService, Settings

TOKEN = "0123456789abcdef"
CHUNKED = b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
ORIGIN = "https://photos.example"


def body_of(answer):
    """(status, JSON) of one answer, bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def first_answer(connection):
    """What comes up to the end of one answer, whether or not the connection stays."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(10_000)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
    while len(body) < length:
        body += connection.recv(10_000)
    return head, body


@pytest.fixture(scope="module")
def small(tmp_path_factory, folder):  # noqa: F811
    """A server with room for 7.5 MB of bodies and 22.5 MB of decoding."""
    process = Process(tmp_path_factory.mktemp("small"), "--model", folder, "--max_megabytes", 1,
                      "--memory_megabytes", 30)
    yield process
    process.kill()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, folder):  # noqa: F811
    """A server with a token."""
    place = tmp_path_factory.mktemp("guarded")
    (place / "token").write_text(TOKEN)
    process = Process(place, "--model", folder, "--token_file", place / "token", "--max_megabytes",
                      1)
    yield process
    process.kill()


@pytest.fixture
def serve_here(monkeypatch):
    """Starts servers in this process, whose application says how long a body is."""
    started_servers = []

    def application_(environment, start_response):
        body = environment.get(http_channel.BODY_KEY, b"")
        answer = f"{environment['PATH_INFO']} {len(body)}".encode()
        status = "503 Full" if environment["PATH_INFO"] == "/full" else "200 OK"
        start_response(status, [("Content-Length", str(len(answer)))])
        return [answer]

    def serve(body_bytes=10**6, max_bytes=10**5, application_=application_):
        settings = Settings(None, 4, max_bytes, 10, body_bytes=body_bytes)
        listener = socket.create_server(("127.0.0.1", 0))
        counted = []
        server = http_server.create(application_, listener, settings, 2,
                                    lambda path, status: counted.append((path, status)))
        state = SimpleNamespace(closing=False)
        thread = threading.Thread(target=http_server.run, args=(server, state), daemon=True)
        thread.start()
        started_servers.append((server, state, thread))
        return SimpleNamespace(port=listener.getsockname()[1], counted=counted, server=server)

    yield serve
    for server, state, thread in started_servers:
        state.closing = True
        thread.join(20)
        http_server.drain(server, 1)
        server.task_dispatcher.shutdown()


def resident(process):
    """Bytes of memory that a process has."""
    with open(f"/proc/{process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- memory before any token ----------------------------------------------------------


@pytest.mark.parametrize("first, more, statuses", [
    (CHUNKED + b"5;", b"x" * 10_000, {400}), (CHUNKED + b"0\r\n", b"a: b\r\n" * 2000, {400}),
    (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 2000, {400, 431}),
    (b"GET / HTTP/1.1\r\nA: ", b"b" * 10_000, {431}),
], ids=["chunk extension", "trailer", "headers", "header"])
def test_what_never_ends_is_refused_and_not_kept(small, first, more, statuses):
    before = resident(small.process)
    connections = [connected(small) for _ in range(20)]
    for connection in connections:
        connection.sendall(first)
        with contextlib.suppress(ConnectionError):
            for _ in range(300):  # 3 MB each
                connection.sendall(more)
    assert resident(small.process) - before < 30e6
    for connection in connections:
        with contextlib.suppress(ConnectionError):  # where it was sending for too long
            assert body_of(rest(connection))[0] in statuses
    assert small.predict().status_code == 200


@pytest.mark.parametrize("framing", ["Content-Length: 900000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", ["/predict", "//predict", "/nowhere", "/healthz"])
def test_the_token_is_asked_for_before_a_body_is_taken_in(guarded, framing, path):
    head = f"POST {path} HTTP/1.1\nHost: x\nX-Request-ID: mine\nExpect: 100-continue\n{framing}\n"
    answer = rest(connected(guarded, f"{head}\n".encode()))
    status, body = body_of(answer)
    assert status == 401 and b"WWW-Authenticate: Bearer" in answer.replace(b"Www", b"WWW")
    assert body["error"]["code"] == "unauthorized" and body["request_id"] == "mine"
    wrong = f"{head}Authorization: Bearer {TOKEN}0\n\n".encode()
    assert body_of(rest(connected(guarded, wrong)))[0] == 401
    with connected(guarded, f"{head}Authorization: Bearer {TOKEN}\n\n".encode()) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")


def test_refusals_before_the_application_are_counted_by_route(guarded):
    rest(connected(guarded, b"POST /predict HTTP/1.1\nContent-Length: 9\n\n"))
    rest(connected(guarded, b"POST /x/y HTTP/1.1\nContent-Length: 9\n\n"))
    text = requests.get(f"{guarded.url}/metrics", timeout=20,
                        headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert re.search(r'requests_total\{route="/predict",status="401"\} \d', text)
    assert re.search(r'requests_total\{route="none",status="401"\} \d', text)


def test_two_requests_that_crashed_the_parser(start):  # noqa: F811
    server = start()
    for _ in range(20):
        for head in (b"GET http://[ HTTP/1.1\n\n",
                     b"POST /predict HTTP/1.1\nContent-Length: " + b"9" * 5000 + b"\n\n"):
            status, body = body_of(rest(connected(server, head)))
            assert status == 400 and body["error"]["code"] == "bad_request"
    text = requests.get(f"{server.url}/metrics", timeout=20).text
    for route in ("none", "/predict"):  # of the second the path is known
        assert f'requests_total{{route="{route}",status="400"}} 20.0' in text
    [line] = server.errors().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d a request is not HTTP: .{1,150}", line)


def test_requests_behind_one_another(serve_here):
    """All in one piece, a body among them; each is answered before the next is looked at."""
    server = serve_here()
    with connected(server) as connection:
        connection.sendall(b"\r\nGET /a HTTP/1.1\r\n\r\n"
                           b"POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz"
                           b"GET /c HTTP/1.1\r\nConnection: close\r\n\r\nGET /d HTTP/1.1\r\n\r\n")
        answers = b"".join(iter(lambda: connection.recv(10_000), b""))
    assert re.findall(rb"\r\n\r\n(/\w \d)", answers) == [b"/a 0", b"/b 3", b"/c 0"]


def get(path):
    return f"GET {path} HTTP/1.1\n\n".encode()


def send(connection, request):
    connection.sendall(request.replace(b"\n", b"\r\n"))


def test_who_was_asked_to_come_again_later_is_made_to_wait(serve_here, monkeypatch):
    monkeypatch.setattr(http_channel, "RETRY_SECONDS", 1000)
    server = serve_here()
    with connected(server, get("/full") * 2) as impatient:
        assert first_answer(impatient)[1] == b"/full 0"
        [channel] = server.server.active_channels.values()
        until(lambda: channel.held)
        impatient.settimeout(0.3)
        with pytest.raises(TimeoutError):
            impatient.recv(1)
        impatient.settimeout(20)
        with connected(server, get("/other")) as other:
            assert first_answer(other)[1] == b"/other 0"
        channel.paused_until = 0.1  # on a clock that is past it
        assert first_answer(impatient)[1] == b"/full 0"
        send(impatient, get("/other"))
        channel.paused_until = 0.1
        assert first_answer(impatient)[1] == b"/other 0"
        send(impatient, get("/full"))
        assert first_answer(impatient)[1] == b"/full 0"
        send(impatient, get("/other"))
        server.server.ending = True  # what has been sent is answered
        assert first_answer(impatient)[1] == b"/other 0"


def test_many_refusals_are_put_off(serve_here, monkeypatch):
    """And make room for others meanwhile."""
    monkeypatch.setattr(flood_control, "QUICK_REFUSALS", 1)
    monkeypatch.setattr(flood_control, "REFUSAL_SECONDS", 1000)
    monkeypatch.setattr(http_server, "CONNECTIONS", 3)
    server = serve_here()
    server.server._refusals._second = 1e12  # a second that does not end
    assert rest(connected(server, b"GET http://[ HTTP/1.1\n\n")).startswith(b"HTTP/1.1 400")
    late = [connected(server, b"GET http://[ HTTP/1.1\n\n") for _ in range(2)]
    until(lambda: len(server.server._refusals._postponed) == 2)
    late[1].settimeout(0.2)
    with pytest.raises(TimeoutError):
        late[1].recv(1)
    late[1].settimeout(20)
    others = []
    for _ in range(2):
        others.append(connected(server, get("/other")))
        assert first_answer(others[-1])[1] == b"/other 0"
    assert rest(late[0]) == b""
    for channel in list(server.server._refusals._postponed):
        channel.answer_due = 0.1  # on a clock that is past it
    assert rest(late[1]).startswith(b"HTTP/1.1 400")
    until(lambda: not server.server._refusals._postponed)
    for connection in others:
        connection.close()


@pytest.mark.parametrize("waits_for_the_model", [True, False])
def test_others_begin_when_one_waits(serve_here, monkeypatch, waits_for_the_model):
    monkeypatch.setattr(flood_control, "BEGINNERS", 1)
    has_begun, may_end = threading.Event(), threading.Event()

    def application_(environment, start_response):
        if environment["PATH_INFO"] == "/long":
            has_begun.set()
            if waits_for_the_model:
                environment[http_channel.WAITING_KEY]()
            may_end.wait(20)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    server = serve_here(application_=application_)
    long = connected(server, get("/long"))
    assert has_begun.wait(20)
    with long, connected(server, get("/other")) as other:
        other.settimeout(20 if waits_for_the_model else 0.3)
        try:
            first_answer(other)
            is_answered = True
        except TimeoutError:
            is_answered = False
        assert is_answered == waits_for_the_model
        may_end.set()
        other.settimeout(20)
        assert first_answer(long)[1] == b"done"
        if not is_answered:
            assert first_answer(other)[1] == b"done"
    until(lambda: server.server._gate._count == 0)


@pytest.mark.skipif(not hasattr(select, "poll"), reason="the order of Windows")
def test_first_requests_are_heard_before_further_ones(monkeypatch):
    """However many of those there are; of these, those that waited longest before the others."""
    monkeypatch.setattr(http_server, "PATIENT_SECONDS", 0)  # one of each kind in a turn
    asked = []

    def application_(environment, start_response):
        asked.append(environment["QUERY_STRING"])
        start_response("200 OK", [("Content-Length", "0")])
        return []

    listener = socket.create_server(("127.0.0.1", 0))
    settings = Settings(None, 4, 10**5, 10, body_bytes=10**6)
    server = http_server.create(application_, listener, settings, 2, lambda path, status: None)
    place = SimpleNamespace(port=listener.getsockname()[1])

    def turn_until(count):
        until(lambda: server.turn(0.01) or len(asked) == count)

    kept = [connected(place, get(f"/healthz?{name}")) for name in "abcde"]
    turn_until(5)
    first_round = sorted(asked)
    for connection, name in zip(kept, "abcde"):
        first_answer(connection)
        send(connection, get(f"/healthz?{name}"))
    new = [connected(place, get(f"/healthz?{name}")) for name in "xy"]
    until(lambda: server.turn(0.01) or {"x", "y"} <= set(asked))
    heard = asked[5:]
    turn_until(12)
    assert first_round == list("abcde") and sorted(asked[5:]) == list("abcdexy")
    assert {"x", "y"} & set(heard[:3]) and len(heard) < 7
    assert [name for name in asked[5:] if name in "abcde"] == asked[:5]
    for connection in kept + new:
        connection.close()
    http_server.drain(server, 1)
    server.task_dispatcher.shutdown()


# --- memory of bodies -----------------------------------------------------------------

LARGE = b"POST /predict HTTP/1.1\nContent-Length: 1000000\n\n"


def holding(server, count):
    """Connections on which nearly all of a large body has come; all have their places."""
    expecting = LARGE.replace(b"\n\n", b"\nExpect: 100-continue\n\n")
    connections = [connected(server, expecting) for _ in range(count)]
    for connection in connections:
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(b"\0" * 950_000)
    return connections


def test_bodies_have_one_budget_and_leave_room_for_small_ones(small):
    connections = holding(small, 6)  # 7.5 MB, of which the next may take half of what is left
    answer = rest(connected(small, LARGE + b"\0" * 100))
    status, body = body_of(answer)
    assert (status, body["error"]["code"]) == (503, "queue_full") and b"Retry-After: 1" in answer
    assert small.predict().status_code == 200
    for connection in connections:
        connection.sendall(b"\0" * 50_000)
        assert body_of(rest_of_one(connection))[0] == 422
    [connection] = holding(small, 1)  # they have given their places back
    connection.sendall(b"\0" * 50_000)
    assert body_of(rest_of_one(connection))[0] == 422


def rest_of_one(connection):
    head, body = first_answer(connection)
    connection.close()
    return head + b"\r\n\r\n" + body


def test_bodies_that_hardly_come_make_room(serve_here, monkeypatch):
    monkeypatch.setattr(http_channel, "SLOW_AFTER", 0.2)
    server = serve_here(body_bytes=300_000)
    head = b"POST /x HTTP/1.1\nContent-Length: 90000\n\n"
    slow = []
    for count in (1, 2):
        slow.append(connected(server, head + b"abc"))
        until(lambda: server.server._budget.free == 300_000 - count * 90_000)  # noqa: B023
    time.sleep(0.5)
    with connected(server, head) as connection:
        connection.sendall(b"x" * 90_000)
        assert first_answer(connection)[1] == b"/x 90000"
    status, body = body_of(rest(slow[0]))  # the oldest, and no more than needed
    assert (status, body["error"]["code"]) == (408, "too_slow")
    slow[1].sendall(b"x" * 89_997)
    assert first_answer(slow[1])[1] == b"/x 90000"
    slow[1].close()


HEAD_90, BODY_90 = b"POST /x HTTP/1.1\nContent-Length: 90000\n\n", b"x" * 90_000


def two_that_fill(server):
    """Two connections with all of a body but its end, of 300,000 bytes too many for a third."""
    connections = [connected(server, HEAD_90 + BODY_90[:-1]) for _ in range(2)]
    until(lambda: server.server._budget.free == 120_000)
    return connections


def in_a_row(server, request):
    """Two connections that wait for memory, one behind the other."""
    connections = []
    for count in (1, 2):
        connections.append(connected(server, request))
        until(lambda: len(server.server._row.waiting()) == count)  # noqa: B023  called at once
    return connections


def test_a_body_waits_for_room_in_its_turn(serve_here, monkeypatch):
    """Smaller ones pass; who waits too long is asked to come again."""
    monkeypatch.setattr(http_channel, "ROOM_SECONDS", 1000)
    monkeypatch.setattr(http_channel, "SLOW_AFTER", 1000)
    server = serve_here(body_bytes=300_000)
    first = two_that_fill(server)
    waiting = in_a_row(server, HEAD_90 + BODY_90)
    with connected(server, b"POST /x HTTP/1.1\nContent-Length: 9\n\nabcdefghi") as small_one:
        assert first_answer(small_one)[1] == b"/x 9"
    waiting[0].settimeout(0.2)
    with pytest.raises(TimeoutError):
        waiting[0].recv(1)
    waiting[0].settimeout(20)
    first[0].sendall(b"x")
    assert first_answer(first[0])[1] == b"/x 90000"
    assert first_answer(waiting[0])[1] == b"/x 90000"
    assert first_answer(waiting[1])[1] == b"/x 90000"
    first.append(connected(server, HEAD_90 + BODY_90[:-1]))
    until(lambda: server.server._budget.free == 120_000)
    late = connected(server, HEAD_90 + BODY_90)
    until(lambda: len(server.server._row.waiting()) == 1)
    server.server._row.waiting()[0].room_deadline = 0.1  # on a clock that is past it
    status, body = body_of(rest(late))
    assert (status, body["error"]["code"]) == (503, "queue_full")
    for connection in first + waiting:
        connection.close()


def test_a_client_that_leaves_the_row_ends_nothing(serve_here, monkeypatch):
    """It is to be told to send its body when nobody is there to hear it."""
    monkeypatch.setattr(http_channel, "ROOM_SECONDS", 1000)
    monkeypatch.setattr(http_channel, "SLOW_AFTER", 1000)
    server = serve_here(body_bytes=300_000)
    first = two_that_fill(server)
    gone = connected(server, HEAD_90.replace(b"\n\n", b"\nExpect: 100-continue\n\n"))
    until(lambda: server.server._row.waiting())
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    gone.close()
    for connection in first:
        connection.sendall(b"x")
        assert first_answer(connection)[1] == b"/x 90000"
        connection.close()
    until(lambda: server.server._budget.free == 300_000)
    with connected(server, get("/other")) as connection:
        assert first_answer(connection)[1] == b"/other 0"


def test_a_body_is_not_slow_while_it_waits_for_room(serve_here, monkeypatch):
    monkeypatch.setattr(http_channel, "ROOM_SECONDS", 1000)
    monkeypatch.setattr(http_channel, "SLOW_AFTER", 20)
    server = serve_here(body_bytes=300_000)
    first = two_that_fill(server)
    waiting = in_a_row(server, HEAD_90)
    for channel in server.server._row.waiting():
        channel.request.started_at -= 30  # it has waited so long
    first[0].sendall(b"x")
    assert first_answer(first[0])[1] == b"/x 90000"
    until(lambda: len(server.server._row.waiting()) == 1)
    time.sleep(2 * http_server.CHECK_SECONDS)  # while the next one waits
    waiting[0].sendall(BODY_90)
    assert first_answer(waiting[0])[1] == b"/x 90000"
    for connection in first + waiting:
        connection.close()


def test_clients_that_go_away_give_their_place_back(serve_here):
    server = serve_here(body_bytes=300_000)
    for _ in range(20):
        connected(server, b"POST /x HTTP/1.1\nContent-Length: 90000\n\nabc").close()
    budget = server.server._budget
    until(lambda: budget.free == 300_000)


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- connections ----------------------------------------------------------------------


@pytest.mark.parametrize("limit, sent, code", [
    ("KEEP_ALIVE", b"", None), ("HEADER_SECONDS", b"GET / HT", 408),
    ("BODY_SECONDS", b"POST / HTTP/1.1\nContent-Length: 9\n\nabc", 408),
])
def test_every_wait_for_a_client_ends(serve_here, monkeypatch, limit, sent, code):
    monkeypatch.setattr(http_channel, limit, 0.3)
    server = serve_here()
    answer = rest(connected(server, sent))
    assert answer == b"" if code is None else body_of(answer)[0] == code


def test_dripping_does_not_put_an_end_off(serve_here, monkeypatch):
    monkeypatch.setattr(http_channel, "HEADER_SECONDS", 0.5)
    connection = connected(serve_here(), b"GET / HTTP/1.1\n")
    connection.settimeout(0.02)
    answer = b""
    with contextlib.suppress(ConnectionError):
        for _ in range(1000):
            connection.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                answer += connection.recv(1000)
            if answer:
                break
    assert answer.startswith((b"HTTP/1.0 408 ", b"HTTP/1.1 408 "))
    connection.close()


def test_the_oldest_idle_connection_makes_room(serve_here, monkeypatch):
    monkeypatch.setattr(http_server, "CONNECTIONS", 5)
    monkeypatch.setattr(http_channel, "KEEP_ALIVE", 1000)
    server = serve_here()
    busy = connected(server, b"POST /x HTTP/1.1\nContent-Length: 3\n\na")
    until(lambda: any(channel.is_receiving_body
                      for channel in server.server.active_channels.values()))
    idle = [connected(server) for _ in range(4)]
    until(lambda: len(server.server.active_channels) == 5)
    for index in range(3):
        with connected(server, b"GET /y HTTP/1.1\n\n") as connection:
            assert first_answer(connection)[1] == b"/y 0"
            if not index:
                assert rest(idle[0]) == b""
    busy.sendall(b"bc")
    assert first_answer(busy)[1] == b"/x 3"
    busy.close()
    for connection in idle:
        connection.close()


def test_five_hundred_idle_connections_lock_nobody_out(small):
    idle = [connected(small) for _ in range(http_server.CONNECTIONS + 20)]
    assert requests.get(f"{small.url}/healthz", timeout=20).status_code == 200
    assert small.predict().status_code == 200
    for connection in idle:
        connection.close()


def test_a_port_for_probes_alone(start):  # noqa: F811
    server = start("--probe_port", 0)
    probe_url = server.ready["probe_url"]
    assert requests.get(f"{probe_url}/healthz", timeout=20).json() == {"status": "alive"}
    assert requests.get(f"{probe_url}/readyz", timeout=20).json() == {"status": "ready"}
    refused(requests.get(f"{probe_url}/labels", timeout=20), 404, "not_found")
    refused(requests.post(f"{probe_url}/predict", PNG, timeout=20), 413, "too_large")
    assert server.predict().status_code == 200 and server.end()[0] == 0


def test_a_model_that_has_hung_is_not_ready(application):  # noqa: F811
    test_app = application(time_limit=10)
    batcher = test_app.state.served_model.batcher
    batcher._computing = [_Batch([], time.monotonic() - 25)]
    assert test_app.client.get("/readyz").status_code == 200
    batcher._computing = [_Batch([], time.monotonic() - 5), _Batch([], time.monotonic() - 35)]
    assert "has not answered for 35" in refused(test_app.client.get("/readyz"), 503, "not_ready")
    batcher._computing.clear()
    assert test_app.client.get("/readyz").status_code == 200


# --- memory of decoding ---------------------------------------------------------------


def test_a_budget_of_decoding(monkeypatch):
    budget = DecodingBudget(100)
    reserve(10**9, "a.jpg")  # nobody asks for a budget
    with budget.lease():
        reserve(60, "a.jpg")
        reserve(40, "a.jpg")  # a part of it
        assert budget.free == 40
        reserve(70, "a.jpg")
        assert budget.free == 30

        def other():
            with budget.lease(), pytest.raises(NoRoom):
                reserve(31, "b.jpg")
            ended.set()

        ended = threading.Event()
        threading.Thread(target=other).start()
        assert ended.wait(10)
        with pytest.raises(decoding_budget.ImageError, match="takes 0 MB of memory to decode"):
            reserve(101, "a.jpg")
    assert budget.free == 100


def test_expensive_images_wait_and_cheap_ones_pass():
    budget, lock = DecodingBudget(100), threading.Lock()
    taken, order, blocker = [0, 0], [], threading.Event()

    def decode(source):
        cost = int(source)
        reserve(cost, "image")
        with lock:
            taken[0] += cost
            taken[1] = max(taken)
        if cost == 61:
            assert blocker.wait(10)
        order.append(cost)
        with lock:
            taken[0] -= cost
        return np.full((1, 1, 3), cost, np.uint8)

    batcher = Batcher(decode, lambda images: images[:, 0, 0, 0], 8, 0, 100, Threads(4),
                      budget=budget)
    futures = batcher.submit([b"61", b"60", b"62", *[b"5"] * 6])
    until(lambda: order.count(5) == 6)  # past the two that wait for the first
    assert order == [5] * 6
    blocker.set()
    batcher.close()
    answers = [int(wait(future, time.monotonic() + 10)) for future in futures]
    assert answers == [61, 60, 62, *[5] * 6] and taken[1] <= 100 and budget.free == 100


def webp(side):
    return encoded(Image.new("RGB", (side, side)), "WEBP", lossless=True)


def test_large_pictures_of_few_bytes(small):
    picture_bytes = webp(1450)  # 2.1 megapixels at 10 bytes: 21 of the 22.5 MB
    assert len(picture_bytes) < 200
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(small.predict(picture_bytes)))
               for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 6
    message = refused(small.predict(webp(1550)), 422, "undecodable")
    assert "takes 24 MB of memory to decode, more than the 22 MB" in message


@pytest.mark.parametrize("files, groups, expected", [
    ({"memory.max": "max\n"}, "0::/\n", None), ({"memory.max": "1000000\n"}, "0::/\n", 1_000_000),
    ({"a/b/memory.max": "max\n", "a/memory.max": "2000000\n"}, "0::/a/b\n", 2_000_000),
    ({"memory/x/memory.limit_in_bytes": "3000000\n",
      "memory/memory.limit_in_bytes": "9223372036854771712\n"},
     "5:devices:/\n4:cpu,memory:/x\n", 3_000_000),
    ({}, "", None),
], ids=["no limit", "version 2", "a group above", "version 1", "none"])
def test_memory_of_a_container(tmp_path, files, groups, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(groups)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.usable_memory(str(tmp_path), str(tmp_path / "own")) == (expected or machine)
    assert memory.usable_memory(str(tmp_path), str(tmp_path / "nowhere")) <= machine


KEEPING = """
import ctypes, sys, threading
from common.memory import give_back_memory, keep_little_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

def use(size):
    place = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(place, 1, size)
    libc.free(place)

if sys.argv[1] == "little":
    keep_little_memory()
use(30_000_000)  # glibc learns from it to keep as much
before = resident()
thread = threading.Thread(target=use, args=(20_000_000,))  # in an arena of its own
thread.start()
thread.join()
give_back_memory()
print(resident() - before)
"""


@pytest.mark.skipif(os.name != "posix" or not hasattr(ctypes.CDLL(None), "mallopt"),
                    reason="another C library")
def test_large_pieces_of_memory_are_given_back_at_once():
    kept_bytes = {}
    for way in ("as usual", "little"):
        done = subprocess.run([sys.executable, "-c", KEEPING, way], cwd=ROOT, check=True,
                              capture_output=True, text=True)
        kept_bytes[way] = int(done.stdout)
    assert kept_bytes["as usual"] > 19_000_000 and kept_bytes["little"] < 2_000_000


# --- a folder that is written over ----------------------------------------------------


def test_a_served_folder_that_is_written_over(start, folder, tmp_path):  # noqa: F811
    model_folder = shutil.copytree(folder, tmp_path / "model")
    server = start(model=model_folder)
    expected = server.predict().json()["predictions"]
    for name in os.listdir(model_folder):
        with open(model_folder / name, "r+b") as model_file:
            model_file.truncate(0)
            model_file.write(b"\xff" * 100)
    form_files = [("image", PNG)] * 9
    for result in server.predict(None, files=form_files).json()["results"]:  # of larger batches
        assert result["predictions"] == expected
    server.process.send_signal(signal.SIGHUP)
    until(lambda: "the old model keeps serving" in server.errors())
    assert server.predict().json()["predictions"] == expected and server.end()[0] == 0


def test_weights_are_not_mapped():
    from prediction.openvino_predictor import core

    assert core().get_property("ENABLE_MMAP") is False


# --- the log --------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["full disk", "closed pipe"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_log_that_cannot_be_written(folder, target, workers):  # noqa: F811
    if target == "full disk":
        error_end = os.open("/dev/full", os.O_WRONLY)
    else:
        reading_end, error_end = os.pipe()
        os.close(reading_end)
    process = subprocess.Popen(
        [sys.executable, "deployment/server.py", "--model", folder, "--port", "0", "--json",
         "--workers", str(workers)], cwd=ROOT, stdout=subprocess.PIPE, stderr=error_end, text=True)
    os.close(error_end)
    ready = json.loads(process.stdout.readline())
    url = ready["url"]
    try:
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
        assert requests.post(f"{url}/predict", PNG, timeout=20).status_code == 200
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(PNG))
            connection.sendall(PNG[:50])
            time.sleep(0.3)
            process.terminate()
            time.sleep(0.5)
            connection.sendall(PNG[50:])
            assert first_answer(connection)[0].startswith(b"HTTP/1.1 200 ")
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_lines_are_whole_and_rare(monkeypatch):
    reading_end, writing_end = os.pipe()
    monkeypatch.setattr(sys, "stderr", open(writing_end, "w"))
    monkeypatch.setattr(log, "_last_logged", {})
    for index in range(5):
        log.log_rarely("kind", f"of a\n client {index} {'x' * 500}")
    log.log_rarely("other", "ü\udcff")
    log.log("two\nlines")
    lines = os.read(reading_end, 10_000).decode().splitlines()
    os.close(reading_end)
    sys.stderr.close()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
    assert re.fullmatch(stamp + "of a client 0 x{186}", lines[0])
    assert re.fullmatch(stamp + r"ü\\udcff", lines[1])
    assert re.fullmatch(stamp + "two", lines[2]) and lines[3:] == ["lines"]


# --- other pages ----------------------------------------------------------------------


@pytest.mark.parametrize("headers, status", [
    ({}, 200), ({"Host": "127.0.0.1:99"}, 200), ({"Host": "[::1]"}, 200),
    ({"Host": "LocalHost"}, 200),
    ({"Host": "evil.example"}, 403), ({"Host": "127.0.0.1.evil.example:80"}, 403),
    ({"Host": "localhost, evil.example"}, 400), ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403), ({"Origin": "http://localhost:1", "Host": "localhost:2"}, 403),
    ({"Origin": "http://localhost:1", "Host": "localhost:1", "Sec-Fetch-Site": "same-origin"}, 200),
    ({"Origin": "https://behind.a.proxy", "Sec-Fetch-Site": "same-origin"}, 200),
    ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "none"}, 200), ({"Origin": "http://["}, 403),
])
def test_pages_of_others_are_refused(small, headers, status):
    for answer in (small.predict(headers=headers),
                   requests.get(f"{small.url}/labels", headers=headers, timeout=20)):
        assert answer.status_code == status
        if status == 403:
            refused(answer, 403, "forbidden")
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_link_of_another_page_opens_the_server(small):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert requests.get(small.url, headers=headers, timeout=20).status_code == 200


def test_hosts_and_pages_that_are_allowed(start):  # noqa: F811
    server = start("--allow_host", "photos.lan", "--cors", ORIGIN, "http://other.example:8080")
    assert server.predict(headers={"Host": "photos.lan:5001"}).status_code == 200
    assert server.predict(headers={"Host": "other.lan"}).status_code == 403
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    for data, status in ((PNG, 200), (b"x", 422), (b"\0" * 20_000_000, 413)):
        answer = server.predict(data, headers=headers)
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Origin" in answer.headers["Vary"]
    preflight = requests.options(f"{server.url}/predict", timeout=20, headers={
        **headers, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization"})
    assert preflight.status_code == 200
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert server.predict(headers={"Origin": "https://evil.example"}).status_code == 403


def test_a_server_with_a_token_answers_to_any_name(guarded):
    headers = {"Host": "classifier.example", "Authorization": f"Bearer {TOKEN}"}
    assert guarded.predict(headers=headers).status_code == 200
    preflight = requests.options(f"{guarded.url}/predict", timeout=20)
    assert preflight.status_code == 200 and "Access-Control-Allow-Origin" not in preflight.headers


@pytest.mark.parametrize("host, is_allowed", [
    ("", True), ("localhost", True), ("[::1]:80", True), ("::1", False), ("localhost:x", False),
    ("localhost.", False), ("1.127.0.0.1", False),
])
def test_names_of_this_machine(host, is_allowed):
    assert (host_problem(host) is None) is is_allowed


def test_an_origin_that_is_allowed_needs_a_name():
    assert origin_problem(lambda name: {"Sec-Fetch-Site": "cross-site"}.get(name, ""), ("",))


def test_access_is_open_without_settings():
    Access().check(lambda name: {"Host": "anything"}.get(name, ""))


# --- processes ------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_while_a_model_is_loaded(folder, tmp_path, workers):  # noqa: F811
    """It waits for ever for model.json, a pipe that nobody writes to."""
    model_folder = shutil.copytree(folder, tmp_path / "model")
    (model_folder / "model.json").unlink()
    os.mkfifo(model_folder / "model.json")
    process = subprocess.Popen(
        [sys.executable, "deployment/server.py", "--model", model_folder, "--port", "0",
         "--workers", str(workers)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True)
    writing_ends = []

    def is_loading():
        with contextlib.suppress(OSError):  # until somebody reads
            path = model_folder / "model.json"
            writing_ends.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        return writing_ends

    until(is_loading)
    process.terminate()
    out, err = process.communicate(timeout=25)  # systemd would wait 35 seconds
    assert (process.returncode, out) == (0, "") and "Traceback" not in err
    os.close(writing_ends[0])


def test_a_supervisor_that_is_killed_leaves_nothing(start, tmp_path, monkeypatch):  # noqa: F811
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    server = start("--workers", 2)
    assert server.predict().status_code == 200
    assert [name.startswith("metrics-") for name in os.listdir(scratch)] == [True]
    server.process.kill()
    until(lambda: not os.listdir(scratch))


# --- images that are kept -------------------------------------------------------------


def test_kept_images_are_private_and_a_broken_link_stops_nothing(start, tmp_path):  # noqa: F811
    kept = tmp_path / "kept"
    server = start("--keep_uncertain", kept, "--keep_below", 1)
    os.symlink(tmp_path / "nowhere", kept / "link.jpg")
    for _ in range(2):
        assert server.predict(encoded(picture(), "JPEG")).status_code == 200
    until(lambda: len(list(kept.glob("*.txt"))) == 2)
    assert server.end()[0] == 0 and "could not be kept" not in server.errors()
    images = [path for path in kept.glob("*.jpg") if path.name != "link.jpg"]
    assert len(images) == 2 and kept.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in images)


# --- any request ----------------------------------------------------------------------


def test_any_method_on_any_route(small):
    """None of them is a failure of the server."""
    statuses = set()
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH",
                   "BREW", "PROPFIND", "get", "M-SEARCH"):
        for path in ("/", "/predict", "/labels", "/metrics", "/healthz", "/readyz",
                     "/openapi.json", "/nowhere"):
            head = f"{method} {path} HTTP/1.1\nHost: localhost\nConnection: close\n\n"
            answer = rest(connected(small, head.encode()))
            statuses.add(int(answer.split()[1]))
    assert statuses <= {200, 400, 404, 405, 422} and {200, 404, 405} <= statuses
    assert "Traceback" not in small.errors()


def test_libraries_cannot_fail_at_the_log():
    with open("/dev/full", "w") as full:
        stream = log.LossyStream(full)
        print("lost", file=stream, flush=True)
        assert stream.fileno() == full.fileno()
        with contextlib.suppress(OSError):
            full.close()


def test_an_undecodable_image_leaves_no_bytes_behind(application):  # noqa: F811
    """Not even until Python looks for circles of references."""
    test_app = application()
    settings = Settings(None, 4, 10**6, 10)
    service = PredictionService(test_app.state, settings, test_app.metrics)
    gc.disable()
    try:
        image = np.frombuffer(b"\xff\xd8\xff" + b"x" * 1000, np.uint8).copy()
        reference = weakref.ref(image)
        _, [result] = service.predict([memoryview(image)], None, time.monotonic() + 20, "x")
        assert result["error"]["code"] == "undecodable"
        del image
        until(lambda: reference() is None)
    finally:
        gc.enable()


def test_an_image_error_does_not_keep_the_bytes_of_its_image():
    def decode(source):
        try:
            raise ValueError
        except ValueError:
            raise decoding_budget.ImageError("image", "is none", "undecodable") from None

    batcher = Batcher(decode, None, 1, 0, 8)
    [future] = batcher.submit([b"x"])
    error = future.exception(20)
    assert error.__context__ is None and error.__traceback__ is None
    assert (error.reason, error.code) == ("is none", "undecodable")
    batcher.close()
