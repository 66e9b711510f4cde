"""Edits of single rows of a CSV of paths and labels: all other bytes stay as they are."""

import csv
import io
import os
from typing import NamedTuple

from data.csv_labels import BYTE_ORDER_MARK, COLUMNS
from data.file_steps import Edit


class Row(NamedTuple):
    """A row of the CSV.

    Attributes:
        start, end: int, the bytes of the file that it takes, its line break included.
        cells: list of str.
    """

    start: int
    end: int
    cells: list


class CsvRows:
    """The rows of a CSV as they are written.

    Attributes:
        content: bytes of the file.

    Args:
        path: str, a CSV that `csv_labels.read_csv` reads.

    Raises:
        OSError: it cannot be read.

    Example:

    ```python
    rows = CsvRows("photos.csv")
    edit = rows.edit({"glass/1.jpg": "metal"}, added=[("new.jpg", "glass")])
    ```
    """

    def __init__(self, path):
        self._name = os.path.basename(path)
        with open(path, "rb") as csv_file:
            self.content = csv_file.read()
        self._line_end = "\r\n" if b"\r\n" in self.content else "\n"
        rows = _parse(self.content)
        self._header = next(rows).cells
        self._path_column, self._label_column = map(self._header.index, COLUMNS)
        self._rows = {}  # path with "/" -> row
        for row in rows:
            if row.cells:
                self._rows[_key(row.cells[self._path_column])] = row

    def label(self, file_name):
        """The class of an image, str, or None where no row names it.

        Args:
            file_name: str, relative to the CSV's folder, with "/".
        """
        row = self._rows.get(_key(file_name))
        return row and row.cells[self._label_column].strip()

    def edit(self, changed, added=()):
        """The edit of the file that gives images other classes.

        Args:
            changed: dict of path as in the CSV, with "/" -> name of the new class; None removes
                the row.
            added: list of (path, name of the class), new rows.

        Returns:
            `file_steps.Edit`.
        """
        changed_rows = sorted((self._rows[_key(path)], name) for path, name in changed.items())
        pieces, end = [], 0
        for row, class_name in changed_rows:
            pieces.append(self.content[end : row.start])
            end = row.end
            if class_name is not None:
                cells = [*row.cells]
                cells[self._label_column] = class_name
                pieces.append(self._line(cells, self.content[row.start : row.end]))
        pieces.append(self.content[end:])
        first = changed_rows[0][0].start if changed_rows else len(self.content)
        new_content = b"".join(pieces)
        if added and not new_content.endswith((b"\n", b"\r")):
            new_content += self._line_end.encode()
        for path, class_name in added:
            named_cells = dict(zip(COLUMNS, (path, class_name)))
            new_content += self._line([named_cells.get(name, "") for name in self._header])
        last = len(self.content) if added else end
        after_end = len(new_content) - (len(self.content) - last)
        before, after = self.content[first:last], new_content[first:after_end]
        return Edit(self._name, len(self.content), first, before, after)

    def _line(self, cells, old_line=None):
        text = io.StringIO(newline="")
        csv.writer(text).writerow(cells)  # with "\r\n", for both of which cells are quoted
        line_end = self._line_end.encode()
        if old_line is not None:
            line_end = old_line[len(old_line.rstrip(b"\r\n")) :]
        return text.getvalue().removesuffix("\r\n").encode() + line_end


def _key(path):
    return path.replace("\\", "/")


def _parse(content):
    """Yields the rows, the header first."""
    mark = BYTE_ORDER_MARK.encode()
    start = end = len(mark) if content.startswith(mark) else 0
    text = content[start:].decode()

    def lines():
        nonlocal end
        for line in io.StringIO(text, newline=""):
            end += len(line.encode())
            yield line

    for cells in csv.reader(lines()):
        yield Row(start, end, cells)
        start = end
