"""The model that a cross-validation leaves: the mean of its folds' models, or one of all photos."""

import hashlib
import os

import numpy as np

from common.console import say, waiting
from common.errors import ImageError, RunError
from common.files import checksum, replacing_folder
from common.tables import write_table
from compute.backend import exact_float32, import_keras
from config.option_table import OPTIONS
from data.csv_labels import COLUMNS
from data.decoding import load
from evaluation.model_card import CROSSVAL, model_card, write_card
from export import formats
from export.acceptance import DEFAULT_LIMITS, prove
from other.calibrate import fit_thresholds
from other.folds.plan import FEATURES, GROUP, all_photos
from other.folds.runs import is_solved, is_trained, train_run, with_training_options
from prediction import calibration
from prediction.exported_model import write_description, write_self_test
from prediction.loading import best_model
from prediction.runtimes import Answers
from runs import run_folder
from save_model import describe, predict_images
from save_model import export as export_run
from training.feature_cache import FeatureCache

MOST_IMAGES = 128  # by which the mean of the folds' models is proved
FORMATS = ("onnx", "openvino")  # what the server computes with on a processor


def export(plan, out_of_fold, result, options):
    """Exports what --export names.

    Args:
        plan: `Plan`, whose runs are trained.
        out_of_fold: `OutOfFold`.
        result: dict, the scores and the calibration.
        options: `CrossvalOptions`.

    Returns:
        dict of model, its path, checked_images and difference, the largest of a probability to
        what was trained; None without --export.

    Raises:
        RunError: the exported model's answers differ.
    """
    if options.export == "mean":
        with waiting("exporting"):
            return export_mean(plan, result, options)
    return export_all(plan, out_of_fold, result, options) if options.export else None


def export_all(plan, out_of_fold, result, options):
    """Trains a run on all photos, calibrates it by the out-of-fold answers, and exports it.

    A training that has epochs holds some photos out to choose among them.

    Args:
        plan: `Plan`.
        out_of_fold: `OutOfFold`.
        result: dict, the scores and the calibration.
        options: `CrossvalOptions`.

    Returns:
        dict, as of `export`.
    """
    run_name, table = plan.run_of_all, plan.file("all.csv")
    run_path = os.path.join(options.save_dir, run_name)
    if not is_trained(run_path):
        say(f"\n== all photos: {run_name}")
        rows = [(*row, group) for row, group in zip(all_photos(plan), plan.groups)]
        write_table(table, (*COLUMNS, GROUP), rows)
        words = ["--train_data", table, "--labels", plan.file(run_folder.LABELS)]
        # It has learned them: what counts is the score of the folds.
        if is_solved(options):
            words += ["--val_data", plan.folds[0].tables[1]]
        elif options.group:
            words += ["--group", f"csv:{GROUP}"]
        words += ["--run", run_name, "--seed", str(options.seed)]
        cache = FeatureCache(plan.file(FEATURES))
        train_run(run_path, with_training_options(words, options), options, cache)
    run_folder.add_metrics(run_path, _metrics(result))
    run = run_folder.read(run_path)
    fitted = _fit_calibration(plan, out_of_fold, result, run)
    calibration.write(run.file(run_folder.CALIBRATION), fitted, run.class_names)
    with waiting("exporting"):
        exported = export_run(run, _variants())
    return {name: exported[name] for name in ("model", "checked_images", "difference")}


def _metrics(result):
    """dict of the cross-validation's scores, as metrics.json and the model card have them."""
    metrics = {f"{CROSSVAL}_images": result["images"]}
    for name in ("accuracy", "macro_precision", "macro_recall", "macro_f1"):
        score = result[name]
        metrics[f"{CROSSVAL}_{name}"] = score["value"]
        metrics[f"{CROSSVAL}_{name}_interval"] = [score["low"], score["high"]]
    return metrics


def _variants():
    return formats.plan(FORMATS, ("none",), named=False)


def _fit_calibration(plan, out_of_fold, result, run):
    """The `Calibration` of a run by answers of models that learned as it did."""
    decoded = np.setdiff1d(np.arange(len(plan.groups)), list(out_of_fold.errors))
    true = np.tile(plan.samples.class_ids[decoded], len(out_of_fold.probabilities))
    rows = np.concatenate(list(out_of_fold.probabilities[:, decoded]))
    temperature = result["calibration"]["temperature"]
    scaled, precision = calibration.scale(rows, temperature), OPTIONS["precision"].default
    return calibration.Calibration(
        temperature,
        fit_thresholds(true, scaled, precision),
        precision,
        len(decoded),
        checksum(run.file(run_folder.BEST)),
        probability_quantiles=calibration.quantiles(scaled.max(axis=1)),
    )


def export_mean(plan, result, options):
    """Exports the mean of the probabilities of the folds' models as one model.

    The proof compares it with the mean of what the models say one by one.

    Args:
        plan: `Plan`.
        result: dict, the scores.
        options: `CrossvalOptions`.

    Returns:
        dict, as of `export`.
    """
    import_keras("tensorflow")
    exact_float32()
    runs = [run_folder.read(os.path.join(options.save_dir, fold.run_name)) for fold in plan.folds]
    models = [best_model(run) for run in runs]
    image_paths, images = _reference_photos(plan, runs[0].preprocessing)
    each = [predict_images(model, images).probabilities for model in models]
    expected = Answers(np.mean(each, axis=0, dtype=np.float64).astype(np.float32), None)
    model_folder, variants = plan.file(run_folder.MODEL), _variants()
    with replacing_folder(model_folder) as partial_folder:
        formats.write(mean_model(models), variants, partial_folder, runs[0].preprocessing, [])
        write_self_test(partial_folder, images[0], expected.probabilities[0])
        proof = prove(partial_folder, runs[0], variants, image_paths, expected)
        proof, problems = proof.judge(DEFAULT_LIMITS)
        if problems:
            raise RunError(f"{model_folder}: not published: {'; '.join(problems)}")
        weights = "".join(checksum(run.file(run_folder.BEST)) for run in runs)
        description = {
            **describe(runs[0], None, proof),
            "run": os.path.basename(plan.folder),
            "weights": hashlib.sha256(weights.encode()).hexdigest(),
        }
        write_description(partial_folder, description)
        metrics = {"train_images": result["images"], **_metrics(result)}
        card = model_card(description, metrics, runs[0].options.weights)
        write_card(partial_folder, card, model_folder)
    differences = [comparison.difference for comparison in proof.comparisons.values()]
    return {
        "model": model_folder,
        "checked_images": proof.image_count,
        "difference": max(differences),
    }


def mean_model(models):
    """One model that gives the mean of the probabilities of several.

    Where all have the same network before their heads, it is computed once.

    Args:
        models: list of 2 or more Keras models of `build_model`, of one input size.

    Returns:
        Keras model from uint8 (N, S, S, 3) to float32 (N, C).

    Example:
        >>> mean_model([first, second])(images) - (first(images) + second(images)) / 2
        0
    """
    import keras

    from modeling.feature_model import cut_head, weights_digest

    parts = [cut_head(model) for model in models]
    bodies, heads = zip(*parts)
    if len({weights_digest(body, "") for body in bodies}) == 1:
        inputs, branches, features = bodies[0].input, heads, bodies[0].output
    else:
        inputs = features = keras.Input(models[0].input.shape[1:], dtype="uint8", name="input_img")
        branches = models
    outputs = [
        keras.Model(branch.input, branch.output, name=f"fold_{number}")(features)
        for number, branch in enumerate(branches, start=1)
    ]
    return keras.Model(inputs, keras.layers.Average(dtype="float32", name="mean")(outputs))


def _reference_photos(plan, preprocessing):
    """(paths, images) of photos spread over all that can be decoded."""
    paths = [path for path, _ in all_photos(plan)]
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), MOST_IMAGES)).astype(int))
    kept, images = [], []
    for position in chosen:
        try:
            images.append(load(paths[position], preprocessing))
        except ImageError:
            continue
        kept.append(paths[position])
    return kept, images
