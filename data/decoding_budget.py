"""One budget of memory for all threads that decode: expensive images wait, cheap ones pass them.

What decoding an image takes is known from its header (`decoding_limits.check_pixels`), before the
memory is taken.
"""

import contextlib
import threading

from common.errors import ImageError

_thread = threading.local()


class NoRoom(BaseException):
    """There is no memory for an image now; no `Exception`, since decoders explain all of those.

    Args:
        size: int, bytes that decoding it takes.
    """

    def __init__(self, size):
        super().__init__(size)
        self.size = size


class DecodingBudget:
    """Bytes that decoding may take, in all threads together.

    Args:
        total: int, bytes.

    Attributes:
        free: int, bytes that no image has.

    Example:
        >>> budget = DecodingBudget(1000)
        >>> with budget.lease():
        ...     reserve(600, "a.jpg")
        ...     budget.free
        400
        >>> budget.free
        1000
    """

    def __init__(self, total):
        self.total = self.free = total
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lease(self):
        """A context in which this thread decodes one image; its memory is free again at the end."""
        lease = _thread.lease = _Lease(self)
        try:
            yield
        finally:
            _thread.lease = None
            with self._lock:
                self.free += lease.size

    def _grow(self, lease, size, name):
        if size > self.total:
            raise ImageError(
                name,
                f"takes {size / 1e6:,.0f} MB of memory to decode, more than the "
                f"{self.total / 1e6:,.0f} MB that this server has for it",
                "too_large",
            )
        with self._lock:
            if size - lease.size > self.free:
                raise NoRoom(size)
            self.free -= max(0, size - lease.size)
            lease.size = max(size, lease.size)


class _Lease:
    def __init__(self, budget):
        self.budget, self.size = budget, 0


def reserve(size, name):
    """Takes memory for the image that this thread decodes, where it does so under a budget.

    Args:
        size: int, bytes; what was reserved for the same image before is part of it.
        name: str that errors call the image.

    Raises:
        NoRoom: others have it now.
        ImageError: it is more than there will ever be.
    """
    lease = getattr(_thread, "lease", None)
    if lease is not None:
        lease.budget._grow(lease, int(size), name)
