"""Prototypes: an image belongs to the class whose mean features have the smallest angle to its own.

Snell et al. 2017, "Prototypical Networks for Few-shot Learning", section 2.2, with cosines, whose
scale is fitted as a temperature.
"""

import numpy as np

from common.nearest import unit_rows

SCALES = np.geomspace(2, 200, 41)  # of the cosines before the softmax
DEFAULT_SCALE = 20.0  # where every class has one photo, which says nothing about it


def solve(features, class_ids, classes, views=1):
    """Kernel and bias of the classification layer behind features of unit length.

    Args:
        features: float32 (N * V, D), first a view of all N photos, then another.
        class_ids: int (N * V,), 0 to C-1.
        classes: int, number of classes C.
        views: int V, rows of the same photo.

    Returns:
        (kernel, bias): float32 (D, C) and (C,), for a softmax; None where fewer than two classes
        have photos. A class without photos is never predicted.

    Example:
        >>> kernel, bias = solve(features, class_ids, classes=6)
        >>> (unit_rows(features) @ kernel + bias).argmax(axis=1)
    """
    present = np.unique(class_ids)
    if len(present) < 2:
        return None
    units = unit_rows(features)
    sums = np.stack([units[class_ids == one].sum(axis=0) for one in present])
    scale = _fit_scale(units, np.searchsorted(present, class_ids), sums, views)
    kernel = np.zeros((features.shape[1], classes), np.float32)
    kernel[:, present] = scale * unit_rows(sums).T
    bias = np.full(classes, -2 * scale, np.float32)  # below any cosine
    bias[present] = 0
    return kernel, bias


def _fit_scale(units, class_ids, sums, views):
    """The scale that makes each photo most probable by the prototypes of all others."""
    photo_count = len(units) // views
    photos = units.reshape(views, photo_count, -1)
    own_sums = sums[class_ids[:photo_count]] - photos.sum(axis=0)
    is_alone = np.bincount(class_ids[:photo_count])[class_ids[:photo_count]] < 2
    if is_alone.all():
        return DEFAULT_SCALE
    cosines = photos[0] @ unit_rows(sums).T
    rows = np.arange(photo_count)
    cosines[rows, class_ids[:photo_count]] = (photos[0] * unit_rows(own_sums)).sum(axis=1)
    return best_scale(cosines[~is_alone], class_ids[:photo_count][~is_alone], SCALES)


def best_scale(scores, class_ids, scales):
    """The scale of scores at which a softmax has the smallest negative log-likelihood.

    Args:
        scores: float (N, C).
        class_ids: int (N,), the true classes.
        scales: float (K,), those to choose from.

    Returns:
        float.
    """
    from scipy.special import logsumexp  # half a second, which other trainings do not need

    true_scores = scores[np.arange(len(scores)), class_ids]
    losses = [np.mean(logsumexp(scale * scores, axis=1) - scale * true_scores) for scale in scales]
    return float(scales[int(np.argmin(losses))])
