"""Images of several requests go through the model together.

As many threads as the processor has cores decode; one thread calls the model, with the images
that wait at that moment. What does not fit into the queue is refused before it is decoded.
"""

import threading
import time
from collections import deque
from concurrent.futures import Future
from queue import SimpleQueue

import numpy as np


class QueueFull(Exception):
    """More images than may wait."""


class Overdue(Exception):
    """No answer within the time limit."""


class Closed(Exception):
    """The batcher takes no more images."""


class _Item:
    __slots__ = ("source", "future", "image", "ready")

    def __init__(self, source):
        self.source, self.future = source, Future()


class Batcher:
    """Decodes images and calls a model with batches of them.

    A batch is a power of two of images: OpenVINO fills others up (`runtimes.BATCHES`).

    Args:
        decode: function from an image's bytes to uint8 (S, S, 3), which raises ImageError.
        predict: function from uint8 (N, S, S, 3), which it does not keep, to float32 (N, C).
        max_batch: images that go through the model together, at most.
        max_wait: how long an image waits for others while the model is free, in seconds.
        max_queue: images that may wait, those still to be decoded among them.
        decoders: threads that decode.
        observe: function (images of the batch, images still waiting), called at each batch.

    Attributes:
        waiting: images that wait, those still to be decoded among them.
    """

    def __init__(
        self,
        decode,
        predict,
        max_batch,
        max_wait,
        max_queue,
        decoders=1,
        observe=lambda size, waiting: None,
    ):
        self._decode, self._predict, self._observe = decode, predict, observe
        self._max_batch, self._max_wait, self._max_queue = max_batch, max_wait, max_queue
        self._sizes, self._memory = (1,), None
        self._sources, self._ready = SimpleQueue(), deque()
        self._changed = threading.Condition()
        self._closing = self._decoded = False
        self.waiting = 0
        self._decoders = [
            threading.Thread(target=self._decode_all, daemon=True) for _ in range(decoders)
        ]
        self._model = threading.Thread(target=self._predict_all, daemon=True)
        for thread in (*self._decoders, self._model):
            thread.start()

    def warm(self, image):
        """Calls the model with each size of batch; larger ones are made up only after that.

        Args:
            image: uint8 (S, S, 3).
        """
        size = 1
        while size <= self._max_batch:
            self._predict(np.repeat(image[None], size, axis=0))
            self._sizes = tuple(2**power for power in range(size.bit_length()))
            size *= 2

    def submit(self, sources):
        """Takes images in, all or none.

        Args:
            sources: list of images' bytes.

        Returns:
            A list of `Future`, for `wait`.

        Raises:
            QueueFull: they are more than may still wait.
            Closed: `close` was called.
        """
        with self._changed:
            if self._closing:
                raise Closed
            if self.waiting + len(sources) > self._max_queue:
                raise QueueFull
            self.waiting += len(sources)
        items = [_Item(source) for source in sources]
        for item in items:
            self._sources.put(item)
        return [item.future for item in items]

    def close(self):
        """Takes no more images, and returns when those that it has are answered."""
        with self._changed:
            self._closing = True
        for _ in self._decoders:
            self._sources.put(None)
        for thread in self._decoders:
            thread.join()
        with self._changed:
            self._decoded = True
            self._changed.notify()
        self._model.join()

    def _decode_all(self):
        while (item := self._sources.get()) is not None:
            image = error = None
            if not item.future.cancelled():
                try:
                    image = self._decode(item.source)
                except Exception as failure:
                    error = failure
            item.source = None
            with self._changed:
                if image is None:
                    self.waiting -= 1
                else:
                    item.image, item.ready = image, time.monotonic()
                    self._ready.append(item)
                    self._changed.notify()
            if error and item.future.set_running_or_notify_cancel():
                item.future.set_exception(error)

    def _predict_all(self):
        while (batch := self._next()) is not None:
            batch = [item for item in batch if item.future.set_running_or_notify_cancel()]
            if not batch:
                continue
            self._observe(len(batch), self.waiting)
            try:
                rows = self._predict(self._together([item.image for item in batch]))
            except Exception as error:
                for item in batch:
                    item.future.set_exception(error)
            else:
                for item, row in zip(batch, rows):
                    item.future.set_result(row)

    def _together(self, images):
        """The images as one array, in memory that the next batch takes again.

        Not `numpy.stack`: it lets other threads run at each image, and under load waits for them
        a fifth of the time that the model takes.
        """
        if self._memory is None:
            self._memory = np.empty((self._max_batch, *images[0].shape), np.uint8)
        whole, size = memoryview(self._memory).cast("B"), images[0].nbytes
        for number, image in enumerate(images):
            whole[number * size : (number + 1) * size] = memoryview(image).cast("B")
        return self._memory[: len(images)]

    def _next(self):
        """The items of the next batch; None when all is done."""
        with self._changed:
            while True:
                self._drop_overdue()
                left = None
                if self._ready:
                    left = self._ready[0].ready + self._max_wait - time.monotonic()
                    if left <= 0 or self._closing or len(self._ready) >= self._sizes[-1]:
                        break
                elif self._decoded:
                    return None
                self._changed.wait(left)
            count = next(size for size in self._sizes[::-1] if size <= len(self._ready))
            self.waiting -= count
            return [self._ready.popleft() for _ in range(count)]

    def _drop_overdue(self):
        """Nobody waits for these any more: they take no place, in a batch or in the queue."""
        wanted = [item for item in self._ready if not item.future.cancelled()]
        self.waiting -= len(self._ready) - len(wanted)
        self._ready = deque(wanted)


def wait(future, until):
    """The row of probabilities, float32 (C,), that a future of `Batcher.submit` brings.

    Args:
        until: when to give up, on the clock of `time.monotonic`.

    Raises:
        Overdue: that time came first; the image does not go through the model any more.
        ImageError: it cannot be decoded.
    """
    try:
        return future.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        future.cancel()
        raise Overdue from None
