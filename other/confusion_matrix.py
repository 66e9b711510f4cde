"""Charts of which classes are taken for which, with sample images of the worst pairs."""

import os
from typing import NamedTuple

import numpy as np

from common import console, output_places
from common.errors import ImageError, InputError
from common.tables import write_table
from config.mode_options import ConfusionMatrixOptions
from data.decoding import load
from data.geometry import Preprocessing
from data.parts import measured_part, read_part
from evaluation import known_photos
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
    run_path = run_folder.find(options.run, options.save_dir)
    place = _place(options, run_path)
    target = place.path
    check_output_folder(target, FILES)
    class_names = known_labels(run_path)
    answers = (
        _evaluate(options, run_path, class_names) if options.data else _read(run_path, class_names)
    )
    matrix = confusion(answers.true, answers.predicted, len(class_names))
    images_per_class = np.bincount(answers.true, minlength=len(class_names))
    pairs = confused_pairs(matrix, images_per_class)
    with output_folder(target, FILES) as folder:
        _write(folder, class_names, matrix, images_per_class, pairs, answers)
    place.record()
    result = {**_result(answers, class_names, matrix, pairs), "target": target}
    console.show(result, _text, options.json)


def _result(answers, class_names, matrix, pairs):
    return {
        "images": len(answers.true),
        "accuracy": float(np.trace(matrix) / len(answers.true)),
        "labels": list(class_names),
        "matrix": matrix.tolist(),
        "pairs": [
            {
                "true": class_names[true],
                "predicted": class_names[predicted],
                "images": count,
                "share": share,
            }
            for true, predicted, count, share in pairs
        ],
        "undecodable": answers.undecodable,
    }


def _place(options, run_path):
    """Where the charts go: about --data, or what the predictions that are read are about."""
    if options.target is None and run_folder.is_exported(run_path):
        raise InputError(
            f"--target is missing: {run_path} is an exported model, whose folder is left as it is; "
            "name a folder"
        )
    if options.data:
        subject = {"data": options.data, "part": measured_part(options.data, options.part)}
    else:
        subject = output_places.latest(os.path.join(run_path, FILE_NAME)).subject
    return output_places.choose(os.path.join(run_path, FOLDER), options.target, **subject)


def _evaluate(options, run_path, class_names):
    """The `Answers` of the model about the images in --data."""
    names_from = f"the labels of {run_path}"
    samples = read_part(options.data, options.part, class_names, names_from, options.workers)
    known_photos.tell(run_path, samples, options.workers)
    classifier = Classifier.load(run_path)
    probabilities, errors, _ = predict_samples(
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


def _read(run_path, class_names):
    """The `Answers` that the run's eval.csv holds, the one written last."""
    if run_folder.is_exported(run_path):
        raise InputError(
            f"--data is missing: {run_path} is an exported model, which keeps no {FILE_NAME}; name "
            "labelled images"
        )
    place = output_places.latest(os.path.join(run_path, FILE_NAME))
    if place.subject:
        console.say(f"reads {place.path}: {output_places.describe(place.subject)}")
    predictions = read_predictions(place.path, class_names)
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


def _write(folder, class_names, matrix, images, pairs, answers):
    """Writes tables and charts into `folder`."""
    missing = images - matrix.sum(axis=1)
    full, column_names = matrix, list(class_names)
    if missing.any():
        full, column_names = np.column_stack([matrix, missing]), [*class_names, NO_ANSWER_NAME]
    write_table(
        os.path.join(folder, "counts.csv"),
        ["true \\ predicted", *column_names],
        ([name, *row] for name, row in zip(class_names, full)),
        errors="backslashreplace",
    )
    write_table(
        os.path.join(folder, "pairs.csv"),
        ["true", "predicted", "images", "share"],
        (
            [class_names[true], class_names[predicted], count, share]
            for true, predicted, count, share in pairs
        ),
        errors="backslashreplace",
    )
    families, words = fonts.for_names(class_names)
    # Images without an answer are part of their class, so that the diagonal is the recall.
    class_fractions = full / np.maximum(images, 1)[:, None]
    order, note = list(range(len(class_names))), ""
    if len(class_names) > ANNOTATED:
        order = confusion_order(class_fractions[:, : len(class_names)])
        note = (
            "classes that are confused stand together, the most confused first\n"
            "(average-linkage clustering)"
        )
    columns = [*order, *range(len(class_names), len(column_names))]
    rows, column_words = [words[n] for n in order], [*words, NO_ANSWER_NAME]
    column_words = [column_words[n] for n in columns]
    with drawing(families):
        for stem, values, name in (
            ("counts", full, "images"),
            ("normalized", class_fractions, "share of the true class's images"),
        ):
            figure = matrix_chart(values[np.ix_(order, columns)], rows, column_words, name, note)
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
            thumbnails.append(load(answers.paths[position], Preprocessing(THUMBNAIL, "letterbox")))
        except ImageError:  # moved or changed since it was evaluated
            thumbnails.append(np.full((THUMBNAIL, THUMBNAIL, 3), GREY, np.uint8))
    return thumbnails


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
