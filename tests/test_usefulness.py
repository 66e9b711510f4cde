"""Which photos to label first, on cases worked out by hand, and what labels give."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from other.labelling import usefulness
from other.labelling.usefulness import learning_estimate, rank
from training.linear_head import PENALTY_C


def at(*degrees):
    """Features of unit length in a plane."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)


def clusters(sizes, seed=0, size=16, spread=0.1):
    """Features around one axis per cluster, shuffled, and the cluster of each."""
    generator = np.random.default_rng(seed)
    names = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    noise = spread * generator.normal(size=(len(names), size))
    return (np.eye(size)[names] + noise).astype(np.float32), names


def greedy(features, weights, labelled, count):
    """Facility location as its definition says, without any of the shortcuts."""
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    known = labelled / np.linalg.norm(labelled, axis=1, keepdims=True)
    covered = np.maximum(0, units @ known.T).max(axis=1) if len(known) else np.zeros(len(units))
    chosen = []
    for _ in range(count):
        gains = [-1 if row in chosen else
                 sum(weight * max(0, other @ units[row] - least)
                     for weight, other, least in zip(weights, units, covered))
                 for row in range(len(units))]
        chosen.append(int(np.argmax(gains)))
        covered = np.maximum(covered, units @ units[chosen[-1]])
    return chosen


def test_a_duplicate_comes_after_different_photos():
    assert rank(at(0, 0, 0, 60, 90)).tolist() in ([0, 3, 4, 1, 2], [0, 4, 3, 1, 2])
    order = rank(at(0, 0, 80), np.tile([[0.5, 0.5]], (3, 1)))
    assert order.tolist() == [0, 2, 1]


def test_far_from_what_is_labelled_before_near():
    assert rank(at(5, 80), labelled_features=at(0)).tolist() == [1, 0]
    assert rank(at(80, 5), labelled_features=at(0)).tolist() == [0, 1]


def test_small_margin_before_large():
    features = np.eye(3, dtype=np.float32)
    probabilities = np.array([[0.9, 0.05, 0.05], [0.5, 0.45, 0.05], [0.6, 0.3, 0.1]])
    assert rank(features, probabilities).tolist() == [1, 2, 0]


def test_many_alike_before_a_single_odd_one():
    plane = np.pad(at(-20, 0, 20), ((0, 0), (0, 1)))
    assert rank(np.float32([[0, 0, 1], *plane])).tolist()[:2] == [2, 0]


def test_a_cold_start_takes_one_photo_of_each_cluster():
    features, names = clusters([40, 25, 12, 6, 30])
    assert sorted(names[rank(features)[:5]]) == [0, 1, 2, 3, 4]


def test_a_class_that_the_model_does_not_know_comes_first():
    """The model is sure of it, since it knows only the two classes that are labelled."""
    features, names = clusters([30, 30, 30])
    probabilities = np.where((names == 2)[:, None], [[1.0, 0.0]], [[0.98, 0.02]])
    labelled = np.eye(16, dtype=np.float32)[:2]
    assert names[rank(features, probabilities, labelled)[0]] == 2


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition(seed):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(70, 6)).astype(np.float32)
    probabilities = generator.dirichlet(np.ones(4), 70)
    labelled = features[:10] + 0.1
    ordered = np.sort(probabilities, axis=1)
    weights = np.maximum(0.1, 1 - (ordered[:, 3] - ordered[:, 2]))
    expected = greedy(features.astype(float), weights, labelled.astype(float), 20)
    assert rank(features, probabilities, labelled, 20)[:20].tolist() == expected


def test_every_photo_once_and_always_the_same(monkeypatch):
    monkeypatch.setattr(usefulness, "MOST_COMPARED", 100)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(1000, 8)).astype(np.float16)
    probabilities = generator.dirichlet(np.ones(3), 1000)
    order = rank(features, probabilities, features[:5], count=20)
    assert sorted(order) == list(range(1000))
    assert np.array_equal(order, rank(features, probabilities, features[:5], count=20))
    ordered = np.sort(probabilities, axis=1)
    margins = ordered[:, 2] - ordered[:, 1]
    assert (np.diff(margins[order[20:]][:500]) > -1e-5).all()
    assert np.median(margins[order[:20]]) < np.median(margins)


def test_rows_of_all_parts_are_compared(monkeypatch):
    monkeypatch.setattr(usefulness, "MOST_COMPARED", 100)
    features, names = clusters([600, 600, 600])
    in_order = np.argsort(names, kind="stable")
    assert sorted(names[in_order][rank(features[in_order])[:3]]) == [0, 1, 2]


def test_no_photo_and_one():
    assert rank(np.empty((0, 4), np.float32)).tolist() == []
    assert rank(np.empty((0, 4), np.float32), np.empty((0, 3)), at(0, 1).repeat(2, 1)).size == 0
    assert rank(at(10)).tolist() == [0]
    assert rank(at(10), np.array([[0.7, 0.3]]), at(10)).tolist() == [0]


def test_a_model_of_one_class_says_nothing():
    assert rank(at(5, 80), np.ones((2, 1)), at(0)).tolist() == [1, 0]


@pytest.mark.parametrize("broken", ["features", "probabilities", "labelled_features"])
def test_nan_is_refused(broken):
    given = {"features": at(0, 50), "probabilities": np.full((2, 2), 0.5),
             "labelled_features": at(90)}
    given[broken][0, 0] = np.nan
    with pytest.raises(ValueError, match=f"^{broken}: NaN or infinite"):
        rank(**given)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="probabilities: 3 rows for 2 photos"):
        rank(at(0, 1), np.ones((3, 2)))
    with pytest.raises(ValueError, match="labelled_features: rows of 3, those of features have 2"):
        rank(at(0, 1), labelled_features=np.ones((1, 3)))


# --- what labels give -----------------------------------------------------------------------

def test_cross_validation_is_that_of_scikit_learn():
    features, class_ids = clusters([40, 30, 20], spread=0.6)
    estimate = learning_estimate(features, class_ids, 3)
    folds = np.empty(90, int)
    dealt = usefulness._deal(class_ids)
    folds[dealt] = np.arange(90) % 5
    for one, size in enumerate((40, 30, 20)):
        assert set(np.bincount(folds[class_ids == one])) == {size // 5}

    def accuracy(rows, folds):
        accuracies = np.empty(len(rows), bool)
        for fold in range(5):  # the penalty is on features of unit mean square, of those learned
            learned, judged = rows[folds != fold], rows[folds == fold]
            scale = np.sqrt(np.mean(features[learned] ** 2))
            regression = LogisticRegression(C=PENALTY_C, max_iter=500)
            regression.fit(features[learned] / scale, class_ids[learned])
            answers = regression.predict(features[judged] / scale)
            accuracies[folds == fold] = answers == class_ids[judged]
        return accuracies.mean()

    assert 0.5 < estimate.accuracy < 0.95
    assert estimate.accuracy == pytest.approx(accuracy(np.arange(90), folds), abs=1e-6)
    half = np.sort(dealt[::2])
    folds = np.empty(45, int)
    folds[usefulness._deal(class_ids[half])] = np.arange(45) % 5
    assert estimate.half_accuracy == pytest.approx(accuracy(half, folds), abs=1e-6)
    assert estimate.interval[0] < estimate.accuracy < estimate.interval[1]
    gain = estimate.accuracy - estimate.half_accuracy
    assert estimate.gain_interval[0] < gain < estimate.gain_interval[1]
    assert estimate.label_count == 90


def test_labels_of_hard_photos_say_what_the_others_give():
    """Labelled are mostly photos between the classes; of all photos far more are named right."""
    generator = np.random.default_rng(1)
    positions = generator.normal(size=(4000, 1)) * 2
    class_ids = (positions[:, 0] + generator.normal(size=4000) > 0).astype(int)
    features = np.concatenate([positions, np.ones((4000, 1))], 1).astype(np.float32)
    chances = np.exp(-2 * np.abs(positions[:, 0])) + 0.02
    chosen = generator.choice(4000, 300, replace=False, p=chances / chances.sum())
    others = np.setdiff1d(np.arange(4000), chosen)
    plain = learning_estimate(features[chosen], class_ids[chosen], 2)
    estimate = learning_estimate(features[chosen], class_ids[chosen], 2, features[others])
    truth = ((positions[others, 0] > 0) == class_ids[others]).mean()
    assert plain.accuracy < truth - 0.1
    assert estimate.accuracy == pytest.approx(truth, abs=0.05)
    assert estimate.interval[0] < truth < estimate.interval[1]


def test_too_few_labels_say_nothing():
    features, class_ids = clusters([30, 4])
    assert learning_estimate(features, class_ids, 2) is None
    assert learning_estimate(features[:0], class_ids[:0], 2) is None
    features, class_ids = clusters([5, 5, 1])
    assert learning_estimate(features, class_ids, 4) is not None


def test_labels_without_an_error_leave_a_doubt():
    features, class_ids = clusters([20, 20])
    estimate = learning_estimate(features, class_ids, 2, features)
    assert estimate.accuracy == 1
    assert estimate.interval == pytest.approx((0.9124, 1), abs=1e-4)  # Wilson: 40 / (40 + 1.96^2)
