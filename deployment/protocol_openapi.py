"""The paths of the Open Inference Protocol in the OpenAPI document."""

from deployment.binary_tensors import HEADER
from deployment.openapi_parts import (
    BINARY,
    FORBIDDEN,
    INTERNAL,
    RETRY_AFTER,
    TEXT,
    WWW_AUTHENTICATE,
    answer_of,
    get,
    object_schema,
    reference,
)
from prediction.runtimes import INPUT, OUTPUT

INTEGERS = {"type": "array", "items": {"type": "integer"}}
NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The model's name, which /labels tells.",
    "schema": TEXT,
}
NOT_READY = "There is no model yet, or it has hung, or the server is shutting down."


def paths(max_bytes, security):
    """Path -> description of all paths of the protocol, a dict.

    Args:
        max_bytes: int, maximum size of a request's body.
        security: dict with the entry "security" where requests have to bring the token, else
            empty.
    """
    general = {"403": _error(FORBIDDEN), "500": _error(INTERNAL)}
    not_ready = {"503": _error(NOT_READY, RETRY_AFTER)}
    of_model = {**general, **not_ready, "404": _error("The model has another name.")}
    if security:
        of_model["401"] = _error("The token is missing or wrong.", WWW_AUTHENTICATE)
    server = object_schema(name=TEXT, version=TEXT, extensions={"type": "array", "items": TEXT})
    get_paths = {
        "/v2": ("protocolServer", "What the server is.", server, {}, general),
        "/v2/health/live": (
            "protocolLive",
            "Whether the process is alive.",
            object_schema(live={"const": True}),
            {},
            general,
        ),
        "/v2/health/ready": (
            "protocolReady",
            "Whether requests are taken.",
            object_schema(ready={"const": True}),
            {},
            {**general, **not_ready},
        ),
        "/v2/models/{name}": (
            "protocolModel",
            "The model's inputs and outputs.",
            reference("ProtocolModel"),
            security,
            of_model,
        ),
        "/v2/models/{name}/ready": (
            "protocolModelReady",
            "Whether the model takes requests.",
            object_schema(name=TEXT, ready={"const": True}),
            security,
            of_model,
        ),
    }
    described = {
        path: get(operation_id, summary, answer_of(summary, schema), needed, errors)
        for path, (operation_id, summary, schema, needed, errors) in get_paths.items()
    }
    described["/v2/models/{name}/infer"] = {"post": _infer(max_bytes, security, of_model)}
    for path, methods in described.items():
        if "{name}" in path:
            for operation in methods.values():
                operation["parameters"] = [NAME]
    return described


def _infer(max_bytes, security, errors):
    """The description of `POST /v2/models/NAME/infer`."""
    return {
        "operationId": "protocolInfer",
        "summary": "The probabilities of the classes of one image or of several.",
        **security,
        "requestBody": {
            "required": True,
            "description": f"At most {max_bytes} bytes: JSON, or JSON of as many bytes as "
            f"{HEADER} says and behind it the bytes of the tensor, which then has no data but the "
            "parameter binary_data_size.",
            "content": {
                "application/json": {"schema": reference("ProtocolRequest")},
                "application/octet-stream": {"schema": BINARY},
            },
        },
        "responses": {
            "200": _probabilities(),
            **errors,
            "400": _error("The request is not as described."),
            "408": _error("The request came too slowly."),
            "413": _error("The body is too large, or has too many images."),
            "422": _error("An image cannot be decoded."),
            "503": _error(
                "The queue of images is full, or the memory for them, or there is no model yet, "
                "or the server is shutting down.",
                RETRY_AFTER,
            ),
            "504": _error("There was no answer within the time allowed."),
        },
    }


def _probabilities():
    """The description of the answer, in both forms."""
    answer = answer_of(
        "The probabilities; in binary form where the request asks for that.",
        reference("ProtocolResponse"),
    )
    answer["content"]["application/octet-stream"] = {"schema": BINARY}
    return answer


def schemas(classes, size, max_images):
    """Name -> schema of the protocol's objects, a dict.

    Args:
        classes: int, number of the model's classes.
        size: int, height and width in pixels of the model's images.
        max_images: int, maximum number of images in a request.
    """
    tensor = {"name": TEXT, "datatype": TEXT, "shape": INTEGERS}
    parameters = {"parameters": {"type": "object"}}
    tensor_list = {"type": "array", "items": object_schema(**tensor, optional=parameters)}
    scores = object_schema(
        name={"const": OUTPUT},
        shape={
            **INTEGERS,
            "minItems": 2,
            "maxItems": 2,
            "description": f"Images, {classes} classes.",
        },
        datatype={"const": "FP32"},
        data={
            "type": "array",
            "items": {"type": "number", "minimum": 0, "maximum": 1},
            "minItems": classes,
            "maxItems": classes * max_images,
            "description": "The probabilities, calibrated where the model is, image by image.",
        },
    )
    return {
        "ProtocolError": object_schema(error=TEXT),
        "ProtocolModel": object_schema(
            name=TEXT,
            platform=TEXT,
            inputs=tensor_list,
            outputs=tensor_list,
            parameters=object_schema(description=TEXT, labels=TEXT),
        ),
        "ProtocolRequest": _request_schema(size, max_images),
        "ProtocolResponse": object_schema(
            model_name=TEXT,
            outputs={"type": "array", "items": scores, "minItems": 1, "maxItems": 1},
            optional={"id": {"type": "string", "description": "The request's."}},
        ),
    }


def _request_schema(size, max_images):
    """The schema of a request; what it has besides is passed over."""
    pixels = _input_schema(
        INPUT,
        "UINT8",
        f"[N, {size}, {size}, 3], N from 1 to {max_images}",
        {"type": "array", "description": "Whole numbers from 0 to 255, RGB, nested or flat."},
    )
    photos = _input_schema(
        "image",
        "BYTES",
        f"[N], N from 1 to {max_images}",
        {
            "type": "array",
            "minItems": 1,
            "maxItems": max_images,
            "items": {"type": "string", "contentEncoding": "base64"},
            "description": "Image files of the formats that /predict reads.",
        },
    )
    one_input = {
        "type": "array",
        "minItems": 1,
        "maxItems": 1,
        "items": {"oneOf": [pixels, photos]},
    }
    output = {"type": "object", "required": ["name"], "properties": {"name": {"const": OUTPUT}}}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": TEXT,
            "inputs": one_input,
            "outputs": {"type": "array", "items": output},
        },
    }


def _input_schema(tensor_name, datatype, shape_text, data):
    return {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": tensor_name},
            "datatype": {"const": datatype},
            "shape": {**INTEGERS, "description": shape_text},
            "data": data,
        },
    }


def _error(description, headers=None):
    return answer_of(description, reference("ProtocolError"), headers=headers)
