"""Whether the best settings are better than the starting point, on photos that no trial has seen.

Both are trained anew with the same few seeds: the trial that was best has had luck as well, and a
single pair of trainings would mistake luck for settings.
"""

import os
from typing import Any, NamedTuple

import numpy as np

from common.console import say
from common.errors import DivergedError
from evaluation.paired_seeds import compare_seeds
from other.compare import BETTER, UNCLEAR, WORSE
from other.folds.runs import BATCH_SIZE
from other.tuning.plan import FEATURES, VERDICT
from other.tuning.trials import remove_unneeded, train_once
from prediction.batch import predict_samples
from prediction.classifier import Classifier
from training.feature_cache import FeatureCache

FIRST_SEED = 1_000_000  # beyond those of the trials
WORDS = {1: BETTER, 0: UNCLEAR, -1: WORSE}


class Verdict(NamedTuple):
    """What the photos of the test say.

    Attributes:
        word: str, "better", "worse" or "can't tell", of the best settings.
        comparison: `evaluation.paired_seeds.PairedComparison`; None where the starting point
            itself is the best, so that there is nothing to compare.
        accuracies: dict of "start" and "best" -> list of float, by seed; empty without comparison.
        errors: list of str, photos that cannot be decoded.
    """

    word: str
    comparison: Any = None
    accuracies: dict = {}
    errors: list = []


def reach_verdict(best, plan, options):
    """Trains both settings, as far as that was not done before, and compares them.

    Args:
        best: `Record` of the best trial.
        plan: `Plan`.
        options: `TuneOptions`.

    Returns:
        `Verdict`.

    Raises:
        InputError, RunError: as of `train.fit`.
    """
    if best.number == 0:
        return Verdict(UNCLEAR)
    settings = {"start": (0, plan.space.start), "best": (best.number, best.values)}
    right, errors = {name: [] for name in settings}, {}
    cache = FeatureCache(plan.file(FEATURES))
    for seed in range(options.seeds):
        for name, (number, values) in settings.items():
            say(f"\n== verdict, seed {seed + 1} of {options.seeds}: {_KINDS[name]}")
            run_path = plan.file(VERDICT, f"trial-{number:04}-seed-{seed + 1}")
            is_right, undecodable = _train(run_path, values, seed, (plan, options), cache)
            right[name].append(is_right)
            errors.update(undecodable)
    comparison = compare_seeds(np.stack(right["start"]), np.stack(right["best"]), plan.groups)
    return Verdict(
        WORDS[comparison.sign],
        comparison,
        {name: [float(row.mean()) for row in rows] for name, rows in right.items()},
        [str(errors[position]) for position in sorted(errors)],
    )


_KINDS = {"start": "the starting point", "best": "the best settings"}


def _train(run_path, values, seed, job, cache):
    """(bool (N,), which test photos a training gets right; dict of position -> error)."""
    plan, options = job
    try:
        train_once(run_path, values, FIRST_SEED + seed, job, cache)
    except DivergedError as error:
        say(f"{os.path.basename(run_path)}: {error}; all its answers count as wrong")
        return np.zeros(len(plan.test.file_names), bool), {}
    remove_unneeded(run_path, "complete")
    classifier = Classifier.load(run_path, calibrated=False)
    answers, undecodable, _ = predict_samples(classifier, plan.test, BATCH_SIZE, options.workers)
    is_right = answers.argmax(axis=1) == plan.test.class_ids
    is_right[list(undecodable)] = False
    return is_right, undecodable
