"""How well probabilities match the share of right answers.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
"""

from typing import NamedTuple

import numpy as np

BINS = 15  # the paper's


class Reliability(NamedTuple):
    """What a reliability diagram shows; images are binned by their likeliest class's probability.

    Attributes:
        edges: float (bins + 1,), from 0 to 1, equally spaced; a bin holds its upper edge.
        confidence: float (bins,), mean probability of the likeliest class, NaN in an empty bin.
        accuracy: float (bins,), share of right answers, NaN in an empty bin.
        count: int (bins,), images.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def reliability(true, probabilities, bins=BINS):
    """The `Reliability` of some answers.

    Args:
        true: int (N,), class ids.
        probabilities: float (N, C), each row a model's answer.
        bins: how many.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == true
    edges = np.linspace(0, 1, bins + 1)
    # A probability that rounding has put above 1 stays in the last bin.
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges,
            np.bincount(places, confidence, bins) / count,
            np.bincount(places, right, bins) / count,
            count,
        )


def expected_calibration_error(true, probabilities, bins=BINS):
    """Mean distance between confidence and accuracy, over the bins, weighed by their images.

    Arguments as `reliability` takes them, N at least 1; the result is from 0 (honest) to 1.
    """
    found = reliability(true, probabilities, bins)
    filled = found.count > 0
    distance = np.abs(found.accuracy - found.confidence)[filled]
    return float((distance * found.count[filled]).sum() / len(true))
