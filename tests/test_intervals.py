"""evaluation.intervals held to statsmodels, scikit-learn and formulas of other papers."""

import numpy as np
import pytest
from scipy.stats import multinomial, norm
from sklearn.metrics import confusion_matrix, f1_score, recall_score
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import proportion_confint

from evaluation.intervals import (
    bootstrap,
    macro_f1,
    macro_recall,
    mcnemar,
    paired_difference,
    proportion,
)


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("successes, count", [
    (0, 1), (1, 1), (0, 30), (30, 30), (7, 9), (451, 480),
])
def test_proportion(successes, count, level):
    expected = proportion_confint(successes, count, 1 - level, method="wilson")
    assert proportion(successes, count, level) == pytest.approx(expected, abs=1e-12)


def test_of_no_image_nothing_is_known():
    assert proportion(0, 0) == (0, 1)


def test_proportion_takes_numbers_of_numpy():
    assert proportion(np.int64(7), np.int32(9)) == proportion(7, 9)


@pytest.mark.parametrize("only_first", [0, 1, 5, 12, 40])
@pytest.mark.parametrize("only_second", [0, 1, 6, 20, 40])
def test_mcnemar(only_first, only_second):
    table = [[100, only_first], [only_second, 3]]
    expected = contingency_tables.mcnemar(table, exact=True).pvalue
    expected = 1.0 if np.isnan(expected) else expected
    assert mcnemar(only_first, only_second) == pytest.approx(expected)


def tango_without_iteration(count, only_second, only_first, level):
    """The interval as roots of a polynomial: Yang, Sun and Hardin 2012."""
    n, g = count, norm.ppf((1 + level) / 2) ** 2
    d, s = only_second - only_first, only_second + only_first
    roots = np.roots([
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * (s / g + 1),
        n * d * (2 * s / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - s) / g,
    ])
    real = roots.real[np.abs(roots.imag) < 1e-6]
    return real.min(), real.max()


@pytest.mark.parametrize("level", [0.95, 0.9])
@pytest.mark.parametrize("only_first, only_second, count", [
    (40, 20, 160), (12, 20, 480), (0, 3, 44), (9, 0, 44), (1, 7, 21), (150, 86, 1600),
    (5, 5, 100), (12, 30, 42), (0, 0, 50),
])
def test_paired_difference(only_first, only_second, count, level):
    found = paired_difference(only_first, only_second, count, level)
    expected = tango_without_iteration(count, only_second, only_first, level)
    assert found == pytest.approx(expected, abs=1e-6)
    low, high = paired_difference(only_second, only_first, count, level)
    assert (-high, -low) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("only_first, only_second", [(3, 12), (5, 15), (6, 15), (0, 3), (0, 4)])
def test_paired_difference_holds_0_where_the_test_keeps_it(only_first, only_second):
    table = [[100, only_first], [only_second, 30]]
    p = contingency_tables.mcnemar(table, exact=False, correction=False).pvalue
    low, high = paired_difference(only_first, only_second, np.sum(table))
    assert (low <= 0 <= high) == (p >= 0.05)


def test_paired_difference_at_its_ends():
    low, high = paired_difference(0, 10, 10)
    assert high == 1 and -1 < low < 0.75
    assert paired_difference(10, 0, 10) == pytest.approx((-high, -low))
    low, high = paired_difference(0, 0, 1)
    assert low == pytest.approx(-high) and 0 < high < 1


def test_paired_difference_covers_the_true_one():
    """The exact chance, over every outcome, that the interval of 30 images holds the truth."""
    count = 30
    outcomes = [(b, c) for b in range(count + 1) for c in range(count + 1 - b)]
    intervals = np.array([paired_difference(b, c, count) for b, c in outcomes])
    table = np.array([(b, c, count - b - c) for b, c in outcomes])
    covered = []
    for first, second in [(0.02, 0.02), (0.05, 0.1), (0.1, 0.1), (0.05, 0.3), (0.2, 0.3), (0, 0.2)]:
        chances = multinomial.pmf(table, count, [first, second, 1 - first - second])
        held = (intervals[:, 0] <= second - first) & (second - first <= intervals[:, 1])
        covered.append(chances[held].sum())
    assert 0.92 < min(covered) and 0.94 < np.mean(covered) < 0.98, covered


def answers(count=400, classes=5, seed=3):
    """True and predicted classes; one class has no images, and is predicted all the same."""
    generator = np.random.default_rng(seed)
    true = generator.choice(classes - 1, count, p=[0.6, 0.25, 0.1, 0.05])
    return true, np.where(generator.random(count) < 0.7, true, generator.choice(classes, count))


def test_macro_scores():
    true, predicted = answers()
    matrix = confusion_matrix(true, predicted, labels=range(5))
    assert macro_recall(matrix) == pytest.approx(
        recall_score(true, predicted, labels=range(4), average="macro"))
    assert macro_f1(matrix) == pytest.approx(
        f1_score(true, predicted, labels=range(4), average="macro"))
    predicted[:40] = 5  # no answer
    matrix = confusion_matrix(true, predicted, labels=range(6))[:5]
    assert macro_recall(matrix) == pytest.approx(
        recall_score(true, predicted, labels=range(4), average="macro"))
    assert macro_f1(matrix) == pytest.approx(
        f1_score(true, predicted, labels=range(4), average="macro"))


def test_bootstrap_is_drawing_images_again():
    true, predicted = answers()
    generator = np.random.default_rng(1)
    values = []
    for _ in range(300):
        drawn = generator.integers(0, len(true), len(true))
        present = np.unique(true[drawn])
        values.append(
            f1_score(true[drawn], predicted[drawn], labels=present, average="macro"))
    matrix = confusion_matrix(true, predicted, labels=range(5))
    low, high = bootstrap(macro_f1, matrix)
    assert (low, high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.015)
    assert high - low > 0.06
    inner = bootstrap(macro_f1, matrix, level=0.5)
    assert inner == pytest.approx(np.quantile(values, [0.25, 0.75]), abs=0.015)
    assert bootstrap(macro_f1, matrix) == (low, high)
    assert bootstrap(macro_f1, matrix, seed=1) != (low, high)


def test_bootstrap_of_an_accuracy():
    matrix = np.array([[800, 100], [60, 1040]])
    low, high = bootstrap(lambda drawn: np.trace(drawn) / drawn.sum(), matrix)
    assert (low, high) == pytest.approx(proportion_confint(1840, 2000), abs=0.002)
