"""splits.csv: the table of a data set's parts, written and read here and nowhere else."""

import os
from typing import NamedTuple

from common.console import say
from common.errors import InputError
from common.tables import read_table, write_table
from data.packed_index import DESCRIPTION, PARTS
from data.packed_places import is_place, open_place

FILE_NAME = "splits.csv"
COLUMNS = ("hash", "path", "part", "group", "bytes", "modified")
COLUMNS_OF_A_RULE = ("group_name", "rule")
NEW = -1  # in place of a part, or of bytes


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        content: str, 16 hexadecimal digits of the hash of the file's bytes.
        path: str, relative to the table's folder, with "/".
        part: str, one of `PARTS`.
        group: str, the hash of the photo that stands for all that stay together: near copies,
            and with a rule those of one named group.
        size: int, bytes of the file.
        modified: int, when it was changed, in nanoseconds: where every file has the path, size
            and time that it had, none is read again.
        group_name: str, the name of its group by the rule; "" where it has none.
        rule: str, the rule of `--group` by which the photos were split, the same in all lines; ""
            for near copies alone.
    """

    content: str
    path: str
    part: str
    group: str
    size: int
    modified: int
    group_name: str = ""
    rule: str = ""


def table_path(data):
    """Path of the table that belongs to a data set; of a packed place that of its index.

    Args:
        data: str, a folder, a CSV file or a packed place.

    Example:
        >>> table_path("photos"), table_path("photos.csv")
        ('photos/splits.csv', 'photos.splits.csv')
    """
    if os.path.isfile(data):
        return f"{os.path.splitext(data)[0]}.{FILE_NAME}"
    if is_place(data):
        return os.path.join(data, DESCRIPTION)
    return os.path.join(data, FILE_NAME)


def exists(data):
    """Whether a data set has a table of parts, or its index says them.

    Args:
        data: str, a folder, a CSV file or a packed place.
    """
    return open_place(data).has_parts if is_place(data) else os.path.exists(table_path(data))


def rule_of(data):
    """The rule of `--group` by which a data set was split.

    Args:
        data: str, a folder or a CSV file.

    Returns:
        str, or None: by near copies alone, or there is no table.

    Raises:
        InputError: the table is damaged.
    """
    if is_place(data):
        return open_place(data).rule
    if not exists(data):
        return None
    _, cells = next(read_table(table_path(data), COLUMNS, "split"), (None, {}))
    return cells.get("rule") or None


def read_rows(path):
    """Reads a table.

    Args:
        path: str, as of `table_path`.

    Returns:
        list of `Row`.

    Raises:
        InputError: it is damaged.
    """
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
        named = [cells.get(name) or "" for name in COLUMNS_OF_A_RULE]
        rows.append(
            Row(cells["hash"], cells["path"], cells["part"], cells["group"], *stamp, *named)
        )
    return rows


def write_rows(path, rows, must_keep):
    """Writes a table, without the columns of a rule where it has none.

    Args:
        path: str, as of `table_path`.
        rows: list of `Row`, at least one.
        must_keep: bool, whether it is an error that it cannot be written; else a note.

    Raises:
        InputError: it cannot be written, and must be.
    """
    columns = COLUMNS + (COLUMNS_OF_A_RULE if rows[0].rule else ())
    try:
        write_table(path, columns, [row[: len(columns)] for row in rows])
    except OSError as error:
        problem = f"{path}: cannot be written: {error.strerror}"
        if must_keep:
            raise InputError(f"{problem}; the parts of a data set stand beside it") from None
        say(f"note: {problem}; the parts of photos that are new are not kept")
