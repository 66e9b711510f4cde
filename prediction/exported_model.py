"""An exported model's folder: writing and reading model.json, its files, and what computes it."""

import json
import os

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from common.files import checksum, flush, write_text
from compute.backend import has_gpu, import_keras
from data.geometry import Preprocessing
from prediction import runtimes
from runs import run_folder

FORMAT = 1  # of model.json; a reader refuses another
SELF_TEST = "self_test.npz"  # an image as the model takes it, and the trained model's answer
# Of the page, which Python does not read: calibrating writes them just before model.json, and can
# be ended in between; the same calibration then makes all agree again.
CALIBRATED_PAGE_FILES = ("web/classifier.json", "web/offline.js")
OLD_FORMATS = {"savedmodel": {"float32": {}}}  # of exports whose model.json names no formats
# On probabilities, between the trained model and a runtime on whatever machine. A low precision
# may be as far off as at export and this much more: the self-test only detects what is broken.
TOLERANCE, LOW_PRECISION_MARGIN = 1e-3, 0.1
PRECISION_ORDER = ("float32", "float16", "int8")  # closest to the trained model first


def write_description(folder, description):
    """Writes model.json with the checksum of every other file, so it has to be the last one.

    All files are flushed to disk.

    Args:
        folder: str, the folder of the exported model.
        description: dict, JSON content of model.json except `files`.
    """
    checksums = {}
    for parent_folder, _, file_names in os.walk(folder):
        flush(parent_folder)
        for file_name in file_names:
            file_path = os.path.join(parent_folder, file_name)
            relative_path = os.path.relpath(file_path, folder).replace(os.sep, "/")
            checksums[relative_path] = checksum(file_path)
            flush(file_path)
    _write_json(folder, {**description, "files": dict(sorted(checksums.items()))})


def update_description(folder, **changes):
    """Changes entries of model.json; the others stay as they are.

    Args:
        folder: str, the folder of the exported model.
        changes: the new entries.

    Raises:
        InputError: model.json cannot be read.
        OSError: it cannot be written.
    """
    _write_json(folder, {**read_description(folder), **changes})


def _write_json(folder, description):
    write_text(
        os.path.join(folder, run_folder.MODEL_FILE),
        json.dumps(description, ensure_ascii=False, indent=1) + "\n",
    )


def read_description(folder):
    """Reads model.json.

    Args:
        folder: str, the folder of the exported model.

    Returns:
        dict, not checked yet: see `parse_description`.

    Raises:
        InputError: the file is missing or does not hold a JSON object.
    """
    json_path = os.path.join(folder, run_folder.MODEL_FILE)
    try:
        with open(json_path, encoding="utf-8") as json_file:
            description = json.load(json_file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{json_path}: cannot be read: {error}") from None
    if not isinstance(description, dict):
        raise InputError(f"{json_path}: is not the description of an exported model")
    return description


def is_export_of(folder, weights):
    """Whether a folder holds a model that was exported from these weights.

    Args:
        folder: str, the folder of an exported model, which need not exist.
        weights: str, SHA-256 of a run's best weights.

    Raises:
        InputError: its model.json is damaged.
    """
    return run_folder.is_exported(folder) and read_description(folder).get("weights") == weights


def parse_description(folder, description):
    """Checks the content of model.json.

    Args:
        folder: str, the folder of the exported model, for errors.
        description: dict, the content of model.json.

    Returns:
        (tuple of class names in the order of their ids, `Preprocessing`).

    Raises:
        InputError: its format is another, or an entry is missing or of the wrong type.
    """
    json_path = os.path.join(folder, run_folder.MODEL_FILE)
    if description.get("format") != FORMAT:
        raise InputError(
            f"{json_path}: has format {description.get('format')!r}; this version reads {FORMAT}"
        )
    try:
        class_names = tuple(description["labels"])
        preprocessing = parse_preprocessing(description["preprocessing"])
        formats = formats_of(description)
        tables = (formats, *formats.values())
        if not all(isinstance(table, dict) and table for table in tables):
            raise TypeError("formats")
        if not isinstance(description["files"], dict):
            raise TypeError("files")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{json_path}: is not complete: {error!r}") from None
    return class_names, preprocessing


def formats_of(description):
    """dict of format -> dict of precision -> how close it is, from the content of model.json.

    Args:
        description: dict, the content of model.json.
    """
    return description.get("formats", OLD_FORMATS)


def describe_preprocessing(preprocessing):
    """dict, a `Preprocessing` as JSON holds it.

    Args:
        preprocessing: `Preprocessing`.
    """
    return {**preprocessing._asdict(), "fill_color": list(preprocessing.fill_color)}


def parse_preprocessing(settings):
    """The `Preprocessing` that `describe_preprocessing` described.

    Args:
        settings: dict from JSON.

    Raises:
        KeyError, TypeError: an entry is missing or unknown.
    """
    return Preprocessing(**{**settings, "fill_color": tuple(settings["fill_color"])})


def check_files(folder, description):
    """Refuses an exported model whose files are not all as they were at export.

    Of `CALIBRATED_PAGE_FILES` only counts that they are there.

    Args:
        folder: str, the folder of the exported model.
        description: dict, the content of model.json, checked.

    Raises:
        InputError: files are missing or have changed; names them.
    """
    checksums = description["files"]
    file_paths = {file_name: os.path.join(folder, file_name) for file_name in checksums}
    missing = [file_name for file_name in checksums if not os.path.isfile(file_paths[file_name])]
    if missing:
        raise InputError(f"{folder}: files are missing: {first_ten(missing)}")
    changed = [
        file_name
        for file_name in checksums
        if file_name not in CALIBRATED_PAGE_FILES
        and checksum(file_paths[file_name]) != checksums[file_name]
    ]
    if changed:
        raise InputError(f"{folder}: files have changed since export: {first_ten(changed)}")


def open_model(folder, description, wanted, allow_low_precision):
    """Opens an exported model with one of its runtimes, after a self-test.

    Args:
        folder: str, the folder of the exported model.
        description: dict, the content of model.json, checked.
        wanted: str, a key of `runtimes.RUNTIMES`, which computes in the highest precision that
            was exported, or "auto" for the fastest that works.
        allow_low_precision: bool, whether "auto" may compute in bfloat16, or in int8 where a
            higher precision was exported as well.

    Returns:
        ((runtime, precision), function from uint8 (N, S, S, 3) to `runtimes.Answers`).

    Raises:
        InputError: there is no such format, or none passes.
    """
    formats = formats_of(description)
    if wanted != "auto" and wanted not in formats:
        raise InputError(
            f"--runtime: {wanted}: {folder} has no file for it; it has {', '.join(formats)}; "
            "--mode export makes others"
        )
    problems = []
    for runtime_name, precision in candidates(formats, wanted, allow_low_precision):
        tolerance = TOLERANCE
        if precision != "float32":
            at_export = formats[runtime_name][precision].get("difference", 0)
            tolerance = at_export + LOW_PRECISION_MARGIN
        try:
            predict = runtimes.open_model(folder, runtime_name, precision)
            _self_test(folder, description, predict, precision, tolerance)
        except InputError as error:
            problems.append(error)
            continue
        for problem in dict.fromkeys(map(str, problems)):
            say(f"note: {problem}; {runtime_name} takes its place")
        return (runtime_name, precision), predict
    raise problems[0]


def candidates(formats, wanted, allow_low_precision):
    """The ways to compute an exported model on this machine, the fastest first.

    Without `allow_low_precision`, lower precisions come after higher ones, and bfloat16 is left
    out: it is a way to compute the float32 model, not a model of its own.

    Args:
        formats: dict of format -> dict of precision, as `formats_of` returns.
        wanted: str, a key of `runtimes.RUNTIMES`, or "auto".
        allow_low_precision: bool, whether bfloat16 and int8 may come first.

    Returns:
        list of (runtime, precision).

    Raises:
        InputError: "auto", and none of the runtimes is installed.
    """
    runtime_pairs = [
        (runtime_name, precision)
        for runtime_name, precision in runtimes.FASTEST
        if runtime_name in formats and precision in formats[runtime_name]
    ]
    if not allow_low_precision or wanted != "auto":
        runtime_pairs = [pair for pair in runtime_pairs if pair[1] != "bfloat16"]
        runtime_pairs.sort(key=lambda pair: PRECISION_ORDER.index(pair[1]))
    if wanted != "auto":
        return [pair for pair in runtime_pairs if pair[0] == wanted]
    if not runtimes.has_bfloat16():
        runtime_pairs = [pair for pair in runtime_pairs if pair[1] != "bfloat16"]
    runtime_pairs = [pair for pair in runtime_pairs if runtimes.is_installed(pair[0])]
    if ("openvino", "int8") in runtime_pairs and not runtimes.has_openvino_int8():
        runtime_pairs.remove(("openvino", "int8"))
    # TensorFlow alone uses a GPU; it takes seconds to import, so not without a sign of one.
    if os.path.exists("/dev/nvidia0") and ("savedmodel", "float32") in runtime_pairs:
        import_keras()
        if has_gpu():
            runtime_pairs.sort(key=lambda pair: pair[0] != "savedmodel")
    if not runtime_pairs:
        packages = [
            runtime.package
            for runtime_name, runtime in runtimes.RUNTIMES.items()
            if runtime_name in formats
        ]
        raise InputError(
            "--runtime: nothing that could compute the model is installed; pip install "
            + " or ".join(packages)
        )
    return runtime_pairs


def write_self_test(folder, image, probabilities):
    """Writes an image with the trained model's answer, which every runtime has to repeat.

    Args:
        folder: str, the folder of the exported model.
        image: uint8 (S, S, 3), as the model takes it.
        probabilities: float32 (C,).
    """
    np.savez_compressed(os.path.join(folder, SELF_TEST), image=image, probabilities=probabilities)


def _self_test(folder, description, predict, precision, tolerance):
    """Refuses a runtime whose answer differs from the trained model's by more than `tolerance`."""
    class_count = len(description["labels"])
    image, expected = _read_self_test(folder, description["preprocessing"]["size"])
    try:
        probabilities = predict(image[None]).probabilities[0]
    except Exception as error:  # every runtime has errors of its own
        reason = runtimes.one_line(error)
        raise InputError(f"{folder}: fails its self-test in {precision}: {reason}") from None
    if len(probabilities) != class_count:
        raise InputError(
            f"{folder}: {run_folder.MODEL_FILE} has {class_count} labels, the model "
            f"{len(probabilities)} outputs"
        )
    if expected is None:
        return
    if expected.shape != probabilities.shape:
        raise InputError(
            f"{os.path.join(folder, SELF_TEST)}: does not hold {class_count} probabilities"
        )
    difference = float(np.abs(probabilities - expected).max())
    if not difference <= tolerance:  # NaN is refused too
        raise InputError(
            f"{folder}: fails its self-test in {precision}: a probability differs by "
            f"{difference:.1e}, allowed is {tolerance:g}"
        )


def _read_self_test(folder, size):
    """(uint8 (S, S, 3), float32 (C,) or None where an older export has no self-test)."""
    file_path = os.path.join(folder, SELF_TEST)
    if not os.path.exists(file_path):
        return np.zeros((size, size, 3), np.uint8), None
    try:
        with np.load(file_path, allow_pickle=False) as arrays:
            return arrays["image"], arrays["probabilities"]
    except Exception as error:
        raise InputError(f"{file_path}: cannot be read: {error}") from None
