"""best.weights.h5, last.weights.h5 and the weights of the best epochs."""

import math
import os
import shutil

import keras

from common.files import replacing, reserve
from runs import run_folder
from runs.results import ranked_epochs

SOUP_EPOCHS = 5  # at most, that --soup averages
BYTES_PER_VARIABLE = 4096  # HDF5's own, at most, beside 8 bytes per number


class WeightsWriter:
    """Writes a run's weights, each file whole or not at all.

    Keras's ModelCheckpoint is not used: it writes in place, so that a stop in its middle leaves
    half a file, and it knows nothing of checkpoints that have to be there first.

    Args:
        model: the run's Keras model.
        run_path: str, the run's folder.
        keep: int, how many epochs' weights to keep in the folder best/; 1 is none there.
        soup_start: int, epochs at the beginning that `--soup` cannot average; None where it is
            not wanted.
    """

    def __init__(self, model, run_path, keep=1, soup_start=None):
        # Without the optimizer, which Keras would store with a compiled model's weights.
        self.weights = keras.Model(model.inputs, model.outputs)
        self.run_path = run_path
        self.keep = keep
        self.soup_start = soup_start

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
            copy_weights(last_path, os.path.join(self.run_path, run_folder.BEST))
        if self.keep > 1:
            best_numbers = ranked_epochs(state.history)[: self.keep]
            self._keep_epochs(run_folder.KEPT, best_numbers, last_number)
        if self.soup_start is not None:
            # Beside them the epoch that they are compared with.
            soup_numbers = soup_candidates(state.history, self.soup_start)
            self._keep_epochs(run_folder.SOUP, [*soup_numbers, state.best_number], last_number)

    def _keep_epochs(self, folder_name, epoch_numbers, last_number):
        """Leaves the weights of these epochs in a folder, and no others."""
        kept_folder = os.path.join(self.run_path, folder_name)
        os.makedirs(kept_folder, exist_ok=True)
        wanted_names = set(map(epoch_file, epoch_numbers))
        for file_name in os.listdir(kept_folder):
            if file_name not in wanted_names:
                os.unlink(os.path.join(kept_folder, file_name))
        if last_number in epoch_numbers:
            last_path = os.path.join(self.run_path, run_folder.LAST)
            copy_weights(last_path, os.path.join(kept_folder, epoch_file(last_number)))


def soup_candidates(history, soup_start):
    """list of int, the numbers of the epochs that `--soup` may average, the best one first.

    Args:
        history: list of dict, one row per epoch.
        soup_start: int, epochs at the beginning that are left out.
    """
    return ranked_epochs(history, soup_start)[:SOUP_EPOCHS]


def epoch_file(epoch_number):
    """str, the name of an epoch's weights in a folder of several.

    Args:
        epoch_number: int, counted from 1.
    """
    return f"{epoch_number:05}.weights.h5"


def copy_weights(source_path, target_path):
    """Copies a file of weights, in a tenth of the time that Keras needs to write them.

    Args:
        source_path: str.
        target_path: str, which may exist.
    """
    with replacing(target_path) as partial_path:
        shutil.copyfile(source_path, partial_path)
