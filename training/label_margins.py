"""How sure the model was of each training image's label, epoch by epoch.

A wrong label is learnt late or not at all: as long as the images around it pull the model
to their class, its margin stays low. Pleiss et al. 2020, "Identifying Mislabeled Data using
the Area Under the Margin Ranking", section 3. The margins are by-products of the training
steps and cost next to nothing; `other/label_suspects.py` judges by them.
"""

import keras
import numpy as np
from keras import ops

from runs.margin_files import write_margins

NAME = "margins"  # of the metric, which no log should show


class Margins(keras.metrics.Metric):
    """Keeps the margins of the rows that came since the last reset, in their order.

    A row's margin is the logarithm of its own class's probability less that of the likeliest
    other class, which is the difference of their logits; NaN for a row of weight 0.

    Args:
        rows: the most that come between two resets.
    """

    def __init__(self, rows):
        super().__init__(name=NAME)
        self.values = self.add_variable((rows,), "zeros", name="values")
        self.count = self.add_variable((), "zeros", dtype="int32", name="count")

    def update_state(self, y_true, y_pred, sample_weight):
        logits = ops.log(ops.maximum(ops.cast(y_pred, "float32"), 1e-30))
        own = ops.one_hot(ops.argmax(y_true, axis=-1), y_pred.shape[-1], dtype="float32")
        margins = ops.sum(own * logits, axis=-1) - ops.max(logits - 1e9 * own, axis=-1)
        margins = ops.where(ops.reshape(sample_weight, (-1,)) > 0, margins, np.nan)
        values = ops.convert_to_tensor(self.values)
        self.values.assign(ops.slice_update(values, ops.reshape(self.count, (1,)), margins))
        self.count.assign(self.count + ops.shape(margins)[0])

    def unknown(self, rows):
        """The variables' values, by their paths, after so many rows that were not looked at."""
        return {
            self.values.path: np.full(self.values.shape, np.nan, np.float32),
            self.count.path: np.int32(rows),
        }

    def result(self):
        return 0.0  # a metric has to give a number; what counts are the values


class MarginWriter(keras.callbacks.Callback):
    """Leaves the margins of each epoch in the run's folder.

    Args:
        metric: `Margins` that the model is compiled with.
        batches: the training's `ImageBatches`.
        path: the run's folder.
    """

    def __init__(self, metric, batches, path):
        super().__init__()
        self.metric = metric
        self.batches = batches
        self.path = path

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_test_begin(self, logs=None):  # validation resets the metric
        rows = np.concatenate([self.batches.rows(number)[0] for number in range(len(self.batches))])
        values = np.asarray(self.metric.values)[: len(rows)]
        # The balanced sampler draws some images not at all in an epoch, and some repeatedly.
        margins = np.full(len(self.batches.samples.file_names), np.nan, np.float16)
        margins[rows] = values
        write_margins(self.path, self.epoch, margins)


def make(job, devices):
    """The `Margins` of a job as a tuple of one; empty where they would say nothing of a label."""
    if devices.sharding.devices > 1 or job.options.mixup or job.options.cutmix:
        return ()
    return (Margins(max(len(job.training.file_names), len(job.validation.file_names))),)
