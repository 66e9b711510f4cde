"""What decoding an image may cost: pixels, scans, memory.

Every limit is checked before an image is decoded, by what its header says: a file of some hundred
bytes can announce an image that fills the memory.
"""

from common.errors import ImageError
from data import decoding_budget

MAX_PIXELS = 200_000_000
MAX_SIDE = 1_000_000  # pixels; a row is the minimum that is converted at a time
MAX_SCANS = 100  # of a progressive JPEG
MAX_MEMORY = 450_000_000  # bytes that decoding may take
# Measured memory of decoding, in bytes per pixel. A plain JPEG is reduced while it is read. One
# of several scans is collected as a whole first, before Pillow in four colours. Pillow keeps four
# copies of a WebP, OpenCV two. Pillow keeps one copy of other formats, and libtiff a strip as
# well. libheif converts in more steps where colours have more than half the resolution (4:2:2,
# 4:4:4), or where there is opacity of 10 bits.
PLAIN_JPEG, SEVERAL_SCANS, PILLOW, PILLOW_SEVERAL_SCANS = 1, 6, 5, 13
PILLOW_HEIF, PILLOW_FINE_HEIF, PILLOW_FINE_HEIF_ALPHA, PILLOW_AVIF = 9, 16, 21, 16
WEBP, PILLOW_WEBP = 10, 17
PILLOW_MASKED_BMP = 11  # the file's pixels, an array and Pillow's copy
# The file twice comes on top; printing colours are converted at the end.
PLANAR_TIFF, PLANAR_CMYK_TIFF = 14, 22


def check_pixels(height, width, memory_per_pixel, preprocessing, name):
    """Refuses an image that has too many pixels or takes too much memory, and reserves the memory.

    Args:
        height, width: int, in pixels, as the file's header gives them.
        memory_per_pixel: bytes per pixel that decoding takes.
        preprocessing: `geometry.Preprocessing`, which limits the number of pixels.
        name: str that errors call the image.

    Raises:
        ImageError: a limit is exceeded.
        decoding_budget.NoRoom: the thread decodes under a budget, which others have taken.
    """
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            name,
            f"has {width} x {height} pixels; a side may have {MAX_SIDE:,} at most",
            "too_large",
        )
    max_pixels = min(preprocessing.max_pixels, int(MAX_MEMORY / memory_per_pixel))
    if height * width > max_pixels:
        raise ImageError(
            name,
            f"has {width} x {height} pixels, more than the {max_pixels:,} allowed",
            "too_large",
        )
    decoding_budget.reserve(height * width * memory_per_pixel, name)
