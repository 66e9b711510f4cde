"""data/mixing.py against NumPy, places worked out by hand and the formulas of the papers."""

import math
import os

import numpy as np
import pytest
from conftest import write_samples
from scipy.stats import beta, kstest

from data.augmentation import Augmentation, load_augmented
from data.geometry import Preprocessing
from data.mixing import Mixing, cutmix, mix, mixup
from data.prefetching import Reading
from data.samples import read_samples
from data_gen_label import ImageBatches, Variation

EVERYTHING = Augmentation(True, True, 0.1, 15.0, 0.1, 0.5)
ALL_ON = Mixing(0.4, 1.0, 0.5, 0.5)
SMALL = Preprocessing(12, "stretch")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def batch(rows, size=16, seed=0):
    """Noise, each row of a class of its own: a mixed label then names both rows."""
    return noise(rows, size, size, seed=seed), np.eye(rows, dtype=np.float32)


class Fixed:
    """A generator whose draws are given."""

    def __init__(self, order, shares, centers=None):
        self.order, self.shares, self.centers = order, shares, centers

    def permutation(self, rows):
        return np.asarray(rows)[self.order]

    def beta(self, a, b, size):
        assert a == b and size == len(self.shares)
        return np.array(self.shares)

    def random(self, size):
        return np.array(self.centers).reshape(size)


# mixup


def test_mixup_by_hand():
    # Row 0 takes 1/4 of itself and 3/4 of row 1: 0.25 * 200 + 0.75 * 40 = 80; row 1 half
    # of each of the rows as they were before: 0.5 * 40 + 0.5 * 200 = 120.
    x = np.full((2, 4, 4, 3), 200, np.uint8)
    x[1] = 40
    y = np.array([[0.8, 0.2], [0.0, 1.0]], np.float32)
    mixup(x, y, np.arange(2), 0.3, Fixed([1, 0], [0.25, 0.5]))
    assert (x[0] == 80).all() and (x[1] == 120).all()
    np.testing.assert_allclose(y, [[0.2, 0.8], [0.4, 0.6]], rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 2.0])
def test_mixup_images_are_the_sums_that_their_labels_say(alpha):
    before, y = batch(9)
    x = before.copy()
    mixup(x, y, np.arange(9), alpha, np.random.default_rng(1))
    for row in range(9):
        expected = np.zeros((16, 16, 3))
        for other in range(9):
            expected += float(y[row, other]) * before[other]
        assert np.abs(x[row] - expected).max() <= 0.501
        assert (y[row] > 0).sum() <= 2
    assert x.dtype == np.uint8 and y.dtype == np.float32
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose((y > 0).sum(axis=0).mean(), (y > 0).sum() / 9)


def test_mixup_shares_have_the_beta_distribution():
    x, y = batch(1500, 1)
    y = np.eye(1500, dtype=np.float32)
    mixup(x, y, np.arange(1500), 0.4, np.random.default_rng(0))
    own = np.diag(y)
    own = own[(y > 0).sum(axis=1) == 2]  # not those mixed with themselves
    # Shares next to 0 and 1 round to them in float32 and are left out above.
    inside = beta(0.4, 0.4).cdf
    assert kstest(own, inside).pvalue > 1e-3


# cutmix


def test_cutmix_by_hand():
    # A share of 3/4 stays, so the box has half of each side: of 8 pixels 4. About the
    # centre that is 2 to 6, 16 of 64 pixels; about a corner 2 x 2 remain, 4 of 64; about
    # the middle of the left edge (half down, 0 across) rows 2 to 6, columns 0 to 2: 8 of 64.
    for center, rows, columns, pasted in (
        ((0.5, 0.5), slice(2, 6), slice(2, 6), 16 / 64),
        ((0.0, 0.0), slice(0, 2), slice(0, 2), 4 / 64),
        ((0.5, 0.0), slice(2, 6), slice(0, 2), 8 / 64),
        ((1.0, 0.5), slice(6, 8), slice(2, 6), 8 / 64),
    ):
        x, y = batch(2, 8)
        before = x.copy()
        cutmix(x, y, np.arange(2), 1.0, Fixed([1, 0], [0.75, 0.75], [center, center]))
        for row in range(2):
            expected = before[row].copy()
            expected[rows, columns] = before[1 - row][rows, columns]
            assert np.array_equal(x[row], expected)
            assert y[row, row] == 1 - pasted and y[row, 1 - row] == pasted


@pytest.mark.parametrize("size", [16, 33])
def test_cutmix_labels_are_the_shares_of_pixels(size):
    """Each row of one colour, so that every pixel names its origin."""
    x = np.empty((12, size, size, 3), np.uint8)
    x[:] = (np.arange(12) * 20)[:, None, None, None]
    y = np.eye(12, dtype=np.float32)
    for seed in range(20):
        mixed, labels = x.copy(), y.copy()
        cutmix(mixed, labels, np.arange(12), 1.0, np.random.default_rng(seed))
        counted = np.zeros((12, 12))
        for row in range(12):
            for other in range(12):
                counted[row, other] = (mixed[row] == 20 * other).all(axis=-1).mean()
        np.testing.assert_allclose(labels, counted, atol=1e-6)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
        assert (counted > 0).sum(axis=1).max() == 2


def test_cutmix_pastes_one_box_from_the_same_place():
    before, y = batch(8, 20)
    x = before.copy()
    cutmix(x, y, np.arange(8), 1.0, np.random.default_rng(3))
    for row in range(8):
        others = [other for other in np.flatnonzero(y[row]) if other != row]
        changed = (x[row] != before[row]).any(axis=-1)
        if not others:
            assert not changed.any()
            continue
        assert np.array_equal(x[row][changed], before[others[0]][changed])
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert changed.sum() == len(rows) * len(columns)
        assert np.ptp(rows) + 1 == len(rows) and np.ptp(columns) + 1 == len(columns)


# Which rows, which method


@pytest.mark.parametrize("chosen", [Mixing(mixup=0.4), Mixing(cutmix=1.0), Mixing(0.4, 1.0)])
def test_rows_of_weight_0_stay_out(chosen):
    for seed in range(10):
        before, y = batch(8)
        weights = np.array([1, 0, 1, 1, 0, 1, 1, 1], np.float32)
        x, labels, kept = before.copy(), y.copy(), weights.copy()
        mix(x, labels, kept, chosen, np.random.default_rng(seed))
        assert np.array_equal(kept, weights)
        for row in (1, 4):
            assert np.array_equal(x[row], before[row]) and np.array_equal(labels[row], y[row])
            assert (np.delete(labels[:, row], row) == 0).all()
        assert not np.array_equal(x, before)


@pytest.mark.parametrize("weights", [[1.0], [0.0], [0.0, 1.0, 0.0], [0.0, 0.0]])
def test_fewer_than_two_rows_are_left_alone(weights):
    before, y = batch(len(weights))
    x, labels = before.copy(), y.copy()
    mix(x, labels, np.array(weights, np.float32), Mixing(1.0, 1.0), np.random.default_rng(0))
    assert np.array_equal(x, before) and np.array_equal(labels, y)


def test_both_take_turns_at_even_odds():
    """A cut row has only pixels of the two; four deviations of 400 draws are allowed."""
    before, y = batch(2, 8)
    cuts = mixes = 0
    for seed in range(400):
        x, labels = before.copy(), y.copy()
        mix(x, labels, np.ones(2, np.float32), Mixing(5.0, 5.0), np.random.default_rng(seed))
        if np.array_equal(x, before):
            continue  # mixed with itself
        whole = ((x == before) | (x == before[::-1])).all()
        cuts, mixes = cuts + whole, mixes + (not whole)
    assert abs(cuts - mixes) < 4 * math.sqrt(cuts + mixes)


# In batches


@pytest.fixture
def make():
    made = []

    def batches(folder, batch_size=5, workers=1, queue=4, **varied):
        varied = {"sampler": "uniform", "augmentation": EVERYTHING, **varied}
        made.append(ImageBatches(
            read_samples(folder, ("red", "green", "blue")), 3, batch_size, SMALL,
            Variation(**varied), reading=Reading(workers, queue),
        ))
        return made[-1]

    yield batches
    for batches in made:
        batches.close()


def fetch(batches, epoch, order):
    batches.epoch = epoch
    found = {index: [part.copy() for part in batches[index]] for index in order}
    return [part for index in sorted(found) for part in found[index]]


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("chosen", [{}, {"mixing": Mixing()}])
def test_off_is_as_loaded_and_augmented(folder, make, chosen):
    batches = make(folder, seed=3, batch_size=12, **chosen)
    batches.epoch = 2
    x, y, _ = batches[0]
    names = batches.samples.file_names
    for row, position in enumerate(batches.rows(0)[0]):
        expected = np.empty_like(x[row])
        path = os.path.join(folder, names[position])
        generator = np.random.default_rng((3, 2, int(position)))
        load_augmented(path, SMALL, EVERYTHING, generator, expected)
        assert np.array_equal(x[row], expected)
        assert y[row, batches.samples.class_ids[position]] == 1


def test_batches_are_a_function_of_seed_epoch_and_index(folder, make):
    first = fetch(make(folder, mixing=ALL_ON, workers=1), 1, [0, 1, 2])
    late = make(folder, mixing=ALL_ON, workers=3, queue=0)
    fetch(late, 0, [2, 0])
    fetch(late, 4, [1])
    assert same(first, fetch(late, 1, [2, 0, 1]))
    assert same(first, fetch(late, 1, [1, 1, 2, 0]))
    assert not same(first, fetch(late, 2, [0, 1, 2]))
    assert not same(first, fetch(make(folder, mixing=ALL_ON, seed=1), 1, [0, 1, 2]))


def test_batches_keep_their_contract(tmp_path, make):
    folder = write_samples(tmp_path / "data", 3)
    with open(os.path.join(folder, "img_1_1.png"), "wb") as file:
        file.write(b"no picture")
    batches = make(folder, mixing=ALL_ON, label_smoothing=0.1, batch_size=4, workers=2)
    broken = batches.samples.file_names.index("img_1_1.png")
    for epoch in range(3):
        batches.epoch = epoch
        for index, rows in enumerate((4, 4, 1)):
            x, y, weights = batches[index]
            assert x.shape == (rows, 12, 12, 3) and x.dtype == np.uint8
            assert y.shape == (rows, 3) and y.dtype == np.float32
            assert weights.shape == (rows,) and weights.dtype == np.float32
            np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
            assert np.array_equal(weights == 0, batches.rows(index)[0] == broken)
            assert (x[weights == 0] == 0).all()
            np.testing.assert_allclose(y[weights == 0].max(initial=14 / 15), 14 / 15, rtol=1e-6)


@pytest.mark.parametrize("alone, also", [
    (Mixing(randaugment=0.5), Mixing(0.4, 1.0, 0.5)), (Mixing(augmix=0.5), Mixing(0.4, augmix=0.5)),
])
def test_mixing_rows_comes_last(folder, make, alone, also):
    """What mixup and cutmix make is made of the images as they are without them."""
    x, labels, _ = make(folder, mixing=alone, batch_size=12)[0]
    expected, y = x.copy(), labels.copy()
    mix(expected, y, np.ones(12), also, np.random.default_rng((0, 0, 0, 0, 1)))
    found = make(folder, mixing=also, batch_size=12)[0]
    assert np.array_equal(found[0], expected) and np.array_equal(found[1], y)
    assert not np.array_equal(found[0], x)
