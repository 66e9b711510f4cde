"""Is one way of training better than another? Several trainings of both, on the same photos.

The answer has to hold for other photos and for other trainings: photos and seeds are both drawn by
chance. That is the reading of many cases by several readers, with trainings in the readers' place.
"""

import math
from typing import NamedTuple

import numpy as np

from evaluation.intervals import mcnemar

LEVEL = 0.95


class PairedComparison(NamedTuple):
    """How much better the second way of training is than the first.

    Attributes:
        difference: float, of the accuracies, second minus first.
        low, high: float, its interval.
        freedom: float, degrees of freedom of the interval; inf where nothing varies.
        only_first, only_second: int, groups of photos that one way gets right more often.
        p_value: float, of the exact sign test of these.
    """

    difference: float
    low: float
    high: float
    freedom: float
    only_first: int
    only_second: int
    p_value: float

    @property
    def sign(self):
        """int: 1 where the second is better, -1 where it is worse, 0 where nobody can tell.

        The interval has to leave out 0, and the sign test has to agree: with a handful of photos
        that all change alike there is no variance to make an interval of.
        """
        if self.p_value >= 1 - LEVEL or self.low <= 0 <= self.high:
            return 0
        return 1 if self.low > 0 else -1


def compare_seeds(first, second, groups, level=LEVEL):
    """Compares two ways of training by several trainings of each.

    The variance of the difference is that over photos plus that over pairs of trainings, each
    with the part that both have in common, so it is rather too large; Student's quantile has the
    degrees of freedom of such a sum (Satterthwaite 1946, "An Approximate Distribution of Estimates
    of Variance Components"; for readers and cases Hillis 2007, "A comparison of denominator
    degrees of freedom methods for multiple observer ROC analysis").

    Args:
        first, second: bool (S, N), S at least 2 trainings, what they get right of N photos; the
            trainings of a row have the same seed.
        groups: int (N,), equal for photos of one group, which count as one observation.
        level: float, from 0 to 1.

    Returns:
        `PairedComparison`.

    Example:
        >>> first = np.zeros((2, 40), bool)
        >>> second = np.arange(40) < np.array([[20], [22]])
        >>> compare_seeds(first, second, np.arange(40)).sign
        1
    """
    from scipy.stats import t

    differences = np.asarray(second, float) - np.asarray(first, float)
    seed_count, photo_count = differences.shape
    _, inverse = np.unique(groups, return_inverse=True)
    group_count = int(inverse.max()) + 1
    mean = float(differences.mean())
    of_photos = differences.mean(axis=0)
    residuals = np.bincount(inverse, of_photos - mean)
    over_photos = over_seeds = 0.0
    if group_count > 1:
        over_photos = group_count / (group_count - 1) * np.sum(residuals**2) / photo_count**2
    over_seeds = differences.mean(axis=1).var(ddof=1) / seed_count
    variance, freedom = float(over_photos + over_seeds), math.inf
    half_width = 0.0
    if variance > 1e-18:
        parts = over_photos**2 / max(1, group_count - 1) + over_seeds**2 / (seed_count - 1)
        freedom = float(variance**2 / parts)
        half_width = float(t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)
    totals = np.bincount(inverse, of_photos)
    only_first, only_second = int((totals < -1e-9).sum()), int((totals > 1e-9).sum())
    return PairedComparison(
        mean,
        max(-1.0, mean - half_width),
        min(1.0, mean + half_width),
        freedom,
        only_first,
        only_second,
        mcnemar(only_first, only_second),
    )
