"""The server's answers: a Flask application around a batcher."""

import hmac
import json
import re
import secrets
import time
import traceback
from typing import NamedTuple

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_options_header

from common.console import say
from common.errors import ImageError
from deployment import openapi, page
from deployment.batching import Batcher, Closed, Overdue, QueueFull, wait
from deployment.http_errors import HEADERS, JSON, STATUS, Refused, error_body, too_large
from prediction.classifier import TOP_K, Classifier

PROTECTED = ("/predict", "/labels", "/metrics")
REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
FIELD = "image"


class Served(NamedTuple):
    """A model that answers.

    Attributes:
        name: what answers call it.
        classifier: its labels, preprocessing and calibration.
        batcher: decodes for it and calls it.
    """

    name: str
    classifier: Classifier
    batcher: Batcher


class State:
    """What changes while requests run.

    Attributes:
        served: the `Served` that takes new requests, None before there is one.
        closing: whether the server is about to end.
        keeper: a `uncertain_images.Keeper`, or None.
    """

    served = None
    closing = False
    keeper = None


class Settings(NamedTuple):
    """What a request may ask for.

    Attributes:
        top_k: classes that an answer names unless the request says; None is `TOP_K` or all.
        max_images: images in one request, at most.
        max_bytes: largest body of a request.
        time_limit: seconds until a request is given up.
        token: bytes that protected routes ask for, or None.
    """

    top_k: int | None
    max_images: int
    max_bytes: int
    time_limit: float
    token: bytes | None = None


def create_application(state, settings, metrics):
    """The WSGI application.

    Args:
        state: a `State`.
        settings: a `Settings`.
        metrics: as `metrics.create` gives them.
    """
    application = Flask("deployment", static_folder=None)
    application.config["MAX_CONTENT_LENGTH"] = settings.max_bytes

    @application.before_request
    def begin():
        g.began = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        g.route = request.url_rule.rule if request.url_rule else "none"
        if settings.token and g.route in PROTECTED:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            token = token.strip().encode("latin-1", "replace")
            if not (hmac.compare_digest(token, settings.token) and scheme.lower() == "bearer"):
                raise Refused(
                    "unauthorized",
                    "the header 'Authorization: Bearer TOKEN' with the server's token is needed",
                    {"WWW-Authenticate": "Bearer"},
                )

    @application.after_request
    def end(response):
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Request-ID"] = g.request_id
        metrics.requests.labels(g.route, response.status_code).inc()
        metrics.seconds.labels(g.route).observe(time.perf_counter() - g.began)
        return response

    @application.errorhandler(Exception)
    def refuse(error):
        if isinstance(error, HTTPException) and error.code < 500:
            codes = {status: code for code, status in STATUS.items()}
            # Werkzeug's own words are sentences for people; Allow and the like are in its headers.
            headers = {
                name: value
                for name, value in error.get_headers()
                if name not in ("Content-Type", "Content-Length")
            }
            if error.code == 413:
                error = Refused("too_large", too_large(settings.max_bytes), headers)
            else:
                error = Refused(codes.get(error.code, "bad_request"), error.description, headers)
        elif not isinstance(error, Refused):
            log(f"request {g.request_id} failed:\n{''.join(traceback.format_exception(error))}")
            error = Refused("internal", "the server failed at this request; its log says why")
        body = error_body(error.code, error.message, g.request_id)
        return Response(body, STATUS[error.code], error.headers, content_type=JSON)

    @application.post("/predict")
    def predict():
        until = time.monotonic() + settings.time_limit
        sources, several = _images(settings.max_images)
        served, count, futures = take(sources)
        results, rows = [], []
        for source, future in zip(sources, futures):
            try:
                row = wait(future, until)
            except ImageError as error:
                metrics.images.labels("undecodable").inc()
                results.append(
                    {"success": False, "error": {"code": "undecodable", "message": error.reason}}
                )
                continue
            except Overdue:
                for each in futures:
                    each.cancel()
                raise Refused(
                    "overdue", f"no answer within the {settings.time_limit:g} seconds allowed"
                ) from None
            result = {"success": True, "predictions": served.classifier.top(row, count)}
            if served.classifier.calibration:
                result["unknown"] = served.classifier.unknown(row)
            results.append(result)
            rows.append((source, row))
        labels = served.classifier.class_names
        for number, (source, row) in enumerate(rows):
            metrics.images.labels("answered").inc()
            metrics.predictions.labels(labels[row.argmax()]).inc()
            if state.keeper:
                state.keeper.offer(source, row, labels, f"{g.request_id}-{number}")
        if several:
            answer = {"success": len(rows) == len(results), "results": results}
        else:
            [answer] = results
            if not rows:
                raise Refused("undecodable", answer["error"]["message"])
        answer["model"] = served.name
        answer["ms"] = round((time.perf_counter() - g.began) * 1000, 3)
        answer["request_id"] = g.request_id
        return _json(answer, 200 if rows else STATUS["undecodable"])

    def take(sources):
        """The model that has taken the images in, how many classes to name, and futures."""
        while True:
            served = ready()
            count = _top_k(
                request.args.get("top_k"), len(served.classifier.class_names), settings.top_k
            )
            try:
                return served, count, served.batcher.submit(sources)
            except Closed:  # another has taken its place since
                continue
            except QueueFull:
                raise Refused(
                    "queue_full",
                    "as many images wait as may; come again in a second",
                    {"Retry-After": "1"},
                ) from None

    def ready():
        served = state.served
        if served is None:
            raise Refused(
                "not_ready", "no model is loaded yet, or the server is ending", {"Retry-After": "1"}
            )
        return served

    @application.get("/labels")
    def labels():
        served = ready()
        return _json({"labels": served.classifier.class_names, "model": served.name})

    @application.get("/healthz")
    def healthz():
        return _json({"status": "alive"})

    @application.get("/readyz")
    def readyz():
        if state.closing:
            raise Refused("not_ready", "the server is ending", {"Retry-After": "1"})
        ready()
        return _json({"status": "ready"})

    @application.get("/metrics")
    def metrics_text():
        if state.served:
            metrics.queue.set(state.served.batcher.waiting)
        return Response(metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @application.get("/")
    def index():
        return Response(page.INDEX, headers=page.HEADERS)

    @application.get("/openapi.json")
    def description():
        classes = len(ready().classifier.class_names)
        return _json(
            openapi.describe(
                classes=classes,
                top_k=settings.top_k or min(TOP_K, classes),
                max_images=settings.max_images,
                max_bytes=settings.max_bytes,
                token=settings.token is not None,
            )
        )

    return application


def _images(max_images):
    """(list of the request's images as bytes, whether they came as several)."""
    kind, parameters = parse_options_header(request.headers.get("Content-Type", ""))
    body = request.get_data(cache=False)
    if kind.lower() != "multipart/form-data":
        return [body], False
    boundary = parameters.get("boundary", "").encode("latin-1", "replace")
    images = split_multipart(body, boundary, max_images)
    return images, len(images) > 1


def split_multipart(body, boundary, max_images):
    """The images of a multipart/form-data body, a list of bytes, at least one.

    Werkzeug's parser takes thirty times as long and writes large parts to disk.

    Args:
        body, boundary: bytes.
        max_images: parts of any name, at most.

    Raises:
        Refused: it is broken, holds no field `image`, or has too many parts.
    """
    # One more than allowed is enough to know; a body of nothing else could have millions.
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, max_images + 2)
    if len(pieces) > max_images + 2:
        raise Refused("too_large", f"has more than the {max_images} images allowed in a request")
    if not boundary or len(pieces) < 2 or pieces[-1][:2] != b"--":
        raise Refused("bad_request", "the multipart/form-data body is not complete")
    images = []
    for piece in pieces[1:-1]:
        head, blank, content = piece.partition(b"\r\n\r\n")
        if not blank:
            raise Refused("bad_request", "a part of the multipart/form-data body has no content")
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if (
                name.lower() == "content-disposition"
                and parse_options_header(value)[1].get("name") == FIELD
            ):
                images.append(content)
                break
    if not images:
        raise Refused("bad_request", f"the form has no field named {FIELD}")
    return images


def _top_k(text, classes, default):
    """How many classes a request asks for."""
    if text is None:
        return default or min(TOP_K, classes)
    if not (re.fullmatch("[0-9]{1,5}", text) and 1 <= int(text) <= classes):
        raise Refused(
            "bad_request",
            f"top_k: {text[:20]!r} is not allowed: it takes a whole number from 1 to {classes}",
        )
    return int(text)


def _json(answer, status=200):
    # A probability that is no number is a failure, and not JSON.
    body = json.dumps(answer, allow_nan=False).encode()
    return Response(body, status, content_type=JSON)


def log(line):
    """A line on standard error, with the time."""
    say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")
