"""Stopping in the middle of an epoch, and going on there."""

import os
import signal
import sys
import threading
import time

import keras
import numpy as np

from training.callbacks import averaged


class Interruptions:
    """A context in which Ctrl-C and SIGTERM wait for the end of the batch; a second one does not.

    Attributes:
        number: of the signal that waits, or None.
    """

    def __init__(self):
        self.number = None
        self.before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # a shell's background, say
                    self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind, error, trace):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.number and kind is None:
            self.end()

    def _note(self, number, frame):
        if self.number:
            self.number = number
            self.end()
        self.number = number
        # Not print, which may be at work just now.
        os.write(2, b"\nstopping after this batch, with a checkpoint; once more stops at once\n")

    def end(self):
        """Does what the signal asks for."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + self.number)


class Pauses(keras.callbacks.Callback):
    """Writes checkpoints between those of the epochs, and goes on from such a one.

    Steps that a checkpoint has done already pass without computing: the batches count, the
    metrics are those of the checkpoint. It has to come before what swaps in averaged weights.

    Args:
        writer: the `callbacks.RunWriter`.
        interruptions: `Interruptions`.
        minutes: between two checkpoints; 0 is only where a signal asks for one.
        start: the `checkpoint.Checkpoint` to go on from, or None.
        metrics: dict of path -> array, the variables of its metrics.
    """

    def __init__(self, writer, interruptions, minutes, start=None, metrics=None):
        super().__init__()
        self.writer = writer
        self.interruptions = interruptions
        self.seconds = minutes * 60 or float("inf")
        self.start = start
        self.metrics = metrics

    def on_epoch_begin(self, epoch, logs=None):
        self.passed = self.steps = 0
        if self.start and self.start.steps and epoch == self.start.epochs:
            # With --force the batches may be larger, and fewer.
            self.passed = self.steps = min(self.start.steps, self.params["steps"])
            for variable in self.model.metrics_variables:
                variable.assign(self.metrics[variable.path])
            pass_over(self.model, self.passed)

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 > self.passed:
            self.steps = batch + 1
            if self._due():
                self._pause(_metrics(self.model))

    def on_test_begin(self, logs=None):
        self.trained = _metrics(self.model)  # validation is about to reset them

    def on_test_batch_end(self, batch, logs=None):
        if self._due():
            with averaged(self.model):  # which swaps: validation has the average in the model
                self._pause(self.trained)

    def on_epoch_end(self, epoch, logs=None):
        if self.interruptions.number:  # the epoch's own checkpoint has been written
            self.interruptions.end()

    def _due(self):
        since = time.monotonic() - self.writer.saved_at
        return self.interruptions.number or since >= self.seconds

    def _pause(self, metrics):
        self.writer.save(self.model, self.steps, metrics)
        if self.interruptions.number:
            self.interruptions.end()


def pass_over(model, count):
    """Lets the next `count` steps of a model's `fit` take their batch and do nothing."""
    compute = model.train_function
    logs = {name: float(value) for name, value in model.get_metrics_result().items()}
    left = count

    def step(*arguments):
        nonlocal left
        left -= 1
        if not left:
            model.train_function = compute
        *state, batches = arguments  # JAX hands its state from step to step
        next(batches)
        return (logs, *state) if state else logs

    model.train_function = step


def build_metrics(model, classes):
    """Makes the variables of a compiled model's metrics, which Keras does in the first step."""
    row = np.full((1, classes), 1 / classes, np.float32)
    model.compute_metrics(None, row, row, np.ones(1, np.float32))
    model.reset_metrics()


def _metrics(model):
    return {variable.path: np.array(variable) for variable in model.metrics_variables}
