"""evaluation.cross_validation held to scikit-learn, statsmodels and to simulated data sets."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import t
from sklearn.model_selection import cross_val_score
from statsmodels.stats.proportion import proportion_confint

from benchmarks.crossval import COVERED, simulate
from common.errors import InputError
from evaluation.confusion import confusion
from evaluation.cross_validation import (
    assign_folds,
    folds_interval,
    grouped_bootstrap,
    grouped_proportion,
    out_of_fold_temperatures,
)
from evaluation.intervals import bootstrap, macro_f1, proportion
from training.linear_head import solve

# --- folds ----------------------------------------------------------------------------------

def draw_groups(generator):
    """Photos of a few classes, in groups of one class or of several."""
    classes, count = generator.integers(2, 6), generator.integers(20, 120)
    groups = generator.integers(0, generator.integers(count // 3, count), count)
    class_ids = generator.integers(0, classes, count)
    if generator.random() < 0.5:  # every group shows one class
        class_ids = (groups * 7919) % classes
    return class_ids.astype(np.int32), groups, int(generator.integers(2, 6))


def test_groups_stay_together_and_every_fold_has_each_class():
    assigned_count = 0
    for seed in range(1000):
        class_ids, groups, folds = draw_groups(np.random.default_rng(seed))
        try:
            assigned = assign_folds(class_ids, groups, folds, seed, "abcdef")
        except InputError:
            continue
        assigned_count += 1
        assert set(assigned) == set(range(folds))
        for group in np.unique(groups):
            assert len(set(assigned[groups == group])) == 1
        for class_id in np.unique(class_ids):
            own = class_ids == class_id
            assert len(set(assigned[own])) > 1  # each fold's model learns every class
            if all(len(set(class_ids[groups == group])) == 1 for group in np.unique(groups[own])):
                assert len(set(assigned[own])) == folds  # and each is judged on it
    assert assigned_count > 500


def test_photos_of_no_group_are_spread_evenly():
    class_ids = np.repeat([0, 1, 2], [50, 23, 11])
    assigned = assign_folds(class_ids, np.arange(84), 5, 3, "abc")
    for class_id in range(3):
        counts = np.bincount(assigned[class_ids == class_id], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert (assigned != assign_folds(class_ids, np.arange(84), 5, 4, "abc")).any()
    assert (assigned == assign_folds(class_ids, np.arange(84), 5, 3, "abc")).all()


@pytest.mark.parametrize("groups, class_ids, message", [
    ([0, 0, 1, 2, 3, 4], [0, 0, 0, 1, 1, 1],
     "--folds: 3 is more than the groups of 'red': its 3 photos make 2, with near copies "
     "together; at most 2 folds are possible"),
    ([0, 1, 2, 3, 3, 3], [0, 0, 0, 1, 1, 1],
     "--folds: 3 is more than the groups of 'blue': its 3 photos make 1, with near copies "
     "together; add photos"),
    ([5] * 6, [0, 0, 0, 1, 1, 1],
     "--folds: all 6 photos belong to one group; photos of at least 2 groups are needed: name "
     "another --group, or add photos"),
])
def test_too_few_groups_are_refused(groups, class_ids, message):
    with pytest.raises(InputError) as error:
        assign_folds(np.array(class_ids), np.array(groups), 3, 0, ("red", "blue"))
    assert str(error.value) == message


# --- intervals ------------------------------------------------------------------------------

def test_interval_of_photos_of_no_group_is_that_of_wilson():
    """But for Student's quantile, and a variance of one photo less."""
    for right, count in ((450, 500), (3, 1000), (2000, 4000)):
        is_right = np.repeat([1.0, 0.0], [right, count - right])
        interval = grouped_proportion(is_right, np.arange(count))
        assert interval == pytest.approx(proportion(right, count), abs=2e-3 * count**-0.5 + 2e-4)


def test_interval_of_groups_is_that_of_robust_variance():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), generator.integers(1, 9, 40))
    is_right = (generator.random(len(groups)) < 0.4 + 0.5 * (groups % 2)).astype(float)
    fitted = sm.OLS(is_right, np.ones(len(groups))).fit()
    robust = fitted.get_robustcov_results("cluster", groups=groups, use_correction=False)
    variance, mean = 40 / 39 * robust.cov_params()[0, 0], is_right.mean()
    count, level = mean * (1 - mean) / variance, 0.9
    alpha = 2 * (1 - _normal(t.ppf((1 + level) / 2, 39)))  # statsmodels takes a normal quantile
    for folds, factor in ((None, 1), (5, 1.2)):
        expected = proportion_confint(mean * count / factor, count / factor, alpha, "wilson")
        interval = grouped_proportion(is_right, groups, folds, level)
        assert interval == pytest.approx(expected, abs=1e-9)
    assert count < len(groups) / 1.5


def _normal(quantile):
    from scipy.stats import norm

    return norm.cdf(quantile)


def test_interval_where_all_are_right_counts_groups():
    many, few = (grouped_proportion(np.ones(60), np.arange(60) // size) for size in (1, 10))
    assert many[1] == few[1] == 1 and few[0] < 0.6 < 0.9 < many[0] < 1
    assert grouped_proportion(np.ones(4), np.zeros(4)) == (0, 1)
    assert grouped_proportion(np.zeros(0), np.zeros(0)) == (0, 1)


def test_interval_by_folds():
    scores = [0.71, 0.8, 0.76, 0.83, 0.7]
    low, high = folds_interval(scores, 5)
    half_width = 2.7764451052 * np.sqrt((1 / 5 + 1 / 4) * np.var(scores, ddof=1))
    assert (low, high) == pytest.approx((0.76 - half_width, 0.76 + half_width))


def test_bootstrap_of_single_photos_is_that_of_the_matrix():
    generator = np.random.default_rng(1)
    true = generator.integers(0, 3, 300)
    predicted = np.where(generator.random(300) < 0.7, true, generator.integers(-1, 3, 300))
    matrix = np.column_stack([
        confusion(true, predicted, 3), np.bincount(true[predicted < 0], minlength=3)])
    single = grouped_bootstrap(macro_f1, true, predicted, np.arange(300), 3)
    assert single == pytest.approx(bootstrap(macro_f1, matrix), abs=0.01)
    doubled = [np.tile(values, 2) for values in (true, predicted, np.arange(300))]
    assert grouped_bootstrap(macro_f1, *doubled, 3) == pytest.approx(single, abs=1e-12)


def test_interval_covers_the_true_accuracy():
    """For the mean of the folds' models and for one of all photos; benchmarks/crossval has more."""
    low, high = COVERED
    for case in ("single photos", "series of ten"):
        folds_models, of_all = simulate(case)  # 200 data sets
        assert low <= folds_models <= high and low <= of_all <= high, case


def test_the_linear_heads_folds_are_scikit_learns():
    """The mean over photos of equal folds is the mean of `cross_val_score`."""
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(2)
    class_ids = np.arange(120) % 3
    features = generator.normal(size=(3, 8))[class_ids] + generator.normal(size=(120, 8))
    features = (features / np.sqrt(np.mean(features**2))).astype(np.float32)
    assigned = assign_folds(class_ids, np.arange(120), 4, 0, "abc")
    is_right = np.empty(120)
    for fold in range(4):
        learned = assigned != fold
        scale = np.sqrt(np.mean(features[learned] ** 2))
        kernel, bias = solve(features[learned] / scale, class_ids[learned], np.ones(90), 3)
        predicted = (features[~learned] / scale @ kernel + bias).argmax(axis=1)
        is_right[~learned] = predicted == class_ids[~learned]
    splits = [(np.flatnonzero(assigned != fold), np.flatnonzero(assigned == fold))
              for fold in range(4)]
    expected = cross_val_score(LogisticRegression(C=0.1, max_iter=500), features, class_ids,
                               cv=splits)
    assert is_right.mean() == pytest.approx(expected.mean(), abs=0.01)


def test_temperatures_come_from_other_folds():
    folds = np.array([0, 1, 2, 0, 1, 2])
    true, probabilities = np.arange(6), np.eye(6)
    temperatures = out_of_fold_temperatures(
        true, probabilities, folds, lambda rows, _: float(rows.sum()))
    assert temperatures.tolist() == [12, 10, 8, 12, 10, 8]
