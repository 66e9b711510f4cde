"""Stopping in the middle of an epoch, and resuming there."""

import contextlib
import os
import signal
import sys
import threading
import time

import keras
import numpy as np

from common.console import tolerate_closed_output
from compute.keras_patches import skip_steps
from training.averaging import averaged_weights
from training.callbacks import MEAN_LOSS

# Windows has no SIGHUP.
ENDING_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
NOTICE = b"\nstopping after this batch, with a checkpoint; once more stops at once\n"


class Interruptions:
    """A context in which signals that end a process wait for the end of the batch.

    These are Ctrl-C, SIGTERM and, where a system has it, SIGHUP, which a closed terminal sends.
    A second one does not wait. One that is ignored, as SIGHUP is under nohup, stays so.

    Attributes:
        signal_number: int, the signal that waits, or None.
    """

    def __init__(self):
        self.signal_number = None
        self.previous_handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for signal_number in ENDING_SIGNALS:
                if signal.getsignal(signal_number) != signal.SIG_IGN:  # a shell's background, say
                    self.previous_handlers[signal_number] = signal.signal(signal_number, self._note)
        return self

    def __exit__(self, kind, error, trace):
        for signal_number, handler in self.previous_handlers.items():
            signal.signal(signal_number, handler)
        if self.signal_number and kind is None:
            self.end()

    def _note(self, signal_number, frame):
        if self.signal_number:
            self.signal_number = signal_number
            self.end()
        self.signal_number = signal_number
        tolerate_closed_output()
        with contextlib.suppress(OSError):
            os.write(2, NOTICE)  # not print, which may be in use right now

    def end(self):
        """Does what the signal asks for."""
        if self.signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + self.signal_number)


class MidEpochCheckpoints(keras.callbacks.Callback):
    """Writes checkpoints between those of the epochs, and resumes from such a one.

    Steps that a checkpoint has done already pass without computing: the batches count, the
    metrics are those of the checkpoint. It has to come before what swaps in averaged weights.

    Args:
        recorder: `RunRecorder`.
        interruptions: `Interruptions`.
        minutes: float, between two checkpoints; 0 writes one only where a signal asks for it.
        checkpoint: the `Checkpoint` to resume from, or None.
        metric_values: dict of path -> array, the variables of its metrics.
    """

    def __init__(self, recorder, interruptions, minutes, checkpoint=None, metric_values=None):
        super().__init__()
        self.recorder = recorder
        self.interruptions = interruptions
        self.seconds = minutes * 60 or float("inf")
        self.checkpoint = checkpoint
        self.metric_values = metric_values

    def on_epoch_begin(self, epoch, logs=None):
        self.skipped_steps = self.done_steps = 0
        if self.checkpoint and self.checkpoint.steps and epoch == self.checkpoint.epochs:
            # With --force the batches may be larger, and fewer.
            self.skipped_steps = min(self.checkpoint.steps, self.params["steps"])
            self.done_steps = self.skipped_steps
            for variable in self.model.metrics_variables:
                variable.assign(self.metric_values[variable.path])
            skip_steps(self.model, self.skipped_steps)

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 > self.skipped_steps:
            self.done_steps = batch + 1
            if self._is_due():
                self._save(_metric_values(self.model))

    def on_test_begin(self, logs=None):
        self.training_metrics = _metric_values(self.model)  # validation is about to reset them

    def on_test_batch_end(self, batch, logs=None):
        if self._is_due():
            with averaged_weights(self.model):  # swaps: validation has the average in the model
                self._save(self.training_metrics)

    def on_epoch_end(self, epoch, logs=None):
        if self.interruptions.signal_number:  # the epoch's own checkpoint has been written
            self.interruptions.end()

    def _is_due(self):
        waited = time.monotonic() - self.recorder.saved_at
        return self.interruptions.signal_number or waited >= self.seconds

    def _save(self, metric_values):
        # `EpochMonitor` sees a loss of NaN one step later: see `log_one_step_late`
        if all(np.isfinite(metric_values[path]) for path in metric_values if _is_loss(path)):
            self.recorder.save(self.model, self.done_steps, metric_values)
        if self.interruptions.signal_number:
            self.interruptions.end()


def _is_loss(path):
    return path.split("/")[-2:-1] == [MEAN_LOSS]


def _metric_values(model):
    return {variable.path: np.array(variable) for variable in model.metrics_variables}
