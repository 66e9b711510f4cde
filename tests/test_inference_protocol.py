"""deployment/inference_protocol.py and infer_request.py, beside /predict and by hand.

The model is that of `test_server`: the softmax of the mean grey levels of a picture's quarters.
"""

import base64
import json
import os
import re
import struct
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from conftest import ROOT
from PIL import Image
from test_server import (
    FAULTY,
    LABELS,
    PNG,
    SHARPNESS,
    SIZE,
    Process,
    application,  # noqa: F401  fixture
    by_hand,
    encoded,
    folder,  # noqa: F401  fixture
    picture,
)

from deployment import infer_request, metrics
from deployment.access import Access
from deployment.application import create_application
from deployment.http_errors import Refused
from deployment.prediction_service import Settings, State
from prediction.calibration import Calibration
from prediction.classifier import Answer

TOKEN = "0123456789abcdef"
TOKEN_HEADER = {"Authorization": f"Bearer {TOKEN}"}
INFER = "/v2/models/quarters/infer"
GENERATOR = np.random.default_rng(5)
PIXELS = GENERATOR.integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


def by_numpy(pixels):
    """The model's probabilities of uint8 (N, S, S, 3)."""
    half_size = SIZE // 2
    quarters = pixels.astype(np.float64).reshape(-1, 2, half_size, 2, half_size, 3)
    powers = np.exp(SHARPNESS * quarters.mean((2, 4, 5)).reshape(-1, 4))
    return powers / powers.sum(1, keepdims=True)


def photo_tensor(*photos, **changes):
    texts = [base64.b64encode(photo).decode() for photo in photos]
    return {"name": "image", "shape": [len(photos)], "datatype": "BYTES", "data": texts, **changes}


def pixel_tensor(pixels=PIXELS[:1], **changes):
    return {"name": "input_img", "shape": list(pixels.shape), "datatype": "UINT8",
            "data": pixels.tolist(), **changes}


def asking(tensor, **further):
    return {"inputs": [tensor], **further}


def scores(answer, count):
    """The probabilities of an answer, checked to be as the protocol has them."""
    body = answer.json() if callable(answer.json) else answer.json
    assert answer.status_code == 200, body
    assert set(body) - {"id"} == {"model_name", "outputs"} and body["model_name"] == "quarters"
    [output] = body["outputs"]
    assert set(output) == {"name", "shape", "datatype", "data"}
    assert (output["name"], output["datatype"]) == ("output_score", "FP32")
    assert output["shape"] == [count, 4] and len(output["data"]) == count * 4
    return np.reshape(output["data"], (count, 4))


def refused(answer, status):
    """The message of an error in the protocol's form: one line."""
    body = answer.json() if callable(answer.json) else answer.json
    assert answer.status_code == status, body
    assert list(body) == ["error"] and "\n" not in body["error"]
    assert answer.headers["Content-Type"] == "application/json" and answer.headers["X-Request-ID"]
    return body["error"]


def predicted(client, photo):
    """/predict's probabilities of a photo, in the order of the classes."""
    answer = client.post("/predict?top_k=4", data=photo).json
    predictions = sorted(answer["predictions"], key=lambda prediction: prediction["id"])
    return [prediction["probability"] for prediction in predictions]


# --- the server's process ---------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory, folder):  # noqa: F811
    place = tmp_path_factory.mktemp("process")
    (place / "token").write_text(TOKEN)
    process = Process(place, "--model", folder, "--token_file", place / "token", "--max_megabytes",
                      "0.2", "--max_images", "4", "--probe_port", "0")
    yield process
    process.kill()


def get(server, path, token=True, **given):
    return requests.get(server.url + path, headers=TOKEN_HEADER if token else {}, timeout=20,
                        **given)


def infer(server, document, **headers):
    return requests.post(server.url + INFER, json=document, timeout=20,
                         headers={**TOKEN_HEADER, **headers})


def test_metadata(server):
    about_server = get(server, "/v2", token=False).json()
    assert about_server == {"name": "image-classifier", "version": "1",
                            "extensions": ["binary_tensor_data"]}
    metadata = get(server, "/v2/models/quarters").json()
    labels = json.loads(metadata["parameters"].pop("labels"))
    assert labels == LABELS == get(server, "/labels").json()["labels"]
    assert "base64" in metadata["parameters"].pop("description")
    assert metadata == {
        "name": "quarters", "platform": "openvino",
        "inputs": [{"name": "input_img", "datatype": "UINT8", "shape": [-1, SIZE, SIZE, 3]},
                   {"name": "image", "datatype": "BYTES", "shape": [-1],
                    "parameters": {"content_type": "base64"}}],
        "outputs": [{"name": "output_score", "datatype": "FP32", "shape": [-1, 4]}],
        "parameters": {},
    }
    ready = get(server, "/v2/models/quarters/ready").json()
    assert ready == {"name": "quarters", "ready": True}


def test_health_needs_no_token_and_is_on_the_port_of_probes(server):
    for url in (server.url, server.ready["probe_url"]):
        for path, body in (("/v2/health/live", {"live": True}),
                           ("/v2/health/ready", {"ready": True})):
            answer = requests.get(url + path, timeout=20)
            assert (answer.status_code, answer.json()) == (200, body)
    refused(requests.get(server.ready["probe_url"] + "/v2", timeout=20), 404)


def test_both_inputs_of_the_process(server):
    two_photos = photo_tensor(PNG, encoded(picture((9, 8, 7, 99))))
    expected = [by_hand((10, 60, 110, 200)), by_hand((9, 8, 7, 99))]
    assert np.abs(scores(infer(server, asking(two_photos)), 2) - expected).max() < 1e-5
    answer = infer(server, asking(pixel_tensor(PIXELS)))
    assert np.abs(scores(answer, 3) - by_numpy(PIXELS)).max() < 1e-5


@pytest.mark.parametrize("document", ["docs/deployment.md", "docs/zh-CN/deployment.md"])
def test_the_example_of_the_documents(server, tmp_path, monkeypatch, document):
    with open(os.path.join(ROOT, document), encoding="utf-8") as file:
        blocks = re.findall(r"^```python\n(.*?)^```$", file.read(), re.M | re.S)
    [example] = [block for block in blocks if "/v2/" in block]
    assert "https://classifier.example/v2/models/waste" in example
    (tmp_path / "photo.jpg").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    names = {"token": TOKEN}
    exec(example.replace("https://classifier.example/v2/models/waste",
                         f"{server.url}/v2/models/quarters"), names)
    assert names["probabilities"] == pytest.approx(by_hand((10, 60, 110, 200)), abs=1e-5)


def test_the_token_is_asked_for(server):
    for path in ("/v2/models/quarters", "/v2/models/quarters/ready"):
        assert "token" in refused(get(server, path, token=False), 401)
    answer = infer(server, asking(photo_tensor(PNG)), Authorization="Bearer wrong")
    assert "token" in refused(answer, 401)
    foreign = infer(server, asking(photo_tensor(PNG)), Origin="https://photos.example")
    refused(foreign, 403)


def test_another_name_is_told_the_right_one(server):
    for path in ("/v2/models/plants", "/v2/models/plants/ready"):
        assert "'plants'; this server's is 'quarters'" in refused(get(server, path), 404)
    answer = requests.post(f"{server.url}/v2/models/plants/infer", json={}, headers=TOKEN_HEADER,
                           timeout=20)
    assert "'quarters'" in refused(answer, 404)
    refused(get(server, "/v2/models"), 404)
    refused(get(server, INFER), 405)


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server):
    answer = requests.post(server.url + INFER, b"x" * 200_001, headers=TOKEN_HEADER, timeout=20)
    assert "200,000 bytes" in refused(answer, 413)
    counted = get(server, "/metrics").text
    assert 'requests_total{route="/v2/models/<name>/infer",status="413"} 1.0' in counted


# --- numbers ----------------------------------------------------------------------------


def test_the_numbers_are_those_of_predict(application):  # noqa: F811
    """Bit for bit: a picture of the model's own size has the pixels that the model takes."""
    client = application().client
    photos = [encoded(Image.fromarray(pixels)) for pixels in PIXELS]
    expected = [predicted(client, photo) for photo in photos]
    assert np.abs(np.array(expected) - by_numpy(PIXELS)).max() < 1e-5
    flat_tensor = pixel_tensor(PIXELS, data=PIXELS.ravel().tolist())
    for tensor in (photo_tensor(*photos), pixel_tensor(PIXELS), flat_tensor):
        assert scores(client.post(INFER, json=asking(tensor)), 3).tolist() == expected


def test_calibrated_as_predict_is(application):  # noqa: F811
    fitted = Calibration(2.0, np.zeros(4), 0.9, 10, "0")
    client = application(calibrated=fitted).client
    powers = by_numpy(PIXELS[:1]) ** 0.5  # temperature 2
    [row] = scores(client.post(INFER, json=asking(pixel_tensor())), 1)
    assert np.abs(row - powers / powers.sum()).max() < 1e-5
    assert row.tolist() == predicted(client, encoded(Image.fromarray(PIXELS[0])))


def test_ids_and_outputs(application):  # noqa: F811
    client = application().client
    for text in ("42", "", "下", "x" * 1000):
        answer = client.post(INFER, json=asking(pixel_tensor(), id=text))
        assert answer.json["id"] == text
    for further in ({}, {"id": None}, {"outputs": []}, {"outputs": [{"name": "output_score"}]},
                    {"parameters": {"binary_data_output": False}}, {"parameters": 1},
                    {"parameters": {"binary_data_output": True},  # the output's own word counts
                     "outputs": [{"name": "output_score", "parameters": {"binary_data": False}}]}):
        answer = client.post(INFER, json=asking(pixel_tensor(), **further))
        assert "id" not in answer.json
        scores(answer, 1)


def test_pixels_go_into_the_batches_of_photos(application):  # noqa: F811
    """While the model is busy an image of each kind arrives; then both are computed together."""
    may_answer, batch_sizes = threading.Event(), []
    plain_app = application()

    def predict(x):
        may_answer.wait(20)
        batch_sizes.append(len(x))
        return plain_app.state.served_model.classifier.answers(x)

    test_app = application(predict=predict)
    batcher = test_app.state.served_model.batcher
    batcher._sizes = (1, 2)
    batcher.submit([PNG])
    while batcher.computing_since is None:
        time.sleep(0.001)
    answers = {}

    def ask(kind, tensor):
        answers[kind] = test_app.client.post(INFER, json=asking(tensor))

    threads = [threading.Thread(target=ask, args=("photo", photo_tensor(PNG))),
               threading.Thread(target=ask, args=("pixels", pixel_tensor()))]
    for thread in threads:
        thread.start()
    while len(batcher._decoded) < 2:
        time.sleep(0.001)
    may_answer.set()
    for thread in threads:
        thread.join()
    assert batch_sizes == [1, 2]
    assert np.abs(scores(answers["pixels"], 1) - by_numpy(PIXELS[:1])).max() < 1e-5
    assert np.abs(scores(answers["photo"], 1) - by_hand((10, 60, 110, 200))).max() < 1e-5


def test_images_are_counted_and_only_photos_are_kept(application):  # noqa: F811
    offered = []
    keeper = SimpleNamespace(offer=lambda source, *_: offered.append(source))
    client = application(keeper=keeper).client
    client.post(INFER, json=asking(photo_tensor(PNG)))
    client.post(INFER, json=asking(pixel_tensor(PIXELS)))
    assert offered == [PNG]
    lines = client.get("/metrics").text.splitlines()
    assert 'images_total{outcome="answered"} 4.0' in lines
    assert 'requests_total{route="/v2/models/<name>/infer",status="200"} 2.0' in lines


# --- refusals ---------------------------------------------------------------------------

NESTED = PIXELS[:1].tolist()
RAGGED = [[row[:-1] if index == 3 else row for index, row in enumerate(NESTED[0])]]


def flat_with(value):
    return pixel_tensor(data=[value, *PIXELS[:1].ravel().tolist()[1:]])


BAD = {
    "empty": (b"", "not JSON"),
    "no JSON": (b'{"inputs": [', "not JSON"),
    "not UTF-8": (b'{"id": "\xff"}', "UTF-8"),
    "too many digits": (b'{"inputs": ' + b"9" * 5000 + b"}", "that can be read"),
    "NaN": (json.dumps(asking(flat_with(float("nan")))).encode(), "NaN"),
    "infinite": (json.dumps(asking(flat_with(float("-inf")))).encode(), "-Infinity"),
    "a list": (b"[]", "has to be a JSON object"),
    "objects": (b"[" + b"{}," * 65 + b"{}]", "more than 64 objects"),
    "lists": (b"[" + b"[]," * 5000 + b"[]]", "lists, which no request needs"),
    "texts without end": (b"[" + b'"",' * 5000 + b'""]', "quotation marks, which no request needs"),
    "deep": (b'{"inputs": ' + b"[" * 4000 + b"]" * 4000 + b"}", ""),
    "no inputs": ({}, "list of one tensor"),
    "two inputs": ({"inputs": [pixel_tensor(), photo_tensor(PNG)]}, "list of one tensor"),
    "input of no object": ({"inputs": ["image"]}, "list of one tensor"),
    "name": (asking(pixel_tensor(name="pixels")), "'pixels' is not allowed; allowed are"),
    "name of no text": (asking(pixel_tensor(name=[])), "a list is not allowed"),
    "datatype": (asking(pixel_tensor(datatype="FP32")), "'FP32' is not allowed; allowed is"),
    "datatype of photos": (asking(photo_tensor(PNG, datatype="UINT8")), "allowed is 'BYTES'"),
    "shape": (asking(pixel_tensor(shape=[1, SIZE, SIZE])), f"allowed is [N, {SIZE}, {SIZE}, 3]"),
    "other size": (asking(pixel_tensor(shape=[1, 8, 8, 3])), "[1, 8, 8, 3] is not allowed"),
    "shape of no numbers": (asking(pixel_tensor(shape="1")), "'1' is not allowed"),
    "fraction": (asking(photo_tensor(PNG, shape=[1.0])), "allowed is [N]"),
    "negative": (asking(photo_tensor(PNG, shape=[-1])), "at least 1"),
    "no images": (asking(photo_tensor()), "at least 1"),
    "missing images": (asking(photo_tensor(PNG, shape=[2])), "1 elements"),
    "missing pixels": (asking(pixel_tensor(data=[0] * 9)), "9 values"),
    "ragged": (asking(pixel_tensor(data=RAGGED)), "not nested as"),
    "numbers and lists": (asking(pixel_tensor(data=[0, [0], *[0] * (SIZE * SIZE * 3 - 2)])),
                          "has list"),
    "lists and numbers": (asking(flat_with([1])), "not nested as"),
    "above 255": (asking(flat_with(256)), "from 0 to 255"),
    "below 0": (asking(flat_with(-1)), "from 0 to 255"),
    "fractions": (asking(flat_with(0.5)), "has float"),
    "too large": (json.dumps(asking(flat_with(0))).replace("[0,", "[1e999,").encode(), "has float"),
    "truth": (asking(flat_with(True)), "has bool"),
    "null": (asking(flat_with(None)), "has NoneType"),
    "texts": (asking(flat_with("1")), "has str"),
    "no data": (asking(pixel_tensor(data=None)), "data: None is not allowed"),
    "no base64": (asking(photo_tensor(PNG, data=["a photo?"])), "element 0 is 'a photo?'"),
    "photo of no text": (asking(photo_tensor(PNG, data=[[1]])), "element 0 is a list"),
    "content type": (asking(photo_tensor(PNG, parameters={"content_type": "str"})), "'base64'"),
    "parameters": (asking(photo_tensor(PNG, parameters=[])), "not an object"),
    "binary": (asking(pixel_tensor(data=None, parameters={"binary_data_size": 9})),
               "whose length the header Inference-Header-Content-Length says, are 0 bytes"),
    "id": (asking(pixel_tensor(), id=7), "id: 7 is not allowed"),
    "outputs": (asking(pixel_tensor(), outputs={}), "allowed is a list"),
    "other output": (asking(pixel_tensor(), outputs=[{"name": "x"}]), "'output_score'"),
    "output of no object": (asking(pixel_tensor(), outputs=["output_score"]), "an object"),
}


@pytest.fixture(scope="module")
def strict_client(folder):  # noqa: F811
    """Of a server whose model must not be called."""
    from prediction.classifier import Classifier

    class Batcher:
        def submit(self, sources):
            raise AssertionError("a bad request reached the model")

    state = State()
    classifier = Classifier.load(folder, runtime="onnx")
    state.served_model = SimpleNamespace(name="quarters", classifier=classifier, batcher=Batcher())
    return create_application(state, Settings(None, 4, 10**6, 10), metrics.create()).test_client()


@pytest.mark.parametrize("name", BAD)
def test_bad_bodies(strict_client, name):
    document, message = BAD[name]
    data = document if isinstance(document, bytes) else json.dumps(document)
    answer = strict_client.post(INFER, data=data, content_type="application/json")
    assert message in refused(answer, 400)
    assert len(answer.json["error"]) < 250


def test_too_many_images(strict_client):
    for tensor in (photo_tensor(*[PNG] * 5), pixel_tensor(shape=[10**30, SIZE, SIZE, 3])):
        answer = strict_client.post(INFER, json=asking(tensor))
        assert "more than the 4 images" in refused(answer, 413)


LENGTH = "Inference-Header-Content-Length"
FLAT = PIXELS[:1].tobytes()


def element(content):
    return struct.pack("<I", len(content)) + content


def with_bytes(tensor, content, size=None, **further):
    """A request whose tensor's bytes stand behind the JSON: what `client.post` takes."""
    size = len(content) if size is None else size
    parameters = {**tensor.get("parameters", {}), "binary_data_size": size}
    tensor = {**tensor, "parameters": parameters}
    text = json.dumps(asking(tensor, **further)).encode()
    return {"data": text + content, "headers": {LENGTH: str(len(text))}}


def without_data(tensor):
    return {key: value for key, value in tensor.items() if key != "data"}


def test_tensors_in_binary_form(application):  # noqa: F811
    """The numbers are those of JSON, to the bit, and the output is binary where that is asked."""
    client = application().client
    photos = [encoded(Image.fromarray(pixels)) for pixels in PIXELS]
    expected = scores(client.post(INFER, json=asking(photo_tensor(*photos))), 3)
    pixels = without_data(pixel_tensor(PIXELS)), PIXELS.tobytes()
    files = without_data(photo_tensor(*photos)), b"".join(map(element, photos))
    for tensor, content in (pixels, files):
        answer = client.post(INFER, **with_bytes(tensor, content))
        assert scores(answer, 3).tolist() == expected.tolist()
        for further in ({"parameters": {"binary_data_output": True}},
                        {"outputs": [{"name": "output_score",
                                      "parameters": {"binary_data": True}}]}):
            answer = client.post(INFER, **with_bytes(tensor, content, id="7", **further))
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == "application/octet-stream"
            length = int(answer.headers[LENGTH])
            assert json.loads(answer.data[:length]) == {
                "model_name": "quarters", "id": "7",
                "outputs": [{"name": "output_score", "shape": [3, 4], "datatype": "FP32",
                             "parameters": {"binary_data_size": 48}}]}
            found = np.frombuffer(answer.data[length:], "<f4").reshape(3, 4)
            assert np.abs(found - by_numpy(PIXELS)).max() < 1e-5
            assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("is_binary", [False, True])
def test_a_model_that_answers_nan_has_failed(application, is_binary):  # noqa: F811
    def predict(x):
        return [Answer(np.full(4, np.nan, np.float32), None)] * len(x)

    client = application(predict=predict).client
    asked = {"parameters": {"binary_data_output": is_binary}}
    refused(client.post(INFER, json=asking(pixel_tensor(), **asked)), 500)


BAD_BINARY = {
    "no number": ({"data": b"{}", "headers": {LENGTH: "+2"}}, "'+2' is not allowed"),
    "beyond the end": ({"data": b"{}", "headers": {LENGTH: "3"}}, "a whole number up to 2"),
    "another size": (with_bytes(without_data(pixel_tensor()), FLAT, 7), "binary_data_size: 7"),
    "a list": (with_bytes(without_data(pixel_tensor()), b"x", [1.5]), "binary_data_size: list is"),
    "truth": (with_bytes(without_data(pixel_tensor()), b"x", True), "binary_data_size: True"),
    "data as well": (with_bytes(pixel_tensor(), FLAT), "both data and binary_data_size"),
    "too few pixels": (with_bytes(without_data(pixel_tensor()), FLAT[1:]),
                       f"has {SIZE * SIZE * 3:,}"),
    "cut": (with_bytes(without_data(photo_tensor(PNG)), element(PNG)[:-1]), "are not 1 elements"),
    "more": (with_bytes(without_data(photo_tensor(PNG)), element(PNG) + b"x"),
             "are not 1 elements"),
    "no length": (with_bytes(without_data(photo_tensor(PNG)), b"\1\0"), "are not 1 elements"),
    "empty": (with_bytes(without_data(photo_tensor(PNG, PNG)), element(PNG) + element(b"")),
              "are not 2 elements"),
    "nobody's bytes": ({"data": json.dumps(asking(pixel_tensor())).encode() + b"xy", "headers": {
        LENGTH: str(len(json.dumps(asking(pixel_tensor()))))}}, "2 bytes stand behind the JSON"),
}


@pytest.mark.parametrize("name", BAD_BINARY)
def test_bad_tensors_in_binary_form(strict_client, name):
    request, message = BAD_BINARY[name]
    answer = strict_client.post(INFER, **request)
    assert message in refused(answer, 400)
    assert len(answer.json["error"]) < 250


@pytest.mark.parametrize("number", ["255", "0.5"])
def test_other_threads_go_on_while_numbers_are_read(monkeypatch, number):
    """In C alone, megabytes of numbers would stop the loop that answers health checks."""
    switch_interval, turns, done = sys.getswitchinterval(), [], threading.Event()

    def other_work():
        while not done.is_set():
            turns.append(1)
            time.sleep(0)

    parse = json.loads

    def counted(*arguments, **named):
        before = len(turns)
        try:
            return parse(*arguments, **named)
        finally:
            turns_meanwhile.append(len(turns) - before)

    turns_meanwhile = []
    monkeypatch.setattr(infer_request.json, "loads", counted)
    body = f'{{"inputs": [{", ".join([number] * 300_000)}]}}'.encode()
    sys.setswitchinterval(1e-4)
    thread = threading.Thread(target=other_work)
    thread.start()
    try:
        with pytest.raises(Refused):
            infer_request.read_request(memoryview(body), SIZE, 1, time.monotonic() + 60)
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(switch_interval)
    assert turns_meanwhile[0] > 20


def test_a_body_of_lists_is_refused_before_it_is_parsed(strict_client, monkeypatch):
    without_loads = SimpleNamespace(JSONDecodeError=json.JSONDecodeError)
    monkeypatch.setattr(infer_request, "json", without_loads)
    for name in ("objects", "lists"):
        refused(strict_client.post(INFER, data=BAD[name][0]), 400)


def test_a_photo_that_cannot_be_decoded(application):  # noqa: F811
    client = application().client
    message = refused(client.post(INFER, json=asking(photo_tensor(PNG, FAULTY))), 422)
    assert message.startswith("image: element 1: cannot be decoded: is none of")
    assert 'images_total{outcome="undecodable"} 1.0' in client.get("/metrics").text


def test_full_slow_and_starting_servers(application):  # noqa: F811
    client = application(max_queue=2).client
    answer = client.post(INFER, json=asking(pixel_tensor(PIXELS)))
    assert "queue" in refused(answer, 503) and answer.headers["Retry-After"] == "1"
    with infer_request._parsing:  # another body is read
        answer = application(time_limit=0.01).client.post(INFER, json=asking(pixel_tensor()))
    assert "0.01 seconds" in refused(answer, 504)
    settings = Settings(None, 4, 10**6, 10, Access())
    no_model = create_application(State(), settings, metrics.create()).test_client()
    for path in ("/v2/health/ready", "/v2/models/quarters", "/v2/models/quarters/ready"):
        refused(no_model.get(path), 503)
    refused(no_model.post(INFER, json=asking(pixel_tensor())), 503)
    assert no_model.get("/v2/health/live").json == {"live": True}


def test_a_model_that_fails_tells_the_log_alone(application, capsys):  # noqa: F811
    def failing(x):
        raise ValueError("secret of /some/path")

    answer = application(predict=failing).client.post(INFER, json=asking(pixel_tensor()))
    assert "secret" not in refused(answer, 500)
    assert "secret of /some/path" in capsys.readouterr().err


def test_a_model_replaced_meanwhile(application):  # noqa: F811
    """The request is read again, for the model that takes it."""
    closed_model, new_model = (application().state.served_model for _ in range(2))
    models = iter([closed_model, new_model._replace(name="plants")])

    class Swapping(State):
        @property
        def served_model(self):
            return next(models)

    closed_model.batcher.close()
    client = create_application(Swapping(), Settings(None, 4, 10**6, 10), metrics.create())
    answer = client.test_client().post(INFER, json=asking(pixel_tensor()))
    assert "this server's is 'plants'" in refused(answer, 404)
