"""How well probabilities match the fraction of right answers.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
"""

from typing import NamedTuple

import numpy as np

BINS = 15  # the paper's


class Reliability(NamedTuple):
    """The content of a reliability diagram; images are binned by their highest probability.

    Attributes:
        edges: float (bins + 1,), from 0 to 1, equally spaced; a bin includes its upper edge.
        confidence: float (bins,), mean of the highest probabilities, NaN in an empty bin.
        accuracy: float (bins,), fraction of right answers, NaN in an empty bin.
        count: int (bins,), images.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def reliability(true, probabilities, bins=BINS):
    """Compares confidence with accuracy, bin by bin.

    Args:
        true: int (N,), class ids.
        probabilities: float (N, C).
        bins: int, number of bins.

    Returns:
        `Reliability`.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_right = probabilities.argmax(axis=1) == true
    edges = np.linspace(0, 1, bins + 1)
    # A probability that rounding has put above 1 stays in the last bin.
    bin_index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(bin_index, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges,
            np.bincount(bin_index, confidence, bins) / count,
            np.bincount(bin_index, is_right, bins) / count,
            count,
        )


def expected_calibration_error(true, probabilities, bins=BINS):
    """Mean distance between confidence and accuracy over the bins, weighted by their images.

    Args:
        true: int (N,), class ids, at least one.
        probabilities: float (N, C).
        bins: int, number of bins.

    Returns:
        float, from 0 (calibrated) to 1.

    Example:
        >>> expected_calibration_error(np.array([0, 1]), np.array([[0.75, 0.25], [0.75, 0.25]]))
        0.25
    """
    diagram = reliability(true, probabilities, bins)
    filled = diagram.count > 0
    distance = np.abs(diagram.accuracy - diagram.confidence)[filled]
    return float((distance * diagram.count[filled]).sum() / len(true))
