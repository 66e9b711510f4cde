"""How far a measured score can be trusted: intervals, and a test for two models.

Every interval is (low, high) and holds the true value with the chance `level`, from 0 to 1.
"""

import numpy as np

ROUNDS = 1000  # resamplings of a bootstrap; its 95 % limits then rest on 25 rounds each


def proportion(successes, count, level=0.95):
    """Interval of a share, such as an accuracy or a recall.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".

    Args:
        successes: int, from 0 to `count`.
        count: int, images counted; of none nothing is known: (0, 1).
    """
    from scipy.stats import binomtest

    if count == 0:
        return 0.0, 1.0
    found = binomtest(int(successes), int(count)).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def bootstrap(statistic, matrix, level=0.95, rounds=ROUNDS, seed=0):
    """Percentile interval of what a confusion matrix tells, such as the macro F1.

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3. To draw as many
    images again with replacement is to draw the counts of the cells from a multinomial
    distribution, which is quick.

    Args:
        statistic: function of a matrix like `matrix`, which gives a float.
        matrix: int (C, C), images by true and predicted class, or (C, C + 1) with a last column
            of those without an answer.
    """
    matrix = np.asarray(matrix)
    count = int(matrix.sum())
    cells = np.nonzero(matrix)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        drawn = np.zeros_like(matrix)
        drawn[cells] = generator.multinomial(count, matrix[cells] / count)
        values.append(statistic(drawn))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def macro_precision(matrix):
    """Mean precision of the classes that have images, from a matrix as `bootstrap` takes it."""
    present = matrix.sum(axis=1) > 0
    predicted = matrix.sum(axis=0)[: len(matrix)]
    return float((np.diagonal(matrix) / np.maximum(predicted, 1))[present].mean())


def macro_recall(matrix):
    """Mean recall of the classes that have images, from a matrix as `bootstrap` takes it."""
    images = matrix.sum(axis=1)
    present = images > 0
    return float((np.diagonal(matrix)[present] / images[present]).mean())


def macro_f1(matrix):
    """Mean F1 of the classes that have images, from a matrix as `bootstrap` takes it."""
    images = matrix.sum(axis=1)
    present = images > 0
    predicted = matrix.sum(axis=0)[: len(images)]
    return float((2 * np.diagonal(matrix)[present] / (images + predicted)[present]).mean())


def paired_difference(only_first, only_second, count, level=0.95):
    """Interval of the second model's accuracy less the first's, on the same images.

    The score interval of Tango 1998, "Equivalence Test and Confidence Interval for the
    Difference in Proportions for the Paired-Sample Design": the differences that a McNemar test
    of them (without continuity correction) would not reject. It holds for few images too.

    Args:
        only_first: int, images that only the first model gets right.
        only_second: int, those that only the second gets right.
        count: int, all images, at least 1.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    quantile = norm.ppf((1 + level) / 2)
    observed = (only_second - only_first) / count

    def excess(difference):
        # Likeliest share that only the first gets right if the true difference were this.
        linear = (2 * count + only_first - only_second) * difference - only_first - only_second
        product = difference * (1 - difference)
        root = np.sqrt(max(linear**2 + 8 * count * only_first * product, 0))
        variance = 2 * (root - linear) / (4 * count) + product
        return count * (observed - difference) ** 2 - quantile**2 * variance

    step = 1e-9  # where the models never differ, the observed 0 is a root of its own
    low = -1.0 if observed == -1 else brentq(excess, -1, observed - step)
    high = 1.0 if observed == 1 else brentq(excess, observed + step, 1)
    return float(low), float(high)


def mcnemar(only_first, only_second):
    """Two-sided p of equal accuracies on the same images, exact.

    McNemar 1947, "Note on the Sampling Error of the Difference between Correlated Proportions
    or Percentages": of the images that one model alone gets right, half would be each one's.

    Args:
        only_first: int, images that only the first model gets right.
        only_second: int, those that only the second gets right.
    """
    from scipy.stats import binomtest

    differing = int(only_first) + int(only_second)
    return float(binomtest(int(only_first), differing).pvalue) if differing else 1.0
