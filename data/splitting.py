"""Holding a part of the samples out, decided by the bytes of each image."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.errors import InputError


def split(samples, fraction, workers=1):
    """Holds a part of the samples out, the same ones however many are added later.

    A sample is held out if a hash of its image's bytes lies below `fraction`, so the sizes of
    the parts are approximate. A class of which none would be held out gives the image with its
    lowest hash, and a class of which all would be keeps the one with its highest. A class with
    a single image keeps it for training. Equal files stay together.

    Args:
        samples: `Samples`.
        fraction: expected fraction of the samples to hold out, above 0 and below 1.
        workers: threads that read and hash.

    Returns:
        (remaining, held out), two `Samples`.

    Raises:
        InputError: an image file cannot be read.

    Example:

    ```python
    training, validation = split(samples, 0.2, workers=4)
    ```
    """
    hashes = _hash_images(samples, workers)
    is_held_out = hashes < np.uint64(int(fraction * 2**64))
    for class_id in np.unique(samples.class_ids):
        class_members = np.flatnonzero(samples.class_ids == class_id)
        class_hashes = hashes[class_members]
        if (class_hashes == class_hashes[0]).all():
            is_held_out[class_members] = False
        elif not is_held_out[class_members].any():
            is_held_out[class_members[class_hashes == class_hashes.min()]] = True
        elif is_held_out[class_members].all():
            is_held_out[class_members[class_hashes == class_hashes.max()]] = False
    return (
        samples.select(np.flatnonzero(~is_held_out)),
        samples.select(np.flatnonzero(is_held_out)),
    )


def content_hash(data, part=0):
    """64 bits of the SHA-256 of a file's bytes, as a whole number.

    Args:
        data: bytes.
        part: 0 to 3. Different parts are independent of each other, so that what one split has
            left can be split again by another.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[8 * part : 8 * part + 8], "big")


def _hash_images(samples, workers):
    """uint64 (N,), the `content_hash` of each image file."""
    from tqdm import tqdm

    def hash_image(file_name):
        image_path = os.path.join(samples.folder, file_name)
        try:
            with open(image_path, "rb") as image_file:
                return content_hash(image_file.read())
        except OSError as error:
            raise InputError(f"{image_path}: {error.strerror}") from None

    image_count = len(samples.file_names)
    with ThreadPoolExecutor(workers) as pool:
        progress = tqdm(
            pool.map(hash_image, samples.file_names),
            "splitting",
            image_count,
            unit="images",
            leave=False,
            disable=None,
            delay=1,
        )
        return np.fromiter(progress, np.uint64, image_count)
