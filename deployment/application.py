"""The HTTP side of the server: its routes, what every request goes through, and error answers."""

import json
import secrets
import time
import traceback

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from deployment import openapi, page
from deployment.access import REQUEST_ID
from deployment.http_channel import BODY_KEY
from deployment.http_errors import (
    CODE_OF_STATUS,
    HEADERS,
    INTERNAL,
    JSON,
    RETRY_SOON,
    STATUS,
    Refused,
    error_body,
    too_large,
)
from deployment.log import log
from deployment.multipart import read_images
from deployment.prediction_service import PredictionService
from pages.languages import choose_language
from prediction.classifier import TOP_K

ROUTES = {  # path -> (method, name of the method of `Routes`)
    "/predict": ("POST", "predict"),
    "/labels": ("GET", "labels"),
    "/healthz": ("GET", "health"),
    "/readyz": ("GET", "readiness"),
    "/metrics": ("GET", "metrics"),
    "/": ("GET", "index"),
    "/openapi.json": ("GET", "description"),
}
PROTECTED = ("/predict", "/labels", "/metrics")  # routes that need the token, where there is one
HUNG_LIMITS = 3  # time limits after which a model that still computes has hung
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_application(state, settings, metrics, paths=ROUTES):
    """Makes the WSGI application.

    Args:
        state: `prediction_service.State`.
        settings: `prediction_service.Settings`.
        metrics: what `metrics.create` returns.
        paths: collection of str, the routes that it has.

    Returns:
        A `flask.Flask`.

    Example:
        >>> state = State()
        >>> state.served_model = ServedModel("waste", classifier, batcher)
        >>> application = create_application(state, Settings(None, 4, 10**7, 10), metrics.create())
        >>> application.test_client().post("/predict", data=image_bytes).json
        {'success': True, 'predictions': [{'label': 'glass', ...
    """
    application = Flask("deployment", static_folder=None)
    application.config["MAX_CONTENT_LENGTH"] = settings.max_bytes
    hooks = RequestHooks(settings, metrics)
    application.before_request(hooks.begin)
    application.after_request(hooks.finish)
    application.register_error_handler(Exception, hooks.refuse)
    routes = Routes(state, settings, metrics)
    for path in paths:
        method, view_name = ROUTES[path]
        application.add_url_rule(path, view_func=getattr(routes, view_name), methods=[method])
    return application


class RequestHooks:
    """What every request goes through, whatever its route.

    Args:
        settings: `prediction_service.Settings`.
        metrics: what `metrics.create` returns; requests are counted and timed in it.
    """

    def __init__(self, settings, metrics):
        self._settings, self._metrics = settings, metrics

    def begin(self):
        """Gives the request an id and a start time; refuses other pages', and without the token."""
        g.started_at = time.perf_counter()
        request_id = request.headers.get("X-Request-ID", "")
        g.request_id = request_id if REQUEST_ID.fullmatch(request_id) else secrets.token_hex(8)
        g.route = request.url_rule.rule if request.url_rule else "none"
        access = self._settings.access
        access.check(_header)
        if access.token and g.route in PROTECTED and request.method != "OPTIONS":
            access.check_token(_header)

    def finish(self, response):
        """Adds the headers of every answer, and counts the request.

        Args:
            response: `flask.Response` of the route or of `refuse`.
        """
        for header_name, value in HEADERS.items():
            response.headers.setdefault(header_name, value)
        response.headers["X-Request-ID"] = g.request_id
        response.headers.update(self._settings.access.cors_headers(_header))
        self._metrics.requests.labels(g.route, response.status_code).inc()
        self._metrics.seconds.labels(g.route).observe(time.perf_counter() - g.started_at)
        return response

    def refuse(self, error):
        """The answer to a request that raised an error; unexpected errors go to the log.

        Args:
            error: Exception that the route or `begin` raised, or Flask for an unknown path.
        """
        refusal = error
        if isinstance(error, HTTPException) and error.code < 500:
            refusal = self._http_refusal(error)
        elif not isinstance(error, Refused):
            log(f"request {g.request_id} failed:\n{''.join(traceback.format_exception(error))}")
            refusal = Refused("internal", INTERNAL)
        body = error_body(refusal.code, refusal.message, g.request_id)
        return Response(body, STATUS[refusal.code], refusal.headers, content_type=JSON)

    def _http_refusal(self, error):
        """One of Werkzeug's errors as a `Refused`, with its headers such as Allow."""
        headers = {
            header_name: value
            for header_name, value in error.get_headers()
            if header_name not in ("Content-Type", "Content-Length")
        }
        if error.code == 413:
            return Refused("too_large", too_large(self._settings.max_bytes), headers)
        error_code = CODE_OF_STATUS.get(error.code, "bad_request")
        return Refused(error_code, error.description, headers)


class Routes:
    """One method per route; each returns its `flask.Response`.

    Args:
        state: `prediction_service.State`.
        settings: `prediction_service.Settings`.
        metrics: what `metrics.create` returns.
    """

    def __init__(self, state, settings, metrics):
        self._state, self._settings, self._metrics = state, settings, metrics
        self._service = PredictionService(state, settings, metrics)

    def predict(self):
        """The classes of the request's image, or of each of its images."""
        deadline = time.monotonic() + self._settings.time_limit
        content_type = request.headers.get("Content-Type", "")
        body = request.environ.get(BODY_KEY)
        if body is None:  # another WSGI server than this project's, or no body
            body = memoryview(request.get_data(cache=False))
        sources = read_images(content_type, body, self._settings.max_images)
        served_model, results = self._service.predict(
            sources, request.args.get("top_k"), deadline, g.request_id
        )
        successes = sum(result["success"] for result in results)
        if len(results) > 1:
            answer = {"success": successes == len(results), "results": results}
        elif successes:
            [answer] = results
        else:
            raise Refused("undecodable", results[0]["error"]["message"])
        answer["model"] = served_model.name
        answer["ms"] = round((time.perf_counter() - g.started_at) * 1000, 3)
        answer["request_id"] = g.request_id
        return _json_response(answer, 200 if successes else STATUS["undecodable"])

    def labels(self):
        """The class names, in the order of their ids."""
        served_model = self._service.ready_model()
        return _json_response(
            {"labels": served_model.classifier.class_names, "model": served_model.name}
        )

    def health(self):
        """That the process is alive."""
        return _json_response({"status": "alive"})

    def readiness(self):
        """Whether requests are taken."""
        if self._state.closing:
            raise Refused("not_ready", "the server is shutting down", RETRY_SOON)
        batcher = self._service.ready_model().batcher
        started_at = batcher.computing_since
        if started_at is not None:
            seconds = time.monotonic() - started_at
            if seconds > HUNG_LIMITS * self._settings.time_limit:
                message = f"the model has not answered for {seconds:.0f} seconds"
                raise Refused("not_ready", message, RETRY_SOON)
        return _json_response({"status": "ready"})

    def metrics(self):
        """The metrics in Prometheus's text format."""
        served_model = self._state.served_model
        if served_model:
            self._metrics.queue.set(served_model.batcher.waiting)
        return Response(self._metrics.text(), content_type=METRICS_TYPE)

    def index(self):
        """The page to try the model on, in the language of `--lang` or of the browser."""
        accepted = request.headers.get("Accept-Language", "")
        html_bytes, headers = page.PAGES[choose_language(self._settings.language, accepted)]
        return Response(html_bytes, headers=headers)

    def description(self):
        """The OpenAPI document of this API."""
        class_count = len(self._service.ready_model().classifier.class_names)
        return _json_response(
            openapi.describe(
                classes=class_count,
                top_k=self._settings.top_k or min(TOP_K, class_count),
                max_images=self._settings.max_images,
                max_bytes=self._settings.max_bytes,
                token=self._settings.access.token is not None,
            )
        )


def _json_response(answer, status=200):
    # A probability of NaN is a failure of the model, and not JSON.
    body = json.dumps(answer, allow_nan=False).encode()
    return Response(body, status, content_type=JSON)


def _header(name):
    return request.headers.get(name, "")
