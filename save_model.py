"""A run's best weights become an exported model: a folder that serves by itself.

`RUN/model/` is a TensorFlow SavedModel ("pb") with `builder.json` beside it. It
takes images as they are, uint8, on any device: scaling is part of the graph, and
plain TensorFlow opens it without this project.
"""

import json
import os
import platform
import shutil

import numpy as np

from common.console import say
from common.errors import InputError, RunError
from common.files import checksum, flush, replace_folder, write_text
from compute.backend import exact_float32, import_keras
from data.decoding import load
from export import formats, verification
from prediction import calibration, runtimes
from prediction.exported_model import FORMAT, SELF_TEST
from prediction.loading import best_model, run_calibration
from runs import reference_images, run_folder

SAVED_MODEL = {"savedmodel": ("float32",)}
TOLERANCE = 1e-4  # on probabilities, between the training's device and this one
MIN_AGREEMENT = 0.995
MAX_DROP = 0.01
ENOUGH_IMAGES = 100  # below that an agreement says little


def main(options):
    """`--mode export`, and `--mode save_pb`, which has no options for formats."""
    chosen = {}
    if hasattr(options, "format"):
        chosen = {
            "wanted": formats.plan(options.format, options.quantize, "format" in options.given),
            "min_agreement": options.min_agreement,
            "max_drop": options.max_drop,
        }
    report(export(find(options), **chosen), options)


def find(options):
    """The run that the options name, as `run_folder.read` gives it."""
    path = run_folder.find(options.run, options.save_dir)
    if run_folder.is_exported(path):
        raise InputError(f"--run: {path} is an exported model already; a run is needed")
    return run_folder.read(path)


def report(result, options, where=""):
    """Prints what `export` gave; `where` says how it was compared."""
    if options.json:
        print(json.dumps(result))
        return
    near = "near the trained model"
    if result["difference"] is not None:
        near = f"equal to the trained model to {result['difference']:.1e}"
    print(f"{result['model']}: {near} on {result['checked_images']} images{where}")
    for name, precisions in result["formats"].items():
        for precision, found in precisions.items():
            agreement = f", same class for {found['agreement']:.1%}" if "agreement" in found else ""
            if "drop" in found:
                agreement += f", accuracy {found['accuracy']:.4f} ({-found['drop']:+.4f})"
            print(f"  {name:<10} {precision:<8} to {found['difference']:.1e}{agreement}")
    if result["from_bytes"]:
        found = result["from_bytes"]
        print(
            f"  savedmodel from bytes: same class for {found['agreement']:.1%} of "
            f"{found['images']} images, probabilities to {found['difference']:.1e}"
        )


def prove(folder, run, wanted, files, expected):
    """How far each format is from the trained model, in each precision it can compute in.

    Returns:
        dict of format -> dict of precision -> as `verification.compare` gives it.
    """
    what = []
    for name, precisions in wanted.items():
        half = name == "openvino" and "float32" in precisions and runtimes.has_bfloat16()
        what += [(name, each) for each in dict.fromkeys([*precisions, *["bfloat16"] * half])]
        what += [(name, "bytes")] * (name == "savedmodel")
    labels = reference_images.labels(run, files)
    found = {name: {} for name in wanted}
    answers = verification.run_in_subprocess(folder, what, files, run.preprocessing)
    for (name, precision), rows in zip(what, answers):
        there = np.ones(len(rows), bool)
        if precision == "bytes":
            there = ~np.isnan(rows).all(axis=1)
        if there.any():
            found[name][precision] = {
                **verification.compare(expected[there], rows[there], labels[there]),
                **({"images": int(there.sum())} if precision == "bytes" else {}),
            }
    return found


def export(
    run,
    wanted=SAVED_MODEL,
    prove=prove,
    tolerance=TOLERANCE,
    min_agreement=MIN_AGREEMENT,
    max_drop=MAX_DROP,
):
    """Exports a run and publishes it as `RUN/model/` once it has proved itself.

    Args:
        run: `run_folder.Run`.
        wanted: dict of format -> precisions, as `formats.plan` gives it.
        prove: a function like `prove`.
        tolerance: largest difference allowed to what computes in float32, on probabilities.
        min_agreement: least share of images with the same likeliest class for what has fewer
            bits. bfloat16 that was not asked for is then only left out.
        max_drop: accuracy that what has fewer bits may lose, on the images with a label.

    Returns:
        dict: model (path), checked_images, difference (the largest in float32, None where there
        is no float32), and formats, as model.json has them.

    Raises:
        InputError: files of the run are missing or do not fit together.
        RunError: the exported model answers differently, or a format lacks an operation; what
            was published before stays, and what was made is kept beside it.
    """
    files, expected = reference_images.check(run)
    fitted = run_calibration(run)
    asked = {precision for each in wanted.values() for precision in each}
    learned = reference_images.training(run) if "int8" in asked else []
    import_keras("tensorflow")  # whatever KERAS_BACKEND says: the formats come from its graph
    exact_float32()
    model = best_model(run)

    folder = run.file(run_folder.MODEL)
    partial = folder + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    formats.write(model, wanted, partial, run.preprocessing, learned)
    np.savez_compressed(
        os.path.join(partial, SELF_TEST),
        image=load(files[0], run.preprocessing),
        probabilities=expected[0],
    )
    more, images = reference_images.validation(run, files)
    if more:
        files = files + more
        expected = np.concatenate([expected, _predict(model, images)])
    found = prove(partial, run, wanted, files, expected)
    from_bytes = found.get("savedmodel", {}).pop("bytes", None)
    problems = []
    for name, precision in [(format, each) for format in found for each in found[format]]:
        problem = _problem(found[name][precision], precision, tolerance, min_agreement, max_drop)
        if precision == "bfloat16" and precision not in wanted[name]:
            if problem or len(files) < ENOUGH_IMAGES:
                del found[name][precision]
        elif problem:
            problems.append(f"{name} in {precision} {problem}")
    _write_description(run, partial, fitted, found, len(files), from_bytes)

    if problems:
        rejected = folder + ".rejected"
        replace_folder(partial, rejected)
        raise RunError(
            f"{rejected}: not published: {'; '.join(problems)}; the trained model's answers are "
            f"those in {run.file(run_folder.CHECK)} and of now, {len(files)} in all"
        )
    if asked - {"float32"} and len(files) < ENOUGH_IMAGES:
        say(f"note: {len(files)} images say little about whether fewer bits answer the same")
    replace_folder(partial, folder)
    full = [each["float32"]["difference"] for each in found.values() if "float32" in each]
    return {
        "model": folder,
        "checked_images": len(files),
        "formats": found,
        "from_bytes": from_bytes,
        "difference": max(full) if full else None,
    }


def _problem(found, precision, tolerance, min_agreement, max_drop):
    """What keeps a precision from being published, "" where nothing does."""
    difference = found["difference"]
    if precision == "float32":
        if difference <= tolerance:  # not so where it is no number
            return ""
        return f"differs by {difference:.1e}, allowed is {tolerance:g}"
    if not np.isfinite(difference):
        return "gives what is no number"
    if found["agreement"] < min_agreement:
        return (
            f"names the same class for {found['agreement']:.2%}, least is "
            f"{min_agreement:.2%} (--min_agreement)"
        )
    if found.get("drop", 0) > max_drop:
        return f"loses {found['drop']:.4f} of accuracy, allowed is {max_drop:g} (--max_drop)"
    return ""


def _predict(model, images):
    """Probabilities by the Keras model, in batches of one shape: for another it is traced anew."""
    rows = []
    for first in range(0, len(images), verification.BATCH):
        part = np.stack(images[first : first + verification.BATCH])
        full = np.resize(part, (verification.BATCH, *part.shape[1:]))
        rows.append(np.asarray(model.predict_on_batch(full))[: len(part)])
    return np.concatenate(rows)


def _write_description(run, folder, fitted, found, checked, from_bytes):
    """Writes model.json, last of all: it lists every other file with its checksum."""
    import keras
    import tensorflow as tf

    files = {}
    for parent, _, names in os.walk(folder):
        flush(parent)
        for name in names:
            path = os.path.join(parent, name)
            files[os.path.relpath(path, folder).replace(os.sep, "/")] = checksum(path)
            flush(path)
    preprocessing = run.preprocessing._asdict()
    description = {
        "format": FORMAT,
        "run": os.path.basename(os.path.abspath(run.path)),
        "backbone": run.options.backbone,
        "labels": list(run.class_names),
        "formats": found,
        "checked_images": checked,
        "from_bytes": from_bytes,  # of the SavedModel's signature that takes files as they are
        "preprocessing": {**preprocessing, "fill_color": list(preprocessing["fill_color"])},
        "calibration": calibration.describe(fitted, run.class_names) if fitted else None,
        "weights": checksum(run.file(run_folder.BEST)),
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
        "files": dict(sorted(files.items())),
    }
    write_text(
        os.path.join(folder, run_folder.MODEL_FILE),
        json.dumps(description, ensure_ascii=False, indent=1) + "\n",
    )
