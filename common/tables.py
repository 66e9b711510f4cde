"""Tables that a person may open, and edit between writing and reading: CSV with a header.

They begin with UTF-8's byte order mark, without which Excel takes Chinese names for another
encoding; they are read with or without it. File names that are not UTF-8 survive: their bytes
are written and read as they are. Cells that begin with =, +, - or @ stay as they are, too, since
file names must come back unchanged: a spreadsheet takes such a cell for a formula.
"""

import csv
import itertools

from common.errors import InputError
from common.files import replacing

# Arguments of `open` for reading a table
READING = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}


def write_table(path, columns, rows, errors="surrogateescape"):
    """Writes a CSV, whole or not at all.

    Args:
        path: str, the file to write.
        columns: sequence of str, the header.
        rows: iterable of sequences, the values in the order of the columns.
        errors: str, as of `open`: what becomes of text that is not Unicode. The default writes
            the bytes of a file name as they are.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> write_table("counts.csv", ("class", "images"), [("glass", 12), ("paper", 9)])
    """
    with (
        replacing(path) as partial,
        open(partial, "w", encoding="utf-8-sig", errors=errors, newline="") as csv_file,
    ):
        csv.writer(csv_file).writerows(itertools.chain([columns], rows))


def read_table(path, columns, mode):
    """Reads a CSV that has certain columns, whatever others it has.

    Args:
        path: str, the file.
        columns: sequence of str, the columns needed.
        mode: str, the mode that writes such a table, for messages.

    Yields:
        (str `FILE:LINE`, dict of column -> str), per row.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a row that is too short.
    """
    try:
        with open(path, **READING) as csv_file:
            reader = csv.DictReader(csv_file)
            header = reader.fieldnames or ()
            missing = [name for name in columns if name not in header]
            if missing:
                raise InputError(
                    f"{path}:1: has no column {', '.join(missing)}; needed are "
                    f"{', '.join(columns)}, separated by commas, as --mode {mode} writes them"
                )
            for row in reader:
                location = f"{path}:{reader.line_num}"
                if any(row[name] is None for name in columns):
                    raise InputError(f"{location}: has fewer values than the header has columns")
                yield location, row
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not CSV: {error}") from None
