"""Which photos get which part: the shares of each class, by whole groups."""

from collections import defaultdict
from operator import itemgetter

import numpy as np

from data.parts_table import NEW


def assign(groups, class_ids, shares, old_parts):
    """Decides the parts of the photos that have none.

    Of each class every part gets its share as nearly as whole groups allow: a part that would get
    none gets one, if training keeps most. A group stays together: with a member that has a part,
    or else where its classes lack most; one that is more than half of its class trains.

    Args:
        groups: int (N,), equal for photos that stay together. In their order photos are given out,
            so it should be random.
        class_ids: int (N,).
        shares: sequence of P float, 0 to 1, that add up to 1; training's first.
        old_parts: int (N,), 0 to P - 1, or `NEW`; these stay.

    Returns:
        int (N,), 0 to P - 1.

    Example:
        >>> assign(np.arange(10), np.zeros(10, int), (0.8, 0.1, 0.1), np.full(10, NEW))
        array([0, 0, 0, 0, 0, 0, 0, 0, 1, 2])
    """
    parts = np.array(old_parts)
    class_sizes = np.bincount(class_ids)
    missing = np.array([whole_shares(count, shares) for count in class_sizes])
    np.subtract.at(missing, (class_ids[parts != NEW], parts[parts != NEW]), 1)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    new_groups = []
    for members in sorted(np.split(order, starts), key=len, reverse=True):
        is_new = parts[members] == NEW
        if not is_new.any():
            continue
        if is_new.all():
            part = _choose_part(np.bincount(class_ids[members]), class_sizes, missing)
            new_groups.append(members)
        else:
            part = np.bincount(parts[members][~is_new]).argmax()
        added = members[is_new]
        parts[added] = part
        np.subtract.at(missing, (class_ids[added], part), 1)
    _fill_empty_parts(parts, class_ids, shares, [one for one in new_groups if len(one) > 1])
    return parts


def _choose_part(counts, class_sizes, missing):
    """The part of a group with `counts` photos of the first classes, none of the others."""
    class_id = counts.argmax()
    if counts.sum() > 1 and 2 * counts[class_id] > class_sizes[class_id]:
        return 0
    return (counts @ missing[: len(counts)]).argmax()  # the nearest by least squares


def _fill_empty_parts(parts, class_ids, shares, new_groups):
    """Moves whole groups where a class lacks a part, or training; changes `parts`.

    A part that is empty gets the smallest group of the class from training, if that keeps at least
    half of each class.
    """
    class_sizes = np.bincount(class_ids)
    groups_of_classes = defaultdict(list)
    for members in new_groups:
        for class_id, count in zip(*np.unique(class_ids[members], return_counts=True)):
            groups_of_classes[class_id].append((count, members))

    def counts(positions):
        return np.bincount(class_ids[positions], minlength=len(class_sizes))

    def without(part):
        return np.flatnonzero((counts(parts == part) == 0) & (class_sizes > 0))

    def candidates(class_id):
        return [members for _, members in sorted(groups_of_classes[class_id], key=itemgetter(0))]

    for part in [part for part in range(1, len(shares)) if shares[part] > 0]:
        for class_id in without(part):
            if (parts[class_ids == class_id] == part).any():  # came with a group of another class
                continue
            for members in candidates(class_id):
                own = counts(members)
                keeps_half = 2 * (counts(parts == 0) - own) >= class_sizes
                if parts[members[0]] == 0 and (keeps_half | (own == 0)).all():
                    parts[members] = part
                    break
    for class_id in without(0):
        if candidates(class_id) and not (parts[class_ids == class_id] == 0).any():
            parts[candidates(class_id)[-1]] = 0


def whole_shares(count, shares):
    """How many of some photos each part gets: within one photo of its share.

    Args:
        count: int, photos of a class.
        shares: sequence of float, 0 to 1, that add up to 1; the first is that of training.

    Returns:
        int array; a part with a share above 0 is empty only where there are too few photos.

    Example:
        >>> whole_shares(9, (0.8, 0.1, 0.1)), whole_shares(3, (0.8, 0.1, 0.1))
        (array([7, 1, 1]), array([2, 1, 0]))
    """
    exact = np.round(np.multiply(count, shares), 9)
    whole = np.floor(exact).astype(int)
    is_empty = (whole == 0) & (exact > 0)
    # Empty parts first, training before all; then those that lose most by rounding down.
    order = np.lexsort((np.arange(len(whole)), -(exact - whole), ~is_empty))
    whole[order[: count - whole.sum()]] += 1
    return whole
