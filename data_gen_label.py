"""Batches of labelled images for training and evaluation.

`ImageBatches` is a `keras.utils.PyDataset` (what `tf.keras.utils.Sequence` is
today). It reads ahead on its own threads: decoders release the interpreter lock,
and the queue does not depend on how Keras iterates.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from augment import Augmentation, augment
from errors import ImageError, InputError
from preprocess import load

SLICE = 4  # images a task: enough to make the hand-over cheap, few enough to spread a batch


class ImageBatches(keras.utils.PyDataset):
    """Batches of a folder's samples.

    A batch is `(x, y, weights)`: x uint8 (B, S, S, 3), RGB, 0-255; y float32
    (B, C), rows sum to 1; weights float32 (B,), 0 for an image that could not be
    decoded, else 1. The third item is always there because Keras takes a data
    set's structure from its first batches. The last batch may be smaller.

    What a batch holds is a function of (seed, epoch, index) alone.

    Args:
        samples: `samples.Samples`.
        classes: number of classes C.
        batch_size: images a batch.
        preprocessing: `preprocess.Preprocessing`.
        shuffle: a new order each epoch; else the samples' own order.
        augmentation: `augment.Augmentation`, or None.
        label_smoothing: share of each label spread evenly over all classes.
        seed: start of the order and of the augmentation.
        workers: threads that decode.
        queue: batches read ahead.
        max_bad: share of the samples that may be undecodable.
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
        label_smoothing=0.0,
        seed=0,
        workers=1,
        queue=4,
        max_bad=1.0,
        report=None,
    ):
        super().__init__(workers=1)  # Keras itself only asks for the next batch
        self.samples = samples
        self.classes = classes
        self.batch_size = batch_size
        self.preprocessing = preprocessing
        self.shuffle = shuffle
        self.augmentation = None if augmentation == Augmentation() else augmentation
        self.label_smoothing = label_smoothing
        self.seed = seed
        self.queue = queue
        self.max_bad = max_bad
        self.report = report or (lambda line: None)
        self.bad = {}  # position of an undecodable sample -> its ImageError
        self.error = None  # why the data set refused; Keras would wrap it beyond recognition
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._lock = threading.Lock()
        self._ahead = {}
        self._epoch = 0
        self._order = self._make_order()

    def __len__(self):
        return -(-len(self.samples.names) // self.batch_size)

    @property
    def epoch(self):
        """The epoch, from 0, that order and augmentation belong to."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch):
        with self._lock:
            if epoch != self._epoch:
                self._epoch = epoch
                self._order = self._make_order()
                self._ahead.clear()  # what is under way finishes and is dropped

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        with self._lock:
            for number in range(index, min(index + 1 + self.queue, len(self))):
                if number not in self._ahead:
                    self._ahead[number] = self._start(number)
            batch, tasks = self._ahead.pop(index)
        for task in tasks:
            task.result()
        if self.error:
            raise self.error
        return batch

    def dataset(self):
        """The batches as `fit` and `evaluate` should take them.

        On TensorFlow a `tf.data.Dataset` that reads an epoch each time it is iterated,
        else the batches themselves. Keras would make a data set of its own from the
        batches, with autotuning; the thread of that sleeps up to a minute at a time, and
        an iterator's end now and then waits for it, so that an epoch begins late.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        size = self.preprocessing.size
        options = tf.data.Options()
        options.autotune.enabled = False
        return (
            tf.data.Dataset.from_generator(
                lambda: (self[index] for index in range(len(self))),
                output_signature=(
                    tf.TensorSpec((None, size, size, 3), tf.uint8),
                    tf.TensorSpec((None, self.classes), tf.float32),
                    tf.TensorSpec((None,), tf.float32),
                ),
            )
            .apply(tf.data.experimental.assert_cardinality(len(self)))
            .prefetch(1)
            .with_options(options)
        )

    def positions(self, index):
        """Positions in `samples` of the rows of batch `index` of this epoch."""
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]

    def close(self):
        """Ends the threads; work not yet begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _make_order(self):
        count = len(self.samples.names)
        if not self.shuffle:
            return np.arange(count, dtype=np.int32)
        generator = np.random.default_rng((self.seed, self._epoch))
        return generator.permutation(np.arange(count, dtype=np.int32))

    def _start(self, index):
        positions = self.positions(index)
        size = self.preprocessing.size
        x = np.empty((len(positions), size, size, 3), np.uint8)
        y = np.full(
            (len(positions), self.classes), self.label_smoothing / self.classes, np.float32
        )
        y[np.arange(len(positions)), self.samples.labels[positions]] += 1 - self.label_smoothing
        weights = np.ones(len(positions), np.float32)
        tasks = [
            self._pool.submit(
                self._fill, x, weights, positions, range(first, min(first + SLICE, len(positions))),
                self._epoch,
            )
            for first in range(0, len(positions), SLICE)
        ]
        return (x, y, weights), tasks

    def _fill(self, x, weights, positions, rows, epoch):
        for row in rows:
            position = int(positions[row])
            path = os.path.join(self.samples.folder, self.samples.names[position])
            try:
                load(path, self.preprocessing, out=x[row])
            except ImageError as error:
                self._count_bad(position, error)
                x[row], weights[row] = 0, 0
                continue
            if self.augmentation:
                generator = np.random.default_rng((self.seed, epoch, position))
                augment(x[row], self.augmentation, generator)

    def _count_bad(self, position, error):
        with self._lock:
            if position in self.bad:
                return
            self.bad[position] = error
            count, total = len(self.bad), len(self.samples.names)
            if count > self.max_bad * total and self.error is None:
                self.error = InputError(
                    f"{count} of {total} images cannot be decoded, more than --max_bad "
                    f"{self.max_bad:g} allows; the last: {error}"
                )
        self.report(f"left out: {error}")
