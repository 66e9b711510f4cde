"""--soup: the mean of the best epochs' weights, each only where validation does not lose by it.

Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time", section 2, recipe 1 (the greedy soup). Theirs are the
models of many trainings; here they are epochs of one, which lie on one path, and whose mean is
that of Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".

The moving statistics of batch normalization are averaged like all weights. Izmailov et al.
(section 3.2) compute them anew, in a pass over the training photos, because a high learning rate
drives their weights far apart. From pretrained weights they are the same in all epochs
(`--freeze_batchnorm`); from scratch the best epochs are mostly those at the end of the cosine,
close to each other; and where the mean does not fit, validation says so and it is not taken.
"""

import contextlib
import os
import shutil
from typing import NamedTuple

import h5py
import keras
import numpy as np

from common.console import say
from common.errors import ImageError
from common.files import replacing
from compute.devices import SINGLE_DEVICE
from modeling import weight_files
from runs import run_folder
from runs.results import score
from training.batches import make_batches
from training.callbacks import MEAN_LOSS
from training.compilation import jit_compile, make_loss
from training.stages import list_stages
from training.weights_writer import copy_weights, epoch_file, soup_candidates

AVERAGE = "average.weights.h5"  # the mean that is tried last
LEAST_EPOCHS = 2


class Soup(NamedTuple):
    """What averaging has brought.

    Attributes:
        epochs: tuple of int, the numbers of the epochs that were averaged, the best one first.
        scores: dict of val_accuracy and val_loss of their mean.
        epoch_scores: the same of the one epoch that it is compared with.
    """

    epochs: tuple
    scores: dict
    epoch_scores: dict

    @property
    def is_better(self):
        """bool, whether there is a mean and it is better than the one epoch."""
        return len(self.epochs) >= LEAST_EPOCHS and score(self.scores) > score(self.epoch_scores)

    def to_json(self):
        """dict, what metrics.json says of it."""
        return {"epochs": sorted(self.epochs), "kept": self.is_better} | {
            f"{name}_{moment}": value
            for moment, scores in (("before", self.epoch_scores), ("after", self.scores))
            for name, value in scores.items()
        }

    def describe(self):
        """str, one line."""
        numbers = ", ".join(map(str, sorted(self.epochs)))
        before, after = (
            f"val_accuracy {scores['val_accuracy']:.4f} and val_loss {scores['val_loss']:.4f}"
            for scores in (self.epoch_scores, self.scores)
        )
        if self.is_better:
            return (
                f"soup: the average of epochs {numbers} is kept: {after}, for {before} of one "
                "epoch. The validation images have chosen it, which flatters it: measure it on "
                "test images"
            )
        what = f"the average of epochs {numbers} has {after}, no better than"
        if len(self.epochs) < LEAST_EPOCHS:
            what = "no epoch could be averaged with the best one without a loss;"
        return f"soup: {what} the one epoch with {before}, which is kept"


def make_soup(setup, model, state):
    """Averages the best epochs of a run's last stage and leaves the better of two as its best.

    These are the average and the epoch that would be kept without it. Everything comes from the
    files of the epochs, so that a second call, after a stop in the first, gives the same.

    Args:
        setup: `TrainingSetup`.
        model: the run's Keras model, in float32 on one device; its weights change.
        state: `TrainingState` of a training that has ended.

    Returns:
        `Soup`, or None where the last stage has left fewer than two epochs.
    """
    folder = os.path.join(setup.run_path, run_folder.SOUP)
    one_epoch = os.path.join(folder, epoch_file(state.best_number))
    numbers = soup_candidates(state.history, list_stages(setup.options)[-1].first)
    paths = {number: os.path.join(folder, epoch_file(number)) for number in numbers}
    paths = {number: path for number, path in paths.items() if os.path.exists(path)}
    if len(paths) < LEAST_EPOCHS or not os.path.exists(one_epoch):
        say("note: --soup: fewer than two epochs of all layers; there is nothing to average")
        return None
    average_path = os.path.join(folder, AVERAGE)
    with _validation(setup, model, state) as evaluate:
        epoch_scores = evaluate(one_epoch)

        def evaluate_mean(epochs):
            average([paths[number] for number in epochs], average_path)
            return evaluate(average_path)

        epochs, scores = choose(list(paths), evaluate_mean)
    soup = Soup(tuple(epochs), scores, epoch_scores)
    best_path = one_epoch
    if soup.is_better:
        average([paths[number] for number in epochs], average_path)
        best_path = average_path
    copy_weights(best_path, os.path.join(setup.run_path, run_folder.BEST))
    os.unlink(average_path)
    return soup


def choose(candidates, evaluate):
    """Chooses what to average: one after the other, each kept where the mean does not lose by it.

    Args:
        candidates: list of at least one, the best first.
        evaluate: function from a list of candidates to the dict of val_accuracy and val_loss of
            their mean; the accuracy counts first, the loss breaks ties.

    Returns:
        (list of the candidates chosen, the scores of their mean).

    Example:
        >>> losses = {(3,): 0.4, (3, 1): 0.5, (3, 2): 0.3}
        >>> choose([3, 1, 2], lambda epochs: {
        ...     "val_accuracy": 0.9, "val_loss": losses[tuple(epochs)]})
        ([3, 2], {'val_accuracy': 0.9, 'val_loss': 0.3})
    """
    chosen = candidates[:1]
    scores = evaluate(chosen)
    for candidate in candidates[1:]:
        mean_scores = evaluate([*chosen, candidate])
        if score(mean_scores) >= score(scores):
            chosen, scores = [*chosen, candidate], mean_scores
    return chosen, scores


def average(paths, target_path):
    """Writes the mean of files of weights of one network, whole or not at all.

    Args:
        paths: list of str, `.weights.h5` files; what is no fraction is that of the first.
        target_path: str, the file to write.

    Example:
        >>> average(["soup/00007.weights.h5", "soup/00008.weights.h5"], "average.weights.h5")
    """
    with replacing(target_path) as partial_path:
        shutil.copyfile(paths[0], partial_path)
        with contextlib.ExitStack() as files:
            target = files.enter_context(h5py.File(partial_path, "r+"))
            others = [files.enter_context(h5py.File(path, "r")) for path in paths[1:]]

            def set_mean(name, item):
                if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
                    arrays = (item[()], *(other[name][()] for other in others))
                    item[...] = np.mean(arrays, axis=0, dtype=np.float64)

            target.visititems(set_mean)


@contextlib.contextmanager
def _validation(setup, model, state):
    """A context with a function from a file of weights to its scores on the validation photos."""
    model.compile(
        loss=make_loss(setup),
        weighted_metrics=[
            keras.metrics.CategoricalAccuracy("accuracy"),
            keras.metrics.MeanMetricWrapper(make_loss(setup).call, name=MEAN_LOSS),
        ],
        jit_compile=jit_compile(setup.options.jit),
    )
    both = make_batches(setup, SINGLE_DEVICE, augmented=False)
    _, validation = both
    # They were named when the training read them.
    _, undecodable = state.undecodable or ((), ())
    validation.undecodable = {position: ImageError(*error) for position, *error in undecodable}

    def evaluate(path):
        weight_files.load(model, path)
        values = model.evaluate(validation.dataset(), verbose=0, return_dict=True)
        return {"val_accuracy": values["accuracy"], "val_loss": values[MEAN_LOSS]}

    try:
        yield evaluate
    finally:
        for batches in both:
            batches.close()
