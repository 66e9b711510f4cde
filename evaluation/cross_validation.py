"""Cross-validation: which photos judge which model, and how far the scores can be trusted.

Every photo is judged by a model that has not seen it. Photos of a group resemble each other in
more than their class, so they count for less than as many photos of different groups.
"""

import numpy as np

from common.errors import InputError
from evaluation.intervals import ROUNDS


def assign_folds(class_ids, groups, folds, seed, class_names):
    """Divides photos into folds: groups stay together, and classes are spread evenly.

    Args:
        class_ids: int (N,), 0 to C-1.
        groups: int (N,), equal for photos that stay together.
        folds: int K, 2 or more.
        seed: int, of the random numbers.
        class_names: tuple of C str, for errors.

    Returns:
        int (N,), the fold of each photo, 0 to K-1.

    Raises:
        InputError: there are fewer groups than folds, in all or of a class; or the photos of a
            class end up in one fold.

    Example:
        >>> assign_folds(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3, 4]), 2, 0, "ab")
        array([0, 0, 1, 1, 0, 1])
    """
    from sklearn.model_selection import StratifiedGroupKFold

    _check_counts(class_ids, groups, folds, class_names)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    assigned = np.empty(len(class_ids), int)
    for fold, (_, positions) in enumerate(splitter.split(class_ids, class_ids, groups)):
        assigned[positions] = fold
    for class_id in np.unique(class_ids):
        if len(np.unique(assigned[class_ids == class_id])) == 1:
            raise InputError(
                f"--folds: {folds} folds leave all photos of {class_names[class_id]!r} in one, so "
                "nothing could learn the class; give another number, another --group, or more "
                "photos"
            )
    return assigned


def _check_counts(class_ids, groups, folds, class_names):
    """Refuses more folds than there are groups, naming the class that has fewest."""
    count = len(np.unique(groups))
    if count < 2:
        raise InputError(
            f"--folds: all {len(groups):,} photos belong to one group; photos of at least 2 groups "
            "are needed: name another --group, or add photos"
        )
    counts = {
        class_id: len(np.unique(groups[class_ids == class_id])) for class_id in np.unique(class_ids)
    }
    class_id = min(counts, key=counts.get)
    if counts[class_id] < folds:
        photos = int((class_ids == class_id).sum())
        most = f"at most {counts[class_id]} folds are possible" if counts[class_id] > 1 else ""
        raise InputError(
            f"--folds: {folds} is more than the groups of {class_names[class_id]!r}: its {photos} "
            f"photos make {counts[class_id]}, with near copies together; {most or 'add photos'}"
        )


def grouped_proportion(is_right, groups, folds=None, level=0.95):
    """Interval of the mean of answers that are right or wrong, some of them of the same group.

    Wilson's interval for the number of independent photos that would be as uncertain: that from
    the variance between groups, with Student's quantile for their number (Korn and Graubard 1998,
    "Confidence Intervals for Proportions with Small Expected Number of Positive Counts Estimated
    from Survey Data"; Dean and Pagano 2015, "Evaluating Confidence Interval Methods for Binomial
    Proportions in Clustered Surveys").

    Counted like answers of one model, out-of-fold answers make an interval that is too narrow,
    since the models learned from each other's photos (Bates, Hastie and Tibshirani 2023,
    "Cross-validation: What Does It Estimate and How Well Does It Do It?"). A K-th more variance
    is what brings its coverage to 95 % in simulations (docs/benchmarks.md).

    Args:
        is_right: float (N,), 0 to 1: with several seeds the fraction of right answers.
        groups: int (N,), equal for photos of one group.
        folds: int K, where the answers are out of fold; None for those of one model.
        level: float, from 0 to 1.

    Returns:
        (float, float); (0, 1) where fewer than 2 groups say nothing about others.

    Example:
        >>> grouped_proportion(np.repeat([1.0, 0.0], [90, 10]), np.arange(100))
        (0.8240678601435705, 0.9453339103422428)
    """
    from scipy.stats import t

    is_right = np.asarray(is_right, np.float64)
    _, inverse = np.unique(groups, return_inverse=True)
    count, group_count = len(is_right), int(inverse.max()) + 1 if len(inverse) else 0
    if group_count < 2:
        return 0.0, 1.0
    mean = is_right.mean()
    residuals = np.bincount(inverse, is_right - mean)
    variance = group_count / (group_count - 1) * np.sum(residuals**2) / count**2
    # Where all answers are alike the variance tells nothing: a group counts as one photo.
    independent = mean * (1 - mean) / variance if variance > 1e-18 else group_count
    independent = min(independent, count) / (1 + (1 / folds if folds else 0))
    return _wilson(mean, independent, t.ppf((1 + level) / 2, group_count - 1))


def _wilson(mean, count, quantile):
    """Wilson's interval of a mean of `count` answers, which need not be a whole number."""
    scale = 1 + quantile**2 / count
    center = mean + quantile**2 / (2 * count)
    spread = mean * (1 - mean) / count + quantile**2 / (4 * count**2)
    low, high = ((center + sign * quantile * np.sqrt(spread)) / scale for sign in (-1, 1))
    return max(0.0, float(low)), min(1.0, float(high))


def folds_interval(scores, folds, level=0.95):
    """Interval of a score by how much it differs from fold to fold.

    Each fold's model learned from mostly the same photos as the others', so the plain t interval
    is too narrow; the correction is that of Nadeau and Bengio 2003, "Inference for the
    Generalization Error", section 5.

    Args:
        scores: float (M,), of M models, one per fold and seed, at least 2.
        folds: int K.
        level: float, from 0 to 1.

    Returns:
        (float, float), which may exceed 0 to 1.

    Example:
        >>> folds_interval([0.8, 0.9, 0.85, 0.9, 0.8], folds=5)
        (0.7568752001347177, 0.9431247998652823)
    """
    from scipy.stats import t

    scores = np.asarray(scores, np.float64)
    variance = (1 / len(scores) + 1 / (folds - 1)) * scores.var(ddof=1)
    half_width = t.ppf((1 + level) / 2, len(scores) - 1) * np.sqrt(variance)
    return float(scores.mean() - half_width), float(scores.mean() + half_width)


def grouped_bootstrap(statistic, true, predicted, groups, classes, level=0.95, seed=0):
    """Percentile interval of a statistic of a confusion matrix; whole groups are drawn again.

    `intervals.bootstrap` draws photos, which is the same where each is a group of its own.

    Args:
        statistic: function from a float (C, C + 1) matrix to float: true by predicted class, and
            a last column of those without an answer.
        true: int (N,), class ids.
        predicted: int (N,), class ids, below 0 without an answer.
        groups: int (N,), equal for photos of one group.
        classes: int C.
        level: float, from 0 to 1.
        seed: int, of the random numbers.

    Returns:
        (float, float).
    """
    _, inverse = np.unique(groups, return_inverse=True)
    group_count = int(inverse.max()) + 1
    columns = np.where(np.asarray(predicted) < 0, classes, predicted)
    cells, shape = np.asarray(true) * (classes + 1) + columns, (classes, classes + 1)
    generator = np.random.default_rng(seed)
    statistics = []
    for _ in range(ROUNDS):
        draws = np.bincount(
            generator.integers(group_count, size=group_count), minlength=group_count
        )
        matrix = np.bincount(cells, draws[inverse], shape[0] * shape[1]).reshape(shape)
        statistics.append(statistic(matrix))
    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def out_of_fold_temperatures(true, probabilities, folds, fit):
    """Fits a temperature for each fold on the answers of the others.

    Args:
        true: int (N,), class ids.
        probabilities: float (N, C), out of fold.
        folds: int (N,), the fold of each photo.
        fit: function (true, probabilities) -> float.

    Returns:
        float (N,), for each photo a temperature that it had no part in.

    Example:
        >>> def count_others(true, probabilities):  # in the place of `calibrate.fit_temperature`
        ...     return float(len(true))
        >>> folds = np.array([0, 0, 1])
        >>> out_of_fold_temperatures(np.zeros(3), np.ones((3, 2)), folds, count_others)
        array([1., 1., 2.])
    """
    temperatures = np.empty(len(true))
    for fold in np.unique(folds):
        is_own = folds == fold
        temperatures[is_own] = fit(true[~is_own], probabilities[~is_own])
    return temperatures
