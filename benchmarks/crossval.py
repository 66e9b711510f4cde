"""How often the interval of a cross-validation covers the true accuracy, on simulated data sets.

    python -m benchmarks.crossval [--data_sets 200]

A data set is drawn, divided into folds and learned by least squares; the true accuracy is that on
20,000 photos of new groups: of the folds' models on average, and of one model that learned all
photos.
"""

import argparse
from typing import NamedTuple

import numpy as np

from evaluation.cross_validation import assign_folds, folds_interval, grouped_proportion
from evaluation.intervals import proportion

COVERED = (0.92, 0.98)  # what an interval of 95 % should be within
FOLDS = 5
NEW_PHOTOS = 20_000


class Case(NamedTuple):
    """What photos are drawn from.

    Attributes:
        photos: int, of a data set.
        size: int, length of the features.
        classes: int.
        group_size: int, photos of a group.
        group_spread: float from 0 to 1, standard deviation of what a group has in common.
        separation: float, standard deviation of the classes' centres.
    """

    photos: int
    size: int
    classes: int
    group_size: int
    group_spread: float
    separation: float


CASES = {
    "few photos": Case(100, 8, 2, 1, 0.0, 0.6),
    "single photos": Case(300, 8, 3, 1, 0.0, 0.8),
    "series of five": Case(300, 8, 3, 5, 0.7, 1.0),
    "series of ten": Case(300, 8, 3, 10, 0.7, 0.8),
    "many features": Case(300, 32, 6, 1, 0.0, 0.35),
}


def simulate(name, data_sets=200):
    """How often the interval covers, by `CASES`.

    Args:
        name: str, a key of `CASES`.
        data_sets: int.

    Returns:
        (float, float), fraction of the data sets in which the interval has the true accuracy of
        the folds' models, and of the model of all photos.
    """
    return tuple(compare(name, data_sets)["grouped"])


def compare(name, data_sets):
    """dict of an interval's name -> [coverage of the folds' models, of that of all photos]."""
    hits = {}
    for number in range(data_sets):
        intervals, true_scores = _try(CASES[name], number)
        for kind, (low, high) in intervals.items():
            hits.setdefault(kind, []).append([low <= score <= high for score in true_scores])
    return {kind: np.mean(rows, axis=0).round(3).tolist() for kind, rows in hits.items()}


def _try(case, number):
    """(dict of intervals, true accuracies) of one data set."""
    generator = np.random.default_rng(number)
    centres = np.random.default_rng(99).normal(size=(case.classes, case.size)) * case.separation
    features, class_ids, groups = _draw(generator, case, centres, case.photos)
    new_features, new_class_ids, _ = _draw(generator, case, centres, NEW_PHOTOS)

    def learn(rows):
        return _learn(features[rows], class_ids[rows], case.classes)

    def accuracy(kernel):
        return (_predict(new_features, kernel) == new_class_ids).mean()

    assigned = assign_folds(class_ids, groups, FOLDS, number, "abcdefgh")
    is_right, true_scores = np.empty(len(class_ids)), []
    for fold in range(FOLDS):
        kernel, judged = learn(assigned != fold), assigned == fold
        is_right[judged] = _predict(features[judged], kernel) == class_ids[judged]
        true_scores.append(accuracy(kernel))
    fold_scores = [is_right[assigned == fold].mean() for fold in range(FOLDS)]
    intervals = {
        "grouped": grouped_proportion(is_right, groups, FOLDS),
        "grouped, as of one model": grouped_proportion(is_right, groups),
        "Wilson": proportion(is_right.sum(), len(is_right)),
        "between folds": folds_interval(fold_scores, FOLDS),
    }
    return intervals, (np.mean(true_scores), accuracy(learn(assigned >= 0)))


def _learn(features, class_ids, classes):
    """Kernel (D + 1, C) of a linear classifier, by least squares with a small penalty."""
    rows = np.column_stack([features, np.ones(len(features))])
    penalty = np.eye(rows.shape[1])
    return np.linalg.solve(rows.T @ rows + penalty, rows.T @ np.eye(classes)[class_ids])


def _predict(features, kernel):
    return (features @ kernel[:-1] + kernel[-1]).argmax(axis=1)


def _draw(generator, case, centres, count):
    """(features, class_ids, groups) of about `count` photos; a group is of one class."""
    groups = np.repeat(np.arange(count // case.group_size), case.group_size)
    class_ids = groups % case.classes
    shared = generator.normal(size=(groups[-1] + 1, case.size)) * case.group_spread
    own = generator.normal(size=(len(groups), case.size)) * np.sqrt(1 - case.group_spread**2)
    return centres[class_ids] + shared[groups] + own, class_ids, groups


def main():
    """Prints the coverage of every interval in every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_sets", type=int, default=200)
    data_sets = parser.parse_args().data_sets
    for name in CASES:
        print(name, compare(name, data_sets), flush=True)


if __name__ == "__main__":
    main()
