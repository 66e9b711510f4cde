"""A folder with one folder a class becomes the sample format with its label.json."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from common.errors import ImageError, InputError, first_ten
from common.files import building, check_building
from data import near_duplicates
from data.decoding import load
from data.file_transfer import Transfer
from data.image_files import EXTENSIONS
from data.samples import write_label_names, write_sample
from data.splitting import content_hash

HASH_PART = 1  # training splits by part 0: what is left here, it can split again
PARTS = ("train_datasets", "val_datasets", "test_datasets")


def main(options):
    """`--mode dir2txt`."""
    result = convert(
        options.source, options.target, options.how, options.split, options.workers, options.dry_run
    )
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    would = "would be " if options.dry_run else ""
    parts = result.get("parts", {"": result})
    width = max([8, *(len(name) + 2 for name in parts)])
    if len(parts) > 1:
        print("".join(f"{name:>{width}}" for name in parts))
    for label in result["classes"]:
        print(
            "".join(f"{part['classes'][label]:>{width}}" for part in parts.values()) + f"  {label}"
        )
    print(
        "".join(f"{part['images']:>{width}}" for part in parts.values())
        + f"  images {would}in {result['target']}"
    )
    if result.get("moved"):
        print(
            f"{len(result['moved']):>{width}}  went where another picture of the same is: "
            f"{first_ten(result['moved'])}"
        )
    if result["left_out"]:
        print(
            f"{len(result['left_out']):>{width}}  other files left out: "
            f"{first_ten(result['left_out'])}"
        )


def convert(source, target, how="copy", shares=None, workers=1, dry_run=False):
    """Puts the images of `source` into the new folder `target`, with their labels.

    A class is the path of a folder below `source`, so `waste/glass/x.jpg` has the
    class `waste/glass`. Classes are numbered in the order of their names. An image
    keeps its name where no other has the same stem; else its class stands before.

    Args:
        source: folder with one folder a class.
        target: folder to make; where it exists it must be empty.
        how: as `file_transfer.Transfer` takes it.
        shares: of training, validation and, where there are three, test data, which become
            the folders `PARTS` of the target; None: everything stands in the target itself.
        workers: threads that decode, for `shares`.
        dry_run: only check, and count.

    Returns:
        dict: target, images (number), classes (name -> number), left_out (paths), and parts
        (name -> its images and classes) and moved (paths) where there are shares.

    Raises:
        InputError: no classes, images outside any class, an existing target, or too few
            images for the shares.
    """
    images, left_out = _find(source)
    if os.path.realpath(target).startswith(os.path.join(os.path.realpath(source), "")):
        raise InputError(f"--target: {target} lies in --source {source}; name one outside it")
    labels = sorted({label for _, label in images})
    numbers = {label: number for number, label in enumerate(labels)}
    parts, moved = np.zeros(len(images), int), []
    if shares:
        parts, moved = assign(images, shares, workers)
    folders = PARTS[: len(shares)] if shares else ("",)
    try:
        if dry_run:
            check_building(target)
        else:
            _transfer(images, target, how, folders, parts, labels, numbers)
    except OSError as error:
        raise InputError(f"{error.filename or target}: {error.strerror or error}") from None

    def summary(chosen):
        counts = dict.fromkeys(labels, 0)
        for position in chosen:
            counts[images[position][1]] += 1
        return {"images": len(chosen), "classes": counts}

    result = {"target": target, **summary(range(len(images))), "left_out": left_out}
    if not shares:
        return result
    return {
        **result,
        "parts": {name: summary(np.flatnonzero(parts == n)) for n, name in enumerate(folders)},
        "moved": [os.path.relpath(images[position][0], source) for position in moved],
    }


def _transfer(images, target, how, folders, parts, labels, numbers):
    transfer = Transfer(how)
    with building(target) as partial:
        places = [os.path.join(partial, folder) for folder in folders]
        for place in places:
            os.makedirs(place, exist_ok=True)
            write_label_names(place, labels)
        named = zip(images, _names(images), parts)
        bar = tqdm(named, "converting", len(images), unit=" images", leave=False, disable=None)
        for (path, label), name, part in bar:
            transfer.put(path, os.path.join(places[part], name))
            write_sample(places[part], name, numbers[label])
    transfer.finish()


def assign(images, shares, workers=1):
    """Which part each image goes to.

    As in training a hash of the image's bytes says so, so that images added later leave the
    others where they are. Then pictures of the same follow one of them, and a class that
    lacks a part gives it those with the lowest hash, where it has enough.

    Args:
        images: list of (path, class).
        shares: of the parts, the training's first; they add up to 1.
        workers: threads that read and decode.

    Returns:
        (parts, moved): int (N,), and the positions of those that followed another.

    Raises:
        InputError: a part would have no image.
    """

    def look(path):
        with open(path, "rb") as file:
            data = file.read()
        try:
            picture = load(data, near_duplicates.PREPROCESSING, path)
        except ImageError:  # cleaning is another tool's work; it is like no other
            picture = None
        return content_hash(data, HASH_PART), picture

    with ThreadPoolExecutor(workers) as pool:
        looked = tqdm(
            pool.map(look, [path for path, _ in images]),
            "comparing",
            len(images),
            unit=" images",
            leave=False,
            disable=None,
        )
        hashes, pictures = zip(*looked)
    hashes = np.array(hashes, np.uint64)
    # Held out are the lowest, as in training: validation first, then test, the rest trains.
    ends = np.cumsum([*shares[1:], shares[0]])
    ends = np.array([int(end * 2**64) for end in ends[:-1]], np.uint64)
    order = np.array([*range(1, len(shares)), 0])
    own = order[np.searchsorted(ends, hashes, side="right")]

    leaders = _leaders(hashes, pictures)
    parts = own[leaders]
    moved = np.flatnonzero(parts != own)
    classes = np.array([label for _, label in images])
    for label in np.unique(classes):
        _fill_parts(parts, hashes, leaders, np.flatnonzero(classes == label), len(shares))
    for number in range(len(shares)):
        if not (parts == number).any():
            raise InputError(
                f"--split: {len(images)} images are too few: {PARTS[number]} would have none"
            )
    return parts, moved.tolist()


def _leaders(hashes, pictures):
    """For each image that among those that show the same which the others follow."""
    decoded = [position for position, picture in enumerate(pictures) if picture is not None]
    groups = np.arange(len(hashes))
    if decoded:
        found = near_duplicates.groups(
            near_duplicates.describe([pictures[position] for position in decoded])
        )
        groups[decoded] = np.array(decoded)[found]
    # By the hash's last byte first: the lowest hash would lead too many to the held out parts.
    order = np.lexsort((hashes.byteswap(), groups))
    first = np.flatnonzero(np.diff(groups[order], prepend=-1))
    leaders = np.empty_like(groups)
    leaders[order] = np.repeat(order[first], np.diff([*first, len(order)]))
    return leaders


def _fill_parts(parts, hashes, leaders, members, count):
    """Gives each part at least one group of a class that has that many, changing `parts`."""
    groups = np.unique(leaders[members])
    if len(groups) < count:
        return
    for number in range(count):
        sizes = np.bincount(parts[groups], minlength=count)
        if sizes[number] == 0:
            giving = groups[parts[groups] == sizes.argmax()]
            chosen = giving[hashes[giving].argmin()]
            parts[leaders == chosen] = number


def _find(source):
    """[(path, class)] sorted, and the files that are no images."""
    if not os.path.isdir(source):
        raise InputError(f"--source: {source}: no such folder")
    images, left_out, outside = [], [], []
    for parent, folders, names in os.walk(source, onerror=_refuse):
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):  # it may lead anywhere, and in circles
                left_out.append(os.path.relpath(os.path.join(parent, name), source) + " (a link)")
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        label = os.path.relpath(parent, source).replace(os.sep, "/")
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = os.path.join(parent, name)
            try:
                path.encode()
            except UnicodeEncodeError:
                raise InputError(f"--source: {path!r}: the name is not UTF-8; rename it") from None
            if not name.lower().endswith(EXTENSIONS):
                left_out.append(os.path.relpath(path, source))
            elif label == ".":
                outside.append(name)
            else:
                images.append((path, label))
    if outside:
        raise InputError(
            f"--source: {source}: {len(outside)} images stand in no class folder: "
            f"{first_ten(outside)}"
        )
    if not images:
        raise InputError(
            f"--source: {source}: no images; looked for folders, one a class, with "
            f"{', '.join(EXTENSIONS)}"
        )
    return images, left_out


def _refuse(error):
    raise InputError(f"--source: {error.filename}: {error.strerror}")


def _names(images):
    """A file name for each image, with a stem of its own whatever the letters' case."""

    def stem(name):
        return os.path.splitext(name)[0].casefold()

    stems = [stem(os.path.basename(path)) for path, _ in images]
    seen = set()
    twice = {each for each in stems if each in seen or seen.add(each)}
    taken = set(stems) - twice
    names = []
    for (path, label), own in zip(images, stems):
        name = os.path.basename(path)
        if own in twice:
            first = name = f"{label.replace('/', '_')}_{name}"
            number = 2
            while stem(name) in taken:
                name = f"{os.path.splitext(first)[0]}_{number}{os.path.splitext(first)[1]}"
                number += 1
            taken.add(stem(name))
        names.append(name)
    return names
