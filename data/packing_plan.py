"""What `--mode pack` has to do: which photos are new in a place, and which shard gets them."""

import os
import re
from typing import NamedTuple

import numpy as np

from common.errors import InputError, first_ten
from data import parts, parts_table
from data.labelled_data import has_own_images, read_labelled
from data.object_stores import is_remote
from data.packed_index import DESCRIPTION, ENTRY, OTHERS, UNFINISHED
from data.packed_places import is_place, open_place
from data.shard_files import PackedPhoto, read_shard
from data.splitting import hash_files

SHARD_NAME = re.compile(r"photos-(\d{5,})\.tar")
MEGABYTE = 10**6
BESIDE_PHOTO = 2560  # bytes in a shard beside those of a photo: three headers, KEY.cls, KEY.json


class Packing(NamedTuple):
    """How photos are packed.

    Attributes:
        shard_megabytes: int, size of a shard, in millions of bytes of the original files.
        pack_size: int, pixels of the shorter side that larger photos are made smaller to; None
            keeps their bytes.
        seed: int, of the random order.
    """

    shard_megabytes: int = 256
    pack_size: int | None = None
    seed: int = 0


DEFAULT_PACKING = Packing()


class PackingPlan(NamedTuple):
    """What there is to do.

    Attributes:
        photos: list of N `PackedPhoto`, all photos of the data.
        class_names: tuple of str, in the order of their ids.
        layout: str, as of `packed_index.PackedPlace`.
        rule: str, by which the photos form groups, or None.
        old_shards: list of `Shard`, those that are packed already.
        ranks: list of int, for each photo in those where it stands in the index: its position
            among the photos of the data, or behind them where it is not there any more.
        new_shards: list of lists of int, positions of the photos that each new shard gets.
        first_number: int, the number of the first new shard.
    """

    photos: list
    class_names: tuple
    layout: str
    rule: str | None
    old_shards: list
    ranks: list
    new_shards: list
    first_number: int


def make_plan(data, target, packing, workers=1, labels_path=None):
    """Compares the photos of a data set with those of a place.

    Args:
        data: str, a folder or a CSV file.
        target: str, the place, which need not exist.
        packing: `Packing`.
        workers: int, threads that read photos.
        labels_path: str, a JSON file with the class names, or None.

    Returns:
        `PackingPlan`; the same for the same photos, so that what was stopped continues.

    Raises:
        InputError: the data cannot be read; the target is something else, or of other data.
        OSError: a file cannot be read.
    """
    _check_target(data, target)
    samples, class_names, _ = read_labelled(data, labels_path=labels_path)
    _check_utf8(class_names)
    photos, rule, contents = _describe_photos(data, samples, class_names, workers)
    old_shards = _read_old(target, class_names, rule, photos, packing)
    if contents is None and old_shards:
        contents = hash_files([photo.path for photo in photos], workers)
    new_positions, ranks = _find_new(target, photos, contents, old_shards)
    numbers = [int(SHARD_NAME.fullmatch(shard.name)[1]) for shard in old_shards]
    first_number = max(numbers, default=-1) + 1
    layout = "table" if os.path.isfile(data) else "texts" if has_own_images(data) else "folders"
    new_shards = _plan_shards(photos, new_positions, packing, first_number)
    return PackingPlan(
        photos, class_names, layout, rule, old_shards, ranks.tolist(), new_shards, first_number
    )


def _check_target(data, target):
    """Refuses what cannot be packed, and a target that is something else."""
    for path in (data, target):
        if is_remote(path):
            raise InputError(
                f"{path}: --mode pack reads and writes folders of this machine; copy the finished "
                "place with the store's own program"
            )
    if os.path.isdir(data) and is_place(data):
        raise InputError(f"--data: {data}: its photos are packed already")
    real_data, real_target = (os.path.join(os.path.realpath(path), "") for path in (data, target))
    if real_target.startswith(real_data) or real_data.startswith(real_target):
        raise InputError(f"--target: {target} and --data {data} lie inside each other")
    if not os.path.lexists(target):
        return
    if not os.path.isdir(target):
        raise InputError(f"--target: {target} is a file; give a folder")
    names = [name for name in os.listdir(target) if not name.startswith(".partial-")]
    if names and DESCRIPTION not in names and UNFINISHED not in names:
        raise InputError(
            f"--target: {target} is not empty and no packed place; give a folder that does not "
            "exist, or is empty"
        )


def _check_utf8(class_names):
    """Refuses class names that label.json cannot hold."""
    for name in class_names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{os.fsencode(name)!r}: the name of a class is not UTF-8; rename it"
            ) from None


def _describe_photos(data, samples, class_names, workers):
    """(list of `PackedPhoto`, rule or None, uint64 (N,) hashes or None), from splits.csv if any."""
    names = [name.replace(os.sep, "/") for name in samples.file_names]
    photos = [
        PackedPhoto(
            os.path.join(samples.folder, file_name), name, int(class_id), class_names[class_id]
        )
        for file_name, name, class_id in zip(samples.file_names, names, samples.class_ids)
    ]
    if not parts.exists(data):
        return photos, None, None
    assignment = parts.update(
        data, samples, workers=workers, must_keep=False, class_names=class_names
    )
    rows = {row.path: row for row in parts_table.read_rows(assignment.path)}
    photos = [
        photo._replace(
            part=parts_table.PARTS[part],
            group=rows[photo.name].group if photo.name in rows else None,
            group_name=rows[photo.name].group_name if photo.name in rows else "",
        )
        for photo, part in zip(photos, assignment.parts)
    ]
    contents = np.array([int(content, 16) for content in assignment.contents], np.uint64)
    return photos, parts_table.rule_of(data), contents


def _read_old(target, class_names, rule, photos, packing):
    """list of `Shard`, those that are packed already; refuses photos that do not go with them."""
    if not os.path.exists(os.path.join(target, DESCRIPTION)):
        return []
    place = open_place(target)
    if place.layout == OTHERS:
        raise InputError(f"--target: {target} holds tar files of others; give another folder")
    if place.class_names != class_names:
        raise InputError(
            f"--target: {target} has the classes {first_ten(place.class_names)}, --data has "
            f"{first_ten(class_names)}; give another folder"
        )
    side = packing.pack_size
    if place.packing.get("pack_size") != side:
        old_side = place.packing.get("pack_size")
        raise InputError(
            f"--pack_size: {side}: the photos in {target} were packed with "
            f"{old_side or 'their own bytes'}; give another --target, or the same --pack_size"
        )
    if place.has_parts != (photos[0].part is not None) or place.rule != rule:
        raise InputError(
            f"--target: the photos in {target} have {'' if place.has_parts else 'no '}parts"
            f"{f' by {place.rule}' if place.rule else ''}, those of --data differ in that; give "
            "another folder"
        )
    return [
        read_shard(os.path.join(target, name), sha256)[0]
        for name, sha256 in zip(place.shards, place.checksums)
    ]


def _find_new(target, photos, contents, old_shards):
    """Which photos are not packed yet, and where each packed one stands among the photos.

    A photo is known by its content, also under another path.

    Returns:
        (list of positions in `photos`; int (M,), for each packed photo the position in `photos`
        that it is, or their number and more where it is not among them any more).
    """
    old_entries = np.concatenate([np.zeros(0, ENTRY), *(shard.entries for shard in old_shards)])
    old_paths = [path for shard in old_shards for path in shard.paths]
    order = len(photos) + np.arange(len(old_paths))
    if not len(old_paths):
        return list(range(len(photos))), order
    number_by_path = {path: number for number, path in enumerate(old_paths)}
    known, unknown = {}, []
    for position, photo in enumerate(photos):  # first those that have kept their path
        number = number_by_path.get(photo.name)
        if number is None:
            unknown.append(position)
        elif old_entries["content"][number] != contents[position]:
            raise InputError(
                f"{photo.path}: has changed since it was packed in {target}; pack the photos into "
                "another --target"
            )
        else:
            known[position] = number
    by_content = {}
    for number, content in enumerate(old_entries["content"].tolist()):
        by_content.setdefault(content, []).append(number)
    taken, new_positions = set(known.values()), []
    for position in unknown:
        numbers = [n for n in by_content.get(int(contents[position]), ()) if n not in taken]
        if numbers:
            known[position] = numbers[0]
            taken.add(numbers[0])
        else:
            new_positions.append(position)
    for position, number in known.items():
        _check_same(photos[position], old_entries[number], target)
        order[number] = position
    return new_positions, order


def _check_same(photo, entry, target):
    """Refuses a photo whose class or part is another one than when it was packed."""
    part = None if photo.part is None else parts_table.PARTS.index(photo.part)
    is_same = entry["class"] == photo.class_id and (part is None or entry["part"] == part)
    if not is_same:
        raise InputError(
            f"{photo.path}: has another class or part than when it was packed in {target}; pack "
            "the photos into another --target"
        )


def _plan_shards(photos, new_positions, packing, first_shard):
    """list of lists of positions, the photos of each shard in their order."""
    seed = packing.seed if not first_shard else (packing.seed, first_shard)
    shuffled = np.random.default_rng(seed).permutation(np.array(new_positions, int))
    limit, shards, size = packing.shard_megabytes * MEGABYTE, [], 0
    for position in shuffled.tolist():
        photo_size = os.stat(photos[position].path).st_size + BESIDE_PHOTO
        if not shards or size + photo_size > limit:
            shards.append([])
            size = 0
        shards[-1].append(position)
        size += photo_size
    return shards
