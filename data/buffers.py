"""Arrays that a thread uses again and again.

A fresh array of an image's size costs a page fault every 4 kB, which is a sixth of
the time of decoding a photo. What is handed out here is overwritten by the same
thread's next call under the same name: never keep it, never return it.
"""

import math
import threading

import numpy as np

LIMIT = 64 << 20  # bytes; rarer and larger ones are not worth keeping

_local = threading.local()


def scratch(name, shape):
    """A uint8 array of this thread's, with undefined content.

    Args:
        name: str; arrays of different names never overlap.
        shape: tuple of int.
    """
    size = math.prod(shape)
    if size > LIMIT:
        return np.empty(shape, np.uint8)
    array = getattr(_local, name, None)
    if array is None or array.size < size:
        array = np.empty(size, np.uint8)
        setattr(_local, name, array)
    return array[:size].reshape(shape)
