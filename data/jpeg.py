"""JPEGs, decoded by libjpeg-turbo at the smallest scale that is enough."""

import re

import simplejpeg
from PIL import Image

from common.errors import ImageError
from data.decoding_limits import MAX_SCANS, PLAIN_JPEG, SEVERAL_SCANS, check_pixels
from data.geometry import apply_orientation, target_size

# Of a JPEG, by which its decoder finds the next part; FF 00 and FF D0 to D7 belong to a scan.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)


def check_scans(data, name):
    """Each costs a pass over the whole image and next to no bytes; encoders write about ten."""
    # Counted as bytes first: a film behind the picture has these, too, but is seldom there.
    if bytes(data).count(b"\xff\xda") > MAX_SCANS:
        scans = sum(marker == 0xDA for marker, _ in _jpeg_parts(data))
        if scans > MAX_SCANS:
            raise ImageError(name, f"has {scans} scans; at most {MAX_SCANS} are decoded")


def decode_jpeg(data, preprocessing, name, allocate):
    """The fast way for the usual JPEG: (image, (height, width) of its file).

    Args:
        data, preprocessing, name: as `decode` takes them.
        allocate: function (name, shape) -> uint8 array to write to.

    Returns:
        None for a JPEG that Pillow has to judge.

    Raises:
        ImageError: a part is missing, or it has too many pixels.
    """
    try:
        height, width, color, _ = simplejpeg.decode_jpeg_header(data)
        if color not in ("YCbCr", "Gray", "RGB"):
            return None  # CMYK and YCCK, often stored inverted: Pillow knows how
        orientation, cost = orientation_and_cost(data)
        if cost != PLAIN_JPEG:
            check_scans(data, name)
        check_pixels(height, width, cost, preprocessing, name)
        rows, columns = target_size(height, width, preprocessing)
        least = {"min_height": min(rows, height), "min_width": min(columns, width)}
        shape = simplejpeg.decode_jpeg_header(data, **least)[:2] + (3,)
        image = simplejpeg.decode_jpeg(data, "RGB", **least, buffer=allocate("jpeg", shape))
    except ValueError as error:
        if "remature end" in str(error):  # Pillow would make up the missing part in grey
            raise ImageError(name, "cannot be decoded: a part of it is missing") from None
        return None  # merely odd, as extra bytes between its parts are: Pillow judges
    shape = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
    return apply_orientation(image, orientation), shape


def orientation_and_cost(data):
    """(EXIF orientation, 1 where there is none; bytes a pixel) of a JPEG.

    Walks the segments itself: having Pillow look takes as long as a third of the decoding.
    """
    orientation, colors = None, 255
    for marker, start in _jpeg_parts(data):
        if marker in (0xC0, 0xC1):  # not progressive
            colors = data[start + 7] if start + 7 < len(data) else 255
        elif marker == 0xDA:
            if start + 2 < len(data) and data[start + 2] >= colors:
                return orientation or 1, PLAIN_JPEG
            break
        elif (
            marker == 0xE1
            and orientation is None  # the first of several counts
            and data[start + 2 : start + 8] == b"Exif\0\0"
        ):
            exif = Image.Exif()
            end = start + int.from_bytes(data[start : start + 2], "big")
            try:
                exif.load(bytes(data[start + 2 : end]))
                orientation = exif.get(0x0112, 1)
            except Exception:  # a damaged EXIF block is no reason to refuse the picture
                orientation = 1
    return orientation or 1, SEVERAL_SCANS


def _jpeg_parts(data):
    """(marker, position of its length) of each part of a JPEG up to its end, as libjpeg finds them.

    A second picture or a film may follow in the file.
    """
    position = 2
    while (found := MARKER.search(data, position)) and found[1] != b"\xd9":
        yield found[1][0], found.end()
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + max(2, length)
