"""Measures a run or an exported model on labelled images."""

import csv
import json
import os

from common.errors import InputError
from common.files import replacing
from data.samples import check_labels, read_samples
from evaluation.scores import measure, measure_answered
from inference import check_csv
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
    scores = measure(samples.class_ids, probabilities, labels, top_k)
    if classifier.calibration:
        thresholds = classifier.calibration.thresholds
        scores.update(measure_answered(samples.class_ids, probabilities, thresholds))
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
        print(
            json.dumps({**scores, "undecodable": undecodable, "csv": csv_path}, ensure_ascii=False)
        )
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


def write_csv(path, samples, probabilities, labels, errors):
    """Writes a row an image: path, true and predicted class, probability of the predicted."""
    try:
        with (
            replacing(path) as partial,
            open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["path", "true", "predicted", "probability", "error"])
            for position, (name, row) in enumerate(zip(samples.file_names, probabilities)):
                if position in errors:
                    answer = ["", "", errors[position].reason]
                else:
                    best = int(row.argmax())
                    answer = [labels[best], float(row[best]), ""]
                writer.writerow(
                    [
                        os.path.join(samples.folder, name),
                        labels[samples.class_ids[position]],
                        *answer,
                    ]
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
