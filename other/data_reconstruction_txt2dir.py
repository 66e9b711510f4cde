"""Converts the sample format, or a CSV of paths and labels, into one folder per class or a CSV."""

import os

from tqdm import tqdm

from common import console
from common.errors import InputError, first_ten
from common.file_names import is_portable
from common.files import building, check_building
from common.tables import write_table
from common.write_errors import is_disk_full, write_error
from config.mode_options import Txt2dirOptions
from data.csv_labels import COLUMNS, read_csv
from data.file_transfer import Transfer
from data.label_names import find_labels, read_label_names
from data.packed_places import refuse_place
from data.samples import read_samples, text_file_name

ON_WINDOWS = os.name == "nt"
LONGEST_NAME = 255  # bytes of a folder's name, the maximum of most file systems


def main(options: Txt2dirOptions):
    """`--mode txt2dir`."""
    _check(options)
    images = _read(options)
    if options.target is None:
        if not options.dry_run:
            write_csv(options.csv, images)
        result = {"csv": options.csv, "images": len(images), "classes": count(images)}
    else:
        has_texts = options.source is not None
        result = convert(images, options.target, options.how, has_texts, options.dry_run)
    console.show(result, lambda result: _text(result, options.dry_run), options.json)


def _check(options):
    """Refuses options that do not say what to convert into what."""
    if options.source is None and (options.csv is None or options.target is None):
        raise InputError(
            "--source is missing: --mode txt2dir needs a folder in the sample format, or --csv and "
            "--target"
        )
    if options.source is not None and (options.csv is None) == (options.target is None):
        raise InputError(
            "--target or --csv: give one of them, --target for one folder per class, --csv for a "
            "table"
        )


def _read(options):
    if options.source is None:
        return read_table(options.csv)
    return read_folder(options.source, options.labels)


def read_folder(source, labels_path=None):
    """Reads the images of a folder in the sample format.

    Args:
        source: str, the folder.
        labels_path: str, JSON file with the class names; None for the folder's own.

    Returns:
        List of (path of the image, name of its class), sorted by the images' stems.

    Raises:
        InputError: anything missing, ambiguous or malformed.
    """
    refuse_place(source, "txt2dir")
    labels_path = labels_path or find_labels(source)
    class_names = read_label_names(labels_path)
    samples = read_samples(source, class_names, labels_path)
    return [
        (os.path.join(samples.folder, file_name), class_names[class_id])
        for file_name, class_id in zip(samples.file_names, samples.class_ids)
    ]


def read_table(path):
    """Reads the images of a CSV with the columns path and label.

    Args:
        path: str, the CSV.

    Returns:
        List of (path of the image, name of its class), in the order of the file.

    Raises:
        InputError: the CSV is not one that `csv_labels.read_csv` reads.
    """
    folder, file_names, image_classes = read_csv(path)
    return [
        (os.path.join(folder, file_name), class_name)
        for file_name, class_name in zip(file_names, image_classes)
    ]


def write_csv(path, images):
    """Writes a CSV that `read_csv` reads, with paths relative to the CSV's folder.

    Args:
        path: str, the CSV; it must not exist.
        images: list of (path of the image, name of its class).

    Raises:
        InputError: it exists, or cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.exists(path):
        raise InputError(f"--csv: {path} exists; choose another name")
    try:
        rows = ((_relative_path(image_path, folder), name) for image_path, name in images)
        write_table(path, COLUMNS, rows, errors="strict")
    except OSError as error:
        raise write_error(error, path, "--csv") from None
    except UnicodeEncodeError:
        raise InputError(f"--csv: {path}: a file's name is not UTF-8; rename it") from None


def _relative_path(path, folder):
    try:
        return os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:  # Windows: another drive
        return os.path.abspath(path)


def convert(images, target, how="copy", texts=False, dry_run=False):
    """Makes one folder per class.

    An image keeps its name unless its class has another one of that name; then it gets a number.

    Args:
        images: list of (path of the image, name of its class).
        target: str, the folder to make; where it exists it must be empty.
        how: "copy", "link" or "move", as for `file_transfer.Transfer`.
        texts: bool, remove the text files of images that are moved.
        dry_run: bool, only check, and count.

    Returns:
        dict: target, images (number), classes (name -> number).

    Raises:
        InputError: a class whose name cannot be that of a folder, or an existing target.

    Example:

    ```python
    convert(read_folder("dataset"), "photos")
    ```
    """
    check_names({class_name for _, class_name in images})
    result = {"target": target, "images": len(images), "classes": count(images)}
    if dry_run:
        check_building(target)
        return result
    transfer = Transfer(how)
    try:
        with building(target) as partial:
            taken_names = set()
            bar = tqdm(images, "converting", unit=" images", leave=False, disable=None)
            for image_path, class_name in bar:
                os.makedirs(os.path.join(partial, class_name), exist_ok=True)
                file_name = _free_name(class_name, os.path.basename(image_path), taken_names)
                transfer.put(image_path, os.path.join(partial, class_name, file_name))
                if texts:
                    transfer.remove(text_file_name(image_path))
        transfer.finish()
    except OSError as error:
        if is_disk_full(error):
            raise write_error(error, target) from None
        raise InputError(f"{error.filename or target}: {error.strerror or error}") from None
    return result


def count(images):
    """Counts the images of each class.

    Args:
        images: list of (path of the image, name of its class).

    Returns:
        dict of class name -> number of images, sorted by name.
    """
    counts = {}
    for _, class_name in images:
        counts[class_name] = counts.get(class_name, 0) + 1
    return dict(sorted(counts.items()))


def check_names(class_names):
    """Refuses class names that would lead out of the target, or cannot be those of folders.

    Args:
        class_names: iterable of str.

    Raises:
        InputError: there is such a name.
    """

    def is_allowed(folder_name):
        return (
            (is_portable(folder_name) or not ON_WINDOWS)
            and folder_name == folder_name.strip()
            and not folder_name.startswith(".")
            and not set(folder_name) & set("\\\0")
            and 0 < len(folder_name.encode()) <= LONGEST_NAME
        )

    refused_names = sorted(
        repr(class_name)
        for class_name in class_names
        if not all(map(is_allowed, class_name.split("/")))
    )
    if refused_names:
        raise InputError(
            f"no folder can have the name of the class {first_ten(refused_names)}; "
            "rename it in label.json (a / makes a folder in a folder)"
        )


def _free_name(class_name, file_name, taken_names):
    """A file name that the class does not have yet."""
    stem, extension = os.path.splitext(file_name)
    suffix = 2
    while (class_name, file_name.casefold()) in taken_names:
        file_name = f"{stem}_{suffix}{extension}"
        suffix += 1
    taken_names.add((class_name, file_name.casefold()))
    return file_name


def _text(result, dry_run):
    lines = [f"{images:>8}  {class_name}" for class_name, images in result["classes"].items()]
    would = "would be " if dry_run else ""
    lines.append(
        f"{result['images']:>8}  images {would}in {result.get('target', result.get('csv'))}"
    )
    return "\n".join(lines)
