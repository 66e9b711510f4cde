"""An exported model, or a run, as an object: images in, labels and probabilities out."""

import contextlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.console import say
from common.errors import ImageError, InputError
from common.files import checksum
from compute.backend import import_keras
from compute.devices import predict_over, tensorflow_strategy
from data.decoding import load
from prediction import calibration
from prediction.exported_model import check_files, open_model, parse_description, read_description
from prediction.loading import best_model, run_calibration
from prediction.tta import views
from runs import run_folder

TOP_K = 3


class Classifier:
    """A model with all that it needs to know about images and labels.

    Attributes:
        class_names: tuple of str, in the order of their ids.
        preprocessing: `geometry.Preprocessing` of its images.
        tta: which views of an image are averaged, as `views` takes it.
        calibration: `calibration.Calibration` of its answers, or None.
        runtime: (key of `runtimes.RUNTIMES`, precision), or None where Keras computes.
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

        From a run, its exported model is taken where there is one made from its
        best weights, else the best weights themselves.

        Args:
            path: as `run_folder.find` gives it.
            devices: those of this machine to spread images over, as --devices names them;
                a run's best weights are then taken in any case. None is one.
            runtime: a key of `runtimes.RUNTIMES`, which computes an exported model in float32;
                "auto" is the fastest that is installed and passes the model's self-test.
            allow_low_precision: let "auto" compute in int8 where the export made it, and in
                bfloat16 where the processor has it and the export showed the same answers; what
                measures a model leaves it off.
            calibrated: False leaves the probabilities as the network gives them.

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
        labels, preprocessing = parse_description(folder, description)
        check_files(folder, description)
        classifier = cls(labels, preprocessing, None)
        classifier.runtime, classifier._predict = open_model(
            folder, description, runtime, allow_low_precision
        )
        return classifier

    @classmethod
    def _load_run(cls, run, devices=None):
        import_keras()
        strategy = tensorflow_strategy(devices)[1] if devices else None
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = best_model(run)
        predict = predict_over(model, strategy) if strategy else model.predict_on_batch
        return cls(run.class_names, run.preprocessing, predict)

    def set_views(self, tta):
        """Averages over views of each image, as `tta.views` takes them."""
        self.tta = tta
        if tta != "none" and self.calibration:
            say(
                f"note: the calibration was fitted without --tta {tta}; probabilities and "
                "thresholds hold only roughly"
            )

    def probabilities(self, x):
        """uint8 (N, S, S, 3), as `decoding.load` gives it -> float32 (N, C)."""
        rows = [np.asarray(self._predict(view)) for view in views(x, self.tta)]
        mean = rows[0] if len(rows) == 1 else np.mean(rows, axis=0)
        if self.calibration is None:
            return mean
        return calibration.scale(mean, self.calibration.temperature)

    def unknown(self, row):
        """Whether one row of probabilities is below the threshold of its likeliest class.

        Never so for a model without a calibration.
        """
        if self.calibration is None:
            return False
        return bool(calibration.unknown(row, self.calibration.thresholds))

    def classify(self, images, top_k=TOP_K):
        """Names the classes of some images.

        Args:
            images: list of paths or of files' bytes.
            top_k: predictions an image, at most the number of classes.

        Returns:
            A list of predictions for each image, likeliest first; each a dict of
            label, id and probability.

        Raises:
            ImageError: an image cannot be decoded.
        """
        x = np.stack([load(image, self.preprocessing) for image in images])
        return [self.top(row, top_k) for row in self.probabilities(x)]

    def top(self, row, count):
        """The `count` likeliest classes of one row of probabilities."""
        order = np.argsort(-row, kind="stable")[:count]
        return [
            {"label": self.class_names[i], "id": int(i), "probability": float(row[i])}
            for i in order
        ]

    def stream(self, paths, batch_size=32, workers=1):
        """Goes through many images; decoding runs ahead of the model.

        Args:
            paths: list of image files.
            batch_size: images the model takes at once.
            workers: threads that decode.

        Yields:
            (path, row) in the order of `paths`: float32 (C,) probabilities, or the
            ImageError of an image that cannot be decoded.
        """

        def decode(path):
            try:
                return load(path, self.preprocessing)
            except ImageError as error:
                return error

        remaining = iter(paths)
        pool = ThreadPoolExecutor(workers)
        try:
            ahead = deque()
            while True:
                for path in remaining:
                    ahead.append((path, pool.submit(decode, path)))
                    if len(ahead) >= 3 * batch_size:
                        break
                if not ahead:
                    return
                batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
                answers = [task.result() for _, task in batch]
                good = [answer for answer in answers if not isinstance(answer, ImageError)]
                rows = iter(self.probabilities(np.stack(good)) if good else ())
                for (path, _), answer in zip(batch, answers):
                    yield path, answer if isinstance(answer, ImageError) else next(rows)
        finally:
            pool.shutdown(cancel_futures=True)


def check_top_k(top_k, classes, default):
    """How many classes count: `top_k` if given, else `default`, at most all."""
    if top_k is not None and top_k > classes:
        raise InputError(f"--top_k: {top_k} is more than the model's {classes} classes")
    return top_k or min(default, classes)


def known_labels(path):
    """The class names of a run or of an exported model."""
    if not run_folder.is_exported(path):
        return run_folder.read(path).class_names
    return parse_description(path, read_description(path))[0]


def known_calibration(path):
    """The `calibration.Calibration` of a run or of an exported model.

    None where there is none, or, with a line on standard error, only one of other weights.

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
