"""TIFFs that Pillow does not decode, or not rightly: put in another layout, or refused by name.

- Samples that are signed, floating-point or of more than 16 bits have no defined white.
- Colours in planes (tag 284 = 2), which Pillow confuses, are decoded plane by plane, each as a
  grey TIFF in the same bytes.
- Big-endian BigTIFF, which Pillow does not open, becomes a classic TIFF in the same way.
- Grey with opacity that is not in planes is read if it has 8 bits and 0 is black.

Tags and their values: TIFF Revision 6.0, Adobe 1992.
"""

import io

import numpy as np
from PIL import Image

from common.errors import ImageError
from data.decoding_limits import PLANAR_CMYK_TIFF, PLANAR_TIFF, check_pixels
from data.geometry import apply_orientation, swaps_sides
from data.tiff_tags import classic_tiff, is_big_endian_bigtiff, is_tiff, read_bytes, read_tags

WIDTH, HEIGHT, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, SAMPLES_PER_PIXEL, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 274, 277, 284, 338, 339
POSITIONS = ((273, 279), (324, 325))  # tags of the positions and sizes of strips, and of tiles
# What says how samples are packed: fill order, rows per strip, predictor, sizes of tiles
PACKING = (WIDTH, HEIGHT, COMPRESSION, 266, 278, 317, 322, 323)
# All that is needed to decode; among them the colour map, and YCbCr's subsampling and reference
DESCRIBING = {*PACKING, BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION, SAMPLES_PER_PIXEL, PLANAR}
DESCRIBING |= {EXTRA_SAMPLES, SAMPLE_FORMAT, 320, 530, 532, *POSITIONS[0], *POSITIONS[1]}
TILE_WIDTH, TILE_HEIGHT, JPEG_TABLES = 322, 323, 347
LARGE_TILE = 1 << 20  # pixels; libtiff makes room for a whole tile, whatever the image's size
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5  # values of PHOTOMETRIC
PLANES = 2  # a value of PLANAR
ASSOCIATED, UNASSOCIATED = 1, 2  # values of EXTRA_SAMPLES: opacity, multiplied already or not
MAX_POSITIONS = 1 << 20
NUMBERS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}  # of SAMPLE_FORMAT
# Of COMPRESSION; which of them can be decoded depends on how Pillow's libtiff was built.
COMPRESSIONS = {
    6: "JPEG in the layout before 1995",
    22610: "JPEG XR",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
COLORS = {  # of PHOTOMETRIC
    WHITE_IS_ZERO: "grey",
    BLACK_IS_ZERO: "grey",
    RGB: "RGB",
    3: "palette",
    4: "mask",
    CMYK: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    9: "CIELAB",
    10: "CIELAB",
    32844: "LogL",
    32845: "LogLuv",
}
AS_PNG = "save it as PNG"


def decode_planes(data, preprocessing, name):
    """Decodes a TIFF whose colours are in planes, or of 16 bits whose 0 is white; upright.

    Args:
        data: bytes of a file.
        preprocessing: `geometry.Preprocessing`.
        name: str that errors call the image.

    Returns:
        (uint8 (height, width, 3), RGB; (height, width) of the file). None for another file.

    Raises:
        ImageError: a kind of TIFF that is not read, or a limit is exceeded.
        Exception: whatever Pillow raises for a damaged plane.
    """
    if not is_tiff(data):
        return None
    tags = read_tags(data)
    problem = _problem(tags)
    if problem:
        raise ImageError(name, f"is a TIFF {problem}", "unsupported")
    height, width = _first(tags, HEIGHT, 0), _first(tags, WIDTH, 0)
    tile_width, tile_height = _first(tags, TILE_WIDTH, 0), _first(tags, TILE_HEIGHT, 0)
    if tile_width * tile_height > max(4 * height * width, LARGE_TILE):
        raise ImageError(
            name, f"has tiles of {tile_width} x {tile_height} pixels, too many", "too_large"
        )
    if not _is_planar(tags) and not _is_fine_white_is_zero(tags):
        return None
    check_pixels(height, width, _memory_per_pixel(data, tags), preprocessing, name)
    planes = [_decode_plane(data, index) for index in range(_color_count(tags))]
    opacity_kind = _first(tags, EXTRA_SAMPLES, 0)
    opacity = None
    if opacity_kind in (ASSOCIATED, UNASSOCIATED):
        opacity = _decode_plane(data, len(planes))
    image = _merge(planes, _first(tags, PHOTOMETRIC, RGB))
    if opacity is not None:
        _blend(image, opacity, opacity_kind, preprocessing.fill_color)
    orientation = _first(tags, ORIENTATION, 1)
    file_size = (width, height) if swaps_sides(orientation) else (height, width)
    return apply_orientation(image, orientation), file_size


def for_pillow(data):
    """A TIFF whose header Pillow does not understand, in a layout that it opens.

    Args:
        data: bytes of a file.

    Returns:
        bytes: a classic TIFF for a big-endian BigTIFF; one whose 0 is black, and its picture
        therefore inverted, for 16 bits whose 0 is white; other files as they are.
    """
    tags = read_tags(data)
    is_inverted = _is_fine_white_is_zero(tags)
    if not is_inverted and not is_big_endian_bigtiff(data):
        return data
    tags = read_tags(data, MAX_POSITIONS)
    classic_tags = {tag: values for tag, values in tags.items() if tag in DESCRIBING}
    if is_inverted:
        classic_tags[PHOTOMETRIC] = (BLACK_IS_ZERO,)
    return classic_tiff(data, classic_tags | _jpeg_tables(data))


def unread_compression(data):
    """What a TIFF is that could not be decoded because of what is inside.

    Args:
        data: bytes of the file.

    Returns:
        str, what it is and what to do; None where the compression is not the reason.
    """
    compression = COMPRESSIONS.get(_first(read_tags(data), COMPRESSION, 1))
    if compression is None:
        return None
    return f"is a TIFF with {compression} inside, which is not read; save it without compression"


def unread_kind(data):
    """What a sound TIFF is that Pillow does not know.

    Args:
        data: bytes of the file.

    Returns:
        str, what it is and what to do; None where it is no TIFF, or its tags make no sense.
    """
    tags = read_tags(data)
    bits, sample_count = tags.get(BITS_PER_SAMPLE) or (1,), _first(tags, SAMPLES_PER_PIXEL, 1)
    color_name = COLORS.get(_first(tags, PHOTOMETRIC, None))
    sides = _first(tags, WIDTH, 0), _first(tags, HEIGHT, 0)
    if not color_name or not all(sides) or not 0 < max(bits) <= 64 or not _has_pixels(data, tags):
        return None
    text = f"{sample_count} x {max(bits)} bits per pixel ({color_name})"
    return f"is a TIFF with {text}, which is not read; {AS_PNG}"


def _has_pixels(data, tags):
    """Whether the strips or tiles that the tags name lie in the file."""
    for position_tag, size_tag in POSITIONS:
        positions, sizes = tags.get(position_tag), tags.get(size_tag)
        if positions and sizes and len(positions) == len(sizes):
            return all(start + size <= len(data) for start, size in zip(positions, sizes))
    return False


def _first(tags, tag, default):
    return tags[tag][0] if tags.get(tag) else default


def _is_planar(tags):
    return _first(tags, PLANAR, 1) == PLANES and _first(tags, SAMPLES_PER_PIXEL, 1) > 1


def _is_fine_white_is_zero(tags):
    """Whether it is of one plane of 16 bits whose 0 is white: Pillow opens them in one order."""
    is_grey = _first(tags, SAMPLES_PER_PIXEL, 1) == 1
    return (
        is_grey and tags.get(PHOTOMETRIC) == (WHITE_IS_ZERO,) and tags.get(BITS_PER_SAMPLE) == (16,)
    )


def _color_count(tags):
    """How many planes hold colours, without opacity."""
    return {RGB: 3, CMYK: 4}.get(_first(tags, PHOTOMETRIC, RGB), 1)


def _problem(tags):
    """What makes a TIFF one that is not read, and what to do; None where nothing does."""
    advice = "save it with unsigned 8 or 16 bits"
    for sample_format in tags.get(SAMPLE_FORMAT, ()):
        if sample_format in NUMBERS:
            return f"of {NUMBERS[sample_format]} numbers, which have no defined white; {advice}"
    bits = tags.get(BITS_PER_SAMPLE) or (1,)
    if max(bits) > 16:
        return f"of {max(bits)} bits per sample, which have no defined white; {advice}"
    photometric = _first(tags, PHOTOMETRIC, BLACK_IS_ZERO)
    if _is_planar(tags):
        kinds = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK)
        sample_count = _first(tags, SAMPLES_PER_PIXEL, 1)
        is_grey = photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
        is_known = sample_count <= 2 if is_grey else sample_count >= _color_count(tags)
        if photometric in kinds and set(bits) in ({8}, {16}) and is_known:
            return None
        return f"of {sample_count} planes of {max(bits)} bits of a kind that is not read; {AS_PNG}"
    if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and _first(tags, SAMPLES_PER_PIXEL, 1) > 1:
        if _first(tags, SAMPLES_PER_PIXEL, 1) > 2:
            return f"of several grey values per pixel, which is not read; {AS_PNG}"
        if max(bits) > 8:
            return f"of grey values of {max(bits)} bits with opacity, which is not read; {AS_PNG}"
        if photometric == WHITE_IS_ZERO:
            return f"whose 0 is white, with opacity, which is not read; {AS_PNG}"
    return None


def _memory_per_pixel(data, tags):
    """Bytes per pixel that decoding planes takes, with two copies of the file."""
    pixel_count = max(1, _first(tags, WIDTH, 0) * _first(tags, HEIGHT, 0))
    sample_bytes = sum(tags.get(BITS_PER_SAMPLE, (1,))) / 8
    base_cost = PLANAR_CMYK_TIFF if _first(tags, PHOTOMETRIC, RGB) == CMYK else PLANAR_TIFF
    return base_cost + 2 * min(sample_bytes, len(data) / pixel_count)


def _decode_plane(data, index):
    """uint8 (height, width), the samples of one plane, 0 to 255."""
    tags = read_tags(data, MAX_POSITIONS)
    plane_tags = {tag: tags[tag] for tag in PACKING if tag in tags}
    plane_count = _first(tags, SAMPLES_PER_PIXEL, 1)
    for position_tag, size_tag in POSITIONS:
        if position_tag in tags:
            count = len(tags[position_tag]) // plane_count
            for tag in (position_tag, size_tag):
                plane_tags[tag] = tags.get(tag, ())[index * count : (index + 1) * count]
    bits = max(tags[BITS_PER_SAMPLE])
    plane_tags |= {BITS_PER_SAMPLE: (bits,), PHOTOMETRIC: (BLACK_IS_ZERO,), SAMPLES_PER_PIXEL: (1,)}
    plane_file = io.BytesIO(classic_tiff(data, plane_tags | _jpeg_tables(data)))
    with Image.open(plane_file, formats=("TIFF",)) as image:
        samples = np.asarray(image)
    if bits == 8:
        return samples
    # By rows, since 32 bits of all would take twice the memory.
    plane = np.empty(samples.shape, np.uint8)
    for row, row_samples in zip(plane, samples):
        row[:] = (row_samples.astype(np.uint32) * 255 + 32767) // 65535
    return plane


def _jpeg_tables(data):
    """The tag of the tables that strips of JPEGs share, as `classic_tiff` takes it."""
    tables = read_bytes(data, JPEG_TABLES)
    return {JPEG_TABLES: tables} if tables else {}


def _merge(planes, photometric):
    """uint8 (height, width, 3), RGB, of the planes of colours."""
    if photometric == CMYK:
        image = Image.merge("CMYK", [Image.fromarray(plane) for plane in planes])
        return np.array(image.convert("RGB"))
    if photometric == WHITE_IS_ZERO:
        planes = [255 - planes[0]]
    return np.stack(planes if len(planes) == 3 else planes * 3, axis=-1)


def _blend(image, opacity, opacity_kind, fill_color):
    """Shows the fill colour where an image is transparent, changing it, row by row."""
    fill_color = np.asarray(fill_color, np.float32)
    for row, opacity_row in zip(image, opacity):
        fractions = opacity_row[:, None].astype(np.float32) / 255
        colors = row * fractions if opacity_kind == UNASSOCIATED else row
        row[:] = np.clip(np.rint(colors + (1 - fractions) * fill_color), 0, 255)
