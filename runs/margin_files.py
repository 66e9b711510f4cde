"""What a run was trained on, and how sure it was of each label, epoch by epoch."""

import csv
import os

import numpy as np

from common.errors import InputError
from common.files import replacing
from runs.run_folder import MARGINS

TRAINED_ON = "images.csv"  # in MARGINS: image file, class id


def write_trained_on(path, samples):
    """Writes which images, with which labels, a run is trained on: the columns of its margins."""
    folder = os.path.join(path, MARGINS)
    os.makedirs(folder, exist_ok=True)
    place = os.path.realpath(samples.folder)
    with (
        replacing(os.path.join(folder, TRAINED_ON)) as partial,
        open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        csv.writer(file).writerows(
            (os.path.join(place, name), label)
            for name, label in zip(samples.file_names, samples.class_ids)
        )


def write_margins(path, epoch, margins):
    """Writes the margins of one epoch, counted from 0: float16 (N,)."""
    with replacing(os.path.join(path, MARGINS, f"{epoch + 1:05}.npy")) as partial:
        np.save(partial, margins)


def read_margins(path):
    """What a run was trained on, and how sure it was of each label.

    Returns:
        (dict of image path -> (position, class id), float32 (epochs, N) margins as
        `label_margins.Margins` has them, NaN where an image was not drawn); an empty dict and
        no rows where nothing was recorded.

    Raises:
        InputError: the files are damaged.
    """
    folder = os.path.join(path, MARGINS)
    table = os.path.join(folder, TRAINED_ON)
    if not os.path.exists(table):
        return {}, np.empty((0, 0), np.float32)
    try:
        with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
            images = {
                row[0]: (position, int(row[1])) for position, row in enumerate(csv.reader(file))
            }
        rows = {
            int(name[:-4]): np.load(os.path.join(folder, name), allow_pickle=False)
            for name in os.listdir(folder)
            if name.endswith(".npy") and name[:-4].isdecimal()
        }  # no partial one
        # An epoch on several devices has left none.
        margins = np.full((max(rows, default=0), len(images)), np.nan, np.float32)
        for epoch, row in rows.items():
            margins[epoch - 1] = row
    except (OSError, ValueError, IndexError, EOFError) as error:
        raise InputError(f"{folder}: cannot be read: {error}") from None
    return images, margins
