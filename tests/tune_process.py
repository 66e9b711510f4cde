"""A study whose trainings are pretended, killed at many moments or shared by two processes.

    python -m tests.tune_process kills DATA FOLDER [MOMENT ...]
    python -m tests.tune_process two DATA FOLDER

Prints one line of JSON. A pretended training leaves a run folder as a real one does, and notes in
FOLDER/*/events what it did: "begin", "epoch" and "end" with the trial and the process. Each study
is a fork, so that Python and Optuna are imported once. Keras is not imported at all.
"""

import csv
import json
import math
import os
import signal
import sys
import time
import traceback

import other.tune
from common.files import write_text
from config import parser
from other.folds import runs as fold_runs
from other.tuning import study as study_module
from other.tuning.study import import_optuna
from other.tuning.verdict import Verdict
from runs import run_folder
from runs.results import read_results, write_results

EPOCHS, TRIALS = 4, 9


class Moments:
    """Counts moments, and ends the process at one of them as SIGKILL does."""

    def __init__(self, last=None):
        self.count, self.last = 0, last

    def __call__(self):
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def score(options, epoch):
    """Best at a learning rate of 0.001."""
    distance = abs(math.log10(options.learning_rate) + 3)
    return round(0.9 - 0.1 * distance - 0.2 / epoch + 0.01 * options.dropout, 6)


def pretend(moment, pause=0.0):
    """A function in the place of `train.fit`."""

    def fit(asked, feature_cache=None, ends_early=None):
        name = asked.resume or asked.run
        path = os.path.join(asked.save_dir, name)
        note(path, "resume" if asked.resume else "begin")
        if not asked.resume:
            options = asked._replace(epochs=EPOCHS, input_size=32)
            run_folder.create(path, options, ("a", "b"), overwrite=False)
            moment()
        options = run_folder.read(path, weights=None).options
        has_results = os.path.exists(os.path.join(path, run_folder.RESULTS))
        history = read_results(path) if has_results else []
        while len(history) < EPOCHS and not (history and ends_early and ends_early(history)):
            time.sleep(pause)
            epoch = len(history) + 1
            value = score(options, epoch)
            history.append({"epoch": epoch, "loss": 1.0, "accuracy": value, "val_loss": 1.0,
                            "val_accuracy": value, "learning_rate": options.learning_rate})
            write_results(path, history)
            note(path, "epoch")
            moment()
        write_text(os.path.join(path, run_folder.BEST), f"{name} {options.seed}")
        write_text(os.path.join(path, run_folder.METRICS), json.dumps(
            {"val_accuracy": history[-1]["val_accuracy"], "train_seconds": 1.0}))
        note(path, "end")
        moment()
        return {"run": path}

    return fit


def note(path, event):
    folder = os.path.dirname(os.path.dirname(path))
    with open(os.path.join(folder, "events"), "a") as file:
        file.write(f"{event} {os.path.basename(path)} {os.getpid()}\n")


def search(data, folder, moment, *words, pause=0.0):
    """`--mode tune`, with pretended trainings; every write of the journal is two moments."""
    backend = import_optuna().storages.journal.JournalFileBackend
    append = backend.append_logs

    def counted(self, logs):
        moment()
        append(self, logs)
        moment()

    backend.append_logs = counted
    fold_runs.train.fit = pretend(moment, pause)
    other.tune.reach_verdict = lambda *ignored: Verdict("can't tell")
    study_module.COMPLETE_BEFORE_PRUNING = 3
    other.tune.main(parser.parse("tune", [
        "--data", data, "--run", "t", "--weights", "none", "--epochs", str(EPOCHS), "--trials",
        str(TRIALS), "--search", "learning_rate,dropout", "--save_dir", folder, "--json", *words]))


def fork(work, *words, **more):
    """Does something in a process of its own; returns a function that waits for its end."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
        try:
            work(*words, **more)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def state(folder):
    """dict: the trials as trials.csv has them, without seconds, and the events in their order."""
    place = os.path.join(folder, "t-tune")
    with open(os.path.join(place, "trials.csv"), encoding="utf-8-sig") as file:
        trials = [{name: text for name, text in row.items() if name != "seconds"}
                  for row in csv.DictReader(file)]
    with open(os.path.join(place, "events")) as file:
        events = [line.split() for line in file]
    return {"trials": trials, "events": events}


def kills(data, folder, *chosen):
    """Kills a study at moments all over it, each time another one, and goes on."""
    whole = os.path.join(folder, "whole")
    counting = Moments()

    def count():
        search(data, whole, counting)
        write_text(os.path.join(folder, "count"), str(counting.count))

    assert fork(count)() == 0
    with open(os.path.join(folder, "count")) as file:
        moments = int(file.read())
    wanted = [1, moments // 3, moments // 2, moments - 20]
    wanted = [int(number) for number in chosen] or wanted
    killed = []
    for moment in wanted:
        place, statuses = os.path.join(folder, str(moment)), []
        for last in (moment, 7, None):  # killed once more where it goes on, then left alone
            statuses.append(fork(search, data, place, Moments(last))())
        killed.append({"moment": moment, "statuses": statuses, **state(place)})
    return {"whole": state(whole), "killed": killed}


def two(data, folder):
    """Two processes at one study."""
    waits = [fork(search, data, folder, Moments(), pause=0.02) for _ in range(2)]
    return {"statuses": [wait() for wait in waits], **state(folder)}


if __name__ == "__main__":
    print(json.dumps({"kills": kills, "two": two}[sys.argv[1]](*sys.argv[2:])))
