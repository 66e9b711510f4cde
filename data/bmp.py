"""BMPs of 16 or 32 bits per pixel whose masks Pillow doesn't know.

OpenCV takes the masks of most of them for the usual ones, so they are decoded here.
"""

import struct

import numpy as np

from data.decoding_limits import PILLOW, check_pixels

# Values of the field biCompression of BITMAPINFOHEADER: masks say where each colour is
BITFIELDS, ALPHA_BITFIELDS = 3, 6
MASKS_START = 54  # in the file, whether they belong to the header or follow it
BAND_PIXELS = 1 << 20  # converted at a time


def decode_masked_bmp(data, preprocessing, name):
    """Decodes a BMP whose colours lie anywhere in 16 or 32 bits; transparent parts show the fill.

    Args:
        data: bytes of the file.
        preprocessing: `geometry.Preprocessing`, for its limit on pixels and its fill colour.
        name: str that errors call the image.

    Returns:
        (uint8 (height, width, 3), RGB; (height, width)). None for any other file, and for one
        that is cut off.

    Raises:
        ImageError: a limit is exceeded.
    """
    if bytes(data[:2]) != b"BM" or len(data) < MASKS_START + 16:
        return None
    start, header_size, width, height = struct.unpack_from("<IIii", data, 10)
    bits, compression = struct.unpack_from("<HI", data, 28)
    is_upside_down = height > 0  # the lowest row comes first
    height = abs(height)
    has_masks = header_size >= 40 and compression in (BITFIELDS, ALPHA_BITFIELDS)
    if not has_masks or bits not in (16, 32) or width <= 0 or height == 0:
        return None
    check_pixels(height, width, PILLOW, preprocessing, name)
    row_bytes = (width * bits + 31) // 32 * 4
    if start + row_bytes * height > len(data):
        return None
    value_bytes = bits // 8
    count = row_bytes // value_bytes * height
    values = np.frombuffer(data, f"<u{value_bytes}", count, start).reshape(height, -1)[:, :width]
    masks = list(struct.unpack_from("<4I", data, MASKS_START))
    has_opacity = header_size >= 56 or compression == ALPHA_BITFIELDS
    if not has_opacity or not (values & masks[3]).any():  # nothing at all would be seen
        masks[3] = 0
    if is_upside_down:
        values = values[::-1]
    image = np.empty((height, width, 3), np.uint8)
    rows_per_band = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows_per_band):
        band = slice(top, top + rows_per_band)
        image[band] = _colors(values[band], masks, preprocessing.fill_color)
    return image, (height, width)


def _colors(values, masks, fill_color):
    """float32 (rows, width, 3), the colours in `values`, rounded, by masks of red to opacity."""
    channels = [_channel(values, mask) for mask in masks]
    rgb = np.stack(channels[:3], axis=-1)
    if masks[3]:
        opacity = channels[3][..., None] / 255
        rgb = opacity * rgb + (1 - opacity) * np.float32(fill_color)
    return np.rint(rgb)


def _channel(values, mask):
    """float32 of the shape of `values`, 0 to 255: the bits that a mask leaves, as a number."""
    if not mask:
        return np.zeros(values.shape, np.float32)
    shift = (mask & -mask).bit_length() - 1
    return ((values & mask) >> shift).astype(np.float32) * np.float32(255 / (mask >> shift))
