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

from common.errors import DivergedError, ImageError, InputError, RunError, first_ten
from common.files import replacing, reserve, write_text
from runs import checkpoint, run_folder
from runs.results import score
from training import label_margins

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
            names = self.batches.samples.file_names
            images = [names[position] for position in self.batches.rows(batch)[0]]
            raise DivergedError(
                f"the loss became {logs['loss']} in epoch {self.epoch + 1}, step {batch + 1}, "
                f"with {first_ten(images)}; a lower --learning_rate, more --warmup_epochs or "
                "--clipnorm 1 usually helps"
            )

    def on_epoch_end(self, epoch, logs=None):
        for prefix in ("", "val_"):
            if prefix + MEAN_LOSS in logs:
                logs[f"{prefix}loss"] = logs.pop(prefix + MEAN_LOSS)
            logs.pop(prefix + label_margins.NAME, None)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        bad = sum(len(part.undecodable) for part in self.parts)
        total = sum(len(part.samples.file_names) for part in self.parts)
        if bad > self.max_bad * total:
            *_, last = [error for part in self.parts for error in part.undecodable.copy().values()]
            # What was listed and is there no more is no wrong input.
            raise (InputError if os.path.exists(last.name) else RunError)(
                f"{bad} of {total} images cannot be decoded, more than --max_bad "
                f"{self.max_bad:g} allows; the last: {last}"
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
    """Keeps the run folder: checkpoints, results, best and last weights; and patience.

    An epoch is done with its checkpoint. Weights and results follow from that: they are
    written after it, and again by a training that goes on from there.

    Args:
        whole: the run's model; the one that is fitted may be a part of it.
        path: the run's folder.
        patience: epochs without a better score before training stops; 0 is never.
        data: fingerprint of the data, for the checkpoint.
        start: the `checkpoint.Checkpoint` to go on from, or None.
        began: when the training began, as `time.monotonic` has it.
        writes: whether this process writes; another only follows.
        thaws: epochs after which a frozen backbone begins to train; patience counts from there.
        keep: how many epochs' weights to keep, the best ones.
        batches: `ImageBatches` whose undecodable images the checkpoint remembers.
    """

    def __init__(
        self, whole, path, patience, data, start, began, writes=True, thaws=0, keep=1, batches=()
    ):
        super().__init__()
        self.whole = whole
        # Without the optimizer, which Keras would store with a compiled model's weights.
        self.weights = keras.Model(whole.inputs, whole.outputs)
        self.path = path
        self.patience = patience
        self.writes = writes
        self.thaws = thaws
        self.data = data
        self.keep = keep
        self.batches = batches
        self.go_on(start)
        self.before = began - self.seconds

    def go_on(self, start):
        """Takes the state of a `checkpoint.Checkpoint`; of None, that of a beginning."""
        state = (
            start.state
            if start
            else {"history": [], "best_epoch": 0, "seconds": 0.0, "halvings": 0, "bad": []}
        )
        self.history = list(state["history"])
        self.best_epoch = state["best_epoch"]
        self.seconds = state["seconds"]  # of training, up to the last checkpoint
        self.halvings = state["halvings"]  # of the learning rate, after losses that were no number
        for part, bad in zip(self.batches, state["bad"]):
            part.undecodable = {position: ImageError(*error) for position, *error in bad}
        self.saved = (start.epochs, start.steps) if start else None  # what a checkpoint holds
        self.saved_at = time.monotonic()

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
            "halvings": self.halvings,
            "bad": [
                [
                    (position, error.name, error.reason)
                    for position, error in part.undecodable.copy().items()
                ]  # threads may add to it
                for part in self.batches
            ],
        }

    def save(self, model, steps=0, metrics=None):
        """Writes a checkpoint, in the process that writes.

        Args:
            model: the one that is fitted, with its optimizer.
            steps: steps into the epoch that follows those of the history.
            metrics: dict of path -> array, the variables of its metrics, within an epoch.
        """
        self.seconds = time.monotonic() - self.before
        if self.writes:
            checkpoint.save(
                os.path.join(self.path, run_folder.CHECKPOINT),
                len(self.history),
                steps,
                self.whole,
                model.optimizer,
                metrics or {},
                self.state(),
            )
            self.saved = len(self.history), steps
        self.saved_at = time.monotonic()

    def published(self):
        """Whether weights and results are those of all epochs of the history."""
        try:
            with open(os.path.join(self.path, run_folder.RESULTS), encoding="utf-8") as file:
                return file.read() == self._table()
        except OSError:
            return False

    def publish(self, model):
        """Writes weights and results of an epoch whose checkpoint has just been saved or loaded."""
        with averaged(model):  # in every process: it assigns variables that all share
            if self.writes:
                self._write_weights()
        if self.writes:
            write_text(os.path.join(self.path, run_folder.RESULTS), self._table())

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: float(logs[name]) for name in COLUMNS[1:]}}
        self.history.append(row)
        if self.best_epoch == 0 or score(row) > score(self.best):
            self.best_epoch = epoch + 1
        self.save(self.model)
        self.publish(self.model)
        if self._out_of_patience():
            self.model.stop_training = True

    def _write_weights(self):
        last, epochs = os.path.join(self.path, run_folder.LAST), len(self.history)
        with replacing(last) as partial:
            # HDF5 crashes where the disk is full; this raises an OSError.
            reserve(
                partial,
                sum(4096 + 8 * math.prod(variable.shape) for variable in self.weights.variables),
            )
            self.weights.save_weights(partial)
        if self.best_epoch == epochs:
            _copy(last, os.path.join(self.path, run_folder.BEST))
        if self.keep > 1:
            self._keep_best(last, epochs)

    def _keep_best(self, last, epoch):
        """Leaves the weights of the best epochs in the folder for them, those of `epoch` too."""
        folder = os.path.join(self.path, run_folder.KEPT)
        os.makedirs(folder, exist_ok=True)
        ranked = sorted(self.history, key=score, reverse=True)  # stable: the earlier of equals
        wanted = {f"{row['epoch']:05}.weights.h5": row["epoch"] for row in ranked[: self.keep]}
        for name in os.listdir(folder):
            if name not in wanted:
                os.unlink(os.path.join(folder, name))
        for name, number in wanted.items():
            if number == epoch:
                _copy(last, os.path.join(folder, name))

    def _out_of_patience(self):
        since = len(self.history) - max(self.best_epoch, self.thaws)
        return bool(self.patience) and since >= self.patience

    def _table(self):
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        return text.getvalue()


def _copy(source, target):
    """A tenth of the time that Keras takes to write the same weights."""
    with replacing(target) as partial:
        shutil.copyfile(source, partial)


class Progress(keras.callbacks.Callback):
    """A bar an epoch on a terminal, and a line an epoch everywhere, on standard error.

    Args:
        images: images an epoch.
        batch_size: images a step.
        epochs: epochs in all.
        done: epochs done before this start.
        steps: steps of the next one that are done, too.
    """

    def __init__(self, images, batch_size, epochs, done=0, steps=0):
        super().__init__()
        self.steps = steps
        self.images, self.batch_size = images, batch_size
        self.epochs, self.done = epochs, done
        self.began = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_began = time.monotonic()
        self.shown = 0.0
        self.bar = tqdm(
            total=self.images,
            desc=f"epoch {epoch + 1}/{self.epochs}",
            unit=" images",
            leave=False,
            disable=None,
            dynamic_ncols=True,
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
        computed, self.steps = self.images - self.steps * self.batch_size, 0
        left = (now - self.began) / (epoch + 1 - self.done) * (self.epochs - epoch - 1)
        scores = "  ".join(f"{name} {logs[name]:.4f}" for name in COLUMNS[1:5] if name in logs)
        print(
            f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}  {scores}  "
            f"rate {logs['learning_rate']:.2g}  "
            f"{max(computed, 0) / (self.trained - self.epoch_began):.0f} images/s  "
            f"{now - self.epoch_began:.0f} s  left {clock(left)}",
            file=sys.stderr,
            flush=True,
        )

    def on_train_end(self, logs=None):
        self.bar.close()


def clock(seconds):
    """Seconds as h:mm:ss, or m:ss below an hour."""
    seconds = round(seconds)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
