"""Measures what an exported model can be computed by, side by side, on this machine.

Each runtime and precision has a fresh process: load time and memory are then those of its use,
and one that crashes leaves the others.
"""

import json
import os
import tempfile
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common import console, output_places
from common.cpu import usable_cores
from common.errors import InputError, RunError
from config.mode_options import BenchmarkOptions
from data.parts import measured_part, read_part
from data.samples import Samples
from evaluation.intervals import proportion
from export.verification import compare, run_task
from other.reporting import fonts
from other.reporting.benchmark_table import chart, name_of, text, write_csv
from other.reporting.charts import check_output_folder, drawing, output_folder, save
from prediction import runtimes
from prediction.exported_model import (
    candidates,
    check_files,
    formats_of,
    parse_description,
    read_description,
)
from prediction.runtimes import Answers
from runs import reference_images, run_folder

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILES = ("benchmark.csv", "benchmark.png", "benchmark.svg")
COLUMNS = (
    "runtime",
    "precision",
    "auto",
    "problem",
    "bytes",
    "load_seconds",
    "milliseconds",
    "milliseconds_95",
    "images_per_second",
    "batch_size",
    "peak_memory",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "agreement",
    "difference",
)
ORDER = ("savedmodel", "onnx", "openvino", "litert")
SECONDS = (1.5, 0.5)  # that one image, and each larger batch, is measured for, in all turns
NOT_INSTALLED, NOT_HERE = "not installed", "not on this processor"


class Measured(NamedTuple):
    """What `measure_all` gives.

    Attributes:
        rows: list of dict, one per runtime and precision.
        answers: list of float32 (N, C), or None, for each row.
        undecodable: dict of image name -> why it cannot be decoded.
    """

    rows: list
    answers: list
    undecodable: dict


def main(options: BenchmarkOptions):
    """`--mode benchmark`."""
    model_folder = find_model(options.model, options.save_dir)
    part = options.data and measured_part(options.data, options.part)
    place = output_places.choose_target(options, model=model_folder, data=options.data, part=part)
    options = options._replace(target=place.path)
    check_output_folder(options.target, FILES)
    description = read_description(model_folder)
    class_names, preprocessing = parse_description(model_folder, description)
    check_files(model_folder, description)
    samples = find_samples(model_folder, options, class_names)
    formats, sizes = formats_of(description), batch_sizes(options.batch_size)
    measured = measure_all(model_folder, formats, sizes, samples, options.workers)
    original = _complete(measured, samples, formats)
    _write(options.target, measured.rows, description, preprocessing.size)
    place.record()
    console.show(_result(options, model_folder, samples, measured, original), text, options.json)
    _raise_first_problem(measured.rows)


def _complete(measured, samples, formats):
    """Adds to the rows what they are compared by; gives what agreement is measured against."""
    rows, answers, undecodable = measured
    if samples and len(undecodable) == len(samples.file_names):
        raise InputError(f"{samples.folder}: none of its {len(undecodable)} images can be decoded")
    if samples and samples.class_ids is not None:
        add_accuracy(rows, answers, samples.class_ids)
    original = add_agreement(rows, answers, formats)
    fastest = candidates(formats, "auto", True)[0]
    for row in rows:
        row["auto"] = (row["runtime"], row["precision"]) == fastest
    return original


def _write(target, rows, description, input_size):
    title = f"{description.get('backbone', 'model')}, {input_size} x {input_size} pixels"
    with output_folder(target, FILES) as partial_folder:
        write_csv(os.path.join(partial_folder, "benchmark.csv"), rows)
        with drawing([fonts.FALLBACK]):
            save(chart(rows, title), partial_folder, "benchmark")


def _result(options, model_folder, samples, measured, original):
    return {
        "model": model_folder,
        "cores": usable_cores(),
        "images": len(samples.file_names) if samples else 0,
        "images_from": samples.folder if samples else None,
        "original": original,
        "results": measured.rows,
        "undecodable": [
            f"{os.path.join(samples.folder, file_name)}: {reason}"
            for file_name, reason in measured.undecodable.items()
        ],
        "target": options.target,
    }


def _raise_first_problem(rows):
    failed = [row for row in rows if row["problem"] not in (None, NOT_INSTALLED, NOT_HERE)]
    if failed:
        more = f"; {len(failed)} of {len(rows)} failed" if len(failed) > 1 else ""
        raise RunError(f"{name_of(failed[0])}: {failed[0]['problem']}{more}")


def find_model(name, save_dir):
    """The folder of an exported model.

    Args:
        name: str, the name or folder of a run, or the folder of an exported model.
        save_dir: str, the folder of all runs.

    Returns:
        str, the folder.

    Raises:
        InputError: there is none.
    """
    path = run_folder.find(name, save_dir, "--model")
    if run_folder.is_exported(path):
        return path
    folder = os.path.join(path, run_folder.MODEL)
    if not run_folder.is_exported(folder):
        raise InputError(f"--model: {path} has no exported model; --mode export makes one")
    return folder


def find_samples(model_folder, options, class_names):
    """The images to answer.

    Args:
        model_folder: str, the folder of an exported model.
        options: `BenchmarkOptions`, of which data, part and workers count.
        class_names: tuple of str, those of the model.

    Returns:
        `Samples`; without --data those of the run's check/, without class ids, or None where
        there are none.
    """
    if options.data:
        names_from = f"the labels of {model_folder}"
        return read_part(options.data, options.part, class_names, names_from, options.workers)
    if options.part:
        raise InputError(f"--part: {options.part}: has no effect without --data; leave it out")
    check_folder = os.path.normpath(os.path.join(model_folder, os.pardir, run_folder.CHECK))
    try:
        file_names = reference_images.check_file_names(check_folder)
    except FileNotFoundError:
        return None
    return Samples(check_folder, file_names, None) if file_names else None


def batch_sizes(largest):
    """The batch sizes to try: powers of two below the largest, and that one.

    Args:
        largest: int, at least 1.

    Returns:
        list of int.
    """
    return [2**n for n in range(largest.bit_length()) if 2**n < largest] + [largest]


def measure_all(folder, formats, batches, samples, workers):
    """Measures every runtime and precision of an exported model.

    Args:
        folder: of the exported model.
        formats: as model.json has them.
        batches: list of batch sizes, 1 first.
        samples: `Samples` to answer, or None.
        workers: threads that decode.

    Returns:
        rows: list of dict with the keys `COLUMNS` and images_per_second_N for each batch size N,
            as `measure` gives them; None where there is no figure, of which problem tells the
            reason.
        answers: list of float32 (N, C), or None, for each row.
        undecodable: dict of image name -> why it cannot be decoded.
    """
    rows, answers, undecodable, warm = [], [], {}, set()
    what = [(name, precision) for name in ORDER if name in formats for precision in formats[name]]
    bar = tqdm(what, "measuring", leave=False, disable=None)
    for name, precision in bar:
        bar.set_postfix_str(f"{name} {precision}")
        task = {
            "folder": os.path.abspath(folder),
            "name": name,
            "precision": precision,
            "batches": batches,
            "seconds": SECONDS,
            "workers": workers,
            "images": os.path.abspath(samples.folder) if samples else "",
            "names": samples.file_names if samples else [],
        }
        rates = [f"images_per_second_{size}" for size in batches]
        row = {**dict.fromkeys([*COLUMNS, *rates]), "runtime": name, "precision": precision}
        row_answers = None
        if not runtimes.is_installed(name):
            row["problem"] = NOT_INSTALLED
        elif precision == "bfloat16" and not runtimes.has_bfloat16():
            row["problem"] = NOT_HERE
        else:
            row["bytes"] = runtimes.size(folder, name, precision)
            try:
                if name not in warm:  # its libraries are not in the file cache yet
                    warm.add(name)
                    run_in_subprocess({**task, "batches": [1], "seconds": (0, 0), "names": []})
                figures, row_answers, undecodable = run_in_subprocess(task)
                row.update(figures)
            except RunError as error:
                row["problem"] = str(error)
        rows.append(row)
        answers.append(row_answers if samples else None)
    return Measured(rows, answers, undecodable)


def run_in_subprocess(task):
    """Runs `measure` in a fresh process.

    Args:
        task: dict, the arguments of `measure`.

    Returns:
        (figures, answers, undecodable) of `measure`.

    Raises:
        RunError: it fails there; with what it said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            run_task(["-m", "evaluation.runtime_speed", scratch], task, ROOT)
        except RunError as error:
            raise RunError(f"failed: {error}") from None
        with open(os.path.join(scratch, "figures.json"), encoding="utf-8") as file:
            figures, undecodable = json.load(file)
        return figures, np.load(os.path.join(scratch, "answers.npy")), undecodable


def add_accuracy(rows, answers, true):
    """Fills in accuracy and its 95 % interval; an image without an answer counts as wrong.

    Args:
        rows: list of dict, whose keys accuracy, accuracy_low and accuracy_high are set.
        answers: list of float32 (N, C) or None, per row.
        true: int (N,), class ids.
    """
    for row, row_answers in zip(rows, answers):
        if row_answers is not None:
            right = int((row_answers.any(axis=1) & (row_answers.argmax(axis=1) == true)).sum())
            row["accuracy"] = right / len(true)
            row["accuracy_low"], row["accuracy_high"] = proportion(right, len(true))


def add_agreement(rows, answers, formats):
    """Fills in agreement and difference, to the first float32 of `ORDER` that has answers.

    An image without an answer is left out. Where no float32 has answers, the figures are those
    to the trained model, from model.json.

    Args:
        rows: list of dict, whose keys agreement and difference are set.
        answers: list of float32 (N, C) or None, per row.
        formats: dict of format -> dict of precision -> figures, from model.json.

    Returns:
        str, what they are to, such as "savedmodel float32", or None for the trained model.
    """
    original = next(
        (
            n
            for n, row in enumerate(rows)
            if row["precision"] == "float32" and answers[n] is not None
        ),
        None,
    )
    if original is None:
        for row in rows:
            shown = formats[row["runtime"]].get(row["precision"], {})
            row.update({name: shown.get(name) for name in ("agreement", "difference")})
        return None
    answered = answers[original].any(axis=1)
    for row, row_answers in zip(rows, answers):
        if row_answers is not None:
            pair = (Answers(each[answered]) for each in (answers[original], row_answers))
            row.update(compare(*pair).to_json())
    return name_of(rows[original])
