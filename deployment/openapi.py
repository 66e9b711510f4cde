"""The server's API as an OpenAPI 3.1 document, which client generators and testers read."""

from prediction.calibration import REASONS

DESCRIPTION = """\
Names the classes of images.

Every answer has the header X-Request-ID: the request's own, where that is 1 to 64 letters, digits,
`_`, `.` and `-` (ASCII), else a new one. Every error is an object `Error`. Besides the answers
below, a path that does not exist is answered with `not_found`, and a method that a path does not
take with `method_not_allowed`, both among the components."""

BINARY = {"type": "string", "format": "binary"}
TEXT = {"type": "string"}
REQUEST_ID = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
# Headers: name -> (description, schema)
REQUEST_ID_HEADER = {"X-Request-ID": ("the request's id, which the log names too", REQUEST_ID)}
RETRY_AFTER = {
    "Retry-After": ("seconds to wait before trying again", {"type": "integer", "minimum": 1})
}
WWW_AUTHENTICATE = {"WWW-Authenticate": ("how to send the token", {"const": "Bearer"})}
ALLOW = {"Allow": ("the methods that the path takes, separated by commas", TEXT)}


def describe(*, classes, top_k, max_images, max_bytes, token):
    """Makes the document.

    Args:
        classes: int, number of the model's classes.
        top_k: int, number of classes that an answer names where the request does not say.
        max_images: int, maximum number of images in a request.
        max_bytes: int, maximum size of a request's body.
        token: bool, whether requests have to bring the server's token.

    Returns:
        A dict that `json` can write.

    Example:
        >>> document = describe(classes=6, top_k=3, max_images=16, max_bytes=10**7, token=False)
        >>> document["paths"]["/predict"]["post"]["parameters"][0]["schema"]["maximum"]
        6
    """
    security, unauthorized = {}, {}
    if token:
        security = {"security": [{"token": []}]}
        unauthorized = {
            "401": _error(
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
        "info": {"title": "Image classifier", "version": "1", "description": DESCRIPTION},
        "paths": {"/predict": {"post": predict}, **_get_paths(classes, security, unauthorized)},
        "components": {"schemas": _schemas(classes), "responses": _general_errors()},
    }
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _predict_responses(unauthorized):
    """Status -> answer of `POST /predict`."""
    return {
        "200": _answer(
            "One image: its classes, the likeliest first. Several: the results in "
            "their order, at least one of them with classes.",
            {"oneOf": [_reference("Answer"), _reference("Answers")]},
            _examples(),
        ),
        "400": _error(
            "top_k is not allowed, or the form is broken or has no image.", "bad_request"
        ),
        **unauthorized,
        **_forbidden(),
        "408": _error("The request came too slowly.", "too_slow"),
        "413": _error("The body is too large, or has too many images.", "too_large"),
        "422": _answer(
            "No image can be decoded. One image: why. Several: why, for each image.",
            {"oneOf": [_error_schema("undecodable"), _reference("Answers")]},
        ),
        **_internal(),
        "503": _error(
            "The queue of images is full, or the memory for them, or there is no model yet, or "
            "the server is shutting down.",
            "queue_full",
            "not_ready",
            headers=RETRY_AFTER,
        ),
        "504": _error("There was no answer within the time allowed.", "overdue"),
    }


def _get_paths(classes, security, unauthorized):
    """Path -> description of all routes that take GET."""
    internal = {**_forbidden(), **_internal()}
    not_ready = {
        "503": _error(
            "There is no model yet, or it has hung, or the server is shutting down.",
            "not_ready",
            headers=RETRY_AFTER,
        )
    }
    label_list = {"type": "array", "items": TEXT, "minItems": classes, "maxItems": classes}
    return {
        "/labels": _get(
            "labels",
            "The names of all classes, in the order of their ids.",
            _answer("The names.", _object(labels=label_list, model=TEXT)),
            security,
            {**unauthorized, **internal, **not_ready},
        ),
        "/metrics": _get(
            "metrics",
            "What the server counts and measures, for Prometheus.",
            _answer("Prometheus's text format.", TEXT, media_type="text/plain"),
            security,
            {**unauthorized, **internal},
        ),
        "/healthz": _get(
            "health",
            "Whether the process is alive.",
            _answer("It is.", _object(status={"const": "alive"})),
            {},
            internal,
        ),
        "/readyz": _get(
            "ready",
            "Whether requests are taken.",
            _answer("They are.", _object(status={"const": "ready"})),
            {},
            {**internal, **not_ready},
        ),
        "/openapi.json": _get(
            "description",
            "This description.",
            _answer("An OpenAPI document.", {"type": "object"}),
            {},
            {**internal, **not_ready},
        ),
        "/": _get(
            "page",
            "The page to try the model on.",
            _answer("A page for people.", TEXT, media_type="text/html"),
            {},
            internal,
        ),
    }


def _forbidden():
    return {"403": _error("The host is not the server's, or the page another's.", "forbidden")}


def _internal():
    return {"500": _error("The server failed to answer this request.", "internal")}


def _general_errors():
    """The answers to paths and methods that the document does not have."""
    return {
        "not_found": _error("The path does not exist.", "not_found"),
        "method_not_allowed": _error(
            "The path does not take this method.", "method_not_allowed", headers=ALLOW
        ),
    }


def _schemas(classes):
    """Name -> schema of the objects in answers."""
    predictions = {
        "type": "array",
        "minItems": 1,
        "maxItems": classes,
        "items": _reference("Prediction"),
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
        "Prediction": _object(
            label=TEXT,
            id={"type": "integer", "minimum": 0, "maximum": classes - 1},
            probability={"type": "number", "minimum": 0, "maximum": 1},
        ),
        "Answer": _object(**success, **about_request, optional=unknown),
        "Answers": _object(
            success={"type": "boolean", "description": "Whether every image has classes."},
            results={
                "type": "array",
                "minItems": 2,
                "items": {
                    "oneOf": [_object(**success, optional=unknown), _reference("Undecodable")]
                },
            },
            **about_request,
        ),
        "Undecodable": _object(success={"const": False}, error=_code("undecodable")),
        "Error": _object(
            success={"const": False}, request_id=REQUEST_ID, error=_object(code=TEXT, message=TEXT)
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


def _get(operation_id, summary, answer, security, errors):
    return {
        "get": {
            "operationId": operation_id,
            "summary": summary,
            **security,
            "responses": {"200": answer, **errors},
        }
    }


def _answer(description, schema, examples=None, media_type="application/json", headers=None):
    content = {"schema": schema, "examples": examples} if examples else {"schema": schema}
    all_headers = {**REQUEST_ID_HEADER, **(headers or {})}
    return {
        "description": description,
        "headers": {
            header_name: {"description": meaning, "required": True, "schema": header_schema}
            for header_name, (meaning, header_schema) in all_headers.items()
        },
        "content": {media_type: content},
    }


def _error(description, *codes, headers=None):
    return _answer(description, _error_schema(*codes), headers=headers)


def _error_schema(*codes):
    return {"allOf": [_reference("Error"), {"properties": {"error": _code(*codes)}}]}


def _code(*codes):
    return _object(code={"enum": list(codes)}, message=TEXT)


def _object(optional=None, **properties):
    """Schema of an object with exactly these properties, all required but `optional` ones."""
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": {**properties, **(optional or {})},
    }


def _reference(name):
    return {"$ref": f"#/components/schemas/{name}"}
