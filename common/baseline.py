"""What always answering the largest class would reach: a model should be better than that."""

import numpy as np


def no_better(class_ids, class_names, accuracy):
    """Says so where a model is no better than always answering the largest class.

    Args:
        class_ids: int (N,), the true classes of the images measured.
        class_names: C names, in the order of their ids.
        accuracy: float, the model's on these images, 0 to 1.

    Returns:
        str, a sentence without its full stop; "" where the model is better, or where all images
        are of one class, so that there is nothing to compare with.

    Example:
        >>> no_better([0, 0, 1], ("cat", "dog"), 0.5)
        "always answering 'cat' would be right for 0.6667: this model is no better"
    """
    counts = np.bincount(class_ids, minlength=len(class_names))
    # In images: an accuracy in float32 can be above the same fraction in float64.
    if round(accuracy * counts.sum()) > counts.max() or np.count_nonzero(counts) == 1:
        return ""
    return (
        f"always answering {class_names[counts.argmax()]!r} would be right for "
        f"{counts.max() / counts.sum():.4f}: this model is no better"
    )
