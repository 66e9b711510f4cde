"""Flips, shift, rotation and zoom of an image while it becomes the model's square.

They are one affine map, together with the resize: one pass over the decoded image, and no blur
upon blur. Keras's layers `RandomTranslation`, `RandomRotation` and `RandomZoom` would resample
the resized image three times.
"""

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np

from data.buffers import scratch
from data.geometry import place_in_square, resize_to_square

# Bilinear sampling reads the next pixel, too; OpenCV takes a slower way at the very border.
SAMPLED_BEYOND = 2


class Warp(NamedTuple):
    """A move of the square about its centre: first the zoom and the rotation, then the shift.

    Attributes:
        shift_x, shift_y: float, to the right and down, as a fraction of the side.
        degrees: float, rotation, counter-clockwise.
        scale: float above 0, above 1 enlarges.
    """

    shift_x: float = 0.0
    shift_y: float = 0.0
    degrees: float = 0.0
    scale: float = 1.0


class Movement(NamedTuple):
    """What becomes of an image's place: first the flips, then the warp.

    Attributes:
        flip_x, flip_y: bool, mirrored left to right, top to bottom.
        warp: `Warp` or None.
    """

    flip_x: bool = False
    flip_y: bool = False
    warp: Warp | None = None


def move_to_square(image, preprocessing, movement, out, shape=None):
    """Resizes an image of any size to the model's square, and moves it there.

    Pixels from outside the square repeat its border.

    Args:
        image: uint8 (height, width, 3); may be `out` itself.
        preprocessing: `geometry.Preprocessing`, which gives the side S.
        movement: `Movement`.
        out: uint8 (S, S, 3) to write to.
        shape: (height, width) of the file, if `image` was decoded at a reduced scale.

    Returns:
        uint8 (S, S, 3), `out`.

    Example:

    ```python
    image, out = np.zeros((480, 640, 3), np.uint8), np.empty((224, 224, 3), np.uint8)
    move_to_square(image, Preprocessing(224), Movement(warp=Warp(degrees=10.0)), out)
    ```
    """
    flip_x, flip_y, warp = movement
    if warp is None:
        resize_to_square(image, preprocessing, out, shape)
        if flip_x or flip_y:
            flip_code = -1 if flip_x and flip_y else int(flip_x)
            out[...] = cv2.flip(out, flip_code, dst=scratch("target", out.shape))
        return out
    source, box = place_in_square(image, preprocessing, shape)
    reductions = source.shape[0] / box.height, source.shape[1] / box.width
    # Bilinear sampling would skip pixels where the picture shrinks to half, and blur the edge
    # between picture and bar where it grows.
    if max(reductions) >= 2 or min(reductions) < 1:
        resize_to_square(image, preprocessing, out, shape)
        source, box = place_in_square(out, preprocessing)
    to_source = _affine_to_source(source, preprocessing.size, box, movement)
    margins = _margins(source, preprocessing.size, to_source)
    rgba = _with_margins(source, margins, preprocessing, box)
    target = cv2.warpAffine(
        rgba,
        np.array(to_source) + [[0, 0, margins.left], [0, 0, margins.top]],
        out.shape[1::-1],
        dst=scratch("target", (*out.shape[:2], 4)),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.cvtColor(target, cv2.COLOR_RGBA2RGB, dst=out)


class _Margins(NamedTuple):
    """Pixels that are added at each side of the source, so that all that is sampled exists."""

    top: int
    bottom: int
    left: int
    right: int


def _affine_to_source(source, size, box, movement):
    """Two rows (from x, from y, constant) of the map from the square's pixels to the source's."""
    center = (size - 1) / 2
    shift_x, shift_y, degrees, scale = movement.warp
    # The inverse of: mirror, rotate, scale, each about the centre, then shift.
    cosine = math.cos(math.radians(degrees)) / scale
    sine = math.sin(math.radians(degrees)) / scale
    mirror_x, mirror_y = (-1 if movement.flip_x else 1), (-1 if movement.flip_y else 1)
    moved_x, moved_y = center + shift_x * size, center + shift_y * size
    rows = []
    for from_x, from_y, start, length, source_length in (
        (mirror_x * cosine, -mirror_x * sine, box.left, box.width, source.shape[1]),
        (mirror_y * sine, mirror_y * cosine, box.top, box.height, source.shape[0]),
    ):
        step = source_length / length
        constant = center - from_x * moved_x - from_y * moved_y
        # Pixels are squares: the first one's centre lies half a pixel within the box.
        rows.append((step * from_x, step * from_y, step * (constant - start + 0.5) - 0.5))
    return rows


def _margins(source, size, to_source):
    """`_Margins` for the whole square, and not beyond what is worth the memory."""
    margins = []
    for (from_x, from_y, constant), source_length in zip(to_source[::-1], source.shape):
        middle = (from_x + from_y) * (size - 1) / 2 + constant
        reach = (abs(from_x) + abs(from_y)) * (size - 1) / 2 + SAMPLED_BEYOND
        for beyond in (reach - middle, middle + reach - (source_length - 1)):
            margins.append(min(max(0, math.ceil(beyond)), size))
    return _Margins(*margins)


def _with_margins(source, margins, preprocessing, box):
    """The source in four channels, which OpenCV warps in half of the time of three.

    A margin has the fill colour where the square has a bar, else it repeats the border: OpenCV
    does that itself, but takes five times as long for such a pixel.
    """
    top, bottom, left, right = margins
    height, width = source.shape[:2]
    rgba = scratch("source", (top + height + bottom, left + width + right, 4))
    cv2.cvtColor(source, cv2.COLOR_RGB2RGBA, dst=rgba[top : top + height, left : left + width])
    pixels = rgba.view(np.uint32)[..., 0]  # to write four channels at once
    rows = pixels[top : top + height]
    fill_pixel = _pixel(*preprocessing.fill_color)
    right_bar = preprocessing.size - box.left - box.width
    bottom_bar = preprocessing.size - box.top - box.height
    if left:
        rows[:, :left] = fill_pixel if box.left else rows[:, left : left + 1]
    if right:
        rows[:, -right:] = fill_pixel if right_bar else rows[:, -right - 1 : -right]
    if top:
        pixels[:top] = fill_pixel if box.top else rows[0]
    if bottom:
        pixels[-bottom:] = fill_pixel if bottom_bar else rows[-1]
    return rgba


@functools.lru_cache(maxsize=8)
def _pixel(red, green, blue):
    return np.array((red, green, blue, 255), np.uint8).view(np.uint32)[0]
