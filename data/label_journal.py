"""The journal of corrected labels: `labels.log.csv` beside the data, a line for each correction.

A line whose two labels are the same confirms a label; one without a new label takes that back.

A photo is known by the hash of its bytes. A folder that was converted says where its photos are
from, so that a correction there is journalled there as well, and holds when they are converted
again.
"""

import csv
import json
import os
import time

import numpy as np

from common.console import say
from common.files import write_text
from common.tables import read_table
from data.splitting import hash_file, hash_files

FILE_NAME = "labels.log.csv"
COLUMNS = ("time", "hash", "path", "label", "new_label")
ORIGIN_NAME = "converted_from.json"


def add(log_path, image_path, label, new_label):
    """Adds a line; where that fails a note says so, because the label has been changed already.

    Args:
        log_path: str, the journal; it is made where there is none.
        image_path: str, the image after the correction.
        label: str, the class that it had.
        new_label: str, the class that it has.

    Example:

    ```python
    add("photos/labels.log.csv", "photos/metal/1.jpg", "glass", "metal")
    ```
    """
    add_all(log_path, [(image_path, label, new_label)])


def add_all(log_path, corrections, contents=None):
    """Adds many lines, of photos that got a class for the first time as well.

    Args:
        log_path: str, the journal; it is made where there is none.
        corrections: list of (path of the image after it, the class that it had or "", the class
            that it has), three str.
        contents: uint64 (N,), the `content_hash` of the images, 0 for one that cannot be read;
            None reads them.
    """
    if contents is None:
        paths = [path for path, *_ in corrections]
        # Threads and a bar for one photo would take longer than reading it.
        contents = hash_files(paths) if len(paths) > 1 else map(hash_file, paths)
    rows = []
    for (image_path, *labels), content in zip(corrections, contents):
        if content:
            rows.append((image_path, f"{int(content):016x}", *labels))
        else:
            say(f"note: {image_path}: cannot be read; the label was changed, but not journalled")
    try:
        _append(log_path, rows)
        origin = _read_origin(os.path.dirname(log_path))
        if origin is not None:
            _append(os.path.join(origin, FILE_NAME), rows)
    except OSError as error:
        what = "label was" if len(rows) == 1 else f"{len(rows)} labels were"
        say(f"note: {error.filename}: {error.strerror}; the {what} changed, but not journalled")


def _append(log_path, rows):
    if not rows:
        return
    is_new = not os.path.exists(log_path)
    now, folder = time.strftime("%Y-%m-%d %H:%M:%S"), os.path.dirname(log_path)
    with open(log_path, "a", encoding="utf-8", errors="surrogateescape", newline="") as log:
        writer = csv.writer(log)
        if is_new:
            writer.writerow(COLUMNS)
        for image_path, content, label, new_label in rows:
            path = os.path.relpath(image_path, folder).replace(os.sep, "/")
            writer.writerow((now, content, path, label, new_label))


def path_beside(data):
    """The journal of a data set: str, a path.

    Args:
        data: str, a folder or a CSV file.

    Example:
        >>> path_beside("photos.csv")
        'photos.labels.log.csv'
    """
    if os.path.isdir(data) or not data.endswith(".csv"):
        return os.path.join(data, FILE_NAME)
    return f"{os.path.splitext(data)[0]}.{FILE_NAME}"


def find_confirmed(log_path, paths, labels, workers=1):
    """Which labels somebody has looked at and confirmed, by the last line about the photo.

    Args:
        log_path: str, the journal; there may be none.
        paths: list of N str, the photos.
        labels: sequence of N str, their classes now.
        workers: int, threads that read the photos.

    Returns:
        bool (N,).

    Raises:
        InputError: the journal is damaged.
    """
    is_confirmed = np.zeros(len(paths), bool)
    if not os.path.exists(log_path):
        return is_confirmed
    last_lines = {}  # hash -> the labels of its last line
    for _, cells in read_table(log_path, COLUMNS, "relabel"):
        last_lines[cells["hash"]] = cells["label"], cells["new_label"]
    if all(label != new_label for label, new_label in last_lines.values()):
        return is_confirmed  # without reading the photos
    for i, content in enumerate(hash_files(paths, workers)):
        is_confirmed[i] = last_lines.get(f"{int(content):016x}") == (labels[i], labels[i])
    return is_confirmed


def write_origin(folder, source):
    """Leaves in a converted folder where its photos are from.

    Args:
        folder: str, the folder that was made.
        source: str, the folder of the photos.
    """
    origin = json.dumps({"source": os.path.abspath(source)}, ensure_ascii=False)
    write_text(os.path.join(folder, ORIGIN_NAME), f"{origin}\n")


def _read_origin(folder):
    """The folder that a folder was converted from, where it still exists, else None."""
    try:
        with open(os.path.join(folder, ORIGIN_NAME), encoding="utf-8") as origin_file:
            source = json.load(origin_file)["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return source if isinstance(source, str) and os.path.isdir(source) else None


def correct(images, source, workers=1):
    """Applies the journal of a folder to the classes that its folders say.

    A photo that lies in the folder of another class than the journal corrects has been moved
    since, and stays.

    Args:
        images: list of (path, class name), two str.
        source: str, the folder of all.
        workers: int, threads that read the photos.

    Returns:
        (list like `images`, the number of classes that differ).

    Raises:
        InputError: the journal is damaged.
    """
    log_path = os.path.join(source, FILE_NAME)
    if not os.path.exists(log_path):
        return images, 0
    corrections = {}  # hash -> its corrections, oldest first
    for _, cells in read_table(log_path, COLUMNS, "relabel"):
        corrections.setdefault(cells["hash"], []).append((cells["label"], cells["new_label"]))
    corrected_images = []
    hashes = hash_files([path for path, _ in images], workers)
    for (path, class_name), content in zip(images, hashes):
        for label, new_label in corrections.get(f"{int(content):016x}", ()):
            class_name = new_label if new_label and class_name == label else class_name
        corrected_images.append((path, class_name))
    differing = sum(before != after for before, after in zip(images, corrected_images))
    return corrected_images, differing
