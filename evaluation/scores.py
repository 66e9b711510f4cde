"""Accuracy, precision, recall and F1 of a classifier on labelled images."""

import numpy as np

NO_ANSWER = -1  # in place of a class id


def measure(true, probabilities, class_names, top_k):
    """Scores of a classifier; an image without probabilities counts as wrong.

    Args:
        true: int (N,), class ids.
        probabilities: float (N, C), a row of zeros for an image without an answer.
        class_names: C names, in the order of their ids.
        top_k: int, how many of the most probable classes count for the top-k accuracy.

    Returns:
        dict of images, accuracy, top_K_accuracy, macro_precision, macro_recall, macro_f1 (means
        over the classes that have images) and classes, a list with one dict per class of label,
        images, precision, recall and f1.

    Example:
        >>> scores = measure(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]), ("a", "b"), 2)
        >>> scores["accuracy"], scores["top_2_accuracy"]
        (0.5, 1.0)
    """
    from sklearn.metrics import precision_recall_fscore_support

    answered = probabilities.any(axis=1)
    predicted = np.where(answered, probabilities.argmax(axis=1), NO_ANSWER)
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=range(len(class_names)), zero_division=0
    )
    has_images = support > 0
    return {
        "images": len(true),
        "accuracy": float((predicted == true).mean()),
        f"top_{top_k}_accuracy": float((answered & (_rank(true, probabilities) < top_k)).mean()),
        "macro_precision": float(precision[has_images].mean()),
        "macro_recall": float(recall[has_images].mean()),
        "macro_f1": float(f1[has_images].mean()),
        "classes": [
            {
                "label": class_name,
                "images": int(support[i]),
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
            }
            for i, class_name in enumerate(class_names)
        ],
    }


def _rank(true, probabilities):
    """int (N,), how many classes come before the true one; of equals, the smaller id is first."""
    own = probabilities[np.arange(len(true)), true][:, None]
    smaller_id = np.arange(probabilities.shape[1]) < true[:, None]
    return (probabilities > own).sum(axis=1) + ((probabilities == own) & smaller_id).sum(axis=1)


def measure_answered(true, probabilities, is_unknown):
    """Scores of a calibrated classifier that may answer "unknown".

    Args:
        true: int (N,), class ids.
        probabilities: float (N, C), calibrated, a row of zeros for an image without an answer.
        is_unknown: bool (N,), of `calibration.Calibration.unknown`.

    Returns:
        dict of answered, the fraction of the images whose answer is not "unknown", and
        answered_accuracy, the fraction of right answers among those, None where there are none.
    """
    answered = probabilities.any(axis=1) & ~is_unknown
    is_right = probabilities.argmax(axis=1)[answered] == true[answered]
    return {
        "answered": float(answered.mean()),
        "answered_accuracy": float(is_right.mean()) if len(is_right) else None,
    }
