"""Keeps images that the model was unsure of, in the sample format, to be labelled later."""

import io
import os
import queue
import threading
import time
from datetime import UTC, datetime

from common.errors import InputError
from common.files import replacing, write_text
from data.pillow_formats import FORMATS
from data.samples import check_labels, label_names_json, sample_line, text_file_name
from deployment.application import log

ENDINGS = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "BMP": ".bmp",
    "WEBP": ".webp",
    "GIF": ".gif",
    "TIFF": ".tif",
}
COUNT_AGAIN = 10  # seconds; other processes keep images as well, and people take them out


class Keeper:
    """Writes images to a folder, in a thread of its own.

    Args:
        folder: made where it does not exist.
        labels: tuple of str, the class names.
        below: an image is kept whose likeliest class has a smaller probability.
        max_bytes: what the folder may hold.

    Raises:
        InputError: the folder cannot be written, or is for other classes.
    """

    def __init__(self, folder, labels, below, max_bytes):
        self._folder, self._labels, self._below = folder, labels, below
        self._max_bytes = max_bytes
        try:
            os.makedirs(folder, exist_ok=True)
            check_labels(folder, labels, "the model")
            if not os.path.exists(os.path.join(folder, "label.json")):
                write_text(os.path.join(folder, "label.json"), label_names_json(labels))
        except OSError as error:
            raise InputError(
                f"--keep_uncertain: {folder} cannot be written: {error.strerror}"
            ) from None
        self._used, self._counted, self._failed = 0, None, False
        self._images = queue.Queue(32)  # more than a disk can take is not kept
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def offer(self, source, row, labels, name):
        """Keeps an image if the model was unsure of it; returns at once.

        Args:
            source: the file's bytes.
            row: float32 (C,), its probabilities.
            labels: the names of the row's classes; an image is not kept of a later model that
                has others.
            name: what tells it from others, part of its file's name.
        """
        if row.max() < self._below and labels == self._labels:
            try:
                self._images.put_nowait((source, int(row.argmax()), name))
            except queue.Full:
                pass

    def close(self):
        """Returns when all is written."""
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

    def _write(self, source, label, name):
        now = time.monotonic()
        if self._counted is None or now - self._counted > COUNT_AGAIN:
            with os.scandir(self._folder) as entries:
                self._used = sum(entry.stat().st_size for entry in entries)
            self._counted = now
        when = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        image = f"{when}-{name}{_ending(source)}"
        line = sample_line(image, label)
        if self._used + len(source) + len(line) > self._max_bytes:
            return
        path = os.path.join(self._folder, image)
        with replacing(path) as partial, open(partial, "wb") as file:
            file.write(source)
        write_text(os.path.join(self._folder, text_file_name(image)), line)
        self._used += len(source) + len(line)


def _ending(source):
    """The ending of a file's name, by its content."""
    from PIL import Image

    with Image.open(io.BytesIO(source), formats=FORMATS) as image:
        return ENDINGS[image.format]
