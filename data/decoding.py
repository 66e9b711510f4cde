"""From a file's bytes to the model's input: the project's only image decoder.

Training, evaluation, prediction and the server all call `load`; its settings travel inside the
exported model. JPEG, PNG, BMP, WebP, GIF (first frame), TIFF (first page), HEIC and AVIF (primary
picture, or first frame) are read. The content decides what a file is, not its name. The EXIF
orientation is applied in every format that has one, that of HEIC and AVIF by their own boxes.
`data.jpeg` decodes the usual JPEG, `data.pillow_formats` everything else, `data.geometry` makes
the result square; `data.file_signatures` names what is not read.
"""

import warnings

import cv2
import numpy as np
from PIL import Image

from common.errors import ImageError
from data import library_messages
from data.buffers import scratch
from data.file_signatures import raw_tiff_text
from data.geometry import resize_to_square
from data.jpeg import check_scans, decode_jpeg, is_jpeg, with_end_mark
from data.photo_files import read_photo
from data.pillow_formats import decode_with_pillow, explain
from data.tiff import decode_planes, for_pillow

# Each worker thread decodes its own image; OpenCV's own threads would only get in the way.
cv2.setNumThreads(0)
# The limits of `data.decoding_limits` take its place, checked before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
# Warnings about odd EXIF blocks and the like would break into progress bars.
warnings.filterwarnings("ignore", module=r"(PIL|data)\.")
library_messages.silence()


def load(source, preprocessing, name=None, out=None, to_square=resize_to_square):
    """Turns an image file into the model's input.

    Args:
        source: str or path of the file, an address as of `photo_files.read_photo`, or its bytes.
        preprocessing: `geometry.Preprocessing`, which gives the side S.
        name: str that errors call the image; default: the path.
        out: uint8 (S, S, 3) to write to, a row of a batch; default: a new array.
        to_square: function with the arguments of `geometry.resize_to_square` that makes the
            decoded image square.

    Returns:
        uint8 array (S, S, 3), RGB, 0-255.

    Raises:
        ImageError: the image cannot be read or decoded; names the file, the reason and its code.

    Example:

    ```python
    image = load("photo.jpg", Preprocessing(224))  # uint8 (224, 224, 3)
    ```
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, data = name or "image", source
    else:
        name = name or str(source)
        data = read_photo(source)
    image, file_size = _decode(data, preprocessing, name, scratch)
    return to_square(image, preprocessing, out, file_size)


def decode(data, preprocessing, name="image"):
    """Decodes an image, upright, at the file's size or, for large ones, nearer to the side S.

    Args:
        data: bytes of the file.
        preprocessing: `geometry.Preprocessing`. A JPEG is decoded at the smallest scale of
            libjpeg (eighths) that is not below what `resize_to_square` needs; another image of
            more than a megapixel at a scale that is not below twice that.
        name: str that errors call the image.

    Returns:
        uint8 array (height, width, 3), RGB, 0-255.

    Raises:
        ImageError: the image cannot be decoded.
    """
    image, _ = _decode(data, preprocessing, name, lambda _, shape: np.empty(shape, np.uint8))
    return image


def _decode(data, preprocessing, name, allocate):
    """The upright image, and the (height, width) that its file has."""
    if not data:
        raise ImageError(name, "the file is empty", "empty")
    try:
        if is_jpeg(data):
            decoded = decode_jpeg(data, preprocessing, name, allocate)
            if decoded is not None:
                return decoded
            check_scans(data, name)
        elif raw_text := raw_tiff_text(data):
            raise ImageError(name, raw_text, "unsupported")
        decoded = decode_planes(data, preprocessing, name)
        if decoded is not None:
            return decoded
        return decode_with_pillow(for_pillow(data), preprocessing, name)
    except ImageError:
        raise
    except Exception as error:  # the libraries' decoders raise exceptions of many types
        reason, code = explain(error, data)
        completed = with_end_mark(data) if code == "truncated" and is_jpeg(data) else None
        if completed is None:
            raise ImageError(name, reason, code) from None
    return _decode(completed, preprocessing, name, allocate)
