"""A run's best weights become an exported model: a folder that serves by itself.

`RUN/model/` is a TensorFlow SavedModel ("pb") with `model.json` beside it. It
takes images as they are, uint8, on any device: scaling is part of the graph, and
plain TensorFlow opens it without this project.
"""

import contextlib
import json
import os
import platform
import shutil
import sys

import numpy as np

import calibration
import conversion
import gate
import run_folder
import runtimes
from backend import exact_float32, import_keras
from errors import ImageError, InputError, RunError
from exported_model import FORMAT, SELF_TEST, checksum
from preprocess import EXTENSIONS, load
from runtimes import INPUT, OUTPUT

SIGNATURES = ("serving_default", "predict_image")
TOLERANCE = 1e-4  # on probabilities, between the training's device and this one
MIN_AGREEMENT = 0.995
ENOUGH_IMAGES = 100  # below that an agreement says little
MOST_IMAGES = 256  # that were not trained on, beside those of check/


def main(options):
    """`--mode export`, and `--mode save_pb`, which names no formats."""
    chosen = {name: getattr(options, name) for name in ("formats", "min_agreement")
              if hasattr(options, name)}
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
    print(
        f"{result['model']}: equal to the trained model to {result['difference']:.1e} on "
        f"{result['checked_images']} images{where}"
    )
    for name, precisions in result["formats"].items():
        for precision, found in precisions.items():
            agreement = f", same class for {found['agreement']:.1%}" if "agreement" in found else ""
            print(f"  {name:<10} {precision:<8} to {found['difference']:.1e}{agreement}")


def prove(folder, run, formats, files, expected):
    """How far each format is from the trained model, in each precision it can compute in.

    Returns:
        dict of format -> dict of precision -> as `gate.judge` gives it.
    """
    what = [(name, precision) for name in formats
            for precision in runtimes.RUNTIMES[name].precisions
            if precision == "float32" or runtimes.has_bfloat16()]
    found = {name: {} for name in formats}
    for (name, precision), rows in zip(what, gate.apart(folder, what, files, run.preprocessing)):
        found[name][precision] = gate.judge(expected, rows)
    return found


def export(run, formats=("savedmodel",), prove=prove, tolerance=TOLERANCE,
           min_agreement=MIN_AGREEMENT):
    """Exports a run and publishes it as `RUN/model/` once it has proved itself.

    Args:
        run: `run_folder.Run`.
        formats: keys of `runtimes.RUNTIMES`.
        prove: a function like `prove`.
        tolerance: largest difference allowed to what computes in float32, on probabilities.
        min_agreement: least share of images with the same likeliest class for which a runtime
            may compute in bfloat16 by itself.

    Returns:
        dict: model (path), checked_images, difference (the largest in float32, on probabilities),
        and formats, as model.json has them.

    Raises:
        InputError: files of the run are missing or do not fit together.
        RunError: the exported model answers differently, or a format lacks an operation; what
            was published before stays, and what was made is kept beside it.
    """
    files, expected = _read_check(run)
    fitted = run_calibration(run)
    import_keras()
    exact_float32()
    model = best_model(run)

    folder = run.file(run_folder.MODEL)
    partial = folder + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    _write_formats(model, formats, partial)
    np.savez_compressed(os.path.join(partial, SELF_TEST),
                        image=load(files[0], run.preprocessing), probabilities=expected[0])
    more, images = validation_images(run, files)
    if more:
        files = files + more
        expected = np.concatenate([expected, _predict(model, images)])
    found = prove(partial, run, formats, files, expected)
    for format in found.values():
        half = format.get("bfloat16")
        same = half and half["agreement"] >= min_agreement and half["difference"] < 1
        if half and not (same and len(files) >= ENOUGH_IMAGES):
            format.pop("bfloat16")
    _write_description(run, partial, fitted, found, len(files))

    differences = {name: found[name]["float32"]["difference"] for name in found}
    worst = max(differences, key=lambda name: (differences[name] != differences[name],
                                               differences[name]))
    if not differences[worst] <= tolerance:  # also when it is not a number
        rejected = folder + ".rejected"
        run_folder.replace_folder(partial, rejected)
        raise RunError(
            f"{rejected}: not published: the probabilities of {worst} differ by "
            f"{differences[worst]:.1e} from those of the trained model, in "
            f"{run.file(run_folder.CHECK)} or computed now; allowed is {tolerance:g}"
        )
    run_folder.replace_folder(partial, folder)
    return {"model": folder, "checked_images": len(files), "difference": differences[worst],
            "formats": found}


def validation_images(run, known):
    """Image files that the run was not trained on, spread over their folder, at most `MOST_IMAGES`.

    None where the folders are gone; those of the names in `known` are left out.

    Returns:
        (list of paths, list of images as the model takes them).
    """
    try:
        trained, _ = run_folder.read_margins(run.path)
    except InputError:
        trained = {}
    place = run.options.val_data or run.options.train_data
    try:
        names = sorted(name for name in os.listdir(place) if name.lower().endswith(EXTENSIONS))
    except OSError:
        return [], []
    if not run.options.val_data and not trained:  # it does not say which those are
        return [], []
    there = os.path.realpath(place)
    left_out = {os.path.basename(file) for file in known}
    paths = [os.path.join(place, name) for name in names
             if name not in left_out and os.path.join(there, name) not in trained]
    found, images = [], []
    count = min(len(paths), MOST_IMAGES)
    for position in np.unique(np.linspace(0, len(paths) - 1, count).astype(int)):
        try:
            images.append(load(paths[position], run.preprocessing))
            found.append(paths[position])
        except ImageError:
            continue
    return found, images


def _predict(model, images):
    """Probabilities by the Keras model, in batches of one shape: for another it is traced anew."""
    rows = []
    for first in range(0, len(images), gate.BATCH):
        part = np.stack(images[first : first + gate.BATCH])
        full = np.resize(part, (gate.BATCH, *part.shape[1:]))
        rows.append(np.asarray(model.predict_on_batch(full))[: len(part)])
    return np.concatenate(rows)


def _write_formats(model, formats, folder):
    if "savedmodel" in formats:
        _write_saved_model(model, model.input.shape[1], folder)
    if {"onnx", "openvino"} & set(formats):
        path = os.path.join(folder, runtimes.RUNTIMES["onnx"].file)
        conversion.to_onnx(model, path, INPUT, OUTPUT)
        if "openvino" in formats:
            conversion.to_openvino(path, os.path.join(folder, runtimes.RUNTIMES["openvino"].file))
        if "onnx" not in formats:
            os.unlink(path)


def best_model(run):
    """The Keras model of a `run_folder.Run` with its best weights; `import_keras` comes before."""
    import pretrained
    from model import build_model

    model = build_model(classes=len(run.labels), **run_folder.architecture(run.options))
    pretrained.load(model, run.file(run_folder.BEST))
    return model


def _read_check(run):
    """The images of the run's check/ and the probabilities expected of them."""
    table_path = run.file(run_folder.CHECK, run_folder.CHECK_FILE)
    try:
        with open(table_path, encoding="utf-8") as file:
            table = json.load(file)
        expected = np.array(list(table.values()), np.float32)
    except FileNotFoundError:
        raise InputError(
            f"{table_path}: is missing: the training did not end; --resume "
            f"{os.path.basename(run.path)} ends it"
        ) from None
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{table_path}: cannot be read: {error}") from None
    if expected.ndim != 2 or expected.shape[1] != len(run.labels) or not len(expected):
        raise InputError(
            f"{table_path}: does not hold {len(run.labels)} probabilities an image, one a class "
            f"of {run.file(run_folder.LABELS)}"
        )
    return [run.file(run_folder.CHECK, name) for name in table], expected


def _write_saved_model(model, size, folder):
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec((None, size, size, 3), tf.uint8, name=INPUT)]
    for name in SIGNATURES:
        archive.add_endpoint(name, lambda x: {OUTPUT: model(x, training=False)}, signature)
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the result
        archive.write_out(folder, verbose=False)


def _write_description(run, folder, fitted, formats, checked):
    """Writes model.json, last of all: it lists every other file with its checksum."""
    import keras
    import tensorflow as tf

    files = {}
    for parent, _, names in os.walk(folder):
        run_folder.flush(parent)
        for name in names:
            path = os.path.join(parent, name)
            files[os.path.relpath(path, folder).replace(os.sep, "/")] = checksum(path)
            run_folder.flush(path)
    preprocessing = run.preprocessing._asdict()
    description = {
        "format": FORMAT,
        "run": os.path.basename(os.path.abspath(run.path)),
        "backbone": run.options.backbone,
        "labels": list(run.labels),
        "formats": formats,
        "checked_images": checked,
        "preprocessing": {**preprocessing, "fill_color": list(preprocessing["fill_color"])},
        "calibration": calibration.describe(fitted, run.labels) if fitted else None,
        "weights": checksum(run.file(run_folder.BEST)),
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
        "files": dict(sorted(files.items())),
    }
    run_folder.write_text(
        os.path.join(folder, run_folder.MODEL_FILE),
        json.dumps(description, ensure_ascii=False, indent=1) + "\n",
    )


def run_calibration(run):
    """The `calibration.Calibration` of a run's best weights.

    None where there is none, or, with a line on standard error, only one of other weights.

    Raises:
        InputError: the run's calibration.json is damaged.
    """
    path = run.file(run_folder.CALIBRATION)
    if not os.path.exists(path):
        return None
    return calibration.read(path, run.labels, checksum(run.file(run_folder.BEST)))
