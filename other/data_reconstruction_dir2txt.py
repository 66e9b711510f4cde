"""A folder with one folder a class becomes the sample format with its label.json."""

import json
import os
import shutil

from tqdm import tqdm

from errors import InputError, first_ten
from preprocess import EXTENSIONS
from run_folder import building
from samples import write_label_names, write_sample


def main(options):
    """`--mode dir2txt`."""
    result = convert(options.source, options.target)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for name, count in result["classes"].items():
        print(f"{count:>8}  {name}")
    print(f"{result['images']:>8}  images in {result['target']}")
    others = result["left_out"]
    if others:
        print(f"{len(others):>8}  other files left out: {first_ten(others)}")


def convert(source, target):
    """Copies the images of `source` into the new folder `target`, with their labels.

    A class is the path of a folder below `source`, so `waste/glass/x.jpg` has the
    class `waste/glass`. Classes are numbered in the order of their names. An image
    keeps its name where no other has the same stem; else its class stands before.

    Args:
        source: folder with one folder a class.
        target: folder to make; where it exists it must be empty.

    Returns:
        dict: target, images (number), classes (name -> number), left_out (paths).

    Raises:
        InputError: no classes, images outside any class, or an existing target.
    """
    images, left_out = _find(source)
    if os.path.realpath(target).startswith(os.path.join(os.path.realpath(source), "")):
        raise InputError(f"--target: {target} lies in --source {source}; name one outside it")
    labels = sorted({label for _, label in images})
    numbers = {label: number for number, label in enumerate(labels)}
    counts = dict.fromkeys(labels, 0)
    try:
        with building(target) as partial:
            named = zip(images, _names(images))
            bar = tqdm(named, "copying", len(images), unit=" images", leave=False, disable=None)
            for (path, label), name in bar:
                shutil.copyfile(path, os.path.join(partial, name))
                write_sample(partial, name, numbers[label])
                counts[label] += 1
            write_label_names(partial, labels)
    except OSError as error:
        raise InputError(f"{error.filename or target}: {error.strerror or error}") from None
    return {"target": target, "images": len(images), "classes": counts, "left_out": left_out}


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
