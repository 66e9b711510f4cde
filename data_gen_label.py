"""Batches of labelled images for training and evaluation.

`ImageBatches` is a `keras.utils.PyDataset` (what `tf.keras.utils.Sequence` is
today). It reads ahead on its own threads: decoders release the interpreter lock,
and the queue does not depend on how Keras iterates.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from common.errors import ImageError, InputError, RunError, StuckError
from compute.devices import SINGLE_DEVICE
from data.augmentation import Augmentation, augment
from data.auto_augment import ImagePolicy
from data.decoding import load
from data.mixing import Mixing, mix

CLOSING = 5.0  # seconds that images under way may take when the batches are closed
SLICE = 4  # images a task: enough to make the hand-over cheap, few enough to spread a batch
# Last number of a generator's seed, so that no two uses of randomness share one.
MIX, RANDAUGMENT, AUGMIX, CLASS_ORDER = 1, 2, 3, 4


class ImageBatches(keras.utils.PyDataset):
    """Batches of a folder's samples.

    A batch is `(x, y, weights)`: x uint8 (B, S, S, 3), RGB, 0-255; y float32
    (B, C), rows sum to 1; weights float32 (B,), 0 for an image that could not be
    decoded, else 1. The third item is always there because Keras takes a data
    set's structure from its first batches. The last batch may be smaller.

    What a batch holds is a function of (seed, epoch, index) alone. Where several
    processes train together, each reads its own rows of every batch.

    Args:
        samples: `samples.Samples`.
        classes: number of classes C.
        batch_size: images a batch.
        preprocessing: `geometry.Preprocessing`.
        shuffle: a new order each epoch; else the samples' own order.
        augmentation: `augmentation.Augmentation`, or None.
        mixing: `mixing.Mixing`, or None.
        sampler: "uniform": an epoch has each sample once. "balanced", with `shuffle`
            only: as many draws, of each class equally many up to one; the images of a
            class take turns, over all epochs.
        sharding: `devices.Sharding`, the devices that the rows go to.
        label_smoothing: share of each label spread evenly over all classes.
        seed: start of the order and of the augmentation.
        workers: threads that decode.
        queue: batches read ahead.
        max_bad: share of the samples that may be undecodable.
        time_limit: seconds that a batch may take; 0 is no limit.
        report: called with one line for each image that cannot be decoded.
    """

    def __init__(
        self,
        samples,
        classes,
        batch_size,
        preprocessing,
        shuffle=False,
        augmentation=None,
        mixing=None,
        sampler="uniform",
        sharding=SINGLE_DEVICE,
        label_smoothing=0.0,
        seed=0,
        workers=1,
        queue=4,
        max_bad=1.0,
        time_limit=0.0,
        report=None,
    ):
        if sampler == "balanced" and not shuffle:
            raise ValueError("the balanced sampler needs shuffle=True")
        super().__init__(workers=1)  # Keras itself only asks for the next batch
        self.samples = samples
        self.classes = classes
        self.batch_size = batch_size
        self.preprocessing = preprocessing
        self.shuffle = shuffle
        self.augmentation = None if augmentation == Augmentation() else augmentation
        self.mixing = mixing or Mixing()
        self.sampler = sampler
        self.sharding = sharding
        self.label_smoothing = label_smoothing
        self.seed = seed
        self.queue = queue
        self.max_bad = max_bad
        self.time_limit = time_limit or None
        self.report = report or (lambda line: None)
        self.undecodable = {}  # position of an undecodable sample -> its ImageError
        self.error = None  # why the data set refused; Keras would wrap it beyond recognition
        self.passed = 0, 0  # (epoch, steps): those before are not read, and batches of zeros
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._lock = threading.Lock()
        self._ahead = {}
        self._given = None, None  # (epoch, index) and batch given last
        self._reading = {}  # thread -> (when it began, path of the image it reads)
        self._began = None  # the first epoch that was read
        self._policy = ImagePolicy(self.mixing)
        self._epoch = 0
        self._make_order()

    def __len__(self):
        return -(-len(self.samples.file_names) // self.batch_size)

    @property
    def epoch(self):
        """The epoch, from 0, that order and augmentation belong to."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch):
        with self._lock:
            if epoch != self._epoch:
                self._epoch = epoch
                self._make_order()
                self._ahead.clear()  # what is under way finishes and is dropped

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        given, batch = self._given
        if given == (self._epoch, index):
            return batch  # Keras looks at the first batch before it begins
        if self._epoch == self.passed[0] and index < self.passed[1]:
            return tuple(map(np.zeros_like, self._empty(self._places(index)[0])))
        with self._lock:
            for number in range(index, min(index + 1 + self.queue, len(self))):
                if number not in self._ahead:
                    self._ahead[number] = self._start(number)
            batch, tasks = self._ahead.pop(index)
            epoch = self._epoch
        self._wait(tasks)
        if self.error:
            raise self.error
        draw = (self.seed, epoch, index, self.sharding.process, MIX)
        mix(*batch, self.mixing, np.random.default_rng(draw))
        self._given = (epoch, index), batch
        return batch

    def dataset(self):
        """The batches as `fit` and `evaluate` should take them: see `as_dataset`."""
        size = self.preprocessing.size
        return as_dataset(self, (size, size, 3), "uint8", self.classes)

    def rows(self, index):
        """The rows of batch `index` of this epoch that this process takes.

        Returns:
            (positions, real): int (B,), places in `samples`, of a row mixed from two that of
            the image whose place it has; bool (B,), False where a row only fills up.
        """
        places, real = self._places(index)
        return self._order[places], real

    def _places(self, index):
        first = index * self.batch_size
        rows, real = self.sharding.rows(min(self.batch_size, len(self._order) - first))
        return first + rows, real

    def close(self):
        """Ends the threads; work not yet begun is dropped, a thread that is stuck left alone."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + CLOSING
        while self._reading and time.monotonic() < until:
            time.sleep(0.001)

    def _wait(self, tasks):
        until = None if self.time_limit is None else time.monotonic() + self.time_limit
        for task in tasks:
            try:
                task.result(None if until is None else max(0, until - time.monotonic()))
            except TimeoutError:
                _, path = min(list(self._reading.values()), default=(0, self.samples.folder))
                self.error = StuckError(
                    f"{path}: was not read within {self.time_limit:g} s (--data_time_limit); the "
                    "disk or network it lies on may be stuck"
                )
                raise self.error from None

    def _make_order(self):
        count = len(self.samples.file_names)
        # How often the epoch has drawn the same image before: its augmentation differs.
        self._repeats = np.zeros(count, np.int32)
        if not self.shuffle:
            self._order = np.arange(count, dtype=np.int32)
            return
        generator = np.random.default_rng((self.seed, self._epoch))
        if self.sampler == "uniform":
            self._order = generator.permutation(np.arange(count, dtype=np.int32))
        else:
            self._order, self._repeats = generator.permutation(self._balanced(), axis=1)

    def _balanced(self):
        """Positions that the epoch draws, class by class, and how often each came before.

        Each class goes round and round its images in an order of its own. Before epoch e
        the class of rank r has drawn floor((e * N + r) / C) times, which together are
        e * N.
        """
        labels = self.samples.class_ids
        present = np.unique(labels)
        drawn = []
        for rank, label in enumerate(present):
            generator = np.random.default_rng((self.seed, int(label), 0, 0, CLASS_ORDER))
            members = generator.permutation(np.flatnonzero(labels == label))
            first, last = (
                (epoch * len(labels) + rank) // len(present)
                for epoch in (self._epoch, self._epoch + 1)
            )
            turns = np.arange(first, last)
            repeats = (turns - first) // len(members)
            drawn.append(np.stack([members[turns % len(members)], repeats]))
        return np.concatenate(drawn, axis=1).astype(np.int32)

    def _start(self, index):
        if self._began is None:
            self._began = self._epoch
        places, real = self._places(index)
        positions, repeats = self._order[places], self._repeats[places]
        x, y, weights = self._empty(places)
        y[:] = self.label_smoothing / self.classes
        y[np.arange(len(positions)), self.samples.class_ids[positions]] += 1 - self.label_smoothing
        weights[:] = real
        tasks = [
            self._pool.submit(
                self._fill,
                x,
                weights,
                positions,
                repeats,
                range(first, min(first + SLICE, len(positions))),
                self._epoch,
            )
            for first in range(0, len(positions), SLICE)
        ]
        return (x, y, weights), tasks

    def _empty(self, rows):
        """(x, y, weights) of as many rows, with whatever is in the memory."""
        size = self.preprocessing.size
        shapes = ((size, size, 3), np.uint8), ((self.classes,), np.float32), ((), np.float32)
        return tuple(np.empty((len(rows), *shape), dtype) for shape, dtype in shapes)

    def _fill(self, x, weights, positions, repeats, rows, epoch):
        for row in rows:
            position = int(positions[row])
            path = os.path.join(self.samples.folder, self.samples.file_names[position])
            self._reading[threading.get_ident()] = time.monotonic(), path
            try:
                load(path, self.preprocessing, out=x[row])
            except ImageError as error:
                self._count_bad(position, path, epoch, error)
                x[row], weights[row] = 0, 0
                continue
            finally:
                del self._reading[threading.get_ident()]
            # A fourth number 0 counts as none: the first time is (seed, epoch, position).
            draw = (self.seed, epoch, position, int(repeats[row]))
            if self.augmentation:
                augment(x[row], self.augmentation, np.random.default_rng(draw))
            if self._policy:
                self._policy(
                    x[row],
                    np.random.default_rng((*draw, RANDAUGMENT)),
                    np.random.default_rng((*draw, AUGMIX)),
                )

    def _count_bad(self, position, path, epoch, error):
        with self._lock:
            if position in self.undecodable:
                return
            self.undecodable[position] = error
            count, total = len(self.undecodable), len(self.samples.file_names)
            if count > self.max_bad * total and self.error is None:
                # What could be read before, or listed, has changed since: no wrong input.
                changed = epoch > self._began or not os.path.exists(path)
                self.error = (RunError if changed else InputError)(
                    f"{count} of {total} images cannot be decoded, more than --max_bad "
                    f"{self.max_bad:g} allows; the last: {error}"
                )
        self.report(f"left out: {error}")


def as_dataset(batches, shape, dtype, classes):
    """A `PyDataset` as `fit` and `evaluate` should take it.

    On TensorFlow that is a `tf.data.Dataset` which reads an epoch each time it is
    iterated, elsewhere the batches themselves. Keras would make a data set of its own
    from the batches, with autotuning; the thread of that sleeps up to a minute at a time,
    and an iterator's end now and then waits for it, so that an epoch begins late.

    Args:
        batches: gives (x, y, weights) for an index.
        shape, dtype: of a row of x.
        classes: length of a row of y.
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
