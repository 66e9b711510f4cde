"""Packed places as data: which data are one, and opening it.

What their index holds is in `data.packed_index`.
"""

import contextlib
import functools
import os

from common.errors import InputError, first_ten
from data.image_files import is_image, is_system_name
from data.label_names import read_label_names
from data.object_stores import is_remote
from data.other_shards import index_folder
from data.packed_index import (
    DESCRIPTION,
    INDEX,
    LABELS,
    OTHERS,
    SHARD_ENDING,
    TO_PACK,
    UNFINISHED,
    check_shard,
    load,
    parse_description,
)
from data.photo_files import parse_address


def is_place(path):
    """Whether data are a packed place: a folder with an index of tar files, or of tar files alone.

    Args:
        path: str, what a user has given as data.

    Returns:
        bool; True for every address in an object store, of which nothing is read for that.
    """
    if is_remote(path):
        return True
    if os.path.exists(os.path.join(path, DESCRIPTION)) and os.path.exists(
        os.path.join(path, INDEX)
    ):
        return True
    has_shards = os.path.exists(os.path.join(path, UNFINISHED))
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if is_image(entry.name) or (entry.is_dir() and not is_system_name(entry.name)):
                return False
            has_shards |= entry.name.endswith(SHARD_ENDING) and not is_system_name(entry.name)
    return has_shards


def refuse_place(path, mode):
    """Refuses a packed place in a mode that moves or changes photos.

    Args:
        path: str, what a user has given as data; None is accepted.
        mode: str, for the message.

    Raises:
        InputError: it is a packed place.
    """
    if path is not None and is_place(path):
        raise InputError(_unpack_first(path, path, mode))


def refuse_packed(path, mode):
    """Refuses the address of a packed photo in a mode that moves or changes photos.

    Args:
        path: str, of a photo.
        mode: str, for the message.

    Raises:
        InputError: it is an address.
    """
    address = parse_address(path)
    if address:
        raise InputError(_unpack_first(path, os.path.dirname(address.shard), mode))


def _unpack_first(path, place, mode):
    return (
        f"{path}: is packed, and --mode {mode} changes files, labels or parts: unpack the photos "
        f"with --mode unpack --data {place} --target DIR, and pack them anew"
    )


def open_place(path):
    """Opens a packed place; the tar files of others are indexed where they have not been yet.

    Args:
        path: str, a folder or an address for which `is_place` is true.

    Returns:
        `PackedPlace`.

    Raises:
        InputError: the place is not complete, or shards and index do not belong together.

    Example:

    ```python
    place = open_place("place")
    os.path.join(place.path, place.names[0])  # "place/photos-00003.tar:1536:48213:8d1f03b2"
    ```
    """
    if is_remote(path):
        return _open_remote(path)
    if not os.path.exists(os.path.join(path, DESCRIPTION)):
        if os.path.exists(os.path.join(path, UNFINISHED)):
            raise InputError(
                f"{path}: packing has not ended; give the same {TO_PACK} again, which continues"
            )
        index_path = index_folder(path)
    else:
        index_path = path
    place = _open(path, index_path, _stamps(index_path))
    if place.layout == OTHERS and index_path == path and _list_shards(path) != set(place.shards):
        index_path = index_folder(path)
        place = _open(path, index_path, _stamps(index_path))
    return place


def _list_shards(path):
    """set of str, the tar files of a folder."""
    return {
        name
        for name in os.listdir(path)
        if name.endswith(SHARD_ENDING) and not is_system_name(name)
    }


def _stamps(index_path):
    """What changes with an index: sizes and times of its two files."""
    return tuple(_stamp(os.path.join(index_path, name)) for name in (DESCRIPTION, INDEX))


def _stamp(path):
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; pack the photos again") from None
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=4)
def _open(path, index_path, stamps):
    """The `PackedPlace` whose index is in `index_path`, unless it has changed since."""
    description_path = os.path.join(index_path, DESCRIPTION)
    try:
        with open(description_path, "rb") as json_file:
            content = json_file.read()
    except OSError as error:
        raise InputError(f"{description_path}: cannot be read: {error.strerror}") from None
    description = parse_description(content, description_path)
    class_names = tuple(description["classes"])
    labels_path = os.path.join(index_path, LABELS)
    if read_label_names(labels_path) != class_names:
        raise InputError(f"{labels_path}: names other classes than {description_path}")
    for shard in description["shards"]:
        check_shard(os.path.join(path, shard["name"]), shard["bytes"], description_path)
    return load(path, description, os.path.join(index_path, INDEX), description_path)


@functools.lru_cache(maxsize=4)
def _open_remote(path):
    from data import remote_places

    path = path.rstrip("/")
    description_path = f"{path}/{DESCRIPTION}"
    description = parse_description(remote_places.read_whole(description_path), description_path)
    sha256 = description["index_sha256"]
    index_path = remote_places.local_copy(f"{path}/{INDEX}", sha256)
    return load(path, description, index_path, description_path)


def describe(place):
    """What a place holds, for the reader's line.

    Args:
        place: `PackedPlace`.
    """
    shards = f"{len(place.shards):,} shards" if len(place.shards) > 1 else first_ten(place.shards)
    return f"packed photos, in {shards}"
