"""An image of any size becomes the square that the model takes, and stands upright."""

from typing import NamedTuple

import cv2
import numpy as np

from data.decoding_limits import MAX_PIXELS


class Preprocessing(NamedTuple):
    """How an image becomes the model's input.

    Attributes:
        size: side S of the square result, in pixels.
        resize: "letterbox" (whole image, bars in the fill colour), "crop" (the
            middle, cut to a square) or "stretch" (distorted to a square).
        fill_color: (red, green, blue), 0-255, of bars and transparent pixels.
        max_pixels: an image with more is refused before it is decoded, and so is one
            that would take more memory than `decoding_limits.MAX_MEMORY`.
    """

    size: int
    resize: str = "stretch"
    fill_color: tuple = (255, 255, 255)
    max_pixels: int = MAX_PIXELS


class Box(NamedTuple):
    """A rectangle of pixels.

    Attributes:
        top, left: int, its first row and column.
        height, width: int, in pixels.
    """

    top: int
    left: int
    height: int
    width: int


def resize_to_square(image, preprocessing, out=None, shape=None):
    """Resizes an image of any size to the model's square.

    Args:
        image: uint8 (height, width, 3).
        preprocessing: a `Preprocessing`.
        out: uint8 (S, S, 3) to write to; default: a new array.
        shape: (height, width) of the file, if `image` was decoded at a reduced scale.

    Returns:
        uint8 (S, S, 3), `out` if it is given.

    Example:

    ```python
    resize_to_square(np.zeros((480, 640, 3), np.uint8), Preprocessing(224))  # (224, 224, 3)
    ```
    """
    size = preprocessing.size
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    image, (top, left, height, width) = place_in_square(image, preprocessing, shape)
    fill_color = preprocessing.fill_color
    if len(set(fill_color)) == 1:
        fill_color = fill_color[0]  # a grey fills a row in one go
    # Only the bars: filling the whole square first costs as much as the resize.
    for bar in (
        out[:top],
        out[top + height :],
        out[top : top + height, :left],
        out[top : top + height, left + width :],
    ):
        if bar.size:
            bar[...] = fill_color
    _resize(image, out[top : top + height, left : left + width])
    return out


def place_in_square(image, preprocessing, shape=None):
    """Which part of an image goes where in the model's square.

    Args:
        image: uint8 (height, width, 3).
        preprocessing: a `Preprocessing`.
        shape: (height, width) of the file, if `image` was decoded at a reduced scale.

    Returns:
        (uint8 (height, width, 3), a view of the part of `image` that is seen; the `Box` of the
        square that it fills).
    """
    size = preprocessing.size
    if preprocessing.resize == "crop":
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        return image[top : top + side, left : left + side], Box(0, 0, size, size)
    height, width = target_size(*(shape or image.shape[:2]), preprocessing)
    return image, Box((size - height) // 2, (size - width) // 2, height, width)


def target_size(height, width, preprocessing):
    """The size of the whole image after scaling, before cutting or padding.

    Args:
        height, width: int, in pixels.
        preprocessing: a `Preprocessing`.

    Returns:
        (height, width), two int of at least 1.
    """
    size = preprocessing.size
    if preprocessing.resize == "stretch":
        return size, size
    fitted_side = min(height, width) if preprocessing.resize == "crop" else max(height, width)
    return max(1, round(height * size / fitted_side)), max(1, round(width * size / fitted_side))


def swaps_sides(orientation):
    """Whether an EXIF orientation exchanges width and height.

    Args:
        orientation: int, 1 to 8.

    Returns:
        bool.
    """
    return orientation in (5, 6, 7, 8)


def apply_orientation(image, orientation):
    """Turns an image upright.

    Args:
        image: uint8 (height, width, 3), as it is stored.
        orientation: EXIF orientation, 1-8; anything else counts as 1.

    Returns:
        uint8 (height, width, 3), with exchanged sides for 5-8.
    """
    turned = cv2.transpose(image) if swaps_sides(orientation) else None
    flip_code = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    if flip_code is None:
        return image if turned is None else turned
    return cv2.flip(image, flip_code) if turned is None else cv2.flip(turned, flip_code, dst=turned)


def _resize(image, out):
    height, width = out.shape[:2]
    if image.shape == out.shape:
        out[...] = image
        return
    shrink_factor = max(image.shape[0] / height, image.shape[1] / width)
    # Below half the size bilinear sampling would skip pixels; above it, averaging
    # over areas costs three times as much and shows no difference.
    interpolation = cv2.INTER_AREA if shrink_factor >= 2 else cv2.INTER_LINEAR
    smaller_size = (min(width, image.shape[1]), min(height, image.shape[0]))
    if shrink_factor >= 2 and smaller_size != (width, height):
        # One side shrinks, the other grows: OpenCV averages only where none grows.
        image = cv2.resize(image, smaller_size, interpolation=cv2.INTER_AREA)
        interpolation = cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), dst=out, interpolation=interpolation)
    if not np.shares_memory(resized, out):  # OpenCV may not write to an odd slice
        out[...] = resized
