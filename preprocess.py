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

import io
import re
import warnings
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from common.errors import ImageError
from scratch import scratch

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
MAX_PIXELS = 200_000_000
MAX_SIDE = 1_000_000  # a row is the least that is converted at a time
MAX_SCANS = 100  # of a progressive JPEG
# Bytes that decoding may take. Measured bytes a pixel: a plain JPEG is reduced as it is read, one
# of several scans is gathered whole first (before Pillow, in four colours), WebP's decoder keeps
# four copies, of other formats Pillow keeps one (and libtiff a strip).
MAX_MEMORY = 450_000_000
PLAIN_JPEG, SEVERAL_SCANS, PILLOW, PILLOW_SEVERAL_SCANS, PILLOW_WEBP = 1, 6, 5, 13, 17
BAND = 1 << 20  # pixels that are converted at a time, of what is not a JPEG

BITS, PHOTOMETRIC, ROWS_PER_STRIP, TILE_LENGTH = 258, 262, 278, 323  # tags of TIFF
# Of a JPEG, by which its decoder finds the next part; FF 00 and FF D0 to D7 belong to a scan.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)

# Each worker thread decodes its own image; OpenCV's threads on top only get in the way.
cv2.setNumThreads(0)
# The limit of this module takes its place, checked before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
# Its warnings about odd EXIF blocks and the like would break into progress bars.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Preprocessing(NamedTuple):
    """How an image becomes the model's input.

    Attributes:
        size: side S of the square result, in pixels.
        resize: "letterbox" (whole image, bars in the fill colour), "crop" (the
            middle, cut to a square) or "stretch" (distorted to a square).
        fill_color: (red, green, blue), 0-255, of bars and transparent pixels.
        max_pixels: an image with more is refused before it is decoded, as is one that
            would take more than `MAX_MEMORY`.
    """

    size: int
    resize: str = "letterbox"
    fill_color: tuple = (255, 255, 255)
    max_pixels: int = MAX_PIXELS


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
    return fit(image, preprocessing, out, shape)


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
            _check_scans(data, name)
        return _decode_any(data, preprocessing, name)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever comes to their mind
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "is none of " + ", ".join(FORMATS)
        raise ImageError(name, f"cannot be decoded: {reason}") from None


def fit(image, preprocessing, out=None, shape=None):
    """Fits an image of any size into the model's square.

    Args:
        image: uint8 (height, width, 3).
        preprocessing: a `Preprocessing`.
        out: uint8 (S, S, 3) to write to; default: a new array.
        shape: (height, width) of the file, where `image` was decoded at a reduced scale.

    Returns:
        uint8 (S, S, 3), `out` where it is given.
    """
    size = preprocessing.size
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    if preprocessing.resize == "crop":
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        _resize(image[top : top + side, left : left + side], out)
        return out
    height, width = target_size(*(shape or image.shape[:2]), preprocessing)
    top, left = (size - height) // 2, (size - width) // 2
    color = preprocessing.fill_color
    if len(set(color)) == 1:
        color = color[0]  # a grey fills a row in one go
    # Only the bars: filling the whole square first costs as much as the resize.
    for bar in (
        out[:top],
        out[top + height :],
        out[top : top + height, :left],
        out[top : top + height, left + width :],
    ):
        if bar.size:
            bar[...] = color
    _resize(image, out[top : top + height, left : left + width])
    return out


def target_size(height, width, preprocessing):
    """(height, width) of the whole image after scaling, before cutting or padding."""
    size = preprocessing.size
    if preprocessing.resize == "stretch":
        return size, size
    side = min(height, width) if preprocessing.resize == "crop" else max(height, width)
    return max(1, round(height * size / side)), max(1, round(width * size / side))


def _resize(image, out):
    height, width = out.shape[:2]
    if image.shape == out.shape:
        out[...] = image
        return
    shrink = max(image.shape[0] / height, image.shape[1] / width)
    # Below half the size bilinear sampling would skip pixels; above it, averaging
    # over areas costs three times as much and shows no difference.
    method = cv2.INTER_AREA if shrink >= 2 else cv2.INTER_LINEAR
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    if shrink >= 2 and smaller != (width, height):
        # One side shrinks, the other grows: OpenCV averages only where none grows.
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
        method = cv2.INTER_LINEAR
    result = cv2.resize(image, (width, height), dst=out, interpolation=method)
    if not np.shares_memory(result, out):  # OpenCV may not write to an odd slice
        out[...] = result


def _check_pixels(height, width, cost, preprocessing, name):
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            name, f"has {width} x {height} pixels; a side may have {MAX_SIDE:,} at most"
        )
    most = min(preprocessing.max_pixels, int(MAX_MEMORY / cost))
    if height * width > most:
        raise ImageError(name, f"has {width} x {height} pixels, more than the {most:,} allowed")


def _check_scans(data, name):
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
        orientation, cost = _jpeg_segments(data)
        if cost != PLAIN_JPEG:
            _check_scans(data, name)
        _check_pixels(height, width, cost, preprocessing, name)
        rows, columns = target_size(height, width, preprocessing)
        least = {"min_height": min(rows, height), "min_width": min(columns, width)}
        shape = simplejpeg.decode_jpeg_header(data, **least)[:2] + (3,)
        image = simplejpeg.decode_jpeg(data, "RGB", **least, buffer=allocate("jpeg", shape))
    except ValueError as error:
        if "remature end" in str(error):  # Pillow would make up the missing part in grey
            raise ImageError(name, "cannot be decoded: a part of it is missing") from None
        return None  # merely odd, as extra bytes between its parts are: Pillow judges
    shape = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
    return _turn(image, orientation), shape


def _jpeg_segments(data):
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
        elif (marker == 0xE1 and orientation is None  # the first of several counts
              and data[start + 2 : start + 8] == b"Exif\0\0"):
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


def _turn(image, orientation):
    """Applies the EXIF orientation 1-8; anything else counts as 1."""
    turned = cv2.transpose(image) if orientation in (5, 6, 7, 8) else None
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    if flip is None:
        return image if turned is None else turned
    return cv2.flip(image, flip) if turned is None else cv2.flip(turned, flip, dst=turned)


def _decode_any(data, preprocessing, name):
    """Pillow's way: (upright image, (height, width) of its file), large ones at a reduced scale."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        cost = PILLOW_WEBP if image.format == "WEBP" else PILLOW
        if image.format in ("JPEG", "MPO") and _jpeg_segments(data)[1] == SEVERAL_SCANS:
            cost = PILLOW_SEVERAL_SCANS
        grey = 0, 65535  # black and white of 16 bits
        if image.format == "TIFF":
            bits, photometric = image.tag_v2.get(BITS, (1,)), image.tag_v2.get(PHOTOMETRIC)
            grey = (0, 2 ** bits[0] - 1)[:: -1 if photometric == 0 else 1]
            if image.tile and image.tile[0][0] == "libtiff":
                strip = image.tag_v2.get(TILE_LENGTH) or image.tag_v2.get(ROWS_PER_STRIP)
                share = min(1, (strip or image.height) / image.height)
                cost += share * sum(bits) / 8
        elif image.format == "PNG":
            _scale_transparency(image)
        _check_pixels(image.height, image.width, cost, preprocessing, name)
        image.load()
        try:
            orientation = image.getexif().get(0x0112, 1)
        except Exception:  # as above: damaged EXIF
            orientation = 1
        if image.mode in ("I", "F"):
            raise ImageError(
                name,
                "cannot be decoded: has 32 bits a pixel with no defined white; "
                "save it with 8 or 16 bits",
            )
        if image.height * image.width > BAND:
            found = _in_bands(image, preprocessing, grey)
        else:
            found = _rgb(image, preprocessing.fill_color, grey)
        shape = image.width, image.height
    return _turn(found, orientation), shape if orientation in (5, 6, 7, 8) else shape[::-1]


def _in_bands(image, preprocessing, grey):
    """uint8 RGB of a large Pillow image, reduced on the way; whole, it takes 22 bytes a pixel.

    To no less than twice of what `fit` needs, by areas; for "crop" only the middle. Bands of whole
    rows are made narrower and then all of them lower; where the height shrinks more, the other way.
    """
    width, height = image.size
    rows, columns = target_size(height, width, preprocessing)
    left = top = 0
    if preprocessing.resize == "crop":
        side = min(width, height)
        left, top, width, height = (width - side) // 2, (height - side) // 2, side, side
        rows = columns = preprocessing.size
    rows, columns = min(height, 2 * rows), min(width, 2 * columns)
    upright = height * columns > width * rows
    across, along = (height, width) if upright else (width, height)
    step = max(1, BAND // across)
    found = np.empty((rows, width, 3) if upright else (height, columns, 3), np.uint8)
    for start in range(0, along, step):
        end = min(start + step, along)
        box = (start, 0, end, height) if upright else (0, start, width, end)
        box = (left + box[0], top + box[1], left + box[2], top + box[3])
        band = _rgb(image.crop(box), preprocessing.fill_color, grey)
        out = found[:, start:end] if upright else found[start:end]
        out[...] = cv2.resize(band, out.shape[1::-1], interpolation=cv2.INTER_AREA)
    return cv2.resize(found, (columns, rows), interpolation=cv2.INTER_AREA)


def _scale_transparency(image):
    """Gives the transparent colour of a PNG the 8 bits that Pillow gives its pixels."""
    color, kind = image.info.get("transparency"), image.tile[0][3] if image.tile else None
    if isinstance(color, int) and kind in ("L;2", "L;4"):
        image.info["transparency"] = color * (85 if kind == "L;2" else 17)
    elif isinstance(color, tuple) and kind == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in color)


def _rgb(image, fill_color, grey):
    """uint8 (height, width, 3) of a loaded Pillow image of any colour mode.

    `grey` are the values of black and white in an image of 16 bits.
    """
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int32)
        levels = (np.abs(values - grey[0]) * 255 + max(grey) // 2) // max(grey)
        levels = np.minimum(levels, 255).astype(np.uint8)
        rgb = cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB)
        if isinstance(image.info.get("transparency"), int):
            rgb[values == image.info["transparency"]] = fill_color
        return rgb
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, fill_color + (255,))
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))
