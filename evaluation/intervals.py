"""How far a measured score can be trusted: confidence intervals, and a test for two models.

Every interval is (low, high) and contains the true value with the probability `level`.
"""

import math

import numpy as np

ROUNDS = 1000  # resamplings of a bootstrap; beyond each 95 % limit lie 25 of them


def proportion(successes, count, level=0.95):
    """Interval of a proportion, such as an accuracy or a recall.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".

    Args:
        successes: int, from 0 to `count`.
        count: int, images counted; for 0 the interval is (0, 1).
        level: float, from 0 to 1.

    Returns:
        (float, float).

    Example:
        >>> proportion(90, 100)
        (0.8256343384950865, 0.9447708629393249)
    """
    from scipy.stats import binomtest

    if count == 0:
        return 0.0, 1.0
    interval = binomtest(int(successes), int(count)).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def difference(successes, count, other_successes, other_count, level=0.95):
    """Interval of a proportion minus another one, of other images.

    Newcombe 1998, "Interval Estimation for the Difference between Independent Proportions:
    Comparison of Eleven Methods", method 10: it joins the Wilson intervals of both.

    Args:
        successes, other_successes: int, from 0 to the count.
        count, other_count: int, images counted, at least 1.
        level: float, from 0 to 1.

    Returns:
        (float, float), from -1 to 1.

    Example:
        >>> difference(56, 70, 48, 80)  # the paper's first row: 0.0524 to 0.3339
        (0.05243147240236484, 0.3338726540369059)
    """
    low, high = proportion(successes, count, level)
    other_low, other_high = proportion(other_successes, other_count, level)
    fraction, other_fraction = successes / count, other_successes / other_count
    observed = fraction - other_fraction
    below = math.hypot(fraction - low, other_high - other_fraction)
    above = math.hypot(high - fraction, other_fraction - other_low)
    return float(observed - below), float(observed + above)


def bootstrap(statistic, matrix, level=0.95, rounds=ROUNDS, seed=0):
    """Percentile interval of a statistic of a confusion matrix, such as the macro F1.

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3. Drawing as many
    images again with replacement is the same as drawing the counts of the cells from a
    multinomial distribution, which is fast.

    Args:
        statistic: function from a matrix like `matrix` to float.
        matrix: int (C, C), images by true and predicted class, or (C, C + 1) with a last column
            of those without an answer.
        level: float, from 0 to 1.
        rounds: int, number of resamplings.
        seed: int, of the random numbers.

    Returns:
        (float, float).
    """
    matrix = np.asarray(matrix)
    image_count = int(matrix.sum())
    filled_cells = np.nonzero(matrix)
    generator = np.random.default_rng(seed)
    statistics = []
    for _ in range(rounds):
        resampled = np.zeros_like(matrix)
        resampled[filled_cells] = generator.multinomial(
            image_count, matrix[filled_cells] / image_count
        )
        statistics.append(statistic(resampled))
    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def macro_precision(matrix):
    """float, mean precision of the classes that have images.

    Args:
        matrix: int (C, C) or (C, C + 1), see `bootstrap`.
    """
    has_images = matrix.sum(axis=1) > 0
    predicted = matrix.sum(axis=0)[: len(matrix)]
    return float((np.diagonal(matrix) / np.maximum(predicted, 1))[has_images].mean())


def macro_recall(matrix):
    """float, mean recall of the classes that have images.

    Args:
        matrix: int (C, C) or (C, C + 1), see `bootstrap`.
    """
    images = matrix.sum(axis=1)
    has_images = images > 0
    return float((np.diagonal(matrix)[has_images] / images[has_images]).mean())


def macro_f1(matrix):
    """float, mean F1 of the classes that have images.

    Args:
        matrix: int (C, C) or (C, C + 1), see `bootstrap`.
    """
    images = matrix.sum(axis=1)
    has_images = images > 0
    predicted = matrix.sum(axis=0)[: len(images)]
    true_positives = np.diagonal(matrix)[has_images]
    return float((2 * true_positives / (images + predicted)[has_images]).mean())


def paired_difference(only_first, only_second, count, level=0.95):
    """Interval of the second model's accuracy minus the first's, on the same images.

    The score interval of Tango 1998, "Equivalence Test and Confidence Interval for the
    Difference in Proportions for the Paired-Sample Design": the differences that a McNemar test
    of them (without continuity correction) would not reject. It is valid for few images too.

    Args:
        only_first: int, images that only the first model predicts correctly.
        only_second: int, those that only the second predicts correctly.
        count: int, all images, at least 1.
        level: float, from 0 to 1.

    Returns:
        (float, float), from -1 to 1.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    quantile = norm.ppf((1 + level) / 2)
    observed = (only_second - only_first) / count

    def excess(difference):
        # Maximum-likelihood estimate of the fraction that only the first model predicts correctly
        linear_term = (2 * count + only_first - only_second) * difference - only_first - only_second
        product = difference * (1 - difference)
        square_root = np.sqrt(max(linear_term**2 + 8 * count * only_first * product, 0))
        variance = 2 * (square_root - linear_term) / (4 * count) + product
        return count * (observed - difference) ** 2 - quantile**2 * variance

    tiny_step = 1e-9  # where the models never differ, the observed 0 is a root of its own
    low = -1.0 if observed == -1 else brentq(excess, -1, observed - tiny_step)
    high = 1.0 if observed == 1 else brentq(excess, observed + tiny_step, 1)
    return float(low), float(high)


def mcnemar(only_first, only_second):
    """Exact two-sided p-value of equal accuracies on the same images.

    McNemar 1947, "Note on the Sampling Error of the Difference between Correlated Proportions
    or Percentages": with equal accuracies, each model would be the right one for half of the
    images that only one model predicts correctly.

    Args:
        only_first: int, images that only the first model predicts correctly.
        only_second: int, those that only the second predicts correctly.

    Returns:
        float, 1 where the models never differ.

    Example:
        >>> mcnemar(3, 12)
        0.03515625
    """
    from scipy.stats import binomtest

    differing = int(only_first) + int(only_second)
    return float(binomtest(int(only_first), differing).pvalue) if differing else 1.0
