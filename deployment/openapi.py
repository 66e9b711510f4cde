"""The server's API as an OpenAPI 3.1 document, which client generators and testers read."""

DESCRIPTION = """\
Names the classes of images.

Every answer has the header X-Request-ID: the request's own, where that is 1 to 64 letters, digits,
`_`, `.` and `-` (ASCII), else a new one. Every error is an object `Error`. Besides the answers
below, a path that does not exist is answered with `not_found`, and a method that a path does not
take with `method_not_allowed`, both among the components."""

BINARY = {"type": "string", "format": "binary"}
TEXT = {"type": "string"}
REQUEST_ID = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
RETRY_AFTER = {
    "Retry-After": ("seconds to wait before trying again", {"type": "integer", "minimum": 1})
}
WWW_AUTHENTICATE = {"WWW-Authenticate": ("how to bring the token", {"const": "Bearer"})}
ALLOW = {"Allow": ("the methods that the path takes, with commas between", TEXT)}


def describe(*, classes, top_k, max_images, max_bytes, token):
    """The document, as a dict that `json` can write.

    Args:
        classes: classes of the model.
        top_k: classes that an answer names where the request does not say.
        max_images: images in a request, at most.
        max_bytes: largest body of a request.
        token: whether requests have to bring the server's token.
    """
    internal = {"500": _error("The server failed at this request.", "internal")}
    not_ready = {
        "503": _error(
            "There is no model yet, or the server is ending.", "not_ready", headers=RETRY_AFTER
        )
    }
    protected, unauthorized = {}, {}
    if token:
        protected = {"security": [{"token": []}]}
        unauthorized = {
            "401": _error(
                "The token is missing or wrong.", "unauthorized", headers=WWW_AUTHENTICATE
            )
        }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Image classifier", "version": "1", "description": DESCRIPTION},
        "paths": {
            "/predict": {
                "post": {
                    "operationId": "predict",
                    "summary": "Names the classes of one image or of several.",
                    **protected,
                    "parameters": [_top_k(classes, top_k)],
                    "requestBody": _images(max_images, max_bytes),
                    "responses": {
                        "200": _answer(
                            "One image: its classes, the likeliest first. Several: the results in "
                            "their order, at least one of them with classes.",
                            {"oneOf": [_reference("Answer"), _reference("Answers")]},
                            _examples(),
                        ),
                        "400": _error(
                            "top_k is not allowed, or the form is broken or has no image.",
                            "bad_request",
                        ),
                        **unauthorized,
                        "413": _error(
                            "The body is too large, or has too many images.", "too_large"
                        ),
                        "422": _answer(
                            "No image can be decoded. One image: why. Several: why, of each.",
                            {"oneOf": [_error_schema("undecodable"), _reference("Answers")]},
                        ),
                        **internal,
                        "503": _error(
                            "As many images wait as may, or there is no model yet, or the "
                            "server is ending.",
                            "queue_full",
                            "not_ready",
                            headers=RETRY_AFTER,
                        ),
                        "504": _error("There was no answer within the time allowed.", "overdue"),
                    },
                }
            },
            "/labels": _get(
                "labels",
                "The names of all classes, in the order of their ids.",
                _answer(
                    "The names.",
                    _object(
                        labels={
                            "type": "array",
                            "items": TEXT,
                            "minItems": classes,
                            "maxItems": classes,
                        },
                        model=TEXT,
                    ),
                ),
                protected,
                {**unauthorized, **internal, **not_ready},
            ),
            "/metrics": _get(
                "metrics",
                "What is counted and measured, for Prometheus.",
                _answer("Prometheus's text format.", TEXT, media="text/plain"),
                protected,
                {**unauthorized, **internal},
            ),
            "/healthz": _get(
                "health",
                "Whether the process lives.",
                _answer("It does.", _object(status={"const": "alive"})),
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
                _answer("A page for people.", TEXT, media="text/html"),
                {},
                internal,
            ),
        },
        "components": {
            "schemas": _schemas(classes),
            "responses": {
                "not_found": _error("The path does not exist.", "not_found"),
                "method_not_allowed": _error(
                    "The path does not take this method.", "method_not_allowed", headers=ALLOW
                ),
            },
        },
    }
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _schemas(classes):
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
            "description": "Whether the likeliest class is less probable than its threshold. "
            "Calibrated models only.",
        }
    }
    about = {
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
        "Answer": _object(**success, **about, optional=unknown),
        "Answers": _object(
            success={"type": "boolean", "description": "Whether every image has classes."},
            results={
                "type": "array",
                "minItems": 2,
                "items": {
                    "oneOf": [_object(**success, optional=unknown), _reference("Undecodable")]
                },
            },
            **about,
        ),
        "Undecodable": _object(success={"const": False}, error=_code("undecodable")),
        "Error": _object(
            success={"const": False}, request_id=REQUEST_ID, error=_object(code=TEXT, message=TEXT)
        ),
    }


def _top_k(classes, default):
    return {
        "name": "top_k",
        "in": "query",
        "description": "How many classes to name.",
        "schema": {"type": "integer", "minimum": 1, "maximum": classes, "default": default},
    }


def _images(max_images, max_bytes):
    one = {"schema": {**BINARY, "maxLength": max_bytes}}
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
        "parts named image. JPEG, PNG, BMP, WebP, GIF and TIFF are read, whatever "
        f"type is declared. The body may have {max_bytes} bytes.",
        "content": {
            "multipart/form-data": {"schema": form},
            "application/octet-stream": one,
            "image/*": one,
        },
    }


def _examples():
    predictions = [{"label": "cat", "id": 0, "probability": 0.93}]
    about = {"model": "animals", "ms": 6.2, "request_id": "5f0c9a1be8d24b70"}
    broken = {"code": "undecodable", "message": "the file is empty"}
    return {
        "one": {"value": {"success": True, "predictions": predictions, **about}},
        "several": {
            "value": {
                "success": False,
                "results": [
                    {"success": True, "predictions": predictions},
                    {"success": False, "error": broken},
                ],
                **about,
            }
        },
    }


def _get(name, summary, answer, protected, errors):
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            **protected,
            "responses": {"200": answer, **errors},
        }
    }


def _answer(description, schema, examples=None, media="application/json", headers=None):
    headers = {
        "X-Request-ID": ("the name of the request, in the log too", REQUEST_ID),
        **(headers or {}),
    }
    content = {"schema": schema, "examples": examples} if examples else {"schema": schema}
    return {
        "description": description,
        "headers": {
            name: {"description": meaning, "required": True, "schema": of_header}
            for name, (meaning, of_header) in headers.items()
        },
        "content": {media: content},
    }


def _error(description, *codes, headers=None):
    return _answer(description, _error_schema(*codes), headers=headers)


def _error_schema(*codes):
    return {"allOf": [_reference("Error"), {"properties": {"error": _code(*codes)}}]}


def _code(*codes):
    return _object(code={"enum": list(codes)}, message=TEXT)


def _object(optional=None, **properties):
    """Schema of an object with exactly these properties, all but `optional` ones needed."""
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": {**properties, **(optional or {})},
    }


def _reference(name):
    return {"$ref": f"#/components/schemas/{name}"}
