"""Batches of labelled images for training and evaluation.

`ImageBatches` is a `keras.utils.PyDataset`, today's name of `tf.keras.utils.Sequence`. Which
images a batch has is decided in `data.epoch_sampler`, reading ahead happens in
`data.prefetching`, and `data.image_reader` reads one image; here they become a batch and are mixed.
"""

import functools
import os
import threading
from typing import NamedTuple

import keras
import numpy as np

from common.errors import ImageError, InputError, PlainError, RunError
from compute.devices import SINGLE_DEVICE
from data import remote_places
from data.augmentation import Augmentation
from data.epoch_sampler import EpochSampler
from data.image_reader import ImageReader
from data.mixing import Mixing, mix
from data.object_stores import is_remote
from data.photo_files import is_there
from data.prefetching import DEFAULT_READING, Prefetcher
from data.reading_processes import ReadingProcesses

ANNOUNCED_BATCHES = 8  # photos of as many are read ahead, bounded in bytes by `read_ahead`
IMAGES_PER_TASK = 4  # enough to make the hand-over cheap, few enough to spread a batch
# Last number of a generator's seed, so that no two uses of randomness share one; others are in
# `data.image_reader` and `data.epoch_sampler`.
MIX = 1


class Variation(NamedTuple):
    """What training changes in its batches from epoch to epoch; the defaults change nothing.

    Attributes:
        sampler: "uniform", "balanced" or None, see `epoch_sampler.EpochSampler`.
        augmentation: `augmentation.Augmentation`.
        mixing: `mixing.Mixing`.
        label_smoothing: fraction of each label that is spread evenly over all classes, from 0
            to below 1.
        seed: int, 0 or above; fixes the order and all random numbers.
        targets: float32 (N, C), what is learned of each sample where that is not its label alone,
            rows sum to 1; None takes the samples' classes.
    """

    sampler: str | None = None
    augmentation: Augmentation = Augmentation()
    mixing: Mixing = Mixing()
    label_smoothing: float = 0.0
    seed: int = 0
    targets: np.ndarray | None = None


NO_VARIATION = Variation()


class Batch(NamedTuple):
    """A batch that threads fill.

    Attributes:
        epoch: int, the epoch that it belongs to.
        positions: int32 (B,), positions of its images in the samples.
        repeats: int32 (B,), how often the epoch has drawn each image before.
        x: uint8 (B, S, S, 3), RGB, 0-255.
        y: float32 (B, C), rows sum to 1.
        sample_weight: float32 (B,), 0 or 1.
    """

    epoch: int
    positions: np.ndarray
    repeats: np.ndarray
    x: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray


class ImageBatches(keras.utils.PyDataset):
    """Batches of a folder's samples.

    A batch is `(x, y, sample_weight)`: x uint8 (B, S, S, 3), RGB, 0-255; y float32
    (B, C), rows sum to 1; sample_weight float32 (B,), 0 for an image that could not be
    decoded, else 1. The third item is always present because Keras takes a data set's
    structure from its first batches. The last batch may be smaller.

    What a batch holds is a function of (seed, epoch, index) alone. Where several
    processes train together, each reads its own rows of every batch.

    Args:
        samples: `samples.Samples`.
        classes: number of classes C.
        batch_size: images per batch.
        preprocessing: `geometry.Preprocessing`, which gives the side S.
        variation: `Variation` of a training; the default gives the samples as they are.
        sharding: `devices.Sharding`, the devices that the rows go to.
        reading: `prefetching.Reading`: threads, queue and limits.

    Attributes:
        epoch: int from 0; order and augmentation belong to it. Set it before each epoch.
        undecodable: dict, position of an undecodable sample -> its `ImageError`.
        error: the error with which the data set refused, or None; Keras wraps what is raised
            beyond recognition.
        resume_position: (epoch, steps) where a training resumes. The batches of that epoch
            before that step are zeros and not read.

    Example:

    ```python
    samples = read_samples("photos", read_label_names("photos/label.json"))
    batches = ImageBatches(
        samples, 2, 32, Preprocessing(224), Variation("uniform"), reading=Reading(workers=4)
    )
    model.fit(batches.dataset(), shuffle=False)
    batches.close()
    ```
    """

    def __init__(
        self,
        samples,
        classes,
        batch_size,
        preprocessing,
        variation=NO_VARIATION,
        sharding=SINGLE_DEVICE,
        reading=DEFAULT_READING,
    ):
        super().__init__(workers=1)  # Keras itself only asks for the next batch
        self.samples = samples
        self.classes = classes
        self.batch_size = batch_size
        self.preprocessing = preprocessing
        self.variation = variation
        self.sharding = sharding
        self.undecodable = {}
        self.error = None
        self.resume_position = 0, 0
        self._max_undecodable = reading.max_undecodable
        self._report = reading.report or (lambda line: None)
        self._reader = ImageReader(preprocessing, variation.augmentation, variation.mixing)
        self._processes = reading.processes or ReadingProcesses(reading.workers)
        self._sampler = EpochSampler(samples.class_ids, variation.sampler, variation.seed)
        self._epoch = 0
        self._draws = self._sampler.draw(epoch=0)
        self._prefetcher = Prefetcher(self._start_batch, len(self), reading, samples.folder)
        self._announced = 0  # batches of this epoch
        self._first_epoch_read = None
        self._last_given = None, None  # (epoch, index) and batch
        self._undecodable_lock = threading.Lock()

    def __len__(self):
        return -(-len(self.samples.file_names) // self.batch_size)

    @property
    def epoch(self):
        """The epoch, from 0, that order and augmentation belong to."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch):
        if epoch != self._epoch:
            with self._prefetcher.restarting():
                self._epoch, self._draws = epoch, self._sampler.draw(epoch)
                self._announced = 0

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        last_key, last_batch = self._last_given
        if last_key == (self._epoch, index):
            # Keras looks at the first batch before it begins, and a validation set of one batch
            # is the same in each epoch.
            return _copy_labels(last_batch)
        resume_epoch, resume_step = self.resume_position
        if self._epoch == resume_epoch and index < resume_step:
            return tuple(map(np.zeros_like, self._empty_arrays(len(self._rows(index)[0]))))
        try:
            batch = self._prefetcher.take(index)
        except PlainError as error:  # a read that hangs, a process that has ended, a store
            self.error = error
        if self.error:
            raise self.error
        result = batch.x, batch.y, batch.sample_weight
        draw = (self.variation.seed, batch.epoch, index, self.sharding.process, MIX)
        mix(*result, self.variation.mixing, np.random.default_rng(draw))
        self._last_given = (batch.epoch, index), result
        return _copy_labels(result)

    def dataset(self):
        """The batches in the form that `fit` and `evaluate` should get: see `as_dataset`."""
        size = self.preprocessing.size
        return as_dataset(self, (size, size, 3), "uint8", self.classes)

    def rows(self, index):
        """The rows of batch `index` of this epoch that this process takes.

        Returns:
            (positions, real): int (B,), positions in `samples`; for a row mixed from two, that
            of the image in whose row it lies. bool (B,), False where a row only fills up.
        """
        row_numbers, is_real = self._rows(index)
        return self._draws.positions[row_numbers], is_real

    def labels(self, positions):
        """What is learned of samples, before any are mixed.

        Args:
            positions: int (B,), positions in `samples`.

        Returns:
            float32 (B, C), rows sum to 1.
        """
        if self.variation.targets is not None:
            return self.variation.targets[positions]
        class_ids = self.samples.class_ids[positions]
        return smooth_labels(class_ids, self.classes, self.variation.label_smoothing)

    def close(self):
        """Ends threads and processes; work not yet begun is dropped, a stuck thread left alone."""
        self._prefetcher.close()
        self._processes.close()

    def _rows(self, index):
        first_row = index * self.batch_size
        row_count = min(self.batch_size, len(self._draws.positions) - first_row)
        row_numbers, is_real = self.sharding.rows(row_count)
        return first_row + row_numbers, is_real

    def _empty_arrays(self, row_count):
        """(x, y, sample_weight) with whatever is in the memory."""
        size = self.preprocessing.size
        return (
            np.empty((row_count, size, size, 3), np.uint8),
            np.empty((row_count, self.classes), np.float32),
            np.empty(row_count, np.float32),
        )

    def _start_batch(self, index):
        """A `Batch` whose images are missing, and the tasks that read them."""
        if self._first_epoch_read is None:
            self._first_epoch_read = self._epoch
        row_numbers, is_real = self._rows(index)
        row_count = len(row_numbers)
        positions = self._draws.positions[row_numbers]
        x, _, sample_weight = self._empty_arrays(row_count)
        y = self.labels(positions)
        sample_weight[:] = is_real
        repeats = self._draws.repeats[row_numbers]
        batch = Batch(self._epoch, positions, repeats, x, y, sample_weight)
        self._announce(index)
        tasks = [
            functools.partial(
                self._read_images, batch, range(start, min(start + IMAGES_PER_TASK, row_count))
            )
            for start in range(0, row_count, IMAGES_PER_TASK)
        ]
        return batch, tasks

    def _announce(self, index):
        """Says which photos the next batches need: those in stores are read ahead.

        Further ahead than batches are begun, so that no decoding thread waits for a slow read.
        """
        folder = self.samples.folder
        if folder and not is_remote(folder):  # "" where photos of several places are together
            return
        end = min(index + ANNOUNCED_BATCHES, len(self))
        for next_index in range(max(index, self._announced), end):
            row_numbers, _ = self._rows(next_index)
            remote_places.announce(map(self._path, self._draws.positions[row_numbers]))
        self._announced = end

    def _path(self, position):
        return os.path.join(self.samples.folder, self.samples.file_names[position])

    def _read_images(self, batch, row_numbers):
        images = []
        for row in row_numbers:
            position = int(batch.positions[row])
            image_path = self._path(position)
            draw = (self.variation.seed, batch.epoch, position, int(batch.repeats[row]))
            images.append((image_path, draw))
        with self._processes.reading(self._reader, images) as read_next:
            for row, (image_path, _) in zip(row_numbers, images):
                try:
                    with self._prefetcher.reading(image_path):
                        read_next(batch.x[row])
                except ImageError as error:
                    position = int(batch.positions[row])
                    self._count_undecodable(position, image_path, batch.epoch, error)
                    batch.x[row], batch.sample_weight[row] = 0, 0

    def _count_undecodable(self, position, image_path, epoch, error):
        with self._undecodable_lock:
            if position in self.undecodable:
                return
            self.undecodable[position] = error
            count, total = len(self.undecodable), len(self.samples.file_names)
            if count > self._max_undecodable * total and self.error is None:
                # An image that was readable before, or listed, has changed since: the input
                # was right.
                has_changed = epoch > self._first_epoch_read or not is_there(image_path)
                self.error = (RunError if has_changed else InputError)(
                    f"{count} of {total} images cannot be decoded, more than --max_bad "
                    f"{self._max_undecodable:g} allows; the last: {error}"
                )
        self._report(f"left out: {error}")


def smooth_labels(class_ids, classes, smoothing):
    """Labels of which the true class has all but a part that all classes share.

    Args:
        class_ids: int (N,).
        classes: int C.
        smoothing: float, the part, from 0 to 1.

    Returns:
        float32 (N, C), rows sum to 1.

    Example:
        >>> smooth_labels(np.array([1]), 2, 0.1)
        array([[0.05, 0.95]], dtype=float32)
    """
    labels = np.full((len(class_ids), classes), smoothing / classes, np.float32)
    labels[np.arange(len(class_ids)), class_ids] += 1 - smoothing
    return labels


def _copy_labels(batch):
    """The batch with labels and weights of its own.

    TensorFlow takes an aligned array over without copying it and may compute in its memory.
    Images are safe: they are bytes, nothing is computed in those.
    """
    x, y, sample_weight = batch
    return x, y.copy(), sample_weight.copy()


def as_dataset(batches, shape, dtype, classes):
    """A `PyDataset` in the form that `fit` and `evaluate` should get.

    On TensorFlow that is a `tf.data.Dataset` which reads an epoch each time it is
    iterated, on other backends the batches themselves. Keras would make a data set of its own
    from the batches, with autotuning; the autotuning thread sleeps up to a minute at a time,
    and an iterator's end now and then waits for it, so that an epoch begins late.

    Args:
        batches: `PyDataset` that gives (x, y, sample_weight) for an index.
        shape: tuple of int, the shape of a row of x.
        dtype: str, the data type of x.
        classes: int, the length of a row of y.

    Returns:
        `tf.data.Dataset`, or `batches`.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    # Under a strategy each batch is spread over the devices; there are no files to share out.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return (
        tf.data.Dataset.from_generator(
            lambda: (batches[index] for index in range(len(batches))),
            output_signature=(
                tf.TensorSpec((None, *shape), dtype),
                tf.TensorSpec((None, classes), tf.float32),
                tf.TensorSpec((None,), tf.float32),
            ),
        )
        .apply(tf.data.experimental.assert_cardinality(len(batches)))
        .prefetch(1)
        .with_options(options)
    )
