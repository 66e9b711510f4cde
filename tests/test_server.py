"""The server: answers, refusals, limits, and its life as a process, with a tiny exported model.

The model says which quarter of a picture is brightest, so that what an answer has to be can be
worked out by hand, turned and odd pictures among them.
"""

import contextlib
import glob
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from conftest import ROOT
from fuzz_requests import exchange, fuzz
from PIL import Image

import run
from common.errors import ImageError, InputError
from common.files import checksum, write_text
from config import parser
from data import decoding
from data.geometry import Preprocessing
from data.label_names import read_label_names
from data.samples import read_samples
from deployment import drift_window, metrics, model_loader, openapi, page
from deployment.access import Access
from deployment.application import create_application
from deployment.batching import Batcher, Closed
from deployment.model_loader import ModelLoader
from deployment.multipart import split_multipart
from deployment.prediction_service import ServedModel, Settings, State
from deployment.uncertain_images import Keeper
from export import conversion
from prediction import calibration
from prediction.classifier import Answer, Classifier
from prediction.exported_model import read_description, update_description

LABELS = ["top left", "top right", "bottom left", "下右"]
SIZE = 32
SHARPNESS = 0.02  # of the softmax, in 1 / grey level


def write_model(folder, labels=LABELS, **changes):
    """Writes an exported model: the softmax of the mean grey levels of a picture's quarters."""
    from onnx import TensorProto, helper, numpy_helper, save

    graph_steps = [("Cast", ["input_img"], {"to": TensorProto.FLOAT}),
                   ("ReduceMean", ["Cast", "colors"], {"keepdims": 0}),
                   ("Reshape", ["ReduceMean", "grid"], {}),
                   ("ReduceMean", ["Reshape", "cells"], {"keepdims": 0}),
                   ("Reshape", ["ReduceMean2", "row"], {}),
                   ("Mul", ["Reshape2", "sharpness"], {}),
                   ("Softmax", ["Mul"], {"axis": 1})]
    node_counts, nodes = {}, []
    for operator, inputs, settings in graph_steps:
        node_counts[operator] = node_counts.get(operator, 0) + 1
        output = operator if node_counts[operator] == 1 else f"{operator}{node_counts[operator]}"
        output = "output_score" if operator == "Softmax" else output
        nodes.append(helper.make_node(operator, inputs, [output], **settings))
    half_size = SIZE // 2
    constants = {"colors": [3], "grid": [-1, 2, half_size, 2, half_size], "cells": [2, 4],
                 "row": [-1, 4]}
    arrays = {name: np.array(value, np.int64) for name, value in constants.items()}
    arrays["sharpness"] = np.float32(SHARPNESS)
    graph = helper.make_graph(
        nodes, "quarters",
        [helper.make_tensor_value_info("input_img", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("output_score", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    os.makedirs(folder)
    model_path = os.path.join(folder, "model.onnx")
    opsets = [helper.make_opsetid("", 18)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=9), model_path)
    conversion.to_openvino(model_path, os.path.join(folder, "model.xml"))
    settings = Preprocessing(SIZE, "stretch", (0, 0, 0))
    description = {
        "format": 1, "run": "quarters", "labels": labels, "preprocessing": settings._asdict(),
        "formats": {"onnx": {"float32": {}}, "openvino": {"float32": {}}}, "weights": "0",
        "files": {name: checksum(os.path.join(folder, name))
                  for name in ("model.onnx", "model.xml", "model.bin")},
        **changes,
    }
    write_text(os.path.join(folder, "model.json"), json.dumps(description))
    return str(folder)


def by_hand(levels):
    """The probabilities of the quarters with those mean grey levels."""
    powers = np.exp(SHARPNESS * np.array(levels, np.float64))
    return powers / powers.sum()


def picture(levels=(10, 60, 110, 200), size=(48, 32)):
    """A grey picture with quarters of these levels."""
    width, height = size
    level_grid = np.array(levels, np.uint8).reshape(2, 2)
    return Image.fromarray(level_grid.repeat(height // 2, 0).repeat(width // 2, 1))


def encoded(image, kind="PNG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


PNG = encoded(picture())
FAULTY = b"<html><body>404</body></html>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("server") / "model")


class Process:
    """`python deployment/server.py` in a process of its own."""

    def __init__(self, place, *words):
        self.err = open(place / "err", "w+")
        command = [sys.executable, os.path.join(ROOT, "deployment", "server.py"), "--port", "0",
                   "--json", *map(str, words)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.err,
                                        text=True, cwd=place)
        line = self.process.stdout.readline()
        assert line, self.errors()
        self.ready = json.loads(line)
        self.url = self.ready["url"]
        self.port = int(self.url.rpartition(":")[2])

    def errors(self):
        self.err.seek(0)
        return self.err.read()

    def predict(self, data=PNG, **given):
        return requests.post(f"{self.url}/predict", data, timeout=20, **given)

    def end(self, number=signal.SIGTERM):
        """Its exit status after a signal, and what it printed after the ready line."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40), self.process.stdout.read()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.err.close()


@pytest.fixture
def start(tmp_path, folder):
    """Starts servers, and ends those that still run."""
    started_processes = []

    def process(*words, model=folder):
        started_processes.append(Process(tmp_path, "--model", model, *words))
        return started_processes[-1]

    yield process
    for started_process in started_processes:
        started_process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory, folder):
    """One that many tests ask."""
    process = Process(tmp_path_factory.mktemp("process"), "--model", folder, "--max_megabytes",
                      "0.2", "--max_megapixels", "0.5", "--max_images", "4")
    yield process
    process.kill()


@pytest.fixture
def application(folder):
    """Makes applications in this process; gives a test client, state and metrics."""
    batchers = []

    def make(predict=None, labels=LABELS, calibrated=None, keeper=None, max_queue=8, **settings):
        classifier = Classifier.load(folder, runtime="onnx")
        classifier.class_names, classifier.calibration = tuple(labels), calibrated
        state, app_metrics = State(), metrics.create()
        batchers.append(Batcher(
            lambda source: decoding.load(source, classifier.preprocessing),
            predict or classifier.answers, 4, 0, max_queue,
            observe=lambda size, waiting: app_metrics.batch.observe(size),
        ))
        state.served_model = ServedModel("quarters", classifier, batchers[-1])
        state.keeper = keeper
        settings = Settings(**{"top_k": None, "max_images": 4, "max_bytes": 10**6,
                               "time_limit": 10, **settings})
        flask_app = create_application(state, settings, app_metrics)
        return SimpleNamespace(client=flask_app.test_client(), state=state, metrics=app_metrics)

    yield make
    for batcher in batchers:
        batcher.close()


def refused(answer, status, code):
    """Checks an answer that is an error; gives its message."""
    body = answer.json() if callable(answer.json) else answer.json
    assert answer.status_code == status, body
    assert set(body) == {"success", "error", "request_id"} and body["success"] is False
    assert body["error"]["code"] == code and set(body["error"]) == {"code", "message"}
    assert answer.headers["Content-Type"] == "application/json"
    assert body["request_id"] == answer.headers["X-Request-ID"]
    return body["error"]["message"]


# --- answers --------------------------------------------------------------------------


def test_an_answer(server):
    answer = server.predict(params={"top_k": 4}, headers={"X-Request-ID": "a.b-c_1"})
    body = answer.json()
    assert answer.status_code == 200 and answer.headers["X-Request-ID"] == "a.b-c_1"
    assert set(body) == {"success", "predictions", "model", "ms", "request_id"}
    assert (body["success"], body["model"], body["request_id"]) == (True, "quarters", "a.b-c_1")
    assert 0 < body["ms"] < 10_000
    expected = by_hand((10, 60, 110, 200))
    assert [prediction["id"] for prediction in body["predictions"]] == [3, 2, 1, 0]
    assert [prediction["label"] for prediction in body["predictions"]] == LABELS[::-1]
    probabilities = [prediction["probability"] for prediction in body["predictions"]]
    assert probabilities == pytest.approx(expected[::-1], abs=1e-5)


def test_a_request_id_that_is_not_well_formed_is_replaced(server):
    request_ids = [server.predict(headers={"X-Request-ID": sent_id} if sent_id else {})
                   .json()["request_id"]
                   for sent_id in (None, "a b", "x" * 65, "../x")]
    assert len(set(request_ids)) == 4
    assert all(len(request_id) == 16 and int(request_id, 16) for request_id in request_ids)


@pytest.mark.parametrize("kind", [
    None, "image/png", "application/x-www-form-urlencoded", "text/plain", "image/jpeg",
])
def test_a_body_is_an_image_whatever_type_it_declares(server, kind):
    answer = server.predict(headers={"Content-Type": kind} if kind else {})
    assert answer.json()["predictions"][0]["label"] == LABELS[3]


def turned(orientation):
    """The JPEG that shows `picture()` when turned as its EXIF says, by Pillow's inverse turns."""
    transposition = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
                     4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
                     6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
                     8: Image.Transpose.ROTATE_270}.get(orientation)
    image = picture(size=(64, 64))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = image if transposition is None else image.transpose(transposition)
    return encoded(image, "JPEG", exif=exif, quality=98)


def transparent():
    """Bright where it is transparent, which shows black."""
    image = picture((10, 60, 110, 250)).convert("RGBA")
    alpha = np.full((32, 48), 255, np.uint8)
    alpha[16:, 24:] = 0
    image.putalpha(Image.fromarray(alpha))
    return encoded(image)


SIXTEEN = encoded(Image.fromarray(
    np.array([[1000, 20000], [40000, 60000]], np.uint16).repeat(16, 0).repeat(16, 1)))
# Pillow logs an error of its own about this one: a number of samples per pixel out of range.
ODD_TIFF = encoded(picture().convert("RGB"), "TIFF").replace(
    b"\x15\x01\3\0\1\0\0\0\3\0", b"\x15\x01\3\0\1\0\0\0\x7f\xff")
UNUSUAL = {
    **{f"orientation {number}": (turned(number), (10, 60, 110, 200)) for number in range(1, 9)},
    # Pillow's CMYK of a grey level is that level inverted, in black or in all three colours.
    "CMYK": (encoded(picture().convert("RGB").convert("CMYK"), "JPEG", quality=98),
             (10, 60, 110, 200)),
    "16 bits": (SIXTEEN, np.array([1000, 20000, 40000, 60000]) / 257),
    "transparent": (transparent(), (10, 60, 110, 0)),
    "palette": (encoded(picture().convert("P"), "GIF"), (10, 60, 110, 200)),
    "BMP": (encoded(picture(), "BMP"), (10, 60, 110, 200)),
    "WebP": (encoded(picture().convert("RGB"), "WEBP", lossless=True), (10, 60, 110, 200)),
    "TIFF": (encoded(picture(), "TIFF"), (10, 60, 110, 200)),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_pictures(server, folder, name):
    data, levels = UNUSUAL[name]
    predictions = server.predict(data, params={"top_k": 4}).json()["predictions"]
    predictions.sort(key=lambda prediction: prediction["id"])
    probabilities = [prediction["probability"] for prediction in predictions]
    assert np.abs(by_hand(levels) - probabilities).max() < 0.01
    [classified] = Classifier.load(folder, allow_low_precision=True).classify([data], 4)
    classified.sort(key=lambda prediction: prediction["id"])
    assert predictions == classified


@pytest.mark.parametrize("data, reason", [
    (b"", "the file is empty"),
    (encoded(picture(size=(480, 320)), "JPEG", quality=98)[:-300], "a part of it is missing"),
    (PNG[:-30], ""),
    (encoded(Image.new("L", (1001, 500))), "has 1001 x 500 pixels, more than the 500,000 allowed"),
    (FAULTY, "is none of JPEG, PNG, BMP, WEBP, GIF, TIFF"),
    (np.random.default_rng(0).bytes(1000), "is none of"),
    (ODD_TIFF, ""),
], ids=["empty", "cut JPEG", "cut PNG", "too many pixels", "HTML", "noise", "odd TIFF"])
def test_no_pictures(server, folder, tmp_path, data, reason):
    message = refused(server.predict(data), 422, "undecodable")
    assert reason in message
    # In the words of predict.
    classifier = Classifier.load(folder)
    settings = classifier.preprocessing._replace(max_pixels=500_000)
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(ImageError) as error:
        decoding.load(str(tmp_path / "x.jpg"), settings)
    assert message == error.value.reason


def test_several_images(server):
    right_picture = encoded(picture((10, 200, 60, 110)))
    form_files = [("image", ("a.html", PNG)), ("image", ("../../b", FAULTY)),
                  ("image", ("c", right_picture))]
    answer = server.predict(None, files=form_files, params={"top_k": 1})
    body = answer.json()
    assert answer.status_code == 200 and body["success"] is False
    assert set(body) == {"success", "results", "model", "ms", "request_id"}
    first, second, third = body["results"]
    assert [result["label"] for result in first["predictions"]] == [LABELS[3]]
    assert third == {"success": True, "predictions": [
        {"label": LABELS[1], "id": 1, "probability": pytest.approx(by_hand((10, 200, 60, 110))[1],
                                                                   abs=1e-5)}]}
    assert second["success"] is False and second["error"]["code"] == "undecodable"
    two_answered = server.predict(None, files=form_files[::2]).json()
    assert two_answered["success"] is True and len(two_answered["results"]) == 2
    none_answered = server.predict(None, files=form_files[1:2] * 2)
    assert none_answered.status_code == 422
    assert [result["success"] for result in none_answered.json()["results"]] == [False, False]


def test_one_image_in_a_form_is_answered_as_one(server):
    body = server.predict(None, files={"image": PNG}).json()
    assert body["success"] is True and body["predictions"][0]["id"] == 3
    refused(server.predict(None, files={"image": FAULTY}), 422, "undecodable")


def test_the_other_routes(server):
    def get(path):
        return requests.get(server.url + path, timeout=20)

    assert get("/labels").json() == {"labels": LABELS, "model": "quarters"}
    assert get("/healthz").json() == {"status": "alive"}
    assert get("/readyz").json() == {"status": "ready"}
    assert get("/openapi.json").json() == json.loads(json.dumps(openapi.describe(
        classes=4, top_k=3, max_images=4, max_bytes=200_000, token=False, size=SIZE)))
    for accepted, language in (("", "en"), ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("fr", "en")):
        page_answer = requests.get(server.url, headers={"Accept-Language": accepted}, timeout=20)
        html_bytes, headers = page.PAGES[language]
        assert page_answer.content == html_bytes and headers["Vary"] == "Accept-Language"
        for header_name, value in headers.items():
            assert page_answer.headers[header_name] == value


def test_the_language_of_the_page_can_be_fixed(application):
    test_app = application(language="zh")
    answer = test_app.client.get("/", headers={"Accept-Language": "en"})
    assert answer.data == page.PAGES["zh"][0] and answer.headers["Content-Language"] == "zh-CN"


def test_unknown_is_said_of_calibrated_models(application):
    thresholds = np.array([0.9, 0.9, 0.9, 0.6])
    test_app = application(calibrated=calibration.Calibration(1.0, thresholds, 0.9, 10, "0"))
    # The likeliest class has 0.732 of the first and 0.731 of the second by hand.
    for levels, unknown in (((10, 60, 110, 200), False), ((200, 60, 110, 10), True)):
        assert by_hand(levels).max() == pytest.approx(0.81, abs=0.02)
        answer = test_app.client.post("/predict", data=encoded(picture(levels)))
        assert answer.json["unknown"] is unknown


# --- refusals and limits --------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "5", "-1", "x", "", "1.5", "٣", "9" * 50])
def test_top_k_that_is_not_allowed(server, text):
    message = refused(server.predict(params={"top_k": text}), 400, "bad_request")
    assert "from 1 to 4" in message


def test_paths_and_methods(server):
    for path in ("/nowhere", "/predict/", "//nowhere//", "/labels/../x", "/static/x"):
        message = refused(requests.get(server.url + path, timeout=20), 404, "not_found")
        assert "/" not in message
    for method, path, allowed_method in (("GET", "/predict", "POST"), ("DELETE", "/labels", "GET"),
                                         ("PUT", "/", "GET"), ("BREW", "/healthz", "GET")):
        answer = requests.request(method, server.url + path, timeout=20)
        refused(answer, 405, "method_not_allowed")
        assert allowed_method in answer.headers["Allow"]
    head_answer = requests.head(f"{server.url}/labels", timeout=20)
    assert head_answer.status_code == 200 and head_answer.content == b""
    answer = requests.options(f"{server.url}/predict", timeout=20)
    assert answer.status_code == 200 and "POST" in answer.headers["Allow"]


def test_headers_of_every_answer(server):
    answers = [server.predict(), server.predict(b"x"), server.predict(b"x" * 200_001),
               *(requests.get(server.url + path, timeout=20) for path in ("/", "/x", "/metrics"))]
    assert [response.status_code for response in answers] == [200, 422, 413, 200, 404, 200]
    for answer in answers:
        for header_name, value in (
            ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
        ):
            assert answer.headers[header_name] == value
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Server" not in answer.headers and answer.headers["X-Request-ID"]


def connected(server, data=b""):
    """A connection on which `data` has been sent, lines ending as in HTTP."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(data.replace(b"\n", b"\r\n"))
    return connection


def rest(connection):
    """What comes until the other side ends it."""
    with connection:
        return b"".join(iter(lambda: connection.recv(10_000), b""))


def test_a_large_body_is_refused_before_it_is_sent(server):
    for length in (200_001, 10**15):
        answer = rest(connected(
            server, b"POST /predict HTTP/1.1\nHost: localhost\nContent-Length: %d\n\n" % length))
        assert answer.startswith(b"HTTP/1.1 413 ") and b"Connection: close" in answer
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert body["error"] == {"code": "too_large",
                                 "message": "the body is larger than the 200,000 bytes allowed"}


def test_a_client_that_sends_all_the_same_reads_why(server):
    connection = connected(server, b"POST /predict HTTP/1.1\nContent-Length: 20000000\n\n")
    connection.sendall(b"\0" * 20_000_000)
    assert rest(connection).startswith(b"HTTP/1.1 413 ")
    assert server.predict(PNG + b"\0" * (200_000 - len(PNG))).status_code == 200
    refused(server.predict(b"\0" * 20_000_000), 413, "too_large")
    body_pieces = (b"\0" * 10_000 for _ in range(1000))
    refused(server.predict(body_pieces), 413, "too_large")  # chunked


def test_a_chunked_body(server):
    assert server.predict(iter([PNG[:50], PNG[50:]])).json()["success"] is True


def test_too_many_images(server):
    form_files = [("image", PNG)] * 4
    assert server.predict(None, files=form_files).status_code == 200
    assert "4 images" in refused(server.predict(None, files=form_files * 2), 413, "too_large")


@pytest.mark.parametrize("body", [
    b"", b"--b--\r\n", b"--b\r\n\r\n", b"--b\r\nContent-Disposition: form-data; name=image\r\n\r\n",
    b"--b\r\nContent-Disposition: form-data; name=other\r\n\r\nx\r\n--b--\r\n",
    b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n", b"--b\r\nx\r\n--b--\r\n",
    b"--c\r\nContent-Disposition: form-data; name=image\r\n\r\nx\r\n--c--\r\n",
    b"--b\r\nContent-Disposition: form-data; name=image\r\n--b--\r\n",
    b"--b\r\nContent-Disposition: form-data; name=image\r\n\r\n" + PNG + b"\r\n--b\r\nCont",
], ids=range(10))
def test_a_broken_form(server, body):
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(server.predict(body, headers=kind), 400, "bad_request")
    refused(server.predict(body, headers={"Content-Type": "multipart/form-data"}), 400,
            "bad_request")


@pytest.mark.parametrize("seed", range(20))
def test_forms_are_read_as_werkzeug_reads_them(seed):
    from werkzeug.formparser import parse_form_data

    random_generator = np.random.default_rng(seed)
    images = [random_generator.integers(9, 15, random_generator.integers(0, 99), np.uint8).tobytes()
              for _ in range(random_generator.integers(1, 5))]
    form = requests.Request("POST", "http://x", files=[("image", image) for image in images])
    prepared = form.prepare()
    kind = prepared.headers["Content-Type"]
    environ = {"wsgi.input": io.BytesIO(prepared.body), "CONTENT_TYPE": kind,
               "CONTENT_LENGTH": str(len(prepared.body)), "REQUEST_METHOD": "POST"}
    expected = [file.read() for file in parse_form_data(environ)[2].getlist("image")]
    boundary = kind.partition("boundary=")[2].encode()
    split = split_multipart(memoryview(prepared.body), boundary, 4)
    assert [bytes(image) for image in split] == expected == images


TOKEN = b"0123456789abcdef"


def test_token(application):
    client = application(access=Access(TOKEN)).client
    right_headers = {"Authorization": "Bearer " + TOKEN.decode()}
    for wrong_headers in (
        {}, {"Authorization": "Bearer"}, {"Authorization": "Bearer 0123456789abcdeg"},
        {"Authorization": "Basic 0123456789abcdef"}, {"Authorization": TOKEN.decode()},
        {"Authorization": "Bearer 0123456789abcdef0"}, {"Authorization": "Bearer ü"},
    ):
        for answer in (client.post("/predict", data=PNG, headers=wrong_headers),
                       client.get("/labels", headers=wrong_headers),
                       client.get("/metrics", headers=wrong_headers)):
            refused(answer, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert client.post("/predict", data=PNG, headers=right_headers).json["success"] is True
    assert client.get("/labels", headers={"Authorization": f"bearer  {TOKEN.decode()}"}).json
    for path in ("/", "/healthz", "/readyz", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert client.get("/metrics", headers=right_headers).status_code == 200


def test_before_there_is_a_model_and_at_the_end(application):
    test_app = application()
    test_app.state.closing = True
    refused(test_app.client.get("/readyz"), 503, "not_ready")
    assert test_app.client.post("/predict", data=PNG).status_code == 200  # was under way
    test_app.state.served_model = None
    assert test_app.client.get("/healthz").status_code == 200
    for answer in (test_app.client.post("/predict", data=PNG), test_app.client.get("/labels"),
                   test_app.client.get("/readyz"), test_app.client.get("/openapi.json")):
        refused(answer, 503, "not_ready")


def test_a_full_queue_and_what_is_overdue(application):
    entered, may_answer = threading.Event(), threading.Event()

    def slow(x):
        entered.set()
        batch_sizes.append(len(x))
        assert may_answer.wait(10)
        return [Answer(np.full(4, 0.25, np.float32))] * len(x)

    batch_sizes = []
    test_app = application(predict=slow, max_queue=2, time_limit=0.5)
    answers = []

    def post(count=1):
        form_files = {"image": [(io.BytesIO(PNG), "a.png") for _ in range(count)]}
        answers.append(test_app.client.post("/predict", data=form_files))

    first_client = threading.Thread(target=post)
    first_client.start()
    batcher = test_app.state.served_model.batcher
    assert entered.wait(10)
    second_client = threading.Thread(target=post, args=(2,))
    second_client.start()
    while batcher.waiting == 0:
        time.sleep(0.001)
    started_at = time.monotonic()
    answer = test_app.client.post("/predict", data=PNG)
    refused(answer, 503, "queue_full")
    assert answer.headers["Retry-After"] == "1" and time.monotonic() - started_at < 0.2
    first_client.join()
    second_client.join()
    for answer in answers:
        assert "0.5 seconds" in refused(answer, 504, "overdue")
    may_answer.set()
    while batcher.waiting:
        time.sleep(0.001)
    assert test_app.client.post("/predict", data=PNG).status_code == 200  # back to normal
    assert batch_sizes == [1, 1]  # what was overdue has not been computed


def test_a_model_that_fails_tells_the_log_alone(application, capsys):
    def failing(x):
        raise ValueError("secret of /some/path")

    client = application(predict=failing).client
    for _ in range(2):
        answer = client.post("/predict", data=PNG)
        assert "secret" not in refused(answer, 500, "internal")
        err = capsys.readouterr().err
        assert "secret of /some/path" in err and "Traceback" in err
        assert answer.json["request_id"] in err


def test_probabilities_that_are_no_numbers_are_no_answer(application):
    client = application(predict=lambda x: [Answer(np.full(4, np.nan, np.float32))] * len(x)).client
    refused(client.post("/predict", data=PNG), 500, "internal")


def test_a_model_replaced_between_two_steps_of_a_request(application):
    """One that took the old model and finds it closed is answered by the new one."""
    old_app, new_app = application(), application(labels=["a", "b", "c", "d"])
    closed_model, new_model = old_app.state.served_model, new_app.state.served_model

    class Swapping(State):
        access_count = 0

        @property
        def served_model(self):
            self.access_count += 1
            return closed_model if self.access_count == 1 else new_model

    closed_model.batcher.close()
    application_ = create_application(
        Swapping(), Settings(None, 4, 10**6, 10), metrics.create())
    answer = application_.test_client().post("/predict", data=PNG)
    assert answer.json["predictions"][0]["label"] == "d"


def test_metrics(application):
    test_app = application()
    for data, count in ((PNG, 3), (encoded(picture((200, 10, 10, 10))), 2), (FAULTY, 1)):
        for _ in range(count):
            test_app.client.post("/predict", data=data)
    test_app.client.get("/nowhere/of/a/client")
    test_app.client.open("/predict", method="BREW")
    lines = set(test_app.client.get("/metrics").text.splitlines())
    assert {
        'requests_total{route="/predict",status="200"} 5.0',
        'requests_total{route="/predict",status="422"} 1.0',
        'requests_total{route="none",status="404"} 1.0',
        'requests_total{route="none",status="405"} 1.0',
        'images_total{outcome="answered"} 5.0', 'images_total{outcome="undecodable"} 1.0',
        'predictions_total{label="下右"} 3.0', 'predictions_total{label="top left"} 2.0',
        'request_seconds_count{route="/predict"} 6.0', "batch_images_count 5.0",
        "batch_images_sum 5.0", "queue_images 0.0",
    } <= lines
    assert not any("client" in line or "BREW" in line for line in lines)


def test_the_gauge_of_drift(application, monkeypatch):
    monkeypatch.setattr(drift_window, "EVERY", 2)
    fitted = calibration.Calibration(
        1.0, np.zeros(4), 0.9, 10, "0", probability_quantiles=np.full(50, 0.3)
    )
    test_app = application(calibrated=fitted)
    served_model = test_app.state.served_model
    test_app.state.served_model = served_model._replace(
        drift_window=drift_window.DriftWindow(fitted)
    )
    post = test_app.client.post
    post("/predict", data=PNG)
    assert "drift_distance{" not in test_app.client.get("/metrics").text
    post("/predict", data=PNG)  # surer than any image that it was calibrated on
    assert 'drift_distance{of="probability"} 1.0' in test_app.client.get("/metrics").text


def test_a_calibrated_model_is_watched(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "model")
    options = parser.parse("serve", ["--model", str(copy), "--runtime", "onnx"])
    served_model = model_loader.load_model(options, str(copy), metrics.create())
    served_model.batcher.close()
    assert served_model.drift_window is None and len(served_model.batcher._predictors) == 1
    fitted = calibration.Calibration(
        1.0, np.zeros(4), 0.9, 10, read_description(copy)["weights"],
        probability_quantiles=np.full(50, 0.3),
    )
    update_description(copy, calibration=calibration.describe(fitted, LABELS))
    served_model = model_loader.load_model(options, str(copy), metrics.create())
    served_model.batcher.close()
    [answer] = served_model.classifier.answers(np.zeros((1, 32, 32, 3), np.uint8))
    distances = [served_model.drift_window.add(answer) for _ in range(100)]
    assert distances[-1] == {"probability": 1.0}


# --- kept images ----------------------------------------------------------------------

SURE, UNSURE = PNG, encoded(picture((100, 100, 90, 101)), "JPEG", quality=98)


def test_unsure_images_are_kept_in_the_sample_format(application, tmp_path):
    kept_folder = str(tmp_path / "kept")
    keeper = Keeper(kept_folder, tuple(LABELS), 0.5, 10**6)
    client = application(keeper=keeper).client
    form_files = [(io.BytesIO(data), "../../evil.html") for data in (SURE, UNSURE, FAULTY)]
    client.post("/predict", data={"image": form_files}, content_type="multipart/form-data",
                headers={"X-Request-ID": "from-a-client"})
    gif = encoded(picture((100, 103, 90, 101)).convert("P"), "GIF")
    client.post("/predict", data=gif)
    keeper.close()
    assert read_label_names(os.path.join(kept_folder, "label.json")) == tuple(LABELS)
    samples = read_samples(kept_folder, LABELS)
    contents = [open(os.path.join(kept_folder, file_name), "rb").read()
                for file_name in samples.file_names]
    assert contents == [UNSURE, gif]  # sorted by time
    assert samples.class_ids.tolist() == [3, 1]
    assert samples.file_names[0].endswith("-from-a-client-1.jpg")
    assert samples.file_names[1].endswith("-0.gif")
    assert not glob.glob(os.path.join(kept_folder, ".*"))


def test_no_more_is_kept_than_may_be(tmp_path):
    kept_folder = str(tmp_path / "kept")
    probabilities, labels = np.full(4, 0.25, np.float32), tuple(LABELS)
    max_bytes = 3 * (len(UNSURE) + 60) + 120  # three, with text files, and label.json
    for count, expected in ((2, 2), (5, 3), (1, 3)):  # what is there from before counts
        keeper = Keeper(kept_folder, labels, 0.5, max_bytes)
        for index in range(count):
            keeper.offer(UNSURE, probabilities, labels, str(index))
        keeper.close()
        assert len(glob.glob(os.path.join(kept_folder, "*.jpg"))) == expected
        assert sum(entry.stat().st_size for entry in os.scandir(kept_folder)) <= max_bytes
    keeper = Keeper(kept_folder, labels, 0.5, 10**6)
    keeper.offer(UNSURE, probabilities, ("a", "b", "c", "d"), "0")  # of another model
    keeper.offer(UNSURE, np.array([0.5, 0.5, 0, 0], np.float32), labels, "0")
    keeper.close()
    assert len(glob.glob(os.path.join(kept_folder, "*.jpg"))) == 3
    with pytest.raises(InputError, match="names other classes"):
        Keeper(kept_folder, ("a", "b", "c", "d"), 0.5, max_bytes)


def test_what_cannot_be_kept_fails_no_request(application, tmp_path, capsys):
    kept_folder = tmp_path / "kept"
    keeper = Keeper(str(kept_folder), tuple(LABELS), 0.5, 10**6)
    shutil.rmtree(kept_folder)
    client = application(keeper=keeper).client
    for _ in range(3):
        assert client.post("/predict", data=UNSURE).status_code == 200
    keeper.close()
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "--keep_uncertain: an image could not be kept" in err
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--keep_uncertain: .*file"):
        Keeper(str(tmp_path / "file"), tuple(LABELS), 0.5, 10**6)


# --- the process ----------------------------------------------------------------------


def go(*words):
    """Runs `python run.py WORDS` in this process: status, standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    # In case it serves after all.
    stop_timer = threading.Timer(20, os.kill, (os.getpid(), signal.SIGTERM))
    stop_timer.start()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run.main(["--mode", "serve", *map(str, words)])
    stop_timer.cancel()
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


def test_the_ready_line(server):
    assert server.ready == {
        "ready": True, "url": server.url, "model": "quarters", "runtime": "openvino",
        "precision": "float32", "pid": server.process.pid,
    }
    assert server.url.startswith("http://127.0.0.1:")


def test_a_port_that_is_in_use(server, folder):
    result = go("--model", folder, "--port", server.port)
    assert result.status == 2 and result.out == "" and result.err.count("\n") == 1
    assert f"--port: {server.port} is in use" in result.err


@pytest.mark.parametrize("words, part", [
    (["--host", "0.0.0.0"], "--host: 0.0.0.0 can be reached from other machines; --token_file "),
    (["--host", "example"], "--no_auth lets in everybody"),
    (["--host", "192.0.2.1", "--no_auth"], "--host: 192.0.2.1 is not an address to listen on"),
    (["--host", "no.such.invalid", "--no_auth"], "--host: no.such.invalid is not an address"),
    (["--token_file", "/nowhere/token"], "--token_file: /nowhere/token: cannot be read"),
    (["--top_k", "5"], "--top_k: 5 is more than the model's 4 classes"),
    (["--runtime", "savedmodel"], "--runtime: savedmodel"),
    (["--keep_uncertain", "/dev/null"], "--keep_uncertain: /dev/null"),
    (["--model", "nothing"], "--model: 'nothing'"),
])
def test_what_is_refused_at_the_start(folder, words, part):
    handlers_before = [signal.getsignal(signal_number)
                       for signal_number in (signal.SIGINT, signal.SIGHUP)]
    try:
        result = go("--model", folder, "--port", 0, *words)
    finally:
        for signal_number, handler in zip((signal.SIGINT, signal.SIGHUP), handlers_before):
            signal.signal(signal_number, handler)
    assert result.status == 2 and result.out == "" and result.err.count("\n") == 1, result.err
    assert part in result.err


@pytest.mark.parametrize("content, right", [
    (b"0123456789abcdef\n", True), (b"0123456789abcde\n", False), (b"0123456789abcdef\nx", False),
    (b"0123456789 abcdef", False), ("0123456789abcdefü".encode(), False), (b"", False),
])
def test_token_files(tmp_path, content, right):
    from deployment.server import read_token

    (tmp_path / "token").write_bytes(content)
    if right:
        assert read_token(str(tmp_path / "token")) == content.strip()
    else:
        with pytest.raises(InputError, match="--token_file: .*token: must hold one line"):
            read_token(str(tmp_path / "token"))


def test_neither_tensorflow_nor_what_reports_to_makers_is_imported(folder):
    script = (
        "import os, signal, sys, threading, runpy\n"
        "def watch():\n"
        "    sys.stdin.read()\n"
        "    loaded = [name for name in sys.modules if sys.modules[name]]\n"
        "    heavy = {'tensorflow', 'keras', 'jax', 'openvino_telemetry'}\n"
        "    print(heavy & set(loaded), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        "sys.argv = ['deployment/server.py', *sys.argv[1:]]\n"
        "runpy.run_path('deployment/server.py', run_name='__main__')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "--model", folder, "--port", "0"], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    line = process.stdout.readline()
    assert line.startswith("serving quarters with openvino in float32 on http://127.0.0.1:")
    out, err = process.communicate("", timeout=40)
    assert out == "set()\n" and process.returncode == 0, err


def test_sigterm_finishes_what_is_under_way(start):
    """Four that wait for the model, two of which a part has still to come."""
    server = start("--max_wait_ms", 900, "--lang", "zh")
    assert requests.get(server.url, timeout=20).content == page.PAGES["zh"][0]
    while server.predict().json()["ms"] < 900:  # batches of two are not warm yet
        pass
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.predict()))
               for _ in range(4)]
    idle_connection = connected(server)
    half_requests = [connected(server, b"POST /predict HTTP/1.1\nContent-Length: %d\n\n" % len(PNG))
                     for _ in range(2)]
    for half_request in half_requests:
        half_request.sendall(PNG[:60])
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    assert not answers
    with pytest.raises(ConnectionRefusedError):
        connected(server)
    idle_connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    ready_answer = rest(idle_connection)
    assert ready_answer.startswith(b"HTTP/1.1 503 ") and b"Connection: close" in ready_answer
    for half_request in half_requests:
        half_request.sendall(PNG[60:])
        assert rest(half_request).startswith(b"HTTP/1.1 200 ")
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 4
    assert server.end() == (0, "")
    assert server.errors().splitlines()[-1].endswith(" ended")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_signals_do_not_kill_a_server_that_has_ended(folder, workers):
    """They come when Python itself has begun to end."""
    script = (
        "import os, runpy, sys\n"
        "class Last:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid(), say=os.write):\n"
        "        for number in 15, 2, 1:\n"
        "            kill(pid, number)\n"
        "        say(1, b'sent\\n')\n"
        "last = Last()\n"
        "sys.argv = ['deployment/server.py', *sys.argv[1:]]\n"
        "runpy.run_path('deployment/server.py', run_name='__main__')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "--model", folder, "--port", "0", "--workers", workers],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().startswith("serving quarters ")
    process.terminate()
    out, err = process.communicate(timeout=40)
    assert (process.returncode, out) == (0, "sent\n"), err


def test_sigint_ends_it_too(start):
    server = start("--max_queue", 2)
    # More images than may wait could never be answered.
    message = refused(server.predict(None, files=[("image", PNG)] * 3), 413, "too_large")
    assert "2 images" in message
    assert server.end(signal.SIGINT) == (0, "")


def test_sighup_replaces_the_model_under_load(start, folder, tmp_path):
    model_folder = str(tmp_path / "model")
    shutil.copytree(folder, model_folder)
    server = start(model=model_folder)
    answers, done = [], threading.Event()

    def load():
        with requests.Session() as session:
            while not done.is_set():
                answer = session.post(f"{server.url}/predict", PNG, timeout=20)
                answers.append((answer.status_code, answer.json()["predictions"][0]["label"]))

    def until(true):
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline, server.errors()
            time.sleep(0.01)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        shutil.rmtree(model_folder)
        write_model(model_folder, ["a", "b", "c", "d"])
        server.process.send_signal(signal.SIGHUP)
        until(lambda: (200, "d") in answers[-20:])
        with open(os.path.join(model_folder, "model.bin"), "ab") as file:
            file.write(b"x")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "the old model keeps serving" in server.errors())
        answer_count = len(answers)
        until(lambda: len(answers) > answer_count + 20)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {(200, LABELS[3]), (200, "d")}
    assert answers[-1] == (200, "d")
    metrics_text = requests.get(f"{server.url}/metrics", timeout=20).text
    assert 'model_info{model="quarters",precision="float32",runtime="openvino"} 1.0' in metrics_text
    log_lines = [log_line for log_line in server.errors().splitlines()
                 if "the old model" in log_line]
    assert len(log_lines) == 1 and "model.bin" in log_lines[0]
    assert server.end()[0] == 0


def children(process):
    """The ids of a process's own."""
    command = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    ps_output = subprocess.run(command, capture_output=True, text=True)
    return ps_output.stdout.split()


def test_several_processes(start, folder, tmp_path):
    model_folder = shutil.copytree(folder, tmp_path / "model")
    server = start("--workers", 2, model=model_folder)

    def serves():
        assert [server.predict().status_code for _ in range(8)] == [200] * 8

    def until(true):
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline, server.errors()
            time.sleep(0.02)

    assert server.ready["pid"] == server.process.pid
    first_id, second_id = children(server.process)
    serves()
    # Any of the two tells of both.
    assert 'requests_total{route="/predict",status="200"} 8.0' in requests.get(
        f"{server.url}/metrics", timeout=20).text
    os.kill(int(first_id), signal.SIGKILL)
    serves()
    until(lambda: b'runtime="openvino"} 2.0' in requests.get(
        f"{server.url}/metrics", timeout=20).content)
    [third_id] = set(children(server.process)) - {second_id}
    assert third_id != first_id and f"process {first_id} ended with status -9" in server.errors()
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.errors().count("loaded again") == 2)
    assert set(children(server.process)) == {second_id, third_id}
    (model_folder / "model.bin").unlink()
    os.kill(int(second_id), signal.SIGKILL)  # there is none to take its place
    until(lambda: "model.bin" in server.errors())
    serves()
    half_request = connected(server, b"POST /predict HTTP/1.1\nContent-Length: %d\n\n" % len(PNG))
    time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(ConnectionRefusedError):
        connected(server)
    half_request.sendall(PNG)
    assert rest(half_request).startswith(b"HTTP/1.1 200 ")
    assert server.end() == (0, "")
    assert not os.path.exists(f"/proc/{third_id}")


def test_a_model_that_is_replaced_is_closed(application, folder):
    test_app = application()
    old_model, threads_before = test_app.state.served_model, threading.active_count()
    options = parser.parse("serve", ["--model", folder])
    ModelLoader(options, folder, test_app.state, test_app.metrics, None, None).replace()
    with pytest.raises(Closed):
        old_model.batcher.submit([PNG])
    test_app.client.post("/predict", data=PNG)
    test_app.state.served_model.batcher.close()
    assert threading.active_count() < threads_before
    assert 'runtime="openvino"} 1.0' in test_app.client.get("/metrics").text


def test_several_processes_and_a_model_that_is_broken(folder, tmp_path):
    model_folder = str(tmp_path / "model")
    shutil.copytree(folder, model_folder)
    (tmp_path / "model" / "model.bin").write_bytes(b"")
    process = subprocess.run(
        [sys.executable, "run.py", "--mode", "serve", "--model", model_folder, "--port", "0",
         "--workers", "2"], cwd=ROOT, capture_output=True, text=True, timeout=60,
    )
    assert process.returncode == 2 and process.stdout == ""
    assert "model.bin" in process.stderr and process.stderr.count("run.py:") == 1


def test_requests_that_no_client_should_send(server):
    status_counts = fuzz("127.0.0.1", server.port, 300)
    assert {200, 400, 404, 405, 413, 422} <= set(status_counts)
    assert b"alive" in exchange("127.0.0.1", server.port, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert server.predict().status_code == 200
    assert server.errors() == ""  # nor of any test before
