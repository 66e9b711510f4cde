"""What decoding an image may cost: pixels, scans, memory."""

from common.errors import ImageError

MAX_PIXELS = 200_000_000
MAX_SIDE = 1_000_000  # a row is the least that is converted at a time
MAX_SCANS = 100  # of a progressive JPEG
# Bytes that decoding may take. Measured bytes a pixel: a plain JPEG is reduced as it is read, one
# of several scans is gathered whole first (before Pillow, in four colours), WebP's decoder keeps
# four copies, of other formats Pillow keeps one (and libtiff a strip).
MAX_MEMORY = 450_000_000
PLAIN_JPEG, SEVERAL_SCANS, PILLOW, PILLOW_SEVERAL_SCANS, PILLOW_WEBP = 1, 6, 5, 13, 17


def check_pixels(height, width, cost, preprocessing, name):
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            name, f"has {width} x {height} pixels; a side may have {MAX_SIDE:,} at most"
        )
    most = min(preprocessing.max_pixels, int(MAX_MEMORY / cost))
    if height * width > most:
        raise ImageError(name, f"has {width} x {height} pixels, more than the {most:,} allowed")
