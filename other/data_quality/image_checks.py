"""What is wrong with the bytes of one image file, whatever folder it is in."""

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
from data import decoding, library_messages, near_duplicates, png
from data.buffers import scratch
from data.geometry import Preprocessing, resize_to_square
from data.jpeg import decode_jpeg, has_end_mark, is_jpeg
from data.photo_files import is_packed, read_photo
from data.pillow_formats import open_image
from other.data_quality.findings import HUGE, LONGEST, SMALLEST, detail

ONE_COLOR = 2  # levels of 255 that a lossy format may leave between equal pixels
EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
}
ODD_MODES = {
    "CMYK": "printing colours (CMYK)",
    "LAB": "the colours of CIELAB",
    "HSV": "hue, saturation and value",
}
NONE_OF = "is none of "  # how decoding says that it knows no format with such bytes
# Larger than any image, so that JPEGs are decoded in full: at a reduced scale libjpeg skips data.
WHOLE = Preprocessing(1 << 20, "stretch")

_local = threading.local()


class Look(NamedTuple):
    """What one file holds.

    Attributes:
        faults: list of (kind, detail), two str; the kinds are keys of `findings.KINDS`.
        digest: bytes, the SHA-256 of the file, or None where it cannot be decoded.
        sound: bool, whether neither damage nor a wrong extension was found.
        pixels: int, width times height.
        bytes: int, the size of the file.
        blank: bool, whether all pixels have the same colour.
        picture: uint8 (32, 32, 3), RGB, what `near_duplicates.describe` takes, or None.
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
    """Context in which what Pillow and libtiff say reaches the thread of `look` that caused it.

    `warnings.catch_warnings` changes the whole process, so it is entered once around all
    threads, and the warnings are collected per thread.
    """
    with warnings.catch_warnings(), library_messages.hearing_libtiff():
        show_others = warnings.showwarning

        def keep(message, category, filename, *rest):
            if hasattr(_local, "messages") and issubclass(category, UserWarning):
                _local.messages.append(str(message).strip())
            else:
                show_others(message, category, filename, *rest)

        warnings.filterwarnings("always", category=UserWarning, module=r"(PIL|data)\.")
        warnings.showwarning = keep
        yield


def look(path, small=False):
    """Reads and decodes a file in full.

    Args:
        path: str, a file with the extension of an image.
        small: bool, whether to make `Look.picture`.

    Returns:
        `Look`. A file that cannot be decoded has exactly one fault.

    Example:

    ```python
    look("photos/1.jpg").faults  # [("truncated", "a part of it is missing")]
    ```
    """
    data, fault = _read(path)
    if fault:
        return Look([fault])
    _local.messages = []
    try:
        with library_messages.messages() as libtiff_messages:
            image, faults = (_check_jpeg if is_jpeg(data) else _check_other)(data, path)
    except ImageError as error:
        return Look([_decoding_fault(error, data)])
    finally:
        messages = _local.__dict__.pop("messages")
    libtiff_errors = [text for is_error, text in libtiff_messages if is_error]
    if libtiff_errors:
        faults.append(_damage(libtiff_errors[0]))
    complaints = [text for text in messages if "orrupt" in text or "runcated" in text]
    if complaints and not faults:
        # In other files than TIFFs, Pillow warns of the EXIF block alone.
        is_tiff = data[:2] in (b"II", b"MM")
        faults.append(_damage(complaints[0]) if is_tiff else _beside(f"EXIF: {complaints[0]}"))
    height, width = image.shape[:2]
    is_sound = not any(kind in ("corrupt_data", "wrong_extension") for kind, _ in faults)
    is_blank = _is_blank(image)
    faults += _shape_faults(height, width)
    if is_blank:
        faults.append(("blank", detail("one_colour")))
    return Look(
        faults,
        hashlib.sha256(data).digest(),
        is_sound,
        height * width,
        len(data),
        is_blank,
        resize_to_square(image, near_duplicates.PREPROCESSING) if small else None,
    )


def _read(path):
    """(bytes of a file, None), or (None, the fault why it cannot be read)."""
    try:
        if not is_packed(path) and not stat.S_ISREG(os.stat(path).st_mode):
            return None, ("unreadable", detail("no_file"))  # reading a pipe would wait
        data = read_photo(path)
    except (OSError, ImageError) as error:
        is_dangling = os.path.islink(path) and not os.path.exists(path)
        reason = error.reason if isinstance(error, ImageError) else error.strerror
        unread = detail("unreadable", reason=reason)
        return None, ("unreadable", detail("dangling_link") if is_dangling else unread)
    return (data, None) if data else (None, ("empty", detail("empty")))


def _check_jpeg(data, path):
    """(picture in an array of `scratch`, faults) of a JPEG; raises ImageError."""
    faults = _extension_faults("JPEG", path)
    if not has_end_mark(data):
        faults.append(("damaged_metadata", detail("no_end_mark")))
    decoded = decode_jpeg(data, WHOLE, path, scratch)
    if decoded is not None:
        return decoded[0], faults
    # Printing colours, or something that the decoder complained about
    complaint, color_space = None, None
    try:
        color_space = simplejpeg.decode_jpeg_header(data)[2]
        simplejpeg.decode_jpeg(data, "CMYK" if color_space in ("CMYK", "YCCK") else "RGB")
    except ValueError as error:
        complaint = str(error)
    image = decoding.decode(data, WHOLE, path)
    if complaint and has_end_mark(data):
        is_beside = "ICC marker" in complaint  # of the colour profile, which is not used
        faults.append((_beside if is_beside else _damage)(complaint))
    if color_space in ("CMYK", "YCCK"):
        faults.append(_odd_colors("CMYK"))
    return image, faults


def _check_other(data, path):
    """(picture, faults) of a file that is not a JPEG; raises ImageError."""
    image = decoding.decode(data, WHOLE, path)
    with open_image(io.BytesIO(png.without_extras(data) or data)) as header:
        faults = _extension_faults(header.format, path)
        frame_count = _frame_count(header, data)
        if frame_count > 1:
            faults.append(("animated", detail("frames", count=frame_count)))
        if header.mode in ODD_MODES:
            faults.append(_odd_colors(header.mode))
        elif header.mode.startswith("I;16"):
            faults.append(("odd_mode", detail("deep")))
        elif header.has_transparency_data:
            least, most = _opacity_range(header)
            if least < 255 and (most or header.format != "BMP"):  # all of a BMP: opaque
                faults.append(("odd_mode", detail("transparent")))
    if data.startswith(png.SIGNATURE):
        faults += _checksum_faults(data)
    return image, faults


def _opacity_range(header):
    """(least, most) opacity of an image opened by Pillow, 0 to 255."""
    try:
        return header.convert("RGBA").getchannel("A").getextrema()
    except Exception:  # a TIFF in planes, which `data.tiff` decodes
        return 255, 255


def _frame_count(header, data):
    """How many pictures a file holds, opened by Pillow."""
    if header.format == "PNG":
        return png.frame_count(data)
    try:
        frame_count = getattr(header, "n_frames", 1)
        header.seek(0)
    except Exception:  # a later picture is damaged; the first is the one that is used
        return 1
    return frame_count


def _checksum_faults(data):
    """Faults of a PNG's checksums, which decoding does not check."""
    kinds = [kind for kind, _, _, is_right in png.chunks(data) if not is_right]
    kinds.sort(key=lambda kind: not (png.is_critical(kind) or kind == b"tRNS"))
    for kind in kinds[:1]:
        is_pixels = png.is_critical(kind) or kind == b"tRNS"
        reason = f"the checksum of its part {kind.decode('latin-1')!r} is wrong"
        return [(_damage if is_pixels else _beside)(reason)]
    return []


def _damage(reason):
    return "corrupt_data", detail("damage", reason=reason)


def _beside(reason):
    return "damaged_metadata", detail("beside", reason=reason)


def _odd_colors(mode):
    return "odd_mode", detail("odd_colours", colours=ODD_MODES[mode])


def _extension_faults(content, path):
    """A list of at most one fault: the extension belongs to another format than `content`."""
    extension = os.path.splitext(path)[1].lower()
    if is_packed(path):  # an address has none
        return []
    if extension in EXTENSIONS[content]:
        return []
    return [("wrong_extension", detail("extension", content=content, extension=extension))]


def _decoding_fault(error, data):
    """The one fault of a file that cannot be decoded, by the code of its `ImageError`."""
    kind = "unsupported" if error.code == "too_large" else error.code
    reason = error.reason.removeprefix("cannot be decoded: ")
    announced_size = int.from_bytes(data[4:8], "little") + 8
    if kind == "truncated" and data.startswith(b"RIFF") and announced_size > len(data):  # a WebP
        reason = detail("ends_early", bytes=f"{len(data):,}", whole=f"{announced_size:,}")
    elif reason.startswith(NONE_OF):
        if other_format := _other_format(data):
            return "unsupported", detail("other_format", format=other_format)
        reason = detail("no_format", formats=reason.removeprefix(NONE_OF))
    return kind, reason


def _other_format(data):
    """Pillow's description of a format that it knows and this project doesn't read; or None."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format_description
    except Exception:
        return None


def _shape_faults(height, width):
    faults, size = [], detail("size", width=width, height=height)
    if height * width > HUGE:
        faults.append(("huge", size))
    if max(height, width) > LONGEST * min(height, width):
        faults.append(("extreme_shape", size))
    elif min(height, width) < SMALLEST:
        faults.append(("tiny", size))
    return faults


def _is_blank(image):
    def has_one_color(part):
        pixels = part.reshape(-1, 3)
        return (np.ptp(pixels, axis=0) <= ONE_COLOR).all()

    # One row in the middle decides for nearly every picture, at no cost.
    return bool(has_one_color(image[len(image) // 2]) and has_one_color(image))
