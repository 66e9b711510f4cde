"""Probabilities that mean what they say, and from which of them on a model knows.

Temperature scaling: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
The order of the classes stays; how sure the model sounds changes. A class's threshold is the
least probability at which an image is called of it; below, the answer is unknown. `--mode
calibrate` fits both.
"""

import json
import math
import sys
from typing import NamedTuple

import numpy as np

from common.errors import InputError, first_ten

# The logarithm of what a softmax in float32 has rounded to 0 must stay finite.
TINY = float(np.finfo(np.float32).tiny)
APPLIED_BY = "the reader, not the graph"  # for those who read model.json without this project


class Calibration(NamedTuple):
    """What was fitted to a model's answers.

    Attributes:
        temperature: above 0; above 1 makes the model less sure.
        thresholds: float (C,), of each class, from 0 to 1; infinite where it never answers.
        precision: share of right answers that was asked for, from 0 to 1.
        images: how many it was fitted on.
        weights: SHA-256 of the weights it belongs to, in hex.
    """

    temperature: float
    thresholds: np.ndarray
    precision: float
    images: int
    weights: str


def logarithms(probabilities, temperature=1.0):
    """Logarithms of softmax(log(p) / T), float64 of the shape of `probabilities`.

    Args:
        probabilities: float (..., C), rows that sum to 1; exactly 0 is allowed.
        temperature: T, above 0.
    """
    scaled = np.log(np.maximum(np.asarray(probabilities, np.float64), TINY)) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def scale(probabilities, temperature):
    """softmax(log(p) / T), float32; arguments as `logarithms` takes them."""
    return np.exp(logarithms(probabilities, temperature)).astype(np.float32)


def unknown(probabilities, thresholds):
    """Which answers are below the threshold of their likeliest class.

    Args:
        probabilities: float32 (..., C), calibrated.
        thresholds: float (C,).

    Returns:
        bool (...).
    """
    return probabilities.max(axis=-1) < thresholds[probabilities.argmax(axis=-1)]


def describe(calibration, labels):
    """The calibration as JSON holds it; null is the threshold of a class that never answers."""
    thresholds = [float(each) if math.isfinite(each) else None for each in calibration.thresholds]
    return {
        **calibration._asdict(),
        "thresholds": dict(zip(labels, thresholds)),
        "applied_by": APPLIED_BY,
    }


def read(path, labels, weights):
    """Reads a run's calibration.json.

    The other arguments, and what it gives, are those of `parse`.

    Raises:
        InputError: the file cannot be read, or as `parse`.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return parse(found, labels, weights, path)


def parse(found, labels, weights, path):
    """The `Calibration` of what `describe` gave.

    Args:
        found: from JSON.
        labels: class names, in the order of their ids.
        weights: SHA-256 of the model's weights, in hex.
        path: the file, for errors.

    Returns:
        `Calibration`, or None, with a line on standard error, if it is of other weights.

    Raises:
        InputError: it is no calibration of these classes.
    """
    try:
        thresholds = found["thresholds"]
        if set(thresholds) != set(labels):
            raise ValueError(
                f"it has thresholds of {first_ten(map(str, thresholds))}, not of the "
                f"model's classes {first_ten(labels)}"
            )
        values = np.array(
            [
                math.inf if thresholds[label] is None else float(thresholds[label])
                for label in labels
            ]
        )
        calibration = Calibration(
            float(found["temperature"]),
            values,
            float(found["precision"]),
            int(found["images"]),
            str(found["weights"]),
        )
        if not 0 < calibration.temperature < math.inf:
            raise ValueError(f"the temperature is {calibration.temperature}; it must be above 0")
        if not 0 < calibration.precision < 1:
            raise ValueError(
                f"the precision is {calibration.precision}; it must be above 0 and below 1"
            )
        for label, value in zip(labels, values):
            if not (0 <= value <= 1 or thresholds[label] is None):
                raise ValueError(f"the threshold of {label} is {value}; it must be from 0 to 1")
    except KeyError as error:
        raise InputError(f"{path}: the calibration lacks {error}; {_AGAIN}") from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InputError(f"{path}: the calibration cannot be used: {error}; {_AGAIN}") from None
    if calibration.weights != weights:
        print(
            f"note: the calibration in {path} belongs to other weights and is ignored; {_AGAIN}",
            file=sys.stderr,
            flush=True,
        )
        return None
    return calibration


_AGAIN = "--mode calibrate fits a new one"
