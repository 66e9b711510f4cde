"""Trainings that SIGKILL ends at moments drawn by chance, and what is left after going on.

    python -m tests.kill_training [--kills 30] [--seed 0]

A killed training that goes on, after one kill or two, has to leave the files of one that nothing
stopped, byte for byte. A line a case says when it was killed and what was found. About 10 minutes
for 30 cases on two cores.
"""

import argparse
import contextlib
import filecmp
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from tests.conftest import ROOT, write_samples

OPTIONS = {
    "plain": (),
    "mixed": ("--ema", "0.9", "--accumulate", "2", "--sampler", "balanced", "--mixup", "0.4"),
    "cached": ("--freeze_epochs", "1", "--cache_features"),
    "kept": ("--freeze_epochs", "1", "--ema", "0.5", "--keep", "2"),
    "bfloat16": ("--optimizer", "sgd", "--mixed_precision", "bfloat16"),
}
EACH_STEP = ("--checkpoint_minutes", "1e-9")
# What shows, by a file that appears, that a moment has come: pattern, seconds to wait at most
MOMENTS = {
    "start": (r"checkpoint/00000-0000000.npz", 4.0),  # most of which TensorFlow traces
    "batch": (r"checkpoint/\d+-\d+.npz", 0.2),
    "validation": (r"margins/\d+.npy|checkpoint/\d+-0000008.npz", 0.1),  # 8 steps an epoch
    "checkpoint": (r"checkpoint/\.partial-.*", 0.01),
    "results": (r"\.partial-.*|best/\.partial-.*", 0.03),
    "end": (r"\.partial-.*-check", 0.1),
}
LIMIT = 600  # seconds that a training may take


class Moment(NamedTuple):
    """When to kill: after the `count`th appearance of a file of a kind, and some seconds more."""

    kind: str
    count: int
    seconds: float


def draw(generator, kind=None):
    kind = kind or generator.choice(list(MOMENTS))
    count = 1 if kind in ("start", "end") else generator.randint(1, 3)
    return Moment(kind, count, generator.uniform(0, MOMENTS[kind][1]))


def files(path):
    """Every file and folder below a run, by its path in it."""
    found = set()
    for folder, folders, names in os.walk(path):
        place = os.path.relpath(folder, path)
        found.update(os.path.normpath(os.path.join(place, name)) for name in (*folders, *names))
    return found


def train(words, log, path=None, moment=None):
    """Runs a training, to its end or, given the run's path and a moment, until then.

    Returns:
        its exit status, -9 where it was killed.
    """
    clean = {name: value for name, value in os.environ.items()
             if name not in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL")}
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.few_blocks", json.dumps([["--mode", "train", *words]])],
            cwd=ROOT, env=clean, stdout=file, stderr=file, start_new_session=True,
        )
    try:
        if moment and await_moment(process, path, moment):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait(LIMIT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def await_moment(process, path, moment):
    """Waits for a moment; False where the process ended before."""
    pattern, left = re.compile(MOMENTS[moment.kind][0]), moment.count
    before, until = files(path), time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < until:
        now = files(path)
        left -= sum(pattern.fullmatch(name) is not None for name in now - before)
        before = now
        if left <= 0:
            time.sleep(moment.seconds)
            return process.poll() is None
        time.sleep(0.001)
    return False


def state(path):
    """The newest checkpoint's name, and how many partial files there are."""
    there = files(path)
    names = sorted(name for name in there if re.fullmatch(r"checkpoint/\d+-\d+.npz", name))
    partial = sum(".partial" in name for name in there)
    newest = os.path.basename(names[-1]) if names else "no checkpoint" if there else "no run"
    return newest + (f" and {partial} partial" if partial else "")


def differences(one, two):
    """Names of the results that two runs do not have alike."""
    def results(path):
        aside = r"checkpoint(/.*)?|metrics\.json|options\.yaml"  # how far and how long, and names
        return {name for name in files(path) if not re.fullmatch(aside, name)}

    names = results(one) | results(two)
    return sorted(
        name for name in names
        if not (os.path.isdir(os.path.join(one, name)) and os.path.isdir(os.path.join(two, name)))
        and not (os.path.isfile(os.path.join(one, name))
                 and os.path.isfile(os.path.join(two, name))
                 and filecmp.cmp(os.path.join(one, name), os.path.join(two, name), shallow=False))
    )


def case(words, run, log, generator, kind):
    """Trains a run with one kill or two, the first at a moment of a kind.

    Returns:
        list of str, what happened; whether it came to a good end.
    """
    told = []
    start = (*words, "--run", os.path.basename(run))
    for _ in range(generator.choice((1, 1, 2))):
        moment, kind = draw(generator, kind), None
        status = train(start, log, run, moment)
        when = f"{moment.kind} {moment.count} + {moment.seconds:.3f} s"
        told.append(f"{when}: {state(run)}" if status == -9 else f"{when}: ended with {status}")
        if os.path.exists(os.path.join(run, "options.yaml")):
            start = ("--resume", run)
    status = train(start, log)
    if status:
        with contextlib.suppress(OSError), open(log) as file:
            told.append(f"going on ended with {status}: {' '.join(file.read().split())[-600:]}")
    return told, status == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    wholes, bad = {}, 0
    with tempfile.TemporaryDirectory() as place:
        data, log = os.path.join(place, "data"), os.path.join(place, "log")
        write_samples(os.path.join(data, "train"), 16)  # 48 images: 8 steps of 6
        write_samples(os.path.join(data, "val"), 6, seed=5)
        common = (
            "--train_data", os.path.join(data, "train"), "--val_data", os.path.join(data, "val"),
            "--weights", "none", "--input_size", "64", "--batch_size", "6", "--workers", "2",
            "--learning_rate", "0.004", "--epochs", "3", "--save_dir", os.path.join(place, "runs"),
            "--log_dir", os.path.join(place, "logs"),
        )
        for number in range(arguments.kills):
            name = list(OPTIONS)[number % len(OPTIONS)]
            words = (*common, *OPTIONS[name])
            if name not in wholes:
                wholes[name] = os.path.join(place, "runs", name)
                if train((*words, "--run", name), log):
                    with open(log) as file:
                        raise SystemExit(f"{name}: the whole training failed: {file.read()}")
            each = EACH_STEP if (number + number // len(MOMENTS)) % 3 == 0 else ()
            run = os.path.join(place, "runs", f"{name}-{number}")
            kind = list(MOMENTS)[number % len(MOMENTS)]
            told, good = case((*words, *each), run, log, generator, kind)
            different = differences(wholes[name], run)
            bad += bool(different) or not good
            outcome = f"differs: {', '.join(different)}" if different else "equal"
            often = " each step" if each else ""
            print(f"{number:>3} {name}{often}: {'; '.join(told)}; {outcome}; left {state(run)}",
                  flush=True)
    print(f"{bad} of {arguments.kills} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
