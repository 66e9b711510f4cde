"""Whether two small pictures show the same, cropped or turned a little, brighter or darker.

Pictures are compared by the correlation of their grey values, which does not change with
brightness and contrast: Lewis 1995, "Fast Normalized Cross-Correlation". One is moved over the
other in a few steps of scale and angle; where they overlap counts.
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np

SIDE = 32  # pixels of a picture
MIN_CORRELATION = 0.95
# The part of the variance that two copies may not share, as a fraction of what a small move of
# the picture itself changes: a digit or an icon resembles others far more than photos do.
MAX_RESIDUAL = 0.8
ANGLES, SCALES = (-3, -2, -1, 1, 2, 3), (1.02, 1.04, 1.055, 1.08, 1.11)  # degrees, factors
MOVES = ((0, 1), *((0, scale) for scale in SCALES)) + tuple(
    (angle, scale) for angle in ANGLES for scale in (1, 1.04)
)
OWN_MOVES = ((3, 1), (-3, 1), (0, 1.08))
DARKEST, BRIGHTEST = 8, 247  # beyond them brightness was cut off when it was changed
MIN_SHARED = 0.4  # of the pixels that are not


class _Warp(NamedTuple):
    """A move of a picture: its matrix, and float32 (SIDE²,), 1 where a pixel is inside."""

    matrix: np.ndarray
    inside: np.ndarray


@functools.cache
def _warps(moves):
    """A `_Warp` for each (angle, scale)."""
    center = (SIDE - 1) / 2
    full = np.full((SIDE, SIDE), 255, np.uint8)
    warps = []
    for angle, scale in moves:
        matrix = cv2.getRotationMatrix2D((center, center), angle, scale)
        inside = cv2.warpAffine(full, matrix, (SIDE, SIDE)) == 255
        warps.append(_Warp(matrix, inside.ravel().astype(np.float32)))
    return warps


def to_grey(picture):
    """The grey values by which a picture is compared.

    Args:
        picture: uint8 (SIDE, SIDE, 3), RGB.

    Returns:
        uint8 (SIDE, SIDE).
    """
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def show_the_same(one, two):
    """Whether two pictures show the same.

    Args:
        one, two: uint8 (SIDE, SIDE), grey, of two images that were stretched to a square.

    Returns:
        bool: the variance that they do not share, at their best alignment, is small both by
        itself and beside what a move by a pixel changes in either picture.

    Example:

    ```python
    show_the_same(picture, np.clip(picture * 1.3, 0, 255).astype(np.uint8))  # True
    ```
    """
    if np.array_equal(one, two):
        return True
    correlation = max(
        _unclipped_correlation(one, two), _best_correlation(one, two), _best_correlation(two, one)
    )
    if correlation < MIN_CORRELATION:
        return False
    return 1 - correlation <= MAX_RESIDUAL * min(_own_residual(one), _own_residual(two))


def _best_correlation(moved, fixed):
    """The highest correlation of `fixed` with `moved` in any of `MOVES`."""
    return float(_correlations(moved, fixed, _warps(MOVES)).max())


def _own_residual(picture):
    """The part of a picture's variance that a small move changes, in the mean over `OWN_MOVES`."""
    return 1 - float(np.mean(_correlations(picture, picture, _warps(OWN_MOVES))))


def _correlations(moved, fixed, warps):
    """float (W,), the correlation of `fixed` with each warp of `moved`, where they overlap."""
    inside = np.stack([warp.inside for warp in warps])
    pictures = np.stack(
        [cv2.warpAffine(moved, warp.matrix, (SIDE, SIDE)).ravel() for warp in warps]
    ).astype(np.float32)
    fixed_pixels = np.broadcast_to(fixed.ravel().astype(np.float32), pictures.shape)
    return _masked_correlation(pictures, fixed_pixels, inside)


def _unclipped_correlation(one, two):
    """The correlation of the pixels that are neither black nor white in both; -1 for few."""
    is_shared = (one > DARKEST) & (one < BRIGHTEST) & (two > DARKEST) & (two < BRIGHTEST)
    if is_shared.mean() < MIN_SHARED:
        return -1.0
    rows = (picture.ravel().astype(np.float32)[None] for picture in (one, two))
    return float(_masked_correlation(*rows, is_shared.ravel().astype(np.float32)[None])[0])


def _masked_correlation(one, two, weights):
    """Pearson's correlation per row of (N, P) pixels with weights 0 or 1; 0 where one is flat."""
    counts = weights.sum(axis=1, keepdims=True)
    one = (one - (one * weights).sum(axis=1, keepdims=True) / counts) * weights
    two = (two - (two * weights).sum(axis=1, keepdims=True) / counts) * weights
    variances = (one * one).sum(axis=1) * (two * two).sum(axis=1)
    covariances = (one * two).sum(axis=1)
    return np.where(variances > 1e-6, covariances / np.sqrt(np.maximum(variances, 1e-6)), 0.0)
