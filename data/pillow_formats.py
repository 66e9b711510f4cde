"""PNG, BMP, WebP, GIF, TIFF and unusual JPEGs, decoded by Pillow, large ones in bands."""

import io

import cv2
import numpy as np
from PIL import Image

from common.errors import ImageError
from data.decoding_limits import (
    PILLOW,
    PILLOW_SEVERAL_SCANS,
    PILLOW_WEBP,
    SEVERAL_SCANS,
    check_pixels,
)
from data.geometry import apply_orientation, target_size
from data.jpeg import orientation_and_cost

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
BAND = 1 << 20  # pixels that are converted at a time, of what is not a JPEG
BITS, PHOTOMETRIC, ROWS_PER_STRIP, TILE_LENGTH = 258, 262, 278, 323  # tags of TIFF


def decode_with_pillow(data, preprocessing, name):
    """Pillow's way: (upright image, (height, width) of its file), large ones at a reduced scale."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        cost = PILLOW_WEBP if image.format == "WEBP" else PILLOW
        if image.format in ("JPEG", "MPO") and orientation_and_cost(data)[1] == SEVERAL_SCANS:
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
        check_pixels(image.height, image.width, cost, preprocessing, name)
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
    file_shape = shape if orientation in (5, 6, 7, 8) else shape[::-1]
    return apply_orientation(found, orientation), file_shape


def _in_bands(image, preprocessing, grey):
    """uint8 RGB of a large Pillow image, reduced on the way; whole, it takes 22 bytes a pixel.

    To no less than twice what `resize_to_square` needs, by averaging areas; for "crop" only the
    middle. Bands of whole rows are made narrower, then all of them lower; where the height
    shrinks more, the other way round.
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
