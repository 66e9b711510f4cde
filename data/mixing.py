"""mixup and cutmix: new rows made from two rows of a batch, and their labels with them.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018 (ICLR), section 2.
Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", 2019 (ICCV), section 3.1.

Keras's layers (3.15) are not used: `MixUp` and `CutMix` know no weights, so undecodable rows
would be mixed into others, and they copy the batch to float32; `CutMix` takes its label
from a box with fractions of pixels, which is not the share that it pastes, and draws alpha
itself from a range.
"""

from typing import NamedTuple

import cv2
import numpy as np


class Mixing(NamedTuple):
    """What may happen to images and rows; the defaults change nothing.

    Attributes:
        mixup: alpha of mixup's Beta(alpha, alpha), 0 is off.
        cutmix: alpha of cutmix's Beta(alpha, alpha), 0 is off. With mixup on as well
            each batch takes one of them, at even odds.
        randaugment: strength of RandAugment's operations, 0 to 1, 0 is off.
        augmix: strength of AugMix's operations, 0 to 1, 0 is off.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    randaugment: float = 0.0
    augmix: float = 0.0


def mix(x, y, weights, mixing, generator):
    """Mixes the rows of a batch by mixup or cutmix, in place.

    Rows of weight 0 neither change nor go into others. Fewer than two other rows are
    left as they are.

    Args:
        x: uint8 (B, S, S, 3).
        y: float32 (B, C), rows sum to 1.
        weights: float32 (B,), 0 or 1.
        mixing: a `Mixing`.
        generator: a `numpy.random.Generator`.
    """
    rows = np.flatnonzero(weights)
    if len(rows) < 2 or not (mixing.mixup or mixing.cutmix):
        return
    if mixing.mixup and mixing.cutmix:
        method = (mixup, cutmix)[generator.integers(2)]
    else:
        method = mixup if mixing.mixup else cutmix
    method(x, y, rows, mixing.mixup if method is mixup else mixing.cutmix, generator)


def mixup(x, y, rows, alpha, generator):
    """Blends each of `rows` with another of them, in place.

    Row i becomes share * row i + (1 - share) * row j, image and label alike, with a
    share from Beta(alpha, alpha) of its own; j is i's place in a random permutation.

    Args:
        x, y, generator: as in `mix`.
        rows: integer array, positions of the rows.
        alpha: above 0. Small ones leave most rows nearly as they are.
    """
    others = generator.permutation(rows)
    shares = generator.beta(alpha, alpha, len(rows))
    images, labels = x[others], y[others]  # copies: rows change one after the other
    for row, share, image, label in zip(rows, shares, images, labels):
        cv2.addWeighted(x[row], share, image, 1 - share, 0, dst=x[row])
        y[row] = share * y[row] + (1 - share) * label


def cutmix(x, y, rows, alpha, generator):
    """Pastes a box of another row into each of `rows`, in place.

    The box has the shape of the image and the share 1 - Beta(alpha, alpha) of its
    area; its centre may lie anywhere, and what sticks out is cut off. Labels are mixed
    by the share of pixels that were really pasted.

    Args:
        x, y, rows, generator: as in `mixup`.
        alpha: above 0; the paper takes 1.
    """
    height, width = x.shape[1:3]
    others = generator.permutation(rows)
    sides = np.sqrt(1 - generator.beta(alpha, alpha, len(rows)))
    centers = generator.random((len(rows), 2))
    images, labels = x[others], y[others]
    for row, side, center, image, label in zip(rows, sides, centers, images, labels):
        top, bottom = _span(center[0], side, height)
        left, right = _span(center[1], side, width)
        x[row, top:bottom, left:right] = image[top:bottom, left:right]
        pasted = (bottom - top) * (right - left) / (height * width)
        y[row] = (1 - pasted) * y[row] + pasted * label


def _span(center, side, length):
    """First pixel, and the one after the last, of a box's side within 0..length."""
    first, last = (round((center + sign * side / 2) * length) for sign in (-1, 1))
    return max(first, 0), min(last, length)
