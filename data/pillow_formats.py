"""PNG, BMP, WebP, GIF, TIFF, HEIC, AVIF and unusual JPEGs, by Pillow; large images in bands.

How unusual pictures become RGB with 8 bits per channel:

- Grey, palette, CMYK and other colour modes are converted.
- 16 bits per channel are scaled to 8, not clipped.
- Transparent pixels show the fill colour. A BMP that is transparent everywhere is opaque.
- In a TIFF whose 0 is white, 0 becomes white.
- 32-bit integers and floats are refused: they have no defined white.
"""

import io
import warnings

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from common.errors import ImageError
from data import heif, png, webp
from data.bmp import MaskedBmp
from data.decoding_limits import (
    PILLOW,
    PILLOW_AVIF,
    PILLOW_FINE_HEIF,
    PILLOW_FINE_HEIF_ALPHA,
    PILLOW_HEIF,
    PILLOW_MASKED_BMP,
    PILLOW_SEVERAL_SCANS,
    PILLOW_WEBP,
    SEVERAL_SCANS,
    WEBP,
    check_pixels,
)
from data.file_signatures import HEAD_BYTES, unread_format
from data.geometry import apply_orientation, swaps_sides, target_size
from data.jpeg import ORIENTATION_TAG, orientation_and_cost
from data.tiff import for_pillow, unread_compression, unread_kind
from data.tiff_tags import is_big_endian_bigtiff, is_tiff

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")  # by Pillow's names
ALL_FORMATS = (*FORMATS, heif.HEIF, heif.AVIF)
BAND_PIXELS = 1 << 20  # converted at a time
# Tags of TIFF 6.0
BITS_PER_SAMPLE, PHOTOMETRIC, ROWS_PER_STRIP, TILE_LENGTH = 258, 262, 278, 323
WHITE_IS_ZERO = 0  # a value of PHOTOMETRIC


def decode_with_pillow(data, preprocessing, name):
    """Decodes an image, upright; one of more than a megapixel at a reduced scale.

    Args:
        data: bytes of the file.
        preprocessing: `geometry.Preprocessing`.
        name: str that errors call the image.

    Returns:
        (uint8 (height, width, 3), RGB; (height, width) of the file).

    Raises:
        ImageError: a limit is exceeded, or white is not defined.
        Exception: whatever Pillow raises; `explain` puts it into words.
    """
    try:
        return _decode(data, preprocessing, name)
    except ImageError:
        raise
    except Exception:
        pixels_only = png.without_extras(data)
        if pixels_only is None:
            raise
    return _decode(pixels_only, preprocessing, name)


def _decode(data, preprocessing, name):
    """As `decode_with_pillow`; refuses a PNG of which any part is damaged."""
    with open_image(io.BytesIO(data)) as image:
        memory_per_pixel = _memory_per_pixel(image, data)
        grey_range = _tiff_grey_range(image) if image.format == "TIFF" else (0, 65535)
        if image.format == "PNG":
            _scale_transparency(image)
        check_pixels(image.height, image.width, memory_per_pixel, preprocessing, name)
        if image.format in (heif.HEIF, heif.AVIF):
            coded_size = heif.coded_size(data, image.format)
            check_pixels(*coded_size, memory_per_pixel, preprocessing, name)
        forget_xmp(image)  # Pillow turns a TIFF by it
        image = _load(image, data)
        orientation = exif_orientation(image)
        if image.mode in ("I", "F"):
            raise ImageError(
                name,
                "cannot be decoded: has 32 bits per pixel with no defined white; "
                "save it with 8 or 16 bits",
                "unsupported",
            )
        if image.format == "BMP" and image.mode == "RGBA" and not image.getextrema()[3][1]:
            image.putalpha(255)  # programs that mean no transparency leave the byte at 0
        if image.height * image.width > BAND_PIXELS:
            pixels = _rgb_in_bands(image, preprocessing, grey_range)
        else:
            pixels = _rgb(image, preprocessing.fill_color, grey_range)
        width, height = image.size
    file_size = (width, height) if swaps_sides(orientation) else (height, width)
    return apply_orientation(pixels, orientation), file_size


def _load(image, data):
    """An opened Pillow image with its pixels."""
    if image.format != "WEBP" or webp.is_film(data):
        image.load()
        return image
    picture = webp.decode_picture(data)
    picture.info.update(image.info)
    return picture


def open_image(image_file):
    """Opens an image of any format that is read; only its header is read, HEIC and AVIF whole.

    Args:
        image_file: binary file, at its start.

    Returns:
        Pillow image; its `format` is one of `ALL_FORMATS`, or "MPO".

    Raises:
        PIL.UnidentifiedImageError: it has another format.
        Exception: whatever Pillow or libheif raises for a damaged file.
    """
    head = image_file.read(HEAD_BYTES)
    container = heif.container_format(head)
    image_file.seek(0)
    if container:
        return heif.open_container(image_file, container)
    if is_big_endian_bigtiff(head):
        image_file = io.BytesIO(for_pillow(image_file.read()))
    try:
        return Image.open(image_file, formats=FORMATS)
    except Exception as error:
        image_file.seek(0)
        if str(error).startswith("Unsupported BMP"):
            return MaskedBmp(image_file)
        data = image_file.read()
        other_layout = for_pillow(data) if is_tiff(data) else png.without_extras(data)
        if other_layout is None:
            raise
    return Image.open(io.BytesIO(other_layout), formats=FORMATS)


def exif_orientation(image):
    """How an opened Pillow image has to be turned, by its EXIF block and by nothing else.

    Args:
        image: Pillow image from `open_image`; of a PNG, what stands behind its pixels counts
            once it is loaded.

    Returns:
        int, 1 to 8 in a sound file; 1 where the block is damaged.
    """
    if image.format == heif.HEIF:  # libheif has turned it
        return 1
    forget_xmp(image)
    try:
        return image.getexif().get(ORIENTATION_TAG, 1)
    except Exception as error:  # a damaged EXIF block is no reason to refuse the picture
        warnings.warn(f"Corrupt EXIF data: {error}", stacklevel=1)  # for the audit
        return 1


def forget_xmp(image):
    """Takes the XMP block off an image: Pillow falls back to its orientation.

    Args:
        image: Pillow image from `open_image`; its `info` is changed.
    """
    for key in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(key, None)


def explain(error, data):
    """Why Pillow, or another decoder, could not decode an image.

    Args:
        error: the exception that it raised.
        data: bytes of the file.

    Returns:
        (reason, code) of an `ImageError`, two str.
    """
    compression_text = unread_compression(data)
    if compression_text:
        return compression_text, "unsupported"
    if isinstance(error, UnidentifiedImageError):
        if tiff_text := unread_kind(data):
            return tiff_text, "unsupported"
        text, code = unread_format(data) or ("", "undecodable")
        if code == "undecodable":
            none_text = "cannot be decoded: is none of " + ", ".join(ALL_FORMATS)
            text = f"{none_text}; {text}" if text else none_text
        return text, code
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, heif.OtherCodecError) or message.startswith("Unsupported feature"):
        return "is a HEIF file of a kind that is not read; convert it to JPEG", "unsupported"
    if message.startswith("Unsupported BMP"):
        return f"is a BMP of a kind that is not read ({message}); convert it to JPEG", "unsupported"
    # Pillow has no type of its own for a file that is cut off, only words.
    is_cut_off = "truncated" in message.lower() or _is_cut_off(data)
    return f"cannot be decoded: {message}", "truncated" if is_cut_off else "undecodable"


def _is_cut_off(data):
    """Whether a WebP, HEIC or AVIF file has fewer bytes than its header says."""
    if heif.container_format(data):
        return heif.is_cut_off(data)
    announced_size = int.from_bytes(data[4:8], "little") + 8
    is_webp = bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WEBP"
    return is_webp and announced_size > len(data)


def _memory_per_pixel(image, data):
    """Bytes per pixel that decoding an opened Pillow image takes."""
    if image.format == "WEBP":
        return PILLOW_WEBP if webp.is_film(data) else WEBP
    if image.format == heif.AVIF:
        return PILLOW_AVIF
    if isinstance(image, MaskedBmp):
        return PILLOW_MASKED_BMP
    if image.format == heif.HEIF:
        fine_cost = PILLOW_FINE_HEIF_ALPHA if image.has_transparency_data else PILLOW_FINE_HEIF
        return fine_cost if image.is_fine else PILLOW_HEIF
    if image.format in ("JPEG", "MPO"):
        return PILLOW_SEVERAL_SCANS if orientation_and_cost(data)[1] == SEVERAL_SCANS else PILLOW
    if image.format == "TIFF" and image.tile and image.tile[0][0] == "libtiff":
        strip_rows = image.tag_v2.get(TILE_LENGTH) or image.tag_v2.get(ROWS_PER_STRIP)
        strip_fraction = min(1, (strip_rows or image.height) / image.height)
        return PILLOW + strip_fraction * sum(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) / 8
    return PILLOW


def _tiff_grey_range(image):
    """(black, white) of a grey TIFF, opened by Pillow."""
    bits_per_sample = image.tag_v2.get(BITS_PER_SAMPLE, (1,))
    highest = 2 ** bits_per_sample[0] - 1
    if image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        return highest, 0
    return 0, highest


def _scale_transparency(image):
    """Gives the transparent colour of a PNG the 8 bits that Pillow gives its pixels."""
    color = image.info.get("transparency")
    raw_mode = image.tile[0][3] if image.tile else None
    if isinstance(color, int) and raw_mode in ("L;2", "L;4"):
        image.info["transparency"] = color * (85 if raw_mode == "L;2" else 17)
    elif isinstance(color, tuple) and raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in color)


def _rgb_in_bands(image, preprocessing, grey_range):
    """uint8 RGB of a large Pillow image, reduced on the way: whole, it takes 22 bytes per pixel.

    It keeps at least twice the size that `resize_to_square` needs, and averages areas; for "crop"
    only the middle is converted. Bands of whole rows are reduced in width, then the result in
    height. Where the height shrinks more, bands of columns are reduced in height first.
    """
    width, height = image.size
    target_height, target_width = target_size(height, width, preprocessing)
    left = top = 0
    if preprocessing.resize == "crop":
        side = min(width, height)
        left, top, width, height = (width - side) // 2, (height - side) // 2, side, side
        target_height = target_width = preprocessing.size
    rows, columns = min(height, 2 * target_height), min(width, 2 * target_width)
    by_columns = height * columns > width * rows
    line_length, line_count = (height, width) if by_columns else (width, height)
    lines_per_band = max(1, BAND_PIXELS // line_length)
    reduced = np.empty((rows, width, 3) if by_columns else (height, columns, 3), np.uint8)
    for start in range(0, line_count, lines_per_band):
        end = min(start + lines_per_band, line_count)
        if by_columns:
            crop_box, out = (left + start, top, left + end, top + height), reduced[:, start:end]
        else:
            crop_box, out = (left, top + start, left + width, top + end), reduced[start:end]
        band = _rgb(image.crop(crop_box), preprocessing.fill_color, grey_range)
        out[...] = cv2.resize(band, out.shape[1::-1], interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (columns, rows), interpolation=cv2.INTER_AREA)


def _rgb(image, fill_color, grey_range):
    """uint8 (height, width, 3) of a loaded Pillow image of any colour mode.

    `grey_range` is the values of black and of white in an image of 16 bits.
    """
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int32)
        black, highest = grey_range[0], max(grey_range)
        grey_levels = (np.abs(values - black) * 255 + highest // 2) // highest
        grey_levels = np.minimum(grey_levels, 255).astype(np.uint8)
        rgb = cv2.cvtColor(grey_levels, cv2.COLOR_GRAY2RGB)
        if isinstance(image.info.get("transparency"), int):
            rgb[values == image.info["transparency"]] = fill_color
        return rgb
    if image.mode in ("La", "RGBa"):  # colours that are multiplied with their opacity already
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (*fill_color, 255))
        image = Image.alpha_composite(background, image)
    return np.asarray(image.convert("RGB"))
