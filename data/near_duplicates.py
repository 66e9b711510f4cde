"""Pictures that show the same: copies of another size, format or quality.

Candidates are pairs whose perceptual hashes nearly agree; of those, pairs count whose
small pictures do. All of it works on hashes and small pictures, so that 100,000 images
need no more than some seconds and 120 MB.
"""

from typing import NamedTuple

import cv2
import numpy as np

from data.geometry import Preprocessing

SIDE = 32  # pixels of the small pictures
PREPROCESSING = Preprocessing(SIDE, "stretch")  # what `describe` takes
BANDS = 8  # bytes of a hash; two hashes of at most 7 different bits share one of them
MOST_BITS = BANDS - 1
MOST_DIFFERENCE = 5.0  # of the small pictures, mean over pixels and channels, in 0-255
BLOCK = 2048  # rows and columns of one comparison


class Descriptions(NamedTuple):
    """Of N images.

    Attributes:
        hashes: uint64 (N,).
        pictures: uint8 (N, SIDE, SIDE, 3).
    """

    hashes: np.ndarray
    pictures: np.ndarray


def perceptual_hash(picture):
    """64 bits of the low frequencies of a picture's grey values.

    Each says whether a coefficient of the cosine transform lies above the median of all:
    Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions",
    section 3.2.1.

    Args:
        picture: uint8 (SIDE, SIDE, 3), RGB.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = cv2.dct(grey)[1:9, 1:9].ravel()  # without the mean and the plain ramps
    return np.packbits(low > np.median(low)).view(np.uint64)[0]


def describe(pictures):
    """The `Descriptions` of pictures, each as `decoding.load` makes it with `PREPROCESSING`."""
    pictures = np.asarray(pictures, np.uint8).reshape(-1, SIDE, SIDE, 3)
    hashes = np.array([perceptual_hash(each) for each in pictures], np.uint64)
    return Descriptions(hashes, pictures)


def groups(descriptions):
    """Which images show the same, directly or through others.

    Returns:
        int (N,): the same number for images of one group, that of its first image.
    """
    # Equal hashes meet once, by their first image, or a thousand empty pictures would make
    # half a million pairs.
    first, member = _first_of_equal(descriptions.hashes)
    parent = np.arange(len(descriptions.hashes))

    def root(number):
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def join(one, two):
        one, two = root(one), root(two)
        parent[max(one, two)] = min(one, two)

    pairs = np.concatenate(
        [
            np.stack([member, np.arange(len(member))], axis=1),
            _candidates(descriptions.hashes, first),
        ]
    )
    for one, two in pairs[_alike(descriptions.pictures, pairs)]:
        join(one, two)
    return np.array([root(number) for number in range(len(parent))])


def _first_of_equal(hashes):
    """Positions of each different hash's first image, and for each image that position."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return np.sort(first), first[inverse]


def _candidates(hashes, positions):
    """Pairs of `positions` whose hashes differ in at most `MOST_BITS` bits, (M, 2), each once.

    By the pigeonhole principle such a pair shares a byte, so only images with a byte in
    common are compared: an eighth of 1/32 of all pairs.
    """
    chosen = hashes[positions]
    parts = chosen.view(np.uint8).reshape(-1, BANDS)
    found = []
    for band in range(BANDS):
        order = np.argsort(parts[:, band], kind="stable")
        ends = np.cumsum(np.bincount(parts[:, band], minlength=256))
        for low, high in zip(np.concatenate([[0], ends[:-1]]), ends):
            members = order[low:high]
            for start in range(0, len(members), BLOCK):
                rows = members[start : start + BLOCK]
                for other in range(start, len(members), BLOCK):
                    columns = members[other : other + BLOCK]
                    bits = np.bitwise_count(chosen[rows, None] ^ chosen[None, columns])
                    near = np.argwhere(bits <= MOST_BITS)
                    pairs = np.stack([rows[near[:, 0]], columns[near[:, 1]]], axis=1)
                    found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    pairs = np.unique(np.concatenate(found), axis=0) if found else np.empty((0, 2), int)
    return positions[pairs].reshape(-1, 2)


def _alike(pictures, pairs):
    """Which pairs' small pictures nearly agree."""
    alike = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), BLOCK):
        part = pairs[start : start + BLOCK]
        one, two = (pictures[part[:, side]].astype(np.float32) for side in (0, 1))
        alike[start : start + BLOCK] = np.abs(one - two).mean(axis=(1, 2, 3)) <= MOST_DIFFERENCE
    return alike


def alike(one, two):
    """Whether two pictures, as `describe` takes them, show the same by themselves."""
    bits = np.bitwise_count(perceptual_hash(one) ^ perceptual_hash(two))
    return bool(bits <= MOST_BITS and _alike(np.stack([one, two]), np.array([[0, 1]]))[0])
