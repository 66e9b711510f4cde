"""One page about a run: scores with intervals, curves, errors and doubtful labels.

Beside the page goes a table of the doubtful labels, which `other/relabel.py` reads back.
"""

import csv
import json
import os
import shlex
import time
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from common.files import replacing, write_text
from data.samples import check_labels, read_samples
from eval import TOP_K
from evaluation import intervals, label_errors
from evaluation.calibration_error import expected_calibration_error, reliability
from evaluation.confusion import NO_ANSWER, confused_pairs, confusion
from evaluation.scores import measure
from other.reporting import fonts, html_pages, provenance, report_charts, report_gallery
from other.reporting.charts import drawing
from prediction.batch import predict_samples
from prediction.classifier import Classifier, check_top_k, known_labels
from runs import run_folder
from runs.results import best_epoch, read_results

PAGE = "report.html"  # in a run's folder, where --target is not given
COLUMNS = (
    "path",
    "label",
    "suggested",
    "probability_of_label",
    "probability_of_suggested",
    "how",
    "new_label",
)
WIDE = 0.1  # an accuracy's interval that is worth a warning


class Score(NamedTuple):
    """A score with its 95 % interval, all from 0 to 1."""

    value: float
    low: float
    high: float


class Answers(NamedTuple):
    """What a classifier said about labelled images.

    Attributes:
        samples: `samples.Samples`, N images.
        labels: the C class names.
        probabilities: float32 (N, C), rows of zeros where an image cannot be decoded.
        predicted: int (N,), class ids, `NO_ANSWER` for those.
        errors: dict of position -> `ImageError`, for those.
    """

    samples: tuple
    labels: tuple
    probabilities: np.ndarray
    predicted: np.ndarray
    errors: dict


def main(options):
    """`--mode report`."""
    path = run_folder.find(options.run, options.save_dir)
    target, table = _targets(options.target, path)
    labels = known_labels(path)
    run = None if run_folder.is_exported(path) else run_folder.read(path)
    check_labels(options.data, labels, f"the labels of {path}")
    samples = read_samples(options.data, labels, f"the labels of {path}")
    epochs = read_results(path) if run else []
    training = label_errors.recall(path if run else None, samples)
    classifier = Classifier.load(path)
    probabilities, errors = predict_samples(
        classifier, samples, options.batch_size, options.workers
    )
    predicted = probabilities.argmax(axis=1)
    predicted[list(errors)] = NO_ANSWER
    answers = Answers(samples, labels, probabilities, predicted, errors)
    suspects = label_errors.find(training, samples, probabilities, errors)
    mistakes, explained = report_gallery.surest_errors(answers, classifier.preprocessing, run)
    command = [
        "python",
        "run.py",
        "--mode",
        "relabel",
        "--run",
        path,
        "--csv",
        os.path.abspath(table),
    ]
    values = {
        **_measured(answers),
        **_epochs(epochs),
        "mistakes": mistakes,
        "explained": explained,
        "suspects": len(suspects),
        "unjudged": training.unjudged,
        "doubtful": report_gallery.doubtful(suspects, answers),
        "name": os.path.basename(os.path.abspath(path)),
        "run": run,
        "data": options.data,
        "calibrated": classifier.calibration is not None,
        "table": os.path.basename(table),
        "command": shlex.join(command),
        "option_rows": provenance.option_rows(run.options) if run else [],
        "versions": provenance.versions(),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "fingerprint": provenance.fingerprint(samples, labels, options.workers),
        "percent": "{:.1%}".format,
        "number": "{:,}".format,
    }
    scores = values["scores"]
    html = html_pages.render(
        "report.html", **values, warnings=_warnings(answers, run, scores["accuracy"], training.seen)
    )
    _write(target, table, html, suspects, answers)
    result = {
        "images": len(samples.file_names),
        "scores": {name: score._asdict() for name, score in scores.items()},
        "expected_calibration_error": values["ece"],
        "suspects": len(suspects),
        "undecodable": [str(error) for error in errors.values()],
        "html": target,
        "csv": table,
    }
    print(json.dumps(result, ensure_ascii=False) if options.json else _text(result))


def _measured(answers):
    """The page's values about scores, classes and probabilities."""
    samples, labels, probabilities, predicted, _ = answers
    top_k = check_top_k(None, len(labels), TOP_K)
    measured = measure(samples.class_ids, probabilities, labels, top_k)
    matrix = confusion(samples.class_ids, predicted, len(labels))
    images = np.bincount(samples.class_ids, minlength=len(labels))
    values = {
        "count": len(samples.file_names),
        "labels": labels,
        "top_k": top_k,
        "scores": with_intervals(measured, matrix, images, top_k),
        "right": int(np.trace(matrix)),
        "wrong": int(matrix.sum() - np.trace(matrix)),
        "largest": labels[images.argmax()],
        "largest_share": images.max() / len(samples.file_names),
        "classes": class_rows(measured, matrix),
        "pairs": [
            (labels[true], labels[other], *rest)
            for true, other, *rest in confused_pairs(matrix, images)
        ],
        "ece": None,
        "reliability": None,
    }
    families, words = fonts.for_names(labels)
    with drawing(families):
        values["confusion"] = report_charts.confusion(matrix, images, words)
        answered = predicted != NO_ANSWER
        if answered.any():
            asked = samples.class_ids[answered], probabilities[answered]
            values["ece"] = expected_calibration_error(*asked)
            values["reliability"] = report_charts.reliability_diagram(reliability(*asked))
    return values


def _epochs(rows):
    """The page's values about the training's epochs, rows as `results.read_results` gives."""
    if not rows:
        return {"epochs": 0, "curves": None}
    best = best_epoch(rows)
    with drawing(fonts.FALLBACK):
        curves = report_charts.learning_curves(rows, best)
    return {"epochs": len(rows), "best": rows[best], "curves": curves}


def with_intervals(measured, matrix, images, top_k):
    """The scores of `scores.measure` with 95 % intervals.

    Wilson's for shares of images; a bootstrap for means over classes, which are no shares.

    Args:
        measured: as `scores.measure` gives it.
        matrix: int (C, C), images with an answer by true and predicted class.
        images: int (C,), images of each class.
        top_k: the k of the top-k accuracy.

    Returns:
        dict of name -> `Score`, named as in `measured`.
    """
    count, found = measured["images"], {}
    for name in ("accuracy", f"top_{top_k}_accuracy"):
        found[name] = intervals.proportion(round(measured[name] * count), count)
    full = np.column_stack([matrix, images - matrix.sum(axis=1)])
    for name, statistic in (
        ("macro_precision", intervals.macro_precision),
        ("macro_recall", intervals.macro_recall),
        ("macro_f1", intervals.macro_f1),
    ):
        found[name] = intervals.bootstrap(statistic, full)
    return {name: Score(measured[name], *interval) for name, interval in found.items()}


def class_rows(measured, matrix):
    """A dict for each class, worst F1 first, those without images last.

    Beside what `scores.measure` gives: `precision` and `recall` as `Score`, or None where the class
    was never answered or has no images; `f1`, None without images; and `taken_for`, the
    class that most of its images were wrongly given and their number, or None.
    """
    rows = []
    for number, each in enumerate(measured["classes"]):
        right, answers = int(matrix[number, number]), int(matrix[:, number].sum())
        wrong = matrix[number].copy()
        wrong[number] = 0
        other = int(wrong.argmax())
        score = {
            name: Score(each[name], *intervals.proportion(right, total)) if total else None
            for name, total in (("precision", answers), ("recall", each["images"]))
        }
        rows.append(
            {
                **each,
                **score,
                "f1": each["f1"] if each["images"] else None,
                "taken_for": (measured["classes"][other]["label"], int(wrong[other]))
                if wrong[other]
                else None,
            }
        )
    return sorted(rows, key=lambda row: 2 if row["f1"] is None else row["f1"])


def _targets(target, path):
    """The paths of page and table, refused where they could not be written."""
    if target is None:
        if run_folder.is_exported(path):
            raise InputError(
                f"--target is missing: {path} is an exported model, whose folder is left as it is; "
                "name an HTML file"
            )
        target = os.path.join(path, PAGE)
    stem, ending = os.path.splitext(target)
    if ending.lower() not in (".html", ".htm"):
        raise InputError(f"--target: {target} has to end in .html; the table beside it in .csv")
    folder = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(folder):
        raise InputError(f"--target: {target}: there is no folder {folder}")
    for file in (target, stem + ".csv"):
        if os.path.exists(file) and not os.path.isfile(file):
            raise InputError(f"--target: {file} is not a file that could be replaced")
    _check_table(stem + ".csv", target)
    return target, stem + ".csv"


def _warnings(answers, run, accuracy, seen):
    """What makes the scores less than they seem, a sentence each."""
    samples, labels, *_, errors = answers
    count, found = len(samples.file_names), []
    if accuracy.high - accuracy.low > WIDE:
        found.append(
            f"{count:,} images are few: the accuracy is known only to within "
            f"{(accuracy.high - accuracy.low) * 100:.0f} points. Four times as many would "
            "halve that."
        )
    if seen.any():
        found.append(
            f"The run was trained on {seen.sum():,} of these {count:,} images. Scores on "
            "images it has learnt from flatter it: measure on others."
        )
    elif (
        run
        and run.options.val_data
        and os.path.realpath(run.options.val_data) == os.path.realpath(samples.folder)
    ):
        found.append(
            "These images have chosen the run's best epoch, so the scores flatter a "
            "little: measure on others in the end."
        )
    empty = [label for number, label in enumerate(labels) if number not in samples.class_ids]
    if empty:
        found.append(f"No image has the class {first_ten(empty)}: of that nothing is known.")
    if errors:
        found.append(
            f"What cannot be decoded counts as wrong: {first_ten(map(str, errors.values()))}."
        )
    return found


def _write(target, table, html, suspects, answers):
    """Writes page and table, each whole or not at all."""
    samples, labels, probabilities, *_ = answers
    folder = os.path.abspath(samples.folder)
    try:
        _keep_filled_in(table)
        with (
            replacing(table) as partial,
            open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for each in suspects:
                row, label = probabilities[each.position], samples.class_ids[each.position]
                writer.writerow(
                    [
                        os.path.join(folder, samples.file_names[each.position]),
                        labels[label],
                        labels[each.suggested],
                        f"{row[label]:.6g}",
                        f"{row[each.suggested]:.6g}",
                        each.how,
                        "",
                    ]
                )
        write_text(target, html)
    except OSError as error:
        raise InputError(f"--target: {target} cannot be written: {error.strerror}") from None


def _check_table(table, target):
    """Refuses to write the table over a file that is none."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
            first = file.readline()
    except OSError:
        return
    if "new_label" not in first:
        raise InputError(
            f"--target: {target}: the table beside it would replace {table}, which is "
            "no such table; choose another name"
        )


def _keep_filled_in(table):
    """Puts an earlier table aside in which somebody has filled in new labels."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            # Another header: not ours, or saved by a spreadsheet in a way of its own
            filled = tuple(reader.fieldnames or ()) != COLUMNS or any(
                (row["new_label"] or "").strip() for row in reader
            )
    except FileNotFoundError:
        return
    if filled:
        kept = f"{table.removesuffix('.csv')}-{time.strftime('%Y%m%d-%H%M%S')}.csv"
        os.replace(table, kept)
        say(f"note: the earlier table, with new labels filled in, is kept as {kept}")


def _text(result):
    lines = [f"{'images':<20}  {result['images']:,}"]
    lines += [
        f"{name.replace('_', ' '):<20}  {score['value']:.4f}  "
        f"({score['low']:.4f} to {score['high']:.4f})"
        for name, score in result["scores"].items()
    ]
    if result["expected_calibration_error"] is not None:
        lines.append(f"{'calibration error':<20}  {result['expected_calibration_error']:.4f}")
    lines.append(f"{'doubtful labels':<20}  {result['suspects']:,}")
    lines += [f"no answer, counts as wrong: {line}" for line in result["undecodable"]]
    lines += [f"page: {result['html']}", f"table of the doubtful labels: {result['csv']}"]
    return "\n".join(lines)
