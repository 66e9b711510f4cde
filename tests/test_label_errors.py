"""Doubtful labels: margins of training steps, and what is made of them and of answers."""

import csv
import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from common.errors import InputError
from data.samples import Samples
from evaluation import label_errors
from runs.margin_files import read_margins, write_margins, write_trained_on
from training import label_margins

NAN = np.nan


def margins_by_hand(labels, probabilities, weights):
    found = []
    for label, row, weight in zip(labels, probabilities, weights):
        others = [value for position, value in enumerate(row) if position != label]
        found.append(np.log(row[label] / max(others)) if weight else NAN)
    return found


def test_margins_of_several_batches():
    generator = np.random.default_rng(0)
    metric = label_margins.Margins(20)
    for _ in range(2):  # a reset begins anew
        metric.reset_state()
        expected = []
        for size in (8, 8, 3):
            labels = generator.integers(0, 4, size)
            probabilities = generator.dirichlet(np.ones(4), size).astype(np.float32)
            weights = (generator.random(size) < 0.7).astype(np.float32)
            smoothed = np.eye(4, dtype=np.float32)[labels] * 0.9 + 0.025
            metric.update_state(smoothed, probabilities, weights)
            expected += margins_by_hand(labels, probabilities, weights)
        assert np.allclose(np.asarray(metric.values)[:19], expected, rtol=1e-4, equal_nan=True)


def test_a_probability_of_nought():
    metric = label_margins.Margins(2)
    metric.update_state(np.eye(2), np.array([[0.0, 1.0], [0.0, 1.0]]), np.ones(2))
    low, high = np.asarray(metric.values)
    assert -100 < low < -50 and 50 < high < 100


def test_an_epoch_is_written_in_the_samples_order(tmp_path):
    """Drawn in another order, one image twice (the last counts) and one not at all."""
    order = [np.array([2, 0]), np.array([3, 2])]

    class Batches:
        samples = SimpleNamespace(file_names=list("abcd"))
        rows = staticmethod(lambda number: (order[number], np.ones(2, bool)))
        __len__ = staticmethod(lambda: 2)

    write_trained_on(tmp_path, Samples(str(tmp_path), list("abcd"), np.arange(4)))
    metric = SimpleNamespace(values=np.array([1.0, -2.0, 3.0, 4.0, 99.0]))
    writer = label_margins.MarginWriter(metric, Batches(), str(tmp_path))
    for epoch in (0, 1):
        writer.on_epoch_begin(epoch)
        writer.on_test_begin()
    images, found = read_margins(tmp_path)
    assert [images[str(tmp_path / name)] for name in "abcd"] == [(n, n) for n in range(4)]
    np.testing.assert_array_equal(found, [[-2, NAN, 4, 3]] * 2)


def test_a_model_is_fitted_with_them():
    """Validation resets them; what is written are the training's, one a row."""
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    y = np.eye(2, dtype=np.float32)[np.arange(10) % 2]
    model = keras.Sequential([keras.layers.Dense(2, activation="softmax")])
    metric = label_margins.Margins(10)
    model.compile("sgd", "categorical_crossentropy", weighted_metrics=[metric])
    model.optimizer.learning_rate = 0.0  # so that the model afterwards is that of every step
    kept = []
    watcher = keras.callbacks.Callback()
    watcher.on_test_begin = lambda logs=None: kept.append(np.array(metric.values))
    model.fit(x, y, 4, 2, verbose=0, shuffle=False, sample_weight=np.ones(10),
              callbacks=[watcher], validation_data=(x[:3], y[:3], np.ones(3)))
    expected = margins_by_hand(y.argmax(1), model.predict(x, verbose=0), np.ones(10))
    assert np.allclose(kept, [expected] * 2, atol=1e-5)


@pytest.mark.parametrize("accuracy, validation, epochs", [
    # Chance, on the way, then able: everything from 0.7 of the best on.
    ((0.1, 0.4, 0.7, 0.8), (0.1, 0.6, 0.8, 0.9), [2, 3]),
    # From the third epoch on it gets more of its own images right than ever of others.
    ((0.5, 0.8, 0.95, 1.0), (0.7, 0.9, 0.88, 0.9), [0, 1]),
    # It recites from the first: that one is the least bad.
    ((0.95, 1.0), (0.8, 0.9), [0]),
    ((0.5,), (0.0,), [0]),
])
def test_telling_epochs(accuracy, validation, epochs):
    assert label_errors.telling_epochs(accuracy, validation).tolist() == epochs


def confident_by_hand(true, probabilities):
    """Northcutt et al. 2021, equations 1 and 2, image by image."""
    classes = probabilities.shape[1]
    thresholds = []
    for label in range(classes):
        own = [row[label] for row, t in zip(probabilities, true) if t == label]
        thresholds.append(sum(own) / len(own) if own else None)
    found = []
    for row, label in zip(probabilities, true):
        reached = [j for j in range(classes)
                   if thresholds[j] is not None and row[j] >= thresholds[j]]
        best = max(reached, key=lambda j: row[j]) if reached else label
        found.append(best if row[best] > row[label] else label)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_confident_is_the_papers(seed):
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 4, 200)  # the fifth class has no image
    probabilities = generator.dirichlet(np.ones(5) * 0.5, 200)
    probabilities[np.arange(200), true] += generator.random(200)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = label_errors.confident(true, probabilities)
    assert found.tolist() == confident_by_hand(true, probabilities)
    assert 0 < (found != true).sum() < 100 and not (found == 4).any()


@pytest.fixture
def run(tmp_path):
    """A run trained on a to d of three epochs, of which the last two count."""
    data = tmp_path / "data"
    data.mkdir()
    samples = Samples(str(data), ["a", "b", "c", "d", "new"], np.array([0, 1, 0, 1, 0], np.int32))
    write_trained_on(tmp_path, samples.select(np.arange(4)))
    for epoch, row in enumerate(([-9, -9, -9, -9], [1, -2, NAN, NAN], [1, 1, -1, NAN])):
        write_margins(tmp_path, epoch, np.array(row, np.float16))
    with open(tmp_path / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"])
        writer.writerows([(1, 1, 0.5, 1, 0.5, 1), (2, 1, 0.7, 1, 0.9, 1), (3, 1, 0.8, 1, 0.9, 1)])
    return SimpleNamespace(path=str(tmp_path), samples=samples)


def find(path, samples, *more, **others):
    return label_errors.find(label_errors.recall(path, samples), samples, *more, **others)


PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9], [0.05, 0.95]])


def test_of_images_trained_on_margins_tell_of_others_answers(run):
    """`new` has a class that one image with that label is surer to have: its answer counts."""
    more = Samples(run.samples.folder, [*run.samples.file_names, "sure"],
                   np.append(run.samples.class_ids, 1).astype(np.int32))
    probabilities = np.concatenate([PROBABILITIES, [[0.1, 0.9]]])
    found = find(run.path, more, probabilities)
    assert [(each.position, each.suggested, each.how) for each in found] == [
        (4, 1, "prediction"), (2, 1, "training"), (1, 0, "training"),
    ]
    assert np.allclose([each.score for each in found], [np.log(0.05 / 0.95), -1, -0.5])
    assert label_errors.trained_on(run.path, more).tolist() == [True] * 4 + [False] * 2
    found = find(run.path, more, probabilities, undecodable=[1, 4])
    assert [each.position for each in found] == [2]


def test_a_label_corrected_since_is_not_judged_by_the_old_ones_margins(run):
    labels = run.samples.class_ids.copy()
    labels[1] = 0
    samples = run.samples._replace(class_ids=labels)
    assert [each.position for each in find(run.path, samples, PROBABILITIES)] == [2]
    assert label_errors.trained_on(run.path, samples)[1]


def test_the_same_names_in_another_folder_were_not_trained_on(run, tmp_path):
    samples = run.samples._replace(folder=str(tmp_path / "elsewhere"))
    assert not label_errors.trained_on(run.path, samples).any()
    assert all(each.how == "prediction"
               for each in find(run.path, samples, PROBABILITIES))
    # Through a link it is the same folder.
    os.symlink(run.samples.folder, tmp_path / "link")
    samples = run.samples._replace(folder=str(tmp_path / "link"))
    assert label_errors.trained_on(run.path, samples).sum() == 4


def test_without_the_run_answers_tell(run):
    found = find(None, run.samples, PROBABILITIES)
    assert {each.how for each in found} <= {"prediction"}


@pytest.mark.parametrize("damage", ["cut", "short", "table"])
def test_damaged_margins_are_refused(run, damage):
    if damage == "table":
        with open(os.path.join(run.path, "margins", "images.csv"), "a") as file:
            file.write("one more,x\n")
    else:
        path = os.path.join(run.path, "margins", "00002.npy")
        if damage == "cut":
            os.truncate(path, 20)
        else:
            np.save(path, np.zeros(3, np.float16))
    with pytest.raises(InputError, match="margins"):
        find(run.path, run.samples, PROBABILITIES)


def test_images_without_margins_are_counted(run):
    """Of d nothing was drawn in the epochs that count; the others have margins or were not seen."""
    assert label_errors.recall(run.path, run.samples).unjudged == 1
    for name in os.listdir(os.path.join(run.path, "margins")):
        if name.endswith(".npy"):
            os.unlink(os.path.join(run.path, "margins", name))
    assert label_errors.recall(run.path, run.samples).unjudged == 4


def test_margins_belong_to_the_epoch_in_their_name(run):
    """The second epoch left none, as on several devices; a part of a file counts for nothing."""
    folder = os.path.join(run.path, "margins")
    os.unlink(os.path.join(folder, "00002.npy"))
    with open(os.path.join(folder, ".partial-00004.npy"), "wb") as file:
        file.write(b"cut")
    results = os.path.join(run.path, "results.csv")
    with open(results) as file:
        text = file.read().replace("2,1,0.7,1,0.9", "2,1,0.7,1,0.5")  # the third alone counts
    with open(results, "w") as file:
        file.write(text)
    found = find(run.path, run.samples.select(np.arange(4)), PROBABILITIES[:4])
    assert [(each.position, each.score) for each in found] == [(2, -1)]


def test_a_run_without_results_judges_nothing_by_margins(run):
    os.unlink(os.path.join(run.path, "results.csv"))
    samples = run.samples.select(np.arange(4))
    assert find(run.path, samples, PROBABILITIES[:4]) == []
    assert label_errors.recall(run.path, samples).unjudged == 4


def test_a_folder_that_was_moved_is_known_by_its_names(run, tmp_path):
    """Only where it has all of them, and the old one is gone."""
    moved = run.samples._replace(folder=str(tmp_path / "moved"))
    os.rename(run.samples.folder, moved.folder)
    assert label_errors.trained_on(run.path, moved).tolist() == [True] * 4 + [False]
    assert not label_errors.trained_on(run.path, moved.select(np.arange(3))).any()


@pytest.mark.parametrize("devices, mixup, cutmix, lesson, kept", [
    (1, 0, 0, None, 1), (2, 0, 0, None, 0), (1, 0.2, 0, None, 0), (1, 0, 1.0, None, 0),
    (1, 0, 0, "a teacher's", 0),
])
def test_margins_are_kept_where_they_tell_of_a_label(devices, mixup, cutmix, lesson, kept):
    job = SimpleNamespace(
        options=SimpleNamespace(mixup=mixup, cutmix=cutmix),
        training=SimpleNamespace(file_names=list("abc")),
        validation=SimpleNamespace(file_names=list("ab")),
        lesson=lesson,
    )
    devices = SimpleNamespace(sharding=SimpleNamespace(devices=devices))
    found = label_margins.make_margins(job, devices)
    assert len(found) == kept and all(each.values.shape == (3,) for each in found)
