"""Accuracy, precision, recall and F1 of a classifier on labelled images."""

import numpy as np

from prediction import calibration


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
    return {
        "answered": float(known.mean()),
        "answered_accuracy": float(right.mean()) if len(right) else None,
    }
