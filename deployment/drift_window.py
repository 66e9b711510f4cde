"""How far the images of late are from those that a model was calibrated on, while it serves."""

import threading
from collections import deque

import numpy as np

WINDOW = 1000  # images; the oldest make room
EVERY = 100  # images between two measurements, and the fewest that are measured


class DriftWindow:
    """The last images' largest probabilities and similarities, against the calibration's.

    The distance is that of Kolmogorov and Smirnov: the largest difference of the two distribution
    functions, 0 to 1. By chance alone it is below 1.36 * sqrt(1 / n + 1 / m) in 19 of 20 cases,
    where n and m are the images of the window and of the calibration.

    Args:
        calibration: `prediction.calibration.Calibration` with quantiles.

    Example:
        >>> window = DriftWindow(calibration)
        >>> for answer in answers:
        ...     distances = window.add(answer) or distances
        >>> distances
        {'probability': 0.04, 'similarity': 0.31}
    """

    def __init__(self, calibration):
        self._references = {
            "probability": calibration.probability_quantiles,
            "similarity": calibration.similarity_quantiles,
        }
        self._answers = deque(maxlen=WINDOW)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, answer):
        """Takes an image in.

        Args:
            answer: `prediction.classifier.Answer`.

        Returns:
            dict of "probability" and "similarity" -> distance, once in `EVERY` images, without
            what the calibration knows nothing of; else {}.
        """
        with self._lock:
            self._answers.append((answer.probabilities.max(), answer.similarity))
            self._count += 1
            if self._count % EVERY:
                return {}
            probabilities, similarities = zip(*self._answers)
        values = {"probability": probabilities, "similarity": similarities}
        return {
            name: distance(np.sort(np.array(values[name], float)), reference)
            for name, reference in self._references.items()
            if reference is not None and values[name][0] is not None
        }


def distance(values, reference):
    """The largest difference of two distribution functions (Kolmogorov-Smirnov).

    Args:
        values: float (N,), sorted.
        reference: float (M,), sorted.

    Returns:
        float, 0 to 1.
    """
    places = np.concatenate([values, reference])
    shares = np.searchsorted(values, places, side="right") / len(values)
    expected = np.searchsorted(reference, places, side="right") / len(reference)
    return float(np.abs(shares - expected).max())
