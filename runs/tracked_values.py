"""What MLflow gets of a run, read from the files of its folder: options, data, scores by epoch."""

import collections
import hashlib
import json
import math
import os
from typing import NamedTuple

from config.modes import saved_options
from config.parser import show
from data.several_places import paths_of
from runs import margin_files, run_folder
from runs.mlflow_store import LONGEST_VALUE, without_secrets
from runs.results import COLUMNS, read_results

TRAINING, VALIDATION = "training", "validation"
DIGEST_LENGTH = 36  # MLflow takes no more


class DataSet(NamedTuple):
    """Photos that a run was made from, without the photos.

    Attributes:
        name: str.
        source: str, where they are, as the option has it.
        digest: str, equal for the same contents with the same labels, in whatever order.
        class_counts: dict of class name -> photos; empty where only all are counted.
        photo_count: int.
    """

    name: str
    source: str
    digest: str
    class_counts: dict
    photo_count: int


class TrackedValues(NamedTuple):
    """What there is to know of a run, or of something made of several runs.

    Attributes:
        params: dict of option name -> its value as text.
        epochs: list of dict, the rows of results.csv.
        scores: dict of name -> float.
        data: dict of what they are for -> `DataSet`.
        is_finished: bool.
    """

    params: dict
    epochs: list
    scores: dict
    data: dict
    is_finished: bool


def read_values(run_path):
    """Reads from a run's folder what MLflow gets of it.

    Args:
        run_path: str.

    Returns:
        `TrackedValues`.

    Raises:
        InputError: files of the run are damaged.
    """
    run, metrics = run_folder.read(run_path, weights=None), run_folder.read_metrics(run_path)
    # Those of the epoch that is kept have another name than those of every epoch.
    scores = {
        f"best_{name}" if name in COLUMNS else name: value
        for name, value in numbers(metrics).items()
    }
    return TrackedValues(
        option_texts(run.options, saved_options("train")),
        read_results(run_path),
        scores,
        _read_data(run),
        "val_accuracy" in metrics,
    )


def numbers(scores):
    """Those of a table of scores that are single numbers.

    Args:
        scores: dict of name -> any value of JSON.

    Returns:
        dict of name -> float.

    Example:
        >>> numbers({"accuracy": 0.5, "classes": [1, 2], "note": None})
        {'accuracy': 0.5}
    """
    return {
        name: float(value)
        for name, value in scores.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def flat_scores(scores, prefix=""):
    """Scores with intervals as single numbers.

    Args:
        scores: dict of name -> dict of value, low and high.
        prefix: str, what every name begins with.

    Returns:
        dict of name -> float.

    Example:
        >>> flat_scores({"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}, "report_")
        {'report_accuracy': 0.5, 'report_accuracy_low': 0.4, 'report_accuracy_high': 0.6}
    """
    endings = {"value": "", "low": "_low", "high": "_high"}
    return {
        f"{prefix}{name}{ending}": score[part]
        for name, score in scores.items()
        for part, ending in endings.items()
    }


def option_texts(options, names):
    """Options as MLflow takes them.

    Args:
        options: the options of a mode.
        names: iterable of str, those that are wanted.

    Returns:
        dict of name -> str, without those that have no value, and without passwords in addresses.
    """
    values = {name: getattr(options, name) for name in sorted(names)}
    return {
        name: without_secrets(show(value))[:LONGEST_VALUE]
        for name, value in values.items()
        if value not in (None, "", ())
    }


def _read_data(run):
    """dict of training and validation -> `DataSet`; what a run of earlier versions lacks is not."""
    options, data_sets = run.options, {}
    rows = margin_files.read_trained_on(run.path)
    _, validated = margin_files.read_hashes(run.path)
    places = {TRAINING: paths_of(options.train_data), VALIDATION: [options.val_data or ""]}
    sources = {part: ", ".join(paths) for part, paths in places.items()}
    names = {
        part: ", ".join(os.path.basename(os.path.normpath(path)) for path in paths if path)
        for part, paths in places.items()
    }
    if rows and all(content for *_, content in rows):
        counts = collections.Counter(run.class_names[class_id] for _, class_id, _ in rows)
        lines = sorted(f"{content:016x} {class_id}" for _, class_id, content in rows)
        data_sets[TRAINING] = DataSet(
            names[TRAINING],
            sources[TRAINING],
            _digest(lines),
            dict(sorted(counts.items())),
            len(rows),
        )
    if validated:
        lines = sorted(f"{content:016x}" for content in validated)
        data_sets[VALIDATION] = DataSet(
            names[VALIDATION] or names[TRAINING],
            sources[VALIDATION] or sources[TRAINING],
            _digest(lines),
            {},
            len(lines),
        )
    return data_sets


def _digest(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGEST_LENGTH]


def profile(data):
    """The size of a `DataSet` as JSON.

    Args:
        data: `DataSet`.

    Returns:
        str.
    """
    classes = {"classes": data.class_counts} if data.class_counts else {}
    return json.dumps({"photos": data.photo_count, **classes}, ensure_ascii=False)
