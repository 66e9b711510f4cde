"""Reads that begin before they are needed, in the order in which they will be."""

import threading
from concurrent.futures import Future

# At 50 ms for a request 16 at once bring 320 photos per second; more make stores throttle sooner.
READS_AT_ONCE = 16
MOST_BYTES = 128 << 20  # read and not taken yet: a thousand usual photos


class ReadAhead:
    """Reads what was announced on threads of its own. Threads may share it.

    Args:
        read: function (item) -> bytes; what it raises, `take` raises. Items are hashable and have
            an attribute `length`, bytes.
        thread_count: int, reads at once.
        most_bytes: int, of items that are being read, or read and not taken yet.

    Example:

    ```python
    ahead = ReadAhead(read)
    ahead.announce([first, second])
    content = ahead.take(first)
    ```
    """

    def __init__(self, read, thread_count=READS_AT_ONCE, most_bytes=MOST_BYTES):
        self._read = read
        self._thread_count = thread_count
        self._most_bytes = most_bytes
        self._pending = {}  # items whose read has not begun, in their order
        self._begun = {}  # item -> Future, in the order in which the reads began
        self._held_bytes = 0
        self._idle_count = 0
        self._is_closed = False
        self._threads = []
        self._changed = threading.Condition()

    def announce(self, items):
        """Says what will be needed next; returns at once.

        Args:
            items: iterable, in the order of their use.
        """
        with self._changed:
            for item in items:
                if item not in self._begun:
                    self._pending.setdefault(item)
            missing = min(self._thread_count - len(self._threads), len(self._pending))
            for _ in range(missing - self._idle_count):
                # Daemons: a read that hangs must not keep a command from its end.
                thread = threading.Thread(target=self._work, name="read ahead", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def take(self, item):
        """The content of an item, once: waits for a read that has begun.

        Args:
            item: as announced.

        Returns:
            bytes; None where no read of it has begun: the caller has to read it, nobody else will.
        """
        with self._changed:
            if item in self._pending:
                del self._pending[item]
                self._drop_abandoned(item.length)
            future = self._begun.pop(item, None)
            if future is None:
                return None
            self._held_bytes -= item.length
            self._changed.notify_all()
        return future.result()

    def close(self):
        """Begins no more reads; threads end when what they are reading is there."""
        with self._changed:
            self._is_closed = True
            self._pending.clear()
            self._changed.notify_all()

    def _drop_abandoned(self, byte_count):
        """Forgets the oldest finished reads where they are in the way of newer ones."""
        for item, future in list(self._begun.items()):
            if self._held_bytes + byte_count <= self._most_bytes:
                return
            if future.done():
                del self._begun[item]
                self._held_bytes -= item.length
                self._changed.notify_all()

    def _has_work(self):
        if self._is_closed:
            return True
        if not self._pending:
            return False
        length = next(iter(self._pending)).length
        return not self._held_bytes or self._held_bytes + length <= self._most_bytes

    def _work(self):
        while True:
            with self._changed:
                self._idle_count += 1
                self._changed.wait_for(self._has_work)
                self._idle_count -= 1
                if self._is_closed:
                    return
                item = next(iter(self._pending))
                del self._pending[item]
                future = self._begun[item] = Future()
                self._held_bytes += item.length
            try:
                content = self._read(item)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(content)
