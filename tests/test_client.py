"""deployment/client.py against servers that answer, refuse, stumble and vanish."""

import ast
import contextlib
import email.utils
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT

from data import image_files
from deployment import client

SOURCE = os.path.join(ROOT, "deployment", "client.py")
GOOD = {
    "success": True, "unknown": False, "model": "waste", "ms": 1.5, "request_id": "a",
    "predictions": [{"label": "glass", "id": 1, "probability": 0.875},
                    {"label": "cardboard", "id": 0, "probability": 0.0625}],
}
DROP = "drop"  # closes the connection without an answer


def refusal(code, message):
    return {"success": False, "error": {"code": code, "message": message}, "request_id": "b"}


FULL = (503, refusal("queue_full", "128 images wait"))


class Handler(BaseHTTPRequestHandler):
    """Does as `server.script(body, number of the request)` says: (status, body, headers)."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            request_index = len(self.server.seen)
            self.server.seen.append((self.path, self.headers, body, self.client_address))
            self.server.busy += 1
            self.server.most = max(self.server.most, self.server.busy)
        try:
            answer = self.server.script(body, request_index)
        finally:
            with self.server.lock:
                self.server.busy -= 1
        if answer == DROP:
            self.close_connection = True
            return
        status, content, headers = (*answer, {})[:3]
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for header_name, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(header_name, str(value))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *words):
        pass


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.delenv(client.TOKEN_VARIABLE, raising=False)


@pytest.fixture
def serve():
    """Starts a server that gives these answers in turn, the last one ever after."""
    started_servers = []

    def serve(*answers, script=None):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *about: None  # its client has gone, as it should
        server.lock, server.seen, server.busy, server.most = threading.Lock(), [], 0, 0
        server.script = script or (lambda body, number: answers[min(number, len(answers) - 1)])
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        started_servers.append(server)
        return server

    yield serve
    for server in started_servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


@pytest.fixture
def photos(tmp_path):
    photo_folder = tmp_path / "photos"
    photo_folder.mkdir()
    for file_name in ("b.jpg", "a.PNG", "c.webp", ".hidden.jpg", "notes.txt"):
        (photo_folder / file_name).write_bytes(file_name.encode())
    return photo_folder


def run(capsys, *words):
    status = client.main(list(map(str, words)))
    out, err = capsys.readouterr()
    return status, out, err


def test_text_of_a_folder(serve, photos, capsys):
    unsure = {**GOOD, "unknown": True, "reason": "unsure"}
    server = serve((200, GOOD), (200, unsure), (422, refusal("x", "no image")))
    status, out, err = run(capsys, photos, "--url", server.url)
    assert out == (
        f"{photos}/a.PNG\n"
        "   87.50%  glass      (class 1)\n"
        "    6.25%  cardboard  (class 0)\n"
        f"{photos}/b.jpg\n"
        "  unknown: unsure\n"
        "   87.50%  glass      (class 1)\n"
        "    6.25%  cardboard  (class 0)\n"
        f"{photos}/c.webp: no image\n"
    )
    assert (status, err) == (2, f"client.py: {photos}/c.webp: no image\n")
    assert [(path, body) for path, _, body, _ in server.seen] == [
        ("/predict", b"a.PNG"), ("/predict", b"b.jpg"), ("/predict", b"c.webp")
    ]
    assert all("Authorization" not in headers for _, headers, _, _ in server.seen)


def test_json_and_top_k(serve, photos, capsys):
    server = serve((200, GOOD), (422, refusal("undecodable", "c.webp is none")))
    status, out, err = run(capsys, photos / "b.jpg", f"{photos}/*.webp", photos / "b.jpg",
                           "--url", server.url + "/waste/", "--top_k", 2, "--json")
    assert json.loads(out) == [
        {"image": f"{photos}/b.jpg", **GOOD},
        {"image": f"{photos}/c.webp", **refusal("undecodable", "c.webp is none")},
    ]
    assert out.count("\n") == 1 and status == 2
    assert [path for path, _, _, _ in server.seen] == ["/waste/predict?top_k=2"] * 2


def test_all_answered(serve, photos, capsys):
    status, out, err = run(capsys, photos, "--url", serve((200, GOOD)).url)
    assert (status, err) == (0, "") and out.count("glass") == 3


def test_order_parallel_and_connections_kept(serve):
    """The first image is answered last; four connections carry twelve images."""
    four_at_once = threading.Barrier(4)

    def script(body, number):
        if number < 4:
            four_at_once.wait(10)
        time.sleep(0.2 if body == b"0" else 0)
        return 200, {**GOOD, "model": body.decode()}

    server = serve(script=script)
    images = [str(index).encode() for index in range(12)]
    answers = client.predict(server.url, images, parallel=4)
    assert [answer["model"] for answer in answers] == [str(index) for index in range(12)]
    assert server.most == 4
    assert len({address for _, _, _, address in server.seen}) == 4


def test_one_after_the_other_by_default(serve, photos):
    server = serve((200, GOOD))
    client.predict(server.url, [str(photos / "b.jpg"), bytearray(b"x"), photos / "c.webp"])
    assert server.most == 1 and len({address for _, _, _, address in server.seen}) == 1
    assert [body for _, _, body, _ in server.seen] == [b"b.jpg", b"x", b"c.webp"]


@pytest.mark.parametrize("first", [FULL, (502, b"<html>"), (429, b""), DROP])
def test_tries_again(serve, quick, first):
    server = serve(first, first, (200, GOOD))
    assert client.predict(server.url, [b"image"]) == [GOOD]
    assert [body for _, _, body, _ in server.seen] == [b"image"] * 3


@pytest.mark.parametrize("answer, outcome", [
    ((400, refusal("bad_request", "top_k: 9 is too large")), 2),
    ((401, refusal("unauthorized", "a token is needed")), 2),
    ((413, refusal("too_large", "20 MB, 10 are allowed")), 2),
    ((422, refusal("undecodable", "is none of JPEG")), 2),
    ((500, refusal("failed", "sorry")), 1),
    ((504, refusal("timeout", "waited 10 s")), 1),
])
def test_errors_of_the_server_are_handed_on(serve, answer, outcome):
    server = serve(answer)
    answers = client.stream(server.url, [b"image"], None, None, 1, 30, None)
    assert list(answers) == [(outcome, answer[1])]
    assert len(server.seen) == 1  # another try would be of no use


@pytest.mark.parametrize("status, content, code, outcome", [
    (200, b"", "bad_answer", 1),
    (200, b'{"success": true, "predictions": [', "bad_answer", 1),
    (200, b"<html>Welcome to nginx</html>", "bad_answer", 1),
    (200, b"[" * 100_000, "bad_answer", 1),
    (200, [GOOD], "bad_answer", 1),
    (200, {"success": True}, "bad_answer", 1),
    (200, {**GOOD, "success": "yes"}, "bad_answer", 1),
    (200, {**GOOD, "predictions": ["glass"]}, "bad_answer", 1),
    (200, {**GOOD, "predictions": {}}, "bad_answer", 1),
    (200, {**GOOD, "predictions": [{"label": "x", "id": 1, "probability": None}]},
     "bad_answer", 1),
    (404, b"<html>", "http_404", 2),
    (413, b"<html>", "http_413", 2),
    (422, {"success": False, "error": "text"}, "http_422", 2),
    (422, {"success": False, "error": {"code": 422, "message": "text"}}, "http_422", 2),
    (500, b"<html>", "http_500", 1),
    (503, {"detail": "no healthy upstream"}, "http_503", 1),
])
def test_answers_of_something_else(serve, quick, status, content, code, outcome):
    server = serve((status, content))
    ((exit_status, answer),) = client.stream(server.url, [b"image"], None, None, 1, 0.2, None)
    assert (exit_status, answer["success"], answer["error"]["code"]) == (outcome, False, code)
    assert server.url in answer["error"]["message"]
    assert len(server.seen) == 1 or status == 503


def test_redirect_is_told_and_not_followed(serve, capsys, photos):
    """Following it would send the token to whoever it names, and a GET without the image."""
    other_server = serve((200, GOOD))
    server = serve((301, b"", {"Location": other_server.url + "/predict"}))
    status, out, err = run(capsys, photos / "b.jpg", "--url", server.url, "--token", "secret")
    assert status == 2 and f"HTTP 301 Moved Permanently, to {other_server.url}/predict" in err
    assert other_server.seen == []


def test_pauses_double_up_to_five_seconds_with_jitter(serve, monkeypatch):
    pauses = []
    monkeypatch.setattr(client.time, "sleep", pauses.append)
    client.predict(serve(FULL).url, [b"image"], time_limit=1000, retries=8)
    max_pauses = [0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
    assert len(pauses) == 8
    for pause, max_pause in zip(pauses, max_pauses):
        assert max_pause / 2 <= pause <= max_pause
    assert len({round(pause / max_pause, 6) for pause, max_pause in zip(pauses, max_pauses)}) > 5


@pytest.mark.parametrize("form", ["seconds", "date", "past", "nonsense"])
def test_retry_after(serve, monkeypatch, form):
    retry_after = {"seconds": "7", "nonsense": "soon"}.get(form) or email.utils.formatdate(
        time.time() + (7 if form == "date" else -100), usegmt=True)
    pauses = []
    monkeypatch.setattr(client.time, "sleep", pauses.append)
    client.predict(serve((*FULL, {"Retry-After": retry_after}), (200, GOOD)).url, [b"image"])
    # A date has whole seconds.
    min_pause, max_pause = {"seconds": (7.1, 7.2), "date": (5.9, 7.2)}.get(form, (0.1, 0.2))
    assert len(pauses) == 1 and min_pause <= pauses[0] <= max_pause


def test_gives_up_at_once_where_the_server_wants_longer_than_there_is(serve, photos, capsys):
    server = serve((*FULL, {"Retry-After": "60"}))
    started_at = time.monotonic()
    status, out, err = run(capsys, photos / "b.jpg", "--url", server.url)
    assert time.monotonic() - started_at < 5
    assert (status, len(server.seen)) == (1, 1) and "128 images wait" in err


@pytest.mark.parametrize("retries", [0, 2])
def test_retries(serve, quick, photos, capsys, retries):
    server = serve(FULL)
    assert run(capsys, photos / "b.jpg", "--url", server.url, "--retries", retries)[0] == 1
    assert len(server.seen) == retries + 1


def test_time_limit_holds_for_tries_together(serve, quick):
    server = serve(DROP)
    started_at = time.monotonic()
    (answer,) = client.predict(server.url, [b"image"], time_limit=0.5)
    assert 0.15 < time.monotonic() - started_at < 1.5
    # The last try may have no time left.
    assert answer["error"]["code"] in ("unreachable", "timeout") and len(server.seen) >= 3


def test_slow_server(serve, photos, capsys):
    def script(body, number):
        time.sleep(4 if body == b"b.jpg" else 0)
        return 200, GOOD

    server = serve(script=script)
    status, out, err = run(capsys, photos, "--url", server.url, "--time_limit", 1, "--json")
    first, second, third = json.loads(out)
    assert first["success"] and third["success"] and second["error"]["code"] == "timeout"
    assert status == 1 and "no answer in time" in err and len(server.seen) == 3


def test_unreachable_server_costs_the_time_of_one_image(quick, photos, capsys):
    for index in range(6):
        (photos / f"{index}.jpg").write_bytes(b"x")
    closed_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    closed_server.server_close()  # its port is free again
    url = f"http://127.0.0.1:{closed_server.server_port}"
    started_at = time.monotonic()
    status, out, err = run(capsys, photos, "--url", url, "--time_limit", 1)
    assert 0.3 < time.monotonic() - started_at < 4
    assert status == 1 and out.count("Connection refused") == 9
    assert err.count("\n") == 1 and "9 of 9 images failed" in err


def test_an_image_that_kills_connections_does_not_cost_the_others(serve, quick):
    """After it each has its tries again, as soon as one was answered."""
    def script(body, number):
        if body == b"bad":
            return DROP
        return FULL if body == b"late" and number % 2 else (200, GOOD)

    server = serve(script=script)
    answers = client.predict(server.url, [b"bad", b"good", b"late", b"late"], time_limit=1)
    assert [answer["success"] for answer in answers] == [False, True, True, True]


def test_token(serve, photos, monkeypatch, tmp_path, capsys):
    server = serve((200, GOOD))
    (tmp_path / "token").write_text("of-file\n")
    image_path, url = photos / "b.jpg", server.url
    monkeypatch.setenv(client.TOKEN_VARIABLE, "of-environment")
    # requests itself takes what stands there before any header.
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert run(capsys, image_path, "--url", url, "--token", "of-option")[0] == 0
    assert run(capsys, image_path, "--url", url, "--token_file", tmp_path / "token")[0] == 0
    assert run(capsys, image_path, "--url", url)[0] == 0
    assert client.predict(url, [b"x"], token="of-call")[0]["success"]
    assert [headers["Authorization"] for _, headers, _, _ in server.seen] == [
        "Bearer of-option", "Bearer of-file", "Bearer of-environment", "Bearer of-call"
    ]


def test_files_that_cannot_be_read_are_not_sent(serve, photos, tmp_path, capsys):
    server = serve((200, GOOD))
    (photos / "c.webp").write_bytes(b"")
    status, out, err = run(capsys, photos, "--url", server.url)
    assert status == 2 and "c.webp: the file is empty" in err and len(server.seen) == 2
    answers = client.predict(server.url, [tmp_path / "none.jpg", photos, b"", b"x"])
    assert [answer["success"] for answer in answers] == [False, False, False, True]
    assert [answer["error"]["code"] for answer in answers[:3]] == ["unreadable"] * 3
    assert "No such file" in answers[0]["error"]["message"]


def test_failure_of_the_server_goes_before_a_refused_image(serve, photos, capsys):
    server = serve((422, refusal("undecodable", "bad")), (500, refusal("failed", "broken")),
                   (200, GOOD))
    status, out, err = run(capsys, photos, "--url", server.url)
    assert (status, err) == (1, f"client.py: {photos}/b.jpg: broken; 2 of 3 images failed\n")


@pytest.mark.parametrize("words, message", [
    ([], "IMAGE"),
    (["--bogus", "x"], "--bogus"),
    (["nowhere.jpg"], "nowhere.jpg: no such image"),
    (["{photos}/*.gif"], "no such image"),
    (["{empty}"], "no such image of the kinds .jpg"),
    (["{photos}", "--url", "127.0.0.1:5001"], "'127.0.0.1:5001' is not an address such as"),
    (["{photos}", "--url", "ftp://host"], "'ftp://host' is not"),
    (["{photos}", "--url", "http://host:port"], "'http://host:port' is not"),
    (["{photos}", "--url", "http://host/?x=1"], "is not an address"),
    (["{photos}", "--top_k", "0"], "'0' is not a whole number from 1"),
    (["{photos}", "--parallel", "x"], "'x' is not a whole number from 1"),
    (["{photos}", "--retries", "-1"], "'-1' is not a whole number from 0"),
    (["{photos}", "--time_limit", "nan"], "'nan' is not a number above 0"),
    (["{photos}", "--time_limit", "soon"], "'soon' is not a number above 0"),
    (["{photos}", "--token", "a\nb"], "printable ASCII"),
    (["{photos}", "--token", "schlüssel"], "printable ASCII"),
    (["{photos}", "--token_file", "{empty}/none"], "No such file"),
    (["{photos}", "--token_file", "{empty_file}"], "the token is empty"),
    (["{photos}", "--token", "a", "--token_file", "b"], "not allowed with"),
])
def test_wrong_usage_is_one_line(photos, tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty_file").write_text(" \n")
    place_names = {"photos": photos, "empty": tmp_path / "empty",
                   "empty_file": tmp_path / "empty_file"}
    try:
        status = client.main([word.format(**place_names) for word in words])
    except SystemExit as error:
        status = error.code
    out, err = capsys.readouterr()
    assert status == 2 and out == "" and err.count("\n") == 1 and message in err


def test_predict_refuses_what_cannot_be_sent():
    with pytest.raises(ValueError, match="is not an address"):
        client.predict("localhost:5001", [b"x"])
    with pytest.raises(ValueError, match="token"):
        client.predict("http://localhost:5001", [b"x"], token="a\r\nHost: b")


def test_needs_nothing_of_the_project():
    with open(SOURCE, encoding="utf-8") as source_file:
        syntax_tree = ast.parse(source_file.read())
    imported_modules = set()
    for node in ast.walk(syntax_tree):
        if isinstance(node, ast.Import):
            imported_modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported_modules.add(node.module.split(".")[0])
    assert imported_modules - set(sys.stdlib_module_names) == {"requests"}


def interruptible():
    """What a shell starts in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_as_a_command_on_its_own(serve, photos, tmp_path):
    """Copied elsewhere; Ctrl-C ends it though a request is under way."""
    request_begun = threading.Event()

    def script(body, number):
        if body == b"c.webp":
            request_begun.set()
            time.sleep(8)
        return 200, GOOD

    server = serve(script=script)
    os.mkdir(tmp_path / "alone")
    copied_client = shutil.copy(SOURCE, tmp_path / "alone")
    command = [sys.executable, copied_client, "--url", server.url]
    finished = subprocess.run([*command, photos / "a.PNG"], cwd=tmp_path, capture_output=True,
                              text=True, timeout=30)
    assert (finished.returncode, finished.stderr) == (0, "") and "glass" in finished.stdout
    with subprocess.Popen([*command, photos], cwd=tmp_path, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, preexec_fn=interruptible) as process:
        assert request_begun.wait(20)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    assert (process.returncode, err) == (130, "client.py: interrupted\n")
    assert out.count("glass") == 2  # what was answered before is there


def test_images_of_a_folder_are_those_that_predict_finds(tmp_path, capsys):
    """The client is copied alone, so it has its own search; it must not find other files."""
    for name in ("1.jpg", "in/2.HEIC", "in/deep/3.jfif", "@eaDir/4.jpg", "._5.jpg", "in/Thumbs.db",
                 "in/a.mov", "6.txt", "label.json", "#recycle/7.png", "lost+found/8.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    images = client.find_images([str(tmp_path)])
    assert [os.path.basename(path) for path in images] == ["1.jpg", "2.HEIC", "3.jfif"]
    assert capsys.readouterr().err == f"{tmp_path}: 1 other file left out\n"
    assert images == image_files.find_images([str(tmp_path)])
    assert client.EXTENSIONS == image_files.EXTENSIONS
    assert client.SYSTEM_NAMES == image_files.SYSTEM_FOLDERS | image_files.SYSTEM_FILES


# --- servers that misbehave -----------------------------------------------------------

DRIPPED = 400  # bytes, one every 50 ms: far beyond the time limits below


@pytest.fixture
def misbehave():
    """Starts raw servers: each reads a request, sends some bytes, then drips others."""
    listeners = []

    def serve(first, dripped=b""):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer_all():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.settimeout(5)
                        while not connection.recv(1 << 16).endswith(b"image"):
                            pass
                        connection.sendall(first)
                        for _ in range(DRIPPED if dripped else 0):
                            time.sleep(0.05)
                            connection.sendall(dripped)

        threading.Thread(target=answer_all, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.close()


def http_answer(body, status=b"200 OK", headers=b""):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


def prediction(**changes):
    first = {"label": "glass", "id": 1, "probability": 0.5, **changes}
    return http_answer(json.dumps({"success": True, "predictions": [first]}).encode())


@pytest.mark.parametrize("first, dripped", [
    (b"", b"H"), (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"), (b"HTTP/1.1 200 OK\r\nA: ", b"b"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" "),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: 100000\r\n\r\n", b" "),
])
def test_the_time_limit_holds_against_dripping(misbehave, first, dripped):
    url = misbehave(first, dripped)
    [answer] = client.predict(url, [b"image"], time_limit=0.4)
    # Servers that drip more headers than Python reads are refused before.
    assert answer["error"]["code"] in ("timeout", "unreachable"), answer
    if b"A: b\r\n" != dripped:
        assert answer["error"]["code"] == "timeout"


CONTROLS = "\x1b[31mred\x9b2J\u202e\r\n\x00"
ODD_ANSWERS = {
    "nothing": b"", "no HTTP": b"hello\r\n\r\n", "a bare line": b"HTTP/1.1\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status of 5,000 digits": b"HTTP/1.1 " + b"9" * 5000 + b" OK\r\n\r\n",
    "an endless header": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    "a long length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a short body": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
    "a broken chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "no gzip": http_answer(b"{}", headers=b"Content-Encoding: gzip\r\n"),
    "an unknown charset": http_answer(b"{}", headers=b"Content-Type: a/b; charset=x\xff\r\n"),
    "no UTF-8": http_answer(b"\xff\xfe\xfd"), "no JSON": http_answer(b"<html>"),
    "deep JSON": http_answer(b"[" * 100_000),
    "a JSON number of 5,000 digits": http_answer(b"9" * 5000),
    "a list": http_answer(b"[]"), "a number": http_answer(b"1"), "null": http_answer(b"null"),
    "NaN": prediction(probability=float("nan")), "infinity": prediction(probability=float("inf")),
    "a large exponent": http_answer(
        b'{"success": true, "predictions": [], "ms": 1e999}'),
    "a large probability": prediction(probability=10**400),
    "a large id": prediction(id=10**400), "a label that is none": prediction(label=None),
    "a redirect": http_answer(b"", b"302 Found", b"Location: http://[\x1b\r\n"),
    "a wait of 400 digits": http_answer(b"", b"503 x", b"Retry-After: " + b"9" * 400 + b"\r\n"),
    "a wait until never": http_answer(
        b"", b"503 x", b"Retry-After: Fri, 31 Dec 9999 23:59:59 -2359\r\n"),
    "a reason with controls": http_answer(b"", b"500 \x1b[31m\x9b"),
    "an error with controls": http_answer(
        json.dumps(refusal("a", CONTROLS)).encode(), b"422 x"),
    "an endless answer": http_answer(b" " * (17 << 20)),
}


@pytest.mark.parametrize("name", ODD_ANSWERS)
@pytest.mark.parametrize("as_json", [False, True])
def test_no_answer_ends_in_a_traceback(misbehave, quick, tmp_path, capsys, name, as_json):
    (tmp_path / "a.jpg").write_bytes(b"image")
    status, out, err = run(capsys, tmp_path / "a.jpg", "--url", misbehave(ODD_ANSWERS[name]),
                           "--time_limit", 5, "--retries", 1, *["--json"] * as_json)
    assert status in (1, 2) and err.startswith("client.py: ") and err.count("\n") == 1
    assert (out + err).replace("\n", "").isprintable()
    if as_json:
        [answer] = json.loads(out, parse_constant=pytest.fail)
        assert answer["success"] is False


@pytest.mark.parametrize("as_json", [False, True])
def test_labels_cannot_command_a_terminal(serve, photos, capsys, as_json):
    answer = {**GOOD, "unknown": True, "reason": CONTROLS, "predictions": [
        {"label": CONTROLS, "id": 1, "probability": 0.5}]}
    words = [photos / "b.jpg", "--url", serve((200, answer)).url]
    status, out, _ = run(capsys, *words, *["--json"] * as_json)
    assert status == 0 and out.replace("\n", "").isprintable()
    if as_json:
        assert json.loads(out)[0]["predictions"][0]["label"] == CONTROLS
    else:
        assert r"\x1b[31mred\x9b2J\u202e\r\n\x00" in out


@pytest.mark.parametrize("words", [
    ["--parallel", "9" * 5000], ["--parallel", "1001"], ["--top_k", "9" * 5000], ["--top_k", "²"],
    ["--retries", "9" * 5000], ["--time_limit", "9" * 5000], ["--time_limit", "nan"],
    ["--url", "http://["], ["--url", "http://a:" + "9" * 5000],
])
def test_numbers_that_no_command_should_have(photos, words):
    command = [sys.executable, SOURCE, str(photos), *words]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["http://" + "a" * 64 + ".example", "http://\x7f.example",
                                 "http://*.example", "http://a..b"])
def test_addresses_that_lead_nowhere(url):
    [answer] = client.predict(url, [b"image"], retries=0)
    assert answer["success"] is False
