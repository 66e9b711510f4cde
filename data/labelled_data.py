"""The one reader of labelled images: it finds out in which of four layouts they are.

- The sample format: images in one folder, each with a text file of the same stem.
- One folder per class, in as many levels as wanted: `photos/waste/glass/1.jpg` has the class
  `waste/glass`. Where the classes are known, or `--group folder` is in use, folders below them
  belong to them.
- A CSV with the columns `path` and `label`; paths are relative to its folder.
- A packed place: tar files with an index (`data.packed_index`).

Class ids are those of the run where there is one; so a part of the data may lack a class. Else
label.json says them, and for folders and tables without one the order of the names: upper case
first, and "2" before "10".
"""

import os
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError, first_ten, nearest
from data import csv_labels
from data.class_spelling import describe_variants, natural_key, normalize, spelling_variants
from data.image_files import (
    OWN_FILES,
    check_folder,
    check_images,
    check_line_breaks,
    describe_left_out,
    describe_unsorted,
    is_being_sorted,
    is_image,
    is_system_name,
    list_folder,
)
from data.label_names import find_labels, read_label_names
from data.packed_places import describe, is_place, open_place
from data.parts_table import rule_of
from data.samples import NamedImages, Samples, is_text, read_samples, text_file_name

FOLDER = "folder"  # the rule of `--group` that folders below those of classes are groups
# Names of the parts of a data set, which many archives have above the folders of the classes
PART_NAMES = frozenset(
    ("train", "training", "train_datasets", "val", "valid", "validation", "val_datasets")
    + ("test", "testing", "test_datasets")
)


class LabelledData(NamedTuple):
    """Labelled images and the names of their classes.

    Attributes:
        samples: `Samples`, at least one.
        class_names: tuple of str, in the order of the class ids.
        names_from: str, where the names are from, for messages: a file, or a run.
    """

    samples: Samples
    class_names: tuple
    names_from: str


def read_labelled(path, class_names=None, names_from=None, labels_path=None, rule=None):
    """Reads labelled images; a line on standard error says in which layout they are.

    Args:
        path: str, a folder, a CSV file or a packed place.
        class_names: tuple of str, the classes of a run; None if the data say which there are.
        names_from: str, what errors call the place of `class_names`.
        labels_path: str, a JSON file with the class names, or None; not used with `class_names`.
        rule: str, as of `--group`; None is that of the data's table of parts. With "folder" the
            folders below that of a class are groups.

    Returns:
        `LabelledData`.

    Raises:
        InputError: anything missing, ambiguous or malformed, or a class that is not one of
            `class_names`.

    Example:

    ```python
    read_labelled("photos").class_names  # ("glass", "metal"), the folders in photos/
    ```
    """
    if is_place(path):
        return _read_packed(path, class_names, names_from, labels_path)
    if os.path.isfile(path):
        if not path.lower().endswith(".csv"):
            raise InputError(f"{path}: is a file; a folder or a CSV (.csv) is needed")
        images = csv_labels.read_csv(path)
        return _with_class_ids(path, images, "a CSV", class_names, names_from, labels_path)
    is_half_sorted = is_being_sorted(path) and not is_sample_format(path)
    if has_own_images(path) and not is_half_sorted:
        _refuse_stray_images(path)
        return _read_sample_format(path, class_names, names_from, labels_path)
    contents = list_folder(path)
    check_images(path, contents)
    layout = "one folder per class"
    placed_names = [name for name in contents.images if os.path.dirname(name)]
    if is_half_sorted and 0 < len(placed_names) < len(contents.images):
        layout += f", {len(contents.images) - len(placed_names):,} photos without a class left out"
        contents = contents._replace(images=placed_names)
    images = name_by_folders(path, contents.images)
    is_grouped = (rule or rule_of(path)) == FOLDER
    if contents.others:
        layout += f", {describe_left_out(set(contents.others) - OWN_FILES)}".rstrip(", ")
    if contents.links:
        layout += f", {len(contents.links)} links to folders not followed"
    if unsorted := describe_unsorted(path):
        layout += f", {unsorted}"
    if class_names is None:
        _refuse_parts(path, images.image_classes)
        own_labels = os.path.join(path, "label.json")
        labels_path = labels_path or (own_labels if os.path.exists(own_labels) else None)
    known_names = class_names or (read_label_names(labels_path) if labels_path else ())
    images, below_count = enclose_in_classes(images, known_names, is_grouped)
    if below_count:
        layout += f", {below_count:,} photos in folders below them"
    return _with_class_ids(path, images, layout, class_names, names_from, labels_path)


def _read_packed(path, class_names, names_from, labels_path):
    place = open_place(path)
    own_path = os.path.join(place.path, "label.json")
    if class_names is None:
        class_names = read_label_names(labels_path) if labels_path else place.class_names
        names_from = labels_path or own_path
    class_ids = place.class_ids
    counts = np.bincount(class_ids, minlength=len(place.class_names))
    if class_names != place.class_names:
        used_ids = np.flatnonzero(counts)
        used_names = [place.class_names[class_id] for class_id in used_ids]
        new_ids = np.zeros(len(counts), np.int32)
        new_ids[used_ids] = match_classes(own_path, used_names, class_names, names_from)
        class_ids = new_ids[class_ids]
    say(
        f"{path}: {describe(place)}: {len(class_ids):,} images of {np.count_nonzero(counts):,} "
        "classes"
    )
    return LabelledData(Samples(place.path, place.names, class_ids), class_names, names_from)


def _read_sample_format(path, class_names, names_from, labels_path):
    if class_names is None:
        names_from = labels_path or find_labels(path)
        class_names = read_label_names(names_from)
        return LabelledData(
            read_samples(path, class_names, names_from, say), class_names, names_from
        )
    own_path = os.path.join(path, "label.json")
    if not os.path.exists(own_path):
        return LabelledData(
            read_samples(path, class_names, names_from, say), class_names, names_from
        )
    # A part of the data may lack a class, and then numbers its classes in its own way.
    own_names = read_label_names(own_path)
    samples = read_samples(path, own_names, own_path, say)
    if own_names != class_names:
        image_classes = [own_names[class_id] for class_id in samples.class_ids]
        class_ids = match_classes(own_path, image_classes, class_names, names_from)
        samples = samples._replace(class_ids=class_ids)
        say(f"note: {own_path}: its classes are matched by name with those of {names_from}")
    return LabelledData(samples, class_names, names_from)


def has_own_images(path):
    """Whether a folder itself holds images, which makes it one in the sample format.

    Args:
        path: str, the folder.

    Returns:
        bool.

    Raises:
        InputError: it is not a folder, or cannot be read.
    """
    check_folder(path)
    with os.scandir(path) as entries:
        return any(is_image(entry.name) and not is_system_name(entry.name) for entry in entries)


def is_sample_format(path):
    """Whether a folder has text files beside its images, or a label.json and no other images.

    Args:
        path: str, a folder.

    Returns:
        bool; False where it has no images of its own.
    """
    names = os.listdir(path)
    image_names = [name for name in names if is_image(name) and not is_system_name(name)]
    text_names = map(text_file_name, image_names)
    if not {*names}.isdisjoint(text_names):
        return True
    if not image_names or "label.json" not in names:
        return False
    return not any(map(os.path.dirname, list_folder(path).images))  # else of classes' folders


def _refuse_stray_images(path):
    """Refuses images beside the folders of classes: nothing says their class."""
    with os.scandir(path) as entries:
        if any(is_text(entry.name) for entry in entries):
            return
    images = list_folder(path).images
    stray_images = [name for name in images if not os.path.dirname(name)]
    if len(stray_images) < len(images):
        raise InputError(
            f"{path}: {len(stray_images)} images are not in the folder of a class: "
            f"{first_ten(stray_images)}; move them into one, by hand or with --mode label"
        )


def name_by_folders(path, image_names):
    """Names the class of each image by the folder that it is in.

    Args:
        path: str, the folder of all.
        image_names: list of str, paths relative to it.

    Returns:
        `NamedImages`, with "/" between the folders of a class.
    """
    image_classes = [os.path.dirname(name).replace(os.sep, "/") for name in image_names]
    return NamedImages(path, image_names, image_classes)


def enclose_in_classes(images, known_names, is_grouped):
    """Gives images in folders below that of a class this class.

    Args:
        images: `NamedImages`, named by folders.
        known_names: collection of str, the classes; empty where the folders say which there are.
        is_grouped: bool, whether such folders are groups: where no class is known the first
            folder is one.

    Returns:
        (`NamedImages`, number of images that were in a folder below).

    Example:
        >>> images = NamedImages("photos", ["glass/may/1.jpg"], ["glass/may"])
        >>> enclose_in_classes(images, (), True)[0].image_classes
        ['glass']
    """
    known = {*map(normalize, known_names)}

    def enclosing(folder):
        candidate = folder
        while candidate and normalize(candidate) not in known:
            candidate = candidate.rpartition("/")[0]
        return candidate or (folder.split("/")[0] if is_grouped else folder)

    class_of = {folder: enclosing(folder) for folder in set(images.image_classes)}
    image_classes = [class_of[folder] for folder in images.image_classes]
    below_count = sum(map(str.__ne__, image_classes, images.image_classes))
    return images._replace(image_classes=image_classes), below_count


def _refuse_parts(path, image_classes):
    """Refuses a folder of folders such as train/ and val/, which would be taken for classes."""
    top_names = {image_class.split("/")[0] for image_class in image_classes}
    if len(top_names) > 1 and {name.lower() for name in top_names} <= PART_NAMES:
        training = next((name for name in sorted(top_names) if name.startswith("tr")), None)
        example = os.path.join(path, training or min(top_names))
        raise InputError(
            f"{path}: its folders {', '.join(sorted(top_names))} look like parts of a data set, "
            f"not classes; name one of them, for example {example}"
        )


def _with_class_ids(path, images, layout, class_names, names_from, labels_path):
    """The `LabelledData` of `NamedImages`; says how many there are, and what is odd."""
    check_line_breaks(path, images.file_names)
    spellings = set(images.image_classes)
    if class_names is None and labels_path:
        class_names, names_from = read_label_names(labels_path), labels_path
    if class_names is None:
        class_names = tuple(sorted(set(map(normalize, spellings)), key=natural_key))
        names_from = path
    class_ids = match_classes(path, images.image_classes, class_names, names_from)
    say(f"{path}: {layout}: {len(class_ids):,} images of {len(set(class_ids.tolist())):,} classes")
    for variants in spelling_variants(spellings):
        say(f"note: {path}: {describe_variants(variants)}")
    samples = Samples(images.folder, images.file_names, class_ids)
    return LabelledData(samples, class_names, names_from)


def match_classes(path, image_classes, class_names, names_from):
    """The class ids of images whose classes are given by name.

    Args:
        path: str, for messages: the folder or file that says the classes.
        image_classes: list of N str; Unicode form and outer blanks do not matter.
        class_names: tuple of str, in the order of their ids.
        names_from: str, what errors call the place of `class_names`.

    Returns:
        int32 (N,).

    Raises:
        InputError: a class that is not one of `class_names`.
    """
    ids_by_name = {normalize(name): class_id for class_id, name in enumerate(class_names)}
    ids_by_name.update({name: class_id for class_id, name in enumerate(class_names)})
    ids_by_spelling = {
        spelling: ids_by_name.get(spelling, ids_by_name.get(normalize(spelling)))
        for spelling in set(image_classes)
    }
    unknown = sorted(name for name, class_id in ids_by_spelling.items() if class_id is None)
    if unknown:
        others = f" (and {len(unknown) - 1} other classes)" if len(unknown) > 1 else ""
        raise InputError(
            f"{path}: the class {unknown[0]!r}{others} is not one of those of {names_from}: "
            f"{first_ten(class_names)}{nearest(unknown[0], class_names)}"
        )
    return np.fromiter(
        (ids_by_spelling[name] for name in image_classes), np.int32, len(image_classes)
    )


def list_labelled(path):
    """Lists labelled images leniently: for what is to be had of data that may have changed.

    Args:
        path: str, a folder or a CSV file.

    Returns:
        `NamedImages`, none where nothing can be read. In the sample format the class of an image
        is None: its text file says it.
    """
    try:
        if is_place(path):
            place = open_place(path)
            image_classes = [place.class_names[class_id] for class_id in place.class_ids]
            return NamedImages(place.path, place.names, image_classes)
        if os.path.isfile(path):
            return csv_labels.read_csv(path)
        if has_own_images(path):
            names = sorted(name for name in os.listdir(path) if is_image(name))
            names = [name for name in names if not is_system_name(name)]
            return NamedImages(path, names, [None] * len(names))
        return name_by_folders(path, list_folder(path).images)
    except (InputError, OSError):
        return NamedImages(path, [], [])
