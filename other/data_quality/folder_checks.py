"""What is wrong with a data set before any image is opened: names, links, text files."""

import os
from collections import Counter, defaultdict
from typing import NamedTuple

from common.errors import InputError
from data import csv_labels, samples
from data.image_files import (
    OWN_FILES,
    check_images,
    has_line_break,
    is_image,
    is_system_name,
    list_folder,
)
from data.label_names import read_label_names
from data.labelled_data import FOLDER, enclose_in_classes, has_own_images, name_by_folders
from data.packed_places import is_place, open_place
from other.data_quality.findings import detail


class Folder(NamedTuple):
    """What a data set holds, as names relative to its folder, without hidden and system files.

    Attributes:
        source: str, the folder or CSV as it was given.
        path: str, the folder, or that of the CSV.
        images: list of N str.
        image_classes: list of N str, the class of each image as folders or CSV name it; None
            in the sample format.
        texts, others: lists of str; texts only in the sample format.
        unreadable: list of (str, str), folders that cannot be read, and why.
        empty: list of str, folders of classes without images.
    """

    source: str
    path: str
    images: list
    image_classes: list | None
    texts: list
    others: list
    unreadable: list
    empty: list

    @property
    def by_class(self):
        """bool, whether folders or a CSV name the classes; else text files give their ids."""
        return self.image_classes is not None

    @property
    def is_csv(self):
        """bool, whether a CSV names images and classes."""
        return self.source != self.path


def read_folder(path, option="--source", rule=None):
    """Lists a data set in any of the layouts of `labelled_data`.

    Args:
        path: str, the folder or CSV.
        option: str, what errors call it.
        rule: str, as of `--group`: with "folder" those below classes are no classes.

    Returns:
        `Folder`.

    Raises:
        InputError: neither, or without images.
    """
    try:
        if is_place(path):
            return _read_packed(path)
        if os.path.isfile(path) and path.lower().endswith(".csv"):
            return Folder(path, *csv_labels.read_csv(path), [], [], [], [])
        if has_own_images(path):
            return _read_sample_format(path)
        contents = list_folder(path)
        if not contents.images:  # else a folder that cannot be read is a finding
            check_images(path, contents)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None
    images = name_by_folders(path, contents.images)
    if rule == FOLDER:
        images, _ = enclose_in_classes(images, _own_names(path), is_grouped=True)
    others = sorted({*contents.others, *contents.links} - OWN_FILES)
    return Folder(
        path,
        path,
        contents.images,
        images.image_classes,
        [],
        others,
        contents.unreadable,
        contents.empty_folders,
    )


def _own_names(path):
    """The classes that a folder's label.json names; none where it has none, or a damaged one."""
    try:
        return read_label_names(os.path.join(path, "label.json"))
    except InputError:
        return ()


def _read_packed(path):
    place = open_place(path)
    image_classes = [place.class_names[class_id] for class_id in place.class_ids]
    return Folder(path, path, place.names, image_classes, [], [], [], [])


def _read_sample_format(path):
    file_names = sorted(name for name in os.listdir(path) if not is_system_name(name))
    images = [file_name for file_name in file_names if is_image(file_name)]
    texts = [
        file_name
        for file_name in file_names
        if not is_image(file_name) and samples.is_text(file_name)
    ]
    others = sorted({*file_names} - {*images, *texts} - OWN_FILES)
    return Folder(path, path, images, None, texts, others, [], [])


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
            findings.add("name_not_utf8", file_path, detail("not_utf8"))
        elif has_line_break(file_name):
            text = detail("line_break", name=repr(os.path.basename(file_name)))
            findings.add("line_break_in_name", file_path, text)
        if (
            os.path.islink(file_path)
            and os.path.exists(file_path)
            and not inside(file_path, folder.path)
        ):
            text = detail("leads_to", path=os.path.realpath(file_path))
            findings.add("outside_link", file_path, text)
    if not folder.by_class:
        _check_stems(folder, findings)


def _check_others(folder, findings):
    """What is not an image, and folders that cannot be read."""
    for file_name in folder.others:
        file_path = os.path.join(folder.path, file_name)
        if os.path.isdir(file_path):
            is_link = os.path.islink(file_path)
            text = detail("link_to_folder") if is_link else detail("folder")
            findings.add("not_an_image", file_path, text)
        else:
            findings.add("not_an_image", file_path, detail("no_image"))
    for folder_name, reason in folder.unreadable:
        text = detail("unreadable_folder", reason=reason)
        findings.add("unreadable", os.path.join(folder.path, folder_name), text)


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
                detail("no_stem"),
                remove=samples.stem(file_name) not in other_stems,
            )
    for stem, image_names in images_by_stem.items():
        if len(image_names) > 1:
            group = next(findings.groups)
            both = detail("shared_text", text=f"{stem}.txt", images=", ".join(image_names))
            for file_name in image_names:
                findings.add(
                    "two_images_one_stem", os.path.join(folder.path, file_name), both, group
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
