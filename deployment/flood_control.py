"""What keeps hundreds of clients that come at once from keeping all others out."""

import threading
import time
from collections import deque

# Requests that threads read at once. More would only wait for Python's interpreter lock, as would
# the loop, behind all of them.
BEGINNERS = 4
# Refusals that are answered at once, per second; others are, after REFUSAL_SECONDS: who is refused
# and comes again at once would have the loop do nothing else.
QUICK_REFUSALS, REFUSAL_SECONDS = 50, 1


class Gate:
    """Lets a few requests begin at a time; the next may when one waits for the model, or is done.

    Example:
        >>> gate = Gate()
        >>> [gate.enter(channel) for channel in channels[: BEGINNERS + 1]]
        [True, True, True, True, False]
        >>> gate.leave(channels[0].requests[0]) is channels[BEGINNERS]
        True
    """

    def __init__(self):
        self._count, self._later, self._lock = 0, deque(), threading.Lock()

    def enter(self, channel):
        """Whether the first request of a connection may begin now, bool; else it is kept for later.

        Args:
            channel: `http_channel.Channel`.
        """
        with self._lock:
            if self._count >= BEGINNERS:
                self._later.append(channel)
                return False
            self._count += 1
            channel.requests[0].is_beginning = True
            return True

    def leave(self, request):
        """Takes note that a request keeps no other from beginning any more.

        Args:
            request: `http_parser.Parser`; the second time, or of one that did not enter, nothing
                happens.

        Returns:
            The `Channel` whose request may begin now, or None.
        """
        with self._lock:
            if not request.is_beginning:
                return None
            request.is_beginning = False
            while self._later:
                channel = self._later.popleft()
                if channel.requests:
                    channel.requests[0].is_beginning = True
                    return channel
            self._count -= 1
            return None


class RefusalPace:
    """Puts refusals off where there are too many; they keep nobody from taking their place."""

    def __init__(self):
        self._second, self._count, self._postponed = 0.0, 0, deque()

    def postpone(self, channel):
        """Whether a refusal was put off, bool; else it is to be sent at once.

        Args:
            channel: `http_channel.Channel`, whose first request is refused.
        """
        now = time.monotonic()
        if now >= self._second + 1:
            self._second, self._count = now, 0
        self._count += 1
        if self._count <= QUICK_REFUSALS:
            return False
        channel.answer_due = now + REFUSAL_SECONDS
        self._postponed.append(channel)
        return True

    def take_due(self):
        """The connections whose refusals are to be sent now, a list of `Channel`."""
        now, due = time.monotonic(), []
        while self._postponed and self._postponed[0].answer_due <= now:
            channel = self._postponed.popleft()
            channel.answer_due = 0.0
            if channel.connected and channel.requests:  # else it has made room for another
                due.append(channel)
        return due


class MemoryRow:
    """Connections whose bodies wait for memory, unread, in the order in which they came.

    Args:
        budget: `body_memory.BodyBudget`.
    """

    def __init__(self, budget):
        self._budget, self._row = budget, []

    def waiting(self):
        """The connections that still wait, a list of `Channel`."""
        self._row = [channel for channel in self._row if channel.room_deadline]
        return self._row

    def take(self, channel, size):
        """Memory for a body, unless one of its size or less waits already: smaller ones pass.

        Args:
            channel: `http_channel.Channel`, which joins the row where there is no room.
            size: int, bytes.

        Returns:
            `body_memory.Body`, or None.
        """
        has_to_wait = any(other.body_size <= size for other in self.waiting())
        body = None if has_to_wait else self._budget.take(size)
        if body is None:
            channel.body_size = size
            self._row.append(channel)
        return body

    def take_served(self):
        """Memory for those who wait, as far as there is some: list of (`Channel`, `Body`)."""
        pairs = [(channel, self._budget.take(channel.body_size)) for channel in self.waiting()]
        return [(channel, body) for channel, body in pairs if body is not None]
