"""best.weights.h5, last.weights.h5 and the weights of the best epochs."""

import math
import os
import shutil

import keras

from common.files import replacing, reserve
from runs import run_folder
from runs.results import score

BYTES_PER_VARIABLE = 4096  # HDF5's own, at most, beside 8 bytes per number


class WeightsWriter:
    """Writes a run's weights, each file whole or not at all.

    Keras's ModelCheckpoint is not used: it writes in place, so that a stop in its middle leaves
    half a file, and it knows nothing of checkpoints that have to be there first.

    Args:
        model: the run's Keras model.
        run_path: str, the run's folder.
        keep: int, how many epochs' weights to keep in the folder best/; 1 is none there.
    """

    def __init__(self, model, run_path, keep=1):
        # Without the optimizer, which Keras would store with a compiled model's weights.
        self.weights = keras.Model(model.inputs, model.outputs)
        self.run_path = run_path
        self.keep = keep

    def write(self, state):
        """Writes the model's weights as those of the last epoch of a `TrainingState`."""
        last_path = os.path.join(self.run_path, run_folder.LAST)
        last_number = len(state.history)
        with replacing(last_path) as partial_path:
            # HDF5 crashes where the disk is full; this raises an OSError.
            reserve(
                partial_path,
                sum(
                    BYTES_PER_VARIABLE + 8 * math.prod(variable.shape)
                    for variable in self.weights.variables
                ),
            )
            self.weights.save_weights(partial_path)
        if state.best_number == last_number:
            _copy(last_path, os.path.join(self.run_path, run_folder.BEST))
        if self.keep > 1:
            self._keep_best(state.history, last_path)

    def _keep_best(self, history, last_path):
        """Leaves the weights of the best epochs in the folder for them, the last one's too."""
        kept_folder = os.path.join(self.run_path, run_folder.KEPT)
        os.makedirs(kept_folder, exist_ok=True)
        ranked = sorted(history, key=score, reverse=True)  # stable: the earlier of equals
        wanted = {f"{row['epoch']:05}.weights.h5": row["epoch"] for row in ranked[: self.keep]}
        for file_name in os.listdir(kept_folder):
            if file_name not in wanted:
                os.unlink(os.path.join(kept_folder, file_name))
        for file_name, epoch_number in wanted.items():
            if epoch_number == len(history):
                _copy(last_path, os.path.join(kept_folder, file_name))


def _copy(source_path, target_path):
    """Takes a tenth of the time that Keras needs to write the same weights."""
    with replacing(target_path) as partial_path:
        shutil.copyfile(source_path, partial_path)
