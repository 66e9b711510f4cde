"""Keeps images that the model was unsure of, in the sample format, to be labelled later."""

import io
import os
import queue
import threading
import time
from datetime import UTC, datetime

from common.errors import InputError
from common.files import replacing, write_text
from data.kept_images import kept_name
from data.label_names import check_labels, label_names_json
from data.pillow_formats import open_image
from data.samples import sample_line, text_file_name
from deployment.log import log

EXTENSIONS = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "BMP": ".bmp",
    "WEBP": ".webp",
    "GIF": ".gif",
    "TIFF": ".tif",
    "HEIF": ".heic",
    "AVIF": ".avif",
}
USAGE_SECONDS = 10  # how long a folder's size is believed: others add and remove files as well
MAX_WAITING_BYTES = 16 << 20  # images beyond what the disk can take are not kept


class Keeper:
    """Writes images to a folder, in a thread of its own.

    Args:
        folder: str, created where it does not exist.
        class_names: tuple of str, in the order of their ids.
        below: float, 0 to 1. An image is kept if its highest probability is smaller.
        max_bytes: maximum size of the folder's files together.

    Raises:
        InputError: the folder cannot be written, or is for other classes.

    Example:
        >>> keeper = Keeper("uncertain", ("glass", "paper"), 0.5, 500e6)
        >>> keeper.offer(image_bytes, np.float32([0.45, 0.55]), ("glass", "paper"), "request-0")
        >>> keeper.close()
    """

    def __init__(self, folder, class_names, below, max_bytes):
        self._folder, self._class_names, self._below = folder, class_names, below
        self._max_bytes = max_bytes
        try:
            self._make_folder()
        except OSError as error:
            raise InputError(
                f"--keep_uncertain: {folder} cannot be written: {error.strerror}"
            ) from None
        self._used_bytes, self._measured_at, self._failed = 0, None, False
        self._images, self._waiting_bytes = queue.SimpleQueue(), 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def _make_folder(self):
        # What users sent is for whoever runs the server, and for nobody else on the machine.
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        check_labels(self._folder, self._class_names, "the model")
        label_path = os.path.join(self._folder, "label.json")
        if not os.path.exists(label_path):
            write_text(label_path, label_names_json(self._class_names))

    def offer(self, source, probabilities, class_names, name):
        """Keeps an image if the model was unsure of it; returns at once.

        Args:
            source: bytes-like, the image file.
            probabilities: float32 (C,).
            class_names: tuple of str, the classes of `probabilities`. An image is not kept where
                they are not the folder's, because the model has been replaced since.
            name: str, part of the name of the image's file, different for every image.
        """
        if probabilities.max() >= self._below or class_names != self._class_names:
            return
        with self._lock:
            has_room = self._waiting_bytes + len(source) <= MAX_WAITING_BYTES
            self._waiting_bytes += len(source) * has_room
        if has_room:  # a copy, since the body that it is a part of may be much larger
            self._images.put((bytes(source), int(probabilities.argmax()), name))

    def close(self):
        """Takes no more images, and returns when all are written."""
        self._images.put(None)
        self._thread.join()

    def _write_all(self):
        while (task := self._images.get()) is not None:
            try:
                self._write(*task)
                self._failed = False
            except Exception as error:
                if not self._failed:  # a full disk need not fill the log too
                    log(f"--keep_uncertain: an image could not be kept: {error}")
                self._failed = True
            finally:
                with self._lock:
                    self._waiting_bytes -= len(task[0])
            del task  # this thread may wait long for the next

    def _write(self, source, class_id, name):
        self._measure_folder()
        image_name = kept_name(datetime.now(UTC), name, _extension(source))
        text_line = sample_line(image_name, class_id)
        new_bytes = len(source) + len(text_line)
        if self._used_bytes + new_bytes > self._max_bytes:
            return
        image_path = os.path.join(self._folder, image_name)
        with replacing(image_path) as partial_path:
            with open(partial_path, "wb", opener=_open_private) as image_file:
                image_file.write(source)
        write_text(os.path.join(self._folder, text_file_name(image_name)), text_line)
        self._used_bytes += new_bytes

    def _measure_folder(self):
        now = time.monotonic()
        if self._measured_at is None or now - self._measured_at > USAGE_SECONDS:
            with os.scandir(self._folder) as entries:
                self._used_bytes = sum(map(_size, entries))
            self._measured_at = now


def _size(entry):
    """The bytes of a file, 0 where it has just gone; a link's own, which may lead nowhere."""
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _open_private(path, flags):
    return os.open(path, flags, 0o600)


def _extension(source):
    """The extension of an image file, which its content decides."""
    with open_image(io.BytesIO(source)) as image:
        return EXTENSIONS[image.format]
