"""What happens beside the training steps: progress, results, weights, checkpoints."""

import contextlib
import csv
import io
import math
import os
import shutil
import sys
import time

import keras
from tqdm import tqdm

import checkpoint
import margins
import run_folder
from errors import InputError, RunError

# A metric beside Keras's own mean of the loss, which counts images that weigh nothing and,
# over several devices, those of smaller parts more.
MEAN_LOSS = "mean_loss"
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


class Epochs(keras.callbacks.Callback):
    """Tells the batches which epoch it is, and stops where going on makes no sense.

    Args:
        batches: the training's `ImageBatches`.
        validation: the validation's, or None.
        max_bad: share of the images of both that may be undecodable.
    """

    def __init__(self, batches, validation=None, max_bad=1.0):
        super().__init__()
        self.batches = batches
        self.parts = [part for part in (batches, validation) if part is not None]
        self.max_bad = max_bad

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise RunError(
                f"the loss became {logs['loss']} in epoch {self.epoch + 1}, step {batch + 1}; "
                "a lower --learning_rate or more --warmup_epochs usually helps"
            )

    def on_epoch_end(self, epoch, logs=None):
        for prefix in ("", "val_"):
            if prefix + MEAN_LOSS in logs:
                logs[f"{prefix}loss"] = logs.pop(prefix + MEAN_LOSS)
            logs.pop(prefix + margins.NAME, None)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        bad = sum(len(part.bad) for part in self.parts)
        total = sum(len(part.samples.names) for part in self.parts)
        if bad > self.max_bad * total:
            raise InputError(
                f"{bad} of {total} images cannot be decoded, more than --max_bad "
                f"{self.max_bad:g} allows"
            )


@contextlib.contextmanager
def averaged(model):
    """A context in which a model has the moving average of its weights, if it keeps one."""
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    if not uses_average(model):
        yield
        return
    swap.on_test_begin()
    try:
        yield
    finally:
        swap.on_test_end()


def uses_average(model):
    """Whether the model's optimizer keeps a moving average of the weights."""
    # Under float16 Keras puts the optimizer into one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return optimizer.use_ema


class RunWriter(keras.callbacks.Callback):
    """Keeps the run folder: results, best and last weights, the checkpoint, patience.

    Args:
        whole: the run's model; the one that is fitted may be a part of it.
        path: the run's folder.
        patience: epochs without a better score before training stops; 0 is never.
        data: fingerprint of the data, for the checkpoint.
        state: the state of a checkpoint to go on from, or None.
        began: when the training began, as `time.monotonic` has it.
        writes: whether this process writes; another only follows.
        thaws: epochs after which a frozen backbone begins to train; patience counts from there.
    """

    def __init__(self, whole, path, patience, data, state, began, writes=True, thaws=0):
        super().__init__()
        self.whole = whole
        # Without the optimizer, which Keras would store with a compiled model's weights.
        self.weights = keras.Model(whole.inputs, whole.outputs)
        self.path = path
        self.patience = patience
        self.writes = writes
        self.thaws = thaws
        self.data = data
        state = state or {"history": [], "best_epoch": 0, "seconds": 0.0}
        self.history = state["history"]
        self.best_epoch = state["best_epoch"]
        self.seconds = state["seconds"]  # of training, up to the last complete epoch
        self.saved = len(self.history)  # epochs that a checkpoint holds
        self.before = began - self.seconds

    @property
    def best(self):
        """The results of the best epoch."""
        return self.history[self.best_epoch - 1]

    def finished(self, epochs):
        """Whether nothing is left to train."""
        return len(self.history) >= epochs or self._out_of_patience()

    def state(self):
        """What going on needs to know."""
        return {
            "data": self.data,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
        }

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: float(logs[name]) for name in COLUMNS[1:]}}
        self.history.append(row)
        better = self.best_epoch == 0 or _score(row) > _score(self.best)
        if better:
            self.best_epoch = epoch + 1
        self.seconds = time.monotonic() - self.before
        with averaged(self.model):  # in every process: it assigns variables that all share
            if self.writes:
                self._write_weights(better)
        if self.writes:
            run_folder.write_text(os.path.join(self.path, run_folder.RESULTS), self._table())
            # Last: as long as it is not there, this epoch counts as not done and is repeated.
            checkpoint.save(
                os.path.join(self.path, run_folder.CHECKPOINT), self.whole, self.model.optimizer,
                self.state(),
            )
            self.saved = epoch + 1
        if self._out_of_patience():
            self.model.stop_training = True

    def _write_weights(self, better):
        last = os.path.join(self.path, run_folder.LAST)
        with run_folder.replacing(last) as partial:
            self.weights.save_weights(partial)
        if better:
            with run_folder.replacing(os.path.join(self.path, run_folder.BEST)) as partial:
                shutil.copyfile(last, partial)  # a tenth of the time that Keras takes to write it

    def _out_of_patience(self):
        since = len(self.history) - max(self.best_epoch, self.thaws)
        return bool(self.patience) and since >= self.patience

    def _table(self):
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        return text.getvalue()


def _score(row):
    return row["val_accuracy"], -row["val_loss"]


class Progress(keras.callbacks.Callback):
    """A bar an epoch on a terminal, and a line an epoch everywhere, on standard error.

    Args:
        images: images an epoch.
        batch_size: images a step.
        epochs: epochs in all.
        done: epochs done before this start.
    """

    def __init__(self, images, batch_size, epochs, done=0):
        super().__init__()
        self.images, self.batch_size = images, batch_size
        self.epochs, self.done = epochs, done
        self.began = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_began = time.monotonic()
        self.shown = 0.0
        self.bar = tqdm(
            total=self.images, desc=f"epoch {epoch + 1}/{self.epochs}", unit=" images",
            leave=False, disable=None, dynamic_ncols=True,
        )

    def on_train_batch_end(self, batch, logs=None):
        now = self.trained = time.monotonic()
        if self.bar.disable or now - self.shown < 0.2:  # a step may take less than this costs
            return
        self.shown = now
        seen = min((batch + 1) * self.batch_size, self.images)
        rate = float(self.model.optimizer.learning_rate)
        self.bar.set_postfix_str(
            f"loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.4f}, rate {rate:.2g}", False
        )
        self.bar.update(seen - self.bar.n)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.close()
        now = time.monotonic()
        left = (now - self.began) / (epoch + 1 - self.done) * (self.epochs - epoch - 1)
        scores = "  ".join(f"{name} {logs[name]:.4f}" for name in COLUMNS[1:5] if name in logs)
        print(
            f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}  {scores}  "
            f"rate {logs['learning_rate']:.2g}  "
            f"{self.images / (self.trained - self.epoch_began):.0f} images/s  "
            f"{now - self.epoch_began:.0f} s  left {clock(left)}",
            file=sys.stderr, flush=True,
        )

    def on_train_end(self, logs=None):
        self.bar.close()


def clock(seconds):
    """Seconds as h:mm:ss, or m:ss below an hour."""
    seconds = round(seconds)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
