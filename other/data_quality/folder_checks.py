"""What is wrong with a data set before any image is opened: names, links, labels, classes."""

import os
from collections import Counter, defaultdict
from typing import NamedTuple

from common.errors import InputError
from data import samples
from data.image_files import EXTENSIONS
from data.samples import find_labels

ANY_LABEL = range(10**9)  # where label.json cannot say how many there are


class Folder(NamedTuple):
    """What stands in a folder, as names relative to it, hidden ones left out.

    Attributes:
        path: as it was given.
        by_class: whether it has a folder a class; else it is in the sample format.
        images, texts, others, unreadable: lists of str; texts only in the sample format.
        empty: class folders without images.
    """

    path: str
    by_class: bool
    images: list
    texts: list
    others: list
    unreadable: list
    empty: list


def read_folder(path, option="--source"):
    """The `Folder` at `path`: with images in it, the sample format; else a folder a class.

    Raises:
        InputError: no folder, or no images; `option` is what errors call it.
    """
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{option}: {path}: {error.strerror}; a folder is needed") from None
    if any(map(_is_image, names)):
        images = [name for name in names if _is_image(name)]
        texts = [name for name in names if not _is_image(name) and samples.is_text(name)]
        others = sorted({*names} - {*images, *texts, "label.json"})
        return Folder(path, False, images, texts, others, [], [])
    folder = Folder(path, True, [], [], [], [], [])
    failed = folder.unreadable
    for parent, below, names in os.walk(
        path, onerror=lambda error: failed.append(os.path.relpath(error.filename, path))
    ):
        place = os.path.relpath(parent, path)
        folder.others.extend(
            os.path.normpath(os.path.join(place, name))
            for name in below
            if os.path.islink(os.path.join(parent, name))
        )
        below[:] = sorted(name for name in below if not name.startswith("."))
        names = [name for name in sorted(names) if not name.startswith(".")]
        images = [os.path.join(place, name) for name in names if _is_image(name)]
        folder.images.extend(images)
        folder.others.extend(
            os.path.normpath(os.path.join(place, name))
            for name in names
            if not _is_image(name) and (place, name) != (".", "label.json")
        )
        if not images and not below and place != ".":
            folder.empty.append(place)
    if not folder.images:
        raise InputError(
            f"{option}: {path}: no images; looked for {', '.join(EXTENSIONS)}, in the "
            "folder or in one folder a class"
        )
    return folder


def _is_image(name):
    return name.lower().endswith(EXTENSIONS)


def inside(path, folder):
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))


def layout(folder, findings):
    """What names and links alone tell."""
    for name in folder.others:
        path = os.path.join(folder.path, name)
        if os.path.isdir(path):
            what = "is a link to a folder" if os.path.islink(path) else "is a folder"
            findings.add("not_an_image", path, f"{what}; nothing in it is looked at")
        else:
            findings.add("not_an_image", path, "is no image by its extension")
    for name in folder.unreadable:
        findings.add("unreadable", os.path.join(folder.path, name), "the folder cannot be read")
    for name in folder.images:
        path = os.path.join(folder.path, name)
        if not _is_utf8(name):
            findings.add("name_not_utf8", path, "has a name that is not UTF-8")
        if os.path.islink(path) and os.path.exists(path) and not inside(path, folder.path):
            findings.add("outside_link", path, f"leads to {os.path.realpath(path)}")
    if folder.by_class:
        return
    stems = Counter(map(samples.stem, folder.images))
    # The label of a photo in a format that is not read is kept for when it is converted.
    kept = set(map(samples.stem, folder.others))
    for name in folder.texts:
        if samples.stem(name) not in stems:
            findings.add(
                "orphan_text",
                os.path.join(folder.path, name),
                "no image that can be read has its stem",
                remove=samples.stem(name) not in kept,
            )
    shared = defaultdict(list)
    for name in folder.images:
        if stems[samples.stem(name)] > 1:
            shared[samples.stem(name)].append(name)
    for stem, together in shared.items():
        group = next(findings.groups)
        for name in together:
            findings.add(
                "two_images_one_stem",
                os.path.join(folder.path, name),
                f"{stem}.txt belongs to {' and '.join(together)}",
                group,
            )


def _is_utf8(name):
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def label_names(folders, labels_path, findings):
    """[(class names, path they are from)] for each folder.

    The names are None for a folder a class, and where no label.json can be read.
    """
    given = samples.read_label_names(labels_path) if labels_path else None
    found = []
    for folder in folders:
        own = os.path.join(folder.path, "label.json")
        known, known_path = found[0] if found else (given, labels_path)
        if folder.by_class:
            found.append((None, None))
        elif known and (not found or not os.path.exists(own)):
            found.append((known, known_path))
        else:
            names, path = None, find_labels(folder.path)
            try:
                names = samples.read_label_names(path)
                if known:
                    samples.check_labels(folder.path, known, known_path)
            except InputError as error:
                findings.add("bad_label_json", path, _without(str(error), path))
                names = names or known
            found.append((names, path))
    if len(folders) == 2 and not folders[0].by_class and found[0][0] is None:
        found[0] = found[1][0], found[0][1]
    return found


def _without(message, path):
    return message.removeprefix(path).removeprefix(":").strip()


def classes_of(folder, names, names_path, findings):
    """The class of each image in the sample format, a number where `names` is None.

    None where its text file does not tell it.
    """
    stems = Counter(map(samples.stem, folder.images))
    classes = []
    for name in folder.images:
        label = None
        told = stems[samples.stem(name)] > 1 or not _is_utf8(name)  # has a finding already
        path = os.path.join(folder.path, name)
        try:
            number = samples.read_label(folder.path, name, names or ANY_LABEL, names_path)
            label = names[number] if names else str(number)
        except FileNotFoundError:
            if not told:
                findings.add("missing_text", path, f"{samples.stem(name)}.txt is not there")
        except InputError as error:
            if not told:
                findings.add("bad_label", path, _without(str(error), folder.path + os.sep))
        classes.append(label)
    return classes


def empty_classes(labelled, labels_path, findings):
    """`labelled`: for each part its `Folder`, its class names or None, its images' classes."""
    (source, names, classes), *validation = labelled
    there = set(classes)
    validated = Counter(label for _, _, part in validation for label in part if label is not None)
    if names is not None:
        path = labels_path or find_labels(source.path)
        empty = {name: path for name in names if name not in there}
    else:
        empty = {
            name.replace(os.sep, "/"): os.path.join(source.path, name) for name in source.empty
        }
    for name, path in empty.items():
        if name not in validated:
            findings.add("empty_class", path, f"{name} has no images", label=name)
    for name, count in validated.items():
        if name not in there:
            findings.add(
                "only_in_validation",
                validation[0][0].path,
                f"{name} has {count:,} images to validate on, none to train on",
                label=name,
            )
