"""Tables of files that a person may edit between writing and reading: CSV with a header.

File names that are not UTF-8 survive: their bytes are written and read as they are.
"""

import csv

from common.errors import InputError
from common.files import replacing

ENCODING = {"errors": "surrogateescape", "newline": ""}


def write_table(path, columns, rows):
    """Writes a CSV, whole or not at all.

    Args:
        path: str, the file to write.
        columns: sequence of str, the header.
        rows: iterable of sequences, the values in the order of the columns.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", **ENCODING) as csv_file:
        csv.writer(csv_file).writerows([columns, *rows])


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
        with open(path, encoding="utf-8-sig", **ENCODING) as csv_file:
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
