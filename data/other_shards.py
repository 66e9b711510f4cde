"""Tar files of others in WebDataset's convention: read once, then known by an index.

A key has one photo, and its class in one of three ways, the same in all tar files of a folder:

1. `KEY.cls`: a class id, or the name of a class;
2. `KEY.json` with `class` or `label`: likewise;
3. the folder in the key: `glass/0001.jpg` has the class `glass`.

Names of class ids are those of a `label.json` in the folder; without one they are the ids. The
index is written beside the tar files, or, where nothing can be written there, into the user's
folder for caches. Compressed tar files are not read: nothing in them can be reached directly.
"""

import hashlib
import os
import zlib

import numpy as np
from tqdm import tqdm

from common.console import say
from common.errors import InputError
from data.class_spelling import natural_key, normalize
from data.image_files import is_system_name
from data.label_names import read_label_names
from data.packed_index import (
    DESCRIPTION,
    ENTRY,
    INDEX,
    LABELS,
    NO_GROUP,
    NO_PART,
    OTHERS,
    PARTS,
    SHARD_ENDING,
    parse_description,
    write_index,
)
from data.photo_files import content_hash
from data.shard_files import LONGEST_PHOTO, list_samples, read_note

CLASS_KEYS = ("class", "label")  # of KEY.json
MOST_CLASSES = 1_000_000
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def index_folder(folder):
    """Indexes the tar files of a folder, unless that has been done.

    Args:
        folder: str.

    Returns:
        str, the folder that the index is in.

    Raises:
        InputError: a tar file is damaged, a photo has no class, or the index cannot be written.

    Example:

    ```python
    index_folder("shards")  # "shards"; it has an index.npy and an index.json now
    ```
    """
    names = sorted(name for name in os.listdir(folder) if not is_system_name(name))
    packed = [name for name in names if name.endswith(COMPRESSED)]
    names = [name for name in names if name.endswith(SHARD_ENDING)]
    if packed or not names:
        raise InputError(
            f"{folder}: {packed[0] if packed else 'no tar file'}: photos in tar files are read "
            "where the files are not compressed; unpack them"
        )
    sizes = [os.path.getsize(os.path.join(folder, name)) for name in names]
    cache_folder = _cache_folder(folder)
    if _is_index_of(cache_folder, names, sizes):
        return cache_folder
    say(f"{folder}: indexing {len(names):,} tar files, once")
    entries, classes, photo_counts = _read_all(folder, names)
    class_ids, class_names = _number_classes(folder, classes)
    entries["class"] = class_ids
    description = {
        "classes": list(class_names),
        "shards": [
            {"name": name, "bytes": size, "photos": count, "sha256": None}
            for name, size, count in zip(names, sizes, photo_counts)
        ],
        "groups": [],
        "rule": None,
        "has_parts": bool((entries["part"] != NO_PART).all()),
        "layout": OTHERS,
        "packing": {},
    }
    if not description["has_parts"]:
        entries["part"] = NO_PART
    return _write(folder, cache_folder, entries, description)


def _write(folder, cache_folder, entries, description):
    try:
        write_index(folder, entries, description)
        return folder
    except OSError as first_error:
        try:
            os.makedirs(cache_folder, exist_ok=True)
            write_index(cache_folder, entries, description)
        except OSError as error:
            raise InputError(
                f"{folder}: its index can be written neither there ({first_error.strerror}) nor "
                f"to {cache_folder} ({error.strerror})"
            ) from None
    say(f"note: {folder} cannot be written to; its index is in {cache_folder}")
    return cache_folder


def _cache_folder(folder):
    """Where the index of a folder goes that cannot be written to."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    return os.path.join(root, "image-classification", f"index-{name}")


def _is_index_of(index_folder_path, names, sizes):
    """Whether a folder has an index of tar files of these names and sizes."""
    path = os.path.join(index_folder_path, DESCRIPTION)
    try:
        with open(path, "rb") as json_file:
            shards = parse_description(json_file.read(), path)["shards"]
    except (OSError, InputError):
        return False
    has_index = os.path.exists(os.path.join(index_folder_path, INDEX))
    return has_index and [(s["name"], s["bytes"]) for s in shards] == list(zip(names, sizes))


def _read_all(folder, names):
    """(`ENTRY` (N,) without classes, list of N classes: int or str, photos per tar file)."""
    entries, classes, photo_counts = [], [], []
    for number, name in enumerate(tqdm(names, "indexing", unit=" files", disable=None)):
        path, count = os.path.join(folder, name), 0
        for sample in list_samples(path):
            offset, length = sample.members[sample.photo.lower()]
            if not 0 < length <= LONGEST_PHOTO:
                raise InputError(f"{path}: {sample.key}.{sample.photo} has {length:,} bytes")
            with open(path, "rb") as tar_file:
                tar_file.seek(offset)
                content = tar_file.read(length)
            if len(content) != length:
                raise InputError(f"{path}: is cut off in {sample.key}.{sample.photo}")
            image_class, part = _class_of(path, sample)
            classes.append(image_class)
            numbers = zlib.crc32(content), content_hash(content)
            entries.append(np.array((number, offset, length, 0, part, NO_GROUP, *numbers), ENTRY))
            count += 1
        photo_counts.append(count)
    if not entries:
        raise InputError(f"{folder}: its tar files hold no photos")
    return np.array(entries, ENTRY), classes, photo_counts


def _class_of(path, sample):
    """(class of a photo: int or str, its part as a number)."""
    text = read_note(path, sample, "cls")
    note = read_note(path, sample, "json") or {}
    part = PARTS.index(note["part"]) if note.get("part") in PARTS else NO_PART
    image_class = text
    if image_class is None:
        image_class = next((note[key] for key in CLASS_KEYS if key in note), None)
    if image_class is None:
        image_class = sample.key.rpartition("/")[0]
    if isinstance(image_class, str) and image_class.isascii() and image_class.isdigit():
        image_class = int(image_class[:10])
    is_number = isinstance(image_class, int) and not isinstance(image_class, bool)
    if is_number and 0 <= image_class < MOST_CLASSES:
        return image_class, part
    if not isinstance(image_class, str) or not image_class.strip():
        raise InputError(
            f"{path}: the key {sample.key!r} has no class; looked for KEY.cls, for class or label "
            "in KEY.json, and for a folder in the key"
        )
    return normalize(image_class), part


def _number_classes(folder, classes):
    """(int (N,) class ids, tuple of the class names)."""
    kinds = {type(image_class) for image_class in classes}
    if len(kinds) > 1:
        raise InputError(f"{folder}: some classes are numbers, some are names; allowed is one kind")
    labels_path = os.path.join(folder, LABELS)
    known_names = read_label_names(labels_path) if os.path.exists(labels_path) else None
    if kinds == {int}:
        class_names = known_names or tuple(map(str, range(max(classes) + 1)))
        if max(classes) >= len(class_names):
            raise InputError(
                f"{folder}: class {max(classes)} has no name in {labels_path}; allowed: 0 to "
                f"{len(class_names) - 1}"
            )
        return classes, class_names
    class_names = known_names or tuple(sorted(set(classes), key=natural_key))
    ids = {normalize(name): class_id for class_id, name in enumerate(class_names)}
    unknown = sorted(set(classes) - set(ids))
    if unknown:
        raise InputError(f"{folder}: the class {unknown[0]!r} is not one of those of {labels_path}")
    return [ids[name] for name in classes], class_names
