"""A CSV that names images and their classes: the columns path and label."""

import csv
import io
import os

from common.errors import InputError
from common.files import write_text
from data.image_files import is_image, walk_images
from data.packed_places import is_place, open_place
from data.photo_files import is_packed, is_there
from data.samples import NamedImages

COLUMNS = ["path", "label"]
BYTE_ORDER_MARK = "\ufeff"  # which Excel writes and needs


def read_csv(path, allow_empty=False):
    """Reads the images of a CSV with the columns path and label; further columns are ignored.

    Args:
        path: str, the CSV; paths in it are relative to its folder, with "/" or, as Windows
            writes them, backslashes.
        allow_empty: bool, whether a CSV without images is taken as well.

    Returns:
        `NamedImages`, in the order of the file.

    Raises:
        InputError: a column is missing, an image does not exist or appears twice, a label is
            empty; with file and line.

    Example:

    ```python
    read_csv("photos.csv").image_classes  # ["glass", "metal"]
    ```
    """
    images = NamedImages(os.path.dirname(path) or os.curdir, [], [])
    seen_paths = set()
    for location, cells in read_cells(path):
        file_name = _existing_file(images.folder, cells["path"], location)
        class_name = cells["label"].strip()
        if not class_name:
            raise InputError(f"{location}: the label is empty")
        real_path = os.path.realpath(os.path.join(images.folder, file_name))
        if real_path in seen_paths:
            raise InputError(f"{location}: {cells['path']!r} appears twice")
        seen_paths.add(real_path)
        images.file_names.append(file_name)
        images.image_classes.append(class_name)
    if not images.file_names and not allow_empty:
        raise InputError(f"{path}: has no line but the header")
    return images


def relabel(path, image_path, class_name):
    """Changes the label of one image in a CSV; everything else stays as it is written.

    Args:
        path: str, the CSV.
        image_path: str, the image.
        class_name: str, its new class.

    Raises:
        OSError: the CSV cannot be written, and is as it was.

    Example:

    ```python
    relabel("photos.csv", "photos/1.jpg", "metal")
    ```
    """
    relabel_all(path, {image_path: class_name})


def relabel_all(path, new_classes):
    """Changes the labels of several images in a CSV, in one write.

    Args:
        path: str, the CSV.
        new_classes: dict of str, an image -> name of its new class.

    Raises:
        OSError: the CSV cannot be written, and is as it was.
    """
    text = _read_as_it_is(path)
    folder, names = os.path.dirname(path), set(map(os.path.basename, new_classes))
    wanted = {os.path.realpath(image): class_name for image, class_name in new_classes.items()}
    rows = list(csv.reader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK), newline="")))
    path_column, label_column = map(rows[0].index, COLUMNS)
    for cells in filter(None, rows[1:]):
        for name in (cells[path_column], cells[path_column].replace("\\", "/")):
            if os.path.basename(name) in names:
                real_path = os.path.realpath(os.path.join(folder, name))
                cells[label_column] = wanted.get(real_path, cells[label_column])
    new_text = io.StringIO(newline="")
    csv.writer(new_text, lineterminator=_line_end(text)).writerows(rows)
    mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK) else ""
    # Through a link the file that it leads to is written, and the link stays.
    write_text(os.path.realpath(path), mark + new_text.getvalue())


def add_rows(path, images):
    """Adds images to a CSV; the lines that it has stay as they are, further columns are empty.

    Args:
        path: str, a CSV that `read_csv` reads.
        images: list of (path relative to the CSV's folder, name of its class).

    Raises:
        OSError: the CSV cannot be written; it is as it was.

    Example:
        >>> add_rows("photos.csv", [("glass/3.jpg", "glass")])
    """
    text = _read_as_it_is(path)
    line_end = _line_end(text)
    header = next(csv.reader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK), newline="")))
    new_lines = io.StringIO(newline="")
    writer = csv.DictWriter(new_lines, header, restval="", lineterminator=line_end)
    for image_path, class_name in images:
        writer.writerow(dict(zip(COLUMNS, (image_path.replace(os.sep, "/"), class_name))))
    if not text.endswith(("\n", "\r")):
        text += line_end
    # Through a link the file that it leads to is written, and the link stays.
    write_text(os.path.realpath(path), text + new_lines.getvalue())


def list_photos(source, option="--source"):
    """The paths of images, whatever their classes.

    Args:
        source: str, a folder with all folders in it, labelled or not, a CSV or a packed place.
        option: str, what errors call it.

    Returns:
        list of str.

    Raises:
        InputError: as of `read_csv` and `walk_images`.

    Example:

    ```python
    list_photos("photos.csv")  # ["photos/glass/1.jpg", "photos/metal/2.jpg"]
    ```
    """
    if is_place(source):
        place = open_place(source)
        return [os.path.join(place.path, name) for name in place.names]
    if os.path.isfile(source):
        folder, file_names, _ = read_csv(source)
        return [os.path.join(folder, file_name) for file_name in file_names]
    return walk_images(source, option)


def _existing_file(folder, file_name, location):
    """`file_name`, or what it is on this system if it was written on Windows."""
    for name in (file_name, file_name.replace("\\", "/")):
        address = os.path.join(folder, name)
        if is_packed(address) and is_there(address):
            return name
        if is_image(name) and os.path.isfile(os.path.join(folder, name)):
            return name
    raise InputError(f"{location}: {file_name!r} is no image file; looked for it in {folder}")


def read_column(path, column):
    """Reads a further column of a CSV that names images.

    Args:
        path: str, a CSV with the columns path and `column`.
        column: str.

    Returns:
        dict of str, the path of an image with "/" -> str, its value without outer blanks.

    Raises:
        InputError: the CSV cannot be read, or lacks one of the columns.

    Example:

    ```python
    read_column("photos.csv", "patient")  # {"glass/1.jpg": "A17", "metal/2.jpg": "B02"}
    ```
    """
    return {
        cells["path"].replace("\\", "/"): cells[column].strip()
        for _, cells in read_cells(path, ["path", column])
    }


def read_cells(path, columns=COLUMNS):
    """Reads the lines of a CSV below its header, one by one.

    Args:
        path: str, the CSV.
        columns: list of str, the columns that it must have.

    Yields:
        (str FILE:LINE, dict of str column -> str), with all columns.

    Raises:
        InputError: it cannot be read, lacks a column, or a line is not as long as the header.

    Example:

    ```python
    next(read_cells("photos.csv"))  # ("photos.csv:2", {"path": "1.jpg", "label": "glass"})
    ```
    """
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        header = reader.fieldnames or ["none"]
        if not set(columns) <= set(header):
            raise InputError(
                f"{path}:1: has the columns {', '.join(header)}; needed: {', '.join(columns)}"
            )
        for cells in reader:
            location = f"{path}:{reader.line_num}"
            if None in cells or None in cells.values():
                raise InputError(
                    f"{location}: does not have as many values as the header has columns, "
                    f"'{','.join(header)}'"
                )
            yield location, cells
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not CSV: {error}") from None


def _read_as_it_is(path):
    with open(path, encoding="utf-8", newline="") as csv_file:
        return csv_file.read()


def _line_end(text):
    return "\r\n" if "\r\n" in text else "\n"


def _read_text(path):
    try:
        with open(path, encoding="utf-8-sig", newline="") as csv_file:
            return csv_file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
