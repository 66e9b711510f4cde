"""margins/: what a run was trained on, and how sure it was of each label, epoch by epoch."""

import csv
import os

import numpy as np

from common.errors import InputError
from common.files import replacing
from runs.run_folder import MARGINS

TRAINED_ON = "images.csv"  # in MARGINS: image file, class id


def write_trained_on(run_path, samples):
    """Writes which images, with which labels, a run is trained on: the columns of its margins.

    Args:
        run_path: str, the run's folder.
        samples: `Samples` to train on.
    """
    margin_folder = os.path.join(run_path, MARGINS)
    os.makedirs(margin_folder, exist_ok=True)
    image_folder = os.path.realpath(samples.folder)
    with (
        replacing(os.path.join(margin_folder, TRAINED_ON)) as partial_path,
        open(partial_path, "w", encoding="utf-8", errors="surrogateescape", newline="") as csv_file,
    ):
        csv.writer(csv_file).writerows(
            (os.path.join(image_folder, file_name), class_id)
            for file_name, class_id in zip(samples.file_names, samples.class_ids)
        )


def write_margins(run_path, epoch, margins):
    """Writes the margins of one epoch.

    Args:
        run_path: str, the run's folder.
        epoch: int, counted from 0.
        margins: float16 (N,), one per image, NaN where it was not drawn.
    """
    with replacing(os.path.join(run_path, MARGINS, f"{epoch + 1:05}.npy")) as partial_path:
        np.save(partial_path, margins)


def read_margins(run_path):
    """Reads what a run was trained on, and how sure it was of each label.

    Args:
        run_path: str, the run's folder.

    Returns:
        (dict of image path -> (position, class id), float32 (epochs, N) margins, NaN where an
        image was not drawn); an empty dict and no rows where nothing was recorded.

    Raises:
        InputError: the files are damaged.
    """
    margin_folder = os.path.join(run_path, MARGINS)
    table_path = os.path.join(margin_folder, TRAINED_ON)
    if not os.path.exists(table_path):
        return {}, np.empty((0, 0), np.float32)
    try:
        with open(table_path, encoding="utf-8", errors="surrogateescape", newline="") as csv_file:
            images = {
                row[0]: (position, int(row[1])) for position, row in enumerate(csv.reader(csv_file))
            }
        epoch_margins = {
            int(file_name[:-4]): np.load(os.path.join(margin_folder, file_name), allow_pickle=False)
            for file_name in os.listdir(margin_folder)
            if file_name.endswith(".npy") and file_name[:-4].isdecimal()  # no partial one
        }
        # An epoch on several devices has left none.
        margins = np.full((max(epoch_margins, default=0), len(images)), np.nan, np.float32)
        for epoch_number, row in epoch_margins.items():
            margins[epoch_number - 1] = row
    except (OSError, ValueError, IndexError, EOFError) as error:
        raise InputError(f"{margin_folder}: cannot be read: {error}") from None
    return images, margins
