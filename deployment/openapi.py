"""The server's API as an OpenAPI 3.1 document, which client generators and testers read."""

from deployment import protocol_openapi
from deployment.openapi_parts import (
    ALLOW,
    BINARY,
    REQUEST_ID,
    RETRY_AFTER,
    TEXT,
    WWW_AUTHENTICATE,
    answer_of,
    code_schema,
    error_answer,
    error_schema,
    forbidden,
    get,
    internal,
    object_schema,
    reference,
)
from prediction.calibration import REASONS

VERSION = "1"  # of the API

DESCRIPTION = """\
Names the classes of images.

Every answer has the header X-Request-ID: the request's own, where that is 1 to 64 letters, digits,
`_`, `.` and `-` (ASCII), else a new one. Every error is an object `Error`. Besides the answers
below, a path that does not exist is answered with `not_found`, and a method that a path does not
take with `method_not_allowed`, both among the components. The paths that begin with /v2 are those
of the Open Inference Protocol, whose errors are objects `ProtocolError`."""


def describe(*, classes, top_k, max_images, max_bytes, token, size):
    """Makes the document.

    Args:
        classes: int, number of the model's classes.
        top_k: int, number of classes that an answer names where the request does not say.
        max_images: int, maximum number of images in a request.
        max_bytes: int, maximum size of a request's body.
        token: bool, whether requests have to bring the server's token.
        size: int, height and width in pixels of the model's images.

    Returns:
        A dict that `json` can write.

    Example:
        >>> document = describe(classes=6, top_k=3, max_images=16, max_bytes=10**7, token=False,
        ...                     size=96)
        >>> document["paths"]["/predict"]["post"]["parameters"][0]["schema"]["maximum"]
        6
    """
    security, unauthorized = {}, {}
    if token:
        security = {"security": [{"token": []}]}
        unauthorized = {
            "401": error_answer(
                "The token is missing or wrong.", "unauthorized", headers=WWW_AUTHENTICATE
            )
        }
    predict = {
        "operationId": "predict",
        "summary": "Names the classes of one image or of several.",
        **security,
        "parameters": [_top_k_parameter(classes, top_k)],
        "requestBody": _request_body(max_images, max_bytes),
        "responses": _predict_responses(unauthorized),
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Image classifier", "version": VERSION, "description": DESCRIPTION},
        "paths": {
            "/predict": {"post": predict},
            **_get_paths(classes, security, unauthorized),
            **protocol_openapi.paths(max_bytes, security),
        },
        "components": {
            "schemas": {**_schemas(classes), **protocol_openapi.schemas(classes, size, max_images)},
            "responses": _general_errors(),
        },
    }
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _predict_responses(unauthorized):
    """Status -> answer of `POST /predict`."""
    return {
        "200": answer_of(
            "One image: its classes, the likeliest first. Several: the results in "
            "their order, at least one of them with classes.",
            {"oneOf": [reference("Answer"), reference("Answers")]},
            _examples(),
        ),
        "400": error_answer(
            "top_k is not allowed, or the form is broken or has no image.", "bad_request"
        ),
        **unauthorized,
        **forbidden(),
        "408": error_answer("The request came too slowly.", "too_slow"),
        "413": error_answer("The body is too large, or has too many images.", "too_large"),
        "422": answer_of(
            "No image can be decoded. One image: why. Several: why, for each image.",
            {"oneOf": [error_schema("undecodable"), reference("Answers")]},
        ),
        **internal(),
        "503": error_answer(
            "The queue of images is full, or the memory for them, or there is no model yet, or "
            "the server is shutting down.",
            "queue_full",
            "not_ready",
            headers=RETRY_AFTER,
        ),
        "504": error_answer("There was no answer within the time allowed.", "overdue"),
    }


def _get_paths(classes, security, unauthorized):
    """Path -> description of all routes that take GET."""
    general = {**forbidden(), **internal()}
    not_ready = {
        "503": error_answer(
            "There is no model yet, or it has hung, or the server is shutting down.",
            "not_ready",
            headers=RETRY_AFTER,
        )
    }
    label_list = {"type": "array", "items": TEXT, "minItems": classes, "maxItems": classes}
    return {
        "/labels": get(
            "labels",
            "The names of all classes, in the order of their ids.",
            answer_of("The names.", object_schema(labels=label_list, model=TEXT)),
            security,
            {**unauthorized, **general, **not_ready},
        ),
        "/metrics": get(
            "metrics",
            "What the server counts and measures, for Prometheus.",
            answer_of("Prometheus's text format.", TEXT, media_type="text/plain"),
            security,
            {**unauthorized, **general},
        ),
        "/healthz": get(
            "health",
            "Whether the process is alive.",
            answer_of("It is.", object_schema(status={"const": "alive"})),
            {},
            general,
        ),
        "/readyz": get(
            "ready",
            "Whether requests are taken.",
            answer_of("They are.", object_schema(status={"const": "ready"})),
            {},
            {**general, **not_ready},
        ),
        "/openapi.json": get(
            "description",
            "This description.",
            answer_of("An OpenAPI document.", {"type": "object"}),
            {},
            {**general, **not_ready},
        ),
        "/": get(
            "page",
            "The page to try the model on.",
            answer_of("A page for people.", TEXT, media_type="text/html"),
            {},
            general,
        ),
    }


def _general_errors():
    """The answers to paths and methods that the document does not have."""

    def either(error_code):
        return {"oneOf": [error_schema(error_code), reference("ProtocolError")]}

    return {
        "not_found": answer_of("The path does not exist.", either("not_found")),
        "method_not_allowed": answer_of(
            "The path does not take this method.", either("method_not_allowed"), headers=ALLOW
        ),
    }


def _schemas(classes):
    """Name -> schema of the objects in answers."""
    predictions = {
        "type": "array",
        "minItems": 1,
        "maxItems": classes,
        "items": reference("Prediction"),
        "description": "The likeliest first.",
    }
    success = {"success": {"const": True}, "predictions": predictions}
    unknown = {
        "unknown": {
            "type": "boolean",
            "description": "Whether no class is named with confidence. Calibrated models only.",
        },
        "reason": {
            "enum": list(REASONS),
            "description": "Why it is unknown: the likeliest class is less probable than its "
            "threshold, or the image is unlike those that the model has learned from.",
        },
    }
    about_request = {
        "model": {"type": "string", "description": "The model's name."},
        "ms": {
            "type": "number",
            "minimum": 0,
            "description": "Milliseconds that the server spent on the request.",
        },
        "request_id": REQUEST_ID,
    }
    return {
        "Prediction": object_schema(
            label=TEXT,
            id={"type": "integer", "minimum": 0, "maximum": classes - 1},
            probability={"type": "number", "minimum": 0, "maximum": 1},
        ),
        "Answer": object_schema(**success, **about_request, optional=unknown),
        "Answers": object_schema(
            success={"type": "boolean", "description": "Whether every image has classes."},
            results={
                "type": "array",
                "minItems": 2,
                "items": {
                    "oneOf": [object_schema(**success, optional=unknown), reference("Undecodable")]
                },
            },
            **about_request,
        ),
        "Undecodable": object_schema(success={"const": False}, error=code_schema("undecodable")),
        "Error": object_schema(
            success={"const": False},
            request_id=REQUEST_ID,
            error=object_schema(code=TEXT, message=TEXT),
        ),
    }


def _top_k_parameter(classes, default):
    return {
        "name": "top_k",
        "in": "query",
        "description": "How many classes to name.",
        "schema": {"type": "integer", "minimum": 1, "maximum": classes, "default": default},
    }


def _request_body(max_images, max_bytes):
    one_image = {"schema": {**BINARY, "maxLength": max_bytes}}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": "array", "minItems": 1, "maxItems": max_images, "items": BINARY}
        },
    }
    return {
        "required": True,
        "description": f"The bytes of one image as the body, or a form with 1 to {max_images} "
        "parts named image. JPEG, PNG, BMP, WebP, GIF, TIFF, HEIC and AVIF are read, whatever "
        f"type is declared. The body may have at most {max_bytes} bytes.",
        "content": {
            "multipart/form-data": {"schema": form},
            "application/octet-stream": one_image,
            "image/*": one_image,
        },
    }


def _examples():
    predictions = [{"label": "cat", "id": 0, "probability": 0.93}]
    about_request = {"model": "animals", "ms": 6.2, "request_id": "5f0c9a1be8d24b70"}
    decoding_error = {"code": "undecodable", "message": "the file is empty"}
    return {
        "one": {"value": {"success": True, "predictions": predictions, **about_request}},
        "several": {
            "value": {
                "success": False,
                "results": [
                    {"success": True, "predictions": predictions},
                    {"success": False, "error": decoding_error},
                ],
                **about_request,
            }
        },
    }
