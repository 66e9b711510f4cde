"""The sample format, or a CSV of paths and labels, becomes one folder a class; or a CSV."""

import csv
import io
import json
import os

from tqdm import tqdm

from common.errors import InputError, first_ten
from common.files import building, check_building, replacing
from data.file_transfer import Transfer
from data.image_files import EXTENSIONS
from data.samples import find_labels, read_label_names, read_samples

COLUMNS = ["path", "label"]


def main(options):
    """`--mode txt2dir`."""
    if options.source is None and (options.csv is None or options.target is None):
        raise InputError(
            "--source is missing: --mode txt2dir needs a folder in the sample format, or --csv and "
            "--target"
        )
    if options.source is not None and (options.csv is None) == (options.target is None):
        raise InputError(
            "--target or --csv: give one of them, --target for a folder a class, --csv for a table"
        )
    if options.source is None:
        images = read_csv(options.csv)
    else:
        images = read_folder(options.source, options.labels)
    if options.target is None:
        if not options.dry_run:
            write_csv(options.csv, images)
        result = {"csv": options.csv, "images": len(images), "classes": count(images)}
    else:
        texts = options.source is not None
        result = convert(images, options.target, options.how, texts, options.dry_run)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for name, number in result["classes"].items():
        print(f"{number:>8}  {name}")
    would = "would be " if options.dry_run else ""
    print(f"{len(images):>8}  images {would}in {options.target or options.csv}")


def read_folder(source, labels_path=None):
    """The images of a folder in the sample format.

    Returns:
        list of (path of the image, name of its class), sorted by the images' stems.
    """
    labels_path = labels_path or find_labels(source)
    names = read_label_names(labels_path)
    samples = read_samples(source, names, labels_path)
    return [
        (os.path.join(samples.folder, name), names[label])
        for name, label in zip(samples.file_names, samples.class_ids)
    ]


def read_csv(path):
    """The images of a CSV with the columns path and label; paths count from its folder.

    Returns:
        as `read_folder`, in the order of the file.

    Raises:
        InputError: other columns, an image that is not there or stands twice, an empty label;
            with file and line.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except OSError as error:
        raise InputError(f"--csv: {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"--csv: {path}: is not UTF-8 text") from None
    folder = os.path.dirname(path)
    images, seen = [], set()
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if reader.fieldnames != COLUMNS:
            raise InputError(
                f"{path}:1: has the columns {', '.join(reader.fieldnames or ['none'])}; allowed: "
                f"{', '.join(COLUMNS)}"
            )
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise InputError(f"{where}: has not two values; allowed is 'path,label'")
            image = os.path.join(folder, row["path"])
            if not row["label"].strip():
                raise InputError(f"{where}: the label is empty")
            if not image.lower().endswith(EXTENSIONS) or not os.path.isfile(image):
                raise InputError(
                    f"{where}: {row['path']!r} is no image file; looked for it in "
                    f"{folder or 'this folder'}"
                )
            if os.path.realpath(image) in seen:
                raise InputError(f"{where}: {row['path']!r} stands twice")
            seen.add(os.path.realpath(image))
            images.append((image, row["label"].strip()))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not CSV: {error}") from None
    if not images:
        raise InputError(f"{path}: has no line but the columns' names")
    return images


def write_csv(path, images):
    """Writes the images as `read_csv` reads them, with paths that count from the CSV's folder."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.exists(path):
        raise InputError(f"--csv: {path} exists; choose another name")
    try:
        with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for image, label in images:
                writer.writerow([os.path.relpath(image, folder), label])
    except OSError as error:
        raise InputError(f"--csv: {path} cannot be written: {error.strerror}") from None
    except UnicodeEncodeError:
        raise InputError(f"--csv: {path}: a file's name is not UTF-8; rename it") from None


def convert(images, target, how="copy", texts=False, dry_run=False):
    """Makes one folder a class.

    An image keeps its name where its class has no other of that name, else gets a number.

    Args:
        images: as `read_folder` gives them.
        target: folder to make; where it exists it must be empty.
        how: as `file_transfer.Transfer` takes it.
        texts: images that are moved take the text files beside them away.
        dry_run: only check, and count.

    Returns:
        dict: target, images (number), classes (name -> number).

    Raises:
        InputError: a class whose name is no folder's, or an existing target.
    """
    check_names({label for _, label in images})
    result = {"target": target, "images": len(images), "classes": count(images)}
    if dry_run:
        check_building(target)
        return result
    transfer = Transfer(how)
    try:
        with building(target) as partial:
            taken = set()
            bar = tqdm(images, "converting", unit=" images", leave=False, disable=None)
            for path, label in bar:
                os.makedirs(os.path.join(partial, label), exist_ok=True)
                name = _free_name(label, os.path.basename(path), taken)
                transfer.put(path, os.path.join(partial, label, name))
                if texts:
                    transfer.remove(os.path.splitext(path)[0] + ".txt")
        transfer.finish()
    except OSError as error:
        raise InputError(f"{error.filename or target}: {error.strerror or error}") from None
    return result


def count(images):
    """dict of class name -> number of images, sorted by name."""
    found = {}
    for _, label in images:
        found[label] = found.get(label, 0) + 1
    return dict(sorted(found.items()))


def check_names(labels):
    """Refuses class names that would lead out of the target, or are no folders' names."""

    def bad(label):
        parts = label.split("/")
        return any(
            part in ("", ".", "..")
            or part.startswith(".")
            or part != part.strip()
            or set(part) & set("\\\0")
            or len(part.encode()) > 255
            for part in parts
        )

    wrong = sorted(repr(label) for label in labels if bad(label))
    if wrong:
        raise InputError(
            f"no folder can have the name of the class {first_ten(wrong)}; "
            "rename it in label.json (a / makes a folder in a folder)"
        )


def _free_name(label, name, taken):
    stem, ending = os.path.splitext(name)
    number = 2
    while (label, name.casefold()) in taken:
        name = f"{stem}_{number}{ending}"
        number += 1
    taken.add((label, name.casefold()))
    return name
