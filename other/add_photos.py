"""Adds photos to a data set that stays where it is; copies of its photos are left out."""

import contextlib
import os
from collections import Counter
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common import console
from common.errors import InputError, first_ten
from common.files import replacing, write_text
from common.write_errors import is_disk_full, write_error
from config.mode_options import AddOptions
from data import csv_labels, parts
from data.class_spelling import describe_variants, natural_key, normalize, spelling_variants
from data.file_transfer import Transfer
from data.image_files import UNSORTED, is_image, is_system_name
from data.labelled_data import has_own_images, match_classes, read_labelled
from data.new_photos import choose_new, read_new_photos
from data.packed_places import refuse_place
from data.parts_table import rule_of
from data.samples import Samples, sample_line, stem, text_file_name
from other.data_quality.folder_checks import inside
from other.data_reconstruction_txt2dir import check_names

BY_FOLDERS, SAMPLE_FORMAT, CSV = "one folder per class", "sample format", "CSV"


class DataSet(NamedTuple):
    """The data set to add to.

    Attributes:
        path: str, a folder or a CSV file.
        layout: str, `BY_FOLDERS`, `SAMPLE_FORMAT` or `CSV`.
        samples: `Samples`, its labelled photos.
        class_names: tuple of str, in the order of their ids.
        names_from: str, the label.json that fixes the classes; else `path`.
    """

    path: str
    layout: str
    samples: Samples
    class_names: tuple
    names_from: str


class Placement(NamedTuple):
    """Where a photo goes.

    Attributes:
        photo: `new_photos.NewPhoto`.
        file_name: str, its path relative to the folder of the data set's photos.
    """

    photo: tuple
    file_name: str


def main(options: AddOptions):
    """`--mode add`.

    Returns:
        dict, what `add` returned.
    """
    result = add(options.data, options.source, options.how, options.workers, options.dry_run)
    console.show(result, lambda result: _text(result, options.dry_run), options.json)
    return result


def add(data, source, how="copy", workers=1, dry_run=False):
    """Adds the photos of `source` to the data set `data`; nothing in it is overwritten.

    Labelled photos go to their class, as the layout of `data` says it; those without a label to
    the folder `_unsorted`, which no mode reads as labelled data. What the data set has already,
    by content, and what cannot be decoded is left out.

    Args:
        data: str, a folder or a CSV file, in any layout of `labelled_data`.
        source: str, likewise; or a folder of photos without labels.
        how: "copy", "link" or "move", as for `file_transfer.Transfer`.
        workers: int, threads that read and decode.
        dry_run: bool, only check, and count.

    Returns:
        dict: target (`data`), added (class name -> number), new_classes (names), unsorted
        (number), duplicates (dicts: path, equals; where the classes differ also class and
        other_class) and left_out (dicts: path, reason).

    Raises:
        InputError: `data` or `source` cannot be read, one is inside the other, or a class is
            none of those that a label.json fixes.

    Example:

    ```python
    add("photos", "new")["added"]  # {"glass": 12, "metal": 3}
    ```
    """
    data_set = _read_data_set(data)
    _check_apart(data, source)
    try:
        photos = _match(data_set, read_new_photos(source, rule_of(data)), source)
    except InputError as error:
        raise InputError(f"--source: {error}") from None
    new_photos, duplicates, left_out = choose_new(
        photos, data_set.samples, data_set.class_names, workers, data
    )
    placements = _place(data_set, new_photos)
    try:
        if not dry_run:
            _write(data_set, placements, how, workers)
    except OSError as error:
        if is_disk_full(error):
            raise write_error(error, data) from None
        raise InputError(f"{error.filename or data}: {error.strerror or error}") from None
    counts = Counter(photo.class_name for photo in new_photos)
    unsorted_count = counts.pop(None, 0)
    added = {class_name: counts[class_name] for class_name in sorted(counts, key=natural_key)}
    return {
        "target": data,
        "added": added,
        "new_classes": [name for name in added if name not in data_set.class_names],
        "unsorted": unsorted_count,
        "duplicates": duplicates,
        "left_out": left_out,
    }


# Reading


def _read_data_set(data):
    refuse_place(data, "add")
    samples, class_names, names_from = read_labelled(data)
    layout = CSV if os.path.isfile(data) else BY_FOLDERS
    if layout != CSV and has_own_images(data):
        layout = SAMPLE_FORMAT
    return DataSet(data, layout, samples, class_names, names_from)


def _check_apart(data, source):
    """Refuses a source whose photos are the data set's own, or those in its folder _unsorted."""
    if os.path.realpath(source) == os.path.realpath(data):
        raise InputError(f"--source: {source} is what --data names; name other photos")
    unsorted_folder = os.path.join(os.path.dirname(data), UNSORTED)
    own_folder = unsorted_folder if os.path.isfile(data) else data
    if inside(os.path.join(source, "photo"), own_folder):
        raise InputError(f"--source: {source} is inside --data {data}; name a folder outside it")
    if inside(data, source):
        raise InputError(
            f"--source: {source} contains --data {data}; name a folder that holds new photos alone"
        )


def _match(data_set, photos, source):
    """The photos, with their classes as the data set spells them; refuses those not allowed."""
    image_classes = [photo.class_name for photo in photos if photo.class_name is not None]
    spellings = {name: name for name in image_classes}
    if data_set.names_from != data_set.path and image_classes:
        class_ids = match_classes(source, image_classes, data_set.class_names, data_set.names_from)
        spellings = dict(zip(image_classes, (data_set.class_names[index] for index in class_ids)))
    if data_set.layout == BY_FOLDERS:
        check_names({*spellings.values()})
        for name in sorted({*spellings.values()}):
            if any(map(is_system_name, name.split("/"))):
                raise InputError(
                    f"{source}: no mode reads a folder with the name of the class {name!r}; "
                    "rename the class"
                )
    new_names = {*spellings.values()} - {*data_set.class_names}
    for variants in spelling_variants([*data_set.class_names, *new_names]):
        if not new_names.isdisjoint(variants):
            console.say(f"note: {source}: {describe_variants(variants)}")
    return [photo._replace(class_name=spellings.get(photo.class_name)) for photo in photos]


# Writing


def _place(data_set, photos):
    """A free name for each photo: where it is taken, -2, -3 and so on before the extension."""
    folders = {None: UNSORTED}
    if data_set.layout == BY_FOLDERS:
        for file_name, class_id in zip(data_set.samples.file_names, data_set.samples.class_ids):
            class_name = data_set.class_names[class_id]
            class_folders = os.path.dirname(file_name).split(os.sep)[: class_name.count("/") + 1]
            folders.setdefault(class_name, os.sep.join(class_folders))
    taken_names, placements = {}, []
    for photo in photos:
        own_folder = (photo.class_name or "").replace("/", os.sep)
        folder = folders.get(photo.class_name, own_folder if data_set.layout == BY_FOLDERS else "")
        folder = os.path.join(folder, photo.below) if photo.below else folder
        if folder not in taken_names:
            taken_names[folder] = _list_taken(os.path.join(data_set.samples.folder, folder))
        first, extension = os.path.splitext(os.path.basename(photo.path))
        name, suffix = first, 2
        while _name_key(name) in taken_names[folder]:
            name, suffix = f"{first}-{suffix}", suffix + 1
        taken_names[folder].add(_name_key(name))
        placements.append(Placement(photo, os.path.join(folder, name + extension)))
    return placements


def _list_taken(folder):
    """The stems of a folder's images and text files: two images must not share a text file."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return {_name_key(stem(name)) for name in names if is_image(name) or name.endswith(".txt")}


def _name_key(name):
    """Equal for names that are one and the same on some systems."""
    return normalize(name).casefold()


def _write(data_set, placements, how, workers):
    """Puts the photos and their labels in place; where that fails, everything is as before."""
    transfer, made_paths = Transfer(how), []
    labelled = [placement for placement in placements if placement.photo.class_name is not None]
    try:
        bar = tqdm(placements, "adding", unit=" images", leave=False, disable=None)
        for photo, file_name in bar:
            path = os.path.join(data_set.samples.folder, file_name)
            _make_folder(os.path.dirname(path), made_paths)
            if os.path.lexists(path):  # another program made it, or case does not count here
                raise InputError(f"{path} exists already; the photo {photo.path} was to go there")
            made_paths.append(path)
            with replacing(path) as partial:
                transfer.put(photo.path, partial)
            if data_set.layout == SAMPLE_FORMAT and photo.class_name is not None:
                made_paths.append(text_file_name(path))
                class_id = data_set.class_names.index(photo.class_name)
                write_text(made_paths[-1], sample_line(file_name, class_id))
            if photo.text_path is not None:
                transfer.remove(photo.text_path)
        if labelled and parts.exists(data_set.path):
            _give_parts(data_set, labelled, workers)
        if labelled and data_set.layout == CSV:
            rows = [(file_name, photo.class_name) for photo, file_name in labelled]
            csv_labels.add_rows(data_set.path, rows)
    except BaseException:  # Ctrl-C as well
        for path in reversed(made_paths):
            _remove(path)
        raise
    transfer.finish()


def _make_folder(path, made_paths):
    """Makes a folder and those above it, and notes the ones that were not there."""
    if path and not os.path.isdir(path):
        _make_folder(os.path.dirname(path), made_paths)
        os.mkdir(path)
        made_paths.append(path)


def _remove(path):
    with contextlib.suppress(OSError):
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)


def _give_parts(data_set, labelled, workers):
    """Gives the new photos a part in splits.csv; the others keep theirs."""
    folder, file_names, class_ids = data_set.samples
    class_names = [*data_set.class_names]
    for photo, _ in labelled:
        if photo.class_name not in class_names:
            class_names.append(photo.class_name)
    new_ids = [class_names.index(photo.class_name) for photo, _ in labelled]
    samples = Samples(
        folder,
        [*file_names, *(file_name for _, file_name in labelled)],
        np.concatenate([class_ids, np.int32(new_ids)]),
    )
    assignment = parts.update(
        data_set.path, samples, workers=workers, class_names=tuple(class_names)
    )
    parts.describe_gaps(assignment, samples.class_ids, class_names)
    console.say(f"{assignment.path}: {assignment.added:,} photos are new and got a part")


def _text(result, dry_run):
    would = "would be " if dry_run else ""
    target = result["target"]
    lines = [f"{count:>8,}  {class_name}" for class_name, count in result["added"].items()]
    lines.append(f"{sum(result['added'].values()):>8,}  labelled photos {would}added to {target}")
    if result["unsorted"]:
        lines.append(f"{result['unsorted']:>8,}  without a label {would}put into {UNSORTED}")
    duplicates, left_out = result["duplicates"], result["left_out"]
    if duplicates:
        equals = first_ten(f"{entry['path']} (equals {entry['equals']})" for entry in duplicates)
        lines.append(f"{len(duplicates):>8,}  duplicates left out: {equals}")
    if left_out:
        reasons = first_ten(f"{entry['path']} ({entry['reason']})" for entry in left_out)
        lines.append(f"{len(left_out):>8,}  cannot be decoded, left out: {reasons}")
    if contradictions := [entry for entry in duplicates if "class" in entry]:
        pairs = first_ten(
            f"{entry['path']} ({entry['class']}) is already there as {entry['equals']} "
            f"({entry['other_class']})"
            for entry in contradictions
        )
        lines.append(f"note: {len(contradictions):,} under another class: {pairs}")
    lines += [f"new class: {name}" for name in result["new_classes"]]
    return "\n".join(lines)
