"""results.csv: one row per epoch, how it is written and read, and which epoch is the best.

Nothing in it depends on a clock, so that two runs of the same training are equal byte by byte.
"""

import csv
import io
import os

from common.errors import InputError
from common.files import write_text
from runs import run_folder

COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


def score(row):
    """(float, float): what epochs are ranked by, larger is better.

    Args:
        row: dict with val_accuracy, which counts first, and val_loss, which breaks ties.
    """
    return row["val_accuracy"], -row["val_loss"]


def best_epoch(history):
    """int, position of the best epoch; the earlier one of equals.

    Args:
        history: list of dict, one row per epoch, at least one.
    """
    return max(range(len(history)), key=lambda position: score(history[position]))


def ranked_epochs(history, first=0):
    """list of int, the numbers of the epochs, the best one first; the earlier one of equals.

    Args:
        history: list of dict, one row per epoch.
        first: int, how many epochs at the beginning are left out.
    """
    return [row["epoch"] for row in sorted(history[first:], key=score, reverse=True)]


def results_text(history):
    """str, the content of results.csv.

    Args:
        history: list of dict, one row per epoch with the keys `COLUMNS`.
    """
    csv_text = io.StringIO()
    writer = csv.DictWriter(csv_text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return csv_text.getvalue()


def write_results(run_path, history):
    """Writes results.csv into a run's folder, whole or not at all.

    Args:
        run_path: str, the run's folder.
        history: list of dict, one row per epoch with the keys `COLUMNS`.
    """
    write_text(os.path.join(run_path, run_folder.RESULTS), results_text(history))


def results_are(run_path, history):
    """bool, whether results.csv of a run holds just these epochs.

    Args:
        run_path: str, the run's folder.
        history: list of dict, one row per epoch.
    """
    try:
        with open(os.path.join(run_path, run_folder.RESULTS), encoding="utf-8") as csv_file:
            return csv_file.read() == results_text(history)
    except OSError:
        return False


def read_results(run_path):
    """Reads results.csv.

    Args:
        run_path: str, the run's folder.

    Returns:
        list of dict of column -> float, one per epoch; empty where there is no such file.

    Raises:
        InputError: the file is not what a training writes.
    """
    csv_path = os.path.join(run_path, run_folder.RESULTS)
    try:
        with open(csv_path, encoding="utf-8", newline="") as csv_file:
            reader = csv.DictReader(csv_file)
            history = [{name: float(value) for name, value in row.items()} for row in reader]
        for name in COLUMNS:
            if history and name not in history[0]:
                raise KeyError(name)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(f"{csv_path}: is not what a training writes: {error}") from None
    return history
