"""MLflow beside a training: what is sent while it goes on, on a thread that it never waits for."""

import contextlib
import queue
import threading

from common.commands import command_line
from common.console import say, waiting
from common.errors import InputError
from common.versions import versions
from runs.tracked_values import read_values
from runs.tracking import RUNNING, open_asked, send

FINISH_SECONDS = 60.0  # that the end of a training waits for what is still to be sent
INTERRUPTED_SECONDS = 5.0  # likewise after Ctrl-C and SIGTERM, where a scheduler kills soon


class BackgroundTracking:
    """Sends what a run's folder has anew, each time it is asked to.

    As a context it says at its end how the training went, and what MLflow lacks.

    Args:
        store: `mlflow_store.MlflowStore`.
        run_path: str, the run's folder, which need not exist yet.

    Attributes:
        run_id: str, the track; None before something has been sent.
        missing: str, why MLflow lacks something, or None.
    """

    def __init__(self, store, run_path):
        self.store, self.run_path = store, run_path
        self.run_id = self.missing = None
        self.has_warned = self.is_used = False
        self.statuses = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, error_type, error, traceback):
        if error_type is None:
            self._finish("FINISHED", FINISH_SECONDS)
        elif issubclass(error_type, Exception):
            self._finish("FAILED", FINISH_SECONDS)
        else:
            self._finish("KILLED", INTERRUPTED_SECONDS)

    def update(self):
        """Has what is new sent; returns at once."""
        self.is_used = True
        self.statuses.put(RUNNING)

    def _work(self):
        status = RUNNING
        while status == RUNNING:
            status = self.statuses.get()
            while not self.statuses.empty():
                status = self.statuses.get()
            try:
                values = read_values(self.run_path)
                tags = {"versions": versions()}
                self.run_id = send(self.store, self.run_path, values, status, tags)
                self.missing = None
            except Exception as error:  # whatever it is: the training is worth more
                self.missing = " ".join(str(error).split()) or type(error).__name__
                self._warn()

    def _warn(self):
        if not self.has_warned:
            self.has_warned = True
            say(f"note: {self.missing}; the training goes on, and each epoch tries again")

    def _finish(self, status, seconds):
        if not self.is_used:
            return  # stopped before there was a run
        self.statuses.put(status)
        with waiting("sending to MLflow"):
            self.thread.join(seconds)
        if self.thread.is_alive():
            self.missing = f"MLflow {self.store.address} has not taken all within {seconds:g} s"
        if not self.missing:
            say(f"sent to MLflow {self.store.address}, run {self.run_id}")
            return
        words = ["export", "--run"] if status == "FINISHED" else ["train", "--resume"]
        command = command_line(*words, self.run_path, "--track", "mlflow")
        say(
            f"note: MLflow lacks a part of {self.run_path}: {self.missing}; the next command on it "
            f"sends that: {command}"
        )

    def summary(self):
        """dict, what `--json` says of it: mlflow, run_id, and missing, or None."""
        return {"mlflow": self.store.address, "run_id": self.run_id, "missing": self.missing}


def track_asked(options, run_path, is_chief):
    """What tracks a training, as a context.

    Args:
        options: the options of `--mode train`.
        run_path: str, the run's folder.
        is_chief: bool, whether this is the process that writes.

    Returns:
        A context that gives `BackgroundTracking`, or None where nothing is to be tracked.

    Raises:
        InputError: MLflow is not installed, or does not answer as it should. A training that
            resumes, maybe with nobody there to see it, goes on without.
    """
    store = None
    try:
        store = open_asked(options.track, run_path) if is_chief else None
    except InputError as error:
        if options.resume is None:
            raise
        say(f"note: {error}; the training resumes without it")
    return BackgroundTracking(store, run_path) if store else contextlib.nullcontext()
