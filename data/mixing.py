"""mixup and cutmix: new rows made from two rows of a batch, and their labels with them.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018 (ICLR), section 2.
Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", 2019 (ICCV), section 3.1.

Keras's layers (3.15) are not used: `MixUp` and `CutMix` ignore sample weights, so undecodable
rows would be mixed into others, and they copy the batch to float32. `CutMix` computes its label
from a box with fractions of pixels, which is not the area that it pastes, and draws alpha itself
from a range.
"""

from typing import NamedTuple

import cv2
import numpy as np


class Mixing(NamedTuple):
    """What may happen to images and rows; the defaults change nothing.

    Attributes:
        mixup: alpha of mixup's Beta(alpha, alpha), 0 is off.
        cutmix: alpha of cutmix's Beta(alpha, alpha), 0 is off. If mixup is on as well,
            each batch takes one of the two, with probability 0.5 each.
        randaugment: strength of RandAugment's operations, 0 to 1, 0 is off.
        augmix: strength of AugMix's operations, 0 to 1, 0 is off.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    randaugment: float = 0.0
    augmix: float = 0.0


def mix(x, y, sample_weight, mixing, generator):
    """Mixes the rows of a batch by mixup or cutmix, in place.

    Rows of weight 0 neither change nor go into others. Fewer than two rows of weight 1 are
    left as they are.

    Args:
        x: uint8 (B, S, S, 3).
        y: float32 (B, C), rows sum to 1.
        sample_weight: float32 (B,), 0 or 1.
        mixing: a `Mixing`.
        generator: a `numpy.random.Generator`, the only source of randomness.

    Example:

    ```python
    mix(x, y, np.ones(len(x), np.float32), Mixing(mixup=0.2), np.random.default_rng(0))
    ```
    """
    rows = np.flatnonzero(sample_weight)
    if len(rows) < 2 or not (mixing.mixup or mixing.cutmix):
        return
    if mixing.mixup and mixing.cutmix:
        method = (mixup, cutmix)[generator.integers(2)]
    else:
        method = mixup if mixing.mixup else cutmix
    method(x, y, rows, mixing.mixup if method is mixup else mixing.cutmix, generator)


def mixup(x, y, rows, alpha, generator):
    """Blends each of `rows` with another of them, in place.

    Row i becomes lambda * row i + (1 - lambda) * row j, image and label alike, where each row
    draws a lambda of its own from Beta(alpha, alpha), and j is i's partner in a random
    permutation.

    Args:
        x: uint8 (B, S, S, 3).
        y: float32 (B, C), rows sum to 1.
        rows: int array, the rows that take part.
        alpha: float above 0. Small values leave most rows nearly as they are.
        generator: a `numpy.random.Generator`.
    """
    partners = generator.permutation(rows)
    own_fractions = generator.beta(alpha, alpha, len(rows))
    # Copies, because rows change one after the other
    partner_images, partner_labels = x[partners], y[partners]
    for row, own_fraction, image, label in zip(rows, own_fractions, partner_images, partner_labels):
        cv2.addWeighted(x[row], own_fraction, image, 1 - own_fraction, 0, dst=x[row])
        y[row] = own_fraction * y[row] + (1 - own_fraction) * label


def cutmix(x, y, rows, alpha, generator):
    """Pastes a box of another row into each of `rows`, in place.

    The box has the shape of the image and the fraction 1 - Beta(alpha, alpha) of its area. Its
    centre may lie anywhere, and the part of the box outside the image is cut off. Labels are
    mixed by the fraction of pixels that were really pasted.

    Args:
        x: uint8 (B, S, S, 3).
        y: float32 (B, C), rows sum to 1.
        rows: int array, the rows that take part.
        alpha: float above 0; the paper takes 1.
        generator: a `numpy.random.Generator`.
    """
    height, width = x.shape[1:3]
    partners = generator.permutation(rows)
    relative_sides = np.sqrt(1 - generator.beta(alpha, alpha, len(rows)))
    centers = generator.random((len(rows), 2))
    partner_images, partner_labels = x[partners], y[partners]
    for row, relative_side, center, image, label in zip(
        rows, relative_sides, centers, partner_images, partner_labels
    ):
        top, bottom = _span(center[0], relative_side, height)
        left, right = _span(center[1], relative_side, width)
        x[row, top:bottom, left:right] = image[top:bottom, left:right]
        pasted_fraction = (bottom - top) * (right - left) / (height * width)
        y[row] = (1 - pasted_fraction) * y[row] + pasted_fraction * label


def _span(center, relative_side, length):
    """First pixel, and the one after the last, of a box's side within 0..length."""
    first, end = (round((center + sign * relative_side / 2) * length) for sign in (-1, 1))
    return max(first, 0), min(end, length)
