"""Pictures that show the same: copies of another size, format or quality.

Candidates are pairs whose perceptual hashes nearly agree. Those whose small pictures nearly
agree too are near duplicates. Hashes and small pictures are all that is compared, so that
100,000 images need some seconds and 120 MB.
"""

from typing import NamedTuple

import cv2
import numpy as np

from data.geometry import Preprocessing

SIDE = 32  # pixels of the small pictures
PREPROCESSING = Preprocessing(SIDE, "stretch")  # what `describe` takes
HASH_BYTES = 8  # two hashes with at most 7 different bits have one byte in common
MAX_HASH_BITS = HASH_BYTES - 1  # that may differ
MAX_DIFFERENCE = 5.0  # of the small pictures, mean over pixels and channels, in 0-255
BLOCK_SIZE = 2048  # rows and columns of one comparison


class Descriptions(NamedTuple):
    """What N images are compared by.

    Attributes:
        hashes: uint64 (N,), perceptual hashes.
        pictures: uint8 (N, SIDE, SIDE, 3), RGB, the images made small.
    """

    hashes: np.ndarray
    pictures: np.ndarray


def perceptual_hash(picture):
    """64 bits of the low frequencies of a picture's grey values.

    A bit says whether a coefficient of the cosine transform lies above the median of all:
    Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions",
    section 3.2.1.

    Args:
        picture: uint8 (SIDE, SIDE, 3), RGB.

    Returns:
        `np.uint64`.
    """
    grey_picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low_frequencies = cv2.dct(grey_picture)[1:9, 1:9].ravel()  # without mean and plain ramps
    hash_bits = low_frequencies > np.median(low_frequencies)
    return np.packbits(hash_bits).view(np.uint64)[0]


def describe(pictures):
    """Computes what images are compared by.

    Args:
        pictures: uint8 (N, SIDE, SIDE, 3), RGB, from `decoding.load` with `PREPROCESSING`.

    Returns:
        `Descriptions`.
    """
    pictures = np.asarray(pictures, np.uint8).reshape(-1, SIDE, SIDE, 3)
    hashes = np.array([perceptual_hash(picture) for picture in pictures], np.uint64)
    return Descriptions(hashes, pictures)


def groups(descriptions):
    """Which images show the same, directly or through others.

    Args:
        descriptions: `Descriptions` of N images.

    Returns:
        int (N,), equal for images of one group: the position of its first image.

    Example:

    ```python
    pictures = [load(path, PREPROCESSING) for path in ("a.jpg", "copy_of_a.png", "b.jpg")]
    groups(describe(pictures))  # [0, 0, 2]
    ```
    """
    # Equal hashes are compared once, by their first image, or a thousand empty pictures would
    # make half a million pairs.
    first_positions, first_of_each = _first_of_equal(descriptions.hashes)
    image_count = len(descriptions.hashes)
    parents = np.arange(image_count)

    def find_root(index):
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    equal_pairs = np.stack([first_of_each, np.arange(image_count)], axis=1)
    pairs = np.concatenate([equal_pairs, _candidates(descriptions.hashes, first_positions)])
    for one, two in pairs[_look_alike(descriptions.pictures, pairs)]:
        one_root, two_root = find_root(one), find_root(two)
        parents[max(one_root, two_root)] = min(one_root, two_root)
    return np.array([find_root(index) for index in range(image_count)])


def _first_of_equal(hashes):
    """Positions of the first image of every distinct hash, and for each image that position."""
    _, first_positions, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return np.sort(first_positions), first_positions[inverse]


def _candidates(hashes, positions):
    """Distinct pairs of `positions` whose hashes differ in at most `MAX_HASH_BITS`, int (M, 2).

    By the pigeonhole principle such a pair has a byte in common, so only images with a common
    byte are compared: 8/256 of all pairs.
    """
    chosen_hashes = hashes[positions]
    hash_bytes = chosen_hashes.view(np.uint8).reshape(-1, HASH_BYTES)
    blocks = []
    for byte_values in hash_bytes.T:
        order = np.argsort(byte_values, kind="stable")
        bucket_ends = np.cumsum(np.bincount(byte_values, minlength=256))
        for bucket in np.split(order, bucket_ends[:-1]):
            for row_start in range(0, len(bucket), BLOCK_SIZE):
                rows = bucket[row_start : row_start + BLOCK_SIZE]
                for column_start in range(row_start, len(bucket), BLOCK_SIZE):
                    columns = bucket[column_start : column_start + BLOCK_SIZE]
                    blocks.append(_near_pairs(chosen_hashes, rows, columns))
    pairs = np.unique(np.concatenate(blocks), axis=0) if blocks else np.empty((0, 2), int)
    return positions[pairs].reshape(-1, 2)


def _near_pairs(hashes, rows, columns):
    """Pairs (row, column), row before column, whose hashes nearly agree."""
    differing_bits = np.bitwise_count(hashes[rows, None] ^ hashes[None, columns])
    near = np.argwhere(differing_bits <= MAX_HASH_BITS)
    pairs = np.stack([rows[near[:, 0]], columns[near[:, 1]]], axis=1)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _look_alike(pictures, pairs):
    """bool (M,), whether the small pictures of each of M pairs nearly agree."""
    are_alike = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), BLOCK_SIZE):
        block = pairs[start : start + BLOCK_SIZE]
        one, two = (pictures[block[:, side]].astype(np.float32) for side in (0, 1))
        mean_differences = np.abs(one - two).mean(axis=(1, 2, 3))
        are_alike[start : start + BLOCK_SIZE] = mean_differences <= MAX_DIFFERENCE
    return are_alike


def alike(one, two):
    """Whether two pictures show the same, without the help of a third.

    Args:
        one, two: uint8 (SIDE, SIDE, 3), RGB, from `decoding.load` with `PREPROCESSING`.

    Returns:
        bool.
    """
    differing_bits = np.bitwise_count(perceptual_hash(one) ^ perceptual_hash(two))
    if differing_bits > MAX_HASH_BITS:
        return False
    return bool(_look_alike(np.stack([one, two]), np.array([[0, 1]]))[0])
