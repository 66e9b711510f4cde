"""Arrays that a thread uses again and again.

A new array of an image's size costs a page fault every 4 kB, which is a sixth of
the time of decoding a photo. The array that `scratch` returns is overwritten after the same
thread's next call with the same name: never keep it, never return it.
"""

import math
import threading

import numpy as np

MAX_BYTES = 64 << 20  # larger arrays are rare and not worth keeping

_local = threading.local()


def scratch(name, shape):
    """A uint8 array that belongs to this thread, with undefined content.

    Args:
        name: str; arrays of different names never overlap.
        shape: tuple of int.

    Returns:
        uint8 array of that shape.
    """
    byte_count = math.prod(shape)
    if byte_count > MAX_BYTES:
        return np.empty(shape, np.uint8)
    kept_array = getattr(_local, name, None)
    if kept_array is None or kept_array.size < byte_count:
        kept_array = np.empty(byte_count, np.uint8)
        setattr(_local, name, kept_array)
    return kept_array[:byte_count].reshape(shape)


def forget():
    """Frees the arrays of this thread, which may have nothing to do for long."""
    _local.__dict__.clear()
