"""An image of any size becomes the square that the model takes."""

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
        max_pixels: an image with more is refused before it is decoded, as is one that
            would take more than `MAX_MEMORY`.
    """

    size: int
    resize: str = "letterbox"
    fill_color: tuple = (255, 255, 255)
    max_pixels: int = MAX_PIXELS


def resize_to_square(image, preprocessing, out=None, shape=None):
    """Fits an image of any size into the model's square.

    Args:
        image: uint8 (height, width, 3).
        preprocessing: a `Preprocessing`.
        out: uint8 (S, S, 3) to write to; default: a new array.
        shape: (height, width) of the file, where `image` was decoded at a reduced scale.

    Returns:
        uint8 (S, S, 3), `out` where it is given.
    """
    size = preprocessing.size
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    if preprocessing.resize == "crop":
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        _resize(image[top : top + side, left : left + side], out)
        return out
    height, width = target_size(*(shape or image.shape[:2]), preprocessing)
    top, left = (size - height) // 2, (size - width) // 2
    color = preprocessing.fill_color
    if len(set(color)) == 1:
        color = color[0]  # a grey fills a row in one go
    # Only the bars: filling the whole square first costs as much as the resize.
    for bar in (
        out[:top],
        out[top + height :],
        out[top : top + height, :left],
        out[top : top + height, left + width :],
    ):
        if bar.size:
            bar[...] = color
    _resize(image, out[top : top + height, left : left + width])
    return out


def target_size(height, width, preprocessing):
    """(height, width) of the whole image after scaling, before cutting or padding."""
    size = preprocessing.size
    if preprocessing.resize == "stretch":
        return size, size
    side = min(height, width) if preprocessing.resize == "crop" else max(height, width)
    return max(1, round(height * size / side)), max(1, round(width * size / side))


def _resize(image, out):
    height, width = out.shape[:2]
    if image.shape == out.shape:
        out[...] = image
        return
    shrink = max(image.shape[0] / height, image.shape[1] / width)
    # Below half the size bilinear sampling would skip pixels; above it, averaging
    # over areas costs three times as much and shows no difference.
    method = cv2.INTER_AREA if shrink >= 2 else cv2.INTER_LINEAR
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    if shrink >= 2 and smaller != (width, height):
        # One side shrinks, the other grows: OpenCV averages only where none grows.
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
        method = cv2.INTER_LINEAR
    result = cv2.resize(image, (width, height), dst=out, interpolation=method)
    if not np.shares_memory(result, out):  # OpenCV may not write to an odd slice
        out[...] = result


def apply_orientation(image, orientation):
    """Applies the EXIF orientation 1-8; anything else counts as 1."""
    turned = cv2.transpose(image) if orientation in (5, 6, 7, 8) else None
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    if flip is None:
        return image if turned is None else turned
    return cv2.flip(image, flip) if turned is None else cv2.flip(turned, flip, dst=turned)
