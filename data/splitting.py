"""Holding a part of the samples out, decided by the bytes of each image; copies stay together."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.console import say
from common.errors import ImageError
from data import near_duplicates, remote_places
from data.decoding import load
from data.packed_index import PackedNames
from data.photo_files import content_hash, read_photo

MAX_COMPARED = 500_000  # images that are compared with each other: 0.6 GB of small pictures
BLANK = 2  # levels of 255 between the pixels of a picture that resembles every other blank one


def split(samples, fraction, workers=1, near=True, names=None):
    """Holds a part of the samples out, nearly the same ones however many are added later.

    Images that show the same picture form a group, which stays together. A group is held out if
    the hash of its leader lies below `fraction`, so the sizes of the parts are approximate. A
    group that is more than half of a class stays in training. A class of which nothing would be
    held out gives the group with its lowest hash, and a class of which all would be keeps the
    one with its highest. A class whose images all show the same keeps them for training.

    Args:
        samples: `Samples`.
        fraction: float, expected fraction of the samples to hold out, above 0 and below 1.
        workers: int, threads that read and decode.
        near: bool, whether to compare what images show; else only equal files are a group, and
            one of any size may be held out, as in earlier versions.
        names: list of N str, the groups that samples belong to as well, as of `join_named`. In
            the order of their hashes they are held out where that brings the classes' shares
            nearer to `fraction`: there may be too few for chance to do it. None: no such groups.

    Returns:
        (remaining, held out), two `Samples`.

    Raises:
        InputError: an image file cannot be read.

    Example:

    ```python
    training, validation = split(samples, 0.2, workers=4)
    ```
    """
    hashes, leaders = read_sample_groups(samples, workers, near)
    if names:
        leaders = join_named(hashes, leaders, names)
    hashes = hashes[leaders]
    is_held_out = hashes < np.uint64(int(fraction * 2**64))
    if names:
        is_held_out = _nearest_shares(hashes, samples.class_ids, fraction)
    classes = [
        np.flatnonzero(samples.class_ids == class_id) for class_id in np.unique(samples.class_ids)
    ]
    for members in classes if near else ():
        largest_leader, size = _largest_group(leaders[members])
        if size > len(members) / 2:
            is_held_out[leaders == largest_leader] = False
    for members in classes:
        _balance_class(is_held_out, hashes, leaders, members, near)
    for members in classes if names else ():  # a group of several classes may have taken the last
        _keep_training(is_held_out, hashes, leaders, members)
    return (
        samples.select(np.flatnonzero(~is_held_out)),
        samples.select(np.flatnonzero(is_held_out)),
    )


def _largest_group(member_leaders):
    """(leader, number of images) of the largest group."""
    class_leaders, sizes = np.unique(member_leaders, return_counts=True)
    return class_leaders[sizes.argmax()], sizes.max()


def _balance_class(is_held_out, hashes, leaders, members, near):
    """Gives both parts at least one group of a class that has two, changing `is_held_out`."""
    class_leaders, sizes = np.unique(leaders[members], return_counts=True)
    if len(class_leaders) == 1:
        is_held_out[np.isin(leaders, class_leaders)] = False
        return
    if not is_held_out[members].any():
        stays = near & (sizes > len(members) / 2)
        lowest = np.lexsort((hashes[class_leaders], stays))[0]
        is_held_out[leaders == class_leaders[lowest]] = True
    else:
        _keep_training(is_held_out, hashes, leaders, members)


def _keep_training(is_held_out, hashes, leaders, members):
    """Gives training the group of a class with its highest hash, where it has none."""
    if is_held_out[members].all():
        is_held_out[leaders == leaders[members[hashes[members].argmax()]]] = False


def _nearest_shares(group_hashes, class_ids, fraction):
    """bool (N,), the groups held out in the order of their hashes, as long as that is nearer."""
    missing = np.bincount(class_ids) * fraction
    is_held_out = np.zeros(len(class_ids), bool)
    order = np.argsort(group_hashes, kind="stable")
    starts = np.flatnonzero(np.diff(group_hashes[order]) != 0) + 1
    for members in np.split(order, starts):
        counts = np.bincount(class_ids[members], minlength=len(missing))
        if counts @ (2 * missing - counts) > 0:  # the sum of the squares becomes smaller
            is_held_out[members] = True
            missing -= counts
    return is_held_out


def hash_file(path):
    """`content_hash` of a file: int, 0 where it cannot be read.

    Args:
        path: str.
    """
    try:
        return content_hash(read_photo(path))
    except ImageError:
        return 0


def hash_files(paths, workers=1):
    """`content_hash` of many files.

    Args:
        paths: list of N str.
        workers: int, threads that read.

    Returns:
        uint64 (N,), 0 for a file that cannot be read.
    """
    return np.fromiter(map_images(hash_file, paths, "reading", workers), np.uint64, len(paths))


def hash_samples(samples, workers=1):
    """`content_hash` of the photos of samples; those of a packed place are in its index.

    Args:
        samples: `samples.Samples`, N photos.
        workers: int, threads that read.

    Returns:
        uint64 (N,), 0 for a file that cannot be read.
    """
    if isinstance(samples.file_names, PackedNames):
        return samples.file_names.column("content")
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    return hash_files(paths, workers)


def map_images(function, paths, label, workers=1):
    """What a function returns for each image file, with a progress bar where that takes time.

    Args:
        function: callable that takes a path.
        paths: list of str.
        label: str, what the bar says.
        workers: int, threads.

    Yields:
        What it returned, in the order of the paths.
    """
    from tqdm import tqdm

    remote_places.announce(paths)
    with ThreadPoolExecutor(workers) as pool:
        try:
            answers = pool.map(function, paths)
            bar_settings = {"unit": " images", "leave": False, "disable": None, "delay": 1}
            yield from tqdm(answers, label, len(paths), **bar_settings)
        finally:
            pool.shutdown(cancel_futures=True)


def read_groups(image_paths, hash_part=0, workers=1, near=True):
    """Hashes of image files, and which of them show the same picture.

    Args:
        image_paths: list of N str.
        hash_part: int, the part of `content_hash`.
        workers: int, threads that read and decode.
        near: bool, whether to compare what images show; else only equal files are a group, as
            they are where there are more than `MAX_COMPARED`, which is said in a line.

    Returns:
        (uint64 (N,) hashes of the files' bytes; int (N,), equal for images of one group: the
        index of its leader, which its hash decides, so that added images seldom change it).

    Raises:
        InputError: an image file cannot be read.
    """
    image_count = len(image_paths)
    if near and image_count > MAX_COMPARED:
        say(_too_many(image_count))
        near = False
    hashes = np.empty(image_count, np.uint64)
    descriptions = near_duplicates.empty_descriptions(image_count if near else 0)
    compared = []
    reads = _read_all(image_paths, hash_part, workers, near)
    for index, (image_hash, description) in enumerate(reads):
        hashes[index] = image_hash
        if description is not None:
            near_duplicates.put(descriptions, len(compared), description)
            compared.append(index)
    groups = np.arange(image_count)
    if compared:
        compared = np.array(compared)
        descriptions = near_duplicates.first(descriptions, len(compared))
        groups[compared] = compared[near_duplicates.groups(descriptions, workers)]
    return hashes, _leaders(hashes, _join_equal(groups, hashes))


def read_sample_groups(samples, workers=1, near=True):
    """`read_groups` of samples; a packed place of too many photos to compare is not read for it.

    Args:
        samples: `samples.Samples`, N photos.
        workers, near: as of `read_groups`.

    Returns:
        As of `read_groups`.

    Raises:
        InputError: an image file cannot be read.
    """
    names = samples.file_names
    if isinstance(names, PackedNames) and not (near and len(names) <= MAX_COMPARED):
        if near:
            say(_too_many(len(names)))
        hashes = names.column("content")
        return hashes, _leaders(hashes, _join_equal(np.arange(len(hashes)), hashes))
    paths = [os.path.join(samples.folder, file_name) for file_name in names]
    return read_groups(paths, workers=workers, near=near)


def _too_many(image_count):
    return (
        f"note: {image_count:,} images are too many to compare what they show (at most "
        f"{MAX_COMPARED:,}): only equal files stay together, near copies may be on both sides"
    )


def _read_all(image_paths, hash_part, workers, near):
    """Iterator of (hash, what the image is compared by: None if blank, broken or not wanted)."""

    def read(path):
        data = read_photo(path)
        return content_hash(data, hash_part), _describe(data, path) if near else None

    return map_images(read, image_paths, "comparing" if near else "splitting", workers)


def _describe(data, path):
    """What an image is compared by, or None."""
    try:
        picture = load(data, near_duplicates.PREPROCESSING, path)
    except ImageError:  # finding and removing it is the work of audit and clean
        return None
    is_blank = (np.ptp(picture, axis=(0, 1)) <= BLANK).all()
    return None if is_blank else near_duplicates.describe_one(picture)


def _join_equal(groups, hashes):
    """The groups, with those joined that have equal files: what cannot be compared has some."""
    _, first_positions, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return groups[first_positions[inverse]]


def join_named(hashes, leaders, names):
    """Joins groups of near copies that share a name: connected components of both relations.

    Args:
        hashes: uint64 (N,), of the images.
        leaders: int (N,), as of `read_groups`.
        names: list of N str, equal for images that belong together, such as those of a recording
            (`groups.name_groups`); "" joins none.

    Returns:
        int (N,), the index of the leader of each image's group.

    Example:
        >>> join_named(np.arange(5, dtype=np.uint64), np.array([0, 0, 2, 3, 4]), ["", *"aab", ""])
        array([0, 0, 0, 3, 4])
    """
    parents = {}

    def root(group):
        while (parent := parents.get(group, group)) != group:
            parents[group] = group = parents.get(parent, parent)
        return group

    first_groups = {}
    for group, name in zip(leaders.tolist(), names):
        if name:
            low, high = sorted((root(first_groups.setdefault(name, group)), root(group)))
            parents[high] = low
    return _leaders(hashes, np.array([root(group) for group in leaders.tolist()], int))


def _leaders(hashes, groups):
    """For each image the index of the one whose hash decides for its group."""
    # By the hash's last byte first: the lowest hash would lead too many to the held out parts.
    order = np.lexsort((hashes.byteswap(), groups))
    group_starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    group_sizes = np.diff([*group_starts, len(order)])
    leaders = np.empty_like(groups)
    leaders[order] = np.repeat(order[group_starts], group_sizes)
    return leaders
