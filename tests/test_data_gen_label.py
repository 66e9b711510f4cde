"""data_gen_label.py: what a batch holds, in which order, and what a broken image does."""

import contextlib
import os
import threading
import time

import keras
import numpy as np
import pytest
from conftest import write_image, write_samples

from common.errors import InputError, RunError, StuckError
from data import image_reader
from data.augmentation import Augmentation
from data.decoding import load
from data.geometry import Preprocessing
from data.prefetching import Reading
from data.samples import read_samples, write_sample
from data_gen_label import ImageBatches

NAMES = ("red", "green", "blue")
SMALL = Preprocessing(12, "stretch")
EVERYTHING = Augmentation(True, True, 0.1, 15.0, 0.1, 0.5)


@pytest.fixture
def make(make_batches):
    return make_batches


def spoil(folder, *names):
    """Makes samples of the folder undecodable."""
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"<html>404 Not Found</html>")


def epoch_of(batches, epoch, order=None):
    """Copies of an epoch's batches in the order of their indices, fetched in `order`."""
    batches.epoch = epoch
    found = {}
    for index in range(len(batches)) if order is None else order:
        found[index] = [np.array(part) for part in batches[index]]
    return [found[index] for index in sorted(found)]


def same(one, two):
    return len(one) == len(two) and all(
        np.array_equal(a, b) for first, second in zip(one, two) for a, b in zip(first, second)
    )


# What a batch is


def test_shapes_dtypes_and_rows(folder, make):
    batches = make(folder, sampler="uniform", augmentation=EVERYTHING, label_smoothing=0.1)
    assert len(batches) == 3  # 12 images, 5 a batch
    for index, rows in enumerate((5, 5, 2)):
        x, y, weights = batches[index]
        assert x.shape == (rows, 12, 12, 3) and x.dtype == np.uint8
        assert y.shape == (rows, 3) and y.dtype == np.float32
        assert weights.shape == (rows,) and weights.dtype == np.float32
        assert (weights == 1).all()
        np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("size, count", [(1, 12), (4, 3), (12, 1), (100, 1)])
def test_number_of_batches_is_the_ceiling(folder, make, size, count):
    batches = make(folder, batch_size=size)
    assert len(batches) == count
    assert sum(len(batches[index][0]) for index in range(count)) == 12


@pytest.mark.parametrize("index", [3, -1])
def test_no_batch_beyond_the_last(folder, make, index):
    with pytest.raises(IndexError):
        make(folder)[index]


def test_one_hot_labels(folder, make):
    batches = make(folder, batch_size=12)
    expected = [[1, 0, 0]] * 4 + [[0, 1, 0]] * 4 + [[0, 0, 1]] * 4
    assert batches[0][1].tolist() == expected


def test_what_is_computed_in_a_batch_does_not_come_back(folder, make):
    """TensorFlow may reuse the memory of labels and weights that it was handed."""
    batches = make(folder)
    for _ in range(3):
        _, labels, sample_weight = batches[0]
        assert sample_weight.tolist() == [1] * len(labels) and (labels.sum(axis=1) == 1).all()
        labels[:], sample_weight[:] = 7, 0.4


def test_label_smoothing(folder, make):
    # 0.3 is spread over three classes, 0.1 each: 1 - 0.3 + 0.1 = 0.8 for the true one.
    labels = make(folder, batch_size=12, label_smoothing=0.3)[0][1]
    expected = [[0.8, 0.1, 0.1]] * 4 + [[0.1, 0.8, 0.1]] * 4 + [[0.1, 0.1, 0.8]] * 4
    np.testing.assert_allclose(labels, expected, rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 3])
def test_evaluation_order_is_the_samples_own(folder, make, workers):
    batches = make(folder, workers=workers)
    x = np.concatenate([batches[index][0] for index in range(len(batches))])
    names = sorted(name for name in os.listdir(folder) if name.endswith(".png"))
    expected = [load(os.path.join(folder, name), SMALL) for name in names]
    assert np.array_equal(x, expected)
    assert [p for index in range(3) for p in batches.rows(index)[0]] == list(range(12))


def test_an_epoch_holds_each_image_once(folder, make):
    batches = make(folder, sampler="uniform", workers=2)
    names = sorted(name for name in os.listdir(folder) if name.endswith(".png"))
    expected = [load(os.path.join(folder, name), SMALL) for name in names]
    for epoch in (0, 1):
        seen = []
        for index, (x, y, _) in enumerate(epoch_of(batches, epoch)):
            positions = batches.rows(index)[0]
            assert np.array_equal(x, [expected[position] for position in positions])
            assert y.argmax(axis=1).tolist() == [position // 4 for position in positions]
            seen += positions.tolist()
        assert sorted(seen) == list(range(12))
        assert seen != list(range(12))


# Order and content are a function of (seed, epoch, index) alone


def test_same_batches_whatever_the_workers_the_queue_and_the_order(folder, make):
    options = {"sampler": "uniform", "augmentation": EVERYTHING, "batch_size": 2}
    first = epoch_of(make(folder, workers=1, **options), 0)
    assert same(first, epoch_of(make(folder, workers=4, **options), 0))
    assert same(first, epoch_of(make(folder, workers=4, queue=0, **options), 0))
    assert same(first, epoch_of(make(folder, workers=4, **options), 0, [5, 0, 3, 1, 4, 2]))
    twice = make(folder, workers=2, **options)
    epoch_of(twice, 0, [2, 2, 4])
    assert same(first, epoch_of(twice, 0))


def test_an_epoch_can_be_repeated_and_reached_from_anywhere(folder, make):
    options = {"sampler": "uniform", "augmentation": EVERYTHING, "batch_size": 2, "workers": 2}
    batches = make(folder, **options)
    epochs = [epoch_of(batches, epoch) for epoch in range(3)]
    assert same(epochs[0], epoch_of(batches, 0))
    assert same(epochs[2], epoch_of(batches, 2))
    resumed = make(folder, **options)
    assert same(epochs[2], epoch_of(resumed, 2))
    assert resumed.epoch == 2


def test_leaving_an_epoch_in_the_middle_leaves_no_trace(folder, make):
    options = {"sampler": "uniform", "augmentation": EVERYTHING, "batch_size": 2, "workers": 2}
    expected = epoch_of(make(folder, **options), 1)
    batches = make(folder, **options)
    epoch_of(batches, 0, [0])  # the queue has read on into this epoch
    assert same(expected, epoch_of(batches, 1))


def test_epochs_and_seeds_differ(folder, make):
    options = {"sampler": "uniform", "batch_size": 12}
    batches = make(folder, seed=0, **options)
    first, second = epoch_of(batches, 0), epoch_of(batches, 1)
    other = epoch_of(make(folder, seed=1, **options), 0)
    assert not same(first, second) and not same(first, other) and not same(second, other)


def test_augmentation_differs_by_epoch_seed_and_image(tmp_path, make):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(6):  # six times the same picture
        write_image(data / f"{number}.png", seed=7)
        write_sample(data, f"{number}.png", 0)
    options = {"augmentation": Augmentation(random_eraser=1.0), "batch_size": 2}
    batches = make(data, **options)
    other = make(data, seed=1, **options)
    epochs = [epoch_of(batches, 0), epoch_of(batches, 1), epoch_of(other, 0)]
    images = [image for epoch in epochs for x, _, _ in epoch for image in x]
    assert len({image.tobytes() for image in images}) == 18


def test_augmentation_that_changes_nothing(folder, make):
    plain, augmented = make(folder), make(folder, augmentation=Augmentation())
    assert same(epoch_of(plain, 0), epoch_of(augmented, 0))


# Undecodable images


def test_an_undecodable_image_has_weight_0_and_is_reported_once(folder, make):
    spoil(folder, "img_0_1.png", "img_2_3.png")
    lines = []
    batches = make(folder, report=lines.append, workers=2)
    for epoch in (0, 1):
        parts = epoch_of(batches, epoch)
        weights = np.concatenate([part[2] for part in parts])
        assert np.flatnonzero(weights == 0).tolist() == [1, 11]
        assert np.isin(weights, [0, 1]).all()
        x = np.concatenate([part[0] for part in parts])
        assert (x[[1, 11]] == 0).all()
        y = np.concatenate([part[1] for part in parts])
        np.testing.assert_allclose(y.sum(axis=1), 1)
    assert len(lines) == 2
    for name in ("img_0_1.png", "img_2_3.png"):
        assert sum(name in line for line in lines) == 1
    assert sorted(batches.undecodable) == [1, 11]
    assert batches.error is None


def test_the_other_rows_are_as_without_the_undecodable_image(folder, make):
    options = {"sampler": "uniform", "augmentation": EVERYTHING, "batch_size": 12}
    x, _, _ = make(folder, **options)[0]
    spoil(folder, "img_1_2.png")
    spoilt = make(folder, **options)
    row = spoilt.rows(0)[0].tolist().index(6)
    others = np.arange(12) != row
    assert np.array_equal(spoilt[0][0][others], x[others])
    assert spoilt[0][2][row] == 0


def test_as_many_undecodable_images_as_allowed(folder, make):
    spoil(folder, "img_0_0.png", "img_0_1.png", "img_0_2.png")
    batches = make(folder, max_undecodable=0.25)  # three of twelve
    epoch_of(batches, 0)
    assert len(batches.undecodable) == 3 and batches.error is None


def test_more_undecodable_images_than_allowed(folder, make):
    spoil(folder, "img_0_0.png", "img_1_1.png", "img_2_2.png")
    batches = make(folder, max_undecodable=0.2, workers=2)  # 2.4 of twelve
    with pytest.raises(InputError) as found:
        epoch_of(batches, 0)
    assert batches.error is found.value
    for part in ("3 of 12", "--max_bad 0.2", ".png"):
        assert part in str(found.value)


def test_none_allowed_refuses_the_first(folder, make):
    spoil(folder, "img_1_1.png")
    batches = make(folder, max_undecodable=0.0)
    with pytest.raises(InputError, match="1 of 12 .*img_1_1.png"):
        epoch_of(batches, 0)


def test_a_refused_data_set_stays_refused(folder, make):
    """Whoever goes on after the error must not train on what was refused."""
    spoil(folder, *(f"img_{label}_0.png" for label in range(3)))
    batches = make(folder, max_undecodable=0.0, batch_size=12)
    for _ in range(2):
        with pytest.raises(InputError):
            batches[0]
    batches.epoch = 1
    with pytest.raises(InputError):
        batches[0]


def test_a_refusal_read_ahead_is_not_lost(folder, make):
    """The queue met too many broken images in an epoch that nobody read to its end."""
    spoil(folder, "img_2_3.png")
    batches = make(folder, max_undecodable=0.0, batch_size=4)
    with contextlib.suppress(InputError):  # the bad one may have been met by now
        batches[0]
    batches._prefetcher._pool.submit(lambda: None).result()  # one worker: all before it is done
    assert batches.error is not None
    batches.epoch = 1
    with pytest.raises(InputError):
        epoch_of(batches, 1)


def test_what_went_bad_meanwhile_is_no_wrong_input(folder, make):
    """Undecodable in a later epoch than the first, or not there any more: status 1, not 2."""
    batches = make(folder, max_undecodable=0.0)
    epoch_of(batches, 3)
    spoil(folder, "img_1_1.png")
    with pytest.raises(RunError, match="1 of 12 .*img_1_1.png"):
        epoch_of(batches, 4)
    begun = make(folder, max_undecodable=0.1)  # one of twelve is more
    os.unlink(os.path.join(folder, "img_0_0.png"))
    os.unlink(os.path.join(folder, "img_1_1.png"))
    with pytest.raises(RunError, match=r"of 12 .*img_._.\.png"):
        epoch_of(begun, 0)


# Going on, and waiting


def test_batches_that_are_passed_over_are_not_read(folder, make, monkeypatch):
    """Zeros of the right shape in the epoch that goes on; the others as ever."""
    whole = make(folder, sampler="uniform")
    expected = [epoch_of(whole, epoch) for epoch in (1, 2)]
    read = []

    def traced(path, *rest, **more):
        read.append(path)
        return load(path, *rest, **more)

    monkeypatch.setattr(image_reader, "load", traced)
    batches = make(folder, sampler="uniform")
    batches.resume_position = 2, 2
    assert same(epoch_of(batches, 1), expected[0]) and len(read) == 12
    found = epoch_of(batches, 2)
    assert len(read) == 14  # the last batch has two
    for got, wanted in zip(found[:2], expected[1]):
        for part, other in zip(got, wanted):
            assert part.shape == other.shape and part.dtype == other.dtype and not part.any()
    assert same(found[2:], expected[1][2:])


def test_a_read_that_hangs_is_named(folder, make, monkeypatch):
    gate, began = threading.Event(), time.monotonic()

    def stuck(path, *rest, **more):
        if path.endswith("img_1_1.png"):
            gate.wait(20)
        return load(path, *rest, **more)

    monkeypatch.setattr(image_reader, "load", stuck)
    batches = make(folder, time_limit=0.2, workers=3)
    try:
        with pytest.raises(StuckError, match="img_1_1.png: was not read within 0.2 s"):
            epoch_of(batches, 0)
        batches.close()  # does not wait for it
        assert time.monotonic() - began < 10
    finally:
        gate.set()
    assert same(epoch_of(make(folder, time_limit=20), 0), epoch_of(make(folder), 0))


# Through Keras


def linear_model():
    model = keras.Sequential([
        keras.layers.Input((12, 12, 3), dtype="uint8"),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax", kernel_initializer="zeros"),
    ])
    model.compile(
        keras.optimizers.SGD(0.5),
        keras.losses.CategoricalCrossentropy(reduction="mean_with_sample_weight"),
        weighted_metrics=["accuracy"],
    )
    return model


def test_keras_trains_and_an_undecodable_image_changes_nothing(tmp_path, make):
    """One step with a row of weight 0 is the step without it, and that of the formula."""
    whole = write_samples(tmp_path / "whole", 2)
    spoilt = write_samples(tmp_path / "spoilt", 2)
    write_image(os.path.join(spoilt, "zz.png"))
    write_sample(spoilt, "zz.png", 2)
    spoil(spoilt, "zz.png")
    results, history = [], []
    for folder in (whole, spoilt):
        model = linear_model()
        batches = make(folder, batch_size=7).dataset()
        found = model.fit(batches, epochs=1, shuffle=False, verbose=0)
        history.append(found.history)
        results.append([np.array(weight) for weight in model.get_weights()])
    for one, two in zip(*results):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(history[0]["loss"], history[1]["loss"], rtol=1e-5)
    np.testing.assert_allclose(history[0]["accuracy"], history[1]["accuracy"], rtol=1e-6)
    # From zero weights each class has 1/3, so the step is 0.5 * mean(x^T (y - 1/3)).
    x, y, _ = make(whole, batch_size=7)[0]
    x = x.reshape(6, -1) / 255
    np.testing.assert_allclose(results[0][0], 0.5 * x.T @ (y - 1 / 3) / 6, atol=1e-5)
    np.testing.assert_allclose(history[0]["loss"], np.log(3), rtol=1e-5)


def test_keras_evaluates_and_predicts_every_image_once(folder, make):
    model = linear_model()
    for batches in (make(folder), make(folder).dataset()):
        assert model.predict(batches, verbose=0).shape == (12, 3)
        loss, _ = model.evaluate(batches, verbose=0)
        np.testing.assert_allclose(loss, np.log(3), rtol=1e-5)


def test_the_dataset_reads_the_epoch_that_is_set(folder, make):
    asked, batches = make(folder, sampler="uniform"), make(folder, sampler="uniform")
    dataset = batches.dataset()
    assert dataset.cardinality() == len(batches) == 3
    for epoch in (0, 1, 0):
        batches.epoch = epoch
        found = [[part.numpy() for part in batch] for batch in dataset]
        assert same(found, epoch_of(asked, epoch))


def test_the_dataset_has_no_autotuning_thread(folder, make):
    """Keras's own would have one, and an epoch's end would now and then wait for it."""
    assert make(folder).dataset().options().autotune.enabled is False


def test_closing_ends_the_threads(folder):
    batches = ImageBatches(read_samples(folder, NAMES), 3, 2, SMALL, reading=Reading(2))
    batches[0]
    batches.close()
    with pytest.raises(RuntimeError):
        batches[5]
