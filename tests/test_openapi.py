"""deployment/openapi.py: the document holds together, and what the application answers is in it."""

import base64
import json
import re
from concurrent.futures import Future

import numpy as np
import pytest

from common.errors import ImageError
from data.geometry import Preprocessing
from deployment import metrics, openapi
from deployment.access import Access
from deployment.application import create_application
from deployment.batching import QueueFull
from deployment.prediction_service import ServedModel, Settings, State
from prediction.calibration import Calibration
from prediction.classifier import Answer, Classifier

LIMITS = {"classes": 3, "top_k": 2, "max_images": 4, "max_bytes": 5000, "size": 8}
TOKEN = {"Authorization": "Bearer right token"}
STATUSES = {
    ("/predict", "post"): {200, 400, 401, 403, 408, 413, 422, 500, 503, 504},
    ("/labels", "get"): {200, 401, 403, 500, 503},
    ("/metrics", "get"): {200, 401, 403, 500},
    ("/healthz", "get"): {200, 403, 500},
    ("/readyz", "get"): {200, 403, 500, 503},
    ("/openapi.json", "get"): {200, 403, 500, 503},
    ("/", "get"): {200, 403, 500},
    ("/v2", "get"): {200, 403, 500},
    ("/v2/health/live", "get"): {200, 403, 500},
    ("/v2/health/ready", "get"): {200, 403, 500, 503},
    ("/v2/models/{name}", "get"): {200, 401, 403, 404, 500, 503},
    ("/v2/models/{name}/ready", "get"): {200, 401, 403, 404, 500, 503},
    ("/v2/models/{name}/infer", "post"): {200, 400, 401, 403, 404, 408, 413, 422, 500, 503, 504},
}
MODEL, INFER = "/v2/models/{name}", "/v2/models/{name}/infer"
PROTECTED = ("/predict", "/labels", "/metrics", MODEL, f"{MODEL}/ready", INFER)
# For the model:
WAITING = ("/predict", "/labels", "/readyz", "/openapi.json", "/v2/health/ready", MODEL,
           f"{MODEL}/ready", INFER)


def describe(token=True):
    """The document as a client reads it."""
    return json.loads(json.dumps(openapi.describe(**LIMITS, token=token), allow_nan=False))


def operations(document):
    return {(path, method): operation for path, methods in document["paths"].items()
            for method, operation in methods.items()}


TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
         "number": (int, float)}
CHECKS = {  # of JSON Schema's keywords, those that the document uses in answers
    "type": lambda want, value: isinstance(value, TYPES[want]) and (
        want == "boolean" or not isinstance(value, bool)),
    "const": lambda want, value: value == want and type(value) is type(want),
    "enum": lambda want, value: value in want,
    "minimum": lambda want, value: value >= want,
    "maximum": lambda want, value: value <= want,
    "minItems": lambda want, value: len(value) >= want,
    "maxItems": lambda want, value: len(value) <= want,
    "pattern": lambda want, value: re.search(want, value) is not None,
    "required": lambda want, value: set(want) <= set(value),
    "format": lambda want, value: want == "binary" and max(value) > "\x7f",  # as latin-1 has it
}


def valid(document, schema, value):
    """Whether a value is as its schema wants it. A keyword that is not known fails the test."""
    schema = dict(schema)
    schema.pop("description", None)
    if "$ref" in schema:
        assert set(schema) == {"$ref"}
        return valid(document, resolve(document, schema["$ref"]), value)
    alternatives = [valid(document, subschema, value) for subschema in schema.pop("oneOf", ())]
    parts = [valid(document, subschema, value) for subschema in schema.pop("allOf", ())]
    item_schema, properties = schema.pop("items", None), schema.pop("properties", {})
    is_closed = schema.pop("additionalProperties", True) is False
    return (
        all(CHECKS[keyword](want, value) for keyword, want in schema.items())
        and (not alternatives or sum(alternatives) == 1) and all(parts)
        and (item_schema is None or all(valid(document, item_schema, item) for item in value))
        and not (is_closed and set(value) - set(properties))
        and all(valid(document, property_schema, value[name])
                for name, property_schema in properties.items() if name in value)
    )


def resolve(document, reference):
    node = document
    for part_name in reference.removeprefix("#/").split("/"):
        node = node[part_name]
    return node


def references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        node = node.values()
    elif not isinstance(node, list):
        return
    for child in node:
        yield from references(child)


def check(document, described, status, headers, body):
    """Refuses an answer that is not as described."""
    for header_name, header in described["headers"].items():
        value = headers.get(header_name)
        assert value is not None, (status, header_name)
        if header["schema"].get("type") == "integer":
            value = int(value)
        assert valid(document, header["schema"], value), (status, header_name, value)
    assert not {"Retry-After", "WWW-Authenticate", "Allow"} & set(headers.keys()) - set(
        described["headers"])
    media_type = headers["Content-Type"].split(";")[0]
    assert media_type in described["content"]
    value = json.loads(body) if media_type == "application/json" else body.decode("latin-1")
    assert valid(document, described["content"][media_type]["schema"], value), (status, value)


# --- the document ---------------------------------------------------------------------------

def test_it_holds_together():
    document = describe()
    assert document["openapi"].startswith("3.1.") and document["info"]["title"]
    described = operations(document)
    statuses = {key: set(map(int, operation["responses"])) for key, operation in described.items()}
    assert statuses == STATUSES
    operation_ids = [operation["operationId"] for operation in described.values()]
    assert len(set(operation_ids)) == len(operation_ids)
    used_references = set(references(document))
    assert {reference.rsplit("/", 1)[1] for reference in used_references} == \
        set(document["components"]["schemas"])
    for reference in used_references:
        assert resolve(document, reference)["type"] == "object"
    responses = [*document["components"]["responses"].values(),
                 *(response for operation in described.values()
                   for response in operation["responses"].values())]
    for response in responses:
        assert response["description"] and response["headers"]["X-Request-ID"]["required"]


def test_examples_are_valid():
    document = describe()
    example_count = 0
    for operation in operations(document).values():
        for response in operation["responses"].values():
            for content in response["content"].values():
                for example in content.get("examples", {}).values():
                    assert valid(document, content["schema"], example["value"])
                    example_count += 1
    assert example_count == 2


def test_limits():
    predict = operations(describe())["/predict", "post"]
    (top_k,) = predict["parameters"]
    assert (top_k["name"], top_k["in"], top_k.get("required", False)) == ("top_k", "query", False)
    assert top_k["schema"] == {"type": "integer", "minimum": 1, "maximum": 3, "default": 2}
    request_body = predict["requestBody"]
    assert request_body["required"] and "5000 bytes" in request_body["description"]
    form_body, *raw_bodies = request_body["content"].values()
    assert list(request_body["content"]) == [
        "multipart/form-data", "application/octet-stream", "image/*"]
    image_schema = form_body["schema"]["properties"]["image"]
    assert image_schema["type"] == "array"
    assert (image_schema["minItems"], image_schema["maxItems"]) == (1, 4)
    assert form_body["schema"]["required"] == ["image"]
    assert image_schema["items"]["format"] == "binary"
    assert [content["schema"]["maxLength"] for content in raw_bodies] == [5000, 5000]


@pytest.mark.parametrize("token", [True, False])
def test_a_token_is_described_where_it_is_needed(token):
    document = describe(token)
    for (path, _), operation in operations(document).items():
        is_needed = token and path in PROTECTED
        assert ("401" in operation["responses"]) == is_needed
        assert operation.get("security") == ([{"token": []}] if is_needed else None)
    assert document["components"].get("securitySchemes") == (
        {"token": {"type": "http", "scheme": "bearer"}} if token else None)


# --- what the application answers ---------------------------------------------------------------

class Batcher:
    """Answers images by their first byte: a row, an error, nothing at all."""

    waiting, computing_since = 0, None

    def submit(self, sources):
        if sources[0] == b"full":
            raise QueueFull
        futures = [Future() for _ in sources]
        for source, future in zip(sources, futures):
            if source == b"bad":
                future.set_exception(ImageError("image", "is broken"))
            elif source == b"failure":
                future.set_exception(RuntimeError("of the model"))
            elif source != b"slow":
                future.set_result(Answer(np.array([0.25, 0.75, 0.0], np.float32), 0.5))
        return futures


def client(ready=True, calibrated=False):
    state = State()
    preprocessing = Preprocessing(LIMITS["size"], "stretch", (0, 0, 0))
    classifier = Classifier(("cat", "dog", "狐狸"), preprocessing, None)
    if calibrated:
        classifier.calibration = Calibration(1.0, np.full(3, 0.9), 0.95, 10, "")
    if ready:
        state.served_model = ServedModel("animals", classifier, Batcher())
    settings = Settings(LIMITS["top_k"], LIMITS["max_images"], LIMITS["max_bytes"], 0.05,
                        Access(b"right token"))
    return create_application(state, settings, metrics.create()).test_client()


def form(*images, name=b"image"):
    part_head = b'--limit\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n\r\n'
    parts = [part_head % name + image + b"\r\n" for image in images]
    return raw(b"".join(parts) + b"--limit--\r\n", "multipart/form-data; boundary=limit")


def raw(data, kind="image/png"):
    return {"data": data, "content_type": kind}


ANSWERS = [  # a request to /predict, the status, the error's code
    ("", raw(b"good"), 200, None),
    ("?top_k=3", raw(b"good", "application/octet-stream"), 200, None),
    ("", form(b"good"), 200, None),
    ("", form(b"good", b"bad", b"good"), 200, None),
    ("", form(b"good", b"good"), 200, None),
    ("?top_k=0", raw(b"good"), 400, "bad_request"),
    ("?top_k=4", raw(b"good"), 400, "bad_request"),
    ("?top_k=x", raw(b"good"), 400, "bad_request"),
    ("", form(b"good", name=b"picture"), 400, "bad_request"),
    ("", raw(b"--", "multipart/form-data; boundary=x"), 400, "bad_request"),
    ("", raw(bytes(5001)), 413, "too_large"),
    ("", form(*[b"good"] * 5), 413, "too_large"),
    ("", raw(b"bad"), 422, "undecodable"),
    ("", form(b"bad"), 422, "undecodable"),
    ("", form(b"bad", b"bad"), 422, None),
    ("", raw(b"failure"), 500, "internal"),
    ("", raw(b"full"), 503, "queue_full"),
    ("", raw(b"slow"), 504, "overdue"),
]


@pytest.mark.parametrize("calibrated", [False, True])
def test_predict_is_as_described(calibrated):
    document, application = describe(), client(calibrated=calibrated)
    described = document["paths"]["/predict"]["post"]["responses"]
    for query, request, status, error_code in ANSWERS:
        answer = application.post("/predict" + query, headers=TOKEN, **request)
        assert answer.status_code == status, (query, request, answer.data)
        assert answer.json.get("error", {}).get("code") == error_code
        check(document, described[str(status)], status, answer.headers, answer.data)
    # 408 is for bodies that come too slowly, which the application does not see.
    assert {status for *_, status, _ in ANSWERS} | {401, 403, 408} == set(map(int, described))


def tensor(*photos, asked=None, **changes):
    """A request for `/v2/models/animals/infer` with these photos."""
    photo_texts = [base64.b64encode(photo).decode() for photo in photos]
    image_tensor = {"name": "image", "datatype": "BYTES", "shape": [len(photos)],
                    "data": photo_texts, **changes}
    document = {"id": "7", "inputs": [image_tensor], "parameters": asked or {}}
    return raw(json.dumps(document), "application/json")


INFER_ANSWERS = [  # a request, the status
    (tensor(b"good"), 200),
    (tensor(b"good", b"good", parameters={"content_type": "base64"}), 200),
    (tensor(b"good", asked={"binary_data_output": True}), 200),
    (raw("{", "application/json"), 400),
    (tensor(b"good", shape=[2]), 400),
    (tensor(*[b"good"] * 5), 413),
    (raw(bytes(5001)), 413),
    (tensor(b"good", b"bad"), 422),
    (tensor(b"failure"), 500),
    (tensor(b"full"), 503),
    (tensor(b"slow"), 504),
]


def test_infer_is_as_described():
    document, application, media_types = describe(), client(), set()
    described = document["paths"][INFER]["post"]["responses"]
    path = INFER.replace("{name}", "animals")
    for request, status in INFER_ANSWERS:
        answer = application.post(path, headers=TOKEN, **request)
        assert answer.status_code == status, (request, answer.data)
        check(document, described[str(status)], status, answer.headers, answer.data)
        media_types.add(answer.headers["Content-Type"])
    assert media_types == set(described["200"]["content"])
    answer = application.post(INFER.replace("{name}", "plants"), headers=TOKEN, **tensor(b"good"))
    assert answer.status_code == 404
    check(document, described["404"], 404, answer.headers, answer.data)
    for headers, status in (({}, 401), ({**TOKEN, "Origin": "https://photos.example"}, 403)):
        answer = application.post(path, headers=headers, **tensor(b"good"))
        assert answer.status_code == status
        check(document, described[str(status)], status, answer.headers, answer.data)
    # 408 is for bodies that come too slowly, which the application does not see.
    assert {status for _, status in INFER_ANSWERS} | {401, 403, 404, 408} == set(
        map(int, described))


def test_the_requests_of_infer_are_described():
    document = describe()
    schema = document["components"]["schemas"]["ProtocolRequest"]
    pixel_tensor = {"name": "input_img", "datatype": "UINT8", "shape": [1, 8, 8, 3],
                    "data": [0] * 192}
    allowed = {"id": "7", "inputs": [pixel_tensor], "outputs": [{"name": "output_score"}]}
    assert valid(document, schema, allowed)
    for changes in ({"inputs": []}, {"inputs": [pixel_tensor] * 2}, {"id": 7},
                    {"inputs": [{**pixel_tensor, "datatype": "FP32"}]},
                    {"outputs": [{"name": "score"}]}):
        assert not valid(document, schema, {**allowed, **changes})


@pytest.mark.parametrize("ready", [True, False])
def test_other_routes_are_as_described(ready):
    document, application = describe(), client(ready)
    for (path, method), operation in operations(document).items():
        if path in ("/predict", INFER) and ready:
            continue
        for headers in (TOKEN, {}, {**TOKEN, "Origin": "https://photos.example"}):
            answer = application.open(path.replace("{name}", "animals"), method=method,
                                      headers=headers)
            expected_status = 200 if ready or path not in WAITING else 503
            if "Origin" in headers:
                expected_status = 403
            if path in PROTECTED and not headers:
                expected_status = 401
            assert answer.status_code == expected_status, (path, headers)
            described = operation["responses"][str(expected_status)]
            check(document, described, expected_status, answer.headers, answer.data)


def test_every_route_is_described_and_every_other_refused_as_described():
    document, application = describe(), client()
    served_routes = {(re.sub("<(.*?)>", r"{\1}", rule.rule), method.lower())
                     for rule in application.application.url_map.iter_rules()
                     for method in rule.methods - {"HEAD", "OPTIONS"}}
    assert served_routes == set(STATUSES)
    general_errors = document["components"]["responses"]
    for path, methods in document["paths"].items():
        answer = application.delete(path, headers=TOKEN)
        assert answer.status_code == 405
        check(document, general_errors["method_not_allowed"], 405, answer.headers, answer.data)
        allowed_methods = {word.strip().lower() for word in answer.headers["Allow"].split(",")}
        assert allowed_methods - {"head", "options"} == set(methods)
    answer = application.get("/nowhere")
    assert answer.status_code == 404
    check(document, general_errors["not_found"], 404, answer.headers, answer.data)


def test_the_document_is_served():
    assert client().get("/openapi.json").json == describe()
