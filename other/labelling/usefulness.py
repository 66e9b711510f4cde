"""Which photos a person should label first, and what a model gains from the labels.

Few labels go far where they stand for many photos that the model is unsure of. The order is
greedy facility location, as in Wei et al. 2015, "Submodularity in Data Subset Selection and Active
Learning": a photo covers others by the cosine of their features, and each counts by how unsure
the model is of it. What is labelled covers, too. So near copies do not follow each other, single
odd photos do not come before what many look like, and without a model the order is that of typical,
different photos.
"""

from typing import NamedTuple

import numpy as np

from common.nearest import unit_rows

FIRST_COUNT = 200  # photos whose order is exact; a person asks again before they are done
# Photos among which these are searched: the cosines of all with all take 64 MB
MOST_COMPARED = 4096
BLOCK_ROWS = 4096
# What a photo counts that the model is sure of: a class not labelled yet is where it errs surely
LEAST_WEIGHT = 0.1
RECHECKED = 64  # gains worked out again at once, of those that may be the largest
FOLDS = 5
ROUNDS = 200  # resamplings of a bootstrap
LIMITS = (0.025, 0.975)  # of its intervals


class LearningEstimate(NamedTuple):
    """What a model gains from labels, by cross-validation.

    Attributes:
        accuracy: float, expected of the head that has learned from all labels.
        interval: (float, float), of it, 95 %, by a bootstrap of the labels, and at
            least as wide as that of a proportion of so many.
        half_accuracy: float, expected with half of the labels of each class.
        gain_interval: (float, float), of accuracy - half_accuracy, 95 %.
        label_count: int, labels N.
    """

    accuracy: float
    interval: tuple[float, float]
    half_accuracy: float
    gain_interval: tuple[float, float]
    label_count: int


def rank(features, probabilities=None, labelled_features=None, count=FIRST_COUNT):
    """The order in which photos are worth a label, the most useful first.

    The same input gives the same order. Of more than `MOST_COMPARED` photos, the first `count`
    come from that many: half of them those with the smallest margins, half evenly spaced.

    Args:
        features: float16 or float32 (N, D), finite, of the photos without a label; a
            `numpy.memmap` is read block by block.
        probabilities: float (N, C), the model's; C may be less than the classes that there will
            be. None, or C below 2, where there is no model yet: the features decide.
        labelled_features: float (L, D), of the photos that have a label; None for none.
        count: int, photos whose order is exact. The others follow, smallest margin first.

    Returns:
        int (N,), indices of rows.

    Raises:
        ValueError: features or probabilities are not finite, or do not fit each other.

    Example:
        >>> photos = np.float32([[1, 0], [1, 0], [0, 1]])  # two copies and another
        >>> rank(photos)
        array([0, 2, 1])
    """
    features = np.asanyarray(features)
    labelled = np.empty((0, features.shape[1])) if labelled_features is None else labelled_features
    _check(features, probabilities, labelled)
    weights = _weights(probabilities, len(features))
    compared = _compared_rows(weights)
    rows = unit_rows(features[compared], np.float32)
    first = compared[_cover(rows, unit_rows(labelled, np.float32), weights[compared], count)]
    is_first = np.zeros(len(features), bool)
    is_first[first] = True
    by_weight = np.argsort(-weights, kind="stable")
    return np.concatenate([first, by_weight[~is_first[by_weight]]])


def _check(features, probabilities, labelled):
    for name, rows in (("features", features), ("labelled_features", labelled)):
        blocks = (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))
        if not all(np.isfinite(block).all() for block in blocks):
            raise ValueError(f"{name}: NaN or infinite")
    if len(labelled) and np.shape(labelled)[1] != features.shape[1]:
        raise ValueError(
            f"labelled_features: rows of {np.shape(labelled)[1]}, those of features have "
            f"{features.shape[1]}"
        )
    if probabilities is None:
        return
    if len(probabilities) != len(features):
        raise ValueError(f"probabilities: {len(probabilities)} rows for {len(features)} photos")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities: NaN or infinite")


def _weights(probabilities, photo_count):
    """float32 (N,), how unsure the model is of each photo: 1 minus the margin, or the least."""
    if probabilities is None or np.shape(probabilities)[1] < 2:
        return np.ones(photo_count, np.float32)
    margins = np.round(_margins(probabilities), 5)  # the last bits differ between machines
    return np.maximum(LEAST_WEIGHT, 1 - margins)


def _margins(probabilities):
    """float32 (N,), the largest probability minus the second."""
    largest = np.partition(np.asarray(probabilities, np.float32), (-2, -1), axis=1)[:, -2:]
    return largest[:, 1] - largest[:, 0]


def _compared_rows(weights):
    """int (M,), indices in their order: all rows, or `MOST_COMPARED`."""
    if len(weights) <= MOST_COMPARED:
        return np.arange(len(weights))
    by_weight = np.argsort(-weights, kind="stable")
    least_sure = by_weight[: MOST_COMPARED // 2]
    others = np.sort(by_weight[MOST_COMPARED // 2 :])
    steps = np.linspace(0, len(others) - 1, MOST_COMPARED - len(least_sure)).astype(int)
    return np.sort(np.concatenate([least_sure, others[steps]]))


def _cover(rows, labelled, weights, count):
    """The first `count` rows by what each adds to what is covered, int array.

    A gain never grows while rows are chosen, so gains worked out earlier are upper bounds and most
    need no new look (Minoux 1978, "Accelerated greedy algorithms").
    """
    similarities = np.maximum(rows @ rows.T, 0)
    covered = np.zeros(len(rows), np.float32)
    if len(labelled):
        covered = np.maximum(rows @ labelled.T, 0).max(axis=1)
    gains = _gains(similarities, covered, weights)
    chosen = []
    for _ in range(min(count, len(rows))):
        is_fresh = np.isneginf(gains)  # those chosen already
        while not is_fresh[best := int(gains.argmax())]:
            stale = np.flatnonzero(~is_fresh)
            stale = stale[np.argsort(-gains[stale], kind="stable")[:RECHECKED]]
            gains[stale] = _gains(similarities[stale], covered, weights)
            is_fresh[stale] = True
        chosen.append(best)
        gains[best] = -np.inf
        covered = np.maximum(covered, similarities[best])
    return np.array(chosen, int)


def _gains(similarities, covered, weights):
    """float64 (K,), the weighted sum by which each of K rows would cover all rows better."""
    gains = np.empty(len(similarities))
    for start in range(0, len(similarities), RECHECKED):
        block = similarities[start : start + RECHECKED]
        gains[start : start + RECHECKED] = np.maximum(block - covered, 0) @ weights
    return np.round(gains, 4)  # the last bits depend on the block


def learning_estimate(features, class_ids, class_count, other_features=None):
    """What the labels so far give, and what half of them would: the linear head, cross-validated.

    Photos chosen as `rank` does are harder than most: among them, accuracy is up to 0.2 lower than
    among the others. So it is learned from the labels how often answers of each margin are right
    (isotonic regression, on photos that the head has not learned from), and applied to the margins
    of the other photos.

    Args:
        features: float (N, D), of the photos that have a label.
        class_ids: int (N,), their classes, 0 to C-1.
        class_count: int, number of classes C.
        other_features: float (M, D), of the photos without a label, on which the accuracy is
            wanted; at most `MOST_COMPARED`, evenly spaced, are looked at. None: of photos such as
            those with a label, which is plain cross-validation.

    Returns:
        `LearningEstimate`; None where no two classes have `FOLDS` labels, which is too little to
        say anything.

    Example:

    ```python
    estimate = learning_estimate(features, class_ids, 6, other_features)
    print(f"about {estimate.accuracy:.0%} now ({estimate.half_accuracy:.0%} with half of them)")
    ```
    """
    from threadpoolctl import threadpool_limits

    from evaluation.intervals import proportion

    features, class_ids = np.asarray(features, np.float32), np.asarray(class_ids)
    if (np.bincount(class_ids, minlength=class_count) >= FOLDS).sum() < 2:
        return None
    others = None
    if other_features is not None and len(other_features):
        steps = np.linspace(0, len(other_features) - 1, min(len(other_features), MOST_COMPARED))
        others = np.asarray(other_features[steps.astype(int)], np.float32)
    half = np.sort(_deal(class_ids)[::2])
    with threadpool_limits(1):  # two threads that wait for each other took 20 times as long, once
        accuracy, drawn = _estimate(features, class_ids, class_count, others)
        half_accuracy, half_drawn = _estimate(features[half], class_ids[half], class_count, others)
    # Where every answer is right a bootstrap has no width, but so many labels leave a doubt
    least, most = proportion(round(accuracy * len(class_ids)), len(class_ids))
    low, high = np.quantile(drawn, LIMITS)
    least_gain, most_gain = np.quantile(drawn - half_drawn, LIMITS)
    return LearningEstimate(
        accuracy,
        (min(float(low), least), max(float(high), most)),
        half_accuracy,
        (float(least_gain), float(most_gain)),
        len(class_ids),
    )


def _deal(class_ids):
    """int (N,), rows by class, in each by chance: every k-th has of each class about 1/k."""
    shuffled = np.random.default_rng(0).permutation(len(class_ids))
    return shuffled[np.argsort(class_ids[shuffled], kind="stable")]


def _estimate(features, class_ids, class_count, others):
    """(accuracy on the others, float (ROUNDS,) the same after drawing the labels again)."""
    from training import linear_head

    folds = np.empty(len(class_ids), int)
    folds[_deal(class_ids)] = np.arange(len(class_ids)) % FOLDS
    is_right, margins = np.zeros(len(class_ids), bool), np.zeros(len(class_ids))
    for fold in range(FOLDS):
        judged = folds == fold
        learned = (~judged).astype(np.float32)
        head = linear_head.solve(features, class_ids, learned, class_count)
        probabilities = _answer(features[judged], head)
        is_right[judged] = probabilities.argmax(axis=1) == class_ids[judged]
        margins[judged] = _margins(probabilities)
    other_margins = margins
    if others is not None:
        every_one = np.ones(len(class_ids), np.float32)
        head = linear_head.solve(features, class_ids, every_one, class_count)
        other_margins = _margins(_answer(others, head))
    draws = np.random.default_rng(0).integers(len(class_ids), size=(ROUNDS, len(class_ids)))
    drawn = [_accuracy(is_right[rows], margins[rows], other_margins) for rows in draws]
    return _accuracy(is_right, margins, other_margins), np.array(drawn)


def _answer(features, head):
    """float (N, C), the probabilities that a head gives."""
    from scipy.special import softmax

    kernel, bias = head
    return softmax(features @ kernel + bias, axis=1)


def _accuracy(is_right, margins, other_margins):
    """float, the fraction of right answers at other margins, from bool (N,) and float (N,)."""
    from sklearn.isotonic import IsotonicRegression

    regression = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    regression.fit(margins, is_right.astype(float))
    return float(regression.predict(other_margins).mean())
