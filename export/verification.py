"""The proof that an exported model answers as the trained one does.

A fresh process opens each of its formats and goes from the bytes of real images to
probabilities, which are compared with those of the trained model. How far they may be apart is
`save_model`'s to say.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

from common.errors import InputError, RunError
from data.decoding import load
from data.geometry import Preprocessing
from prediction import runtimes

BATCH = 16
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SIGNATURES_DIFFER = 1e-5  # at most, on probabilities: they are one graph


def predict_all(folder, what, files, preprocessing):
    """float32 (len(what), N, C): what each of the exported model's formats says.

    Args:
        folder: of the exported model.
        what: list of (key of `runtimes.RUNTIMES`, precision); for the SavedModel also "bytes", its
            signature that takes files as they are: NaN for those it cannot decode.
        files: N image files.
        preprocessing: `Preprocessing` of the model.

    Raises:
        InputError: a format cannot be opened, or an image not decoded.
        RunError: the SavedModel's two signatures differ.
    """
    images = np.stack([load(file, preprocessing) for file in files])
    found = []
    signatures = runtimes.signatures(folder) if any(n == "savedmodel" for n, _ in what) else {}
    for name, precision in what:
        others = []
        if precision == "bytes":
            found.append(_from_bytes(signatures["predict_bytes"], files, found[-1].shape[1]))
            continue
        if name == "savedmodel":
            predict, others = signatures["serving_default"], [signatures["predict_image"]]
        else:
            predict = runtimes.open_model(folder, name, precision)
        found.append(
            np.concatenate(
                [predict(images[first : first + BATCH]) for first in range(0, len(images), BATCH)]
            )
        )
        for other in others:
            difference = np.abs(other(images[:BATCH]) - found[-1][:BATCH]).max()
            if not difference <= SIGNATURES_DIFFER:
                raise RunError(f"its two signatures differ by {difference:.1e}")
    return np.array(found, np.float32)


def _from_bytes(predict, files, classes):
    rows = np.full((len(files), classes), np.nan, np.float32)
    for position, path in enumerate(files):
        with open(path, "rb") as file, contextlib.suppress(Exception):  # TensorFlow has many
            rows[position] = predict([file.read()])[0]
    return rows


def run_in_subprocess(folder, what, files, preprocessing):
    """As `predict_all`, in a fresh process.

    Raises:
        RunError: it fails there; with what it said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "answers.npy")
        task = {
            "folder": os.path.abspath(folder),
            "what": what,
            "path": path,
            "files": [os.path.abspath(file) for file in files],
            "preprocessing": preprocessing._asdict(),
        }
        try:
            run_task(["-m", "export.verification"], task, ROOT)
        except RunError as error:
            raise RunError(
                f"{folder}: not published: in a fresh process it fails: {error}"
            ) from None
        return np.load(path)


def run_task(words, task, folder=None):
    """Runs Python in a fresh process, with a task on its standard input.

    Args:
        words: list of str, the script or module and its arguments.
        task: what JSON can hold.
        folder: where it runs; default: here.

    Raises:
        RunError: it fails; with the last line that it said.
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
        said = process.stderr.strip().splitlines() if process.returncode > 0 else []
        said = said or [f"status {process.returncode}, as of a process that was killed"]
        raise RunError(said[-1])


def compare(expected, found, labels=None):
    """How far answers are from those of the trained model.

    Args:
        expected, found: float32 (N, C), probabilities.
        labels: int (N,), class ids, -1 where unknown.

    Returns:
        dict of difference, the largest of a probability, NaN where one is none; agreement, the
        share of images with the same likeliest class; and, where a label is known, accuracy and
        drop, how much less that is than the trained model's.
    """
    same = {
        # NumPy's max lets no NaN pass.
        "difference": float(np.abs(found - expected).max()),
        "agreement": float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    }
    known = np.zeros(len(found), bool) if labels is None else labels >= 0
    if known.any():
        right, before = (
            (rows.argmax(axis=1)[known] == labels[known]).mean() for rows in (found, expected)
        )
        same.update(accuracy=float(right), drop=float(before - right))
    return same


def main():
    """What the fresh process does: a task on standard input."""
    task = json.load(sys.stdin)
    settings = task["preprocessing"]
    preprocessing = Preprocessing(**{**settings, "fill_color": tuple(settings["fill_color"])})
    try:
        found = predict_all(task["folder"], task["what"], task["files"], preprocessing)
    except (InputError, RunError) as error:
        sys.exit(" ".join(str(error).split()))
    np.save(task["path"], found)


if __name__ == "__main__":
    main()
