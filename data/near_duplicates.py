"""Pictures that show the same: copies of another size, format, quality, brightness or colour,
mirrored ones, and those cropped or turned a little.

Candidates are pairs whose perceptual hashes nearly agree, one of them mirrored or not. Those whose
small pictures agree as well are near duplicates. 100,000 images need 130 MB.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from data.geometry import Preprocessing
from data.hash_pairs import near_pairs
from data.picture_alignment import (
    COLOR_SIDE,
    EDGE,
    SIDE,
    have_the_same_colors,
    show_the_same,
    to_grey,
)

PREPROCESSING = Preprocessing(SIDE, "stretch")  # what `describe` takes
MAX_HASH_BITS = 16  # of 64 that may differ
MAX_PARTNERS = 16  # pictures of the nearest hashes that one is compared with
MAX_LEADERS = 8  # pictures of one hash that others are compared with
COARSE_SIDE = 7  # pixels of the pictures that are compared first
MIN_COARSE_CORRELATION = 0.75
BLOCK_SIZE = 4096  # pairs compared at a time
THREAD_BLOCK = 256  # pairs that a thread compares at a time
OTHER_BRIGHTNESS = 10  # levels of 255 from which on a difference is named
GREY = 3  # levels of 255 between the channels of a grey picture


class Descriptions(NamedTuple):
    """What N images are compared by.

    Attributes:
        hashes, mirrored_hashes: uint64 (N,), perceptual hashes of the images and of their
            mirror images.
        pictures: uint8 (N, SIDE, SIDE), grey, the images made small.
        colors: uint8 (N, COLOR_SIDE, COLOR_SIDE, 3), RGB, made smaller.
    """

    hashes: np.ndarray
    mirrored_hashes: np.ndarray
    pictures: np.ndarray
    colors: np.ndarray


def perceptual_hash(picture):
    """64 bits of the low frequencies of a picture's grey values.

    A bit says whether a coefficient of the cosine transform lies above the median of all:
    Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions",
    section 3.2.1.

    Args:
        picture: uint8 (SIDE, SIDE), grey.

    Returns:
        `np.uint64`.
    """
    low_frequencies = cv2.dct(picture.astype(np.float32))[1:9, 1:9].ravel()  # no mean, no ramps
    hash_bits = low_frequencies > np.median(low_frequencies)
    return np.packbits(hash_bits).view(np.uint64)[0]


def describe(pictures):
    """Computes what images are compared by.

    Args:
        pictures: uint8 (N, SIDE, SIDE, 3), RGB, from `decoding.load` with `PREPROCESSING`.

    Returns:
        `Descriptions`.
    """
    descriptions = empty_descriptions(len(pictures))
    for position, picture in enumerate(pictures):
        put(descriptions, position, describe_one(picture))
    return descriptions


def describe_one(picture):
    """What one image is compared by.

    Args:
        picture: uint8 (SIDE, SIDE, 3), RGB, from `decoding.load` with `PREPROCESSING`.

    Returns:
        tuple, a row of each array of `Descriptions`.
    """
    grey_picture = to_grey(picture)
    return (
        perceptual_hash(grey_picture),
        perceptual_hash(cv2.flip(grey_picture, 1)),
        grey_picture,
        cv2.resize(picture, (COLOR_SIDE, COLOR_SIDE), interpolation=cv2.INTER_AREA),
    )


def empty_descriptions(count):
    """Arrays to `put` descriptions in.

    Args:
        count: int, the number of images.

    Returns:
        `Descriptions`, with undefined content.
    """
    return Descriptions(
        np.empty(count, np.uint64),
        np.empty(count, np.uint64),
        np.empty((count, SIDE, SIDE), np.uint8),
        np.empty((count, COLOR_SIDE, COLOR_SIDE, 3), np.uint8),
    )


def put(descriptions, position, row):
    """Puts the description of one image into arrays of several.

    Args:
        descriptions: `Descriptions`, which are changed.
        position: int, the image's position.
        row: tuple, from `describe_one`.
    """
    for array, value in zip(descriptions, row):
        array[position] = value


def first(descriptions, count):
    """The first of some descriptions.

    Args:
        descriptions: `Descriptions`.
        count: int, the number of images.

    Returns:
        `Descriptions` of the first `count` images, views of the same arrays.
    """
    return Descriptions(*(array[:count] for array in descriptions))


def groups(descriptions, workers=1):
    """Which images show the same, directly or through others.

    Args:
        descriptions: `Descriptions` of N images.
        workers: int, threads that compare.

    Returns:
        int (N,), equal for images of one group: the position of its first image.

    Example:

    ```python
    pictures = [load(path, PREPROCESSING) for path in ("a.jpg", "copy_of_a.png", "b.jpg")]
    groups(describe(pictures))  # [0, 0, 2]
    ```
    """
    forest = _Forest(len(descriptions.hashes))
    with ThreadPoolExecutor(workers) as pool:
        leaders = _join_equal_hashes(descriptions, forest, pool)
        hashes = descriptions.hashes[leaders]
        for other_hashes, is_mirrored in (
            (hashes, False),
            (descriptions.mirrored_hashes[leaders], True),
        ):
            pairs, distances = near_pairs(
                hashes, other_hashes, MAX_HASH_BITS, MAX_PARTNERS, workers
            )
            # The nearest first: most others are then in one group already.
            pairs = leaders[pairs[np.argsort(distances, kind="stable")]].reshape(-1, 2)
            _join_alike(descriptions, pairs, is_mirrored, forest, pool)
    return np.array([forest.find_root(index) for index in range(len(descriptions.hashes))], int)


def alike(descriptions, one, two):
    """Whether two images show the same, without the help of a third.

    Args:
        descriptions: `Descriptions`.
        one, two: int, positions of the images.

    Returns:
        bool.
    """
    return _is_copy(descriptions, one, two, False) or _is_copy(descriptions, one, two, True)


def differences(descriptions, one, two):
    """What tells an image from another one that shows the same.

    Args:
        descriptions, one, two: as in `alike`.

    Returns:
        list of str, any of "mirrored", "brighter" or "darker", and "without colours".
    """
    words = [] if _is_copy(descriptions, one, two, False) else ["mirrored"]
    brightness = [descriptions.pictures[index].mean() for index in (one, two)]
    if abs(brightness[0] - brightness[1]) > OTHER_BRIGHTNESS:
        words.append("brighter" if brightness[0] > brightness[1] else "darker")
    spread = [np.ptp(descriptions.colors[index].astype(int), axis=-1).max() for index in (one, two)]
    if spread[0] <= GREY < OTHER_BRIGHTNESS < spread[1]:
        words.append("without colours")
    return words


def _is_copy(descriptions, one, two, is_mirrored):
    other_hashes = descriptions.mirrored_hashes if is_mirrored else descriptions.hashes
    differing_bits = np.bitwise_count(descriptions.hashes[one] ^ other_hashes[two])
    if differing_bits > MAX_HASH_BITS:
        return False
    return bool(_are_alike(descriptions, np.array([[one, two]]), is_mirrored)[0])


class _Forest:
    """Groups that grow: each image points to another one of its group, the first to itself."""

    def __init__(self, count):
        self.parents = np.arange(count)

    def find_root(self, index):
        while self.parents[index] != index:
            self.parents[index] = self.parents[self.parents[index]]
            index = self.parents[index]
        return index

    def join(self, one, two):
        one_root, two_root = self.find_root(one), self.find_root(two)
        self.parents[max(one_root, two_root)] = min(one_root, two_root)


def _join_equal_hashes(descriptions, forest, pool):
    """Joins pictures of equal hashes; returns int (M,), those that the others are compared with.

    Of each hash there are some leaders, pictures that do not show the same. A thousand pictures
    of one hash would make half a million pairs otherwise.
    """
    rest, all_leaders = np.arange(len(descriptions.hashes)), []
    for _ in range(MAX_LEADERS):
        _, first_positions, inverse = np.unique(
            descriptions.hashes[rest], return_index=True, return_inverse=True
        )
        all_leaders.append(rest[first_positions])
        pairs = np.stack([rest[first_positions[inverse]], rest], axis=1)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        are_alike = _compare(descriptions, pairs, False, pool)
        for one, two in pairs[are_alike]:
            forest.join(one, two)
        rest = pairs[~are_alike, 1]
    return np.sort(np.concatenate(all_leaders))


def _join_alike(descriptions, pairs, is_mirrored, forest, pool):
    """Joins those of the pairs that show the same, the second mirrored or not."""
    from tqdm import tqdm

    starts = range(0, len(pairs), BLOCK_SIZE)
    for start in tqdm(starts, "comparing pictures", leave=False, disable=None, delay=1):
        block = pairs[start : start + BLOCK_SIZE]
        is_open = [forest.find_root(one) != forest.find_root(two) for one, two in block]
        block = block[np.array(is_open, bool)]
        for one, two in block[_compare(descriptions, block, is_mirrored, pool)]:
            forest.join(one, two)


def _compare(descriptions, pairs, is_mirrored, pool):
    """bool (M,), whether pairs of pictures show the same."""

    def compare(block):
        return _are_alike(descriptions, block, is_mirrored)

    blocks = [pairs[start : start + THREAD_BLOCK] for start in range(0, len(pairs), THREAD_BLOCK)]
    return np.concatenate([np.zeros(0, bool), *pool.map(compare, blocks)])


def _are_alike(descriptions, pairs, is_mirrored):
    """bool (M,), the same without threads."""
    one, two = descriptions.pictures[pairs[:, 0]], descriptions.pictures[pairs[:, 1]]
    two_colors = descriptions.colors[pairs[:, 1]]
    if is_mirrored:
        two, two_colors = two[:, :, ::-1], two_colors[:, :, ::-1]
    are_alike = np.einsum("nij,nij->n", _coarse(one), _coarse(two)) >= MIN_COARSE_CORRELATION
    are_alike |= (one == two).all(axis=(1, 2))
    are_alike[are_alike] = have_the_same_colors(
        descriptions.colors[pairs[are_alike, 0]], two_colors[are_alike]
    )
    are_alike[are_alike] = show_the_same(one[are_alike], two[are_alike])
    return are_alike


def _coarse(pictures):
    """float32 (N, 7, 7) means of areas, of mean 0 and length 1 (0 for a flat picture)."""
    pictures = pictures[:, EDGE:-EDGE, EDGE:-EDGE]
    factor = pictures.shape[1] // COARSE_SIDE
    shape = len(pictures), COARSE_SIDE, factor, COARSE_SIDE, factor
    coarse = pictures.reshape(shape).mean(axis=(2, 4), dtype=np.float32)
    coarse -= coarse.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt((coarse**2).sum(axis=(1, 2), keepdims=True))
    return coarse / np.maximum(lengths, 1e-3)
