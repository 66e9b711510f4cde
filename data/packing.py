"""Packing photos into shards: `--mode pack`.

Photos go into shards in a random order, so that a shard is a sample of them all, and the index
lists them in the order in which the data are read: batches of a packed place are those of the
loose photos. Each shard appears whole, the index last: what is killed continues with the shards
that are not there yet.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from common.errors import ImageError, InputError
from common.files import checksum, write_text
from common.write_errors import write_error
from data.decoding import decode
from data.geometry import Preprocessing
from data.packed_index import NO_GROUP, UNFINISHED, write_index
from data.packing_plan import DEFAULT_PACKING, SHARD_NAME, make_plan
from data.photo_files import read_photo
from data.shard_files import read_shard, write_shard

# JPEG quality of photos that are made smaller. Measured on 60 photos of 256 x 341 pixels: 95 keeps
# 42.5 dB in 25 kB per photo, 90 39.9 dB in 17 kB, 98 44.8 dB in 38 kB. Once they are resized to an
# input of 224, the mean difference from the original photo is 1.65, 1.85 and 1.50 of 255, most of
# it from resizing twice: above 95 only the bytes grow.
QUALITY = 95
FULL_SIZE = 1 << 20  # pixels; for an input as large as this JPEGs are decoded at their full size
JPEG_ENDING = ".jpg"


class PackingResult(NamedTuple):
    """What has been packed.

    Attributes:
        photos: int, in the place.
        added: int, those that are new there.
        shards: int, in the place.
        new_shards: int, of which were written now.
        bytes: int, of all shards.
    """

    photos: int
    added: int
    shards: int
    new_shards: int
    bytes: int


def pack(data, target, packing=DEFAULT_PACKING, workers=1, labels_path=None, report=None):
    """Packs the photos of a data set; those that are packed already stay where they are.

    Args:
        data: str, a folder or a CSV file.
        target: str, the place: a folder that does not exist, is empty, or is a packed place of
            the same data.
        packing: `Packing`.
        workers: int, threads; each writes a shard.
        labels_path: str, a JSON file with the class names, or None.
        report: function of the number of photos that have been packed, or None.

    Returns:
        `PackingResult`.

    Raises:
        InputError: the data cannot be read; the place is of other data.
        RunError: the disk is full; what is packed stays, and the same call continues.

    Example:

    ```python
    pack("photos", "place").shards  # 1
    ```
    """
    try:
        plan = make_plan(data, target, packing, workers, labels_path)
        os.makedirs(target, exist_ok=True)
        write_text(os.path.join(target, UNFINISHED), "")
        _remove_leftovers(target, plan.first_number + len(plan.new_shards))
        new_shards, written = _ShardWriter(target, plan, packing, report).write_all(workers)
        shards = [*plan.old_shards, *new_shards]
        _write_index(target, plan, packing, shards)
        os.unlink(os.path.join(target, UNFINISHED))
    except OSError as error:
        raise write_error(error, target, "--target") from None
    added = sum(map(len, plan.new_shards))
    size = sum(shard.size for shard in shards)
    return PackingResult(_count(shards), added, len(shards), written, size)


def _count(shards):
    return sum(len(shard.paths) for shard in shards)


def _remove_leftovers(target, end):
    """Removes shards of an attempt with other options, which no index names."""
    for name in os.listdir(target):
        match = SHARD_NAME.fullmatch(name)
        if match and int(match[1]) >= end:
            os.unlink(os.path.join(target, name))


class _ShardWriter:
    """Writes the shards of a plan, on several threads."""

    def __init__(self, target, plan, packing, report):
        self.target = target
        self.plan = plan
        self.packing = packing
        self.report = report or (lambda count: None)

    def write_all(self, workers):
        """(list of `Shard`, how many of them were written now)."""
        tasks, first_photo = [], _count(self.plan.old_shards)
        for number, positions in enumerate(self.plan.new_shards, self.plan.first_number):
            photos = [self.plan.photos[position] for position in positions]
            tasks.append((f"photos-{number:05}.tar", photos, first_photo))
            first_photo += len(photos)
        with ThreadPoolExecutor(workers) as pool:
            try:
                results = list(pool.map(lambda task: self._write_one(*task), tasks))
            finally:
                pool.shutdown(cancel_futures=True)
        return [shard for shard, _ in results], sum(is_new for _, is_new in results)

    def _write_one(self, name, photos, first_number):
        """(`Shard`, whether it was written now); one that is there and complete is kept."""
        path = os.path.join(self.target, name)
        if os.path.exists(path):
            shard = self._complete(path, photos)
            if shard:
                self.report(len(photos))
                return shard, False
        return write_shard(path, photos, first_number, self._read, self.packing.pack_size), True

    def _complete(self, path, photos):
        """The `Shard` of an earlier attempt, or None where it holds something else."""
        try:
            shard, notes = read_shard(path)
        except InputError:
            return None
        written_at = os.stat(path).st_mtime_ns
        is_same = len(notes) == len(photos) and all(
            (note["path"], note["class"], note["part"], note["group"], note["group_name"])
            == (photo.name, photo.class_name, photo.part, photo.group, photo.group_name)
            and note.get("pack_size") in (None, self.packing.pack_size)
            and class_id == photo.class_id
            and os.stat(photo.path).st_mtime_ns < written_at
            and (self.packing.pack_size or os.stat(photo.path).st_size == length)
            for note, photo, class_id, length in zip(
                notes, photos, shard.entries["class"], shard.entries["length"]
            )
        )
        return shard._replace(sha256=checksum(path)) if is_same else None

    def _read(self, photo):
        """(bytes of the file, bytes to pack, their extension, whether they are encoded anew)."""
        original = read_photo(photo.path)
        self.report(1)
        extension = os.path.splitext(photo.name)[1]
        if self.packing.pack_size:
            smaller = make_smaller(original, self.packing.pack_size, photo.path)
            if smaller is not None:
                return original, smaller, JPEG_ENDING, True
        return original, original, extension, False


def make_smaller(content, side, name="photo"):
    """A photo in a size that is enough for training.

    The EXIF orientation is applied, and no EXIF block is kept.

    Args:
        content: bytes of a photo's file.
        side: int, pixels of its shorter side.
        name: str, what errors call it.

    Returns:
        bytes of a JPEG of the quality `QUALITY`; None where the shorter side is not larger than
        `side`, or the photo cannot be decoded, which training then says.
    """
    try:
        image = decode(content, Preprocessing(FULL_SIZE), name)
    except ImageError:
        return None
    height, width = image.shape[:2]
    if min(height, width) <= side:
        return None
    scale = side / min(height, width)
    size = max(side, round(width * scale)), max(side, round(height * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg_bytes = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    return jpeg_bytes.tobytes()


def _write_index(target, plan, packing, shards):
    """Writes the index of all shards, in the order of the data."""
    entries = np.concatenate([shard.entries for shard in shards])
    sizes = [len(shard.entries) for shard in shards]
    entries["shard"] = np.repeat(np.arange(len(shards)), sizes)
    names = [name for shard in shards for name in shard.group_names]
    group_names = sorted(set(filter(None, names)))
    numbers = {name: number for number, name in enumerate(group_names)}
    entries["group"] = [numbers.get(name, NO_GROUP) for name in names]
    description = {
        "classes": list(plan.class_names),
        "rule": plan.rule,
        "has_parts": plan.photos[0].part is not None,
        "layout": plan.layout,
        "packing": packing._asdict(),
        "shards": [
            {
                "name": shard.name,
                "bytes": shard.size,
                "photos": len(shard.paths),
                "sha256": shard.sha256,
            }
            for shard in shards
        ],
        "groups": group_names,
    }
    ranks = [*plan.ranks, *(position for positions in plan.new_shards for position in positions)]
    write_index(target, entries[np.argsort(ranks, kind="stable")], description)
