"""Many image files through a function of batches, with decoding ahead of it."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.errors import ImageError
from data import remote_places
from data.decoding import load

AHEAD = 3  # batches that decoding may be ahead of the model


def stream(paths, preprocessing, compute, batch_size=32, workers=1):
    """Computes a row for each image; decoding runs ahead.

    Args:
        paths: list of image files.
        preprocessing: `geometry.Preprocessing` of the images.
        compute: function from uint8 (N, S, S, 3) to N rows.
        batch_size: int, images it takes at once.
        workers: int, threads that decode.

    Yields:
        (path, answer) in the order of `paths`: a row, or the ImageError of an image that cannot
        be decoded.

    Example:

    ```python
    for path, answer in stream(paths, Preprocessing(224), classifier.probabilities):
        print(path, answer)
    ```
    """

    def decode(path):
        try:
            return load(path, preprocessing)
        except ImageError as error:
            return error

    remaining = iter(paths)
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque()
        while True:
            for path in remaining:
                remote_places.announce([path])
                waiting.append((path, pool.submit(decode, path)))
                if len(waiting) >= AHEAD * batch_size:
                    break
            if not waiting:
                return
            batch = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
            answers = _compute([future.result() for _, future in batch], compute)
            yield from zip([path for path, _ in batch], answers)
    finally:
        pool.shutdown(cancel_futures=True)


def _compute(decoded, compute):
    """Replaces images by their rows, and leaves errors as they are."""
    images = [image for image in decoded if not isinstance(image, ImageError)]
    rows = iter(compute(np.stack(images)) if images else ())
    return [image if isinstance(image, ImageError) else next(rows) for image in decoded]
