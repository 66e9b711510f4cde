"""Heads that are solved on the features of a frozen backbone, instead of trained."""

import numpy as np

from modeling.layer_names import NEIGHBOURS, PREDICTIONS
from training import linear_head, neighbours_head, prototype_head


def solve(options, rows, classes):
    """The weights of a head.

    Args:
        options: the resolved options of `--mode train`.
        rows: (features, class_ids, sample_weight) of `FeatureBatches.rows`.
        classes: int, number of classes C.

    Returns:
        dict of layer name -> list of arrays, as `set_weights` takes them; empty where too few
        photos can be used.
    """
    features, class_ids, sample_weight = rows
    counts = sample_weight > 0  # of a photo that cannot be decoded no view does
    features, class_ids, sample_weight = features[counts], class_ids[counts], sample_weight[counts]
    if len(np.unique(class_ids)) < 2:
        return {}
    views = 2 if options.horizontal_flip else 1
    if options.head in (None, "linear"):
        # For the start of a fine-tuning any penalty is as good.
        folds = linear_head.make_folds(class_ids, views) if options.head else None
        balanced = options.sampler == "balanced" or options.class_weights != "none"
        solution = linear_head.solve(features, class_ids, sample_weight, classes, balanced, folds)
        return {PREDICTIONS: solution}
    if options.head == "prototype":
        return {PREDICTIONS: prototype_head.solve(features, class_ids, classes, views)}
    kernel, bias, votes = neighbours_head.solve(
        features, class_ids, classes, options.neighbour_count, views
    )
    return {NEIGHBOURS: [kernel, bias], PREDICTIONS: [votes]}
