"""Images read in processes of their own, where many threads of one would wait for each other.

The image decoders release Python's interpreter lock, but take it again ten times per image: on 16
cores 16 threads of one process read 1,700 images per second, and in four processes 5,400. Each
thread that waits for images has a socket to a thread of such a process; `data.reading_process` is
what runs there. Sockets, not shared memory, of which a container has 64 MB.

Photos of object stores are read in this process, which reads them ahead, and sent as bytes: 100 kB
go through a socket in 50 us, a tenth of what decoding them takes, and the other processes need no
credentials and no tries of their own.
"""

import contextlib
import os
import pickle
import queue
import socket
import struct
import subprocess
import sys
import threading
import time

from common.errors import ImageError, RunError
from data import remote_places
from data.object_stores import is_remote

THREADS_PER_PROCESS = 4  # as many share an interpreter lock without waiting for it
CLOSING_SECONDS = 2.0
GOOD, BAD = b"\0", b"\1"  # what follows the pixels of an image
LENGTH = struct.Struct("!I")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from data.reading_process import main; main()"
)


class ReadingProcesses:
    """Processes that read images for the threads of this one.

    Up to `THREADS_PER_PROCESS` threads need none and read by themselves; so do those of a system
    without inheritable sockets (Windows). Processes start with the first image.

    Args:
        thread_count: int, how many threads read.

    Example:

    ```python
    processes = ReadingProcesses(16)
    with processes.reading(ImageReader(Preprocessing(224)), [("photo.jpg", (0, 0, 0, 0))]) as read:
        read(row)
    processes.close()
    ```
    """

    def __init__(self, thread_count):
        is_useful = thread_count > THREADS_PER_PROCESS and os.name == "posix"
        self._thread_count = thread_count if is_useful else 0
        self._connections = queue.SimpleQueue()  # those that no thread uses
        self._started = []  # (process, its sockets on this side)
        self._lock = threading.Lock()
        self._is_closed = False

    @contextlib.contextmanager
    def reading(self, reader, images):
        """A context with a function (out) that reads the next image into uint8 (S, S, 3).

        It raises `ImageError` for an image that cannot be read; the next one can be read then.

        Args:
            reader: `image_reader.ImageReader`.
            images: list of (path, draw), as `ImageReader.read` takes them.
        """
        if not self._thread_count:
            remaining = iter(images)
            yield lambda out: _read_here(reader, *next(remaining), out)
            return
        self._start()
        contents = [_content(image_path) for image_path, _ in images]
        connection = self._connections.get()
        try:
            sent = [
                (*image, content)
                for image, content in zip(images, contents)
                if not isinstance(content, ImageError)
            ]
            _send(connection, (reader, sent))
            remaining = iter(contents)
            yield lambda out: _receive_or_raise(connection, next(remaining), out)
        except BaseException:  # images that nobody has received must not become others' answers
            _shut_down(connection)
            raise
        finally:
            self._connections.put(connection)

    def _start(self):
        with self._lock:
            if self._is_closed:
                raise RunError(_END)
            if self._started:
                return
            for first in range(0, self._thread_count, THREADS_PER_PROCESS):
                count = min(THREADS_PER_PROCESS, self._thread_count - first)
                pairs = [socket.socketpair() for _ in range(count)]
                their_numbers = [theirs.fileno() for _, theirs in pairs]
                process = subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, ROOT, *map(str, their_numbers)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=their_numbers,
                )
                for ours, theirs in pairs:
                    theirs.close()
                    self._connections.put(ours)
                self._started.append((process, [ours for ours, _ in pairs]))

    def close(self):
        """Ends the processes; one that hangs in a read is left to the system."""
        with self._lock:
            self._is_closed = True
            started, self._started = self._started, []
        for _, connections in started:
            for connection in connections:
                _shut_down(connection)  # wakes the thread that waits
        deadline = time.monotonic() + CLOSING_SECONDS
        for process, _ in started:
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        for process, _ in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)


_END = "a process that reads images has ended; the memory may be full: fewer --workers need less"


def _shut_down(connection):
    with contextlib.suppress(OSError):  # the other side has gone
        connection.shutdown(socket.SHUT_RDWR)


def _content(image_path):
    """What is sent beside a path: bytes of a photo in a store, or the `ImageError` about it."""
    if not is_remote(image_path):
        return None
    try:
        return remote_places.read_photo(image_path)
    except ImageError as error:
        return error


def _read_here(reader, image_path, draw, out):
    content = _content(image_path)
    if isinstance(content, ImageError):
        raise content
    reader.read(image_path, draw, out, content)


def _receive_or_raise(connection, content, out):
    if isinstance(content, ImageError):
        raise content
    _receive_image(connection, out)


def _receive_image(connection, out):
    # Contiguous, because a row of a batch is
    pixels = memoryview(out).cast("B")
    _fill(connection, pixels)
    if receive_bytes(connection, 1) == BAD:
        raise ImageError(*receive(connection))


def _fill(connection, target):
    while target:
        try:
            count = connection.recv_into(target, 0, socket.MSG_WAITALL)
        except OSError:
            count = 0
        if not count:
            raise RunError(_END)
        target = target[count:]


def receive_bytes(connection, count):
    """bytes, the next `count` of a socket.

    Args:
        connection: `socket.socket`.
        count: int, 1 or more.

    Raises:
        RunError: the other side has ended.
    """
    received = bytearray(count)
    _fill(connection, memoryview(received))
    return bytes(received)


def receive(connection):
    """The next object of a socket between two processes of one training.

    Args:
        connection: `socket.socket`.

    Raises:
        RunError: the other side has ended.
    """
    (length,) = LENGTH.unpack(receive_bytes(connection, LENGTH.size))
    return pickle.loads(receive_bytes(connection, length))


def _send(connection, value):
    content = pickle.dumps(value)
    try:
        connection.sendall(LENGTH.pack(len(content)) + content)
    except OSError:
        raise RunError(_END) from None
