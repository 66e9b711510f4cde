"""From a file's bytes to what the model takes: the project's only image decoder.

Training, evaluation, prediction and the server all call `load`. Its settings
travel inside the exported model. JPEG, PNG, BMP, WebP, GIF (first frame) and TIFF
are read; what else a file contains is refused by its content, not by its name.

How unusual pictures are understood:
- EXIF orientation is applied, in every format that has it.
- Grey, palette, CMYK and other colour modes become RGB.
- 16 bits a channel are scaled to 8, not clipped.
- Transparent pixels show the fill colour.
- Of a TIFF whose 0 is white, 0 is white.
- 32-bit integers and floats are refused: they have no defined white.
"""

import warnings

import cv2
import numpy as np
from PIL import Image

from common.errors import ImageError
from data.buffers import scratch
from data.geometry import resize_to_square
from data.jpeg import check_scans, decode_jpeg
from data.pillow_formats import FORMATS, decode_with_pillow

# Each worker thread decodes its own image; OpenCV's threads on top only get in the way.
cv2.setNumThreads(0)
# The limit of this module takes its place, checked before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
# Its warnings about odd EXIF blocks and the like would break into progress bars.
warnings.filterwarnings("ignore", module=r"PIL\.")


def load(source, preprocessing, name=None, out=None):
    """Turns an image file into the model's input.

    Args:
        source: path of the file, or its bytes.
        preprocessing: a `Preprocessing`.
        name: what errors call the image; default: the path.
        out: uint8 (S, S, 3) to write to, a row of a batch; default: a new array.

    Returns:
        uint8 array (S, S, 3), RGB, 0-255.

    Raises:
        ImageError: the image cannot be read or decoded; names the file and why.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, data = name or "image", source
    else:
        name = name or str(source)
        try:
            with open(source, "rb", buffering=0) as file:
                data = file.read()
        except (OSError, ValueError) as error:
            raise ImageError(name, getattr(error, "strerror", None) or str(error)) from None
    image, shape = _decode(data, preprocessing, name, scratch)
    return resize_to_square(image, preprocessing, out, shape)


def decode(data, preprocessing, name="image"):
    """Decodes an image, upright, at the file's size or, for large ones, nearer to S.

    Args:
        data: bytes of the file.
        preprocessing: a `Preprocessing`; JPEGs are decoded at the smallest scale of
            libjpeg (eighths) that is not below what `fit` needs, others of more than
            a megapixel at a scale that is not below twice of it.
        name: what errors call the image.

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        ImageError: it cannot be decoded.
    """
    return _decode(data, preprocessing, name, lambda name, shape: np.empty(shape, np.uint8))[0]


def _decode(data, preprocessing, name, allocate):
    """The upright image, and the (height, width) that its file has."""
    if not data:
        raise ImageError(name, "the file is empty")
    try:
        if bytes(data[:3]) == b"\xff\xd8\xff":
            found = decode_jpeg(data, preprocessing, name, allocate)
            if found is not None:
                return found
            check_scans(data, name)
        return decode_with_pillow(data, preprocessing, name)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever comes to their mind
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "is none of " + ", ".join(FORMATS)
        raise ImageError(name, f"cannot be decoded: {reason}") from None
