"""Calibrated probabilities, and the thresholds below which a model answers "unknown".

Temperature scaling: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
The order of the classes stays; the model's confidence changes. A class's threshold is the minimum
probability at which an image is assigned to it; below, the answer is unknown. `--mode calibrate`
fits both.
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


class Calibration(NamedTuple):
    """A temperature and thresholds, fitted to a model's answers.

    Attributes:
        temperature: float above 0; above 1 lowers the model's confidence.
        thresholds: float (C,), of each class, from 0 to 1; infinite where it never answers.
        precision: float, fraction of right answers that was asked for, between 0 and 1.
        images: int, number of images it was fitted on.
        weights: str, SHA-256 of the weights it belongs to, in hex.
    """

    temperature: float
    thresholds: np.ndarray
    precision: float
    images: int
    weights: str


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
