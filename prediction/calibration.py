"""Calibrated probabilities, and the thresholds below which a model answers "unknown".

Temperature scaling: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
The order of the classes stays; the model's confidence changes. A class's threshold is the minimum
probability at which an image is assigned to it; below, the answer is unknown. So it is for an
image that is less familiar than all but a few of the photos that the calibration was fitted on:
less probable of any class and less similar to what was learned. `--mode calibrate` fits all three.
"""

import json
import math
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from common.files import write_text

# The logarithm of what a softmax in float32 has rounded to 0 must stay finite.
TINY = float(np.finfo(np.float32).tiny)
APPLIED_BY = "the reader, not the graph"  # for those who read model.json without this project
FIT_AGAIN = "--mode calibrate fits a new one"
UNSURE, UNLIKE = "unsure", "unlike anything seen"  # why an image is unknown
REASONS = (UNSURE, UNLIKE)
QUANTILES = 50  # that sum up the images it was fitted on


class Familiarity(NamedTuple):
    """How usual an image's largest probability and its similarity are, added up.

    Both are standardized by the images that the calibration was fitted on. Together they tell a
    class that was never seen better than either (`benchmarks/unseen.py`).

    Attributes:
        probability_mean: float, of the largest probabilities.
        probability_scale: float above 0, their standard deviation.
        similarity_mean: float, of the similarities.
        similarity_scale: float above 0, their standard deviation.
        minimum: float, below which an image is unlike anything seen.
    """

    probability_mean: float
    probability_scale: float
    similarity_mean: float
    similarity_scale: float
    minimum: float

    def measure(self, probabilities, similarities):
        """float (N,), the familiarity of images.

        Args:
            probabilities: float (N,), the largest of each image, calibrated.
            similarities: float (N,).

        Example:
            >>> Familiarity(0.9, 0.1, 0.5, 0.2, -3.0).measure(np.array([0.8]), np.array([0.3]))
            array([-2.])
        """
        return (probabilities - self.probability_mean) / self.probability_scale + (
            similarities - self.similarity_mean
        ) / self.similarity_scale

    def is_unlike(self, probabilities, similarities):
        """bool (N,), which images are unlike anything seen.

        Args:
            probabilities: float (N,), the largest of each image, calibrated.
            similarities: float (N,).
        """
        return self.measure(probabilities, similarities) < self.minimum


class Calibration(NamedTuple):
    """A temperature and thresholds, fitted to a model's answers.

    Attributes:
        temperature: float above 0; above 1 lowers the model's confidence.
        thresholds: float (C,), of each class, from 0 to 1; infinite where it never answers.
        precision: float, fraction of right answers that was asked for, between 0 and 1.
        images: int, number of images it was fitted on.
        weights: str, SHA-256 of the weights it belongs to, in hex.
        familiarity: `Familiarity`, by which an image is unlike anything seen; None where the model
            has no similarity or it was not asked for.
        false_alarms: float, fraction of the images it was fitted on that are; None likewise.
        probability_quantiles: float (`QUANTILES`,), sorted, the largest probabilities of the images
            it was fitted on; None in calibrations of earlier versions.
        similarity_quantiles: the same of their similarities; None where the model has none.
    """

    temperature: float
    thresholds: np.ndarray
    precision: float
    images: int
    weights: str
    familiarity: Familiarity | None = None
    false_alarms: float | None = None
    probability_quantiles: np.ndarray | None = None
    similarity_quantiles: np.ndarray | None = None

    def reason(self, probabilities, similarity):
        """Why an image is unknown.

        Args:
            probabilities: float32 (C,), calibrated.
            similarity: float, or None for a model without.

        Returns:
            str, one of `REASONS`, or "" where it is known.

        Example:
            >>> fitted = Calibration(1.0, np.array([0.9, 0.5]), 0.95, 100, "")
            >>> fitted.reason(np.array([0.8, 0.2]), None)
            'unsure'
        """
        can_tell = similarity is not None and self.familiarity is not None
        if can_tell and self.familiarity.is_unlike(probabilities.max(), similarity):
            return UNLIKE
        return UNSURE if unknown(probabilities, self.thresholds) else ""

    def unknown(self, probabilities, similarities):
        """bool (N,), which images are unknown.

        Args:
            probabilities: float32 (N, C), calibrated.
            similarities: float32 (N,), or None for a model without.
        """
        is_unknown = unknown(probabilities, self.thresholds)
        if similarities is None or self.familiarity is None:
            return is_unknown
        return is_unknown | self.familiarity.is_unlike(probabilities.max(axis=1), similarities)


def logarithms(probabilities, temperature=1.0):
    """Logarithms of softmax(log(p) / T).

    Args:
        probabilities: float (..., C), rows that sum to 1; exactly 0 is allowed.
        temperature: float T, above 0.

    Returns:
        float64 (..., C).
    """
    scaled = np.log(np.maximum(np.asarray(probabilities, np.float64), TINY)) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def scale(probabilities, temperature):
    """Calibrated probabilities, softmax(log(p) / T).

    Args:
        probabilities: float (..., C), rows that sum to 1; exactly 0 is allowed.
        temperature: float T, above 0.

    Returns:
        float32 (..., C).

    Example:
        >>> scale(np.array([0.9, 0.1]), temperature=2.0)
        array([0.75, 0.25], dtype=float32)
    """
    return np.exp(logarithms(probabilities, temperature)).astype(np.float32)


def unknown(probabilities, thresholds):
    """Which answers are below the threshold of their most probable class.

    Args:
        probabilities: float32 (..., C), calibrated.
        thresholds: float (C,).

    Returns:
        bool (...).
    """
    return probabilities.max(axis=-1) < thresholds[probabilities.argmax(axis=-1)]


QUANTILE_FIELDS = ("probability_quantiles", "similarity_quantiles")


def describe(calibration, class_names):
    """A calibration as JSON holds it, null for the threshold of a class that never answers.

    Args:
        calibration: `Calibration`.
        class_names: C names, in the order of their ids.

    Returns:
        dict.
    """
    thresholds = [
        float(threshold) if math.isfinite(threshold) else None
        for threshold in calibration.thresholds
    ]
    return {
        **calibration._asdict(),
        "thresholds": dict(zip(class_names, thresholds)),
        "familiarity": calibration.familiarity and calibration.familiarity._asdict(),
        **{name: _list(getattr(calibration, name)) for name in QUANTILE_FIELDS},
        "applied_by": APPLIED_BY,
    }


def write(json_path, calibration, class_names):
    """Writes a run's calibration.json.

    Args:
        json_path: str, the file.
        calibration: `Calibration`.
        class_names: C names, in the order of their ids.
    """
    content = describe(calibration, class_names)
    write_text(json_path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def read(json_path, class_names, weights):
    """Reads a run's calibration.json.

    Args:
        json_path: str, the file.
        class_names: names of the classes, in the order of their ids.
        weights: str, SHA-256 of the model's weights, in hex.

    Returns:
        `Calibration`, or None, with a line on standard error, if it belongs to other weights.

    Raises:
        InputError: the file cannot be read, or is not a calibration of these classes.
    """
    try:
        with open(json_path, encoding="utf-8") as json_file:
            content = json.load(json_file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{json_path}: cannot be read: {error}") from None
    return parse(content, class_names, weights, json_path)


def parse(content, class_names, weights, json_path):
    """Checks and converts what `describe` returned.

    Args:
        content: from JSON.
        class_names: names of the classes, in the order of their ids.
        weights: str, SHA-256 of the model's weights, in hex.
        json_path: str, the file, for errors.

    Returns:
        `Calibration`, or None, with a line on standard error, if it belongs to other weights.

    Raises:
        InputError: it is not a calibration of these classes.
    """
    try:
        calibration = _convert(content, class_names)
    except KeyError as error:
        raise InputError(f"{json_path}: the calibration lacks {error}; {FIT_AGAIN}") from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InputError(
            f"{json_path}: the calibration cannot be used: {error}; {FIT_AGAIN}"
        ) from None
    if calibration.weights != weights:
        say(
            f"note: the calibration in {json_path} belongs to other weights and is ignored; "
            f"{FIT_AGAIN}"
        )
        return None
    return calibration


def quantiles(values):
    """The middles of equal parts of some values.

    Args:
        values: float (N,).

    Returns:
        float (`QUANTILES`,), sorted.
    """
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.quantile(np.asarray(values, np.float64), levels)


def _list(values):
    return None if values is None else values.tolist()


def _quantiles(name, values):
    if values is None:
        return None
    numbers = np.array(values, np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} are not a list of numbers")
    return np.sort(numbers)


def _familiarity(fields):
    if fields is None:
        return None
    familiarity = Familiarity(*(float(fields[name]) for name in Familiarity._fields))
    if not np.isfinite(familiarity).all():
        raise ValueError("the familiarity has a number that is NaN or infinite")
    if min(familiarity.probability_scale, familiarity.similarity_scale) <= 0:
        raise ValueError("the familiarity has a scale that is not above 0")
    return familiarity


def _convert(content, class_names):
    """The `Calibration` in JSON content; any of `parse`'s exceptions where it is damaged."""
    thresholds = content["thresholds"]
    if set(thresholds) != set(class_names):
        raise ValueError(
            f"it has thresholds of {first_ten(map(str, thresholds))}, not of the "
            f"model's classes {first_ten(class_names)}"
        )
    never_answered = [thresholds[class_name] is None for class_name in class_names]
    calibration = Calibration(
        float(content["temperature"]),
        np.array(
            [
                math.inf if never else float(thresholds[class_name])
                for class_name, never in zip(class_names, never_answered)
            ]
        ),
        float(content["precision"]),
        int(content["images"]),
        str(content["weights"]),
        _familiarity(content.get("familiarity")),
        None if content.get("false_alarms") is None else float(content["false_alarms"]),
        *(_quantiles(name, content.get(name)) for name in QUANTILE_FIELDS),
    )
    if not 0 < calibration.temperature < math.inf:
        raise ValueError(f"the temperature is {calibration.temperature}; it must be above 0")
    if not 0 < calibration.precision < 1:
        raise ValueError(
            f"the precision is {calibration.precision}; it must be above 0 and below 1"
        )
    for class_name, never, threshold in zip(class_names, never_answered, calibration.thresholds):
        if not (never or 0 <= threshold <= 1):
            raise ValueError(
                f"the threshold of {class_name} is {threshold}; it must be from 0 to 1"
            )
    return calibration
