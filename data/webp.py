"""WebP files of one picture, decoded by OpenCV: other threads run meanwhile.

Pillow decodes the same pixels with the same library, but holds Python's interpreter lock, takes
twice the memory, and is slower. Films stay with Pillow, which takes their first picture.
"""

import cv2
import numpy as np
from PIL import Image

# Of the RIFF container (RFC 9649, section 2.7): the extended kind, and its flag of films
EXTENDED, FLAGS_OFFSET, ANIMATION = b"VP8X", 20, 0x02


def is_film(data):
    """Whether a WebP file may hold several pictures.

    Args:
        data: bytes of the file.

    Returns:
        bool.
    """
    return bytes(data[12:16]) == EXTENDED and bool(data[FLAGS_OFFSET] & ANIMATION)


def decode_picture(data):
    """Decodes a WebP file that is no film.

    Args:
        data: bytes of the file.

    Returns:
        Pillow image of the mode "RGBX" or "RGBA", not turned.

    Raises:
        OSError: the file is damaged.

    Example:

    ```python
    if not is_film(data):
        image = decode_picture(data)
    ```
    """
    try:
        blue_first = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise OSError(error.err or "its picture is damaged") from None
    if blue_first is None:
        raise OSError("its picture is damaged")
    has_alpha = blue_first.shape[2] == 4
    order = cv2.COLOR_BGRA2RGBA if has_alpha else cv2.COLOR_BGR2RGBA
    pixels = cv2.cvtColor(blue_first, order)
    mode = "RGBA" if has_alpha else "RGBX"
    return Image.frombuffer(mode, pixels.shape[1::-1], pixels, "raw", mode, 0, 1)
