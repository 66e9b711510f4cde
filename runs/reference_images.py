"""The images that a run knows: those of its check/, those it was validated on, those it learned."""

import contextlib
import json
import os
import shutil

import numpy as np

from common.errors import ImageError, InputError
from common.files import flush, replace_folder, write_text
from data.decoding import load
from data.image_files import EXTENSIONS
from data.samples import read_label
from runs import run_folder
from runs.margin_files import read_margins

CHECK_IMAGES = 16  # files in the run's check/

MOST_IMAGES = 256  # that are taken of a folder, spread evenly over it


def check(run):
    """The image files of a run's check/, and the probabilities that its best weights gave them.

    Raises:
        InputError: they are missing or damaged.
    """
    table_path = run.file(run_folder.CHECK, run_folder.CHECK_FILE)
    try:
        with open(table_path, encoding="utf-8") as file:
            table = json.load(file)
        expected = np.array(list(table.values()), np.float32)
    except FileNotFoundError:
        raise InputError(
            f"{table_path}: is missing: the training did not end; --resume "
            f"{os.path.basename(run.path)} ends it"
        ) from None
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{table_path}: cannot be read: {error}") from None
    if expected.ndim != 2 or expected.shape[1] != len(run.class_names) or not len(expected):
        raise InputError(
            f"{table_path}: does not hold {len(run.class_names)} probabilities an image, one a "
            f"class of {run.file(run_folder.LABELS)}"
        )
    return [run.file(run_folder.CHECK, name) for name in table], expected


def validation(run, known):
    """Image files that the run was not trained on, spread over their folder.

    None where the folders are gone; those of the names in `known` are left out.

    Returns:
        (list of paths, list of images as the model takes them).
    """
    trained = _trained(run)
    place = _validation_folder(run)
    if not run.options.val_data and not trained:  # it does not say which those are
        return [], []
    there = os.path.realpath(place)
    left_out = {os.path.basename(file) for file in known}
    return _spread(
        [
            os.path.join(place, name)
            for name in _names(place)
            if name not in left_out and os.path.join(there, name) not in trained
        ],
        run.preprocessing,
    )


def training(run):
    """Images that the run was trained on, spread over them, as the model takes them.

    Returns:
        uint8 (N, S, S, 3).

    Raises:
        InputError: none is left.
    """
    place = run.options.train_data
    paths = sorted(_trained(run))
    if not paths and run.options.val_data:  # else some are for validation
        paths = [os.path.join(place, name) for name in _names(place)]
    _, images = _spread(paths, run.preprocessing)
    if not images:
        raise InputError(
            f"--quantize: int8: needs images that {run.path} was trained on; none is left in "
            f"{place}"
        )
    return np.stack(images)


def labels(run, files):
    """Class ids of image files, int (N,); -1 where no text file tells.

    Those of check/ are copies, whose text files stand beside the originals.
    """
    found = np.full(len(files), -1)
    check_folder = os.path.realpath(run.file(run_folder.CHECK))
    for position, file in enumerate(files):
        folder, name = os.path.split(os.path.realpath(file))
        if folder == check_folder:
            folder = _validation_folder(run)
        with contextlib.suppress(InputError, FileNotFoundError):
            found[position] = read_label(folder, name, run.class_names, run_folder.LABELS)
    return found


def _trained(run):
    try:
        return read_margins(run.path)[0]
    except InputError:
        return {}


def _validation_folder(run):
    return run.options.val_data or run.options.train_data


def _names(folder):
    try:
        return sorted(name for name in os.listdir(folder) if name.lower().endswith(EXTENSIONS))
    except OSError:
        return []


def _spread(paths, preprocessing):
    """At most `MOST_IMAGES` of the files, evenly over them, and what they hold."""
    found, images = [], []
    count = min(len(paths), MOST_IMAGES)
    for position in np.unique(np.linspace(0, len(paths) - 1, count).astype(int)):
        with contextlib.suppress(ImageError):
            images.append(load(paths[position], preprocessing))
            found.append(paths[position])
    return found, images


def write_check(job, model):
    """Copies some validation images with the probabilities that the best weights give them."""
    preprocessing = run_folder.preprocessing(job.options)
    count = len(job.validation.file_names)
    files, images = [], []
    # Sharding over the whole folder: neighbours are often of one class.
    for position in np.unique(np.linspace(0, count - 1, min(count, CHECK_IMAGES)).astype(int)):
        path = os.path.join(job.validation.folder, job.validation.file_names[position])
        try:
            images.append(load(path, preprocessing))
            files.append(path)
        except ImageError:
            continue
    if not files:
        raise InputError(f"{job.validation.folder}: none of the images looked at can be decoded")
    probabilities = np.asarray(model.predict_on_batch(np.stack(images)))
    folder = os.path.join(job.path, run_folder.CHECK)
    partial = folder + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    table = {}
    for path, row in zip(files, probabilities):
        name = os.path.basename(path)
        shutil.copyfile(path, os.path.join(partial, name))
        flush(os.path.join(partial, name))
        table[name] = [float(value) for value in row]
    write_text(
        os.path.join(partial, run_folder.CHECK_FILE),
        json.dumps(table, ensure_ascii=False, indent=1) + "\n",
    )
    replace_folder(partial, folder)
