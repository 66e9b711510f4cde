"""JPEGs, decoded by libjpeg-turbo at the smallest scale that is enough.

An unusual JPEG is left to Pillow: CMYK and YCCK, which are often stored inverted, and a file
that is odd but not cut off.
"""

import re
import warnings

import simplejpeg
from PIL import Image

from common.errors import ImageError
from data.decoding_limits import MAX_SCANS, PLAIN_JPEG, SEVERAL_SCANS, check_pixels
from data.geometry import apply_orientation, swaps_sides, target_size

ORIENTATION_TAG = 0x0112  # of EXIF
END_MARK = b"\xff\xd9"
# Markers of ITU-T T.81, table B.1
BASELINE_FRAME, EXTENDED_FRAME, END_OF_IMAGE, START_OF_SCAN, APP1 = 0xC0, 0xC1, 0xD9, 0xDA, 0xE1
# By a marker libjpeg finds the next part of a file; FF 00 and FF D0 to D7 belong to a scan.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)


def is_jpeg(data):
    """Whether a file begins as a JPEG does.

    Args:
        data: bytes of the file.

    Returns:
        bool.
    """
    return bytes(data[:3]) == b"\xff\xd8\xff"


def check_scans(data, name):
    """Refuses a JPEG with more than `MAX_SCANS` scans; encoders write about ten.

    A scan costs a pass over the whole image and next to no bytes of the file.

    Args:
        data: bytes of the file.
        name: str that errors call the image.

    Raises:
        ImageError: it has too many.
    """
    # First a mere count of bytes: a film behind the picture has these bytes too, but is rare.
    if bytes(data).count(bytes((0xFF, START_OF_SCAN))) > MAX_SCANS:
        scan_count = sum(marker == START_OF_SCAN for marker, _ in _jpeg_parts(data))
        if scan_count > MAX_SCANS:
            raise ImageError(
                name, f"has {scan_count} scans; at most {MAX_SCANS} are decoded", "too_large"
            )


def decode_jpeg(data, preprocessing, name, allocate):
    """Decodes the usual JPEG, upright.

    Args:
        data: bytes of the file.
        preprocessing: `geometry.Preprocessing`; its size and resize choose the scale.
        name: str that errors call the image.
        allocate: function (str, shape) -> uint8 array to write to, for example
            `buffers.scratch`.

    Returns:
        (uint8 (height, width, 3), RGB; (height, width) of the file). None for a JPEG that
        Pillow has to judge.

    Raises:
        ImageError: a part is missing, or a limit is exceeded.
    """
    try:
        height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
        if color_space not in ("YCbCr", "Gray", "RGB"):
            return None
        orientation, memory_per_pixel = orientation_and_cost(data)
        if memory_per_pixel != PLAIN_JPEG:
            check_scans(data, name)
        check_pixels(height, width, memory_per_pixel, preprocessing, name)
        target_height, target_width = target_size(height, width, preprocessing)
        min_size = {"min_height": min(target_height, height), "min_width": min(target_width, width)}
        decoded_size = simplejpeg.decode_jpeg_header(data, **min_size)[:2]
        buffer = allocate("jpeg", (*decoded_size, 3))
        image = simplejpeg.decode_jpeg(data, "RGB", **min_size, buffer=buffer)
    except ValueError as error:
        if "remature end" in str(error):  # Pillow would make up the missing part in grey
            if _may_lack_only_end_mark(data):
                return decode_jpeg(bytes(data) + END_MARK, preprocessing, name, allocate)
            raise ImageError(
                name, "cannot be decoded: a part of it is missing", "truncated"
            ) from None
        return None  # merely odd, as extra bytes between its parts are
    file_size = (width, height) if swaps_sides(orientation) else (height, width)
    return apply_orientation(image, orientation), file_size


def has_end_mark(data):
    """Whether a JPEG's pixels are followed by the mark of its end.

    Args:
        data: bytes of the file.

    Returns:
        bool.
    """
    scan_start = next((start for marker, start in _jpeg_parts(data) if marker == START_OF_SCAN), 0)
    return END_MARK in bytes(data[scan_start:])


def with_end_mark(data):
    """Completes a JPEG that lacks nothing but the mark of its end.

    Args:
        data: bytes of the file, whose limits have been checked.

    Returns:
        bytes that libjpeg decodes without a complaint; None for any other file.
    """
    if not _may_lack_only_end_mark(data):
        return None
    completed = bytes(data) + END_MARK
    try:
        color_space = simplejpeg.decode_jpeg_header(completed)[2]
        simplejpeg.decode_jpeg(completed, "CMYK" if color_space in ("CMYK", "YCCK") else "RGB")
    except ValueError:
        return None
    return completed


def _may_lack_only_end_mark(data):
    """Whether a JPEG has no end, and would show a missing part by a complaint of libjpeg.

    In a file of several scans libjpeg doesn't notice that the last ones are missing.
    """
    return not has_end_mark(data) and orientation_and_cost(data)[1] == PLAIN_JPEG


def orientation_and_cost(data):
    """What a JPEG's header says about turning and decoding it.

    Walks the segments itself: having Pillow look takes as long as a third of the decoding.

    Args:
        data: bytes of the file.

    Returns:
        (EXIF orientation, 1 where it has none; memory that decoding takes, in bytes per pixel).
    """
    orientation, frame_colors = None, 255
    for marker, start in _jpeg_parts(data):
        if marker in (BASELINE_FRAME, EXTENDED_FRAME):  # not progressive
            frame_colors = data[start + 7] if start + 7 < len(data) else 255
        elif marker == START_OF_SCAN:
            # Is the first scan the only one, with all colours of the frame?
            if start + 2 < len(data) and data[start + 2] >= frame_colors:
                return orientation or 1, PLAIN_JPEG
            break
        elif marker == APP1 and orientation is None:  # the first of several EXIF blocks counts
            orientation = _exif_orientation(data, start)
    return orientation or 1, SEVERAL_SCANS


def _exif_orientation(data, start):
    """The orientation in the segment whose length stands at `start`; None if it is not EXIF."""
    if data[start + 2 : start + 8] != b"Exif\0\0":
        return None
    exif_block = Image.Exif()
    end = start + int.from_bytes(data[start : start + 2], "big")
    try:
        exif_block.load(bytes(data[start + 2 : end]))
        return exif_block.get(ORIENTATION_TAG, 1)
    except Exception as error:  # a damaged EXIF block is no reason to refuse the picture
        warnings.warn(f"Corrupt EXIF data: {error}", stacklevel=1)  # for the audit
        return 1


def _jpeg_parts(data):
    """(marker, position of its length) of each part of a JPEG up to its end, as libjpeg finds them.

    A second picture or a film may follow in the file.
    """
    position = 2
    while marker := MARKER.search(data, position):
        if marker[1][0] == END_OF_IMAGE:
            return
        yield marker[1][0], marker.end()
        part_length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        position = marker.end() + max(2, part_length)
