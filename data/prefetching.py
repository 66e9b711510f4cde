"""Batches made ahead of their use, on threads, and a limit on how long a read may take.

The threads decode, or wait for the processes of `data.reading_processes` that do. A queue of our
own does not depend on how Keras iterates over a data set.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from common.errors import StuckError
from data.reading_processes import ReadingProcesses

CLOSING_SECONDS = 5.0  # what images under way may take when the prefetcher is closed


class Reading(NamedTuple):
    """How images are read and how much may go wrong.

    Attributes:
        workers: threads that decode.
        queue: batches read ahead of the one that is used.
        max_undecodable: maximum fraction of the samples that may be undecodable, 0 to 1.
        time_limit: seconds that a batch may take; 0 is no limit.
        report: function (str) -> None, called with one line per image that cannot be decoded;
            None reports nothing.
        processes: `reading_processes.ReadingProcesses` that several data sets share; None makes
            them for the one.
    """

    workers: int = 1
    queue: int = 4
    max_undecodable: float = 1.0
    time_limit: float = 0.0
    report: Callable[[str], None] | None = None
    processes: ReadingProcesses | None = None


DEFAULT_READING = Reading()


class Prefetcher:
    """Makes batches on threads, some ahead of the one that is asked for.

    Args:
        start_batch: function (index) -> (batch, tasks): a batch still to be filled, of any type,
            and the functions without arguments that fill it. It is called in one thread at a
            time, the tasks in any.
        batch_count: number of batches; indices run from 0 to before it.
        reading: `Reading`, for its workers, queue and time limit.
        folder: str, named in an error when no file is being read.
    """

    def __init__(self, start_batch, batch_count, reading, folder):
        self._start_batch = start_batch
        self._batch_count = batch_count
        self._queue_length = reading.queue
        self._time_limit = reading.time_limit
        self._folder = folder
        self._pool = ThreadPoolExecutor(reading.workers, thread_name_prefix="decode")
        self._lock = threading.Lock()
        self._started = {}  # index -> (batch, futures)
        self._open_files = {}  # thread -> (when its read began, path)

    def take(self, index):
        """The finished batch `index`; those after it are started.

        Raises:
            StuckError: it was not finished within the time limit.
        """
        with self._lock:
            for next_index in range(index, min(index + 1 + self._queue_length, self._batch_count)):
                if next_index not in self._started:
                    batch, tasks = self._start_batch(next_index)
                    self._started[next_index] = batch, [self._pool.submit(task) for task in tasks]
            batch, futures = self._started.pop(index)
        self._wait(futures)
        return batch

    @contextlib.contextmanager
    def restarting(self):
        """A context in which what `start_batch` depends on may change; drops what is ahead.

        Tasks under way finish, and their batches are forgotten.
        """
        with self._lock:
            yield
            self._started.clear()

    @contextlib.contextmanager
    def reading(self, path):
        """A context in which this thread reads the file `path`, to name it if it gets stuck."""
        thread_id = threading.get_ident()
        self._open_files[thread_id] = time.monotonic(), path
        try:
            yield
        finally:
            del self._open_files[thread_id]

    def close(self):
        """Ends the threads: tasks not yet begun are dropped, a stuck thread is left alone."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + CLOSING_SECONDS
        while self._open_files and time.monotonic() < deadline:
            time.sleep(0.001)

    def _wait(self, futures):
        deadline = time.monotonic() + self._time_limit
        for future in futures:
            try:
                future.result(max(0, deadline - time.monotonic()) if self._time_limit else None)
            except TimeoutError:
                open_files = list(self._open_files.values())
                _, slowest_path = min(open_files, default=(0, self._folder))
                raise StuckError(
                    f"{slowest_path}: was not read within {self._time_limit:g} s "
                    "(--data_time_limit); the disk or network it lies on may be stuck"
                ) from None
