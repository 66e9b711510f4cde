"""An exported model's folder: its description, its files unchanged, and what computes it."""

import json
import os

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from common.files import checksum
from compute.backend import has_gpu, import_keras
from data.geometry import Preprocessing
from prediction import runtimes
from runs import run_folder

FORMAT = 1  # of model.json; a reader refuses another
SELF_TEST = "self_test.npz"  # an image as the model takes it, and what it answers
# On probabilities, between the trained model and a runtime on whatever machine. Fewer bits may be
# as far off as the export has seen and this much more: the self-test only finds what is broken.
TOLERANCE, TOLERANCE_OF_FEWER_BITS = 1e-3, 0.1


def read_description(folder):
    """The content of an exported model's model.json, a dict.

    Raises:
        InputError: there is none, or it is no JSON object.
    """
    path = os.path.join(folder, run_folder.MODEL_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            description = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not isinstance(description, dict):
        raise InputError(f"{path}: is not the description of an exported model")
    return description


def parse_description(folder, description):
    """The labels, a tuple, and the `Preprocessing` of an exported model.

    Raises:
        InputError: of another format, or something is missing or of the wrong kind.
    """
    path = os.path.join(folder, run_folder.MODEL_FILE)
    if description.get("format") != FORMAT:
        raise InputError(
            f"{path}: has format {description.get('format')!r}; this version reads {FORMAT}"
        )
    try:
        labels = tuple(description["labels"])
        settings = description["preprocessing"]
        formats = description.get("formats", {"savedmodel": {"float32": {}}})
        tables = (formats, *formats.values())
        if not all(isinstance(each, dict) and each for each in tables) or not isinstance(
            description["files"], dict
        ):
            raise TypeError("formats or files")
        preprocessing = Preprocessing(**{**settings, "fill_color": tuple(settings["fill_color"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not complete: {error!r}") from None
    return labels, preprocessing


def check_files(folder, description):
    """Refuses an exported model whose files are not all as they were."""
    files = description["files"]
    missing = [name for name in files if not os.path.isfile(os.path.join(folder, name))]
    if missing:
        raise InputError(f"{folder}: files are missing: {first_ten(missing)}")
    changed = [name for name in files if checksum(os.path.join(folder, name)) != files[name]]
    if changed:
        raise InputError(f"{folder}: files have changed since export: {first_ten(changed)}")


def open_model(folder, description, wanted, allow_low_precision):
    """Opens an exported model with what is to compute it, after its self-test.

    Args:
        folder: of the exported model.
        description: as `read_description` gives it, checked.
        wanted: a key of `runtimes.RUNTIMES`, in the fullest precision that is there, or "auto",
            the fastest that works.
        allow_low_precision: whether "auto" may compute in bfloat16, or in int8 where more is there.

    Returns:
        ((runtime, precision), function from uint8 (N, S, S, 3) to float32 (N, C)).

    Raises:
        InputError: none is there, or none passes.
    """
    formats = description.get("formats", {"savedmodel": {"float32": {}}})
    if wanted != "auto" and wanted not in formats:
        raise InputError(
            f"--runtime: {wanted}: {folder} has no file for it; it has {', '.join(formats)}; "
            "--mode export makes others"
        )
    problems = []
    for name, precision in candidates(formats, wanted, allow_low_precision):
        try:
            predict = runtimes.open_model(folder, name, precision)
            tolerance = TOLERANCE
            if precision != "float32":
                seen = formats[name][precision].get("difference", 0)
                tolerance = seen + TOLERANCE_OF_FEWER_BITS
            _self_test(folder, description, predict, precision, tolerance)
        except InputError as error:
            problems.append(error)
            continue
        for problem in dict.fromkeys(map(str, problems)):
            say(f"note: {problem}; {name} takes its place")
        return (name, precision), predict
    raise problems[0]


def candidates(formats, wanted, allow_low_precision):
    """(runtime, precision) of what may compute the model, the fastest first.

    What changes answers, if little, comes after the rest where a model is measured, and bfloat16
    never: it is a way to compute, no other model.
    """
    found = [
        (name, precision)
        for name, precision in runtimes.FASTEST
        if name in formats and precision in formats[name]
    ]
    if not allow_low_precision or wanted != "auto":
        found = [each for each in found if each[1] != "bfloat16"]
        found.sort(key=lambda each: ("float32", "float16", "int8").index(each[1]))
    if wanted != "auto":
        return [each for each in found if each[0] == wanted]
    if not runtimes.has_bfloat16():
        found = [each for each in found if each[1] != "bfloat16"]
    found = [each for each in found if runtimes.is_installed(each[0])]
    # TensorFlow alone uses a GPU; it takes seconds to import, so not without a sign of one.
    if os.path.exists("/dev/nvidia0") and ("savedmodel", "float32") in found:
        import_keras()
        if has_gpu():
            found.sort(key=lambda each: each[0] != "savedmodel")
    if not found:
        packages = [
            runtime.package for name, runtime in runtimes.RUNTIMES.items() if name in formats
        ]
        raise InputError(
            "--runtime: nothing that could compute the model is installed; pip install "
            + " or ".join(packages)
        )
    return found


def _self_test(folder, description, predict, precision, tolerance):
    """Refuses a runtime that answers otherwise than the trained model did."""
    labels = len(description["labels"])
    path = os.path.join(folder, SELF_TEST)
    size = description["preprocessing"]["size"]
    image, expected = np.zeros((size, size, 3), np.uint8), None  # of an older export
    try:
        if os.path.exists(path):
            with np.load(path, allow_pickle=False) as file:
                image, expected = file["image"], file["probabilities"]
    except Exception as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    try:
        found = np.asarray(predict(image[None]))[0]
    except Exception as error:  # each runtime has errors of its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{folder}: fails its self-test in {precision}: {reason}") from None
    if len(found) != labels:
        raise InputError(
            f"{folder}: {run_folder.MODEL_FILE} has {labels} labels, the model {len(found)} outputs"
        )
    if expected is None:
        return
    if expected.shape != found.shape:
        raise InputError(f"{path}: does not hold {labels} probabilities")
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise InputError(
            f"{folder}: fails its self-test in {precision}: a probability differs by "
            f"{difference:.1e}, allowed is {tolerance:g}"
        )
