"""The images that a run knows: those of its check/, those of its validation, those it learned."""

import contextlib
import json
import os

import numpy as np

from common.errors import ImageError, InputError
from common.files import flush, replacing_folder, write_text
from data import parts, photo_files
from data.decoding import load
from data.labelled_data import has_own_images, list_labelled, match_classes
from data.samples import read_label, stem, text_file_name, write_sample
from data.several_places import paths_of, read_all
from runs import run_folder
from runs.margin_files import read_margins

CHECK_IMAGES = 16  # files in a run's check/
MOST_IMAGES = 256  # that are taken of a folder, spread evenly over it


def write_check(setup, model):
    """Copies some validation images with the probabilities that the best weights give them.

    Args:
        setup: `TrainingSetup`, of which options, run_path and validation count.
        model: Keras model with the run's best weights, in float32.

    Raises:
        InputError: none of the images can be decoded.
    """
    preprocessing = run_folder.preprocessing(setup.options)
    validation = setup.validation
    positions, images = [], []
    # Spread over the whole folder: neighbours are often of one class.
    for position in _spread_positions(len(validation.file_names), CHECK_IMAGES):
        image_path = os.path.join(validation.folder, validation.file_names[position])
        with contextlib.suppress(ImageError):
            images.append(load(image_path, preprocessing))
            positions.append(position)
    if not positions:
        raise InputError(f"{validation.folder}: none of the images looked at can be decoded")
    probabilities = np.asarray(model.predict_on_batch(np.stack(images)))
    check_folder = os.path.join(setup.run_path, run_folder.CHECK)
    table = {}
    with replacing_folder(check_folder) as partial_folder:
        for position, row in zip(positions, probabilities):
            image_path = os.path.join(validation.folder, validation.file_names[position])
            file_name = _free_name(photo_files.file_name(image_path), table)
            copy_path = os.path.join(partial_folder, file_name)
            with open(copy_path, "wb") as copy:
                copy.write(photo_files.read_photo(image_path))
            flush(copy_path)
            write_sample(partial_folder, file_name, validation.class_ids[position])
            table[file_name] = [float(value) for value in row]
        write_text(
            os.path.join(partial_folder, run_folder.CHECK_FILE),
            json.dumps(table, ensure_ascii=False, indent=1) + "\n",
        )


def _free_name(file_name, taken_names):
    """A name whose stem no other copy has: each class may have its own "1.jpg"."""
    name, extension = os.path.splitext(file_name)
    taken_stems = {stem(taken_name).casefold() for taken_name in taken_names}
    free_stem, suffix = name, 2
    while free_stem.casefold() in taken_stems:
        free_stem = f"{name}_{suffix}"
        suffix += 1
    return free_stem + extension


def check_file_names(check_folder):
    """list of str, the images of a check/ folder, in the order of its table.

    Args:
        check_folder: str, the folder.

    Raises:
        InputError: its table is damaged.
        FileNotFoundError: it has no table.
    """
    return list(_read_check_table(os.path.join(check_folder, run_folder.CHECK_FILE)))


def _read_check_table(table_path):
    try:
        with open(table_path, encoding="utf-8") as json_file:
            table = json.load(json_file)
        if not isinstance(table, dict):
            raise TypeError(f"is a {type(table).__name__}, not an object")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{table_path}: cannot be read: {error}") from None
    return table


def check(run):
    """The image files of a run's check/, and the probabilities that its best weights gave them.

    Args:
        run: `Run`.

    Returns:
        (list of paths, float32 (N, C)).

    Raises:
        InputError: they are missing or damaged.
    """
    table_path = run.file(run_folder.CHECK, run_folder.CHECK_FILE)
    try:
        table = _read_check_table(table_path)
        probabilities = np.array(list(table.values()), np.float32)
    except FileNotFoundError:
        raise InputError(
            f"{table_path}: is missing: the training did not end; --resume "
            f"{os.path.basename(run.path)} ends it"
        ) from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{table_path}: cannot be read: {error}") from None
    class_count = len(run.class_names)
    if probabilities.ndim != 2 or probabilities.shape[1] != class_count or not len(probabilities):
        raise InputError(
            f"{table_path}: does not hold {class_count} probabilities per image, one for each "
            f"class of {run.file(run_folder.LABELS)}"
        )
    return [run.file(run_folder.CHECK, file_name) for file_name in table], probabilities


def validation(run, known_paths):
    """Image files that the run was not trained on, spread over their folder.

    Where the data have a table of parts, those of its part val.

    Args:
        run: `Run`.
        known_paths: list of paths whose file names are left out.

    Returns:
        (list of paths, list of uint8 (S, S, 3)), both empty where the folders are gone.
    """
    trained_on = _trained_on(run)
    if not run.options.val_data and not trained_on:  # nothing says which images those are
        return [], []
    known_names = {os.path.basename(path) for path in known_paths}
    image_paths = []
    for data in _validation_data(run):
        folder, file_names, _ = list_labelled(data)
        real_folder = os.path.realpath(folder)
        if not run.options.val_data and parts.exists(data):  # those of the test stay new
            validates = parts.names_of_part(data, "val")
            file_names = [name for name in file_names if name in validates]
        image_paths += [
            os.path.join(folder, file_name)
            for file_name in file_names
            if os.path.basename(file_name) not in known_names
            and os.path.join(real_folder, file_name) not in trained_on
        ]
    return _load_spread(image_paths, run.preprocessing)


def training(run):
    """Images that the run was trained on, spread over them, as the model takes them.

    Args:
        run: `Run`.

    Returns:
        uint8 (N, S, S, 3).

    Raises:
        InputError: none is left.
    """
    image_paths = []
    with contextlib.suppress(InputError):
        image_paths, _ = training_photos(run)
    _, images = _load_spread(image_paths, run.preprocessing)
    if not images:
        raise InputError(
            f"--quantize: int8: needs images that {run.path} was trained on; none is left in "
            f"{', '.join(paths_of(run.options.train_data))}"
        )
    return np.stack(images)


def training_photos(run):
    """Image files that the run was trained on, whether they are still there or not.

    Args:
        run: `Run`.

    Returns:
        (list of N paths; int (N,) class ids), both empty where nothing says which.

    Raises:
        InputError: its data set is gone, or has other classes now.
    """
    trained_on = _trained_on(run)
    if trained_on:
        paths = sorted(trained_on)
        return paths, np.array([trained_on[path][1] for path in paths])
    if not run.options.val_data:  # some of the images are for validation
        return [], np.zeros(0, int)
    samples = read_all(run.options.train_data, run.class_names, run.path).samples
    paths = [os.path.join(samples.folder, file_name) for file_name in samples.file_names]
    return paths, samples.class_ids


def labels(run, image_paths):
    """Class ids of image files of the run's check/ or validation data; -1 where not known.

    Args:
        run: `Run`.
        image_paths: list of N paths.

    Returns:
        int (N,).
    """
    class_ids = np.full(len(image_paths), -1)
    named_classes = _named_classes(run)
    check_folder = os.path.realpath(run.file(run_folder.CHECK))
    for position, image_path in enumerate(image_paths):
        folder, file_name = os.path.split(os.path.realpath(image_path))
        has_text = os.path.exists(os.path.join(folder, text_file_name(file_name)))
        if folder == check_folder and not has_text:
            folder = _validation_data(run)[0]  # earlier versions copied images without texts
        with contextlib.suppress(InputError, FileNotFoundError):
            class_name = named_classes.get(os.path.join(folder, file_name))
            if class_name is not None:
                class_ids[position] = match_classes(folder, [class_name], run.class_names, "")[0]
            else:
                class_ids[position] = read_label(
                    folder, file_name, run.class_names, run_folder.LABELS
                )
    return class_ids


def _named_classes(run):
    """dict of real path -> class name of the validation images whose class is given by name."""
    named_classes = {}
    for data in _validation_data(run):
        if os.path.isdir(data) and has_own_images(data):  # their text files say it, one by one
            continue
        folder, file_names, image_classes = list_labelled(data)
        for file_name, class_name in zip(file_names, image_classes):
            named_classes[os.path.realpath(os.path.join(folder, file_name))] = class_name
    return named_classes


def _trained_on(run):
    try:
        return read_margins(run.path)[0]
    except InputError:
        return {}


def _validation_data(run):
    """tuple of str, the data that the validation images are from."""
    return paths_of(run.options.val_data or run.options.train_data)


def _spread_positions(count, most):
    """int array, at most `most` positions, evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _load_spread(image_paths, preprocessing):
    """At most `MOST_IMAGES` of the files, evenly over them, and what they hold."""
    loaded_paths, images = [], []
    for position in _spread_positions(len(image_paths), MOST_IMAGES):
        with contextlib.suppress(ImageError):
            images.append(load(image_paths[position], preprocessing))
            loaded_paths.append(image_paths[position])
    return loaded_paths, images
