"""Memory for the bodies of requests: one budget for all, and given back to the system at once."""

import io
import mmap
import threading
import weakref

SMALL = 1 << 18  # bytes up to which new pages cost more time than they are worth


class BodyBudget:
    """How many bytes of bodies may be in memory at once, from the first byte to the last use.

    A body gets its place before any of it is read, and at most half of what is free: so that
    large bodies always leave room for small ones.

    Args:
        total: int, bytes.

    Attributes:
        free: int, bytes that no body has.

    Example:
        >>> budget = BodyBudget(1000)
        >>> [budget.take(300) is not None for _ in range(3)]
        [True, True, False]
    """

    def __init__(self, total):
        self.free = total
        # Of the same thread again: an old body may end while a new one gets its place.
        self._lock = threading.RLock()

    def fits(self, size):
        """Whether a body of so many bytes would get a place now, bool."""
        return size <= self.free // 2

    def take(self, size):
        """Gives a body its place.

        Args:
            size: int, bytes.

        Returns:
            `Body`, or None where there is no room.
        """
        with self._lock:
            if not self.fits(size):
                return None
            self.free -= size
        try:
            return Body(size, self)
        except (OSError, ValueError):  # the system has no memory for it
            self.give_back(size)
            return None

    def give_back(self, size):
        """Takes bytes back that a body does not need any more.

        Args:
            size: int.
        """
        with self._lock:
            self.free += size


class _SmallPages(bytearray):
    """Memory of a small body, to which there can be weak references."""


class Body:
    """The body of a request; a large one in pages of its own, not in the allocator's memory.

    Its place in the budget ends with the memory, when nothing refers to it any more.

    Args:
        capacity: int, maximum number of bytes.
        budget: `BodyBudget`, which has given it the place.
    """

    def __init__(self, capacity, budget):
        self._pages = _SmallPages(capacity) if capacity <= SMALL else mmap.mmap(-1, capacity)
        self._budget, self._place = budget, [capacity]
        release = weakref.finalize(self._pages, _give_back, budget, self._place)
        release.atexit = False
        self._length, self.capacity = 0, capacity

    def __len__(self):
        return self._length

    def append(self, data):
        """Adds bytes.

        Args:
            data: bytes-like, not more than what is left of the capacity.
        """
        end = self._length + len(data)
        self._pages[self._length : end] = data
        self._length = end

    def finish(self):
        """Gives back the place that was not needed; there is no more to come."""
        self._budget.give_back(self._place[0] - self._length)
        self._place[0] = self.capacity = self._length

    def view(self):
        """The bytes, as a memoryview that keeps them in memory."""
        return memoryview(self._pages)[: self._length]

    def getfile(self):
        """The bytes as a file, which WSGI asks for."""
        return io.BufferedReader(_Stream(self.view()))

    def close(self):
        """Lets go of the memory; views of it keep it."""
        self._pages = b""
        self._length = 0


def _give_back(budget, place):
    budget.give_back(place[0])


class _Stream(io.RawIOBase):
    def __init__(self, view):
        self._view = view

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(len(buffer), len(self._view))
        buffer[:count] = self._view[:count]
        self._view = self._view[count:]
        return count
