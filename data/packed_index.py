"""The index of a packed place: where each of its photos lies, its class, part and group.

A packed place is a folder of tar files, its shards, with three files beside them:

- `index.npy`: a NumPy array of `ENTRY`, 37 bytes per photo, in the order of the samples. It is
  mapped into memory, so a process has only the pages that it looks at.
- `index.json`: the shards and their sizes, the names of classes, parts and groups, how the photos
  were packed, and the checksum of index.npy. Written last: a place without it is not complete.
- `label.json`, as everywhere.

`data.packing` writes places, `data.other_shards` indexes the tar files of others.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import InputError
from common.files import checksum, replacing, write_text
from data.label_names import label_names_json, read_label_names
from data.photo_files import write_address

INDEX, DESCRIPTION, LABELS = "index.npy", "index.json", "label.json"
OTHERS = "shards"  # the layout of tar files that were not packed here
UNFINISHED = ".packing"  # in a place while `--mode pack` is at work there
FORMAT = 1
SHARD_ENDING = ".tar"
ENTRY = np.dtype(
    [
        ("shard", "<u4"),  # position in the shards of index.json
        ("offset", "<u8"),  # where the photo's bytes begin
        ("length", "<u4"),
        ("class", "<i4"),
        ("part", "<u1"),  # position in PARTS, or NO_PART
        ("group", "<i4"),  # position in the groups of index.json, or NO_GROUP
        ("crc", "<u4"),  # CRC-32 of the bytes
        ("content", "<u8"),  # `splitting.content_hash` of the file that was packed
    ]
)
PARTS = ("train", "val", "test")  # as `parts_table` has them
NO_PART, NO_GROUP = 255, -1
LARGEST = 1 << 62  # bytes of a shard: positions in it stay whole numbers of 64 bits
AT_ONCE = 1 << 18  # entries that are checked at once: 10 MB
TO_PACK = "--mode pack --data DIR --target PLACE"


@dataclass(frozen=True, eq=False)
class PackedPlace:
    """A packed place that has been opened and checked.

    Attributes:
        path: str, the folder, or its address.
        entries: `ENTRY` (N,), mapped into memory.
        shards: tuple of str, the names of the tar files.
        checksums: tuple of str, their SHA-256; None for the tar files of others.
        class_ids: int32 (N,).
        class_names: tuple of str, in the order of their ids.
        group_names: tuple of str, the groups by the rule of `--group`.
        rule: str, that rule; None where the photos were packed without one.
        has_parts: bool, whether every photo has a part.
        layout: str, in which layout the photos were: "folders", "texts" or "table"; "shards" for
            the tar files of others.
        packing: dict, how they were packed: seed, shard_megabytes, pack_size.
        digest: str, the checksum of index.npy.
    """

    path: str
    entries: np.ndarray
    shards: tuple
    checksums: tuple
    class_ids: np.ndarray
    class_names: tuple
    group_names: tuple
    rule: str | None
    has_parts: bool
    layout: str
    packing: dict
    digest: str

    @property
    def names(self):
        """`PackedNames` of all its photos."""
        return PackedNames(self)


class PackedNames(Sequence):
    """The names of photos in a packed place, made when they are asked for.

    A name is an address without the place before it: `photos-00003.tar:1536:48213:8d1f03b2`.
    Ten million of them take the memory of their positions, 40 MB.

    Args:
        place: `PackedPlace`.
        positions: int (N,), positions in its entries; None for all.
    """

    def __init__(self, place, positions=None):
        self.place = place
        if positions is not None:
            positions = np.asarray(positions, np.uint32)
        self.positions = positions

    def __len__(self):
        return len(self.place.entries if self.positions is None else self.positions)

    def __getitem__(self, index):
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"photo {index} of {len(self)}")
            position = index if self.positions is None else self.positions[index]
            return self._name(self.place.entries[position])
        if self.positions is None:
            if isinstance(index, slice):
                index = np.arange(*index.indices(len(self)), dtype=np.uint32)
            return PackedNames(self.place, index)
        return PackedNames(self.place, self.positions[index])

    def __iter__(self):
        for start in range(0, len(self), AT_ONCE):
            yield from map(self._name, self.entries(slice(start, start + AT_ONCE)))

    def __contains__(self, name):
        return any(name == own_name for own_name in self)

    def _name(self, entry):
        shard = self.place.shards[entry["shard"]]
        return write_address(shard, entry["offset"], entry["length"], int(entry["crc"]))

    def entries(self, part=slice(None)):
        """`ENTRY` (M,), the rows of the index, all or those of a slice."""
        positions = part if self.positions is None else self.positions[part]
        return self.place.entries[positions]

    def column(self, field):
        """One column of the index.

        Args:
            field: str, a field of `ENTRY`, such as "part" or "content".

        Returns:
            Array (N,), a copy.
        """
        whole = self.place.entries[field]
        return whole.copy() if self.positions is None else whole[self.positions]

    def digest(self):
        """str, a hash by which the same photos in the same order are known."""
        positions = b"" if self.positions is None else self.positions.tobytes()
        return hashlib.sha256(self.place.digest.encode() + positions).hexdigest()


class PackedContents(Sequence):
    """The hashes of photos in a packed place as splits.csv has them, made when they are asked for.

    Args:
        names: `PackedNames`.
    """

    def __init__(self, names):
        self._hashes = names.column("content")

    def __len__(self):
        return len(self._hashes)

    def __getitem__(self, index):
        return f"{int(self._hashes[index]):016x}"


def parse_description(content, path):
    """Reads index.json.

    Args:
        content: bytes.
        path: str, what errors call it.

    Returns:
        dict with the keys format, photos, shards (list of dict: name, bytes, photos, sha256),
        classes, groups, rule, has_parts, layout, packing and index_sha256, all checked.

    Raises:
        InputError: it is damaged, or of a later version.
    """
    try:
        description = json.loads(content)
        version = description["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path}: is not the index of a packed place, or damaged") from None
    if version != FORMAT:
        raise InputError(
            f"{path}: has format {version!r}; this version reads format {FORMAT}: update it"
        )
    try:
        is_sound = _is_sound(description)
    except (KeyError, TypeError, AttributeError):
        is_sound = False
    if not is_sound:
        raise InputError(f"{path}: is damaged; give the same {TO_PACK} again")
    return description


def _is_sound(description):
    shards = description["shards"]
    return (
        isinstance(shards, list)
        and all(
            isinstance(shard["name"], str)
            and shard["name"].endswith(SHARD_ENDING)
            and os.path.basename(shard["name"]) == shard["name"]
            and "\0" not in shard["name"]
            and isinstance(shard["bytes"], int)
            and isinstance(shard["photos"], int)
            and isinstance(shard["sha256"], (str, type(None)))
            and 0 <= shard["bytes"] < LARGEST
            for shard in shards
        )
        and isinstance(description["photos"], int)
        and 0 < description["photos"] == sum(shard["photos"] for shard in shards)
        and all(
            isinstance(description[key], list) and all(isinstance(n, str) for n in description[key])
            for key in ("classes", "groups")
        )
        and isinstance(description["rule"], (str, type(None)))
        and isinstance(description["has_parts"], bool)
        and isinstance(description["layout"], str)
        and isinstance(description["packing"], dict)
        and isinstance(description["index_sha256"], str)
    )


def check_shard(shard_path, expected_size, description_path):
    """Refuses a shard that is missing, or of another size than its index says.

    Args:
        shard_path: str.
        expected_size: int, bytes.
        description_path: str, index.json, for messages.

    Raises:
        InputError: it is not as it was packed.
    """
    try:
        size = os.stat(shard_path).st_size
    except OSError as error:
        raise InputError(
            f"{shard_path}: {error.strerror}; {description_path} names it: copy it anew, or pack "
            "the photos again"
        ) from None
    if size != expected_size:
        kind = "is cut off" if size < expected_size else "is another file"
        raise InputError(
            f"{shard_path}: {kind}: has {size:,} bytes, {description_path} says "
            f"{expected_size:,}: copy it anew, or pack the photos again"
        )


def load(path, description, index_path, description_path):
    """Opens the index of a place and checks it.

    Args:
        path: str, the place.
        description: dict, as of `parse_description`.
        index_path: str, index.npy, on this machine.
        description_path: str, index.json, for messages.

    Returns:
        `PackedPlace`.

    Raises:
        InputError: the index is damaged, or of another place.
    """
    count = description["photos"]
    try:
        digest = checksum(index_path)
        if digest != description["index_sha256"]:
            raise InputError(
                f"{index_path}: is not the index that {description_path} describes; give the same "
                f"{TO_PACK} again, or copy both anew"
            )
        entries = np.load(index_path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{index_path}: cannot be read: {error}") from None
    if entries.dtype != ENTRY or entries.shape != (count,):
        raise InputError(f"{index_path}: is no index of {count:,} photos; pack the photos again")
    return PackedPlace(
        path,
        entries,
        tuple(shard["name"] for shard in description["shards"]),
        tuple(shard["sha256"] for shard in description["shards"]),
        _read_classes(index_path, description),
        tuple(description["classes"]),
        tuple(description["groups"]),
        description["rule"],
        description["has_parts"],
        description["layout"],
        description["packing"],
        digest,
    )


def _read_classes(index_path, description):
    """int32 (N,), the classes, from the file and not through the mapped pages; checks all rows."""
    class_ids = np.empty(description["photos"], np.int32)
    shard_sizes = np.array([shard["bytes"] for shard in description["shards"]], np.uint64)
    most_parts = len(PARTS) if description["has_parts"] else NO_PART + 1
    with open(index_path, "rb") as index_file:
        index_file.seek(-len(class_ids) * ENTRY.itemsize, os.SEEK_END)
        for start in range(0, len(class_ids), AT_ONCE):
            rows = np.fromfile(index_file, ENTRY, min(AT_ONCE, len(class_ids) - start))
            is_inside = (
                (rows["shard"] < len(shard_sizes)).all()
                and (rows["offset"] < LARGEST).all()
                and (rows["offset"] + rows["length"] <= shard_sizes[rows["shard"]]).all()
                and (rows["class"] >= 0).all()
                and (rows["class"] < len(description["classes"])).all()
                and (rows["part"] < most_parts).all()
                and (rows["group"] >= NO_GROUP).all()
                and (rows["group"] < len(description["groups"])).all()
            )
            if not is_inside:
                raise InputError(
                    f"{index_path}: names shards, classes or groups that are not there; pack the "
                    "photos again"
                )
            class_ids[start : start + len(rows)] = rows["class"]
    return class_ids


def write_index(folder, entries, description):
    """Writes index.npy, label.json and, last, index.json.

    Args:
        folder: str, the place, or the folder that holds the index of another's.
        entries: `ENTRY` (N,).
        description: dict, as of `parse_description` without format, photos and index_sha256.

    Raises:
        OSError: a file cannot be written.
    """
    index_path = os.path.join(folder, INDEX)
    with replacing(index_path) as partial, open(partial, "wb") as index_file:
        np.save(index_file, np.ascontiguousarray(entries, ENTRY))
    labels_path = os.path.join(folder, LABELS)
    if (
        not os.path.exists(labels_path)
        or [*read_label_names(labels_path)] != description["classes"]
    ):
        write_text(labels_path, label_names_json(description["classes"]))
    description = {
        "format": FORMAT,
        "photos": len(entries),
        **description,
        "index_sha256": checksum(index_path),
    }
    text = json.dumps(description, indent=1) + "\n"  # ASCII: names may be no UTF-8
    write_text(os.path.join(folder, DESCRIPTION), text)
