"""Gives the photos of a packed place back as files, with their classes and parts."""

import os

import numpy as np
from tqdm import tqdm

from common import console
from common.errors import InputError
from common.file_names import is_portable
from common.files import building, check_building, checksum
from common.tables import write_table
from common.write_errors import is_disk_full, write_error
from config.mode_options import UnpackOptions
from data import remote_places
from data.csv_labels import COLUMNS
from data.label_names import write_label_names
from data.object_stores import is_remote
from data.packed_index import NO_GROUP, NO_PART, OTHERS
from data.packed_places import is_place, open_place
from data.parts_table import FILE_NAME, PARTS, Row, write_rows
from data.photo_files import read_photo, write_address
from data.samples import write_sample
from data.shard_files import list_samples, read_note
from other.data_reconstruction_txt2dir import check_names

TABLE = "photos.csv"  # of photos whose classes a CSV named
ON_WINDOWS = os.name == "nt"


def main(options: UnpackOptions):
    """`--mode unpack`."""
    result = unpack(options.data, options.target)
    console.show(result, _text, options.json)


def unpack(data, target):
    """Writes the photos of a packed place as files, each under the path that it had.

    Classes are said as they were: by folders, text files or a CSV; parts by a splits.csv. The
    tar files of others become one folder per class.

    Args:
        data: str, the place.
        target: str, the folder to make; where it exists it must be empty.

    Returns:
        dict: target, images (number), classes (name -> number).

    Raises:
        InputError: the target exists; a shard is damaged; a path leads out of the target, or two
            photos have the same one.

    Example:

    ```python
    unpack("place", "photos")["images"]  # 480
    ```
    """
    check_building(target)
    if not is_place(data):
        raise InputError(f"--data: {data} is no packed place; --mode pack makes one")
    place = open_place(data)
    if place.layout != "texts":
        check_names(place.class_names)
    try:
        with building(target) as partial:
            names, rows = _write_photos(place, partial)
            _write_labels(place, partial, names)
            if place.has_parts:
                table = f"photos.{FILE_NAME}" if place.layout == "table" else FILE_NAME
                write_rows(os.path.join(partial, table), rows, must_keep=True)
    except OSError as error:
        if is_disk_full(error):
            raise write_error(error, target) from None
        raise InputError(f"{error.filename or target}: {error.strerror or error}") from None
    counts = np.bincount(place.class_ids, minlength=len(place.class_names)).tolist()
    return {"target": target, "images": len(names), "classes": dict(zip(place.class_names, counts))}


def _write_photos(place, folder):
    """The paths of the photos relative to the folder, and their `Row`, both by position."""
    order = np.lexsort((place.entries["offset"], place.entries["shard"]))
    starts = np.searchsorted(place.entries["shard"][order], np.arange(len(place.shards) + 1))
    names, rows = [None] * len(order), [None] * len(order)
    bar = tqdm(total=len(order), desc="unpacking", unit=" images", leave=False, disable=None)
    for number in range(len(place.shards)):
        shard_path = _local_shard(place, number)
        own_positions = order[starts[number] : starts[number + 1]]
        positions = {int(place.entries["offset"][p]): p for p in own_positions}
        for sample in list_samples(shard_path):
            offset, _ = sample.members[sample.photo.lower()]
            position = positions.pop(offset, None)
            if position is None:
                raise InputError(f"{shard_path}: its index does not have {sample.key}")
            entry = place.entries[position]
            address = write_address(shard_path, offset, entry["length"], int(entry["crc"]))
            note = read_note(shard_path, sample, "json") or {}
            names[position] = _relative_path(place, sample, note, entry)
            check_path(names[position], address)
            content = read_photo(address)
            photo_path = _write_photo(folder, names[position], content, address)
            rows[position] = _row(place, names[position], note, entry, photo_path)
            bar.update()
        if positions:
            raise InputError(f"{shard_path}: lacks {len(positions):,} photos of its index")
        if is_remote(place.path):
            os.unlink(shard_path)  # 256 MB that nobody reads again
    bar.close()
    return names, rows


def _local_shard(place, number):
    """Path of a shard on this machine, whose bytes are those that were packed."""
    shard, expected = place.shards[number], place.checksums[number]
    path = os.path.join(place.path, shard)
    if is_remote(path):
        path = remote_places.local_copy(path, expected)
    if expected and checksum(path) != expected:
        raise InputError(f"{path}: is not the shard that was packed; copy it anew")
    return path


def _relative_path(place, sample, note, entry):
    """Where a photo goes; one that was encoded anew gets the extension of what it is now."""
    extension = f".{sample.photo}"
    if place.layout == OTHERS:
        class_name, key = place.class_names[entry["class"]], sample.key
        is_in_folder = key.rpartition("/")[0] == class_name
        return f"{key if is_in_folder else f'{class_name}/{os.path.basename(key)}'}{extension}"
    name = note.get("path")
    if not isinstance(name, str) or not name:
        raise InputError(f"{place.path}: {sample.key}.json names no path")
    return name if name.lower().endswith(extension.lower()) else name + extension


def check_path(name, origin):
    """Refuses the path of a packed photo that would lead out of the target.

    Args:
        name: str, a path relative to the target, with "/".
        origin: str, what errors call the place that it is from.

    Raises:
        InputError: it is absolute, leads to a folder above, or no file can have it.
    """
    path_parts = name.split("/")
    is_safe = not {"", ".", ".."} & {*path_parts} and "\0" not in name and len(name) < 4096
    if ON_WINDOWS:
        is_safe = is_safe and all(map(is_portable, path_parts))
    if not is_safe:
        raise InputError(f"{origin}: its path {name!r} leads out of --target; it was not unpacked")


def _write_photo(folder, name, content, address):
    photo_path = os.path.join(folder, *name.split("/"))
    os.makedirs(os.path.dirname(photo_path), exist_ok=True)
    try:
        with open(photo_path, "xb") as photo_file:
            photo_file.write(content)
    except FileExistsError:
        raise InputError(f"{address}: another photo has its path {name!r} as well") from None
    return photo_path


def _row(place, name, note, entry, photo_path):
    """The line of splits.csv for a photo, which is not read again by its time and size."""
    status = os.stat(photo_path)
    content = f"{int(entry['content']):016x}"
    group_name = place.group_names[entry["group"]] if entry["group"] != NO_GROUP else ""
    part = PARTS[entry["part"]] if entry["part"] != NO_PART else PARTS[0]
    return Row(
        content,
        name,
        part,
        str(note.get("group") or content),
        status.st_size,
        status.st_mtime_ns,
        group_name,
        place.rule or "",
    )


def _write_labels(place, folder, names):
    """Says the classes in the layout that the photos had."""
    write_label_names(folder, place.class_names)
    if place.layout == "texts":
        for name, class_id in zip(names, place.class_ids):
            write_sample(folder, name, class_id)
    elif place.layout == "table":
        rows = [(name, place.class_names[i]) for name, i in zip(names, place.class_ids)]
        write_table(os.path.join(folder, TABLE), COLUMNS, rows)


def _text(result):
    lines = [f"{images:>8}  {class_name}" for class_name, images in result["classes"].items()]
    return "\n".join([*lines, f"{result['images']:>8}  images in {result['target']}"])
