"""What helps a rare class: losses, class weights and samplers on skewed digits.

    python -m benchmarks.skewed_digits --out results.csv [--seeds 5] [--epochs 12]

The demo's digits with class 8 cut to 15 training images. EfficientNetB0 from scratch for
each setting and seed, in a process of its own; the seed also says which digits go where.
A row a training goes to --out as it ends, and what is there already is not trained again.
Balanced accuracy is the mean recall over the ten classes of the 360 test digits.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from statistics import mean, stdev

RARE, KEPT = 8, 15
SETTINGS = {
    "cross_entropy": [],
    "focal": ["--loss", "focal"],
    "balanced weights": ["--class_weights", "balanced"],
    "effective_number weights": ["--class_weights", "effective_number"],
    "balanced sampler": ["--sampler", "balanced"],
    "focal, balanced weights": ["--loss", "focal", "--class_weights", "balanced"],
    "focal, balanced sampler": ["--loss", "focal", "--sampler", "balanced"],
}
COLUMNS = ("setting", "seed", "epochs", "balanced_accuracy", "recall_of_8", "accuracy")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="CSV file, continued where it exists")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    asked = parser.parse_args(argv)
    rows = read(asked.out)
    known = {(row["setting"], int(row["seed"]), int(row["epochs"])) for row in rows}
    for seed in range(asked.seeds):
        for setting, words in SETTINGS.items():
            if (setting, seed, asked.epochs) not in known:
                rows.append(measure(setting, words, seed, asked.epochs))
                write(asked.out, rows)
    groups = defaultdict(list)
    for row in rows:
        if int(row["epochs"]) == asked.epochs:
            groups[row["setting"]].append(row)
    for setting, found in groups.items():
        print(f"{setting:<26} {len(found)} seeds", end="")
        for name in COLUMNS[3:]:
            values = [float(row[name]) for row in found]
            spread = stdev(values) if len(values) > 1 else 0.0
            print(f"   {name} {mean(values):.4f} +- {spread:.4f}", end="")
        print()


def measure(setting, words, seed, epochs):
    with tempfile.TemporaryDirectory() as scratch:
        data = os.path.join(scratch, "digits")
        run("demo_data", "--target", data, "--seed", seed)
        cut(os.path.join(data, "train_datasets"))
        places = ("--save_dir", scratch)
        run(
            "train",
            "--train_data",
            os.path.join(data, "train_datasets"),
            "--val_data",
            os.path.join(data, "val_datasets"),
            "--weights",
            "none",
            "--input_size",
            32,
            "--batch_size",
            64,
            "--drop_connect",
            0,
            "--horizontal_flip",
            "no",
            "--random_eraser",
            0,
            "--epochs",
            epochs,
            "--seed",
            seed,
            "--run",
            "skewed",
            "--log_dir",
            os.path.join(scratch, "logs"),
            *places,
            *words,
        )
        scores = run(
            "eval", "--run", "skewed", "--data", os.path.join(data, "test_datasets"), *places
        )
    return dict(
        zip(
            COLUMNS,
            (
                setting,
                seed,
                epochs,
                scores["macro_recall"],
                scores["classes"][RARE]["recall"],
                scores["accuracy"],
            ),
        )
    )


def cut(folder):
    """Leaves `KEPT` images of the class `RARE`."""
    from data.label_names import read_label_names
    from data.samples import read_samples

    names = read_label_names(os.path.join(folder, "label.json"))
    samples = read_samples(folder, names)
    rare = [name for name, label in zip(samples.file_names, samples.class_ids) if label == RARE]
    for name in rare[KEPT:]:
        os.remove(os.path.join(folder, name))
        os.remove(os.path.join(folder, os.path.splitext(name)[0] + ".txt"))


def run(mode, *words):
    found = subprocess.run(
        [sys.executable, "run.py", "--mode", mode, "--json", *map(str, words)],
        capture_output=True,
        text=True,
    )
    if found.returncode:
        sys.exit(found.stderr.splitlines()[-1])
    return json.loads(found.stdout)


def read(path):
    if not os.path.exists(path):
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path, rows):
    with open(path + ".partial", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(path + ".partial", path)


if __name__ == "__main__":
    sys.exit(main())
