"""Fits a temperature and thresholds, so that a model's probabilities are honest and it can pass.

Pass it does where no class is probable enough, and where an image is less familiar than nearly all
of the images here.

All figures are measured on the images that the fit has seen, so they flatter a little; --mode
eval on other images measures without that.
"""

import os

import numpy as np

from common import console
from common.console import say
from common.errors import InputError, first_ten
from common.files import checksum
from common.write_errors import write_error
from compute.backend import import_keras
from config.mode_options import CalibrateOptions
from data.parts import read_part
from eval import answered_line
from evaluation.calibration_error import expected_calibration_error
from evaluation.label_errors import trained_on
from evaluation.model_card import update_limits
from evaluation.scores import measure_answered
from export import web
from prediction import calibration, centers
from prediction.batch import predict_samples
from prediction.classifier import Classifier, known_labels
from prediction.exported_model import is_export_of, read_description, update_description
from prediction.loading import best_model
from runs import run_folder

SMALLEST_SCALE = 1e-6  # where all images have the same probability or similarity
FEW_IMAGES = 50  # images; with fewer the figures are shaky
# The likelihood has one maximum in the temperature; beyond these it is as good as flat.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0


def main(options: CalibrateOptions):
    """`--mode calibrate`.

    Returns:
        dict: run, the path of the run or None, and is_exported.
    """
    run_path = run_folder.find(options.run, options.save_dir)
    class_names = known_labels(run_path)
    names_from = f"the labels of {run_path}"
    samples = read_part(
        options.data, options.part, class_names, names_from, options.workers, default="val"
    )
    weights, run, exported = _places(run_path)
    if options.false_alarms and run:
        _find_centers(run, options)
    class_ids, before, similarities, errors = _predict(run_path, samples, options)
    _say_notes(run, samples, class_ids, errors)
    fitted, after = _fit(class_ids, before, options.precision, weights)
    fitted = fitted._replace(probability_quantiles=calibration.quantiles(after.max(axis=1)))
    if options.false_alarms:
        fitted = _fit_familiarity(fitted, after, similarities, options.false_alarms, run_path)
    _say_thresholds(class_names, fitted.thresholds, after, options.precision)
    written = [] if options.dry_run else _write(fitted, class_names, run, exported)
    is_unknown = fitted.unknown(after, similarities)
    result = _result(class_ids, before, after, fitted, is_unknown)
    result["classes"] = _classes(class_ids, after, fitted, is_unknown, class_names)
    undecodable = [str(error) for error in errors.values()]
    console.show({**result, "undecodable": undecodable, "written": written}, _text, options.json)
    return {"run": run, "is_exported": exported is not None}


def _find_centers(run_path, options):
    """Finds the centers of a run's training photos, where it has none yet."""
    run = run_folder.read(run_path)
    weights = checksum(run.file(run_folder.BEST))
    has_export = is_export_of(run.file(run_folder.MODEL), weights)  # which answers in its place
    if has_export or centers.read(run) is not None:
        return
    import_keras()
    try:
        centers.find(run, best_model(run), options.workers)
    except OSError as error:
        raise write_error(error, run.file(run_folder.CENTERS), "--run") from None


def _predict(run_path, samples, options):
    """(class ids (N,), probabilities (N, C), similarities (N,) or None, errors), if decodable."""
    classifier = Classifier.load(run_path, calibrated=False)
    probabilities, errors, similarities = predict_samples(
        classifier, samples, options.batch_size, options.workers
    )
    decoded = np.setdiff1d(np.arange(len(samples.file_names)), list(errors))
    if not len(decoded):
        raise InputError(f"--data: {options.data}: none of its images can be decoded")
    if similarities is not None:
        similarities = similarities[decoded]
    return samples.class_ids[decoded], probabilities[decoded], similarities, errors


def _fit(class_ids, probabilities, precision, weights):
    """The `Calibration`, and the probabilities that it gives."""
    temperature = fit_temperature(class_ids, probabilities)
    if (probabilities.argmax(axis=1) == class_ids).all():
        say("note: every answer is right, which determines no temperature; it stays 1")
    scaled = calibration.scale(probabilities, temperature)
    thresholds = fit_thresholds(class_ids, scaled, precision)
    image_count = len(class_ids)
    return calibration.Calibration(temperature, thresholds, precision, image_count, weights), scaled


def _fit_familiarity(fitted, probabilities, similarities, false_alarms, run_path):
    """The `Calibration` with the familiarity below which so few of the images are."""
    if similarities is None:
        say(
            f"note: {run_path} does not compute how similar an image is to what was learned, as "
            f"exports of earlier versions do not; nothing will be called {calibration.UNLIKE!r}"
        )
        return fitted
    familiarity = fit_familiarity(probabilities.max(axis=1), similarities, false_alarms)
    is_unlike = familiarity.is_unlike(probabilities.max(axis=1), similarities)
    return fitted._replace(
        familiarity=familiarity,
        false_alarms=float(is_unlike.mean()),
        similarity_quantiles=calibration.quantiles(similarities),
    )


def fit_familiarity(probabilities, similarities, false_alarms):
    """The familiarity that no more than a fraction of the images are below.

    Args:
        probabilities: float (N,), the largest of each image, calibrated.
        similarities: float (N,), of the same images.
        false_alarms: float, the fraction, above 0 and below 1.

    Returns:
        `calibration.Familiarity`, whose minimum is that of one of the images.
    """
    figures = [
        figure
        for values in (np.float64(probabilities), np.float64(similarities))
        for figure in (float(values.mean()), max(float(values.std()), SMALLEST_SCALE))
    ]
    familiarity = calibration.Familiarity(*figures, 0.0)
    measured = np.sort(familiarity.measure(probabilities, similarities))
    return familiarity._replace(minimum=float(measured[int(false_alarms * len(measured))]))


def _result(class_ids, before, after, fitted, is_unknown):
    temperature = fitted.temperature
    return {
        "images": len(class_ids),
        "temperature": temperature,
        "precision": fitted.precision,
        "familiarity": fitted.familiarity and fitted.familiarity._asdict(),
        "false_alarms": fitted.false_alarms,
        "negative_log_likelihood": {
            "before": negative_log_likelihood(class_ids, before, 1.0),
            "after": negative_log_likelihood(class_ids, before, temperature),
        },
        "expected_calibration_error": {
            "before": expected_calibration_error(class_ids, before),
            "after": expected_calibration_error(class_ids, after),
        },
        "accuracy": float((before.argmax(axis=1) == class_ids).mean()),
        **measure_answered(class_ids, after, is_unknown),
    }


def negative_log_likelihood(true, probabilities, temperature):
    """Mean over the images of -log of the true class's probability at a temperature.

    Args:
        true: int (N,), class ids.
        probabilities: float (N, C), the network's output.
        temperature: above 0; 1 leaves them as they are.
    """
    logarithms = calibration.logarithms(probabilities, temperature)
    return float(-logarithms[np.arange(len(true)), true].mean())


def fit_temperature(true, probabilities):
    """The temperature that minimizes the negative log-likelihood (Guo et al. 2017, section 4.2).

    Where every answer is right, no temperature minimizes it, since surer is always better.

    Args:
        true: int (N,), class ids.
        probabilities: float (N, C), the network's output.

    Returns:
        float, above 0; 1 where every answer is right.
    """
    from scipy.optimize import minimize_scalar

    if (probabilities.argmax(axis=1) == true).all():
        return 1.0
    solution = minimize_scalar(
        lambda logarithm: negative_log_likelihood(true, probabilities, np.exp(logarithm)),
        bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(solution.x))


def fit_thresholds(true, probabilities, precision):
    """The minimum probability from which on each class's answers are right often enough.

    A class that is never predicted takes that of all classes together.

    Args:
        true: int (N,), class ids.
        probabilities: float32 (N, C), calibrated.
        precision: fraction of right answers wanted, from 0 to 1.

    Returns:
        float (C,); infinite where no threshold reaches `precision`.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = predicted == true
    return np.array(
        [
            _threshold(confidence[chosen], right[chosen], precision)
            if chosen.any()
            else _threshold(confidence, right, precision)
            for chosen in (predicted == number for number in range(probabilities.shape[1]))
        ]
    )


def _threshold(confidence, right, precision):
    order = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[order], right[order]
    reached = np.cumsum(right) / np.arange(1, len(right) + 1) >= precision
    # Images of the same probability are answered together or not at all.
    last = np.append(confidence[1:] != confidence[:-1], True)
    passing_positions = np.flatnonzero(reached & last)
    return float(confidence[passing_positions[-1]]) if len(passing_positions) else np.inf


def _places(run_path):
    """SHA-256 of the weights, the run that they are the best of, and its exported model.

    The run or the model is None where there is none of these weights: a run and the model
    exported from it are calibrated together, whichever is named.
    """
    if run_folder.is_exported(run_path):
        weights = read_description(run_path).get("weights")
        parent = os.path.dirname(os.path.abspath(run_path))
        inside = os.path.basename(os.path.abspath(run_path)) == run_folder.MODEL
        best = os.path.join(parent, run_folder.BEST)
        if inside and os.path.exists(best) and checksum(best) == weights:
            return weights, parent, run_path
        return weights, None, run_path
    weights = checksum(os.path.join(run_path, run_folder.BEST))
    exported = os.path.join(run_path, run_folder.MODEL)
    return weights, run_path, exported if is_export_of(exported, weights) else None


def _write(fitted, class_names, run, exported):
    """Writes the calibration to the run and to the exported model; returns the files."""
    written = []
    try:
        if run:
            written.append(os.path.join(run, run_folder.CALIBRATION))
            calibration.write(written[-1], fitted, class_names)
        if exported:
            written.append(os.path.join(exported, run_folder.MODEL_FILE))
            files = read_description(exported)["files"]
            files.update(web.update_calibration(exported, fitted, class_names))
            update_description(
                exported, calibration=calibration.describe(fitted, class_names), files=files
            )
            update_limits(exported, read_description(exported))
    except OSError as error:
        raise write_error(error, written[-1], "--run") from None
    return written


def _say_notes(run, samples, true, errors):
    for error in errors.values():
        say(f"left out: {error}")
    if len(true) < FEW_IMAGES:
        say(f"note: {len(true)} images are few; the figures are shaky below about {FEW_IMAGES}")
    if len(set(true)) == 1:
        say("note: all images have one class; the figures say nothing about the others")
    trained = int(trained_on(run, samples).sum()) if run else 0
    if trained:
        say(
            f"note: the run was trained on {trained} of these images, on which it is surer than on "
            "new ones; fit on images that training has not seen"
        )


def _say_thresholds(class_names, thresholds, probabilities, precision):
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=len(class_names)) > 0
    silent = [label for label, threshold in zip(class_names, thresholds) if threshold == np.inf]
    if silent:
        say(
            f"note: no threshold makes {precision:.0%} of the answers right; always unknown: "
            f"{first_ten(silent)}"
        )
    unseen = [label for label, is_predicted in zip(class_names, predicted) if not is_predicted]
    if unseen:
        say(
            f"note: never predicted here, so with the threshold of all classes together: "
            f"{first_ten(unseen)}"
        )


def _classes(true, probabilities, fitted, is_unknown, class_names):
    predicted = probabilities.argmax(axis=1)
    class_rows = []
    for class_id, threshold in enumerate(
        calibration.describe(fitted, class_names)["thresholds"].values()
    ):
        chosen = predicted == class_id
        right = true[chosen & ~is_unknown] == class_id
        class_rows.append(
            {
                "label": class_names[class_id],
                "threshold": threshold,
                "predicted": int(chosen.sum()),
                "answered": len(right),
                "answered_accuracy": float(right.mean()) if len(right) else None,
            }
        )
    return class_rows


def _familiarity_lines(result):
    if result["familiarity"] is None:
        return []
    return [
        f"{calibration.UNLIKE} below a familiarity of {result['familiarity']['minimum']:.4f}, as "
        f"{result['false_alarms']:.4f} of these images are"
    ]


def _text(result):
    likelihood, error = result["negative_log_likelihood"], result["expected_calibration_error"]
    width = max(5, *(len(row["label"]) for row in result["classes"]))
    lines = [
        f"images {result['images']}   temperature {result['temperature']:.4f}",
        "",
        "                            before   after",
        f"negative log-likelihood     {likelihood['before']:6.4f}  {likelihood['after']:6.4f}",
        f"expected calibration error  {error['before']:6.4f}  {error['after']:6.4f}",
        "",
        f"accuracy {result['accuracy']:.4f}; precision wanted {result['precision']:g}",
        answered_line(result),
        *_familiarity_lines(result),
        "",
        f"{'class':<{width}}  threshold  predicted  answered   right",
    ]
    for row in result["classes"]:
        threshold = "never" if row["threshold"] is None else f"{row['threshold']:.4f}"
        right = "" if row["answered"] == 0 else f"{row['answered_accuracy']:.4f}"
        lines.append(
            f"{row['label']:<{width}}  {threshold:>9}  {row['predicted']:>9}  "
            f"{row['answered']:>8}  {right:>6}"
        )
    lines.append("")
    lines += [f"written: {file}" for file in result["written"]] or ["nothing written: --dry_run"]
    return "\n".join(lines)
