"""One page about a run: scores with intervals, curves, errors and doubtful labels.

Beside the page goes a table of the doubtful labels, which `other/relabel.py` reads back.
"""

import os
import time
from typing import NamedTuple

import numpy as np

from common import console, output_places
from common.baseline import no_better
from common.commands import command_line
from common.errors import InputError
from common.files import checksum, write_text
from common.versions import versions
from common.write_errors import write_error
from config.mode_options import ReportOptions
from config.parser import show
from data.attributes import read_attributes
from data.parts import measured_part, read_part
from eval import TOP_K
from evaluation import intervals, known_photos, label_errors, robustness, slices
from evaluation.calibration_error import expected_calibration_error, reliability
from evaluation.confusion import NO_ANSWER, confused_pairs, confusion
from evaluation.scores import measure
from other.reporting import (
    doubtful_labels,
    html_pages,
    provenance,
    report_charts,
    report_gallery,
    slice_section,
)
from other.reporting.report_warnings import warnings_about
from pages.languages import choose_language
from pages.rendering import render
from pages.text_tables import texts_of
from prediction.batch import predict_samples
from prediction.classifier import Classifier, check_top_k, known_labels
from prediction.exported_model import is_export_of
from runs import run_folder
from runs.results import best_epoch, read_results
from runs.slices_file import write_slices
from runs.tracked_values import flat_scores, numbers
from runs.tracking import deliver, open_asked, send_with_files

PAGE = "report.html"  # in a run's folder, where --target is not given


class Score(NamedTuple):
    """A score with its 95 % interval, all from 0 to 1."""

    value: float
    low: float
    high: float


class Answers(NamedTuple):
    """What a classifier said about labelled images.

    Attributes:
        samples: `Samples`, N images.
        class_names: tuple of str, the C classes in the order of their ids.
        probabilities: float32 (N, C), rows of zeros where an image cannot be decoded.
        predicted: int (N,), class ids, `NO_ANSWER` for those.
        errors: dict of position -> `ImageError`, for those.
    """

    samples: tuple
    class_names: tuple
    probabilities: np.ndarray
    predicted: np.ndarray
    errors: dict


class Report(NamedTuple):
    """What is known of a model before a page is made of it.

    Attributes:
        path: str, the folder of the run or of the exported model.
        run: `run_folder.Run`, or None for an exported model.
        epoch_rows: list of dict, the rows of results.csv; empty for an exported model.
        classifier: `Classifier` that gave the answers.
        answers: `Answers`.
        training: `label_errors.Training`, what the run's training tells of these images.
        suspects: list of `label_errors.Suspect`, the most doubtful label first.
        slices: dict of `slices.measure`, or None where no attribute was named.
    """

    path: str
    run: run_folder.Run | None
    epoch_rows: list
    classifier: Classifier
    answers: Answers
    training: label_errors.Training
    suspects: list
    slices: dict | None


def main(options: ReportOptions):
    """`--mode report`.

    Returns:
        dict: run, the path of the run, or None for an exported model, and is_exported.
    """
    path = run_folder.find(options.run, options.save_dir)
    store = open_asked(options.track, path)
    place = _place(options, path)
    page_path, table_path = _targets(place.path)
    report = _gather(options, path)
    language = choose_language(options.lang)
    page_values = _page_values(report, options, table_path, texts_of(language))
    page_html = render("report.html", language, **page_values)
    weights = report.run and checksum(report.run.file(run_folder.BEST))
    _write(page_path, table_path, page_html, report, weights)
    place.record()
    result = {**_summary(report, page_values), "html": page_path, "csv": table_path}
    if store:
        result["tracking"] = _deliver(store, path, result, options)
    console.show(result, _text, options.json)
    return {"run": report.run and path, "is_exported": _is_exported(report.run, weights)}


def _deliver(store, run_path, result, options):
    """Sends the page, its table and its scores to MLflow."""
    scores = flat_scores(result["scores"], "report_")
    scores |= numbers({"report_calibration_error": result["expected_calibration_error"]})
    files = [(result["html"], "report"), (result["csv"], "report")]
    tags = {"report_data": show(options.data)}
    return deliver(store, lambda: send_with_files(store, run_path, files, scores, tags))


def _is_exported(run, weights):
    """Whether nothing is left to export: `run` is None for an exported model."""
    return run is None or is_export_of(run.file(run_folder.MODEL), weights)


def _gather(options, path):
    """Lets the model answer and collects what its run tells: a `Report`."""
    class_names = known_labels(path)
    run = None if run_folder.is_exported(path) else run_folder.read(path)
    names_from = f"the labels of {path}"
    samples = read_part(options.data, options.part, class_names, names_from, options.workers)
    known_photos.tell(path, samples, options.workers)
    attributes = read_attributes(
        options.attributes, options.group, samples, options.data, class_names, options.workers
    )
    division = slices.divide(attributes) if attributes else None
    epoch_rows = read_results(path) if run else []
    training = label_errors.recall(path if run else None, samples)
    classifier = Classifier.load(path)
    probabilities, errors, _ = predict_samples(
        classifier, samples, options.batch_size, options.workers
    )
    predicted = probabilities.argmax(axis=1)
    predicted[list(errors)] = NO_ANSWER
    answers = Answers(samples, class_names, probabilities, predicted, errors)
    suspects = doubtful_labels.leave_out_confirmed(
        label_errors.find(training, samples, probabilities, errors),
        samples,
        class_names,
        options.data,
    )
    is_right = predicted == samples.class_ids
    measured_slices = division and slices.measure(division, is_right, samples.class_ids)
    return Report(path, run, epoch_rows, classifier, answers, training, suspects, measured_slices)


def _page_values(report, options, table_path, texts):
    """What the template report.html takes: a dict."""
    answers, run = report.answers, report.run
    mistakes, explained = report_gallery.surest_errors(
        answers, report.classifier.preprocessing, run
    )
    relabel_words = ["relabel", "--run", report.path, "--csv", os.path.abspath(table_path)]
    if os.path.isfile(options.data):  # a CSV that names the classes
        relabel_words += ["--data", os.path.abspath(options.data)]
    label_words = ["label", "--data", options.data, "--run", report.path, "--queue", "doubtful"]
    measured = _measured(answers, texts)
    accuracy = measured["scores"]["accuracy"]
    return {
        **measured,
        **_epochs(report.epoch_rows, run, texts),
        **_robustness(report, accuracy.value, options, texts),
        "slices": report.slices and slice_section.page_values(report.slices, texts),
        "warnings": warnings_about(answers, run, accuracy, report.training.seen, texts),
        "mistakes": mistakes,
        "explained": explained,
        "suspects": len(report.suspects),
        "cannot_judge": _cannot_judge(accuracy.value, texts),
        "unjudged": report.training.unjudged,
        "doubtful": report_gallery.doubtful(report.suspects, answers),
        "name": os.path.basename(os.path.abspath(report.path)),
        "run": run,
        "data": html_pages.place(options.data),
        "calibrated": report.classifier.calibration is not None,
        "table": os.path.basename(table_path),
        "command": command_line(*relabel_words),
        "label_command": command_line(*label_words) if run else None,
        "option_rows": provenance.option_rows(run.options) if run else [],
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "fingerprint": provenance.fingerprint(
            answers.samples, answers.class_names, options.workers
        ),
        "strengths": robustness.STRENGTHS,
    }


def _summary(report, page_values):
    """The figures of the page that `--json` gives: a dict."""
    return {
        "images": len(report.answers.samples.file_names),
        "scores": {name: score._asdict() for name, score in page_values["scores"].items()},
        "expected_calibration_error": page_values["ece"],
        **({"robustness": page_values["robustness"]} if page_values["robustness"] else {}),
        **({"slices": report.slices} if report.slices else {}),
        "suspects": len(report.suspects),
        "suspects_shown": len(page_values["doubtful"]),
        "undecodable": [str(error) for error in report.answers.errors.values()],
    }


def _cannot_judge(accuracy, texts):
    """A sentence where the model is not good enough to judge labels, else ""."""
    if not label_errors.cannot_judge(accuracy):
        return ""
    least = f"{label_errors.MIN_JUDGING_ACCURACY:.0%}"
    return texts("report.cannot_judge", accuracy=f"{accuracy:.1%}", least=least)


def _baseline(samples, class_names, accuracy, largest_share):
    """better, unclear or no_better than always answering the largest class."""
    if no_better(samples.class_ids, class_names, accuracy.value):
        return "no_better"
    return "better" if accuracy.low > largest_share else "unclear"


def _measured(answers, texts):
    """The page's values about scores, classes and probabilities."""
    samples, class_names, probabilities, predicted, _ = answers
    top_k = check_top_k(None, len(class_names), TOP_K)
    measured = measure(samples.class_ids, probabilities, class_names, top_k)
    matrix = confusion(samples.class_ids, predicted, len(class_names))
    image_counts = np.bincount(samples.class_ids, minlength=len(class_names))
    scores = with_intervals(measured, matrix, image_counts, top_k)
    largest_share = image_counts.max() / len(samples.file_names)
    page_values = {
        "count": len(samples.file_names),
        "labels": class_names,
        "top_k": top_k,
        "scores": scores,
        "right": int(np.trace(matrix)),
        "wrong": int(matrix.sum() - np.trace(matrix)),
        "largest": class_names[image_counts.argmax()],
        "largest_share": largest_share,
        "baseline": _baseline(samples, class_names, scores["accuracy"], largest_share),
        "classes": class_rows(measured, matrix),
        "pairs": [
            (class_names[true], class_names[other], *rest)
            for true, other, *rest in confused_pairs(matrix, image_counts)
        ],
        "ece": None,
        "reliability": None,
    }
    page_values["confusion"], page_values["is_sorted"] = report_charts.confusion(
        matrix, image_counts, class_names, texts
    )
    is_answered = predicted != NO_ANSWER
    if is_answered.any():
        answered_only = samples.class_ids[is_answered], probabilities[is_answered]
        bins = reliability(*answered_only)
        page_values["ece"] = expected_calibration_error(*answered_only)
        page_values["reliability"] = report_charts.reliability_diagram(bins, texts)
    return page_values


def _epochs(rows, run, texts):
    """The page's values about the epochs of the training, from the rows of results.csv."""
    if not rows:
        return {"epochs": 0, "curves": None}
    kept_index = best_epoch(rows)
    metrics = run_folder.read_metrics(run.path)
    kept_number = metrics.get("best_epoch")  # no metrics: not finished
    if kept_number and kept_number <= len(rows):
        kept_index = kept_number - 1
    curves = report_charts.learning_curves(rows, kept_index, texts)
    soup = metrics.get("soup") or {"kept": False}
    return {"epochs": len(rows), "kept": rows[kept_index], "curves": curves, "soup": soup}


def _robustness(report, accuracy, options, texts):
    """The page's values about images that are made worse."""
    if not options.robustness:
        return {"robustness": None}
    table = robustness.measure(
        report.classifier, report.answers.samples, options.batch_size, options.workers
    )
    chart, keys = report_charts.robustness(table, accuracy, texts)
    return {"robustness": table, "robustness_chart": chart, "robustness_keys": keys}


def with_intervals(measured, matrix, images, top_k):
    """The scores of `scores.measure` with 95 % intervals.

    Wilson's interval for fractions of images; a bootstrap for means over classes, which are not
    fractions of a number of images.

    Args:
        measured: dict, from `scores.measure`.
        matrix: int (C, C), images with an answer by true and predicted class.
        images: int (C,), images of each class.
        top_k: int, the k of the top-k accuracy.

    Returns:
        dict of name -> `Score`, named as in `measured`.
    """
    image_count, score_intervals = measured["images"], {}
    for name in ("accuracy", f"top_{top_k}_accuracy"):
        score_intervals[name] = intervals.proportion(
            round(measured[name] * image_count), image_count
        )
    full_matrix = np.column_stack([matrix, images - matrix.sum(axis=1)])
    for name, statistic in (
        ("macro_precision", intervals.macro_precision),
        ("macro_recall", intervals.macro_recall),
        ("macro_f1", intervals.macro_f1),
    ):
        score_intervals[name] = intervals.bootstrap(statistic, full_matrix)
    return {name: Score(measured[name], *interval) for name, interval in score_intervals.items()}


def class_rows(measured, matrix):
    """The figures of every class, worst F1 first, classes without images last.

    Args:
        measured: dict, from `scores.measure`.
        matrix: int (C, C), images with an answer by true and predicted class.

    Returns:
        list of dict. Beside the keys of `scores.measure`: `precision` and `recall`, `Score` or None
        where the class was never answered or has no images; `f1`, None without images;
        `taken_for`, (name of the class most often predicted wrongly, images) or None.
    """
    result_rows = []
    for class_id, class_scores in enumerate(measured["classes"]):
        right, answer_count = int(matrix[class_id, class_id]), int(matrix[:, class_id].sum())
        wrong_counts = matrix[class_id].copy()
        wrong_counts[class_id] = 0
        other_id = int(wrong_counts.argmax())
        other_name, other_count = measured["classes"][other_id]["label"], wrong_counts[other_id]
        totals = {"precision": answer_count, "recall": class_scores["images"]}
        row_scores = {
            name: Score(class_scores[name], *intervals.proportion(right, total)) if total else None
            for name, total in totals.items()
        }
        result_rows.append(
            {
                **class_scores,
                **row_scores,
                "f1": class_scores["f1"] if class_scores["images"] else None,
                "taken_for": (other_name, int(other_count)) if other_count else None,
            }
        )
    return sorted(result_rows, key=lambda row: 2 if row["f1"] is None else row["f1"])


def _place(options, path):
    """Where the page goes."""
    if options.target is None and run_folder.is_exported(path):
        raise InputError(
            f"--target is missing: {path} is an exported model, whose folder is left as it is; "
            "name an HTML file"
        )
    part = measured_part(options.data, options.part)
    default_path = os.path.join(path, PAGE)
    return output_places.choose(default_path, options.target, data=options.data, part=part)


def _targets(target):
    """The paths of page and table, refused where they could not be written."""
    stem, file_ending = os.path.splitext(target)
    if file_ending.lower() not in (".html", ".htm"):
        raise InputError(f"--target: {target} has to end in .html; the table beside it in .csv")
    folder = os.path.dirname(os.path.abspath(target))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise InputError(f"--target: {target}: {folder} is not a folder")
    for output_path in (target, stem + ".csv"):
        if os.path.exists(output_path) and not os.path.isfile(output_path):
            raise InputError(f"--target: {output_path} is not a file that could be replaced")
    doubtful_labels.check_replaceable(stem + ".csv", target)
    return target, stem + ".csv"


def _write(page_path, table_path, page_html, report, weights):
    """Writes page, table and, for the model card, the slices; each whole or not at all."""
    try:
        os.makedirs(os.path.dirname(os.path.abspath(page_path)), exist_ok=True)
        doubtful_labels.write(table_path, report.suspects, report.answers)
        write_text(page_path, page_html)
        # On photos that it was trained on a model is not as good as they say.
        if report.run and report.slices and not report.training.seen.any():
            photo_count = len(report.answers.samples.file_names)
            write_slices(report.run.path, weights, photo_count, report.slices)
    except OSError as error:
        raise write_error(error, page_path, "--target") from None


def _text(result):
    text_lines = [f"{'images':<20}  {result['images']:,}"]
    text_lines += [
        f"{name.replace('_', ' '):<20}  {score['value']:.4f}  "
        f"({score['low']:.4f} to {score['high']:.4f})"
        for name, score in result["scores"].items()
    ]
    if result["expected_calibration_error"] is not None:
        text_lines.append(f"{'calibration error':<20}  {result['expected_calibration_error']:.4f}")
    left_out = result["suspects"] - result["suspects_shown"]
    only_in_table = f"  ({left_out:,} of them only in the table, not on the page)"
    text_lines.append(
        f"{'doubtful labels':<20}  {result['suspects']:,}{only_in_table if left_out else ''}"
    )
    if sentence := label_errors.cannot_judge(result["scores"]["accuracy"]["value"]):
        text_lines.append(sentence)
    for kind, accuracies in result.get("robustness", {}).items():
        numbers = "  ".join(f"{accuracy:.3f}" for accuracy in accuracies)
        text_lines.append(f"accuracy with {kind:<9} {numbers}  (from weak to strong)")
    if "slices" in result:
        text_lines += slice_section.text_lines(result["slices"], slice_section.THAN_REST)
    text_lines += [f"no answer, counts as wrong: {line}" for line in result["undecodable"]]
    text_lines += [f"page: {result['html']}", f"table of the doubtful labels: {result['csv']}"]
    return "\n".join(text_lines)
