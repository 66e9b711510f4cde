"""A run's best weights become an exported model: a folder that serves by itself.

`RUN/model/` is a TensorFlow SavedModel ("pb") with `model.json` beside it. It
takes images as they are, uint8, on any device: scaling is part of the graph, and
plain TensorFlow opens it without this project.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys

import numpy as np

import calibration
import run_folder
from backend import exact_float32, import_keras
from errors import InputError, RunError
from preprocess import load

FORMAT = 1  # of model.json; a reader refuses a newer one
SIGNATURES = ("serving_default", "predict_image")
INPUT, OUTPUT = "input_img", "output_score"
TOLERANCE = 1e-4  # on probabilities, between the training's device and this one


def main(options):
    """`--mode save_pb`."""
    report(export(find(options)), options)


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
    check = os.path.join(os.path.dirname(result["model"]), run_folder.CHECK)
    print(
        f"{result['model']}: equal to the trained model to {result['difference']:.1e} on "
        f"{result['checked_images']} images of {check}{where}"
    )


def difference_here(folder, images, expected):
    """Largest difference over both signatures, opened again with plain TensorFlow.

    Args:
        folder: of the SavedModel.
        images: uint8 (N, S, S, 3).
        expected: float32 (N, C), the probabilities.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    answers = [
        loaded.signatures[name](tf.constant(images))[OUTPUT].numpy() for name in SIGNATURES
    ]
    return float(np.abs(answers - expected).max())  # NumPy's, which lets no NaN pass


def export(run, compare=difference_here, tolerance=TOLERANCE):
    """Exports a run and publishes it as `RUN/model/` once it has proved itself.

    Args:
        run: `run_folder.Run`.
        compare: a function like `difference_here`.
        tolerance: largest difference allowed.

    Returns:
        dict: model (path), checked_images, difference (largest, on probabilities).

    Raises:
        InputError: files of the run are missing or do not fit together.
        RunError: the exported model answers differently; it is kept beside, and
            what was published before stays.
    """
    files, expected = _read_check(run)
    fitted = run_calibration(run)
    import_keras()
    exact_float32()
    model = best_model(run)

    folder = run.file(run_folder.MODEL)
    partial = folder + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    _write_saved_model(model, run.options.input_size, partial)
    _write_description(run, partial, fitted)

    images = np.stack([load(file, run.preprocessing) for file in files])
    difference = compare(partial, images, expected)
    if not difference <= tolerance:  # also when it is not a number
        rejected = folder + ".rejected"
        run_folder.replace_folder(partial, rejected)
        raise RunError(
            f"{rejected}: not published: its probabilities differ by {difference:.1e} from those "
            f"in {run.file(run_folder.CHECK)}; allowed is {tolerance:g}"
        )
    run_folder.replace_folder(partial, folder)
    return {"model": folder, "checked_images": len(files), "difference": difference}


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


def _write_description(run, folder, fitted):
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


def checksum(path):
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
