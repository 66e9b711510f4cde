"""Neighbours: the photos learned from vote, each by the cosine of its features.

The vote is a softmax over all of them (Vinyals et al. 2016, "Matching Networks for One Shot
Learning", section 2.1.1) instead of one of the k nearest: it needs no k, and every runtime
computes it.
"""

import numpy as np

from common.nearest import unit_rows

SCALES = np.geomspace(5, 500, 41)  # of the cosines before the softmax
MOST_ASKED = 1000  # photos by which the scale is chosen
NO_PHOTO = -1e4  # bias of a place without a photo, which gets no vote


def solve(features, class_ids, classes, places, views=1):
    """The weights of the two layers behind features of unit length: photos, then classes.

    Args:
        features: float32 (N * V, D), first a view of all N photos, then another.
        class_ids: int (N * V,), 0 to C-1.
        classes: int, number of classes C.
        places: int P, photos and their views that the layer has room for; where these are more,
            some of them are kept, of each class as many in proportion.
        views: int V, rows of the same photo.

    Returns:
        (kernel, bias, votes): float32 (D, P), (P,) and (P, C), for a softmax over P and then a
        matrix product.

    Example:
        >>> kernel, bias, votes = solve(features, class_ids, classes=6, places=960)
        >>> (softmax(unit_rows(features) @ kernel + bias) @ votes).argmax(axis=1)
    """
    units = unit_rows(features, np.float32)
    scale = _choose_scale(units, class_ids, classes, views)
    kept = _spread(class_ids, places)
    kernel = np.zeros((features.shape[1], places), np.float32)
    bias = np.full(places, NO_PHOTO, np.float32)
    votes = np.zeros((places, classes), np.float32)
    kernel[:, : len(kept)] = scale * units[kept].T
    bias[: len(kept)] = 0
    votes[np.arange(len(kept)), class_ids[kept]] = 1
    return kernel, bias, votes


def _spread(class_ids, places):
    """At most `places` rows, evenly from each class."""
    if len(class_ids) <= places:
        return np.arange(len(class_ids))
    by_class = np.argsort(class_ids, kind="stable")
    return np.sort(by_class[np.linspace(0, len(by_class) - 1, places).round().astype(int)])


def _choose_scale(units, class_ids, classes, views):
    """The scale that makes photos most probable by the votes of all other photos."""
    photo_count = len(units) // views
    asked = np.linspace(0, photo_count - 1, min(photo_count, MOST_ASKED)).round().astype(int)
    cosines = units[asked] @ units.T
    for view in range(views):
        cosines[np.arange(len(asked)), asked + view * photo_count] = -np.inf
    is_class = np.equal.outer(class_ids, np.arange(classes)).astype(np.float32)
    losses = []
    for scale in SCALES:
        votes = np.exp(scale * (cosines - cosines.max(axis=1, keepdims=True)))
        shares = (votes @ is_class) / votes.sum(axis=1, keepdims=True)
        true_shares = shares[np.arange(len(asked)), class_ids[asked]]
        losses.append(-np.log(np.maximum(true_shares, 1e-6)).mean())
    return float(SCALES[int(np.argmin(losses))])
