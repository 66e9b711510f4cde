"""Converts a folder with one folder per class into the sample format with its label.json."""

import os
import re

import numpy as np
from tqdm import tqdm

from common import console
from common.errors import InputError, first_ten
from common.files import building, check_building
from common.write_errors import is_disk_full, write_error
from config.mode_options import Dir2txtOptions
from data import label_journal, part_assignment
from data.class_spelling import natural_key, normalize
from data.file_transfer import Transfer
from data.groups import check_several, name_groups
from data.image_files import OWN_FILES, check_images, list_folder
from data.label_names import write_label_names
from data.labelled_data import FOLDER, enclose_in_classes, name_by_folders
from data.packed_places import refuse_place
from data.parts_table import NEW
from data.samples import Samples, write_sample
from data.splitting import join_named, read_groups

HASH_PART = 1  # training splits by part 0: so it can split what is assigned to training here
_LINE_BREAK = re.compile("[\r\n]|^\ufeff")
PARTS = ("train_datasets", "val_datasets", "test_datasets")


def main(options: Dir2txtOptions):
    """`--mode dir2txt`."""
    result = convert(
        options.source,
        options.target,
        options.how,
        options.split,
        options.workers,
        options.dry_run,
        options.group,
    )
    console.show(result, lambda result: _text(result, options.dry_run), options.json)


def convert(source, target, how="copy", fractions=None, workers=1, dry_run=False, rule=None):
    """Puts the images of `source` into the new folder `target`, with their labels.

    A class is the path of a folder below `source`, so `waste/glass/x.jpg` has the
    class `waste/glass`. Class ids follow the order of the names. An image keeps its name
    unless another one has the same stem; then the name of its class is put in front.

    Args:
        source: str, a folder with one folder per class.
        target: str, the folder to make; where it exists it must be empty.
        how: "copy", "link" or "move", as for `file_transfer.Transfer`.
        fractions: tuple of float, the fractions of the images for training, validation and,
            where there are three, testing, which become the folders `PARTS` of the target.
            None: all images go into the target itself.
        workers: int, threads that decode, for `fractions`.
        dry_run: bool, only check, and count.
        rule: str, as of `--group`, by which images form groups; none is in two parts. None: near
            copies alone stay together.

    Returns:
        dict: target, images (number), classes (name -> number), left_out (paths); with
        fractions also parts (name -> its images and classes) and moved (paths of images that
        went to the part of another image that shows the same); and corrected (number) where the
        journal of corrected labels says other classes than the folders.

    Raises:
        InputError: no classes, images outside any class, an existing target, or too few
            images for the fractions.

    Example:

    ```python
    convert("photos", "dataset", fractions=(0.8, 0.1, 0.1))
    ```
    """
    images, left_out = _find_images(source, rule)
    if os.path.realpath(target).startswith(os.path.join(os.path.realpath(source), "")):
        raise InputError(f"--target: {target} is inside --source {source}; name a folder outside")
    images, corrected_count = label_journal.correct(images, source, workers)
    class_names = sorted({class_name for _, class_name in images}, key=natural_key)
    parts, moved = np.zeros(len(images), int), []
    if rule and not fractions:
        raise InputError(f"--group: {rule}: nothing is split; name the fractions with --split")
    if fractions:
        names = _group_names(images, source, class_names, rule, workers) if rule else None
        parts, moved = assign(images, fractions, workers, names)
    part_names = PARTS[: len(fractions)] if fractions else ("",)
    try:
        if dry_run:
            check_building(target)
        else:
            origin = None if how == "move" else source
            _transfer(images, target, how, class_names, part_names, parts, origin)
    except OSError as error:
        if is_disk_full(error):
            raise write_error(error, target) from None
        raise InputError(f"{error.filename or target}: {error.strerror or error}") from None

    def count(indices):
        counts = dict.fromkeys(class_names, 0)
        for index in indices:
            counts[images[index][1]] += 1
        return {"images": len(indices), "classes": counts}

    result = {"target": target, **count(range(len(images))), "left_out": left_out}
    if corrected_count:
        result["corrected"] = corrected_count
    if not fractions:
        return result
    return {
        **result,
        "parts": {name: count(np.flatnonzero(parts == i)) for i, name in enumerate(part_names)},
        "moved": [os.path.relpath(images[index][0], source) for index in moved],
    }


def _transfer(images, target, how, class_names, part_names, parts, origin):
    """Fills the folders of the parts."""
    transfer = Transfer(how)
    class_ids = {class_name: class_id for class_id, class_name in enumerate(class_names)}
    with building(target) as partial:
        folders = [os.path.join(partial, part_name) for part_name in part_names]
        for folder in folders:
            os.makedirs(folder, exist_ok=True)
            write_label_names(folder, class_names)
            if origin:
                label_journal.write_origin(folder, origin)
        named_images = zip(images, _unique_names(images), parts)
        bar = tqdm(
            named_images, "converting", len(images), unit=" images", leave=False, disable=None
        )
        for (image_path, class_name), image_name, part in bar:
            transfer.put(image_path, os.path.join(folders[part], image_name))
            write_sample(folders[part], image_name, class_ids[class_name])
    transfer.finish()


def assign(images, fractions, workers=1, names=None):
    """Decides which part each image goes to.

    As in training, a hash of the image's bytes decides, so that images added later do not
    move the others. Then images that show the same picture follow one of them, and a class
    that has no image in a part gives it those with the lowest hash, where it has enough.

    Args:
        images: list of (path, class name), two str.
        fractions: tuple of float, of the parts, the training's first; they add up to 1.
        workers: int, threads that read and decode.
        names: list of N str, the group of each image, "" for one without, which no hash may
            divide; None for no groups.

    Returns:
        (int (N,), the index of each image's part; list of the indices of those that followed
        another one to its part).

    Raises:
        InputError: a part would have no image.
    """
    hashes, leaders = read_groups([path for path, _ in images], HASH_PART, workers)
    image_classes = np.array([class_name for _, class_name in images])
    if names:  # often too few for hashes to give the parts their shares
        ranks = np.argsort(np.argsort(hashes, kind="stable"))
        class_ids = np.unique(image_classes, return_inverse=True)[1]
        groups = ranks[join_named(hashes, leaders, names)]
        parts = part_assignment.assign(groups, class_ids, fractions, np.full(len(images), NEW))
        _refuse_empty_parts(parts, fractions)
        return parts, []
    # As in training the lowest are held out: validation first, then test; the rest trains.
    bounds = np.cumsum([*fractions[1:], fractions[0]])[:-1]
    hash_bounds = np.array([int(bound * 2**64) for bound in bounds], np.uint64)
    part_order = np.array([*range(1, len(fractions)), 0])
    own_parts = part_order[np.searchsorted(hash_bounds, hashes, side="right")]

    parts = own_parts[leaders]
    moved = np.flatnonzero(parts != own_parts)
    for class_name in np.unique(image_classes):
        members = np.flatnonzero(image_classes == class_name)
        _fill_parts(parts, hashes, leaders, members, len(fractions))
    _refuse_empty_parts(parts, fractions)
    return parts, moved.tolist()


def _refuse_empty_parts(parts, fractions):
    for part in range(len(fractions)):
        if not (parts == part).any():
            raise InputError(
                f"--split: {len(parts)} images are too few: {PARTS[part]} would have none; use "
                "fewer parts or more images"
            )


def _group_names(images, source, class_names, rule, workers):
    """The group of each image by a rule, "" for one without."""
    paths = [os.path.relpath(path, source) for path, _ in images]
    class_ids = np.array([class_names.index(class_name) for _, class_name in images])
    names = name_groups(Samples(source, paths, class_ids), rule, source, class_names, workers)
    check_several(names, rule)
    return names


def _fill_parts(parts, hashes, leaders, members, part_count):
    """Gives each part at least one group of a class that has that many, changing `parts`."""
    class_leaders = np.unique(leaders[members])
    if len(class_leaders) < part_count:
        return
    for part in range(part_count):
        group_counts = np.bincount(parts[class_leaders], minlength=part_count)
        if group_counts[part] == 0:
            candidates = class_leaders[parts[class_leaders] == group_counts.argmax()]
            chosen_leader = candidates[hashes[candidates].argmin()]
            parts[leaders == chosen_leader] = part


def _find_images(source, rule=None):
    """(sorted [(path, class name)], the files that are not images)."""
    refuse_place(source, "dir2txt")
    try:
        contents = list_folder(source)
        check_images(source, contents)
    except InputError as error:
        raise InputError(f"--source: {error}") from None
    for name in contents.images:
        _check_utf8(os.path.join(source, name))
    images = name_by_folders(source, contents.images)
    if rule == FOLDER:
        images, _ = enclose_in_classes(images, (), is_grouped=True)
    outside = [name for name in contents.images if not os.path.dirname(name)]
    if outside:
        raise InputError(
            f"--source: {source}: {len(outside)} images are not in the folder of a class: "
            f"{first_ten(outside)}; move them into one"
        )
    left_out = [name for name in contents.others if name not in OWN_FILES]
    left_out += [f"{name} (a link)" for name in contents.links]
    return [
        (os.path.join(source, name), normalize(class_name))
        for name, class_name in zip(images.file_names, images.image_classes)
    ], left_out


def _check_utf8(path):
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"--source: {path!r}: the name is not UTF-8; rename it") from None


def _unique_names(images):
    """A file name for each image, whose stem no other has, even if upper and lower case agree.

    What a text file cannot hold, line breaks and a byte order mark, becomes "_".
    """

    def stem(name):
        return os.path.splitext(name)[0].casefold()

    own_names = [_LINE_BREAK.sub("_", os.path.basename(path)) for path, _ in images]
    stems = [stem(name) for name in own_names]
    seen = set()
    repeated = {image_stem for image_stem in stems if image_stem in seen or seen.add(image_stem)}
    taken = set(stems) - repeated
    unique_names = []
    for name, (_, class_name), image_stem in zip(own_names, images, stems):
        if image_stem in repeated:
            prefixed_name = name = f"{class_name.replace('/', '_')}_{name}"
            suffix = 2
            while stem(name) in taken:
                first, extension = os.path.splitext(prefixed_name)
                name = f"{first}_{suffix}{extension}"
                suffix += 1
            taken.add(stem(name))
        unique_names.append(name)
    return unique_names


def _text(result, dry_run):
    """The result as text: a row per class, a column per part."""
    parts = result.get("parts", {"": result})
    width = max([8, *(len(part_name) + 2 for part_name in parts)])
    lines = []
    if len(parts) > 1:
        lines.append("".join(f"{part_name:>{width}}" for part_name in parts))
    for class_name in result["classes"]:
        counts = "".join(f"{part['classes'][class_name]:>{width}}" for part in parts.values())
        lines.append(f"{counts}  {class_name}")
    counts = "".join(f"{part['images']:>{width}}" for part in parts.values())
    lines.append(f"{counts}  images {'would be ' if dry_run else ''}in {result['target']}")
    if result.get("moved"):
        lines.append(
            f"{len(result['moved']):>{width}}  assigned to the part of an image that shows the "
            f"same: {first_ten(result['moved'])}"
        )
    if result.get("corrected"):
        lines.append(
            f"{result['corrected']:>{width}}  have another class than their folder, as "
            f"{label_journal.FILE_NAME} says"
        )
    if result["left_out"]:
        lines.append(
            f"{len(result['left_out']):>{width}}  other files left out: "
            f"{first_ten(result['left_out'])}"
        )
    return "\n".join(lines)
