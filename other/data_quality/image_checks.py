"""What is odd about the bytes of one image file, whatever folder it stands in."""

import contextlib
import hashlib
import io
import os
import stat
import threading
import warnings
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from common.errors import ImageError
from data import decoding, near_duplicates
from data.buffers import scratch
from data.geometry import Preprocessing, resize_to_square
from data.jpeg import decode_jpeg
from data.pillow_formats import FORMATS

HUGE = 50_000_000  # pixels; decoding one takes as long as a hundred photos
SMALLEST = 32  # pixels of a side, the least that a backbone takes
LONGEST = 5  # times the other side
ONE_COLOR = 2  # levels of 255 that a lossy format may leave between equal pixels
ENDINGS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
ODD_MODES = {
    "CMYK": "printing colours (CMYK)",
    "LAB": "the colours of CIELAB",
    "HSV": "hue, saturation and value",
}
# Larger than any image, so that JPEGs are decoded in full: at a reduced scale libjpeg skips data.
WHOLE = Preprocessing(1 << 20, "stretch")

_heard = threading.local()


class Look(NamedTuple):
    """What one file holds.

    Attributes:
        faults: list of (kind, detail), str each; the kinds are keys of `data_del.KINDS`.
        digest: SHA-256 of the bytes, or None where no picture comes out.
        sound: whether neither damage nor a wrong extension was found.
        pixels: width times height.
        bytes: of the file.
        blank: whether the picture is all one colour.
        picture: uint8 (32, 32, 3), what `near_duplicates.describe` takes, or None.
    """

    faults: list
    digest: bytes | None = None
    sound: bool = False
    pixels: int = 0
    bytes: int = 0
    blank: bool = False
    picture: np.ndarray | None = None


@contextlib.contextmanager
def hearing_warnings():
    """While threads call `look`: Pillow's warnings reach the thread that caused them.

    `warnings.catch_warnings` changes the whole process, so it is entered once around all
    threads, and what it catches is kept for each apart.
    """
    with warnings.catch_warnings():
        others = warnings.showwarning

        def keep(message, category, filename, *rest):
            if hasattr(_heard, "messages") and issubclass(category, UserWarning):
                _heard.messages.append(str(message).strip())
            else:
                others(message, category, filename, *rest)

        warnings.filterwarnings("always", category=UserWarning, module=r"PIL\.")
        warnings.showwarning = keep
        yield


def look(path, small=False):
    """Reads and decodes a file in full.

    Args:
        path: of a file with the extension of an image.
        small: whether to make `Look.picture`.

    Returns:
        `Look`. A file that gives no picture has exactly one fault.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            return Look([("unreadable", "is not a file")])
        with open(path, "rb", buffering=0) as file:
            data = file.read()
    except OSError as error:
        reason = (
            "is a link to nothing"
            if os.path.islink(path) and not os.path.exists(path)
            else f"cannot be read: {error.strerror}"
        )
        return Look([("unreadable", reason)])
    if not data:
        return Look([("empty", "has no bytes")])
    _heard.messages = []
    try:
        if data.startswith(b"\xff\xd8\xff"):
            image, faults = _jpeg(data, path)
        else:
            image, faults = _other(data, path)
    except ImageError as error:
        return Look([_refused(data, error.reason)])
    finally:
        messages = _heard.__dict__.pop("messages")
    if not faults and any("orrupt" in each or "runcated" in each for each in messages):
        faults.append(("corrupt_data", f"a picture comes out, but: {messages[0]}"))
    height, width = image.shape[:2]
    odd, blank = _geometry(height, width), _is_blank(image)
    if blank:
        odd.append(("blank", "all pixels have one colour"))
    return Look(
        faults + odd,
        hashlib.sha256(data).digest(),
        not any(kind in ("corrupt_data", "wrong_extension") for kind, _ in faults),
        height * width,
        len(data),
        blank,
        resize_to_square(image, near_duplicates.PREPROCESSING) if small else None,
    )


def _jpeg(data, path):
    """(picture in an array of `scratch`, faults); raises ImageError."""
    found = decode_jpeg(data, WHOLE, path, scratch)
    if found is not None:
        return found[0], _extension("JPEG", path)
    # Printing colours, or something that the decoder complained about
    complaint, color = None, None
    try:
        color = simplejpeg.decode_jpeg_header(data)[2]
        simplejpeg.decode_jpeg(data, "CMYK" if color in ("CMYK", "YCCK") else "RGB")
    except ValueError as error:
        complaint = str(error)
    image = decoding.decode(data, WHOLE, path)
    faults = _extension("JPEG", path)
    if complaint:
        faults.append(("corrupt_data", f"a picture comes out, but: {complaint}"))
    if color in ("CMYK", "YCCK"):
        faults.append(("odd_mode", f"has {ODD_MODES['CMYK']}; they become red, green and blue"))
    return image, faults


def _other(data, path):
    """(picture, faults) of what is no JPEG; raises ImageError."""
    image = decoding.decode(data, WHOLE, path)
    faults = []
    with Image.open(io.BytesIO(data), formats=FORMATS) as header:
        faults += _extension(header.format, path)
        try:
            frames = getattr(header, "n_frames", 1)
        except Exception:  # a later picture is damaged; the first is the one that is used
            frames = 1
        if frames > 1:
            faults.append(("animated", f"holds {frames} pictures; the first is used"))
        if header.mode in ODD_MODES:
            faults.append(
                ("odd_mode", f"has {ODD_MODES[header.mode]}; they become red, green and blue")
            )
        elif header.mode.startswith("I;16"):
            faults.append(("odd_mode", "has 16 bits a pixel; they are scaled to 8"))
        elif header.has_transparency_data:
            header.seek(0)
            if header.convert("RGBA").getchannel("A").getextrema()[0] < 255:
                faults.append(("odd_mode", "has transparent pixels; they show --fill_color"))
    if data.startswith(b"\x89PNG"):
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as header:
                header.verify()  # the checksums, which decoding passes over
        except Exception as error:
            faults.append(("corrupt_data", f"a picture comes out, but: {error}"))
    return image, faults


def _extension(content, path):
    """A list of the fault that the name says another format than the content, or of none."""
    ending = os.path.splitext(path)[1].lower()
    if ending in ENDINGS[content]:
        return []
    return [("wrong_extension", f"holds a {content} and is named {ending}")]


def _refused(data, reason):
    """The one fault of a file whose picture does not come out."""
    reason = reason.removeprefix("cannot be decoded: ")
    if "pixels, more than" in reason or "32 bits" in reason:
        return "unsupported", reason
    size = int.from_bytes(data[4:8], "little") + 8
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP" and size > len(data):
        return "truncated", f"ends after {len(data):,} of {size:,} bytes"
    cut = "truncated" in reason or "is missing" in reason
    return ("truncated" if cut else "undecodable"), reason


def _geometry(height, width):
    faults = []
    if height * width > HUGE:
        faults.append(("huge", f"has {width} x {height} pixels"))
    if max(height, width) > LONGEST * min(height, width):
        faults.append(("extreme_shape", f"has {width} x {height} pixels"))
    elif min(height, width) < SMALLEST:
        faults.append(("tiny", f"has {width} x {height} pixels"))
    return faults


def _is_blank(image):
    def even(part):
        pixels = part.reshape(-1, 3)
        return (np.ptp(pixels, axis=0) <= ONE_COLOR).all()

    # One row in the middle tells nearly every picture, at no cost.
    return bool(even(image[len(image) // 2]) and even(image))
