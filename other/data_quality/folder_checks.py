"""What is wrong with a data set before any image is opened: names, links, text files."""

import os
from collections import Counter, defaultdict
from typing import NamedTuple

from common.errors import InputError
from data import samples
from data.image_files import EXTENSIONS


class Folder(NamedTuple):
    """What a folder holds, as names relative to it, without hidden files.

    Attributes:
        path: str, as it was given.
        by_class: bool, whether it has one folder per class; else it is in the sample format.
        images, texts, others, unreadable: lists of str; texts only in the sample format.
        empty: list of str, folders of classes without images.
    """

    path: str
    by_class: bool
    images: list
    texts: list
    others: list
    unreadable: list
    empty: list


def read_folder(path, option="--source"):
    """Lists a data set.

    A folder that holds images itself is in the sample format, another has a folder per class.

    Args:
        path: str, the folder.
        option: str, what errors call it.

    Returns:
        `Folder`.

    Raises:
        InputError: not a folder, or without images.
    """
    try:
        file_names = _visible(os.listdir(path))
    except OSError as error:
        raise InputError(f"{option}: {path}: {error.strerror}; a folder is needed") from None
    images = [file_name for file_name in file_names if _is_image(file_name)]
    if not images:
        return _read_class_folders(path, option)
    texts = [
        file_name
        for file_name in file_names
        if not _is_image(file_name) and samples.is_text(file_name)
    ]
    others = sorted({*file_names} - {*images, *texts, "label.json"})
    return Folder(path, False, images, texts, others, [], [])


def _read_class_folders(path, option):
    folder = Folder(path, True, [], [], [], [], [])

    def note_unreadable(error):
        folder.unreadable.append(os.path.relpath(error.filename, path))

    for parent, subfolders, file_names in os.walk(path, onerror=note_unreadable):
        relative_parent = os.path.relpath(parent, path)
        folder.others.extend(
            os.path.normpath(os.path.join(relative_parent, folder_name))
            for folder_name in subfolders
            if os.path.islink(os.path.join(parent, folder_name))
        )
        subfolders[:] = _visible(subfolders)
        file_names = _visible(file_names)
        image_names = [
            os.path.join(relative_parent, file_name)
            for file_name in file_names
            if _is_image(file_name)
        ]
        folder.images.extend(image_names)
        folder.others.extend(
            os.path.normpath(os.path.join(relative_parent, file_name))
            for file_name in file_names
            if not _is_image(file_name) and (relative_parent, file_name) != (".", "label.json")
        )
        if not image_names and not subfolders and relative_parent != ".":
            folder.empty.append(relative_parent)
    if not folder.images:
        raise InputError(
            f"{option}: {path}: no images; looked for {', '.join(EXTENSIONS)}, in the "
            "folder and in one folder per class"
        )
    return folder


def _visible(names):
    return sorted(name for name in names if not name.startswith("."))


def _is_image(name):
    return name.lower().endswith(EXTENSIONS)


def inside(path, folder):
    """Whether a file or folder is inside another folder, all links followed.

    Args:
        path: str, the file or folder.
        folder: str, the other folder.
    """
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))


def check_names(folder, findings):
    """Adds what names and links alone show.

    Args:
        folder: `Folder`.
        findings: `findings.Findings`, to which rows are added.
    """
    _check_others(folder, findings)
    for file_name in folder.images:
        file_path = os.path.join(folder.path, file_name)
        if not is_utf8(file_name):
            findings.add("name_not_utf8", file_path, "has a name that is not UTF-8")
        if (
            os.path.islink(file_path)
            and os.path.exists(file_path)
            and not inside(file_path, folder.path)
        ):
            findings.add("outside_link", file_path, f"leads to {os.path.realpath(file_path)}")
    if not folder.by_class:
        _check_stems(folder, findings)


def _check_others(folder, findings):
    """What is not an image, and folders that cannot be read."""
    for file_name in folder.others:
        file_path = os.path.join(folder.path, file_name)
        if os.path.isdir(file_path):
            kind = "is a link to a folder" if os.path.islink(file_path) else "is a folder"
            findings.add("not_an_image", file_path, f"{kind}; nothing in it is looked at")
        else:
            findings.add("not_an_image", file_path, "is no image by its extension")
    for file_name in folder.unreadable:
        findings.add(
            "unreadable", os.path.join(folder.path, file_name), "the folder cannot be read"
        )


def _check_stems(folder, findings):
    """Text files without an image, and images that share one."""
    images_by_stem = defaultdict(list)
    for file_name in folder.images:
        images_by_stem[samples.stem(file_name)].append(file_name)
    # The label of a photo in an unsupported format is kept until the photo is converted.
    other_stems = set(map(samples.stem, folder.others))
    for file_name in folder.texts:
        if samples.stem(file_name) not in images_by_stem:
            findings.add(
                "orphan_text",
                os.path.join(folder.path, file_name),
                "no image that can be read has its stem",
                remove=samples.stem(file_name) not in other_stems,
            )
    for stem, image_names in images_by_stem.items():
        if len(image_names) > 1:
            group = next(findings.groups)
            detail = f"{stem}.txt belongs to {' and '.join(image_names)}"
            for file_name in image_names:
                findings.add(
                    "two_images_one_stem", os.path.join(folder.path, file_name), detail, group
                )


def shared_stems(folder):
    """The stems that more than one image of a folder has.

    Args:
        folder: `Folder` in the sample format.

    Returns:
        Set of str.
    """
    counts = Counter(map(samples.stem, folder.images))
    return {stem for stem, count in counts.items() if count > 1}


def is_utf8(name):
    """Whether a file name can be written to a text file.

    Args:
        name: str, as the operating system's functions return it.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
