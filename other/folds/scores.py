"""What the answers of all folds say: scores with intervals, doubtful labels, calibration."""

import numpy as np

from evaluation import intervals, label_errors
from evaluation.calibration_error import expected_calibration_error
from evaluation.confusion import NO_ANSWER, confused_pairs, confusion
from evaluation.cross_validation import (
    folds_interval,
    grouped_bootstrap,
    grouped_proportion,
    out_of_fold_temperatures,
)
from evaluation.scores import measure
from other.calibrate import fit_temperature, negative_log_likelihood
from other.reporting import doubtful_labels
from prediction import calibration

TOP_K = 1
MACRO = {
    "macro_precision": intervals.macro_precision,
    "macro_recall": intervals.macro_recall,
    "macro_f1": intervals.macro_f1,
}


def measure_folds(plan, out_of_fold):
    """Scores of the folds' models together; every interval is one of 95 %.

    With several seeds a photo has several answers, which count together as one photo.

    Args:
        plan: `Plan`.
        out_of_fold: `OutOfFold`.

    Returns:
        dict: images, groups, folds, seeds; accuracy, macro_precision, macro_recall and macro_f1,
        each a dict of value, low and high; fold_accuracies, by seed and fold; folds_interval, by
        how much these differ; classes, one dict per class; pairs, the classes confused most.
    """
    true, class_names = plan.samples.class_ids, plan.class_names
    seeds, photo_count, class_count = out_of_fold.probabilities.shape
    folds = int(plan.assigned.max()) + 1
    predicted = predict(out_of_fold.probabilities)
    is_right = predicted == true
    rows = out_of_fold.probabilities.reshape(-1, class_count)
    all_true, all_groups = np.tile(true, seeds), np.tile(plan.groups, seeds)
    scores = measure(all_true, rows, class_names, TOP_K)
    matrix = confusion(all_true, predicted.ravel(), class_count)
    accuracy_interval = grouped_proportion(is_right.mean(axis=0), plan.groups, folds)
    fold_accuracies = [
        [float(is_right[seed, plan.assigned[seed] == fold].mean()) for fold in range(folds)]
        for seed in range(seeds)
    ]
    macro = {
        name: _score(
            scores[name],
            grouped_bootstrap(statistic, all_true, predicted.ravel(), all_groups, class_count),
        )
        for name, statistic in MACRO.items()
    }
    return {
        "images": photo_count,
        "groups": len(np.unique(plan.groups)),
        "folds": folds,
        "seeds": seeds,
        "accuracy": _score(scores["accuracy"], accuracy_interval),
        **macro,
        "fold_accuracies": fold_accuracies,
        "folds_interval": [
            min(1.0, max(0.0, end)) for end in folds_interval(np.ravel(fold_accuracies), folds)
        ],
        "classes": [
            _class_row(class_id, row, predicted, plan, matrix)
            for class_id, row in enumerate(scores["classes"])
        ],
        "pairs": [
            {"true": class_names[own], "taken_for": class_names[other], "share": share}
            for own, other, _, share in confused_pairs(matrix, seeds * np.bincount(true))
        ],
    }


def predict(probabilities):
    """int (...), the class ids of answers, `NO_ANSWER` where a photo is undecodable.

    Args:
        probabilities: float (..., C), rows of zeros for those.
    """
    return np.where(probabilities.any(axis=-1), probabilities.argmax(axis=-1), NO_ANSWER)


def _score(value, interval):
    return {"value": value, "low": interval[0], "high": interval[1]}


def _class_row(class_id, row, predicted, plan, matrix):
    """The figures of a class, None for a precision or recall that nothing is known of."""
    folds = int(plan.assigned.max()) + 1
    is_own = plan.samples.class_ids == class_id
    is_answer = predicted == class_id
    hits = (is_answer & is_own)[is_answer]
    answer_groups = np.broadcast_to(plan.groups, predicted.shape)[is_answer]
    recall = precision = None
    if is_own.any():
        of_photos = is_answer[:, is_own].mean(axis=0)
        recall = _score(row["recall"], grouped_proportion(of_photos, plan.groups[is_own], folds))
    if len(hits):
        precision = _score(row["precision"], grouped_proportion(hits, answer_groups, folds))
    wrong = matrix[class_id].copy()
    wrong[class_id] = 0
    return {
        "label": row["label"],
        "images": int(is_own.sum()),
        "groups": len(np.unique(plan.groups[is_own])),
        "precision": precision,
        "recall": recall,
        "f1": row["f1"] if is_own.any() else None,
        "taken_for": plan.class_names[wrong.argmax()] if wrong.any() else None,
    }


def find_doubtful(plan, out_of_fold, data):
    """The labels that models which have not seen them find wrong.

    Args:
        plan: `Plan`.
        out_of_fold: `OutOfFold`.
        data: str, the folder or CSV file of the photos.

    Returns:
        list of `label_errors.Suspect`, the most doubtful first.
    """
    photo_count = len(plan.samples.file_names)
    unseen = label_errors.Training(np.zeros(photo_count, bool), np.full(photo_count, np.nan))
    probabilities = out_of_fold.probabilities.mean(axis=0)
    return doubtful_labels.leave_out_confirmed(
        label_errors.find(unseen, plan.samples, probabilities, out_of_fold.errors),
        plan.samples,
        plan.class_names,
        data,
    )


def calibrate(plan, out_of_fold):
    """A temperature fitted on all out-of-fold answers, and what it brings.

    What it brings is measured for each fold with a temperature fitted on the others.

    Args:
        plan: `Plan`.
        out_of_fold: `OutOfFold`.

    Returns:
        dict of temperature, and negative_log_likelihood and expected_calibration_error, each a
        dict of before and after.
    """
    decoded = np.setdiff1d(np.arange(len(plan.groups)), list(out_of_fold.errors))
    seeds = len(out_of_fold.probabilities)
    true = np.tile(plan.samples.class_ids[decoded], seeds)
    rows = np.concatenate(list(out_of_fold.probabilities[:, decoded]))
    # All answers about a photo are held out together.
    folds = np.tile(plan.assigned[0][decoded], seeds)
    temperatures = out_of_fold_temperatures(true, rows, folds, fit_temperature)
    scaled = np.concatenate([calibration.scale(row[None], t) for row, t in zip(rows, temperatures)])
    return {
        "temperature": fit_temperature(true, rows),
        "negative_log_likelihood": {
            "before": negative_log_likelihood(true, rows, 1.0),
            "after": negative_log_likelihood(true, scaled, 1.0),
        },
        "expected_calibration_error": {
            "before": expected_calibration_error(true, rows),
            "after": expected_calibration_error(true, scaled),
        },
    }
