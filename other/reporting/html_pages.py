"""Photos and paths in an HTML page: data URLs, so that it needs no other file."""

import base64
import os
from typing import NamedTuple

import cv2

from common.errors import ImageError
from data import decoding
from data.geometry import Preprocessing, target_size
from data.photo_files import read_photo

SIDE = 448  # pixels of a photo's longer side: 224 on the page, where a screen has two per pixel
FEWEST_PIXELS = 112  # of a longer side; below, pixels are enlarged so that they stay visible


class Place(NamedTuple):
    """A path as a page shows it.

    Attributes:
        short: str, relative to the data's folder.
        whole: str, all of it, for whoever points at it.
    """

    short: str
    whole: str


def place(path, folder=None):
    """How a page shows a path.

    Args:
        path: str.
        folder: str, the folder of the data, or a CSV in it; None for the name alone.

    Returns:
        `Place`; its short form is the whole path where the file is elsewhere.

    Example:
        >>> place("/photos/glass/1.jpg", "/photos").short
        'glass/1.jpg'
    """
    whole = os.path.abspath(path)
    if folder is None:
        return Place(os.path.basename(whole) or whole, whole)
    folder = os.path.abspath(folder)
    if os.path.isfile(folder):
        folder = os.path.dirname(folder)
    is_inside = whole.startswith(os.path.join(folder, ""))
    return Place(os.path.relpath(whole, folder) if is_inside else str(path), whole)


def photo(path, side=SIDE):
    """The photo in a file as the `src` of an HTML image, in its own proportions.

    Args:
        path: str.
        side: int, pixels of the longer side at most.

    Returns:
        str, a data URL; None where the file is gone or cannot be decoded.
    """
    preprocessing = Preprocessing(side, "letterbox")
    try:
        image = decoding.decode(read_photo(path), preprocessing, path)
    except ImageError:  # it was deleted since
        return None
    height, width = target_size(*image.shape[:2], preprocessing)
    if height < image.shape[0]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    elif max(image.shape[:2]) < FEWEST_PIXELS:
        factor = side // max(image.shape[:2])
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    return thumbnail(image)


def thumbnail(image, quality=80):
    """A picture as the `src` of an HTML image.

    Args:
        image: uint8 (height, width, 3), RGB.
        quality: int, of the JPEG, 1 to 100.

    Returns:
        str, a data URL.
    """
    _, jpeg_bytes = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg_bytes).decode()}"
