"""What is wrong with the classes of a data set: label.json, text files, empty classes."""

import os
from collections import Counter
from typing import NamedTuple

from common.errors import InputError
from data import samples
from data.class_spelling import describe_variants, normalize, spelling_variants
from data.label_names import check_labels, find_labels, read_label_names
from other.data_quality.findings import detail
from other.data_quality.folder_checks import Folder, is_utf8, shared_stems

ANY_LABEL = range(10**9)  # where label.json cannot say how many classes there are


class LabelledFolder(NamedTuple):
    """A folder and the classes of its images.

    Attributes:
        folder: `folder_checks.Folder`.
        class_names: tuple of str, or None where folders or a CSV name the classes, and where no
            label.json can be read.
        image_classes: list of str, the class of each of `folder.images`, None where it is not
            known.
    """

    folder: Folder
    class_names: tuple | None
    image_classes: list


def read_classes(folders, labels_path, findings):
    """Finds the class of every image.

    Args:
        folders: list of `folder_checks.Folder`: the source, then the validation data if any.
        labels_path: str, JSON file with the class names, or None for each folder's own.
        findings: `findings.Findings`, to which rows are added.

    Returns:
        List of `LabelledFolder`.

    Raises:
        InputError: `labels_path` is not such a file.
    """
    labelled = []
    for folder, (class_names, names_path) in zip(
        folders, _read_class_names(folders, labels_path, findings)
    ):
        if folder.by_class:
            classes = list(map(normalize, folder.image_classes))
        else:
            classes = _read_texts(folder, class_names, names_path, findings)
            if class_names is None and any(other.by_class for other in folders):
                classes = [None] * len(classes)  # ids, which cannot be compared with names
        labelled.append(LabelledFolder(folder, class_names, classes))
    _check_spelling(folders, findings)
    return labelled


def _check_spelling(folders, findings):
    """Adds classes whose names, in folders or CSV, are meant to be the same."""
    named = [folder for folder in folders if folder.by_class]
    names = {name for folder in named for name in folder.image_classes}
    for variants in spelling_variants(names):
        variants_text = describe_variants(variants)
        path = named[0].source if named[0].is_csv else os.path.join(named[0].path, variants[0])
        findings.add("class_spelling", path, variants_text, label=normalize(variants[0]))


def _read_class_names(folders, labels_path, findings):
    """[(class names or None, path they are from)] of the folders."""
    given_names = read_label_names(labels_path) if labels_path else None
    all_names = []
    for folder in folders:
        own_path = os.path.join(folder.path, "label.json")
        known_names, known_path = all_names[0] if all_names else (given_names, labels_path)
        if folder.by_class:
            all_names.append((None, None))
        elif known_names and (not all_names or not os.path.exists(own_path)):
            all_names.append((known_names, known_path))
        else:
            class_names, names_path = None, find_labels(folder.path)
            try:
                class_names = read_label_names(names_path)
                if known_names:
                    check_labels(folder.path, known_names, known_path)
            except InputError as error:
                findings.add("bad_label_json", names_path, _without_path(error, names_path))
                class_names = class_names or known_names
            all_names.append((class_names, names_path))
    if len(folders) == 2 and not folders[0].by_class and all_names[0][0] is None:
        all_names[0] = all_names[1][0], all_names[0][1]
    return all_names


def _read_texts(folder, class_names, names_path, findings):
    """The class of each image in the sample format, its id as str without `class_names`."""
    ambiguous_stems = shared_stems(folder)
    classes = []
    for image_name in folder.images:
        image_class = None
        has_finding = samples.stem(image_name) in ambiguous_stems or not is_utf8(image_name)
        image_path = os.path.join(folder.path, image_name)
        try:
            class_id = samples.read_label(
                folder.path, image_name, class_names or ANY_LABEL, names_path
            )
            image_class = class_names[class_id] if class_names else str(class_id)
        except FileNotFoundError:
            if not has_finding:
                findings.add(
                    "missing_text",
                    image_path,
                    detail("no_text", text=f"{samples.stem(image_name)}.txt"),
                )
        except InputError as error:
            if not has_finding:
                findings.add("bad_label", image_path, _without_path(error, folder.path + os.sep))
        classes.append(image_class)
    return classes


def _without_path(error, path):
    return str(error).removeprefix(path).removeprefix(":").strip()


def check_class_counts(labelled, labels_path, findings):
    """Adds classes without images, and classes of the validation data alone.

    Args:
        labelled: list of `LabelledFolder`: the source, then the validation data if any.
        labels_path: str, JSON file with the class names, or None for each folder's own.
        findings: `findings.Findings`, to which rows are added.
    """
    (source, class_names, source_classes), *validation = labelled
    trained_classes = set(source_classes)
    validation_counts = Counter(
        image_class
        for part in validation
        for image_class in part.image_classes
        if image_class is not None
    )
    if class_names is not None:
        names_path = labels_path or find_labels(source.path)
        empty_classes = {
            class_name: names_path
            for class_name in class_names
            if class_name not in trained_classes
        }
    else:
        empty_classes = {
            folder_name.replace(os.sep, "/"): os.path.join(source.path, folder_name)
            for folder_name in source.empty
        }
    for class_name, path in empty_classes.items():
        if class_name not in validation_counts:
            text = detail("class_empty", name=class_name)
            findings.add("empty_class", path, text, label=class_name)
    for class_name, count in validation_counts.items():
        if class_name not in trained_classes:
            findings.add(
                "only_in_validation",
                validation[0].folder.path,
                detail("class_untrained", name=class_name, count=f"{count:,}"),
                label=class_name,
            )
