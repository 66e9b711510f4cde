"""`--mode tune`: killed, shared by two processes, from a bad start, and with nothing to find.

    python -m benchmarks.tuning kills [--kills 20]
    python -m benchmarks.tuning two
    python -m benchmarks.tuning bad_start
    python -m benchmarks.tuning good_start [--repeats 10]
    python -m benchmarks.tuning false_alarms [--studies 2000]

All but the last train on scikit-learn's digits, at 32 x 32 pixels: the head of a frozen network
whose features are computed once, so that a trial takes a few seconds. The last one draws answers
by chance. It prints one line of JSON per study, and what the part was to show in the end.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from evaluation.paired_seeds import compare_seeds
from other import demo_data

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# A head that learns for a few epochs, and what a study searches of it by itself
TRAINING = (
    *("--backbone", "EfficientNetLite0", "--input_size", "32", "--freeze_epochs", "6"),
    *("--epochs", "6", "--cache_features", "--linear_head", "no", "--batch_size", "64"),
)
RATE = 2e-3  # of this training; the bad start is a hundred times that
# What longer searches end at: six epochs at the default rate are too few, and settings that are
# truly better are no false alarm
GOOD = ("--learning_rate", "0.008", "--weight_decay", "0.001")


def write_digits(place):
    """All digits in one folder, whose parts the first command makes.

    Args:
        place: str, a folder that exists.

    Returns:
        str, the data.
    """
    digits = os.path.join(place, "digits")
    demo_data.write(digits)
    data = os.path.join(digits, "train_datasets")
    for part in ("val_datasets", "test_datasets"):
        for name in os.listdir(os.path.join(digits, part)):
            if name != "label.json":
                shutil.move(os.path.join(digits, part, name), data)
    return data


def command(data, place, name, *words):
    """list of str, a command of `--mode tune`."""
    places = ("--save_dir", os.path.join(place, "runs"), "--log_dir", os.path.join(place, "logs"))
    return [
        *(sys.executable, "run.py", "tune", "--data", data, "--run", name, "--json"),
        *(*TRAINING, *places, *map(str, words)),
    ]


def run(*words):
    """dict, what a command prints."""
    started_at = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return {**json.loads(done.stdout), "seconds": round(time.monotonic() - started_at)}


def read_trials(place, name):
    """list of dict, the trials of a study as its table has them."""
    path = os.path.join(place, "runs", f"{name}-tune", "trials.csv")
    with open(path, encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def check_trials(rows, count):
    """dict: whether every trial was done, and once: none has the weights of another."""
    weights = [row["weights"] for row in rows if row["weights"]]
    return {
        "trials": len(rows),
        "is_complete": len(rows) == count,
        "states": sorted({row["state"] for row in rows}),
        "different_weights": len(set(weights)) == len(weights),
    }


def try_kills(place, arguments):
    """A study that is killed at moments drawn by chance, and one that is not, end alike."""
    data, generator, trials = write_digits(place), random.Random(0), 12
    words = ("--trials", trials)
    whole = run(*command(data, place, "whole", *words))
    killed = 0
    while killed < arguments.kills:
        process = subprocess.Popen(
            command(data, place, "killed", *words),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            # Beyond the start of Python, into trials of a few seconds
            process.wait(generator.uniform(5, 25))
            break  # it has come to its end
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            print(json.dumps({"killed": killed}), flush=True)
    last = run(*command(data, place, "killed", *words))
    names = ("state", "val_accuracy", "learning_rate", "weights")
    both = [
        [[row[name] for name in names] for row in read_trials(place, study)]
        for study in ("whole", "killed")
    ]
    return {
        "kills": killed,
        **check_trials(read_trials(place, "killed"), trials),
        "as_if_not_killed": both[0] == both[1],
        "verdicts": [whole["verdict"]["verdict"], last["verdict"]["verdict"]],
    }


def try_two(place, arguments):
    """Two processes at one study do every trial once."""
    data, trials = write_digits(place), 12
    words = command(data, place, "two", "--trials", trials)
    processes = [
        subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    begun = [
        [line.split(":")[0] for line in err.splitlines() if line.startswith("== trial")]
        for _, err in outputs
    ]
    return {
        "statuses": [process.returncode for process in processes],
        "begun": [len(names) for names in begun],
        "begun_twice": len(set(begun[0]) & set(begun[1])),
        **check_trials(read_trials(place, "two"), trials),
    }


def try_bad_start(place, arguments):
    """From a learning rate a hundred times too large, 15 trials come as far as the default."""
    data = write_digits(place)
    words = ("--search", "learning_rate,weight_decay", "--trials", 15)
    result = run(*command(data, place, "bad", "--learning_rate", RATE * 100, *words))
    default = run(*command(data, place, "default", "--learning_rate", RATE, "--trials", 1))
    return {
        "start": result["start"]["score"],
        "best": result["best"]["score"],
        "default": default["start"]["score"],
        "is_as_good": result["best"]["score"] >= default["start"]["score"] - 0.01,
        "verdict": result["verdict"],
        "seconds": result["seconds"],
    }


def try_good_start(place, arguments):
    """Studies that start at good settings call something better at most once in ten."""
    data, words = write_digits(place), []
    search = ("--search", "learning_rate,weight_decay", "--trials", 6)
    for repeat in range(arguments.repeats):
        seed = ("--seed", 1000 * repeat)
        result = run(*command(data, place, f"repeat-{repeat}", *GOOD, *search, *seed))
        words.append(result["verdict"]["verdict"])
        chosen = {name: result["verdict"][name] for name in ("verdict", "difference", "low")}
        print(json.dumps({"repeat": repeat, **chosen, "seconds": result["seconds"]}), flush=True)
    return {"better": words.count("better"), "repeats": len(words)}


def draw_answers(generator, seeds, photos, spreads):
    """Right answers of two settings that are equally good.

    Args:
        generator: `numpy.random.Generator`.
        seeds: int S.
        photos: int N.
        spreads: (float, float), standard deviation of how well a training does, and of how much
            better one setting suits a photo than the other, both in units of the logit.

    Returns:
        (first, second): bool (S, N).
    """
    difficulty = generator.normal(2.0, 2.0, photos)
    suits = generator.normal(0, spreads[1], photos)
    answers = []
    for sign in (-0.5, 0.5):
        luck = generator.normal(0, spreads[0], (seeds, 1))
        chance = 1 / (1 + np.exp(-(difficulty + sign * suits + luck)))
        answers.append(generator.random((seeds, photos)) < chance)
    return tuple(answers)


CASES = {
    "trainings alike": (0.0, 0.0),
    "trainings differ": (0.3, 0.0),
    "trainings differ much": (0.8, 0.0),
    "photos differ": (0.0, 1.0),
    "both": (0.3, 1.0),
}


def false_alarms(case, studies, seeds=3, photos=150, seed=0):
    """How often one of two equally good settings is called better.

    Args:
        case: str, a key of `CASES`.
        studies: int.
        seeds: int, trainings of each.
        photos: int.
        seed: int, of the random numbers.

    Returns:
        float, a fraction of the studies.
    """
    generator, better = np.random.default_rng(seed), 0
    for _ in range(studies):
        answers = draw_answers(generator, seeds, photos, CASES[case])
        better += compare_seeds(*answers, np.arange(photos)).sign == 1
    return better / studies


def try_false_alarms(place, arguments):
    """How often equally good settings are called better, by case and number of seeds."""
    return {
        case: {
            f"{seeds} seeds, {photos} photos": false_alarms(case, arguments.studies, seeds, photos)
            for seeds in (3, 5)
            for photos in (50, 150, 500)
        }
        for case in CASES
    }


PARTS = {
    "kills": try_kills,
    "two": try_two,
    "bad_start": try_bad_start,
    "good_start": try_good_start,
    "false_alarms": try_false_alarms,
}


def main():
    """Runs one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--studies", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(PARTS[arguments.part](place, arguments)), flush=True)


if __name__ == "__main__":
    main()
