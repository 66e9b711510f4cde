"""Photos to add to a data set: with or without labels, and which of them it lacks."""

import os
from typing import NamedTuple

from common.console import say
from common.errors import ImageError, InputError
from data.class_spelling import normalize
from data.decoding import load
from data.geometry import Preprocessing
from data.image_files import (
    OWN_FILES,
    UNSORTED,
    check_images,
    check_line_breaks,
    describe_left_out,
    describe_unsorted,
    is_image,
    is_system_name,
    list_folder,
)
from data.kept_images import is_kept_name
from data.labelled_data import FOLDER, has_own_images, read_labelled
from data.parts import hash_photos
from data.samples import text_file_name
from data.splitting import hash_files, map_images

SMALL = Preprocessing(32, "stretch")  # enough to see whether a photo can be decoded


class NewPhoto(NamedTuple):
    """A photo to add.

    Attributes:
        path: str.
        class_name: str, or None where nobody has labelled it.
        text_path: str, its text file in the sample format, or None.
        below: str, the folders below that of its class, which are its group; "" for none.
    """

    path: str
    class_name: str | None
    text_path: str | None
    below: str = ""


def read_new_photos(source, rule=None):
    """Reads the photos of a folder or CSV; a line on standard error says what it is.

    Images that a server has kept have text files, but with the model's guess: no labels.

    Args:
        source: str, a folder or a CSV file.
        rule: str, by which the photos of the data set form groups, as of `--group`; or None.

    Returns:
        list of `NewPhoto`.

    Raises:
        InputError: anything missing, ambiguous or malformed.

    Example:

    ```python
    read_new_photos("new")  # [NewPhoto("new/glass/1.jpg", "glass", None)]
    ```
    """
    is_sample_format = os.path.isdir(source) and has_own_images(source)
    if is_sample_format and _is_unlabelled(source):
        paths, image_classes = _list_unlabelled(source), None
    else:
        samples, class_names, _ = read_labelled(source, rule=rule)
        paths = [os.path.join(samples.folder, file_name) for file_name in samples.file_names]
        image_classes = [normalize(class_names[class_id]) for class_id in samples.class_ids]
    photos = []
    for index, path in enumerate(paths):
        _check_utf8(path)
        is_guess = is_sample_format and is_kept_name(os.path.basename(path))
        class_name = None if image_classes is None or is_guess else image_classes[index]
        text_path = text_file_name(path) if is_sample_format else None
        has_text = text_path is not None and os.path.exists(text_path)
        photos.append(NewPhoto(path, class_name, text_path if has_text else None))
    if rule == FOLDER and os.path.isdir(source) and not is_sample_format:
        photos = [
            photo._replace(below=_below(os.path.relpath(photo.path, source), photo.class_name))
            for photo in photos
        ]
    guesses = sum(photo.class_name is None and photo.text_path is not None for photo in photos)
    if guesses:
        say(
            f"note: {source}: {guesses:,} images are from serve --keep_uncertain: their text files "
            "hold the model's guess, which is no label. Once you have corrected them, "
            "--mode txt2dir makes a folder per class of them, which counts as labels"
        )
    return photos


def _below(file_name, class_name):
    """The folders between that of a class and a photo."""
    folders = os.path.dirname(file_name).split(os.sep)
    return os.sep.join(folders[class_name.count("/") + 1 :])


def _is_unlabelled(folder):
    """Whether nobody has labelled the images of a folder: no text files, or only guesses."""
    file_names = os.listdir(folder)
    image_names = [name for name in file_names if is_image(name) and not is_system_name(name)]
    if all(map(is_kept_name, image_names)):
        return True
    if not {*file_names}.isdisjoint(map(text_file_name, image_names)):
        return False
    # Images in folders beside them may be labelled by these: the reader refuses such a mixture
    return not any(map(os.path.dirname, list_folder(folder).images))


def _list_unlabelled(folder):
    """The paths of the images in a folder and those below it; says what is left out."""
    contents = list_folder(folder)
    check_images(folder, contents)
    check_line_breaks(folder, contents.images)
    others = {name for name in contents.others if not name.endswith(".txt")} - OWN_FILES
    left_out = ["photos without labels", describe_left_out(others), describe_unsorted(folder)]
    say(f"{folder}: {', '.join(filter(None, left_out))}: {len(contents.images):,} images")
    return [os.path.join(folder, name) for name in contents.images]


def _check_utf8(path):
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path!r}: the name is not UTF-8; rename it") from None


def choose_new(photos, samples, class_names, workers=1, data=None):
    """Leaves out what a data set has already, what appears twice, and what cannot be decoded.

    Args:
        photos: list of `NewPhoto`.
        samples: `Samples` of the data set; the photos in its folder `UNSORTED` count as well.
        class_names: sequence of str, in the order of their ids.
        workers: int, threads that read and decode.
        data: str, folder or CSV of the data set: what its splits.csv knows is not read again.

    Returns:
        (list of `NewPhoto`; the duplicates, as dicts: path, equals, and where people have given
        both of them classes that differ, class and other_class; the photos that cannot be
        decoded, as dicts: path, reason).
    """
    known_photos = _known_photos(samples, class_names, workers, data)
    contents = hash_files([photo.path for photo in photos], workers)
    unknown = [
        photo.path for photo, content in zip(photos, contents) if content not in known_photos
    ]
    faults = _find_faults(unknown, workers)
    new_photos, duplicates = [], []
    for photo, content in zip(photos, contents):
        if photo.path in faults:
            continue
        if content in known_photos:
            duplicates.append(_describe_duplicate(photo, known_photos[content]))
        else:
            known_photos[content] = [(photo.path, photo.class_name)]
            new_photos.append(photo)
    undecodable = [{"path": path, "reason": reason} for path, reason in faults.items()]
    return new_photos, duplicates, undecodable


def _known_photos(samples, class_names, workers, data):
    """dict of hash -> list of (path, class name or None), of all photos of the data set."""
    paths = [os.path.join(samples.folder, file_name) for file_name in samples.file_names]
    image_classes = [class_names[class_id] for class_id in samples.class_ids]
    unsorted_folder = os.path.join(samples.folder, UNSORTED)
    if os.path.isdir(unsorted_folder):
        unsorted_names = list_folder(unsorted_folder).images
        paths += [os.path.join(unsorted_folder, file_name) for file_name in unsorted_names]
        image_classes += [None] * len(unsorted_names)
    known_photos, hashes = {}, hash_photos([data] if data else [], paths, workers)
    for content, *photo in zip(hashes, paths, image_classes):
        known_photos.setdefault(content, []).append(photo)
    known_photos.pop(0, None)  # what cannot be read equals nothing
    return known_photos


def _find_faults(paths, workers):
    """dict of path -> why the photo cannot be decoded."""

    def find_fault(path):
        try:
            load(path, SMALL)
        except ImageError as error:
            return error.reason

    reasons = map_images(find_fault, paths, "checking", workers)
    return {path: reason for path, reason in zip(paths, reasons) if reason is not None}


def _describe_duplicate(photo, equal_photos):
    """What `choose_new` says of a photo that is there already."""
    labelled = [equal for equal in equal_photos if equal[1] is not None] or equal_photos
    same_class = [equal for equal in labelled if equal[1] == photo.class_name]
    path, class_name = (same_class or labelled)[0]
    description = {"path": photo.path, "equals": path}
    if same_class or None in (class_name, photo.class_name):
        return description
    return {**description, "class": photo.class_name, "other_class": class_name}
