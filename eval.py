"""Measures a run or an exported model on labelled images."""

import csv
import json
import os

import numpy as np

from common.errors import InputError
from common.files import replacing
from data.samples import check_labels, read_samples
from inference import check_csv
from prediction import calibration
from prediction.batch import predict_samples
from prediction.classifier import Classifier, check_top_k, known_labels
from runs import run_folder

TOP_K = 5


def main(options):
    """`--mode eval`."""
    path = run_folder.find(options.run, options.save_dir)
    check_csv(options.csv)
    record = _run_to_record(path) if options.record else None
    labels = known_labels(path)
    check_labels(options.data, labels, f"the labels of {path}")
    samples = read_samples(options.data, labels, f"the labels of {path}")
    top_k = check_top_k(options.top_k, len(labels), TOP_K)
    classifier = Classifier.load(
        path, options.devices or ("all" if options.multigpu else None), runtime=options.runtime
    )
    classifier.set_views(options.tta)
    probabilities, errors = predict_samples(
        classifier, samples, options.batch_size, options.workers
    )
    scores = measure(samples.labels, probabilities, labels, top_k)
    if classifier.calibration:
        thresholds = classifier.calibration.thresholds
        scores.update(measure_answered(samples.labels, probabilities, thresholds))
    csv_path = options.csv
    if csv_path is None and not run_folder.is_exported(path):
        csv_path = os.path.join(path, "eval.csv")
    if csv_path:
        write_csv(csv_path, samples, probabilities, labels, errors)
    if record:
        kept = {name: value for name, value in scores.items() if name != "classes"}
        run_folder.add_metrics(
            record, {f"{options.record}_{name}": value for name, value in kept.items()}
        )
    undecodable = [str(error) for error in errors.values()]
    if options.json:
        print(json.dumps({**scores, "undecodable": undecodable, "csv": csv_path},
                         ensure_ascii=False))
        return
    print(table(scores, top_k))
    for line in undecodable:
        print(f"counted as wrong: {line}")
    if csv_path:
        print(f"a row an image: {csv_path}")


def _run_to_record(path):
    parent = os.path.dirname(os.path.abspath(path))
    for folder in (path, parent):
        if os.path.exists(os.path.join(folder, run_folder.OPTIONS)):
            run_folder.read_metrics(folder)  # refuses now what it could not add to later
            return folder
    raise InputError(f"--record: {path} belongs to no run whose metrics.json could take the scores")


def measure(true, probabilities, labels, top_k):
    """Scores of a classifier; an image without probabilities counts as wrong.

    Args:
        true: int (N,), class ids.
        probabilities: (N, C); a row of zeros stands for no answer.
        labels: class names.
        top_k: how many of the likeliest classes count for the top-k accuracy.

    Returns:
        dict of images, accuracy, top_K_accuracy, macro_precision, macro_recall,
        macro_f1 (means over the classes that have images) and classes, a list of
        dicts of label, images, precision, recall and f1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    answered = probabilities.any(axis=1)
    predicted = np.where(answered, probabilities.argmax(axis=1), -1)
    # As many classes may be likelier than the true one as there are places above it.
    own = probabilities[np.arange(len(true)), true]
    rank = (probabilities > own[:, None]).sum(axis=1)
    earlier = np.arange(len(labels)) < true[:, None]
    rank += ((probabilities == own[:, None]) & earlier).sum(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=range(len(labels)), zero_division=0
    )
    present = support > 0
    return {
        "images": len(true),
        "accuracy": float((predicted == true).mean()),
        f"top_{top_k}_accuracy": float((answered & (rank < top_k)).mean()),
        "macro_precision": float(precision[present].mean()),
        "macro_recall": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "classes": [
            {
                "label": label,
                "images": int(support[i]),
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
            }
            for i, label in enumerate(labels)
        ],
    }


def measure_answered(true, probabilities, thresholds):
    """Scores of a calibrated classifier that may say unknown.

    Args:
        true: int (N,), class ids.
        probabilities: (N, C), calibrated; a row of zeros stands for no answer.
        thresholds: float (C,), as `calibration.Calibration` has them.

    Returns:
        dict of answered, the share of the images that are not called unknown, and
        answered_accuracy, the share of right answers among those, None where there are none.
    """
    known = probabilities.any(axis=1) & ~calibration.unknown(probabilities, thresholds)
    right = probabilities.argmax(axis=1)[known] == true[known]
    return {"answered": float(known.mean()),
            "answered_accuracy": float(right.mean()) if len(right) else None}


def write_csv(path, samples, probabilities, labels, errors):
    """Writes a row an image: path, true and predicted class, probability of the predicted."""
    try:
        with replacing(path) as partial, \
                open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "true", "predicted", "probability", "error"])
            for position, (name, row) in enumerate(zip(samples.names, probabilities)):
                if position in errors:
                    answer = ["", "", errors[position].reason]
                else:
                    best = int(row.argmax())
                    answer = [labels[best], float(row[best]), ""]
                writer.writerow(
                    [os.path.join(samples.folder, name), labels[samples.labels[position]], *answer]
                )
    except OSError as error:
        raise InputError(f"--csv: {path} cannot be written: {error.strerror}") from None


def table(scores, top_k):
    """The scores as text."""
    width = max(5, *(len(each["label"]) for each in scores["classes"]))
    lines = [
        f"images {scores['images']}   accuracy {scores['accuracy']:.4f}   "
        f"top {top_k} {scores[f'top_{top_k}_accuracy']:.4f}",
        *([] if "answered" not in scores else [answered_line(scores)]),
        "",
        f"{'class':<{width}}  images  precision  recall      f1",
    ]
    lines += [
        f"{each['label']:<{width}}  {each['images']:>6}  {each['precision']:>9.4f}  "
        f"{each['recall']:.4f}  {each['f1']:.4f}"
        for each in scores["classes"]
    ]
    lines.append(
        f"{'mean':<{width}}  {scores['images']:>6}  {scores['macro_precision']:>9.4f}  "
        f"{scores['macro_recall']:.4f}  {scores['macro_f1']:.4f}"
    )
    return "\n".join(lines)


def answered_line(scores):
    """What `measure_answered` found as text."""
    accuracy = scores["answered_accuracy"]
    right = "" if accuracy is None else f", of those right {accuracy:.4f}"
    return f"answered {scores['answered']:.4f}{right}; the others are unknown"
