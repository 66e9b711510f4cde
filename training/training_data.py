"""What a training learns from and what validates it, from its options."""

import numpy as np

from common.console import say
from common.errors import InputError
from data import parts
from data.groups import check_several, describe_sizes, name_groups
from data.labelled_data import read_labelled
from data.several_places import join, paths_of, read_each
from data.splitting import split


def read_data(options, each_data=None):
    """Reads what a training learns from and what validates it.

    Args:
        options: the options of `--mode train`.
        each_data: list of `LabelledData`, what is at --train_data where it has been read already.

    Returns:
        (`LabelledData` of --train_data, `Samples` to train on, `Samples` to validate on).

    Raises:
        InputError: the data cannot be read, or are too few.
    """
    paths = paths_of(options.train_data)
    each_data = each_data or read_each(paths, labels_path=options.labels, rule=options.group)
    data = each_data[0]._replace(samples=join([one.samples for one in each_data]))
    _, class_names, names_from = data
    if len(class_names) < 2:
        raise InputError(f"{names_from}: has one class; a classifier needs at least 2")
    has_parts = _have_parts(paths)
    training, validation = data.samples, None
    if has_parts:
        each_part = [_of_parts(*place, options) for place in zip(paths, each_data)]
        training, validation = (join([pair[part] for pair in each_part]) for part in (0, 1))
    if options.val_data:
        if options.group and not has_parts:
            say(
                "note: --group: nothing is split, as there is --val_data; --mode audit --group "
                f"{options.group} names the groups that are in both"
            )
        validation = read_labelled(
            options.val_data, class_names, names_from, rule=options.group
        ).samples
        return data, training, validation
    if has_parts:
        return data, training, validation
    return data, *hold_out(data, options, names=group_names(each_data, options))


def _have_parts(paths):
    """Whether the training data have tables of parts: all of them, or none."""
    with_parts = [path for path in paths if parts.exists(path)]
    without = [path for path in paths if path not in with_parts]
    if with_parts and without:
        raise InputError(
            f"--train_data: {with_parts[0]} has a table of parts and {without[0]} has none; --mode "
            f"split --data {without[0]} makes it"
        )
    return bool(with_parts)


def _of_parts(path, data, options):
    """The samples of one place to train and to validate on, by its table of parts."""
    # That of a run is no wish of this command: the table may be younger than the run.
    rule = options.group if "group" in options.given else None
    assignment = parts.update(
        path, data.samples, workers=options.workers, rule=rule, class_names=data.class_names
    )
    if assignment.added:
        say(f"note: {assignment.path}: {assignment.added} photos are new and got a part")
    counts = np.bincount(assignment.parts, minlength=len(parts.PARTS))
    say(
        f"{assignment.path}: {counts[0]:,} to train, {counts[1]:,} to validate, {counts[2]:,} "
        "kept for the test"
    )
    return tuple(parts.select(data.samples, assignment, name) for name in ("train", "val"))


def group_names(each_data, options):
    """The groups that the training data form by `--group`, of which none is on two sides.

    Args:
        each_data: list of `LabelledData`, what is at the places of --train_data.
        options: the options of `--mode train`.

    Returns:
        list of str, the group of each photo, "" for one without; None without `--group`.

    Raises:
        InputError: as of `groups.name_groups`, or all photos are in one group.
    """
    if not options.group:
        return None
    names = []
    for path, (samples, class_names, _) in zip(paths_of(options.train_data), each_data):
        names += name_groups(samples, options.group, path, class_names, options.workers)
    check_several(names, options.group)
    say(f"--group {options.group}: {describe_sizes(list(filter(None, names)))}")
    return names


def hold_out(data, options, near=True, names=None):
    """Holds a part of the training data out for validation.

    Args:
        data: `LabelledData` of --train_data.
        options: the options of `--mode train`.
        near: bool, whether near copies stay on one side.
        names: list of str, as of `group_names`, or None.

    Returns:
        (`Samples` to train on, `Samples` to validate on).

    Raises:
        InputError: there are too few.
    """
    training, validation = split(data.samples, options.val_fraction, options.workers, near, names)
    if not validation.file_names:
        raise InputError(
            f"{', '.join(paths_of(options.train_data))}: too few images to hold some out for "
            "validation: every class has only one, or only "
            f"{'one group' if names else 'copies of one'}; add images or name a folder with "
            "--val_data"
        )
    return training, validation
