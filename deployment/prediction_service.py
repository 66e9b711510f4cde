"""From the images of a request to the classes that its answer names."""

import re
from typing import NamedTuple

import numpy as np

from common.errors import ImageError
from deployment.access import Access
from deployment.batching import Batcher, Closed, Overdue, QueueFull, wait
from deployment.drift_window import DriftWindow
from deployment.http_errors import RETRY_SOON, Refused
from prediction.classifier import TOP_K, Classifier


class ServedModel(NamedTuple):
    """A model that answers requests.

    Attributes:
        name: str, what answers call it.
        classifier: `Classifier` with its class names, preprocessing and calibration.
        batcher: `Batcher` that decodes images for it and calls it.
        drift_window: `DriftWindow` of its answers, or None where it is not calibrated.
    """

    name: str
    classifier: Classifier
    batcher: Batcher
    drift_window: DriftWindow | None = None


class State:
    """What changes while the server runs.

    Attributes:
        served_model: the `ServedModel` that takes new requests; None before the first is loaded.
        closing: bool, whether the server is shutting down.
        keeper: `uncertain_images.Keeper`, or None where no images are kept.
    """

    served_model = None
    closing = False
    keeper = None


class Settings(NamedTuple):
    """What a request may ask for.

    Attributes:
        top_k: int, classes that an answer names unless the request says how many; None is
            `TOP_K`, or all where the model has fewer.
        max_images: int, maximum number of images in one request.
        max_bytes: int, maximum size of a request's body.
        time_limit: float, seconds after which a request is given up.
        access: `access.Access`, what requests have to bring.
        language: str, of the page; None is the language that the browser prefers.
        body_bytes: int, how much memory the bodies of all requests may take together.
    """

    top_k: int | None
    max_images: int
    max_bytes: int
    time_limit: float
    access: Access = Access()
    language: str | None = None
    body_bytes: int = 150_000_000


class PredictionService:
    """Answers the images of each request with the model that is served at that moment.

    Args:
        state: `State`.
        settings: `Settings`.
        metrics: what `metrics.create` returns; images and predictions are counted in it.
    """

    def __init__(self, state, settings, metrics):
        self._state, self._settings, self._metrics = state, settings, metrics

    def ready_model(self):
        """The `ServedModel` that takes new requests.

        Raises:
            Refused: none is loaded yet, or the server is shutting down.
        """
        served_model = self._state.served_model
        if served_model is None:
            raise Refused(
                "not_ready", "no model is loaded yet, or the server is shutting down", RETRY_SOON
            )
        return served_model

    def predict(self, sources, requested_top_k, deadline, request_id, on_waiting=bool):
        """Names the classes of images.

        Args:
            sources: list of memoryviews of bytes, one image file each.
            requested_top_k: str, how many classes the request asks for; None where it does not.
            deadline: float, time to give up, on the clock of `time.monotonic`.
            request_id: str, part of the names of images that are kept.
            on_waiting: function called when nothing is left but to wait for the model.

        Returns:
            (the `ServedModel` that answered, list of dicts in the order of `sources`): with
            "success", and "predictions" or "error" as the JSON answer has them.

        Raises:
            Refused: the queue is full, the deadline has passed, `requested_top_k` is not
                allowed, or there is no model.
        """

        def find_top_k(served_model):
            class_count = len(served_model.classifier.class_names)
            return _parse_top_k(requested_top_k, class_count, self._settings.top_k)

        def read(served_model):
            find_top_k(served_model)  # refused before anything is computed
            return sources

        served_model, outcomes = self.answers(read, deadline, request_id, on_waiting)
        top_k = find_top_k(served_model)
        return served_model, [
            _undecodable(outcome.reason)
            if isinstance(outcome, ImageError)
            else {"success": True, **served_model.classifier.describe(outcome, top_k)}
            for outcome in outcomes
        ]

    def answers(self, read, deadline, request_id, on_waiting=bool):
        """Has the images of a request answered.

        Args:
            read: function from the `ServedModel` that is to take them to the list of images, each
                the bytes of a file or the model's own uint8 (S, S, 3). It is called again where
                another model has taken that one's place meanwhile.
            deadline: float, time to give up, on the clock of `time.monotonic`.
            request_id: str, part of the names of images that are kept.
            on_waiting: as of `predict`.

        Returns:
            (the `ServedModel` that answered, list of `classifier.Answer` or, for images that
            cannot be decoded, ImageError).

        Raises:
            Refused: the queue is full, the deadline has passed, or there is no model; or by
                `read`.
        """
        served_model, sources, futures = self._submit(read)
        on_waiting()
        outcomes, answered = [], []
        for source, future in zip(sources, futures):
            try:
                answer = wait(future, deadline)
            except ImageError as error:
                self._metrics.images.labels("undecodable").inc()
                outcomes.append(error)
                error.__traceback__ = None  # a circle with this frame, which has the bodies
            except Overdue:
                self._give_up(futures)
            else:
                outcomes.append(answer)
                answered.append((source, answer))
        self._record(answered, served_model, request_id)
        return served_model, outcomes

    def _submit(self, read):
        """(the model that took the images, the images, list of futures)."""
        while True:
            served_model = self.ready_model()
            try:
                sources = read(served_model)
                return served_model, sources, served_model.batcher.submit(sources)
            except Closed:  # another model has taken its place since
                continue
            except Overdue:
                self._give_up([])
            except QueueFull:
                raise Refused(
                    "queue_full", "the queue of images is full; try again in a second", RETRY_SOON
                ) from None

    def _give_up(self, futures):
        for future in futures:
            future.cancel()
        raise Refused(
            "overdue", f"no answer within the {self._settings.time_limit:g} seconds allowed"
        ) from None

    def _record(self, answered, served_model, request_id):
        """Counts the images that were answered, and keeps those that the model was unsure of."""
        keeper, class_names = self._state.keeper, served_model.classifier.class_names
        for index, (source, answer) in enumerate(answered):
            probabilities = answer.probabilities
            self._metrics.images.labels("answered").inc()
            self._metrics.predictions.labels(class_names[probabilities.argmax()]).inc()
            if served_model.drift_window:
                for name, distance in served_model.drift_window.add(answer).items():
                    self._metrics.drift.labels(name).set(distance)
            if keeper and not isinstance(source, np.ndarray):  # pixels are no image file
                keeper.offer(source, probabilities, class_names, f"{request_id}-{index}")


def _undecodable(reason):
    return {"success": False, "error": {"code": "undecodable", "message": reason}}


def _parse_top_k(text, class_count, default):
    """How many classes to name: those that the request asks for, else the server's default."""
    if text is None:
        return default or min(TOP_K, class_count)
    if not (re.fullmatch("[0-9]{1,5}", text) and 1 <= int(text) <= class_count):
        raise Refused(
            "bad_request",
            f"top_k: {text[:20]!r} is not allowed; allowed is a whole number from 1 to "
            f"{class_count}",
        )
    return int(text)
