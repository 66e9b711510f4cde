"""How sure the model was of each training image's label, epoch by epoch.

A wrong label is learned late or not at all: as long as the images around it pull the model
to their class, its margin stays low. Pleiss et al. 2020, "Identifying Mislabeled Data using
the Area Under the Margin Ranking", section 3. The margins are by-products of the training
steps and cost next to nothing; `evaluation/label_errors.py` judges labels by them.
"""

import keras
import numpy as np
from keras import ops

from runs.margin_files import write_margins

METRIC_NAME = "margins"  # which no log should show
SMALLEST_PROBABILITY = 1e-30  # whose logarithm float32 can still hold


class Margins(keras.metrics.Metric):
    """Keeps the margins of the rows that came since the last reset, in their order.

    The margin of a row is the logarithm of its own class's probability minus that of the most
    probable other class, which is the difference of their logits; NaN for a row of weight 0.

    Args:
        max_rows: int, the most rows that come between two resets.
    """

    def __init__(self, max_rows):
        super().__init__(name=METRIC_NAME)
        self.values = self.add_variable((max_rows,), "zeros", name="values")
        self.count = self.add_variable((), "zeros", dtype="int32", name="count")

    def update_state(self, y_true, y_pred, sample_weight):
        probabilities = ops.cast(y_pred, "float32")
        logits = ops.log(ops.maximum(probabilities, SMALLEST_PROBABILITY))
        own_class = ops.one_hot(ops.argmax(y_true, axis=-1), y_pred.shape[-1], dtype="float32")
        margins = ops.sum(own_class * logits, axis=-1) - ops.max(logits - 1e9 * own_class, axis=-1)
        margins = ops.where(ops.reshape(sample_weight, (-1,)) > 0, margins, np.nan)
        values = ops.convert_to_tensor(self.values)
        self.values.assign(ops.slice_update(values, ops.reshape(self.count, (1,)), margins))
        self.count.assign(self.count + ops.shape(margins)[0])

    def unknown_values(self, row_count):
        """dict of path -> array: the variables after `row_count` rows that nobody looked at."""
        return {
            self.values.path: np.full(self.values.shape, np.nan, np.float32),
            self.count.path: np.int32(row_count),
        }

    def result(self):
        return 0.0  # a metric has to give a number; what counts are the values


class MarginWriter(keras.callbacks.Callback):
    """Leaves the margins of each epoch in the run's folder.

    Args:
        metric: `Margins` that the model is compiled with.
        batches: the training's `ImageBatches`.
        run_path: str, the run's folder.
    """

    def __init__(self, metric, batches, run_path):
        super().__init__()
        self.metric = metric
        self.batches = batches
        self.run_path = run_path

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_test_begin(self, logs=None):  # validation resets the metric
        batch_rows = [self.batches.rows(index)[0] for index in range(len(self.batches))]
        positions = np.concatenate(batch_rows)
        row_margins = np.asarray(self.metric.values)[: len(positions)]
        # The balanced sampler does not draw every image in each epoch, and draws some repeatedly.
        image_margins = np.full(len(self.batches.samples.file_names), np.nan, np.float16)
        image_margins[positions] = row_margins
        write_margins(self.run_path, self.epoch, image_margins)


def make_margins(setup, devices):
    """The `Margins` of a training, a tuple of one; empty where they say nothing about labels.

    Args:
        setup: `TrainingSetup`.
        devices: `Devices` to train on; several keep no margins, nor do mixed images or those
            that a teacher has answered for.
    """
    is_mixed = setup.options.mixup or setup.options.cutmix or setup.lesson
    if devices.sharding.devices > 1 or is_mixed:
        return ()
    parts = (setup.training, setup.validation)
    return (Margins(max(len(samples.file_names) for samples in parts)),)
