"""What accompanies the training steps: the epoch's bookkeeping and the progress bar."""

import math
import os
import sys
import time

import keras
from tqdm import tqdm

from common.errors import DivergedError, InputError, RunError, first_ten
from runs.results import COLUMNS
from training import label_margins

# A metric beside Keras's own mean of the loss, which counts images that weigh nothing and,
# over several devices, those of smaller parts more.
MEAN_LOSS = "mean_loss"
REDRAW_SECONDS = 0.2  # between two updates of the bar; a step may take less than one costs


class EpochMonitor(keras.callbacks.Callback):
    """Tells the batches which epoch it is, and stops where continuing makes no sense.

    Keras's TerminateOnNaN is not used: it names neither the step nor the images, and ends a
    training as if it had succeeded.

    Args:
        training_batches: the training's `ImageBatches`.
        validation_batches: the validation's, or None.
        max_undecodable: float, fraction of the images of both that may be undecodable.
    """

    def __init__(self, training_batches, validation_batches=None, max_undecodable=1.0):
        super().__init__()
        self.training_batches = training_batches
        both = (training_batches, validation_batches)
        self.data_parts = [part for part in both if part is not None]
        self.max_undecodable = max_undecodable

    def on_epoch_begin(self, epoch, logs=None):
        self.training_batches.epoch = epoch
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check_loss(logs["loss"], max(0, batch - 1))  # see `log_one_step_late`

    def on_epoch_end(self, epoch, logs=None):
        for prefix in ("", "val_"):
            if prefix + MEAN_LOSS in logs:
                logs[f"{prefix}loss"] = logs.pop(prefix + MEAN_LOSS)
            logs.pop(prefix + label_margins.METRIC_NAME, None)
        self._check_loss(logs["loss"])
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        self._check_undecodable()

    def _check_loss(self, loss, step=None):
        """Refuses a loss that is no number, of `step`, or of the epoch's last."""
        if not math.isfinite(loss):
            step = len(self.training_batches) - 1 if step is None else step
            file_names = self.training_batches.samples.file_names
            positions = self.training_batches.rows(step)[0]
            raise DivergedError(
                f"the loss became {loss} in epoch {self.epoch + 1}, step {step + 1}, "
                f"with {first_ten([file_names[position] for position in positions])}; a lower "
                "--learning_rate, more --warmup_epochs or --clipnorm 1 usually helps"
            )

    def _check_undecodable(self):
        undecodable_count = sum(len(part.undecodable) for part in self.data_parts)
        image_count = sum(len(part.samples.file_names) for part in self.data_parts)
        if undecodable_count > self.max_undecodable * image_count:
            *_, last = [
                error for part in self.data_parts for error in part.undecodable.copy().values()
            ]
            # A file that was listed and has gone since is not wrong input.
            raise (InputError if os.path.exists(last.name) else RunError)(
                f"{undecodable_count} of {image_count} images cannot be decoded, more than "
                f"--max_bad {self.max_undecodable:g} allows; the last: {last}"
            )


class ProgressBar(keras.callbacks.Callback):
    """One bar per epoch on a terminal, and one line per epoch everywhere, on standard error.

    The first step of a `fit`, which compiles, is left out of the estimates of the time that is
    left, and so is the first batch of its validation.

    Args:
        images_per_epoch: int.
        batch_size: int, images per step.
        epochs: int, epochs in all.
        done_steps: int, steps of the first epoch that were done before this start.
    """

    def __init__(self, images_per_epoch, batch_size, epochs, done_steps=0):
        super().__init__()
        self.images_per_epoch, self.batch_size = images_per_epoch, batch_size
        self.epochs, self.done_steps = epochs, done_steps
        self.timed_seconds, self.timed_images = 0.0, 0

    def on_train_begin(self, logs=None):
        self.compiles_step = self.compiles_validation = True

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_started_at = self.timed_until = time.monotonic()
        self.untimed_images = self.done_steps * self.batch_size
        self.drawn_at = 0.0
        self.bar = tqdm(
            total=self.images_per_epoch,
            desc=f"epoch {epoch + 1}/{self.epochs}",
            unit=" images",
            leave=False,
            disable=None,
            dynamic_ncols=True,
        )

    def on_train_batch_end(self, batch, logs=None):
        now = self.trained_until = time.monotonic()
        images_seen = min((batch + 1) * self.batch_size, self.images_per_epoch)
        if self.compiles_step:
            self.compiles_step = False
            self.timed_until, self.untimed_images = now, images_seen
            self.bar.n = self.bar.initial = self.bar.last_print_n = images_seen
            self.bar.unpause()
        if self.bar.disable or now - self.drawn_at < REDRAW_SECONDS:
            return
        self.drawn_at = now
        learning_rate = float(self.model.optimizer.learning_rate)
        self.bar.set_postfix_str(
            f"loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.4f}, rate {learning_rate:.2g}",
            False,
        )
        self.bar.update(images_seen - self.bar.n)

    def on_test_begin(self, logs=None):
        self.validation_started_at = time.monotonic()

    def on_test_batch_end(self, batch, logs=None):
        if self.compiles_validation:
            self.compiles_validation = False
            self.timed_until += time.monotonic() - self.validation_started_at

    def _seconds_left(self, now, epochs_left):
        """An estimate; where all of an epoch is its first step, from that."""
        self.timed_images += max(0, self.images_per_epoch - self.untimed_images)
        self.timed_seconds += now - self.timed_until
        if not self.timed_images:
            return (now - self.epoch_started_at) * epochs_left
        return self.timed_seconds / self.timed_images * self.images_per_epoch * epochs_left

    def on_epoch_end(self, epoch, logs=None):
        self.bar.close()
        now = time.monotonic()
        images_trained = max(0, self.images_per_epoch - self.done_steps * self.batch_size)
        self.done_steps = 0
        seconds_left = self._seconds_left(now, self.epochs - epoch - 1)
        scores = "  ".join(f"{name} {logs[name]:.4f}" for name in COLUMNS[1:5] if name in logs)
        print(
            f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}  {scores}  "
            f"rate {logs['learning_rate']:.2g}  "
            f"{images_trained / (self.trained_until - self.epoch_started_at):.0f} images/s  "
            f"{now - self.epoch_started_at:.0f} s  left {format_duration(seconds_left)}",
            file=sys.stderr,
            flush=True,
        )

    def on_train_end(self, logs=None):
        self.bar.close()


def format_duration(seconds):
    """str, a duration as h:mm:ss, or m:ss below an hour.

    Args:
        seconds: float, at least 0.

    Example:
        >>> format_duration(3725.4)
        '1:02:05'
    """
    seconds = round(seconds)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
