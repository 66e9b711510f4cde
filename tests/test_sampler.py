"""The balanced sampler of data/epoch_sampler.py: how often each image of each class comes."""

from collections import Counter

import numpy as np
import pytest
from conftest import write_image

from data.augmentation import Augmentation
from data.epoch_sampler import EpochSampler
from data.geometry import Preprocessing
from data.prefetching import Reading
from data.samples import Samples, write_sample
from data_gen_label import ImageBatches, Variation

SMALL = Preprocessing(8, "stretch")


@pytest.fixture
def make():
    made = []

    def batches(labels, classes=None, folder="nowhere", names=None, batch_size=7, workers=1,
                **varied):
        labels = np.array(labels, np.int32)
        names = names or [f"{number}.png" for number in range(len(labels))]
        made.append(ImageBatches(
            Samples(str(folder), names, labels), classes or int(labels.max()) + 1, batch_size,
            SMALL, Variation("balanced", **varied), reading=Reading(workers),
        ))
        return made[-1]

    yield batches
    for batches in made:
        batches.close()


def drawn(batches, epoch):
    batches.epoch = epoch
    return np.concatenate([batches.rows(index)[0] for index in range(len(batches))])


UNEVEN = [0] * 40 + [1] * 9 + [2] * 3 + [3]  # 53 images: 13 of each class, one more of one


def test_each_class_equally_often_up_to_one(make):
    batches = make(UNEVEN)
    assert len(batches) == 8  # 53 images, 7 a batch
    for epoch in range(8):
        counts = np.bincount(np.array(UNEVEN)[drawn(batches, epoch)])
        assert sorted(counts) == [13, 13, 13, 14]


def test_the_odd_draw_goes_round(make):
    """Over four epochs each class has the same number of draws."""
    batches = make(UNEVEN)
    every = np.concatenate([drawn(batches, epoch) for epoch in range(4)])
    assert np.bincount(np.array(UNEVEN)[every]).tolist() == [53] * 4


@pytest.mark.parametrize("labels", [UNEVEN, [0] * 5 + [1] * 7, [1] * 6 + [0]])
def test_every_image_is_used_before_one_is_repeated(make, labels):
    batches = make(labels)
    labels = np.array(labels)
    total = Counter()
    for epoch in range(12):
        found = Counter(drawn(batches, epoch).tolist())
        total += found
        for counts in (found, total):  # in the epoch, and since the beginning
            for label in np.unique(labels):
                times = [counts[position] for position in np.flatnonzero(labels == label).tolist()]
                assert max(times) - min(times) <= 1


def test_a_class_without_images_is_left_out(make):
    batches = make([0] * 6 + [2] * 2 + [5] * 2, classes=7)
    counts = np.bincount(batches.samples.class_ids[drawn(batches, 0)], minlength=7)
    assert counts[[1, 3, 4, 6]].sum() == 0
    assert sorted(counts[[0, 2, 5]]) == [3, 3, 4]


def test_order_is_a_function_of_seed_and_epoch(make):
    first = make(UNEVEN)
    orders = [drawn(first, epoch) for epoch in range(3)]
    late = make(UNEVEN, workers=3, batch_size=5)
    assert np.array_equal(orders[2], drawn(late, 2))
    assert np.array_equal(orders[0], drawn(late, 0))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], drawn(make(UNEVEN, seed=1), 0))
    # Classes come mixed: 53 draws in the order of their classes would change class 3 times.
    assert (np.diff(np.array(UNEVEN)[orders[0]]) != 0).sum() > 20


def test_equal_classes_are_drawn_as_without_it(make):
    batches = make([0, 1, 2] * 5)
    for epoch in range(3):
        assert sorted(drawn(batches, epoch)) == list(range(15))


def test_repeats_of_an_image_are_augmented_apart(tmp_path, make):
    names = [f"{number}.png" for number in range(8)]
    for number, name in enumerate(names):
        write_image(tmp_path / name, seed=number)
        write_sample(tmp_path, name, 0)
    options = {"folder": tmp_path, "names": names, "augmentation": Augmentation(random_eraser=1.0)}
    labels = [0] * 7 + [1]
    batches = make(labels, batch_size=8, **options)
    x, y, _ = batches[0]
    rare = batches.rows(0)[0] == 7
    assert rare.sum() == 4 and (y[rare] == [0, 1]).all()
    assert len({image.tobytes() for image in x[rare]}) == 4
    again = make(labels, batch_size=3, workers=3, **options)
    parts = {index: again[index] for index in (2, 0, 1)}
    assert np.array_equal(np.concatenate([parts[index][0] for index in range(3)]), x)


def test_other_samplers_are_refused():
    with pytest.raises(ValueError, match="'uniform' or 'balanced'. Received: method='even'"):
        EpochSampler(np.zeros(1, np.int32), "even")
