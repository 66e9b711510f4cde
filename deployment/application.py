"""The HTTP side of the server: its routes, what every request goes through, and error answers."""

import json
import re
import secrets
import time
import traceback

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from common.errors import ImageError
from deployment import binary_tensors, infer_request, inference_protocol, openapi, page
from deployment.access import REQUEST_ID
from deployment.http_channel import BODY_KEY, WAITING_KEY
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
    "/v2": ("GET", "protocol_server"),
    "/v2/health/live": ("GET", "protocol_live"),
    "/v2/health/ready": ("GET", "protocol_ready"),
    "/v2/models/<name>": ("GET", "protocol_model"),
    "/v2/models/<name>/ready": ("GET", "protocol_model_ready"),
    "/v2/models/<name>/infer": ("POST", "protocol_infer"),
}
PROTECTED = (  # routes that need the token, where there is one
    "/predict",
    "/labels",
    "/metrics",
    "/v2/models/<name>",
    "/v2/models/<name>/ready",
    "/v2/models/<name>/infer",
)
HUNG_LIMITS = 3  # time limits after which a model that still computes has hung
BINARY_TYPE = "application/octet-stream"
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
    application.wsgi_app = with_constant_headers(application.wsgi_app)
    routes = Routes(state, settings, metrics)
    for path in paths:
        method, view_name = ROUTES[path]
        application.add_url_rule(path, view_func=getattr(routes, view_name), methods=[method])
    return application


def with_constant_headers(application):
    """Adds `HEADERS` to every answer that does not have them; so late, this costs next to nothing.

    Args:
        application: WSGI application.

    Returns:
        WSGI application.
    """

    def with_headers(environment, start_response):
        def start(status, headers, error=None):
            names = {name for name, _ in headers}
            headers += [pair for pair in HEADERS.items() if pair[0] not in names]
            return start_response(status, headers, error)

        return application(environment, start)

    return with_headers


def route_of(path):
    """The route of a request that did not reach the application, for the metrics.

    Args:
        path: str, the request's path.

    Returns:
        str, a key of `ROUTES`, or "none".

    Example:
        >>> route_of("/v2/models/waste/infer"), route_of("/nowhere")
        ('/v2/models/<name>/infer', 'none')
    """
    route = re.sub("^/v2/models/[^/]+", "/v2/models/<name>", path)
    return route if route in ROUTES else "none"


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
        context, current = g._get_current_object(), request._get_current_object()
        context.started_at = time.perf_counter()
        context.header = header = _header_reader(current.environ)
        request_id = header("X-Request-ID")
        is_good_id = REQUEST_ID.fullmatch(request_id)
        context.request_id = request_id if is_good_id else secrets.token_hex(8)
        context.route = route = current.url_rule.rule if current.url_rule else "none"
        access = self._settings.access
        access.check(header)
        if access.token and route in PROTECTED and current.method != "OPTIONS":
            access.check_token(header)

    def finish(self, response):
        """Adds the headers of every answer, and counts the request.

        Args:
            response: `flask.Response` of the route or of `refuse`.
        """
        context = g._get_current_object()
        response.headers["X-Request-ID"] = context.request_id
        if cors_headers := self._settings.access.cors_headers(context.header):
            response.headers.update(cors_headers)
        self._metrics.requests.labels(context.route, response.status_code).inc()
        seconds = time.perf_counter() - context.started_at
        self._metrics.seconds.labels(context.route).observe(seconds)
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
        body = error_body(refusal.code, refusal.message, g.request_id, request.path)
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
        content_type = request.environ.get("CONTENT_TYPE", "")
        sources = read_images(content_type, _request_body(), self._settings.max_images)
        served_model, results = self._service.predict(
            sources, request.args.get("top_k"), deadline, g.request_id, _on_waiting()
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
        self._check_ready()
        return _json_response({"status": "ready"})

    def _check_ready(self):
        if self._state.closing:
            raise Refused("not_ready", "the server is shutting down", RETRY_SOON)
        batcher = self._service.ready_model().batcher
        started_at = batcher.computing_since
        if started_at is not None:
            seconds = time.monotonic() - started_at
            if seconds > HUNG_LIMITS * self._settings.time_limit:
                message = f"the model has not answered for {seconds:.0f} seconds"
                raise Refused("not_ready", message, RETRY_SOON)

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
        classifier = self._service.ready_model().classifier
        class_count = len(classifier.class_names)
        return _json_response(
            openapi.describe(
                classes=class_count,
                top_k=self._settings.top_k or min(TOP_K, class_count),
                max_images=self._settings.max_images,
                max_bytes=self._settings.max_bytes,
                token=self._settings.access.token is not None,
                size=classifier.preprocessing.size,
            )
        )

    def protocol_server(self):
        """The server's description in the Open Inference Protocol."""
        return _json_response(inference_protocol.server_metadata(openapi.VERSION))

    def protocol_live(self):
        """That the process is alive, in the protocol's words."""
        return _json_response({"live": True})

    def protocol_ready(self):
        """Whether requests are taken, in the protocol's words."""
        self._check_ready()
        return _json_response({"ready": True})

    def protocol_model(self, name):
        """The model's inputs and outputs."""
        served_model = self._service.ready_model()
        _check_name(name, served_model)
        return _json_response(inference_protocol.model_metadata(served_model))

    def protocol_model_ready(self, name):
        """Whether the model takes requests."""
        self._check_ready()
        _check_name(name, self._service.ready_model())
        return _json_response({"name": name, "ready": True})

    def protocol_infer(self, name):
        """The probabilities of the images in the request's tensor."""
        deadline = time.monotonic() + self._settings.time_limit
        given = None

        def read(served_model):
            nonlocal given
            _check_name(name, served_model)
            size, max_images = served_model.classifier.preprocessing.size, self._settings.max_images
            json_length = g.header(binary_tensors.HEADER)
            given = infer_request.read_request(
                _request_body(), size, max_images, deadline, json_length
            )
            return given.images

        served_model, outcomes = self._service.answers(read, deadline, g.request_id, _on_waiting())
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, ImageError):
                message = f"{infer_request.PHOTOS}: element {index}: {outcome.reason}"
                raise Refused("undecodable", message)
        body, json_length = inference_protocol.infer_response(served_model, given, outcomes)
        if not given.wants_binary:
            return Response(body, content_type=JSON)
        return Response(
            body, headers={binary_tensors.HEADER: json_length}, content_type=BINARY_TYPE
        )


def _check_name(name, served_model):
    if name != served_model.name:
        raise Refused(
            "not_found", f"no model is named {name[:60]!r}; this server's is {served_model.name!r}"
        )


def _on_waiting():
    """The function to call before a wait: another request may begin meanwhile."""
    return request.environ.get(WAITING_KEY, bool)


def _request_body():
    """The bytes of the request's body, a memoryview."""
    body = request.environ.get(BODY_KEY)
    if body is None:  # another WSGI server than this project's, or no body
        body = memoryview(request.get_data())
    return body


def _json_response(answer, status=200):
    # A probability of NaN is a failure of the model, and not JSON.
    body = json.dumps(answer, allow_nan=False).encode()
    return Response(body, status, content_type=JSON)


def _header_reader(environment):
    """Function from the name of a header to its str, "" where the request has none.

    Not `request.headers`, which takes four times as long, five to ten times per request.
    """
    return lambda name: environment.get("HTTP_" + name.upper().replace("-", "_"), "")
