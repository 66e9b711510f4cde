"""Parts of a data set: which photos train, validate and test, in a table beside them.

`splits.csv` in the folder of the photos (`photos.splits.csv` beside `photos.csv`) names for each
photo the hash of its bytes, its path, its part and the group that it belongs to. A photo is known
by its content: renamed, or moved to another class, it keeps its part. Photos that come later get
a part and move no other. Near copies stay together, and so do the photos of a group that a rule
names, such as those of a recording; the table keeps the rule.
"""

import os
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from data.groups import check_several, name_groups
from data.labelled_data import read_labelled
from data.packed_index import PackedContents
from data.packed_places import is_place, open_place
from data.part_assignment import assign
from data.parts_table import NEW, PARTS, Row, exists, read_rows, table_path, write_rows
from data.splitting import hash_files, join_named, read_groups

ALL = "all"
SHARES = (0.8, 0.1, 0.1)


class Assignment(NamedTuple):
    """The parts of some photos.

    Attributes:
        parts: int (N,), positions in `PARTS`.
        contents: sequence of N str, the hash of each photo.
        added: int, number of photos that had no part before.
        path: str, the table.
    """

    parts: np.ndarray
    contents: list
    added: int
    path: str


def update(
    data, samples, shares=None, workers=1, write=True, must_keep=True, rule=None, class_names=None
):
    """Gives each photo its part: the one that it has, or a new one.

    Args:
        data: str, the folder or the CSV file that the samples are from.
        samples: `samples.Samples`, N photos.
        shares: tuple of 3 float that add up to 1, of the parts; None is `SHARES`, or those that
            the table's photos have where these are others.
        workers: int, threads that read and decode new photos.
        write: bool, whether the table is written where it has changed.
        must_keep: bool, whether a table that cannot be written is an error; else a note.
        rule: str, by which photos form groups, as of `--group`; None is the table's.
        class_names: tuple of str, for the rule "folder".

    Returns:
        `Assignment`.

    Raises:
        InputError: the table is damaged, a new one cannot be written, or a photo cannot be read;
            the rule gives no groups, or is another one than the table's.

    Example:

    ```python
    data, samples = "photos", read_labelled("photos").samples
    test = samples.select(np.flatnonzero(update(data, samples).parts == PARTS.index("test")))
    ```
    """
    if is_place(data):
        return _of_place(data, samples, rule)
    path = table_path(data)
    rows = read_rows(path) if exists(data) else []
    rule = _agreed_rule(path, rows, rule)
    stamps = [_stamp(os.path.join(samples.folder, name)) for name in samples.file_names]
    names = [name.replace(os.sep, "/") for name in samples.file_names]
    known_rows = {(row.path, row.size, row.modified): row for row in rows}
    current = [known_rows.get((name, *stamp)) for name, stamp in zip(names, stamps)]
    if all(current):
        parts = np.array([PARTS.index(row.part) for row in current])
        return Assignment(parts, [row.content for row in current], 0, path)
    group_names = [""] * len(names)
    if rule:
        group_names = name_groups(samples, rule, data, class_names, workers)
    if rule and not rows:
        check_several(group_names, rule)
    contents, leaders, parts = _decide(samples, rows, shares, group_names, workers)
    added = _old_rows(rows, names, contents).count(None)
    new_rows = [
        Row(content, name, PARTS[part], contents[leader], *stamp, group_name, rule or "")
        for content, name, part, leader, stamp, group_name in zip(
            contents, names, parts, leaders, stamps, group_names
        )
    ]
    if write:
        write_rows(path, new_rows + _gone(rows, new_rows), must_keep and added)
    return Assignment(parts, contents, added, path)


def _of_place(data, samples, rule):
    """The `Assignment` that the index of a packed place holds.

    None is made where it holds none: near copies and groups would have to be looked for in all
    photos, and the index of a place is the same for everybody who reads it.
    """
    place = open_place(data)
    if not place.has_parts:
        raise InputError(
            f"{data}: its photos have no parts: assign them with --mode split --data DIR before "
            "--mode pack, or name the place as --train_data"
        )
    if rule and rule != place.rule:
        raise InputError(
            f"--group: {rule}: the photos in {data} have parts "
            f"{f'by {place.rule}' if place.rule else 'without a rule'}; split the loose photos "
            "anew and pack them into another place"
        )
    names = samples.file_names
    return Assignment(names.column("part"), PackedContents(names), 0, table_path(data))


def select(samples, assignment, part):
    """The photos of a part.

    Args:
        samples: `samples.Samples`.
        assignment: `Assignment` of these.
        part: str, one of `PARTS`, or "all".

    Returns:
        `Samples`.

    Raises:
        InputError: there are none.
    """
    if part == ALL:
        return samples
    positions = np.flatnonzero(assignment.parts == PARTS.index(part))
    if not len(positions):
        raise InputError(
            f"{assignment.path}: no photo is in the part {part}; add photos, or name another --part"
        )
    return samples.select(positions)


def read_part(data, part, class_names, names_from, workers=1, default="test"):
    """Reads labelled photos to measure a model on: one part of them where they have parts.

    Args:
        data: str, a folder or a CSV file.
        part: str, one of `PARTS` or "all"; None is `default` where the data have parts.
        class_names: tuple of str, the classes of the model.
        names_from: str, what errors call the place of these.
        workers: int, threads that read photos that have no part yet.
        default: str, one of `PARTS`.

    Returns:
        `Samples`.

    Raises:
        InputError: as of `read_labelled` and `update`; the data have no parts, or none in this one.
    """
    samples, class_names, _ = read_labelled(data, class_names, names_from)
    if not exists(data):
        if part not in (None, ALL):
            raise InputError(
                f"--part: {part}: {table_path(data)} does not exist; --mode split --data {data} "
                "makes it"
            )
        return samples
    if part == ALL:
        return samples
    assignment = update(data, samples, workers=workers, must_keep=False, class_names=class_names)
    selected = select(samples, assignment, part or default)
    say(f"{assignment.path}: {len(selected.file_names):,} photos of part {part or default}")
    return selected


def measured_part(data, part, default="test"):
    """The part that `read_part` reads.

    Args:
        data: str, a folder or a CSV file.
        part: str, one of `PARTS` or "all"; or None.
        default: str, one of `PARTS`.
    """
    return part or (default if exists(data) else ALL)


def describe_gaps(assignment, class_ids, class_names):
    """Says which classes a part lacks.

    Args:
        assignment: `Assignment`.
        class_ids: int (N,), of the same photos.
        class_names: tuple of str.
    """
    for part, name in enumerate(PARTS):
        counts = np.bincount(class_ids[assignment.parts == part], minlength=len(class_names))
        empty = [class_names[class_id] for class_id in np.flatnonzero(counts == 0)]
        if counts.any() and empty:
            say(
                f"note: {assignment.path}: the part {name} has no photo of {first_ten(empty)}, "
                "which has too few: add photos"
            )


def names_of_part(data, part):
    """set of str, the photos of a part as their table names them, relative to its folder.

    Args:
        data: str, a folder or a CSV file with a table of parts.
        part: str, one of `PARTS`.

    Raises:
        InputError: the table is damaged.
    """
    if is_place(data):
        names = open_place(data).names
        return set(names[np.flatnonzero(names.column("part") == PARTS.index(part))])
    rows = read_rows(table_path(data))
    return {row.path.replace("/", os.sep) for row in rows if row.part == part}


def hash_photos(places, paths, workers=1):
    """`splitting.hash_files`, which does not read photos that a table of parts knows unchanged.

    Args:
        places: list of str, folders and CSV files that may have tables.
        paths: list of N str, the photos.
        workers: int, threads that read.

    Returns:
        uint64 (N,), 0 for a file that cannot be read.

    Raises:
        InputError: a table is damaged.
    """
    known = {}
    loose = [data for data in places if not is_place(data) and exists(data)]
    for table in map(table_path, loose):
        folder = os.path.dirname(os.path.abspath(table))
        for row in read_rows(table):
            photo = os.path.join(folder, row.path.replace("/", os.sep))
            known[photo, row.size, row.modified] = row.content
    hashes, unknown = np.zeros(len(paths), np.uint64), []
    for position, path in enumerate(paths):
        try:
            hashes[position] = int(known[os.path.abspath(path), *_stamp(path)], 16)
        except (InputError, KeyError, ValueError):
            unknown.append(position)
    hashes[unknown] = hash_files([paths[position] for position in unknown], workers)
    return hashes


def _stamp(path):
    """(bytes, time of the last change) of a file."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    return status.st_size, status.st_mtime_ns


def _agreed_rule(path, rows, rule):
    """The rule of a table, or the one asked for where there is no table yet; None is no rule."""
    if not rows:
        return rule
    if rule and rule != rows[0].rule:
        old = f"by {rows[0].rule}" if rows[0].rule else "without one"
        raise InputError(
            f"--group: {rule}: the photos in {path} have parts {old}, so a group may be on two "
            "sides; delete it to split anew"
        )
    return rows[0].rule or None


def _decide(samples, rows, shares, group_names, workers):
    """Decides the parts; changes `group_names` to those that the table has.

    Returns:
        (N hashes; int (N,), the position of each photo's leader; int (N,), the parts).
    """
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    hashes, leaders = read_groups(paths, workers=workers)
    contents = [f"{int(value):016x}" for value in hashes]
    names = [name.replace(os.sep, "/") for name in samples.file_names]
    old_rows = _old_rows(rows, names, contents)
    old_parts = np.array([PARTS.index(row.part) if row else NEW for row in old_rows])
    if any(group_names):
        for position, row in enumerate(old_rows):
            group_names[position] = row.group_name if row else group_names[position]
        # Before near copies have a say: a group that has a part keeps it, even if its photos left.
        known_parts = {row.group_name: PARTS.index(row.part) for row in rows if row.group_name}
        given = [known_parts.get(name, NEW) for name in group_names]
        old_parts = np.where(old_parts == NEW, given, old_parts)
        leaders = join_named(hashes, leaders, group_names)
    if shares is None:
        shares = _shares_of(old_parts, samples.class_ids)
    ranks = np.argsort(np.argsort(hashes, kind="stable"))
    parts = assign(ranks[leaders], samples.class_ids, shares, old_parts)
    return contents, leaders, parts


def _old_rows(rows, names, contents):
    """list of N `Row` or None, by the content of each photo, or where it was changed, its path."""
    by_content = {row.content: row for row in rows}
    present = set(contents)
    by_path = {row.path: row for row in rows if row.content not in present}
    return [by_content.get(content, by_path.get(name)) for name, content in zip(names, contents)]


def _shares_of(old_parts, class_ids):
    """`SHARES`, unless the photos that have a part were split otherwise."""
    is_old = old_parts != NEW
    counts = np.zeros((class_ids.max() + 1, len(PARTS)))
    np.add.at(counts, (class_ids[is_old], old_parts[is_old]), 1)
    totals = counts.sum(axis=1, keepdims=True)
    if (np.abs(counts - totals * SHARES) < 1).all():  # rounding alone explains it
        return SHARES
    return tuple(counts.sum(axis=0) / counts.sum())


def _gone(rows, new_rows):
    """Rows of photos that are not there now: they may come back."""
    contents, paths = {row.content for row in new_rows}, {row.path for row in new_rows}
    return [row for row in rows if row.content not in contents and row.path not in paths]
