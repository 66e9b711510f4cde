"""The study: which trials there are, who works at which, and what comes next.

Optuna keeps it, in a file (its journal) or in a database. What it proposes depends on the seed, on
the trial's number and on the trials before alone, so a study that was killed goes on as if it had
not been. A trial belongs to the process that holds its lock, which ends with the process: another
one then takes the trial over under its number, with its values and its run.
"""

import contextlib
import os
import warnings
from typing import Any, NamedTuple

from common.errors import InputError
from other.tuning.plan import JOURNAL, LOCKS, check_same, lock
from other.tuning.space import describe

STARTUP_TRIALS = 6  # drawn by chance, the starting point included, before any are proposed
COMPLETE_BEFORE_PRUNING = 4  # trials to compare a training with
MOST_REPEATS = 25  # proposals in a row that are no new ones: then there are none
FINISHED = ("complete", "pruned", "failed")


class Record(NamedTuple):
    """What is known of a trial.

    Attributes:
        number: int, from 0, the starting point.
        state: str, "complete", "pruned", "failed" or "running".
        values: dict of option name -> value.
        score: float, its val_accuracy; of a pruned one the last; None where there is none.
        epochs: int, epochs that were trained, or None.
        seconds: float, that it took.
        weights: str, the beginning of the checksum of its weights; "" where there are none.
        reason: str, why it has failed or was ended; "" where it has not.
    """

    number: int
    state: str
    values: dict
    score: float | None
    epochs: int | None
    seconds: float
    weights: str
    reason: str


class Claim(NamedTuple):
    """A trial that this process works at.

    Attributes:
        number: int.
        values: dict of option name -> value.
        trial: `optuna.Trial`.
        lock: the lock that says so.
    """

    number: int
    values: dict
    trial: Any
    lock: Any


class JournalLock:
    """The lock of a journal: one that a killed process does not leave behind.

    Optuna's own locks are files that stay, and are waited for, for half a minute. Who holds this
    one also cuts off a line that was not written to its end, on which the next one would follow.

    Args:
        path: str, the journal.
        lock_path: str, the file that is locked.
    """

    def __init__(self, path, lock_path):
        self._path, self._lock = path, lock(lock_path)

    def acquire(self):
        """Waits for the lock; gives True."""
        self._lock.acquire()
        cut_torn_line(self._path)
        return True

    def release(self):
        """Lets go of the lock."""
        self._lock.release()


def cut_torn_line(path):
    """Removes the end of a file of lines that has no line break, as a full disk leaves it.

    Args:
        path: str.
    """
    with open(path, "r+b") as file:
        content_size = file.seek(0, os.SEEK_END)
        kept = content_size
        while kept:
            file.seek(kept - 1)
            if file.read(1) == b"\n":
                break
            kept -= 1
        if kept < content_size:
            file.truncate(kept)


class Study:
    """A study that this process takes part in.

    Args:
        study: `optuna.Study`.
        plan: `Plan`.
        seed: int, of the proposals.

    Attributes:
        is_exhausted: bool, whether nothing new is left to propose.
    """

    def __init__(self, study, plan, seed):
        self._study, self._plan, self._seed = study, plan, seed
        self._lock = lock(plan.file(LOCKS, "study"))
        self.is_exhausted = False

    def records(self):
        """list of `Record`, in the order of their numbers, without proposals that were not new."""
        return [
            _record(trial)
            for trial in self._trials("COMPLETE", "PRUNED", "FAIL", "RUNNING")
            if "same_as" not in trial.user_attrs
        ]

    def best(self):
        """`Record` of the best complete trial, or None; of equals the earliest.

        So another setting than the starting point's has to be better, not as good.
        """
        complete = [record for record in self.records() if record.state == "complete"]
        return max(complete, key=lambda record: (record.score, -record.number), default=None)

    def _trials(self, *states):
        import optuna

        chosen = [getattr(optuna.trial.TrialState, state) for state in states] or None
        return self._study.get_trials(deepcopy=False, states=chosen)

    @contextlib.contextmanager
    def claimed(self, limit=None):
        """A context with a trial to work at: one that a process has left, or a new one.

        Args:
            limit: int, trials that the study may have; None is no limit. A trial that was left is
                taken over in any case.

        Returns:
            Context manager of a `Claim`, or of None.
        """
        with self._lock:
            claim = self._claim(limit)
        try:
            yield claim
        finally:
            if claim:
                claim.lock.release()

    def _claim(self, limit):
        for _ in range(MOST_REPEATS):
            claim = self._take_over() or self._begin(limit)
            twin = claim and self._twin(claim)
            if not twin:
                return claim
            self._repeat(claim, twin)
            claim.lock.release()
        self.is_exhausted = True
        return None

    def _take_over(self):
        """A `Claim` of a trial whose process has ended, or None."""
        import optuna

        for trial in self._trials("RUNNING"):
            trial_lock = self._lock_of(trial) if self._is_here(trial) else None
            if not trial_lock:
                continue
            # It may have been finished between the list and the lock.
            if any(other.number == trial.number for other in self._trials("RUNNING")):
                return self._draw(optuna.trial.Trial(self._study, trial._trial_id), trial_lock)
            trial_lock.release()
        return None

    def _is_here(self, trial):
        """Whether a trial is one of this folder, not of another machine."""
        return trial.user_attrs.get("folder", self._plan.folder_id) == self._plan.folder_id

    def _lock_of(self, trial):
        """The lock of a trial, acquired; None where another process has it."""
        from filelock import Timeout

        trial_lock = lock(self._plan.file(LOCKS, f"{trial.number:04}"), waits=False)
        try:
            trial_lock.acquire()
        except Timeout:
            return None
        return trial_lock

    def is_shared(self):
        """bool, whether another process works at a trial now."""
        with self._lock:
            for trial in self._trials("RUNNING"):
                trial_lock = self._lock_of(trial) if self._is_here(trial) else None
                if trial_lock:
                    trial_lock.release()
                elif self._is_here(trial):
                    return True
        return False

    def is_begun_here(self):
        """bool, whether this folder is the one that the study was begun in."""
        return self._study.user_attrs["folder"] == self._plan.folder_id

    def _begin(self, limit):
        """A `Claim` of a new trial, or None."""
        if limit is not None and len(self.records()) >= limit:
            if not self._trials("WAITING"):
                return None
        trial = self._study.ask()
        trial.set_user_attr("folder", self._plan.folder_id)
        return self._draw(trial, self._lock_of(trial))

    def _draw(self, trial, trial_lock):
        """Gives a trial its values; one that has some keeps them."""
        self._study.sampler = make_sampler(self._seed, trial.number)
        _ = trial.relative_params  # proposed for all options at once, now
        values = {}
        for place, (name, dimension) in enumerate(self._plan.space.dimensions.items(), start=1):
            # For what is drawn by chance: a kill between two options must not change the second.
            self._study.sampler = make_sampler(self._seed, trial.number, place)
            values[name] = suggest(trial, name, dimension)
        return Claim(trial.number, values, trial, trial_lock)

    def _twin(self, claim):
        """An earlier trial with the values of a claim, or None."""
        for trial in self._trials("COMPLETE", "PRUNED", "RUNNING"):
            if trial.number < claim.number and trial.params == claim.values:
                return trial
        return None

    def _repeat(self, claim, twin):
        """Ends a trial whose values have been tried, with what came of them."""
        import optuna

        state = twin.state
        claim.trial.set_user_attr("same_as", twin.number)
        if state == optuna.trial.TrialState.PRUNED:
            for step, score in twin.intermediate_values.items():
                claim.trial.report(score, step)
        if state == optuna.trial.TrialState.COMPLETE:
            self._study.tell(claim.trial, twin.value)
            return
        is_pruned = state == optuna.trial.TrialState.PRUNED
        self._study.tell(claim.trial, state=state if is_pruned else optuna.trial.TrialState.FAIL)

    def finish(self, claim, state, score=None, **notes):
        """Ends a trial.

        Args:
            claim: `Claim`.
            state: str, one of `FINISHED`.
            score: float, the val_accuracy of a complete one.
            notes: what else is known of it, as of `Record`.
        """
        import optuna

        for name, note in notes.items():
            claim.trial.set_user_attr(name, note)
        if state == "complete":
            self._study.tell(claim.trial, score)
            return
        states = optuna.trial.TrialState
        self._study.tell(claim.trial, state=states.PRUNED if state == "pruned" else states.FAIL)

    def importance(self):
        """How much each option mattered for reaching the best scores, by PED-ANOVA.

        Watanabe, Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter
        Importance in Arbitrary Subspaces".

        Returns:
            dict of option name -> float; they add up to 1, the largest first. Empty where fewer
            than 4 trials are complete, or all have one score.
        """
        import optuna

        scores = [record.score for record in self.records() if record.state == "complete"]
        if len(scores) < 4 or len(set(scores)) == 1:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = optuna.importance.get_param_importances(self._study)
        names = sorted(shares, key=lambda name: (-shares[name], name))
        return {name: float(shares[name]) for name in names}


def _record(trial):
    notes = trial.user_attrs
    state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    steps = trial.intermediate_values
    score = trial.value if trial.value is not None or not steps else steps[max(steps)]
    return Record(
        trial.number,
        state.get(trial.state.name, "running"),
        dict(trial.params),
        score,
        notes.get("epochs"),
        notes.get("seconds", 0.0),
        notes.get("weights", ""),
        notes.get("reason", ""),
    )


def suggest(trial, name, dimension):
    """The value of an option in a trial; one that has it already keeps it.

    Args:
        trial: `optuna.Trial`.
        name: str.
        dimension: `Dimension`.
    """
    if dimension.choices:
        return trial.suggest_categorical(name, dimension.choices)
    draw = trial.suggest_int if dimension.is_whole else trial.suggest_float
    return draw(name, dimension.low, dimension.high, log=dimension.log)


def make_sampler(seed, number, place=0):
    """What proposes the values of a trial.

    Args:
        seed: int, of the study.
        number: int, of the trial: one sampler for all would repeat itself after a restart.
        place: int, of the option in the space, from 1; 0 for what is proposed for all at once.

    Returns:
        `optuna.samplers.TPESampler`.
    """
    import numpy as np
    import optuna

    own_seed = int(np.random.SeedSequence([seed, number, place]).generate_state(1)[0])
    return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=own_seed)


def import_optuna():
    """Imports Optuna, without its log lines.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError(
            f"--mode tune needs Optuna, which is not installed ({error}): bash sh/setup.sh tune "
            "installs it"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_study(plan, options, epochs):
    """Opens the study of a plan, or begins it.

    Args:
        plan: `Plan`.
        options: `TuneOptions`.
        epochs: int, of a training: a third of them pass before it may be ended early.

    Returns:
        `Study`.

    Raises:
        InputError: the storage cannot be used, or holds another study of this name.
    """
    optuna = import_optuna()
    place = shown_address(options.storage) if options.storage else plan.file(JOURNAL)
    with lock(plan.file(LOCKS, "study")):
        try:
            storage = _open_storage(plan, options)
            if options.overwrite and options.storage:
                with contextlib.suppress(KeyError):
                    optuna.delete_study(study_name=plan.name, storage=storage)
            study = optuna.create_study(
                study_name=plan.name,
                storage=storage,
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(
                    n_startup_trials=COMPLETE_BEFORE_PRUNING, n_warmup_steps=max(2, epochs // 3)
                ),
            )
            earlier = study.user_attrs.get("identity")
            if earlier:
                check_same(earlier, plan, place)
            else:
                study.set_user_attr("folder", plan.folder_id)
                study.set_user_attr("identity", plan.identity)
            study.enqueue_trial(plan.space.start, skip_if_exists=True)
        except InputError:
            raise
        except Exception as error:
            raise _plain_error(error, options.storage, place) from error
    return Study(study, plan, options.seed)


def _plain_error(error, storage, place):
    """An error of a storage in one line, where it is one that a person can mend."""
    if storage and not isinstance(error, InputError):  # of whatever database and its driver
        first_line = next(iter(str(error.__cause__ or error).splitlines()), "")
        reason = first_line.replace(storage, place)
        return InputError(f"--storage: {place} cannot be used: {reason}")
    if isinstance(error, (ValueError, KeyError)):
        return InputError(f"{place}: the study is damaged ({error}); --overwrite begins a new one")
    return error


def _open_storage(plan, options):
    import optuna

    if options.storage:
        # A connection that the server has closed in the meantime is opened again.
        settings = {"pool_pre_ping": True}
        return optuna.storages.RDBStorage(options.storage, engine_kwargs=settings)
    journal = plan.file(JOURNAL)
    backend = optuna.storages.journal.JournalFileBackend(
        journal, lock_obj=JournalLock(journal, plan.file(LOCKS, "journal"))
    )
    return optuna.storages.JournalStorage(backend)


def shown_address(storage):
    """str, the address of a database without its password.

    Args:
        storage: str, of `--storage`.

    Example:
        >>> shown_address("postgresql://me:secret@host/database")
        'postgresql://me@host/database'
    """
    scheme, mark, rest = storage.partition("://")
    account, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{account.partition(':')[0]}{at}{host}"


def say_proposal(claim, limit):
    """str, the line that begins a trial.

    Args:
        claim: `Claim`.
        limit: int, of `--trials`, or None.
    """
    total = f" of {limit}" if limit else ""
    kind = "the starting point, " if claim.number == 0 else ""
    return f"\n== trial {claim.number + 1}{total}: {kind}{describe(claim.values)}"
