"""Shards: plain tar files in WebDataset's convention, written and listed here.

All files of a photo have the same name, its key, and follow each other: `KEY.jpg` with the
extension that the photo had, `KEY.cls` with its class id as text, `KEY.json` with what else is
known. `tar`, Python's `tarfile` and the package `webdataset` read them.
"""

import hashlib
import json
import os
import tarfile
import zlib
from typing import NamedTuple

import numpy as np

from common.errors import InputError
from common.files import replacing
from data.image_files import is_image
from data.packed_index import ENTRY, NO_GROUP, NO_PART, PARTS
from data.photo_files import content_hash

LONGEST_PHOTO = (1 << 32) - 1  # bytes, as many as the index can count
LONGEST_NOTE = 1 << 20  # bytes of KEY.json or KEY.cls


class PackedPhoto(NamedTuple):
    """A photo to pack.

    Attributes:
        path: str, of its file.
        name: str, its path relative to the data, with "/".
        class_id: int.
        class_name: str.
        part: str, one of `PARTS`, or None.
        group: str, the hash of the photo that stands for its group, as of `parts_table.Row`, or
            None.
        group_name: str, the name of its group by the rule; "" where it has none.
    """

    path: str
    name: str
    class_id: int
    class_name: str
    part: str | None = None
    group: str | None = None
    group_name: str = ""


class Shard(NamedTuple):
    """A shard and what is in it.

    Attributes:
        name: str, of the tar file.
        size: int, its bytes.
        sha256: str, its checksum; None where nobody has computed it.
        entries: `packed_index.ENTRY` (M,), its photos in their order, without shard and group.
        paths: list of M str, the photos' paths relative to the data that were packed.
        group_names: list of M str.
    """

    name: str
    size: int
    sha256: str | None
    entries: np.ndarray
    paths: list
    group_names: list


class ShardSample(NamedTuple):
    """The files of one key in a shard.

    Attributes:
        key: str, with the folders before it.
        members: dict of extension, without the first dot and in lower case -> (offset, length).
        photo: str, the extension of the only photo among them, as it is written.
    """

    key: str
    members: dict
    photo: str


# Writing


def write_shard(path, photos, first_number, read, pack_size=None):
    """Writes a shard, whole or not at all. The same photos give the same bytes.

    Args:
        path: str, the tar file.
        photos: list of M `PackedPhoto`.
        first_number: int, the number of the first photo, from which keys are made.
        read: function of a `PackedPhoto` that returns (bytes of the file, bytes to pack,
            extension to pack them with, whether they are another encoding).
        pack_size: int, what KEY.json says of photos in another encoding.

    Returns:
        `Shard`.

    Raises:
        InputError: a photo cannot be read, or is too large.
        OSError: the shard cannot be written.
    """
    entries = np.zeros(len(photos), ENTRY)
    with replacing(path) as partial, open(partial, "wb") as tar_file:
        digest, offset = hashlib.sha256(), 0

        def put(block):
            nonlocal offset
            tar_file.write(block)
            digest.update(block)
            offset += len(block)

        for index, photo in enumerate(photos):
            original, content, extension, is_encoded = read(photo)
            if len(content) > LONGEST_PHOTO:
                raise InputError(f"{photo.path}: is larger than 4 GB, which no photo is")
            content_number, crc = content_hash(original), zlib.crc32(content)
            key = f"{first_number + index:09}"
            put(_header(f"{key}{extension}", len(content)))
            part = NO_PART if photo.part is None else PARTS.index(photo.part)
            entries[index] = (
                *(0, offset, len(content), photo.class_id, part, NO_GROUP, crc, content_number),
            )
            put(content)
            put(_padding(len(content)))
            note = _note(photo, content_number, crc, pack_size if is_encoded else None)
            for ending, text in ((".cls", str(photo.class_id)), (".json", json.dumps(note))):
                put(_header(f"{key}{ending}", len(text)))
                put(text.encode("ascii"))
                put(_padding(len(text)))
        put(bytes(2 * tarfile.BLOCKSIZE))
        put(bytes(-offset % tarfile.RECORDSIZE))
    paths = [photo.name for photo in photos]
    group_names = [photo.group_name for photo in photos]
    name = os.path.basename(path)
    return Shard(name, offset, digest.hexdigest(), entries, paths, group_names)


def _header(name, size):
    """The 512 bytes before a file in a tar; no time, no owner."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def _padding(size):
    return bytes(-size % tarfile.BLOCKSIZE)


def _note(photo, content_number, crc, pack_size):
    """What KEY.json says."""
    return {
        "path": photo.name,
        "class": photo.class_name,
        "part": photo.part,
        "group": photo.group,
        "group_name": photo.group_name,
        "content": f"{content_number:016x}",
        "crc32": f"{crc:08x}",
        "pack_size": pack_size,
    }


# Reading


def list_samples(path):
    """Lists what is in a shard, in its order; the photos themselves are not read.

    Args:
        path: str, a tar file, not compressed.

    Yields:
        `ShardSample`, each with one photo.

    Raises:
        InputError: it is no whole tar file, or several photos or none have one key.

    Example:

    ```python
    [sample.key for sample in list_samples("place/photos-00000.tar")]  # ["000000000", ...]
    ```
    """
    try:
        with tarfile.open(path, "r:") as archive:
            key, members = None, {}
            for member in archive:
                if not member.isreg() or member.issparse():
                    continue
                own_key, ending = _split_name(member.name)
                if own_key != key and members:
                    yield _sample(path, key, members)
                if own_key != key:
                    key, members = own_key, {}
                if os.path.basename(member.name).startswith("."):
                    key, members = None, {}  # "._1.jpg" of macOS
                    continue
                members[ending] = member.offset_data, member.size
            if members:
                yield _sample(path, key, members)
            _check_end(path, archive)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # tarfile raises exceptions of many types for damaged headers
        raise InputError(f"{path}: is no whole tar file: {error}") from None


def _split_name(name):
    """(key, extension) of a member: the key ends at the first dot of the name."""
    folder, slash, file_name = name.removeprefix("./").rpartition("/")
    stem, _, ending = file_name.partition(".")
    return folder + slash + stem, ending


def _sample(path, key, members):
    photos = [ending for ending in members if is_image(f"x.{ending}")]
    if len(photos) != 1:
        raise InputError(
            f"{path}: the key {key!r} has {len(photos)} photos ({', '.join(members)}); needed is "
            "one photo per key, with its class beside it as KEY.cls or in KEY.json"
        )
    lower_members = {ending.lower(): place for ending, place in members.items()}
    return ShardSample(key, lower_members, photos[0])


def _check_end(path, archive):
    """Refuses a shard whose list ends at a damaged header: tarfile takes that for its end."""
    archive.fileobj.seek(archive.offset)
    block = archive.fileobj.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0"):
        raise InputError(
            f"{path}: is damaged at byte {archive.offset:,}; copy it anew, or pack the photos again"
        )


def read_note(path, sample, ending):
    """The content of a small file of a sample.

    Args:
        path: str, the tar file.
        sample: `ShardSample`.
        ending: str, "json" or "cls".

    Returns:
        For "json" dict, for "cls" str; None where the sample has no such file.

    Raises:
        InputError: it is damaged, or no such text.
    """
    if ending not in sample.members:
        return None
    offset, length = sample.members[ending]
    try:
        if length > LONGEST_NOTE:
            raise ValueError(f"has {length:,} bytes")
        with open(path, "rb") as tar_file:
            tar_file.seek(offset)
            text = tar_file.read(length).decode("utf-8")
        content = json.loads(text) if ending == "json" else text.strip()
        if ending == "json" and not isinstance(content, dict):
            raise ValueError("is no object")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {sample.key}.{ending} cannot be read: {error}") from None
    return content


def read_shard(path, sha256=None):
    """Reads what is in a shard that `write_shard` has written; photos themselves are not read.

    Args:
        path: str.
        sha256: str, its checksum where it is known.

    Returns:
        (`Shard`, list of dict, KEY.json of each photo).

    Raises:
        InputError: it is another kind of tar file, or damaged.
    """
    entries, paths, group_names, notes = [], [], [], []
    for sample in list_samples(path):
        note, class_text = read_note(path, sample, "json"), read_note(path, sample, "cls")
        offset, length = sample.members[sample.photo.lower()]
        try:
            part = NO_PART if note["part"] is None else PARTS.index(note["part"])
            numbers = int(note["crc32"], 16), int(note["content"], 16)
            entry = (0, offset, length, int(class_text), part, NO_GROUP, *numbers)
            entries.append(np.array(entry, ENTRY))
            paths.append(str(note["path"]))
            group_names.append(str(note["group_name"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError(
                f"{path}: {sample.key} has not been packed by --mode pack; give another --target"
            ) from None
        notes.append(note)
    size = os.stat(path).st_size
    entries = np.array(entries, ENTRY)
    return Shard(os.path.basename(path), size, sha256, entries, paths, group_names), notes
