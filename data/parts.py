"""Parts of a data set: which photos train, validate and test, in a table beside them.

`splits.csv` in the folder of the photos (`photos.splits.csv` beside `photos.csv`) names for each
photo the hash of its bytes, its path, its part and the group that it belongs to. A photo is known
by its content: renamed, or moved to another class, it keeps its part. Photos that come later get
a part and move no other. Near copies stay together.
"""

import os
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from common.tables import read_table, write_table
from data.labelled_data import read_labelled
from data.splitting import hash_files, read_groups

FILE_NAME = "splits.csv"
COLUMNS = ("hash", "path", "part", "group", "bytes", "modified")
PARTS = ("train", "val", "test")
ALL = "all"
SHARES = (0.8, 0.1, 0.1)
NEW = -1  # in place of a part


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        content: str, 16 hexadecimal digits of the hash of the file's bytes.
        path: str, relative to the table's folder, with "/".
        part: str, one of `PARTS`.
        group: str, the hash of the photo that stands for its near copies.
        size: int, bytes of the file.
        modified: int, when it was changed, in nanoseconds: where every file has the path, size
            and time that it had, none is read again.
    """

    content: str
    path: str
    part: str
    group: str
    size: int
    modified: int


class Assignment(NamedTuple):
    """The parts of some photos.

    Attributes:
        parts: int (N,), positions in `PARTS`.
        contents: list of N str, the hash of each photo.
        added: int, number of photos that had no part before.
        path: str, the table.
    """

    parts: np.ndarray
    contents: list
    added: int
    path: str


def table_path(data):
    """Path of the table that belongs to a data set.

    Args:
        data: str, a folder or a CSV file.

    Example:
        >>> table_path("photos"), table_path("photos.csv")
        ('photos/splits.csv', 'photos.splits.csv')
    """
    if os.path.isfile(data):
        return f"{os.path.splitext(data)[0]}.{FILE_NAME}"
    return os.path.join(data, FILE_NAME)


def exists(data):
    """Whether a data set has a table of parts.

    Args:
        data: str, a folder or a CSV file.
    """
    return os.path.exists(table_path(data))


def update(data, samples, shares=None, workers=1, write=True, must_keep=True):
    """Gives each photo its part: the one that it has, or a new one.

    Args:
        data: str, the folder or the CSV file that the samples are from.
        samples: `samples.Samples`, N photos.
        shares: tuple of 3 float that add up to 1, of the parts; None is `SHARES`, or those that
            the table's photos have where these are others.
        workers: int, threads that read and decode new photos.
        write: bool, whether the table is written where it has changed.
        must_keep: bool, whether a table that cannot be written is an error; else a note.

    Returns:
        `Assignment`.

    Raises:
        InputError: the table is damaged, a new one cannot be written, or a photo cannot be read.

    Example:

    ```python
    data, samples = "photos", read_labelled("photos").samples
    test = samples.select(np.flatnonzero(update(data, samples).parts == PARTS.index("test")))
    ```
    """
    path = table_path(data)
    rows = _read(path) if exists(data) else []
    stamps = [_stamp(os.path.join(samples.folder, name)) for name in samples.file_names]
    names = [name.replace(os.sep, "/") for name in samples.file_names]
    known_rows = {(row.path, row.size, row.modified): row for row in rows}
    current = [known_rows.get((name, *stamp)) for name, stamp in zip(names, stamps)]
    if all(current):
        parts = np.array([PARTS.index(row.part) for row in current])
        return Assignment(parts, [row.content for row in current], 0, path)
    contents, leaders, groups = _read_photos(samples, workers)
    old_parts = _old_parts(rows, names, contents)
    if shares is None:
        shares = _shares_of(old_parts, samples.class_ids)
    parts = assign(groups, samples.class_ids, shares, old_parts)
    new_rows = [
        Row(content, name, PARTS[part], contents[leader], *stamp)
        for content, name, part, leader, stamp in zip(contents, names, parts, leaders, stamps)
    ]
    if write:
        _write(path, new_rows + _gone(rows, new_rows), must_keep and (old_parts == NEW).any())
    return Assignment(parts, contents, int((old_parts == NEW).sum()), path)


def assign(groups, class_ids, shares, old_parts):
    """Decides the parts of the photos that have none.

    Of each class every part gets its share as nearly as whole photos allow: a part that would get
    none gets one, if training keeps some. A group stays together: with a member that has a part,
    or else where its class lacks most; one that is more than half of its class trains.

    Args:
        groups: int (N,), equal for photos that stay together. In their order photos are given out,
            so it should be random.
        class_ids: int (N,).
        shares: sequence of 3 float, 0 to 1, that add up to 1.
        old_parts: int (N,), positions in `PARTS`, or `NEW`; these stay.

    Returns:
        int (N,), positions in `PARTS`.

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
    members_of_groups = np.split(order, starts[1:])
    for members in sorted(members_of_groups, key=len, reverse=True):
        is_new = parts[members] == NEW
        if not is_new.any():
            continue
        class_id = np.bincount(class_ids[members]).argmax()
        if not is_new.all():
            part = np.bincount(parts[members][~is_new]).argmax()
        elif len(members) > 1 and 2 * len(members) > class_sizes[class_id]:
            part = 0
        else:
            part = missing[class_id].argmax()
        added = members[is_new]
        parts[added] = part
        np.subtract.at(missing, (class_ids[added], part), 1)
    return parts


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
    samples = read_labelled(data, class_names, names_from).samples
    if not exists(data):
        if part not in (None, ALL):
            raise InputError(
                f"--part: {part}: {table_path(data)} does not exist; --mode split --data {data} "
                "makes it"
            )
        return samples
    if part == ALL:
        return samples
    assignment = update(data, samples, workers=workers, must_keep=False)
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
    rows = _read(table_path(data))
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
    for table in map(table_path, filter(exists, places)):
        folder = os.path.dirname(os.path.abspath(table))
        for row in _read(table):
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


def _read_photos(samples, workers):
    """(N hashes; the position of each photo's leader; groups, in the order of their hashes)."""
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    hashes, leaders = read_groups(paths, workers=workers)
    ranks = np.argsort(np.argsort(hashes, kind="stable"))
    return [f"{int(value):016x}" for value in hashes], leaders, ranks[leaders]


def _old_parts(rows, names, contents):
    """int (N,), the part that each photo has by its content, or where it was changed, its path."""
    by_content = {row.content: PARTS.index(row.part) for row in rows}
    present = set(contents)
    by_path = {row.path: PARTS.index(row.part) for row in rows if row.content not in present}
    return np.array(
        [by_content.get(content, by_path.get(name, NEW)) for name, content in zip(names, contents)]
    )


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


def _read(path):
    rows = []
    for location, cells in read_table(path, COLUMNS, "split"):
        if cells["part"] not in PARTS:
            raise InputError(
                f"{location}: the part is {cells['part']!r}; allowed: {', '.join(PARTS)}"
            )
        try:
            stamp = int(cells["bytes"]), int(cells["modified"])
        except ValueError:  # a spreadsheet has rounded them: the photo is read again
            stamp = NEW, NEW
        rows.append(Row(cells["hash"], cells["path"], cells["part"], cells["group"], *stamp))
    return rows


def _write(path, rows, must_keep):
    try:
        write_table(path, COLUMNS, rows)
    except OSError as error:
        problem = f"{path}: cannot be written: {error.strerror}"
        if must_keep:
            raise InputError(f"{problem}; the parts of a data set stand beside it") from None
        say(f"note: {problem}; the parts of photos that are new are not kept")
