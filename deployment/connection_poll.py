"""Which connections are ready to be read or written: asked for anew only where it has changed."""

import select

READING, WRITING = 1, 2  # what a connection waits for, to be added up
HAS_POLL = hasattr(select, "poll")  # not on Windows


class ConnectionPoll:
    """A `select.poll` that is told only what has changed since the turn before.

    Example:

    ```python
    for handler, flags in ConnectionPoll().ready(handlers, 0.1):
        ...
    ```
    """

    def __init__(self):
        self._poll, self._wanted = select.poll(), {}

    def ready(self, handlers, seconds):
        """Waits until something is ready.

        Args:
            handlers: dict of file descriptor -> waitress's handler; connections have the method
                `waits_for`, the others `readable`.
            seconds: float, maximum time to wait.

        Returns:
            list of (handler, the flags of `select.poll`).
        """
        for descriptor in self._wanted.keys() - handlers.keys():
            self._set(descriptor, 0)
        for descriptor, handler in handlers.items():
            waits_for = getattr(handler, "waits_for", None)
            wanted = waits_for() if waits_for else READING * handler.readable()
            if wanted != self._wanted.get(descriptor, 0):
                self._set(descriptor, wanted)
        ready = self._poll.poll(int(seconds * 1000))
        return [(handlers[descriptor], flags) for descriptor, flags in ready]

    def _set(self, descriptor, wanted):
        if not wanted:
            self._poll.unregister(descriptor)
            del self._wanted[descriptor]
            return
        flags = (select.POLLIN | select.POLLPRI) if wanted & READING else 0
        self._poll.register(descriptor, flags | (select.POLLOUT if wanted & WRITING else 0))
        self._wanted[descriptor] = wanted
