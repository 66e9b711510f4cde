"""The proof that an exported model answers as the trained model does.

A fresh process opens every format and goes from the bytes of real images to probabilities, which
are compared with the trained model's. What differences are acceptable is in `export.acceptance`.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np

from common.errors import InputError, RunError
from common.write_errors import write_error
from data.decoding import load
from data.photo_files import read_photo
from prediction import runtimes
from prediction.exported_model import describe_preprocessing, parse_preprocessing
from prediction.runtimes import Answers

BATCH = 16
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAX_SIGNATURE_DIFFERENCE = 1e-5  # on probabilities: both signatures are one graph


class Comparison(NamedTuple):
    """How far an exported model's answers are from the trained model's.

    Attributes:
        difference: float, the largest of a probability; NaN where one is NaN.
        agreement: float, fraction of the images with the same most probable class, or None.
        accuracy: float, on the images with a known class; None where there are none.
        drop: float, by how much that is below the trained model's accuracy, or None.
        similarity: float, the largest difference of a similarity, or None without those.
        images: int, number of images, where it is not that of the whole export, else None.
        pixels: float, mean difference of what another program than Python makes of the images'
            files, in levels of 0 to 255, or None where Python makes them.
    """

    difference: float
    agreement: float | None = None
    accuracy: float | None = None
    drop: float | None = None
    similarity: float | None = None
    images: int | None = None
    pixels: float | None = None

    def to_json(self):
        """dict of what is known, as model.json and `--json` hold it."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def compare(expected, answers, class_ids=None):
    """Compares answers with the trained model's.

    Args:
        expected: `Answers` of the trained model for N images.
        answers: `Answers` to compare.
        class_ids: int (N,), the images' classes, -1 where unknown; None where all are.

    Returns:
        `Comparison`.
    """
    predicted = answers.probabilities.argmax(axis=1)
    expected_class = expected.probabilities.argmax(axis=1)
    comparison = Comparison(
        difference=_largest(answers.probabilities, expected.probabilities),
        agreement=float((predicted == expected_class).mean()),
    )
    if expected.similarities is not None:
        difference = _largest(answers.similarities, expected.similarities)
        comparison = comparison._replace(similarity=difference)
    labelled = np.zeros(len(predicted), bool) if class_ids is None else class_ids >= 0
    if not labelled.any():
        return comparison
    accuracy = (predicted[labelled] == class_ids[labelled]).mean()
    trained_accuracy = (expected_class[labelled] == class_ids[labelled]).mean()
    return comparison._replace(accuracy=float(accuracy), drop=float(trained_accuracy - accuracy))


def _largest(values, expected):
    return float(np.abs(values - expected).max())  # np.max keeps NaN


def predict_all(folder, pairs, image_paths, preprocessing):
    """The answers of each way to compute an exported model.

    Args:
        folder: str, the folder of the exported model.
        pairs: list of P (key of `runtimes.RUNTIMES`, precision); after a pair of "savedmodel"
            there may be ("savedmodel", "bytes"), its signature that takes image files.
        image_paths: list of N image files.
        preprocessing: `Preprocessing` of the model.

    Returns:
        list of P `Answers` of the N images; for "bytes" NaN for images that TensorFlow cannot
        decode.

    Raises:
        InputError: a format cannot be opened, or an image not decoded.
        RunError: the SavedModel's two signatures for decoded images differ.
    """
    images = np.stack([load(image_path, preprocessing) for image_path in image_paths])
    signatures = {}
    if any(name == "savedmodel" for name, _ in pairs):
        signatures = runtimes.signatures(folder)
    answers = []
    for name, precision in pairs:
        if precision == "bytes":
            answers.append(_predict_files(signatures["predict_bytes"], image_paths, answers[-1]))
        elif name == "savedmodel":
            answers.append(_predict_batches(signatures["serving_default"], images))
            _check_signature(signatures["predict_image"], images[:BATCH], answers[-1])
        else:
            predict = runtimes.open_model(folder, name, precision)
            answers.append(_predict_batches(predict, images))
    return answers


def _predict_batches(predict, images):
    starts = range(0, len(images), BATCH)
    return join([predict(images[start : start + BATCH]) for start in starts])


def join(parts):
    """`Answers` of several batches together.

    Args:
        parts: list of `Answers`.
    """
    return Answers(*(each[0] if each[0] is None else np.concatenate(each) for each in zip(*parts)))


def _check_signature(predict, images, expected):
    difference = _largest(predict(images).probabilities, expected.probabilities[: len(images)])
    if not difference <= MAX_SIGNATURE_DIFFERENCE:
        raise RunError(f"its two signatures differ by {difference:.1e}")


def _predict_files(predict, image_paths, like):
    """`Answers` of the files as they are, in arrays like those of `like`."""
    answers = Answers(*(each if each is None else np.full_like(each, np.nan) for each in like))
    for position, image_path in enumerate(image_paths):
        # TensorFlow has many exceptions for images that it cannot decode.
        content = read_photo(image_path)
        with contextlib.suppress(Exception):
            for values, [value] in zip(answers, predict([content])):
                values[position] = value
    return answers


def run_in_subprocess(folder, pairs, image_paths, preprocessing):
    """`predict_all` in a fresh process.

    Args:
        folder: str, the folder of the exported model.
        pairs: list of P (key of `runtimes.RUNTIMES`, precision).
        image_paths: list of N image files.
        preprocessing: `Preprocessing` of the model.

    Returns:
        list of P `Answers` of the N images.

    Raises:
        RunError: it fails there; with the error's last line.
    """
    with tempfile.TemporaryDirectory() as scratch_folder:
        answers_path = os.path.join(scratch_folder, "answers.npz")
        task = {
            "folder": os.path.abspath(folder),
            "pairs": pairs,
            "image_paths": [os.path.abspath(image_path) for image_path in image_paths],
            "preprocessing": describe_preprocessing(preprocessing),
            "answers_path": answers_path,
        }
        try:
            run_task(["-m", "export.verification"], task, ROOT)
        except RunError as error:
            raise RunError(
                f"{folder}: not published: in a fresh process it fails: {error}"
            ) from None
        with np.load(answers_path) as arrays:
            return [_unpack(arrays, number) for number in range(len(pairs))]


def _pack(answers):
    """dict of arrays, which `numpy.savez` takes, from a list of `Answers`."""
    return {
        f"{name}_{number}": values
        for number, each in enumerate(answers)
        for name, values in each._asdict().items()
        if values is not None
    }


def _unpack(arrays, number):
    return Answers(*(arrays.get(f"{name}_{number}") for name in Answers._fields))


def run_task(words, task, folder=None):
    """Runs Python in a fresh process, with a task on its standard input.

    Args:
        words: list of str, the script or module and its arguments.
        task: JSON content.
        folder: str, its working directory; default: the current one.

    Raises:
        RunError: it fails; with the last line of its standard error.
    """
    process = subprocess.run(
        [sys.executable, *words],
        input=json.dumps(task),
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if process.returncode:
        error_lines = process.stderr.strip().splitlines() if process.returncode > 0 else []
        error_lines = error_lines or [
            f"status {process.returncode}, as of a process that was killed"
        ]
        raise RunError(error_lines[-1])


def main():
    """Does the task on standard input; this is what the fresh process runs."""
    task = json.load(sys.stdin)
    try:
        answers = predict_all(
            task["folder"],
            task["pairs"],
            task["image_paths"],
            parse_preprocessing(task["preprocessing"]),
        )
        np.savez(task["answers_path"], **_pack(answers))
    except (InputError, RunError) as error:
        sys.exit(" ".join(str(error).split()))
    except OSError as error:
        sys.exit(str(write_error(error, task["answers_path"])))


if __name__ == "__main__":
    main()
