"""results.csv: one row per epoch, and which of them is the best."""

import csv
import os

from common.errors import InputError
from runs import run_folder


def score(row):
    return row["val_accuracy"], -row["val_loss"]


def read_results(path):
    """results.csv of a run: a dict of column -> float for each epoch, none where it is missing."""
    file = os.path.join(path, run_folder.RESULTS)
    try:
        with open(file, encoding="utf-8", newline="") as text:
            reader = csv.DictReader(text)
            rows = [{name: float(value) for name, value in row.items()} for row in reader]
        for name in ("epoch", "loss", "accuracy", "learning_rate", "val_loss", "val_accuracy"):
            if rows and name not in rows[0]:
                raise KeyError(name)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(f"{file}: is not what a training writes: {error}") from None
    return rows


def best_epoch(rows):
    """Position of the epoch whose weights were kept: highest accuracy, then lowest loss."""
    return max(range(len(rows)), key=lambda n: (rows[n]["val_accuracy"], -rows[n]["val_loss"]))
