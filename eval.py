"""Measures a run or an exported model on labelled images."""

import os

from common import output_places
from common.baseline import no_better
from common.console import say, show
from common.errors import InputError
from common.files import check_writable
from config.mode_options import EvalOptions
from data.parts import measured_part, read_part
from evaluation import intervals, known_photos
from evaluation.scores import measure, measure_answered
from prediction.batch import predict_samples
from prediction.classifier import Classifier, check_top_k, known_labels
from runs import run_folder
from runs.predictions_table import FILE_NAME, Prediction, write_predictions

TOP_K = 5
FEW_CLASSES = 10  # of which nearly every answer is among the five most probable


def main(options: EvalOptions):
    """`--mode eval`."""
    path = run_folder.find(options.run, options.save_dir)
    check_writable(options.csv, "--csv")
    record_folder = _folder_to_record(path) if options.record else None
    class_names, samples = _read_samples(path, options)
    known_photos.tell(path, samples, options.workers)
    top_k = check_top_k(options.top_k, len(class_names), TOP_K)
    classifier, predictions = _predict(path, samples, options)
    probabilities, errors, _ = predictions
    scores = _measure(classifier, samples, predictions, top_k)
    place = _csv_place(options, path)
    csv_path = place and place.path
    if place:
        write_csv(csv_path, samples, probabilities, class_names, errors)
        place.record()
    if record_folder:
        _record(record_folder, options.record, scores)
    right = round(scores["accuracy"] * scores["images"])
    interval = intervals.proportion(right, scores["images"])
    if note := no_better(samples.class_ids, class_names, scores["accuracy"]):
        say(f"note: {note}")
    undecodable = list(map(str, errors.values()))
    result = {**scores, "accuracy_interval": interval, "undecodable": undecodable, "csv": csv_path}
    shown_k = top_k if options.top_k or len(class_names) > FEW_CLASSES else None
    show(result, lambda result: _text(result, shown_k), options.json)


def _folder_to_record(path):
    """The run that --record adds scores to: `path`, or the folder of an exported model's run."""
    for folder in (path, os.path.dirname(os.path.abspath(path))):
        if os.path.exists(os.path.join(folder, run_folder.OPTIONS)):
            run_folder.read_metrics(folder)  # refuses a damaged file before the work
            return folder
    raise InputError(f"--record: {path} is not in a run, so there is no metrics.json to add to")


def _read_samples(path, options):
    """(class names of the model, `Samples` to measure it on)."""
    class_names, origin = known_labels(path), f"the labels of {path}"
    return class_names, read_part(options.data, options.part, class_names, origin, options.workers)


def _predict(path, samples, options):
    """(`Classifier`, `Predictions`)."""
    devices = options.devices or ("all" if options.multigpu else None)
    classifier = Classifier.load(path, devices, runtime=options.runtime)
    classifier.set_views(options.tta)
    return classifier, predict_samples(classifier, samples, options.batch_size, options.workers)


def _measure(classifier, samples, predictions, top_k):
    probabilities, _, similarities = predictions
    scores = measure(samples.class_ids, probabilities, classifier.class_names, top_k)
    fitted = classifier.calibration
    if fitted:
        is_unknown = fitted.unknown(probabilities, similarities)
        scores.update(measure_answered(samples.class_ids, probabilities, is_unknown))
        if fitted.familiarity is not None and similarities is not None:
            is_unlike = fitted.familiarity.is_unlike(probabilities.max(axis=1), similarities)
            scores["unlike_seen"] = float(is_unlike.mean())
    return scores


def _csv_place(options, path):
    """Where the table goes: where --csv says, else into the run; None for an exported model."""
    if options.csv is None and run_folder.is_exported(path):
        return None
    part = measured_part(options.data, options.part)
    default_path = os.path.join(path, FILE_NAME)
    return output_places.choose(default_path, options.csv, data=options.data, part=part)


def write_csv(csv_path, samples, probabilities, class_names, errors):
    """Writes the table of predictions.

    Args:
        csv_path: str, the file to write.
        samples: `Samples`, N images.
        probabilities: float32 (N, C).
        class_names: tuple of C names, in the order of their ids.
        errors: dict of position -> ImageError, the images that cannot be decoded.

    Raises:
        InputError: the file cannot be written.
    """
    predictions = []
    for position, (file_name, row) in enumerate(zip(samples.file_names, probabilities)):
        image_path = os.path.join(samples.folder, file_name)
        true_id = int(samples.class_ids[position])
        if position in errors:
            prediction = Prediction(image_path, true_id, None, 0.0, errors[position].reason)
        else:
            predicted_id = int(row.argmax())
            prediction = Prediction(image_path, true_id, predicted_id, float(row[predicted_id]))
        predictions.append(prediction)
    write_predictions(csv_path, predictions, class_names)


def _record(folder, prefix, scores):
    """Adds the scores of all classes together to a run's metrics.json."""
    run_folder.add_metrics(
        folder, {f"{prefix}_{name}": value for name, value in scores.items() if name != "classes"}
    )


def _text(result, top_k):
    lines = [table(result, top_k)]
    lines += [f"counted as wrong: {problem}" for problem in result["undecodable"]]
    if result["csv"]:
        lines.append(f"one row per image: {result['csv']}")
    return "\n".join(lines)


def table(scores, top_k):
    """The scores as text.

    Args:
        scores: dict, what `measure` returned, with what `measure_answered` did and with
            accuracy_interval, (float, float).
        top_k: int, k of the top-k accuracy, or None to leave it out.

    Returns:
        str, several lines.
    """
    label_width = max(5, *(len(class_scores["label"]) for class_scores in scores["classes"]))
    low, high = scores["accuracy_interval"]
    top_part = f"   top {top_k} {scores[f'top_{top_k}_accuracy']:.4f}" if top_k else ""
    lines = [
        f"images {scores['images']}   accuracy {scores['accuracy']:.4f} (95 % interval {low:.4f} "
        f"to {high:.4f}){top_part}",
        *([] if "answered" not in scores else [answered_line(scores)]),
        "",
        f"{'class':<{label_width}}  images  precision  recall      f1",
    ]
    lines += [
        f"{class_scores['label']:<{label_width}}  {class_scores['images']:>6}  "
        f"{class_scores['precision']:>9.4f}  {class_scores['recall']:.4f}  {class_scores['f1']:.4f}"
        for class_scores in scores["classes"]
    ]
    lines.append(
        f"{'mean':<{label_width}}  {scores['images']:>6}  {scores['macro_precision']:>9.4f}  "
        f"{scores['macro_recall']:.4f}  {scores['macro_f1']:.4f}"
    )
    return "\n".join(lines)


def answered_line(scores):
    """str, how many images were answered, and how well.

    Args:
        scores: dict, with what `measure_answered` returned.
    """
    accuracy = scores["answered_accuracy"]
    accuracy_part = "" if accuracy is None else f" with accuracy {accuracy:.4f}"
    unlike_part = ""
    if scores.get("unlike_seen") is not None:
        unlike_part = f", {scores['unlike_seen']:.4f} unlike anything seen"
    return f"answered {scores['answered']:.4f}{accuracy_part}; the others are unknown{unlike_part}"
