"""Loads the model that the server answers with, and loads it again when it is told to."""

import os
import queue
import threading

import numpy as np

from common.cpu import usable_cores
from data.decoding import load
from data.jpeg import is_jpeg
from deployment.batching import Batcher, Threads
from deployment.drift_window import DriftWindow
from deployment.log import log
from deployment.prediction_service import ServedModel
from deployment.uncertain_images import Keeper
from prediction.classifier import TOP_K, Classifier, check_top_k
from prediction.exported_model import read_description
from prediction.runtimes import batches_at_once
from runs import run_folder


class ModelLoader:
    """Loads models in a thread of its own, so that requests are answered meanwhile.

    Args:
        options: options of `--mode serve`.
        model_path: str, a run or an exported model.
        state: `prediction_service.State`, which gets the loaded model.
        metrics: what `metrics.create` returns.
        budget: `data.decoding_budget.DecodingBudget` of the process.
        on_first_model: function called with the first `ServedModel` when it takes requests.

    Attributes:
        failure: the exception that prevented the first model from loading, or None.
    """

    def __init__(self, options, model_path, state, metrics, budget, on_first_model):
        self._options, self._model_path = options, model_path
        self._state, self._metrics = state, metrics
        self._budget, self._on_first_model = budget, on_first_model
        self._orders = queue.SimpleQueue()  # True loads the model again, None ends the thread
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure = None

    def start(self):
        """Begins to load the first model; returns at once."""
        self._thread.start()

    def reload(self):
        """Orders the model to be loaded again; returns at once. A signal handler may call it."""
        self._orders.put(True)

    def stop(self, seconds):
        """Ends the thread, and waits for it.

        Args:
            seconds: float, maximum time to wait.

        Returns:
            bool, whether it has ended.
        """
        self._orders.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self):
        try:
            self._load_first()
        except Exception as error:
            self.failure = error
            self._state.closing = True
            return
        try:
            warm(self._state.served_model)
        except Exception as error:
            log(f"larger batches are not used: {_one_line(error)}")
        while self._orders.get():
            try:
                self.replace()
                log(f"model loaded again: {self._model_path}")
            except Exception as error:
                log(f"the old model keeps serving: {_one_line(error)}")

    def _load_first(self):
        options = self._options
        served_model = load_model(options, self._model_path, self._metrics, self._budget)
        if options.keep_uncertain:
            self._state.keeper = Keeper(
                options.keep_uncertain,
                served_model.classifier.class_names,
                options.keep_below,
                options.keep_megabytes * 1e6,
            )
        self._count(served_model, 1)
        self._state.served_model = served_model
        self._on_first_model(served_model)

    def replace(self):
        """Loads the model again, and lets it take the old one's place once it is warm.

        Raises:
            InputError: the model cannot be loaded; the old one stays.
        """
        served_model = load_model(self._options, self._model_path, self._metrics, self._budget)
        try:
            warm(served_model)
        except BaseException:
            served_model.batcher.close()
            raise
        old_model, self._state.served_model = self._state.served_model, served_model
        old_model.batcher.close()
        self._count(old_model, 0)
        self._count(served_model, 1)

    def _count(self, served_model, value):
        runtime, precision = served_model.classifier.runtime or ("keras", "")
        self._metrics.model.labels(served_model.name, runtime, precision).set(value)


def load_model(options, model_path, metrics, budget=None):
    """Loads an exported model or a run, and lets it answer one blank image.

    Args:
        options: options of `--mode serve`.
        model_path: str, a run or an exported model.
        metrics: what `metrics.create` returns; the model's batches are counted in it.
        budget: `data.decoding_budget.DecodingBudget` of the process; None is without a limit.

    Returns:
        A `ServedModel` that answers images one at a time until it is warm.

    Raises:
        InputError: files are missing, changed or do not fit together, or `--top_k` is more than
            the model's classes.
    """
    model_name = os.path.basename(model_path)
    if run_folder.is_exported(model_path):
        model_name = str(read_description(model_path).get("run") or model_name)
    classifier = Classifier.load(model_path, runtime=options.runtime, allow_low_precision=True)
    check_top_k(options.top_k, len(classifier.class_names), TOP_K)
    classifier.probabilities(_blank_image(classifier)[None])
    preprocessing = classifier.preprocessing
    max_pixels = min(preprocessing.max_pixels, int(options.max_megapixels * 1e6))
    preprocessing = preprocessing._replace(max_pixels=max_pixels)

    def observe(batch_size, waiting):
        metrics.batch.observe(batch_size)
        metrics.queue.set(waiting)

    def decode(source):
        # Formats other than JPEG are read by code that wants bytes.
        return load(source if is_jpeg(source) else bytes(source), preprocessing)

    batcher = Batcher(
        decode,
        classifier.answers,
        options.max_batch,
        options.max_wait_ms / 1000,
        options.max_queue,
        Threads(usable_cores(), batches_at_once(classifier.runtime)),
        observe,
        budget,
    )
    fitted = classifier.calibration
    has_quantiles = fitted is not None and fitted.probability_quantiles is not None
    return ServedModel(
        model_name, classifier, batcher, DriftWindow(fitted) if has_quantiles else None
    )


def warm(served_model):
    """Calls a model with every batch size once, after which it takes batches.

    Args:
        served_model: `ServedModel`.
    """
    served_model.batcher.warm(_blank_image(served_model.classifier))


def _blank_image(classifier):
    size = classifier.preprocessing.size
    return np.zeros((size, size, 3), np.uint8)


def _one_line(error):
    return " ".join(str(error).split())
