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
    views = 2 if options.horizontal_flip else 1
    if options.head is None:  # the start of a fine-tuning, for which any penalty is as good
        balanced = _balances(options)
        solution = linear_head.solve(features, class_ids, sample_weight, classes, balanced)
        return {PREDICTIONS: solution} if solution else {}
    counts = sample_weight > 0  # of a photo that cannot be decoded no view does
    features, class_ids = features[counts], class_ids[counts]
    if len(np.unique(class_ids)) < 2:
        return {}
    if options.head == "linear":
        balanced = _balances(options)
        penalty_c = linear_head.choose_penalty(features, class_ids, views, balanced)
        ones = np.ones(len(class_ids), np.float32)
        return {
            PREDICTIONS: linear_head.solve(features, class_ids, ones, classes, balanced, penalty_c)
        }
    if options.head == "prototype":
        return {PREDICTIONS: prototype_head.solve(features, class_ids, classes, views)}
    kernel, bias, votes = neighbours_head.solve(
        features, class_ids, classes, options.neighbour_count, views
    )
    return {NEIGHBOURS: [kernel, bias], PREDICTIONS: [votes]}


def _balances(options):
    return options.sampler == "balanced" or options.class_weights != "none"
