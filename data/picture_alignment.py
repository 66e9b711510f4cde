"""Whether two small pictures show the same: brighter, recoloured, cropped or turned a little.

One picture is fitted to the other by least squares, once with a curve of its brightness, once with
an affine move: Lucas and Kanade 1981, "An Iterative Image Registration Technique with an
Application to Stereo Vision", section 4.5. What the better fit leaves unexplained decides.
"""

import functools

import cv2
import numpy as np

SIDE = 32  # pixels of a picture
EDGE = 2  # pixels at the edge that are not compared
COLOR_SIDE = 8  # pixels of the pictures whose colours are compared
MIN_EXPLAINED = 0.95  # of the variance
# What may be left, as a fraction of what a move by a pixel changes: two digits or icons resemble
# each other far more than two photos do. A move has more ways to fit than a curve.
MAX_LEFT_BY_CURVE, MAX_LEFT_BY_MOVE = 0.25, 0.12
MIN_WORTH_MOVING = 0.8  # explained by the first step, for a second one to be tried
MAX_MOVE = 4.0  # pixels, of the corners of a picture
MIN_GAIN = 0.2  # of contrast; a negative is another picture
BLUR = 1.0  # pixels, standard deviation: a move is linear over that distance
MIN_VARIANCE = 1e-3
MIN_COLORS_EXPLAINED = 0.8
MAX_OWN_COLORS = 0.03  # not explained by green; a picture with less is grey or has one tint
BLOCK_SIZE = 256  # pairs at a time


def to_grey(picture):
    """The grey values by which a picture is compared.

    Args:
        picture: uint8 (SIDE, SIDE, 3), RGB.

    Returns:
        uint8 (SIDE, SIDE).
    """
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def show_the_same(ones, twos):
    """Whether two pictures show the same, for N pairs.

    Args:
        ones, twos: uint8 (N, SIDE, SIDE), grey, of images that were stretched to a square.

    Returns:
        bool (N,).

    Example:

    ```python
    brighter_pictures = np.clip(pictures * 1.3, 0, 255).astype(np.uint8)
    show_the_same(pictures, brighter_pictures)  # all True
    ```
    """
    are_the_same = np.zeros(len(ones), bool)
    for start in range(0, len(ones), BLOCK_SIZE):
        block = slice(start, start + BLOCK_SIZE)
        are_the_same[block] = _show_the_same(ones[block], twos[block])
    return are_the_same


def _show_the_same(ones, twos):
    are_the_same = (ones == twos).all(axis=(1, 2))
    ones, twos = _blurred(ones), _blurred(twos)
    detail = np.minimum(_detail(ones), _detail(twos))
    for fit, max_left in ((_fit_curve, MAX_LEFT_BY_CURVE), (_fit_move, MAX_LEFT_BY_MOVE)):
        for moved, fixed in ((ones, twos), (twos, ones)):
            rest = np.flatnonzero(~are_the_same)
            if not len(rest):
                return are_the_same
            explained = fit(moved[rest], fixed[rest])
            is_small = 1 - explained <= max_left * detail[rest]
            are_the_same[rest] = is_small & (explained >= MIN_EXPLAINED)
    return are_the_same


def have_the_same_colors(ones, twos):
    """Whether colours agree, for N pairs, whatever their brightness and white balance.

    A picture that is grey or has one tint agrees with any other: it may be a copy without
    colours.

    Args:
        ones, twos: uint8 (N, COLOR_SIDE, COLOR_SIDE, 3), RGB.

    Returns:
        bool (N,).
    """
    ones, twos = (
        pictures.reshape(-1, COLOR_SIDE**2, 3).astype(np.float32) for pictures in (ones, twos)
    )
    ones, twos = (pictures - pictures.mean(axis=1, keepdims=True) for pictures in (ones, twos))
    has_one_tint = (_own_colors(ones) <= MAX_OWN_COLORS) | (_own_colors(twos) <= MAX_OWN_COLORS)
    return has_one_tint | (_explained_by_channel(ones, twos) >= MIN_COLORS_EXPLAINED)


def _own_colors(pictures):
    """float (N,), the part of the variance of red and blue that green does not explain."""
    green = np.repeat(pictures[:, :, 1:2], 2, axis=2)
    return 1 - _explained_by_channel(green, pictures[:, :, ::2])


def _explained_by_channel(ones, twos):
    """float (N,), the part of the variance of `twos` that a line per channel explains."""
    variances = np.maximum((ones**2).sum(axis=1), MIN_VARIANCE)
    covariances = np.maximum((ones * twos).sum(axis=1), 0)  # bright stays bright
    explained = (covariances**2 / variances).sum(axis=1)
    total = (twos**2).sum(axis=(1, 2))
    return 1 - (total - explained) / np.maximum(total, MIN_VARIANCE)  # 1 for a flat picture


@functools.cache
def _matrices():
    """(blurring matrix, differentiating matrix, (3, P) of 1, x and y at the inner pixels)."""
    positions = np.arange(SIDE)
    weights = np.exp(-((positions[:, None] - positions) ** 2) / (2 * BLUR**2))
    blurring = weights / weights.sum(axis=1, keepdims=True)
    differentiating = np.gradient(np.eye(SIDE), axis=0)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    places = _inner(np.stack([np.ones_like(x), x, y]))
    return tuple(matrix.astype(np.float32) for matrix in (blurring, differentiating, places))


def _blurred(pictures):
    blurring, _, _ = _matrices()
    return blurring @ pictures.astype(np.float32) @ blurring.T


def _gradients(pictures):
    """Derivatives along x and along y, two float32 (N, SIDE, SIDE)."""
    _, differentiating, _ = _matrices()
    return pictures @ differentiating.T, differentiating @ pictures


def _inner(pictures):
    """The pixels of (N, SIDE, SIDE) that are not at the edge, where a border may be, (N, P)."""
    return pictures[:, EDGE:-EDGE, EDGE:-EDGE].reshape(len(pictures), -1)


def _centered(pictures):
    values = _inner(pictures)
    return values - values.mean(axis=1, keepdims=True)


def _detail(pictures):
    """float (N,), what a move by a pixel changes, as a fraction of the variance."""
    changes = sum((_inner(gradient) ** 2).sum(axis=1) for gradient in _gradients(pictures))
    return changes / np.maximum((_centered(pictures) ** 2).sum(axis=1), MIN_VARIANCE)


def _fit_curve(ones, twos):
    """float (N,), the part of the variance of `twos` that a cubic curve of `ones` explains."""
    values = _centered(ones)
    scales = np.sqrt((values**2).mean(axis=1, keepdims=True) + MIN_VARIANCE)
    units = values / scales
    columns = np.empty((len(values), 4, values.shape[1]), np.float32)
    columns[:, 0] = values
    np.multiply(units, units, out=columns[:, 1])
    np.multiply(columns[:, 1], units, out=columns[:, 2])  # units**3 takes ten times as long
    explained, weights = _least_squares(columns, twos)
    return np.where(weights[:, 0] > 0, explained, 0)


def _fit_move(ones, twos):
    """float (N,), the part of the variance of `twos` that `ones` explain, moved a little."""
    explained, weights = _fit_small_move(ones, twos)
    moves = weights[:, 1:7].reshape(-1, 2, 3) / np.maximum(weights[:, :1, None], MIN_GAIN)
    moved_ones = np.empty_like(ones)
    sizes = np.abs(moves) @ [1, SIDE / 2, SIDE / 2]
    can_move = (weights[:, 0] >= MIN_GAIN) & (sizes <= MAX_MOVE).all(axis=1)
    explained[~can_move] = 0
    again = np.flatnonzero(explained >= MIN_WORTH_MOVING)
    for index in again:
        moved_ones[index] = _moved(ones[index], moves[index])
    if len(again):
        second, weights = _fit_small_move(moved_ones[again], twos[again])
        second[weights[:, 0] < MIN_GAIN] = 0
        explained[again] = np.maximum(explained[again], second)
    return explained


def _fit_small_move(ones, twos):
    """(explained part (N,); weights (N, 8): of the picture, its moves along x and y, 1)."""
    _, _, places = _matrices()
    columns = np.empty((len(ones), 8, places.shape[1]), np.float32)
    columns[:, 0] = _centered(ones)
    for start, gradient in zip((1, 4), _gradients(ones)):
        np.multiply(_inner(gradient)[:, None], places, out=columns[:, start : start + 3])
    return _least_squares(columns, twos)


def _moved(picture, move):
    """The picture, each pixel from (1, x, y) times `move` (2, 3) farther, from its centre."""
    center = (SIDE - 1) / 2
    matrix = np.eye(2, 3)
    matrix[:, :2] += move[:, 1:]
    matrix[:, 2] = move[:, 0] - center * move[:, 1:].sum(axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        picture, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


def _least_squares(columns, pictures):
    """Fits `pictures` (N, SIDE, SIDE) by `columns` (N, K, P), of which the last becomes 1.

    Returns:
        (float (N,), the part of the variance that is explained; float (N, K), the weights).
    """
    columns[:, -1] = 1
    values = _centered(pictures)
    transposed = columns.transpose(0, 2, 1)
    products = (columns @ transposed).astype(np.float64)
    projections = (columns @ values[:, :, None]).astype(np.float64)
    diagonal = np.einsum("nkk->nk", products)  # a view: so that flat pictures can be solved, too
    diagonal += 1e-6 * diagonal + MIN_VARIANCE
    weights = np.linalg.solve(products, projections)
    explained = (weights * projections).sum(axis=(1, 2))
    return explained / np.maximum((values**2).sum(axis=1), MIN_VARIANCE), weights[:, :, 0]
