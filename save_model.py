"""Exports a run's best weights to a folder that serves by itself.

`RUN/model/` holds a TensorFlow SavedModel ("pb"), further formats beside it, and `model.json`,
which describes them. Images go in as uint8, on any device: scaling is part of the graph, and
plain TensorFlow opens the SavedModel without this project.
"""

import contextlib
import os
import platform

import numpy as np

from common.baseline import no_better
from common.console import say, show, waiting
from common.errors import InputError, RunError
from common.files import checksum, replace_folder, replacing_folder
from compute.backend import exact_float32, import_keras
from config.mode_options import ExportOptions, SavePbOptions
from data.decoding import load
from evaluation.model_card import model_card, write_card
from export import acceptance, formats, self_test, verification, web, web_package
from export.acceptance import DEFAULT_LIMITS, Limits, prove
from export.formats import Variant
from export.kept_formats import keep_formats
from prediction import calibration, centers, runtimes
from prediction.exported_model import (
    FORMAT,
    describe_preprocessing,
    write_description,
    write_self_test,
)
from prediction.loading import best_model, run_calibration
from prediction.runtimes import Answers
from runs import reference_images, run_folder
from runs.slices_file import read_slices
from runs.tracking import deliver, open_asked, send_with_files

SAVED_MODEL = (Variant("savedmodel", "float32"),)


def main(options: ExportOptions | SavePbOptions):
    """`--mode export`, and `--mode save_pb`, which has no options for formats."""
    settings = {"keep_others": True}
    if hasattr(options, "format"):
        named = "format" in options.given
        settings = {"variants": formats.plan(options.format, options.quantize, named)}
        settings["limits"] = Limits(min_agreement=options.min_agreement, max_drop=options.max_drop)
    run = find(options)
    store = open_asked(getattr(options, "track", None), run.path)
    with waiting("exporting"):
        result = export(run, **settings)
    if store:
        files = [(result["model"], run_folder.MODEL)]
        result["tracking"] = deliver(store, lambda: send_with_files(store, run.path, files))
    show(result, text, options.json)


def find(options):
    """Finds the run to export.

    Args:
        options: options of a mode, with `run` and `save_dir`.

    Returns:
        `run_folder.Run`.

    Raises:
        InputError: there is no such run, or it is an exported model.
    """
    run_path = run_folder.find(options.run, options.save_dir)
    if run_folder.is_exported(run_path):
        raise InputError(f"--run: {run_path} is an exported model already; a run is needed")
    return run_folder.read(run_path)


def export(run, variants=SAVED_MODEL, prove=prove, limits=DEFAULT_LIMITS, keep_others=False):
    """Exports a run and publishes it as `RUN/model/` once its answers are verified.

    Args:
        run: `run_folder.Run`.
        variants: list of `Variant`, the formats and precisions.
        prove: function with the arguments and the result of `acceptance.prove`.
        limits: `Limits`, acceptable differences to the trained model.
        keep_others: bool, with a SavedModel alone: whether further formats of the same weights,
            which the previous export has, are kept.

    Returns:
        dict of model (path), checked_images, formats and from_bytes as model.json has them, and
        difference, the largest of a probability in float32, None without float32.

    Raises:
        InputError: files of the run are missing or do not fit together.
        RunError: the exported model's answers differ, or a format does not support an operation.
            The previous export stays; the new one is kept beside it.
    """
    image_paths, expected = reference_images.check(run)
    fitted = run_calibration(run)
    precisions = {variant.precision for variant in variants}
    int8_images = reference_images.training(run) if "int8" in precisions else []
    page = next((variant for variant in variants if variant.format == web.FORMAT), None)
    package_path = web_package.fetch() if page else None  # before the work that it would end
    import_keras("tensorflow")  # whatever KERAS_BACKEND says: the formats come from its graph
    exact_float32()
    model = best_model(run)
    if centers.find(run, model) is not None:
        model = centers.best_model_with_similarity(run)

    model_folder = run.file(run_folder.MODEL)
    with replacing_folder(model_folder) as partial_folder:
        kept = {}
        if keep_others:
            weights = checksum(run.file(run_folder.BEST))
            kept = keep_formats(model_folder, partial_folder, weights)
        formats.write(model, variants, partial_folder, run.preprocessing, int8_images)
        if page:
            onnx_path = runtimes.path_of(partial_folder, "onnx", page.precision)
            web.write(partial_folder, onnx_path, package_path, run, fitted)
        write_self_test(partial_folder, load(image_paths[0], run.preprocessing), expected[0])
        self_test.write(
            partial_folder, run.preprocessing, lambda images: predict_images(model, images)
        )

        image_paths, expected = _with_validation_images(run, model, image_paths, expected)
        proof = prove(partial_folder, run, variants, image_paths, expected)
        proof, problems = proof.judge(limits)
        description = describe(run, fitted, proof)
        description["formats"].update(kept)
        write_description(partial_folder, description)
        # After it: a card may be edited, and is none of the files that are checked.
        measured_slices = read_slices(run.path, checksum(run.file(run_folder.BEST)))
        card = model_card(description, _read_metrics(run), run.options.weights, measured_slices)
        write_card(partial_folder, card, model_folder)
        if problems:
            _reject(run, partial_folder, problems, proof.image_count)
    if precisions - {"float32"} and proof.image_count < acceptance.ENOUGH_IMAGES:
        say(
            f"note: {proof.image_count} images are too few to tell whether a lower precision "
            "predicts the same"
        )
    _say_no_better(run)
    return _result(model_folder, proof, description["formats"])


def _say_no_better(run):
    """Repeats what the training said; runs of earlier versions do not know of which classes."""
    metrics = _read_metrics(run)
    if {"val_class_images", "val_accuracy"} <= metrics.keys():
        counts = metrics["val_class_images"]
        class_ids = np.repeat(np.arange(len(counts)), counts)
        if note := no_better(class_ids, run.class_names, metrics["val_accuracy"]):
            say(f"note: {note}, on the validation images")


def _read_metrics(run):
    with contextlib.suppress(InputError):  # what is damaged is no reason to refuse the export
        return run_folder.read_metrics(run.path)
    return {}


def _with_validation_images(run, model, image_paths, expected):
    """Adds validation images to those of check/, and the model's `Answers`.

    Probabilities of those of check/ stay those that the training wrote down.
    """
    more_paths, images = reference_images.validation(run, image_paths)
    check_images = [load(image_path, run.preprocessing) for image_path in image_paths]
    answers = predict_images(model, check_images + images)
    answers.probabilities[: len(expected)] = expected
    return image_paths + more_paths, answers


def predict_images(model, images):
    """`Answers` of a Keras model, in batches of one shape, so that it is traced once.

    Args:
        model: Keras model from uint8 (N, S, S, 3) to its outputs.
        images: list of uint8 (S, S, 3).
    """
    parts = []
    for start in range(0, len(images), verification.BATCH):
        batch = np.stack(images[start : start + verification.BATCH])
        full_batch = np.resize(batch, (verification.BATCH, *batch.shape[1:]))
        outputs = model.predict_on_batch(full_batch)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        parts.append(Answers.of_outputs(outputs).rows(slice(len(batch))))
    return verification.join(parts)


def describe(run, fitted, proof):
    """dict, the content of model.json, except the checksums of the files.

    Args:
        run: `run_folder.Run`.
        fitted: `calibration.Calibration`, or None.
        proof: `acceptance.Proof`.
    """
    import keras
    import tensorflow as tf

    return {
        "format": FORMAT,
        "run": os.path.basename(os.path.abspath(run.path)),
        "backbone": run.options.backbone,
        "labels": list(run.class_names),
        "formats": proof.formats(),
        "checked_images": proof.image_count,
        "from_bytes": proof.from_bytes and proof.from_bytes.to_json(),
        "preprocessing": describe_preprocessing(run.preprocessing),
        "calibration": calibration.describe(fitted, run.class_names) if fitted else None,
        "weights": checksum(run.file(run_folder.BEST)),
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }


def _reject(run, partial_folder, problems, image_count):
    """Keeps what was made beside the previous export, and raises why it is not published."""
    rejected_folder = run.file(run_folder.MODEL) + ".rejected"
    replace_folder(partial_folder, rejected_folder)
    raise RunError(
        f"{rejected_folder}: not published: {'; '.join(problems)}; compared with the trained "
        f"model on {image_count} images, those in {run.file(run_folder.CHECK)} among them"
    )


def _result(model_folder, proof, format_table):
    differences = [
        comparison.difference
        for variant, comparison in proof.comparisons.items()
        if variant.precision == "float32" and comparison.pixels is None
    ]
    return {
        "model": model_folder,
        "checked_images": proof.image_count,
        "formats": format_table,
        "from_bytes": proof.from_bytes and proof.from_bytes.to_json(),
        "difference": max(differences) if differences else None,
    }


def text(result, where=""):
    """The result of an export for a person.

    Args:
        result: dict, what `export` returned.
        where: str, how it was compared, the end of the first line.

    Returns:
        str, several lines.
    """
    closeness = "compared with the trained model"
    if result["difference"] is not None:
        closeness = f"within {result['difference']:.1e} of the trained model's probabilities"
    lines = [f"{result['model']}: {closeness} on {result['checked_images']} images{where}"]
    for format_name, precisions in result["formats"].items():
        for precision, comparison in precisions.items():
            line = f"  {format_name:<10} {precision:<8} within {comparison['difference']:.1e}"
            if "agreement" in comparison:
                line += f", same class for {comparison['agreement']:.1%}"
            if "pixels" in comparison:
                line += f", pixels within {comparison['pixels']:.2f} levels in the mean"
            if "drop" in comparison:
                line += f", accuracy {comparison['accuracy']:.4f} ({-comparison['drop']:+.4f})"
            lines.append(line)
    # Where one device after the other is looked at, files are not asked for.
    if "savedmodel" in result["formats"] and (result["from_bytes"] or not where):
        lines.append(f"  savedmodel from bytes: {_bytes_text(result)}")
    return "\n".join(lines)


def _bytes_text(result):
    """How the signature that takes image files answered, and how many files it refused."""
    from_bytes, image_count = result["from_bytes"], result["checked_images"]
    if not from_bytes:
        return f"takes none of these {image_count} files; predict_image takes every image"
    refused_count = image_count - from_bytes["images"]
    refused = f"; {refused_count} files are refused by name" if refused_count else ""
    return (
        f"same class for {from_bytes['agreement']:.1%} of {from_bytes['images']} images, "
        f"probabilities within {from_bytes['difference']:.1e}{refused}"
    )
