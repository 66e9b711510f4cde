"""What a training leaves in the run's folder while it runs: checkpoints, weights, results."""

import dataclasses
import os
import time

import keras

from common.errors import ImageError
from runs import checkpoint as checkpoints
from runs import run_folder
from runs.results import COLUMNS, results_are, write_results
from runs.training_state import TrainingState
from training.averaging import averaged_weights
from training.patience import Patience
from training.weights_selection import WeightsSelection

NO_PATIENCE = Patience()
BEST_EPOCH = WeightsSelection()


class RunRecorder(keras.callbacks.Callback):
    """Writes a checkpoint per epoch, then the weights and results that follow from it.

    An epoch is complete with its checkpoint. Weights and results are written after it, and
    again by a training that resumes from it. Keras's BackupAndRestore is not used: stopped in
    mid-epoch it repeats the epoch with weights that have moved on.

    Args:
        full_model: the run's model; the one that is fitted may be a part of it.
        weights_writer: `WeightsWriter` of the run's folder.
        data_fingerprint: str, what a resumed training compares its data with.
        batches: `ImageBatches` whose undecodable images the checkpoint remembers.
        patience: `Patience`.
        selection: `WeightsSelection`.
        is_chief: bool, whether this process writes; another only follows.
        started_at: float, when the training began, as `time.monotonic` gives it.

    Attributes:
        state: `TrainingState`.
        saved: (complete epochs, steps) of the last checkpoint, None before the first.
        saved_at: float, when that was.
    """

    def __init__(
        self,
        full_model,
        weights_writer,
        data_fingerprint,
        batches=(),
        patience=NO_PATIENCE,
        selection=BEST_EPOCH,
        is_chief=True,
        started_at=0.0,
    ):
        super().__init__()
        self.full_model = full_model
        self.weights_writer = weights_writer
        self.run_path = weights_writer.run_path
        self.data_fingerprint = data_fingerprint
        self.batches = batches
        self.patience = patience
        self.selection = selection
        self.is_chief = is_chief
        self.started_at = started_at
        self.seconds_before = 0.0  # of training, in earlier starts of this run
        self.restore(None)

    def restore(self, checkpoint):
        """Takes the state of a `Checkpoint`; of None, that of a training that begins."""
        state = checkpoint.state if checkpoint else TrainingState(self.data_fingerprint)
        self.state = dataclasses.replace(state, history=list(state.history))
        for part, undecodable in zip(self.batches, state.undecodable):
            part.undecodable = {position: ImageError(*error) for position, *error in undecodable}
        self.saved = (checkpoint.epochs, checkpoint.steps) if checkpoint else None
        self.saved_at = time.monotonic()

    def resume(self, checkpoint):
        """Continues an earlier start of this run, whose time of training counts."""
        self.restore(checkpoint)
        self.seconds_before = self.state.seconds

    def is_finished(self, epochs):
        """bool, whether nothing is left to train of `epochs`."""
        return len(self.state.history) >= epochs or self.patience.is_exhausted(self.state)

    def is_published(self):
        """bool, whether weights and results are those of all complete epochs."""
        return results_are(self.run_path, self.state.history)

    def save(self, fitted_model, steps=0, metric_values=None):
        """Writes a checkpoint, in the process that writes.

        Args:
            fitted_model: the model that is trained, with its optimizer.
            steps: int, steps into the epoch that follows the complete ones.
            metric_values: dict of path -> array, the variables of its metrics within an epoch.
        """
        self.state.seconds = self.seconds_before + time.monotonic() - self.started_at
        if self.is_chief:
            self.state.undecodable = [
                [
                    (position, error.name, error.reason, error.code)
                    for position, error in part.undecodable.copy().items()  # threads may add
                ]
                for part in self.batches
            ]
            complete_epochs = len(self.state.history)
            checkpoints.save(
                os.path.join(self.run_path, run_folder.CHECKPOINT),
                complete_epochs,
                steps,
                self.full_model,
                fitted_model.optimizer,
                metric_values or {},
                self.state,
            )
            self.saved = complete_epochs, steps
        self.saved_at = time.monotonic()

    def publish(self, fitted_model):
        """Writes weights and results of the epoch whose checkpoint was just saved or loaded."""
        with averaged_weights(fitted_model):  # in every process: it assigns shared variables
            if self.is_chief:
                self.weights_writer.write(self.state)
        if self.is_chief:
            write_results(self.run_path, self.state.history)

    def on_epoch_end(self, epoch, logs=None):
        scores = {name: float(logs[name]) for name in COLUMNS[1:]}
        self.state.add_epoch({"epoch": epoch + 1, **scores})
        self.selection.apply(self.state)
        self.save(self.model)
        self.publish(self.model)
        if self.patience.is_exhausted(self.state):
            self.model.stop_training = True
