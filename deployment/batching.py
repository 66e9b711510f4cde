"""Images of several requests go through the model together, in batches.

As many threads as the processor has cores decode; one or two threads call the model, with the
images that are waiting at that moment. Images beyond the queue's limit are refused before
decoding, and those whose decoding takes much memory wait for it while others pass them.
"""

import contextlib
import threading
import time
from collections import deque
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np

from common.errors import ImageError
from data import buffers
from data.decoding_budget import DecodingBudget, NoRoom

NO_LIMIT = 1 << 60  # bytes
FORGET_SECONDS = 5  # without an image, after which a decoder frees its arrays
RETRY_SECONDS = 0.02  # until an image that needs much memory is tried again


class QueueFull(Exception):
    """The images are more than may still wait."""


class Overdue(Exception):
    """There was no answer before the deadline."""


class Closed(Exception):
    """The batcher takes no more images."""


class Threads(NamedTuple):
    """The threads of a batcher.

    Attributes:
        decoders: int, number of threads that decode.
        predictors: int, number of threads that call the model, each with a batch. While one
            computes, the next calls when its batch is as large: it begins in those threads of the
            model that have done their part of the first, and else would wait for the others.
    """

    decoders: int = 1
    predictors: int = 1


ONE_EACH = Threads()


class _Item:
    """An image on its way through a batcher."""

    __slots__ = ("source", "future", "image", "ready_at", "size")

    def __init__(self, source):
        self.source, self.future, self.size = source, Future(), 0


class _Batch(NamedTuple):
    """Items that the model computes together, since a time on the clock of `time.monotonic`."""

    items: list
    started_at: float


class Batcher:
    """Decodes images and calls a model with batches of them.

    The size of a batch is a power of two, because OpenVINO pads other sizes to one
    (`openvino_predictor.BATCH_SIZES`).

    Args:
        decode: function from an image's bytes to uint8 (S, S, 3), which raises ImageError.
        predict: function from uint8 (N, S, S, 3), whose memory it must not keep, to N answers.
        max_batch: int, maximum number of images in a batch.
        max_wait: float, seconds that an image waits for others while the model is free.
        max_queue: int, maximum number of images that wait, undecoded ones included.
        threads: `Threads`.
        observe: function called at each batch with (images in the batch, images still waiting).
        budget: `data.decoding_budget.DecodingBudget` of all batchers of this process; None is
            without a limit.

    Attributes:
        waiting: int, number of images that wait, undecoded ones included.

    Example:
        >>> batcher = Batcher(decode, classifier.answers, 32, 0.005, 128)
        >>> [future] = batcher.submit([image_bytes])
        >>> wait(future, time.monotonic() + 10).probabilities
        array([0.875 , 0.0625, 0.0625], dtype=float32)
        >>> batcher.close()
    """

    def __init__(
        self,
        decode,
        predict,
        max_batch,
        max_wait,
        max_queue,
        threads=ONE_EACH,
        observe=lambda size, waiting: None,
        budget=None,
    ):
        self._decode, self._predict, self._observe = decode, predict, observe
        self._max_batch, self._max_wait, self._max_queue = max_batch, max_wait, max_queue
        self._sizes, self._computing = (1,), []
        self._undecoded, self._decoded = SimpleQueue(), deque()
        self._budget, self._postponed = budget or DecodingBudget(NO_LIMIT), deque()
        self._changed = threading.Condition()
        self._closing = self._all_decoded = False
        self.waiting = 0
        self._decoders = [
            threading.Thread(target=self._decode_all, daemon=True) for _ in range(threads.decoders)
        ]
        self._predictors = [
            threading.Thread(target=self._predict_all, daemon=True)
            for _ in range(threads.predictors)
        ]
        for thread in (*self._decoders, *self._predictors):
            thread.start()

    def warm(self, image):
        """Calls the model with every batch size once; requests get larger batches only then.

        Args:
            image: uint8 (S, S, 3).
        """
        batch_size = 1
        while batch_size <= self._max_batch:
            self._predict(np.repeat(image[None], batch_size, axis=0))
            self._sizes = tuple(2**power for power in range(batch_size.bit_length()))
            batch_size *= 2

    def submit(self, sources):
        """Queues images, all of them or none.

        Args:
            sources: list of bytes-like, one image file each, or of uint8 (S, S, 3), which are not
                decoded.

        Returns:
            A list of `Future` in the same order, for `wait`.

        Raises:
            QueueFull: there are more images than may still wait.
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
            self._undecoded.put(item)
        return [item.future for item in items]

    def close(self):
        """Takes no more images, and returns when all queued ones are answered."""
        with self._changed:
            self._closing = True
        for _ in self._decoders:
            self._undecoded.put(None)
        for thread in self._decoders:
            thread.join()
        with self._changed:
            self._all_decoded = True
            self._changed.notify_all()
        for thread in self._predictors:
            thread.join()

    @property
    def computing_since(self):
        """Time on the clock of `time.monotonic` since which the model computes a batch, float.

        The earliest where it computes several; None while it computes none.
        """
        with self._changed:
            return min((batch.started_at for batch in self._computing), default=None)

    def _decode_all(self):
        while (item := self._next_undecoded()) is not None:
            image = decode_error = None
            if not item.future.cancelled():
                try:
                    with self._budget.lease():
                        is_decoded = isinstance(item.source, np.ndarray)
                        image = item.source if is_decoded else self._decode(item.source)
                except NoRoom as no_room:
                    item.size = no_room.size
                    self._postponed.append(item)
                    continue
                except ImageError as error:
                    # Without its way here, in whose frames the image's bytes would stay.
                    decode_error = ImageError(error.name, error.reason, error.code)
                except Exception as error:
                    decode_error = error
            item.source = None
            with self._changed:
                if image is None:
                    self.waiting -= 1
                else:
                    item.image, item.ready_at = image, time.monotonic()
                    self._decoded.append(item)
                    self._changed.notify()
            if decode_error and item.future.set_running_or_notify_cancel():
                item.future.set_exception(decode_error)
            del item, image, decode_error  # this thread may wait long for the next

    def _next_undecoded(self):
        """The image to decode next: a postponed one that fits now, else the next that came.

        None when the batcher is closed and all are decoded.
        """
        while True:
            for _ in range(len(self._postponed)):
                with contextlib.suppress(IndexError):  # another decoder has taken it
                    item = self._postponed.popleft()
                    if item.size <= self._budget.free or item.future.cancelled():
                        return item
                    self._postponed.append(item)
            try:
                timeout = RETRY_SECONDS if self._postponed else FORGET_SECONDS
                item = self._undecoded.get(timeout=timeout)
            except Empty:
                if not self._postponed:
                    buffers.forget()
                continue
            if item is not None or not self._postponed:
                return item
            self._undecoded.put(None)
            time.sleep(RETRY_SECONDS)

    def _predict_all(self):
        stack = _Stack(self._max_batch)
        while (batch := self._next_batch()) is not None:
            items = [item for item in batch.items if item.future.set_running_or_notify_cancel()]
            if items:
                self._answer(items, stack)
            with self._changed:
                self._computing.remove(batch)
            del batch, items  # this thread may wait long for the next

    def _answer(self, items, stack):
        try:
            self._observe(len(items), self.waiting)
            answers = self._predict(stack([item.image for item in items]))
        except Exception as error:
            for item in items:
                item.future.set_exception(error)
        else:
            for item, answer in zip(items, answers):
                item.future.set_result(answer)

    def _next_batch(self):
        """The next `_Batch`, which counts as computed from now on; None when all is answered."""
        with self._changed:
            while True:
                self._drop_overdue()
                seconds_left, count = None, len(self._decoded)
                is_full = count >= self._sizes[-1]
                if count and self._computing and not (is_full or self._closing):
                    # A smaller one would only keep the model from larger ones.
                    if count >= max(len(batch.items) for batch in self._computing):
                        break
                elif count:
                    seconds_left = self._decoded[0].ready_at + self._max_wait - time.monotonic()
                    if seconds_left <= 0 or self._closing or is_full:
                        break
                elif self._all_decoded:
                    return None
                self._changed.wait(seconds_left)
            batch_size = next(size for size in self._sizes[::-1] if size <= count)
            self.waiting -= batch_size
            batch = _Batch([self._decoded.popleft() for _ in range(batch_size)], time.monotonic())
            self._computing.append(batch)
            return batch

    def _drop_overdue(self):
        """Removes items that nobody waits for, so that they take no place in batch or queue."""
        wanted = [item for item in self._decoded if not item.future.cancelled()]
        self.waiting -= len(self._decoded) - len(wanted)
        self._decoded = deque(wanted)


class _Stack:
    """Puts images into one array, in memory that the next batch uses again.

    Not `numpy.stack`: it lets other threads run at every image, and under load waits for them
    a fifth of the time that the model takes.
    """

    def __init__(self, max_batch):
        self._max_batch, self._batch_array = max_batch, None

    def __call__(self, images):
        if self._batch_array is None:
            self._batch_array = np.empty((self._max_batch, *images[0].shape), np.uint8)
        batch_bytes, image_size = memoryview(self._batch_array).cast("B"), images[0].nbytes
        for index, image in enumerate(images):
            start = index * image_size
            batch_bytes[start : start + image_size] = memoryview(image).cast("B")
        return self._batch_array[: len(images)]


def wait(future, deadline):
    """Waits for the answer to one image.

    Args:
        future: one that `Batcher.submit` returned.
        deadline: float, time to give up, on the clock of `time.monotonic`.

    Returns:
        what `predict` gave for it.

    Raises:
        Overdue: the deadline has passed; the image does not go through the model any more.
        ImageError: the image cannot be decoded.
    """
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        future.cancel()
        raise Overdue from None
