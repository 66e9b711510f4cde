"""The folds' runs: ordinary trainings, one after the other, and their answers."""

import os
from typing import NamedTuple

import numpy as np

import train
from common.console import say
from common.errors import InputError
from config import parser
from other.folds.plan import FEATURES, GROUP, training_options
from prediction.batch import predict_samples
from prediction.classifier import Classifier
from runs import run_folder
from training.feature_cache import FeatureCache
from training.setup import resolve

BATCH_SIZE = 32  # images that a fold's model computes at once
SCORE = "val_accuracy"  # in metrics.json once a training is finished


class OutOfFold(NamedTuple):
    """Answers about N photos by models that have not seen them.

    Attributes:
        probabilities: float32 (S, N, C), by seed; rows of zeros where a photo is undecodable.
        errors: dict of position -> `ImageError`, for those.
    """

    probabilities: np.ndarray
    errors: dict


def check_options(options):
    """Refuses options that a training would refuse, before anything is read or written.

    Args:
        options: `CrossvalOptions`.

    Raises:
        InputError: they contradict each other.
    """
    resolve(with_training_options(["--train_data", options.data], options))


def train_folds(plan, options):
    """Trains what is missing of the folds' runs.

    Args:
        plan: `Plan`.
        options: `CrossvalOptions`.

    Raises:
        InputError, RunError: as of `train.fit`.
    """
    cache = FeatureCache(plan.file(FEATURES))
    for position, fold in enumerate(plan.folds):
        run_path = os.path.join(options.save_dir, fold.run_name)
        if is_trained(run_path):
            say(f"note: {run_path} is trained already")
            continue
        say(f"\n== fold {position + 1} of {len(plan.folds)}: {fold.run_name}")
        train_run(run_path, _fold_options(fold, plan, options), options, cache)


def train_run(run_path, asked, options, cache=None, ends_early=None):
    """Trains a run, or resumes it where it has begun.

    Args:
        run_path: str, its folder.
        asked: `TrainOptions` of a training that begins.
        options: a mode's options, with `workers`.
        cache: `FeatureCache`, or None.
        ends_early: function from the history to bool, as of `train.fit`, or None.

    Returns:
        dict, as of `train.fit`.
    """
    if os.path.exists(os.path.join(run_path, run_folder.OPTIONS)):
        folder, name = os.path.split(run_path)
        words = ["--resume", name, "--save_dir", folder, "--log_dir", asked.log_dir]
        asked = parser.parse("train", [*words, "--workers", str(options.workers)])
    return train.fit(asked, feature_cache=cache, ends_early=ends_early)


def is_trained(run_path):
    """bool, whether a run is finished.

    Args:
        run_path: str, its folder.
    """
    return SCORE in run_folder.read_metrics(run_path)


def is_solved(options):
    """bool, whether the head is solved: then no epoch is chosen by the photos that validate.

    Args:
        options: a mode's options, with `head` and `recipe`.
    """
    return bool(options.head) or options.recipe == "solved"


def _fold_options(fold, plan, options):
    """The options of `--mode train` for a fold.

    Epochs must not be chosen by the photos that judge: a training that has some holds others out.
    """
    training_table, judging_table = fold.tables
    words = ["--train_data", training_table, "--labels", plan.file(run_folder.LABELS)]
    if is_solved(options):
        words += ["--val_data", judging_table]
    elif options.group:
        words += ["--group", f"csv:{GROUP}"]
    return with_training_options(
        [*words, "--run", fold.run_name, "--seed", str(options.seed + fold.seed)], options
    )


def with_training_options(words, options):
    """`TrainOptions` of some words and of what the command says about its trainings.

    Args:
        words: list of str, of `--mode train`.
        options: `CrossvalOptions`.
    """
    asked, shared = parser.parse("train", words), training_options(options)
    return asked._replace(**shared, given=asked.given | shared.keys())


def answer(plan, options):
    """Lets each fold's model answer for the photos that judge it.

    Args:
        plan: `Plan`, whose runs are trained.
        options: `CrossvalOptions`.

    Returns:
        `OutOfFold`.

    Raises:
        InputError: no photo can be decoded.
    """
    shape = options.seeds, len(plan.samples.file_names), len(plan.class_names)
    probabilities, errors = np.zeros(shape, np.float32), {}
    for fold in plan.folds:
        run_path = os.path.join(options.save_dir, fold.run_name)
        classifier = Classifier.load(run_path, calibrated=False)
        samples = plan.samples.select(fold.positions)
        answers, undecodable, _ = predict_samples(classifier, samples, BATCH_SIZE, options.workers)
        probabilities[fold.seed, fold.positions] = answers
        errors.update({int(fold.positions[row]): error for row, error in undecodable.items()})
    if len(errors) == shape[1]:
        raise InputError(f"--data: {options.data}: none of its images can be decoded")
    return OutOfFold(probabilities, errors)
