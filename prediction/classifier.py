"""A run or an exported model as an object: images in, class names and probabilities out."""

import contextlib
import os
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError
from common.files import checksum
from compute.backend import import_keras
from compute.devices import predict_over, tensorflow_strategy
from data.decoding import load
from prediction import calibration
from prediction.centers import best_model_with_similarity
from prediction.exported_model import check_files, open_model, parse_description, read_description
from prediction.loading import run_calibration
from prediction.runtimes import Answers
from prediction.streaming import stream
from prediction.tta import views
from runs import run_folder

TOP_K = 3


class Answer(NamedTuple):
    """What a model says of one image.

    Attributes:
        probabilities: float32 (C,), averaged over views and calibrated.
        similarity: float, the largest cosine to a center of what was learned, -1 to 1; None for a
            model without centers.
    """

    probabilities: np.ndarray
    similarity: float | None = None


class Classifier:
    """A model with everything it needs to turn image files into class names.

    Attributes:
        class_names: tuple of str, in the order of their ids.
        preprocessing: `geometry.Preprocessing` of its images.
        tta: str, the views of an image that are averaged: "none", "flip" or "five_crop".
        calibration: `calibration.Calibration` of its answers, or None.
        runtime: (key of `runtimes.RUNTIMES`, precision), or None where Keras computes.

    Args:
        class_names: tuple of str, in the order of their ids.
        preprocessing: `geometry.Preprocessing` of its images.
        predict: function from uint8 (N, S, S, 3) to `runtimes.Answers`.

    Example:
        >>> from inference import Classifier
        >>> classifier = Classifier.load("save_h5_model/demo")
        >>> classifier.classify(["seven.png"], top_k=2)
        [[{'label': '7', 'id': 7, 'probability': 0.98},
          {'label': '1', 'id': 1, 'probability': 0.01}]]
    """

    tta = "none"
    calibration = None
    runtime = None

    def __init__(self, class_names, preprocessing, predict):
        self.class_names = class_names
        self.preprocessing = preprocessing
        self._predict = predict

    @classmethod
    def load(cls, path, devices=None, calibrated=True, runtime="auto", allow_low_precision=False):
        """Opens an exported model or a run.

        From a run, its exported model is used if it was made from the run's best weights, else
        the best weights themselves.

        Args:
            path: str, the folder of a run or of an exported model.
            devices: str, devices of this machine to divide the images among, as --devices names
                them; a run's best weights are then used in any case. None is one device.
            calibrated: bool, False leaves the probabilities as the network computes them.
            runtime: str, a key of `runtimes.RUNTIMES`, which computes an exported model in
                float32; "auto" is the fastest that is installed and passes the self-test.
            allow_low_precision: bool, let "auto" compute in int8 where that was exported, and in
                bfloat16 where the CPU has it and the answers were the same at export; leave it
                off to measure a model.

        Returns:
            A `Classifier`.

        Raises:
            InputError: files are missing, changed, or do not fit together.
        """
        fitted = known_calibration(path) if calibrated else None
        classifier = cls._load(path, devices, runtime, allow_low_precision)
        classifier.calibration = fitted
        return classifier

    @classmethod
    def _load(cls, path, devices, runtime, allow_low_precision):
        if run_folder.is_exported(path):
            if devices:
                raise InputError(
                    f"--devices, --multigpu: {path} is an exported model, which computes on one "
                    "device; name its run"
                )
            return cls._load_exported(path, runtime, allow_low_precision)
        run = run_folder.read(path)
        if devices:
            return cls._load_run(run, devices)
        exported = run.file(run_folder.MODEL)
        if run_folder.is_exported(exported):
            weights = read_description(exported).get("weights")
            if weights == checksum(run.file(run_folder.BEST)):
                return cls._load_exported(exported, runtime, allow_low_precision)
        if runtime != "auto":
            raise InputError(
                f"--runtime: {runtime}: {path} has no exported model of its best weights; --mode "
                "export makes one"
            )
        return cls._load_run(run)

    @classmethod
    def _load_exported(cls, folder, runtime, allow_low_precision):
        description = read_description(folder)
        class_names, preprocessing = parse_description(folder, description)
        check_files(folder, description)
        pair, predict = open_model(folder, description, runtime, allow_low_precision)
        classifier = cls(class_names, preprocessing, predict)
        classifier.runtime = pair
        return classifier

    @classmethod
    def _load_run(cls, run, devices=None):
        import_keras()
        strategy = tensorflow_strategy(devices)[1] if devices else None
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = best_model_with_similarity(run)
        compute = predict_over(model, strategy) if strategy else model.predict_on_batch

        def predict(images):
            outputs = compute(images)
            return Answers.of_outputs(outputs if isinstance(outputs, list) else [outputs])

        return cls(run.class_names, run.preprocessing, predict)

    def set_views(self, tta):
        """Averages the probabilities over several views of each image.

        Args:
            tta: str, "none", "flip" or "five_crop".
        """
        self.tta = tta
        if tta != "none" and self.calibration:
            say(
                f"note: the calibration was fitted without --tta {tta}; probabilities and "
                "thresholds are only approximate"
            )

    def probabilities(self, images):
        """Probabilities of decoded images, averaged over views and calibrated.

        Args:
            images: uint8 (N, S, S, 3), RGB, preprocessed by `decoding.load`.

        Returns:
            float32 (N, C).
        """
        return self._answers(images).probabilities

    def answers(self, images):
        """What the model says of decoded images.

        Args:
            images: uint8 (N, S, S, 3), RGB, preprocessed by `decoding.load`.

        Returns:
            list of N `Answer`.
        """
        probabilities, similarities = self._answers(images)
        if similarities is None:
            return [Answer(row) for row in probabilities]
        return [Answer(row, float(value)) for row, value in zip(probabilities, similarities)]

    def _answers(self, images):
        per_view = [self._predict(view) for view in views(images, self.tta)]
        means = per_view[0]
        if len(per_view) > 1:
            means = Answers(*(_mean(each) for each in zip(*per_view)))
        if self.calibration is None:
            return means
        scaled = calibration.scale(means.probabilities, self.calibration.temperature)
        return means._replace(probabilities=scaled)

    def unknown(self, answer):
        """Why an image is unknown.

        Args:
            answer: `Answer`.

        Returns:
            str, one of `calibration.REASONS`; "" where it is known, or the model not calibrated.
        """
        if self.calibration is None:
            return ""
        return self.calibration.reason(answer.probabilities, answer.similarity)

    def describe(self, answer, top_k):
        """An answer as JSON has it.

        Args:
            answer: `Answer`.
            top_k: int, predictions to name.

        Returns:
            dict of predictions, see `top`, and, where the model is calibrated, unknown, whether it
            is, and, where it is, reason.
        """
        result = {}
        if self.calibration:
            reason = self.unknown(answer)
            result = {"unknown": bool(reason), **({"reason": reason} if reason else {})}
        return {**result, "predictions": self.top(answer.probabilities, top_k)}

    def classify(self, images, top_k=TOP_K):
        """Predicts the classes of some images.

        Args:
            images: list of paths or of files' bytes.
            top_k: int, predictions per image, at most the number of classes.

        Returns:
            list with one list of predictions per image, the most probable first; each prediction
            is a dict of label, id and probability.

        Raises:
            ImageError: an image cannot be decoded.
        """
        decoded = np.stack([load(image, self.preprocessing) for image in images])
        return [self.top(row, top_k) for row in self.probabilities(decoded)]

    def top(self, row, count):
        """The most probable classes of one image.

        Args:
            row: float32 (C,), its probabilities.
            count: int, number of classes.

        Returns:
            list of dict of label, id and probability.
        """
        class_ids = np.argsort(-row, kind="stable")[:count]
        return [
            {"label": self.class_names[i], "id": int(i), "probability": float(row[i])}
            for i in class_ids
        ]

    def stream(self, paths, batch_size=32, workers=1):
        """Predicts many images; decoding runs ahead of the model.

        Args:
            paths: list of image files.
            batch_size: int, images the model takes at once.
            workers: int, threads that decode.

        Yields:
            (path, answer) in the order of `paths`: an `Answer`, or the ImageError of an image that
            cannot be decoded.
        """
        yield from stream(paths, self.preprocessing, self.answers, batch_size, workers)


def _mean(per_view):
    return None if per_view[0] is None else np.mean(per_view, axis=0)


def check_top_k(top_k, classes, default):
    """How many of the most probable classes count.

    Args:
        top_k: int that the user asked for, or None.
        classes: int, number of the model's classes.
        default: int, taken where `top_k` is None, at most all classes.

    Returns:
        int.

    Raises:
        InputError: `top_k` is more than the model has classes.
    """
    if top_k is not None and top_k > classes:
        raise InputError(f"--top_k: {top_k} is more than the model's {classes} classes")
    return top_k or min(default, classes)


def known_labels(path):
    """The class names of a run or of an exported model, without opening the model.

    Args:
        path: str, its folder.

    Returns:
        tuple of str, in the order of their ids.

    Raises:
        InputError: it is damaged.
    """
    if not run_folder.is_exported(path):
        return run_folder.read(path).class_names
    return parse_description(path, read_description(path))[0]


def known_calibration(path):
    """The calibration of a run or of an exported model, without opening the model.

    Args:
        path: str, its folder.

    Returns:
        `calibration.Calibration`, or None where there is none; also None, with a line on
        standard error, where it belongs to other weights.

    Raises:
        InputError: it is damaged.
    """
    if not run_folder.is_exported(path):
        return run_calibration(run_folder.read(path))
    description = read_description(path)
    if description.get("calibration") is None:
        return None
    return calibration.parse(
        description["calibration"],
        description.get("labels", ()),
        description.get("weights"),
        os.path.join(path, run_folder.MODEL_FILE),
    )
