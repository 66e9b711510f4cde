"""Photos inside an HTML page, as data URLs: such a page needs no other file."""

import base64

import cv2

from common.errors import ImageError
from data.decoding import load
from data.geometry import Preprocessing


def photo(path, side=144):
    """The photo in a file as the `src` of an HTML image, whole, with bars.

    Args:
        path: str.
        side: int, pixels.

    Returns:
        str, a data URL; None where the file is gone or cannot be decoded.
    """
    try:
        return thumbnail(load(path, Preprocessing(side, "letterbox")))
    except ImageError:
        return None


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
