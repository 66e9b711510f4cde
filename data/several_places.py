"""Labelled images of several places as one data set: `--train_data A B`."""

import os

import numpy as np

from common.errors import InputError, first_ten
from data.class_spelling import natural_key, normalize
from data.labelled_data import LabelledData, match_classes, read_labelled
from data.object_stores import is_remote
from data.packed_index import PackedNames
from data.samples import Samples


def paths_of(data):
    """tuple of str, the folders and files of data that may be one or several.

    Args:
        data: str, or tuple of str.
    """
    return (data,) if isinstance(data, str) else tuple(data)


def read_all(data, class_names=None, names_from=None, labels_path=None, rule=None):
    """Reads labelled images of one place or several, as one data set.

    Args:
        data: str, or tuple of str.
        class_names, names_from, labels_path, rule: as of `labelled_data.read_labelled`.

    Returns:
        `LabelledData`.

    Raises:
        InputError: as of `read_each`.

    Example:

    ```python
    read_all(("photos", "more")).class_names  # ("glass", "metal"), the classes of both
    ```
    """
    each_data = read_each(paths_of(data), class_names, names_from, labels_path, rule)
    return each_data[0]._replace(samples=join([one.samples for one in each_data]))


def read_each(paths, class_names=None, names_from=None, labels_path=None, rule=None):
    """Reads labelled images of several places, with the same class ids for all.

    Args:
        paths: tuple of str, folders and CSV files, none inside another.
        class_names, names_from, labels_path, rule: as of `read_labelled`. Without names the
            classes are those of all places together, in the order of their names.

    Returns:
        List of `LabelledData`, in the order of the paths.

    Raises:
        InputError: as of `read_labelled`; one place is inside another; or no packed place has the
            classes of all packed ones.

    Example:

    ```python
    [len(data.samples.file_names) for data in read_each(("photos", "more"))]  # [120, 30]
    ```
    """
    _check_apart(paths)
    each_data = [read_labelled(path, class_names, names_from, labels_path, rule) for path in paths]
    all_names = [data.class_names for data in each_data]
    if len(set(all_names)) == 1:
        return each_data
    _check_packed_classes(paths, each_data)
    class_names = tuple(
        sorted({normalize(n) for names in all_names for n in names}, key=natural_key)
    )
    names_from = ", ".join(paths)
    return [
        LabelledData(
            data.samples._replace(
                class_ids=match_classes(
                    path,
                    [data.class_names[class_id] for class_id in data.samples.class_ids],
                    class_names,
                    names_from,
                )
            ),
            class_names,
            names_from,
        )
        for path, data in zip(paths, each_data)
    ]


def _check_packed_classes(paths, each_data):
    """Refuses packed places of which each has a class that the others lack.

    Folders are named by what lies in them, so that they may bring new classes. A packed place says
    itself which classes its data set has: two that differ are of two data sets, or one spells a
    class in another way.
    """
    packed = [
        (path, {*map(normalize, data.class_names)})
        for path, data in zip(paths, each_data)
        if isinstance(data.samples.file_names, PackedNames)
    ]
    if not packed:
        return
    full_path, full_names = max(packed, key=lambda pair: len(pair[1]))
    for path, names in packed:
        if unknown := sorted(names - full_names, key=natural_key):
            missing = sorted(full_names - names, key=natural_key)
            raise InputError(
                f"{path}: is packed with other classes than {full_path}: only it has "
                f"{first_ten(unknown)}; only {full_path} has {first_ten(missing)}; allowed are "
                "places of which one has the classes of all; name all classes with --labels FILE, "
                "or unpack one, correct its classes and pack it again"
            )


def _check_apart(paths):
    """Refuses a place that is inside another: its images would count twice."""
    places = [os.path.join(os.path.realpath(path), "") for path in paths]
    for number, place in enumerate(places):
        for other_number, other_place in enumerate(places):
            if number != other_number and place.startswith(other_place):
                raise InputError(
                    f"{paths[number]}: is {paths[other_number]} or inside it; its images would "
                    "count twice"
                )


def join(each_samples):
    """The samples of several folders as those of the folder above them.

    Args:
        each_samples: list of `Samples`, 1 or more.

    Returns:
        `Samples`, in the order of the list.
    """
    if len(each_samples) == 1:
        return each_samples[0]
    class_ids = np.concatenate([samples.class_ids for samples in each_samples])
    if any(isinstance(samples.file_names, PackedNames) for samples in each_samples):
        return Samples("", _whole_paths(each_samples), class_ids)
    folders = [os.path.abspath(samples.folder) for samples in each_samples]
    try:
        root = os.path.commonpath(folders)
    except ValueError:  # drives of Windows
        raise InputError(f"{', '.join(folders)}: are on different drives; copy one over") from None
    file_names = [
        os.path.relpath(os.path.join(folder, file_name), root)
        for folder, samples in zip(folders, each_samples)
        for file_name in samples.file_names
    ]
    return Samples(root, file_names, class_ids)


def _whole_paths(each_samples):
    """list of str, paths and addresses that need no folder: no folder is above all of them."""
    paths = []
    for folder, file_names, _ in each_samples:
        root = folder if is_remote(folder) else os.path.abspath(folder)
        paths += [os.path.join(root, file_name) for file_name in file_names]
    return paths
