"""Pictures that show the same: copies of another size, format, quality, brightness or colour,
mirrored ones, and those cropped or turned a little.

Candidates are pairs whose perceptual hashes nearly agree, one of them mirrored or not. Those whose
small pictures agree as well are near duplicates. Hashes and small pictures are all that is
compared, so that 100,000 images need 110 MB.
"""

from collections import defaultdict
from typing import NamedTuple

import cv2
import numpy as np

from data.geometry import Preprocessing
from data.hash_pairs import near_pairs
from data.picture_alignment import SIDE, show_the_same, to_grey

PREPROCESSING = Preprocessing(SIDE, "stretch")  # what `describe` takes
MAX_HASH_BITS = 16  # of 64 that may differ
MAX_PARTNERS = 32  # pictures of the nearest hashes that one is compared with
MAX_LEADERS = 8  # pictures of one hash that others are compared with
COARSE_SIDE = 8  # pixels of the pictures that are compared first
MIN_COARSE_CORRELATION = 0.75
BLOCK_SIZE = 4096  # pairs compared at a time


class Descriptions(NamedTuple):
    """What N images are compared by.

    Attributes:
        hashes, mirrored_hashes: uint64 (N,), perceptual hashes of the images and of their
            mirror images.
        pictures: uint8 (N, SIDE, SIDE), grey, the images made small.
    """

    hashes: np.ndarray
    mirrored_hashes: np.ndarray
    pictures: np.ndarray


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
        pictures: uint8 (N, SIDE, SIDE, 3), RGB, from `decoding.load` with `PREPROCESSING`, or
            their grey values, uint8 (N, SIDE, SIDE).

    Returns:
        `Descriptions`.
    """
    grey_pictures = np.empty((len(pictures), SIDE, SIDE), np.uint8)
    for position, picture in enumerate(pictures):
        grey_pictures[position] = to_grey(picture) if picture.ndim == 3 else picture
    hashes = [perceptual_hash(picture) for picture in grey_pictures]
    mirrored_hashes = [perceptual_hash(cv2.flip(picture, 1)) for picture in grey_pictures]
    return Descriptions(
        np.array(hashes, np.uint64), np.array(mirrored_hashes, np.uint64), grey_pictures
    )


def groups(descriptions, workers=1):
    """Which images show the same, directly or through others.

    Args:
        descriptions: `Descriptions` of N images.
        workers: int, threads that compare hashes.

    Returns:
        int (N,), equal for images of one group: the position of its first image.

    Example:

    ```python
    pictures = [load(path, PREPROCESSING) for path in ("a.jpg", "copy_of_a.png", "b.jpg")]
    groups(describe(pictures))  # [0, 0, 2]
    ```
    """
    forest = _Forest(len(descriptions.hashes))
    leaders = _join_equal_hashes(descriptions, forest)
    hashes = descriptions.hashes[leaders]
    for other_hashes, is_mirrored in (
        (hashes, False),
        (descriptions.mirrored_hashes[leaders], True),
    ):
        pairs, distances = near_pairs(hashes, other_hashes, MAX_HASH_BITS, MAX_PARTNERS, workers)
        # The nearest first: most others are then in one group already.
        pairs = leaders[pairs[np.argsort(distances, kind="stable")]].reshape(-1, 2)
        _join_alike(descriptions, pairs, is_mirrored, forest)
    return np.array([forest.find_root(index) for index in range(len(descriptions.hashes))], int)


def alike(one, two):
    """Whether two pictures show the same, without the help of a third.

    Args:
        one, two: uint8 (SIDE, SIDE, 3), RGB, from `decoding.load` with `PREPROCESSING`.

    Returns:
        bool.
    """
    one, two = describe([one]), describe([two])
    for hashes, picture in (
        (two.hashes, two.pictures[0]),
        (two.mirrored_hashes, cv2.flip(two.pictures[0], 1)),
    ):
        differing_bits = np.bitwise_count(one.hashes ^ hashes)[0]
        if differing_bits <= MAX_HASH_BITS and show_the_same(one.pictures[0], picture):
            return True
    return False


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


def _join_equal_hashes(descriptions, forest):
    """Joins pictures of equal hashes; returns int (M,), those that the others are compared with.

    Of each hash there are some leaders, pictures that do not show the same. A thousand pictures
    of one hash would make half a million pairs otherwise.
    """
    members_by_hash = defaultdict(list)
    for position, picture_hash in enumerate(descriptions.hashes.tolist()):
        members_by_hash[picture_hash].append(position)
    all_leaders = []
    for members in members_by_hash.values():
        leaders = []
        for position in members:
            picture = descriptions.pictures[position]
            leader = next(
                (one for one in leaders if show_the_same(descriptions.pictures[one], picture)), None
            )
            if leader is not None:
                forest.join(leader, position)
            elif len(leaders) < MAX_LEADERS:
                leaders.append(position)
        all_leaders += leaders
    return np.array(sorted(all_leaders), int)


def _join_alike(descriptions, pairs, is_mirrored, forest):
    """Joins those of the pairs that show the same, the second mirrored or not."""
    pictures = descriptions.pictures
    for start in range(0, len(pairs), BLOCK_SIZE):
        block = pairs[start : start + BLOCK_SIZE]
        for one, two in block[_may_be_alike(pictures, block, is_mirrored)]:
            if forest.find_root(one) == forest.find_root(two):
                continue
            second = cv2.flip(pictures[two], 1) if is_mirrored else pictures[two]
            if show_the_same(pictures[one], second):
                forest.join(one, two)


def _may_be_alike(pictures, pairs, is_mirrored):
    """bool (M,), whether pairs of pictures agree coarsely: most candidates do not."""
    if not len(pairs):
        return np.zeros(0, bool)
    one, two = (_coarse(pictures[pairs[:, side]]) for side in (0, 1))
    if is_mirrored:
        two = two[:, :, ::-1]
    return np.einsum("nij,nij->n", one, two) >= MIN_COARSE_CORRELATION


def _coarse(pictures):
    """float32 (N, 8, 8) means of areas, of mean 0 and length 1 (0 for a flat picture)."""
    factor = SIDE // COARSE_SIDE
    shape = len(pictures), COARSE_SIDE, factor, COARSE_SIDE, factor
    coarse = pictures.reshape(shape).mean(axis=(2, 4), dtype=np.float32)
    coarse -= coarse.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt((coarse**2).sum(axis=(1, 2), keepdims=True))
    return coarse / np.maximum(lengths, 1e-3)
