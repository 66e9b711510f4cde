"""BMPs of 16 or 32 bits per pixel whose masks Pillow doesn't know.

OpenCV takes the masks of most of them for the usual ones, so they are decoded here.
"""

import struct

import numpy as np
from PIL import ImageFile

# Values of the field biCompression of BITMAPINFOHEADER: masks say where each colour is
BITFIELDS, ALPHA_BITFIELDS = 3, 6
MASKS_START = 54  # in the file, whether they belong to the header or follow it
BAND_PIXELS = 1 << 20  # converted at a time


class MaskedBmp(ImageFile.ImageFile):
    """A BMP whose colours lie anywhere in 16 or 32 bits, as a Pillow image."""

    format = "BMP"

    def _open(self):
        header = self.fp.read(MASKS_START + 16).ljust(MASKS_START + 16, b"\0")
        self._start, header_size, width, height = struct.unpack_from("<IIii", header, 10)
        self._bits, compression = struct.unpack_from("<HI", header, 28)
        has_masks = header_size >= 40 and compression in (BITFIELDS, ALPHA_BITFIELDS)
        if not has_masks or self._bits not in (16, 32) or width <= 0 or height == 0:
            raise OSError("Unsupported BMP layout")
        self._is_upside_down = height > 0  # the lowest row comes first
        self._size = width, abs(height)
        has_opacity = header_size >= 56 or compression == ALPHA_BITFIELDS
        masks = struct.unpack_from("<4I", header, MASKS_START)
        self._masks = masks if has_opacity and masks[3] else masks[:3]
        self._mode = "RGBA" if len(self._masks) == 4 else "RGB"
        self._is_loaded = False

    def load(self):
        """Decodes the pixels once; see `PIL.ImageFile.ImageFile.load`."""
        if not self._is_loaded:
            self.load_prepare()
            self.frombytes(self._pixels(), "raw", self.mode)
            self._is_loaded = True
        return super().load()

    def _pixels(self):
        """uint8 (height, width, channels)."""
        width, height = self.size
        value_bytes = self._bits // 8
        row_bytes = (width * self._bits + 31) // 32 * 4
        self.fp.seek(self._start)
        data = self.fp.read(row_bytes * height)
        if len(data) < row_bytes * height:
            raise OSError("image file is truncated")
        values = np.frombuffer(data, f"<u{value_bytes}").reshape(height, -1)[:, :width]
        if self._is_upside_down:
            values = values[::-1]
        pixels = np.empty((height, width, len(self._masks)), np.uint8)
        rows_per_band = max(1, BAND_PIXELS // width)
        for top in range(0, height, rows_per_band):
            band = slice(top, top + rows_per_band)
            for index, mask in enumerate(self._masks):
                pixels[band, :, index] = _channel(values[band], mask)
        return pixels


def _channel(values, mask):
    """float32 of the shape of `values`, 0 to 255: the bits that a mask leaves, as a number."""
    if not mask:
        return np.zeros(values.shape, np.float32)
    shift = (mask & -mask).bit_length() - 1
    numbers = ((values & mask) >> shift).astype(np.float32)
    return np.rint(numbers * np.float32(255 / (mask >> shift)))
