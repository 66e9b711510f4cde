"""Charts of which classes are taken for which, with sample images of the worst pairs."""

import csv
import os
from typing import NamedTuple

import numpy as np

from common import console
from common.errors import ImageError, InputError
from config.mode_options import ConfusionMatrixOptions
from data.decoding import load
from data.geometry import Preprocessing
from data.label_names import check_labels
from data.samples import read_samples
from evaluation.confusion import MOST_SAMPLES, NO_ANSWER, confused_pairs, confusion, confusion_order
from other.reporting import fonts
from other.reporting.charts import check_output_folder, drawing, output_folder, save
from other.reporting.confusion_charts import ANNOTATED, GREY, THUMBNAIL, matrix_chart, pairs_chart
from prediction.batch import predict_samples
from prediction.classifier import Classifier, known_labels
from runs import run_folder
from runs.predictions_table import FILE_NAME, read_predictions

FOLDER = "confusion_matrix"  # in a run's folder, where --target is not given
FILES = (
    "counts.csv",
    "counts.png",
    "counts.svg",
    "normalized.png",
    "normalized.svg",
    "pairs.csv",
    "pairs.png",
)
NO_ANSWER_NAME = "no answer"


class Answers(NamedTuple):
    """What a classifier said about labelled images.

    Attributes:
        paths: list of str, the image files.
        true: int (N,), class ids.
        predicted: int (N,), class ids, `NO_ANSWER` for images that cannot be decoded.
        probability: float (N,), of the predicted class, 0 where there is none.
        undecodable: list of str, a line for each image that cannot be decoded.
    """

    paths: list
    true: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    undecodable: list


def main(options: ConfusionMatrixOptions):
    """`--mode confusion_matrix`."""
    path = run_folder.find(options.run, options.save_dir)
    target = _target(options.target, path)
    check_output_folder(target, FILES)
    labels = known_labels(path)
    answers = _evaluate(options, path, labels) if options.data else _read(path, labels)
    matrix = confusion(answers.true, answers.predicted, len(labels))
    images_per_class = np.bincount(answers.true, minlength=len(labels))
    pairs = confused_pairs(matrix, images_per_class)
    with output_folder(target, FILES) as folder:
        _write(folder, labels, matrix, images_per_class, pairs, answers)
    result = {**_result(answers, labels, matrix, pairs), "target": target}
    console.show(result, _text, options.json)


def _result(answers, labels, matrix, pairs):
    return {
        "images": len(answers.true),
        "accuracy": float(np.trace(matrix) / len(answers.true)),
        "labels": list(labels),
        "matrix": matrix.tolist(),
        "pairs": [
            {"true": labels[true], "predicted": labels[predicted], "images": count, "share": share}
            for true, predicted, count, share in pairs
        ],
        "undecodable": answers.undecodable,
    }


def _target(target, path):
    if target is not None:
        return target
    if run_folder.is_exported(path):
        raise InputError(
            f"--target is missing: {path} is an exported model, whose folder is left as it is; "
            "name a folder"
        )
    return os.path.join(path, FOLDER)


def _evaluate(options, path, labels):
    """The `Answers` of the model about the images in --data."""
    check_labels(options.data, labels, f"the labels of {path}")
    samples = read_samples(options.data, labels, f"the labels of {path}")
    classifier = Classifier.load(path)
    probabilities, errors = predict_samples(
        classifier, samples, options.batch_size, options.workers
    )
    predicted = probabilities.argmax(axis=1)
    predicted[list(errors)] = NO_ANSWER
    return Answers(
        [os.path.join(samples.folder, name) for name in samples.file_names],
        samples.class_ids,
        predicted,
        probabilities.max(axis=1),
        [str(error) for error in errors.values()],
    )


def _read(path, labels):
    """The `Answers` that the run's eval.csv holds."""
    if run_folder.is_exported(path):
        raise InputError(
            f"--data is missing: {path} is an exported model, which keeps no {FILE_NAME}; name "
            "labelled images"
        )
    predictions = read_predictions(os.path.join(path, FILE_NAME), labels)
    return Answers(
        [prediction.image_path for prediction in predictions],
        np.array([prediction.true for prediction in predictions]),
        np.array([NO_ANSWER if row.predicted is None else row.predicted for row in predictions]),
        np.array([prediction.probability for prediction in predictions]),
        [
            f"{prediction.image_path}: {prediction.error}"
            for prediction in predictions
            if prediction.error
        ],
    )


def _write(folder, labels, matrix, images, pairs, answers):
    """Writes tables and charts into `folder`."""
    missing = images - matrix.sum(axis=1)
    full, names = matrix, list(labels)
    if missing.any():
        full, names = np.column_stack([matrix, missing]), [*labels, NO_ANSWER_NAME]
    _write_rows(
        folder,
        "counts.csv",
        [["true \\ predicted", *names], *([name, *row] for name, row in zip(labels, full))],
    )
    _write_rows(
        folder,
        "pairs.csv",
        [
            ["true", "predicted", "images", "share"],
            *(
                [labels[true], labels[predicted], count, share]
                for true, predicted, count, share in pairs
            ),
        ],
    )
    families, words = fonts.for_names(labels)
    # Images without an answer are part of their class, so that the diagonal is the recall.
    shares = full / np.maximum(images, 1)[:, None]
    order, note = list(range(len(labels))), ""
    if len(labels) > ANNOTATED:
        order = confusion_order(shares[:, : len(labels)])
        note = (
            "classes that are confused stand together, the most confused first\n"
            "(average-linkage clustering)"
        )
    columns = [*order, *range(len(labels), len(names))]
    rows, across = [words[n] for n in order], [*words, NO_ANSWER_NAME]
    across = [across[n] for n in columns]
    with drawing(families):
        for stem, values, name in (
            ("counts", full, "images"),
            ("normalized", shares, "share of the true class's images"),
        ):
            figure = matrix_chart(values[np.ix_(order, columns)], rows, across, name, note)
            save(figure, folder, stem)
        thumbnails = [_thumbnails(answers, *pair[:2]) for pair in pairs]
        save(pairs_chart(pairs, thumbnails, words), folder, "pairs", ("png",))


def _thumbnails(answers, true, predicted):
    """The samples of a pair that the classifier was surest of, at most `MOST_SAMPLES`."""
    chosen = np.flatnonzero((answers.true == true) & (answers.predicted == predicted))
    chosen = chosen[np.argsort(-answers.probability[chosen], kind="stable")][:MOST_SAMPLES]
    thumbnails = []
    for position in chosen:
        try:
            thumbnails.append(load(answers.paths[position], Preprocessing(THUMBNAIL)))
        except ImageError:  # moved or changed since it was evaluated
            thumbnails.append(np.full((THUMBNAIL, THUMBNAIL, 3), GREY, np.uint8))
    return thumbnails


def _write_rows(folder, name, rows):
    with open(
        os.path.join(folder, name), "w", encoding="utf-8", errors="backslashreplace", newline=""
    ) as file:
        csv.writer(file).writerows(rows)


def _text(result):
    lines = [f"images {result['images']:,}   accuracy {result['accuracy']:.4f}", ""]
    if result["pairs"]:
        lines += ["most confused:", f"{'images':>8}  {'share':>6}  true -> taken for"]
        lines += [
            f"{pair['images']:>8,}  {pair['share']:>6.1%}  {pair['true']} -> {pair['predicted']}"
            for pair in result["pairs"]
        ]
    else:
        lines.append("no image is taken for another class")
    lines += [f"no answer, counts as wrong: {line}" for line in result["undecodable"]]
    lines.append(f"matrices and pairs: {result['target']}")
    return "\n".join(lines)
