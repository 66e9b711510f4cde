"""Groups of photos that belong together: a recording, a camera, a patient, a day.

Photos of one group resemble each other in more than their class, so a model that has seen one
knows something about the others. `--group` names the rule by which photos form groups; wherever
photos are split a group stays on one side, as near copies do.
"""

import os
import re
import warnings
from collections import Counter

import numpy as np

from common.console import say
from common.errors import InputError
from data.class_spelling import normalize
from data.csv_labels import read_column
from data.exif import read_capture
from data.image_files import GROUPS
from data.labelled_data import FOLDER
from data.packed_index import PackedNames
from data.splitting import map_images

DATE, CAMERA, PATTERN, CSV = "date", "camera", "pattern", "csv"
# What photos without a group lack, by kind of rule
LACKS = {
    FOLDER: "are in no folder below that of their class",
    DATE: "have no EXIF date",
    CAMERA: "have no EXIF camera",
    PATTERN: "do not match",
    CSV: "have no value in the column",
}
ALONE = "each of them is a group of its own"


def read_groups_by(samples, rule, data=None, class_names=None, workers=1):
    """Names the group of each photo.

    Args:
        samples: `samples.Samples`, N photos.
        rule: str, as of `--group`: "folder", "date", "camera", "pattern:REGEX" or "csv:COLUMN".
        data: str, the folder or the CSV file that the samples are from; None is their folder.
        class_names: tuple of str, with which "folder" knows where the folder of a class ends;
            None takes the first folder for the class.
        workers: int, threads that read EXIF blocks.

    Returns:
        list of N str. A photo to which the rule gives no group is one of its own, named by its
        path; how many these are is said in a line.

    Raises:
        InputError: the rule is wrong, gives no photo a group, or gives all photos the same one.

    Example:

    ```python
    samples, class_names, _ = read_labelled("photos")
    read_groups_by(samples, "date", "photos")  # ["2024-05-01", "2024-05-01", "2024-05-02"]
    ```
    """
    names = name_groups(samples, rule, data, class_names, workers)
    check_several(names, rule)
    return [name or path for name, path in zip(names, _paths(samples))]


def name_groups(samples, rule, data=None, class_names=None, workers=1, others=ALONE):
    """Names the group of each photo that has one.

    Args:
        samples, rule, data, class_names, workers: as of `read_groups_by`.
        others: str, what a line says of the photos to which the rule gives no group.

    Returns:
        list of N str, "" for a photo to which the rule gives no group.

    Raises:
        InputError: the rule is wrong, or gives no photo a group.

    Example:

    ```python
    name_groups(read_labelled("photos").samples, "date")  # ["2024-05-01", "2024-05-01", ""]
    ```
    """
    data = data or samples.folder
    if isinstance(samples.file_names, PackedNames):
        return _packed_groups(samples.file_names, rule, data)
    kind, _, detail = rule.partition(":")
    if kind == FOLDER:
        names = _folders(samples, class_names, os.path.isfile(data))
    elif kind in (DATE, CAMERA):
        names = _captures(samples, kind, workers)
    elif kind == PATTERN:
        names = _matches(samples, detail)
    elif kind == CSV and detail:
        names = _values(samples, detail, data)
    else:
        raise InputError(
            f"--group: {rule!r} is no rule; allowed: folder, date, camera, pattern:REGEX and "
            "csv:COLUMN"
        )
    without = names.count("")
    if without == len(names):
        raise InputError(
            f"--group: {rule}: the {len(names):,} photos of {data} {LACKS[kind]}; name another rule"
        )
    if without:
        say(f"note: --group {rule}: {without:,} of {len(names):,} photos {LACKS[kind]}; {others}")
    return names


def _packed_groups(names, rule, data):
    """The groups that the index of a packed place has, which are by one rule alone."""
    if rule != names.place.rule:
        has = f"by {names.place.rule}" if names.place.rule else "without groups"
        raise InputError(
            f"--group: {rule}: the photos of {data} were packed {has}; split the loose photos with "
            "--group and pack them into another place"
        )
    group_names = np.array([*names.place.group_names, ""], object)  # NO_GROUP is the last
    return group_names[names.column("group")].tolist()


def check_several(names, rule):
    """Refuses groups that cannot be split.

    Args:
        names: list of str, the group of each photo; "" is one of its own.
        rule: str, as of `read_groups_by`.

    Raises:
        InputError: all photos are in one group.
    """
    if len(set(names)) == 1 and names[0]:
        raise InputError(
            f"--group: {rule}: all {len(names):,} photos are in one group, {names[0]!r}; at least "
            "2 groups are needed: name another rule"
        )


def describe_sizes(names):
    """How many groups there are and how large, for a line.

    Args:
        names: list of str, the group of each photo.

    Example:
        >>> describe_sizes(["a", "a", "a", "b"])
        '2 groups of 1 to 3 photos'
    """
    sizes = Counter(names).values()
    return f"{len(sizes):,} groups of {min(sizes):,} to {max(sizes):,} photos"


def _paths(samples):
    return [name.replace(os.sep, "/") for name in samples.file_names]


def _folders(samples, class_names, is_csv):
    """The first folder below that of a photo's class; of a CSV, the one that a photo is in."""
    names = []
    for path, class_id in zip(_paths(samples), samples.class_ids):
        folders = path.split("/")[:-1]
        if is_csv:
            names.append("".join(folders[-1:]))
            continue
        class_folders = class_names[class_id].split("/") if class_names else folders[:1]
        own_folders = [*map(normalize, folders)]
        is_inside = own_folders[: len(class_folders)] == [*map(normalize, class_folders)]
        names.append("".join(folders[len(class_folders) :][:1]) if is_inside else "")
    return names


def _captures(samples, kind, workers):
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    # On this thread, for all of them; blocks that are damaged are the audit's work.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captures = list(map_images(read_capture, paths, "reading EXIF", workers))
    return [capture.day if kind == DATE else capture.camera for capture in captures]


def _matches(samples, pattern):
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"--group: {pattern!r} is not a regular expression: {error}; write, for example, "
            r"'pattern:^(.*)_\d+\.'"
        ) from None
    matches = map(regex.search, _paths(samples))
    return [(match[1 if regex.groups else 0] or "") if match else "" for match in matches]


def _values(samples, column, data):
    table = data if os.path.isfile(data) else os.path.join(data, GROUPS)
    if not os.path.isfile(table):
        raise InputError(
            f"--group: csv:{column}: {table} does not exist; a folder of photos needs it, with the "
            f"columns path and {column}"
        )
    values = read_column(table, column)
    return [values.get(path, "") for path in _paths(samples)]
