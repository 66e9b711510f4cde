"""Pictures of photos for the page: as JPEG, upright, of any format that the project reads."""

import os
import threading
from collections import OrderedDict

import cv2

from common.errors import ImageError
from data.decoding import decode
from data.geometry import Preprocessing
from data.photo_files import read_photo

THUMBNAIL, LARGE = 256, 1600  # pixels of the longer side
QUALITY = 85
KEPT_BYTES = 64 * 2**20  # of thumbnails, in memory


class Pictures:
    """Thumbnails, the last ones kept, and large pictures. Threads may share it.

    Example:

    ```python
    jpeg_bytes = Pictures().thumbnail("photos/glass/1.heic")
    ```
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._kept = OrderedDict()  # path, time and size of a file -> bytes
        self._kept_bytes = 0

    def thumbnail(self, path):
        """A photo at 256 pixels at most.

        Args:
            path: str.

        Returns:
            bytes of a JPEG.

        Raises:
            ImageError: it cannot be read or decoded.
        """
        try:
            state = os.stat(path)
        except OSError as error:
            raise ImageError(path, error.strerror, "unreadable") from None
        key = path, state.st_mtime_ns, state.st_size, state.st_ino  # another may take its path
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        picture = render(path, THUMBNAIL)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = picture
                self._kept_bytes += len(picture)
            while self._kept_bytes > KEPT_BYTES:
                _, oldest = self._kept.popitem(last=False)
                self._kept_bytes -= len(oldest)
        return picture


def render(path, side):
    """A photo as a JPEG, no side longer than `side`.

    Args:
        path: str.
        side: int, pixels.

    Returns:
        bytes.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    image = decode(read_photo(path), Preprocessing(side, "letterbox"), path)
    scale = side / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(length * scale)) for length in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    bgr_image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, jpeg_bytes = cv2.imencode(".jpg", bgr_image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return jpeg_bytes.tobytes()
