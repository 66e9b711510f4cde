"""When and by which camera a photo was taken, from its EXIF block; no pixel is decoded.

JPEG, WebP and TIFF are read as Pillow does. Of a PNG the chunk eXIf is taken wherever it is, which
Pillow sees only once the pixels are decoded, and of HEIC and AVIF the item of the type Exif.
"""

import io
import re
from typing import NamedTuple

from PIL import Image

from data import heif, png
from data.file_signatures import HEAD_BYTES
from data.iso_boxes import items, iterate_boxes
from data.photo_files import open_photo
from data.pillow_formats import open_image

# Tags of EXIF 2.32
MAKE, MODEL, EXIF_DIRECTORY, DATE_TAKEN, SERIAL_NUMBER = 0x010F, 0x0110, 0x8769, 0x9003, 0xA431
DATE = re.compile(r"(\d{4})[:-](\d{2})[:-](\d{2})")
PREFIX = b"Exif\0\0"


class Capture(NamedTuple):
    """How a photo was taken.

    Attributes:
        day: str, such as "2024-05-01"; "" where the file does not say.
        camera: str, make, model and serial number, as far as they are there; "" without a model.
    """

    day: str
    camera: str


UNKNOWN = Capture("", "")


def read_capture(path):
    """Reads when and by which camera a photo was taken.

    Args:
        path: str, an image file of any format.

    Returns:
        `Capture`; `UNKNOWN` where the file has no EXIF block, or a damaged one.

    Example:

    ```python
    read_capture("photos/1.jpg")  # Capture(day="2024-05-01", camera="Canon EOS R6 0123")
    ```
    """
    try:
        with open_photo(path) as image_file:
            return _capture(image_file)
    except Exception:  # whatever Pillow raises for a damaged file
        return UNKNOWN


def _capture(image_file):
    """`Capture` of an opened file; TIFFs are read on while the values are taken."""
    head = image_file.read(HEAD_BYTES)
    image_file.seek(0)
    if heif.container_format(head):
        return _of_exif(_from_block(_container_block(image_file.read())))
    if head.startswith(png.SIGNATURE):
        data = image_file.read()
        blocks = [
            data[start + 8 : end - 4] for kind, start, end, _ in png.chunks(data) if kind == b"eXIf"
        ]
        if blocks:
            return _of_exif(_from_block(blocks[0]))
        image_file = io.BytesIO(data)
    with open_image(image_file) as image:
        return _of_exif(Image.Image.getexif(image))  # that of a PNG would decode it


def _container_block(data):
    """The EXIF block of a HEIC or AVIF file, from its TIFF header on."""
    block = next(items(data, list(iterate_boxes(data, 0, len(data))), b"Exif"))
    # ISO/IEC 23008-12, A.2.1: the position of the TIFF header, counted from behind this number
    return block[4 + int.from_bytes(block[:4], "big") :]


def _from_block(block):
    exif = Image.Exif()
    exif.load(PREFIX + bytes(block).removeprefix(PREFIX))
    return exif


def _of_exif(exif):
    details = exif.get_ifd(EXIF_DIRECTORY)
    date = DATE.match(_text(details.get(DATE_TAKEN)))
    day = "-".join(date.groups()) if date and int(date[1]) else ""
    make, model = _text(exif.get(MAKE)), _text(exif.get(MODEL))
    if not model:
        return Capture(day, "")
    if model.lower().startswith(make.lower()):  # "Canon", "Canon EOS R6"
        make = ""
    serial = _text(details.get(SERIAL_NUMBER))
    return Capture(day, " ".join(filter(None, (make, model, serial))))


def _text(value):
    """A value as text of one line; some cameras fill it with zeros or blanks."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return " ".join(str(value or "").partition("\0")[0].split())
