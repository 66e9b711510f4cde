"""Attributes of photos beside their class: camera, site, lighting, from a CSV or from `--group`."""

import os
from typing import NamedTuple

from common.console import say
from common.errors import InputError
from data.csv_labels import COLUMNS, read_cells
from data.groups import check_several, name_groups


class Attribute(NamedTuple):
    """What is known of each photo by one attribute.

    Attributes:
        name: str, the column of the CSV, or "--group RULE".
        values: list of N str, "" for a photo of which it is not known.
    """

    name: str
    values: list


def read_attributes(table, rule, samples, data, class_names, workers=1):
    """Reads the attributes that `--attributes` and `--group` name.

    Args:
        table: str, a CSV as of `read_table`, or None.
        rule: str, as of `--group`, or None.
        samples: `samples.Samples`, N photos.
        data: str, the folder or the CSV file that the samples are from.
        class_names: tuple of str, for the rule "folder".
        workers: int, threads that read EXIF blocks.

    Returns:
        list of `Attribute`, empty where there is neither.

    Raises:
        InputError: as of `read_table` and `groups.name_groups`; all photos are in one group.

    Example:

    ```python
    read_attributes("photos.csv", "date", samples, "photos", class_names)
    ```
    """
    attributes = read_table(table, samples) if table else []
    if rule:
        others = "they are left out of its slices"
        names = name_groups(samples, rule, data, class_names, workers, others)
        check_several(names, rule)
        attributes.append(Attribute(f"--group {rule}", names))
    return attributes


def read_table(path, samples):
    """Reads a CSV with a column path and a column per attribute.

    A column label is the class, as in a CSV that names a data set, and no attribute. Photos that
    the CSV does not list have no values, which a line says; so does one for paths that lead to no
    photo. Photos of other parts of the data set may be listed.

    Args:
        path: str, the CSV. Paths in it are relative to the folder of the photos, or else to its
            own, with "/" or backslashes.
        samples: `samples.Samples`, N photos.

    Returns:
        list of `Attribute`, in the order of the columns.

    Raises:
        InputError: the CSV cannot be read, has no column path or no other one, lists none of the
            photos, or gives one of them two values; with file and line.

    Example:

    ```python
    read_table("attributes.csv", samples)  # [Attribute("camera", ["A17", "", "B02"])]
    ```
    """
    positions = {
        os.path.abspath(os.path.join(samples.folder, name)): position
        for position, name in enumerate(samples.file_names)
    }
    columns, photo_cells, missing_paths, row_count = [], {}, [], 0
    for location, cells in read_cells(path, COLUMNS[:1]):
        columns = columns or _attribute_columns(path, cells)
        row_count += 1
        places = _places(cells["path"], samples.folder, path)
        position = next((positions[place] for place in places if place in positions), None)
        if position is None:
            if not any(map(os.path.isfile, places)):
                missing_paths.append(f"{location}: {cells['path']!r}")
            continue
        row_values = [cells[column].strip() for column in columns]
        known_values = photo_cells.setdefault(position, row_values)
        _check_same(location, cells["path"], columns, known_values, row_values)
    _check_listed(path, row_count, photo_cells, missing_paths, samples)
    empty_values = [""] * len(columns)
    photo_rows = [
        photo_cells.get(position, empty_values) for position in range(len(samples.file_names))
    ]
    return [Attribute(name, list(values)) for name, values in zip(columns, zip(*photo_rows))]


def _attribute_columns(path, cells):
    """The names of the columns that are attributes; those without a name are an index."""
    columns = [column for column in cells if column.strip() and column not in COLUMNS]
    if not columns:
        raise InputError(
            f"--attributes: {path}: has the columns {', '.join(cells)}; needed: path and at least "
            "one attribute, such as camera"
        )
    return columns


def _places(file_name, photo_folder, path):
    """Where a photo of the CSV may be."""
    name = file_name.strip().replace("\\", "/")
    return [
        os.path.abspath(os.path.join(folder, name))
        for folder in (photo_folder, os.path.dirname(path))
    ]


def _check_same(location, file_name, columns, known_values, row_values):
    for column, known_value, value in zip(columns, known_values, row_values):
        if known_value != value:
            raise InputError(
                f"{location}: {file_name!r} has the {column} {value!r}, and {known_value!r} in an "
                "earlier line; keep one of them"
            )


def _check_listed(path, row_count, photo_cells, missing_paths, samples):
    if not row_count:
        raise InputError(f"--attributes: {path}: has no line but the header")
    photo_count = len(samples.file_names)
    if not photo_cells:
        raise InputError(
            f"--attributes: {path}: none of its {row_count:,} paths is one of the {photo_count:,} "
            f"photos measured; write them relative to {samples.folder}, such as "
            f"{samples.file_names[0]!r}"
        )
    if missing_paths:
        say(
            f"note: --attributes: {len(missing_paths):,} of {row_count:,} paths lead to no photo, "
            f"first {missing_paths[0]}"
        )
    if len(photo_cells) < photo_count:
        say(
            f"note: --attributes: {path} does not list {photo_count - len(photo_cells):,} of the "
            f"{photo_count:,} photos; they are left out of its slices"
        )
