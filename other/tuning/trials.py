"""The trials: ordinary trainings with the values that the study proposes, until the time is up."""

import os
import shutil
import time

from common.console import say
from common.errors import DivergedError, InputError, RunError
from common.files import checksum
from other.folds.runs import is_trained, train_run
from other.tuning.plan import FEATURES, TRIALS, log_folder
from other.tuning.space import show_value, with_values
from other.tuning.study import say_proposal
from runs import run_folder
from runs.results import read_results
from training.feature_cache import FeatureCache

LARGEST_SEED = 2**31 - 1
DEFAULT_MINUTES = 60
MOST_FAILURES = 3  # of trials one after the other, of which no value is to blame


class Budget:
    """The time that is left for a study.

    Args:
        options: `TuneOptions`.
        verdict_trainings: int, trainings that follow after the trials.

    Raises:
        InputError: nothing would end the study.
    """

    def __init__(self, options, verdict_trainings):
        minutes = options.minutes
        if minutes == 0 and not options.trials:
            raise InputError("--minutes: 0 sets no limit; give a number above 0, or --trials too")
        if minutes is None:
            minutes = 0 if options.trials else DEFAULT_MINUTES
        self._total = minutes * 60 or float("inf")
        self._verdict_trainings = verdict_trainings
        self._started_at = time.monotonic()

    def left(self, records):
        """float, seconds that are left: of all processes together, killed ones too.

        Args:
            records: list of `Record`.
        """
        spent = sum(record.seconds for record in records)
        return self._total - max(spent, time.monotonic() - self._started_at)

    def has_room(self, records):
        """bool, whether another trial fits in before the trainings for the verdict.

        Args:
            records: list of `Record`.
        """
        seconds = trial_seconds(records)
        return not seconds or self.left(records) >= seconds * (1 + self._verdict_trainings)

    def describe(self, records):
        """str, what fits into the time that is left, in one line.

        Args:
            records: list of `Record`, one of them complete.
        """
        seconds = trial_seconds(records)
        trainings = f"{self._verdict_trainings} trainings for the verdict"
        line = f"a training takes {seconds / 60:.1f} minutes"
        if self._total == float("inf"):
            return f"{line}; at the end {trainings}"
        left = self.left(records)
        more_trials = max(0, int(left / seconds) - self._verdict_trainings)
        if not more_trials:
            return f"{line}: --minutes leaves no time for another one besides {trainings}"
        return (
            f"{line}: the {left / 60:.1f} that are left are enough for about "
            f"{more_trials} more, of which those that are ended early take less, and {trainings}"
        )


def trial_seconds(records):
    """float, what a complete trial takes; 0 where none is known.

    Args:
        records: list of `Record`.
    """
    seconds = [record.seconds for record in records if record.state == "complete"]
    return sum(seconds) / len(seconds) if seconds else 0.0


class Pruning:
    """Tells a study how a training goes, and the training whether to end.

    Args:
        claim: `Claim`.
    """

    def __init__(self, claim):
        self._trial = claim.trial
        self._answers = {}

    def __call__(self, history):
        """bool, whether a training with this history, a list of one dict per epoch, ends now."""
        epochs = len(history)
        if epochs not in self._answers:
            self._report(history)
            self._answers[epochs] = self.is_decided or self._trial.should_prune()
            if self._answers[epochs]:
                self._trial.set_user_attr("is_ended", True)  # a restart must not ask again
        return self._answers[epochs]

    def _report(self, history):
        known = self._trial.study.get_trials(deepcopy=False)[self._trial.number]
        for row in history:
            if row["epoch"] not in known.intermediate_values:
                self._trial.report(row["val_accuracy"], row["epoch"])

    @property
    def is_decided(self):
        """bool, whether the training was to end early."""
        return bool(self._trial.user_attrs.get("is_ended"))


def run_trials(study, plan, options, budget):
    """Works at trials until there are enough of them, or no time for another one.

    Args:
        study: `Study`.
        plan: `Plan`.
        options: `TuneOptions`.
        budget: `Budget`.

    Raises:
        InputError, RunError: as of `train.fit`, of the starting point or of several trials in a
            row.
    """
    cache, failures = FeatureCache(plan.file(FEATURES)), 0
    while True:
        limit = options.trials if budget.has_room(study.records()) else 0
        with study.claimed(limit) as claim:
            if claim is None:
                break
            say(say_proposal(claim, options.trials))
            try:
                run_trial(claim, study, plan, options, cache)
                failures = 0
            except (InputError, RunError) as error:
                failures += 1
                if claim.number == 0 or failures == MOST_FAILURES:
                    raise
                study.finish(claim, "failed", reason=str(error))
                say(f"trial {claim.number + 1} has failed: {error}")
        _say_best(study, claim, budget)
    if study.is_exhausted:
        say("note: every combination of values has been tried")


def run_trial(claim, study, plan, options, cache):
    """Trains a trial, or what a killed process has left of it, and tells the study.

    Args:
        claim: `Claim`.
        study: `Study`.
        plan: `Plan`.
        options: `TuneOptions`.
        cache: `FeatureCache` of the study.

    Raises:
        InputError, RunError: as of `train.fit`; a loss of NaN is a bad score and no error, but at
            the starting point.
    """
    run_path, pruning, started_at = trial_path(plan, claim.number), Pruning(claim), time.monotonic()
    reason = ""
    try:
        is_complete = train_once(
            run_path, claim.values, claim.number, (plan, options), cache, pruning
        )
        state = "complete" if is_complete else "pruned"
    except DivergedError as error:
        if claim.number == 0:
            raise
        state, reason = "pruned", str(error)
    metrics = run_folder.read_metrics(run_path)
    seconds = max(time.monotonic() - started_at, metrics.get("train_seconds", 0.0))
    weights_path = os.path.join(run_path, run_folder.BEST)
    study.finish(
        claim,
        state,
        metrics["val_accuracy"] if state == "complete" else None,
        epochs=len(_history(run_path)),
        seconds=seconds,
        weights=checksum(weights_path)[:16] if os.path.exists(weights_path) else "",
        reason=reason,
    )
    remove_unneeded(run_path, state)


def train_once(run_path, values, seed_offset, job, cache=None, ends_early=None):
    """One training of a study: an ordinary run, resumed where it has begun.

    Args:
        run_path: str, its folder.
        values: dict of option name -> value, of what is searched.
        seed_offset: int, added to the seed of the study.
        job: (`Plan`, `TuneOptions`).
        cache: `FeatureCache`, or None.
        ends_early: function from the history to bool, or None.

    Returns:
        bool, whether all of its epochs were trained, or its own patience ended it.

    Raises:
        InputError, RunError: as of `train.fit`.
    """
    plan, options = job
    folder, name = os.path.split(run_path)
    asked = with_values(plan.asked, values)
    asked = asked._replace(
        run=name,
        save_dir=folder,
        log_dir=os.path.join(log_folder(plan.folder, options), os.path.basename(folder)),
        seed=(options.seed + seed_offset) % LARGEST_SEED,
        given=asked.given | {"run", "save_dir", "log_dir", "seed"},
    )
    if not is_trained(run_path):
        clear_session()
        train_run(run_path, asked, options, cache, ends_early)
    stored = run_folder.read(run_path, weights=None).options
    return len(_history(run_path)) >= stored.epochs or not getattr(ends_early, "is_decided", False)


def clear_session():
    """Lets go of the last training's graphs, where Keras has been imported."""
    import sys

    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()


def trial_path(plan, number):
    """str, the run of a trial.

    Args:
        plan: `Plan`.
        number: int.
    """
    return plan.file(TRIALS, f"trial-{number:04}")


def _history(run_path):
    try:
        return read_results(run_path)
    except InputError:  # it has failed before its first epoch
        return []


def remove_unneeded(run_path, state):
    """Removes what a finished trial needs no more: what resumes it, and weights of a pruned one.

    Args:
        run_path: str.
        state: str, of a `Record`.
    """
    names = [run_folder.CHECKPOINT, run_folder.LAST]
    if state != "complete":
        names += [run_folder.BEST, run_folder.KEPT, run_folder.CHECK]
    for name in names:
        path = os.path.join(run_path, name)
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.exists(path):
            os.remove(path)


def tidy(study, plan):
    """Removes what killed processes have not come to remove.

    Args:
        study: `Study`.
        plan: `Plan`.
    """
    for record in study.records():
        if record.state in ("complete", "pruned"):
            remove_unneeded(trial_path(plan, record.number), record.state)


def _say_best(study, claim, budget):
    records, best = study.records(), study.best()
    record = next((record for record in records if record.number == claim.number), None)
    if record and best and record.state != "failed":
        score = "no score" if record.score is None else f"val_accuracy {record.score:.4f}"
        early = ", ended early" if record.state == "pruned" else ""
        changed = {
            name: show_value(value)
            for name, value in best.values.items()
            if value != records[0].values.get(name)
        }
        words = ", ".join(f"{name} {value}" for name, value in changed.items())
        say(
            f"trial {record.number + 1}: {score}{early}; the best is trial {best.number + 1} with "
            f"{best.score:.4f}" + (f" ({words})" if words else "")
        )
    if claim.number == 0 and best:
        say(budget.describe(records))
