"""Batches of what waits: their sizes, the bounded queue, time limits, failures, the end."""

import threading
import time

import numpy as np
import pytest

from common.errors import ImageError
from deployment import batching
from deployment.batching import Batcher, Closed, Overdue, QueueFull, Threads, wait
from prediction.runtimes import batches_at_once

SHAPE = (2, 2, 3)


def decode(source):
    """An image of one value, the source's."""
    return np.full(SHAPE, int(source), np.uint8)


class Model:
    """Answers each image with its value and twice that, when it is let."""

    def __init__(self):
        self.batches, self.gate, self.entered = [], threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, x):
        assert x.dtype == np.uint8 and x.shape[1:] == SHAPE
        self.batches.append(x[:, 0, 0, 0].tolist())
        self.entered.set()
        assert self.gate.wait(10)
        value = x[:, 0, 0, 0].astype(np.float32)
        return np.stack([value, 2 * value], axis=1)

    def hold(self, batcher, source=b"99"):
        """Has the model busy with one image; gives its future."""
        self.gate.clear()
        self.entered.clear()
        [future] = batcher.submit([source])
        assert self.entered.wait(10)
        return future


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def make(model):
    """Makes batchers, warm ones, and closes them."""
    batchers = []

    def batcher(max_batch=8, max_wait=0.0, max_queue=100, warm=True, **others):
        arguments = {"decode": decode, "predict": model, **others}
        arguments.update(max_batch=max_batch, max_wait=max_wait, max_queue=max_queue)
        batchers.append(Batcher(**arguments))
        if warm:
            batchers[-1].warm(np.zeros(SHAPE, np.uint8))
            model.batches.clear()
        return batchers[-1]

    yield batcher
    model.gate.set()
    for open_batcher in batchers:
        open_batcher.close()


def until(true, seconds=10):
    """Waits for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def soon():
    return time.monotonic() + 10


def decoded(batcher, count):
    until(lambda: len(batcher._decoded) == count)


def test_each_gets_its_own_row(make):
    batcher = make(threads=Threads(2))
    futures = batcher.submit([b"%d" % value for value in range(1, 60)])
    for value, future in enumerate(futures, 1):
        row = wait(future, soon())
        assert row.dtype == np.float32 and row.tolist() == [value, 2 * value]


def test_threads_get_their_own_rows(make):
    batcher, wrong_values = make(threads=Threads(2)), []

    def work(first):
        for value in range(first, 100, 10):
            [future] = batcher.submit([b"%d" % value])
            if wait(future, soon())[0] != value:
                wrong_values.append(value)

    threads = [threading.Thread(target=work, args=(first_value,)) for first_value in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong_values and batcher.waiting == 0


def test_what_waits_goes_together_in_powers_of_two(make, model):
    batcher = make(max_batch=4)
    model.hold(batcher)
    futures = batcher.submit([b"%d" % value for value in range(7)])
    decoded(batcher, 7)
    model.gate.set()
    for future in futures:
        wait(future, soon())
    assert model.batches == [[99], [0, 1, 2, 3], [4, 5], [6]]


def test_the_next_batch_begins_beside_the_first_when_it_is_as_large(make, model):
    batcher = make(max_batch=4, max_wait=0.2, threads=Threads(1, 2))
    model.gate.clear()
    futures = batcher.submit([b"1", b"2"])
    until(lambda: model.batches == [[1, 2]])
    first_began_at = batcher.computing_since
    batcher._max_wait = 0
    futures += batcher.submit([b"3"])
    decoded(batcher, 1)
    with batcher._changed:
        batcher._changed.notify_all()
    until(lambda: len(batcher._changed._waiters) == 1)  # the second has looked, and sleeps again
    assert model.batches == [[1, 2]]
    futures += batcher.submit([b"4"])
    until(lambda: model.batches == [[1, 2], [3, 4]])
    assert batcher.computing_since == first_began_at
    model.gate.set()
    assert [wait(future, soon())[0] for future in futures] == [1, 2, 3, 4]
    until(lambda: batcher.computing_since is None)


def test_no_memory_for_a_batch_is_an_error_of_that_batch(make, model, monkeypatch):
    batcher = make()
    with monkeypatch.context() as patch:
        patch.setattr(batching.np, "empty", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            wait(batcher.submit([b"1"])[0], soon())
    assert wait(batcher.submit([b"2"])[0], soon())[0] == 2
    until(lambda: batcher.computing_since is None)


def test_one_batch_at_a_time_where_two_are_no_faster(make, model):
    batcher = make(max_batch=4)
    model.hold(batcher)
    futures = batcher.submit([b"1", b"2"])
    decoded(batcher, 2)
    assert model.batches == [[99]]
    model.gate.set()
    assert [wait(future, soon())[0] for future in futures] == [1, 2]
    assert model.batches == [[99], [1, 2]]


@pytest.mark.parametrize("pair, count", [
    (None, 1), (("onnx", "int8"), 1), (("openvino", "float32"), 2),
])
def test_who_computes_two_batches_at_once(pair, count):
    assert batches_at_once(pair) == count


def test_no_size_before_it_is_warm(make, model):
    """The largest of eight is still being compiled, those up to four are ready."""
    batcher = make(warm=False)
    batcher._sizes = (1, 2, 4)
    model.hold(batcher)
    futures = batcher.submit([b"1"] * 8)
    decoded(batcher, 8)
    model.gate.set()
    for future in futures:
        wait(future, soon())
    assert [len(batch) for batch in model.batches] == [1, 4, 4]


@pytest.mark.parametrize("max_batch, sizes", [(1, [1]), (6, [1, 2, 4]), (8, [1, 2, 4, 8])])
def test_warming_calls_the_model_with_each_size(make, model, max_batch, sizes):
    batcher = make(max_batch=max_batch, warm=False)
    batcher.warm(np.full(SHAPE, 7, np.uint8))
    assert model.batches == [[7] * size for size in sizes]
    assert list(batcher._sizes) == sizes


def test_waits_for_others_only_as_long_as_it_may(make, model):
    batcher = make(max_batch=2, max_wait=0.3)
    [first_future] = batcher.submit([b"1"])
    decoded(batcher, 1)
    [second_future] = batcher.submit([b"2"])
    wait(first_future, soon()), wait(second_future, soon())
    assert model.batches == [[1, 2]]  # full, so it did not wait longer
    started_at = time.monotonic()
    wait(batcher.submit([b"3"])[0], soon())
    assert time.monotonic() - started_at > 0.29 and model.batches[1:] == [[3]]


def test_time_spent_behind_a_busy_model_counts_as_waiting(make, model):
    batcher = make(max_batch=2, max_wait=0.4)
    batcher._max_wait = 0
    model.hold(batcher)
    batcher._max_wait = 0.4
    [future] = batcher.submit([b"1"])
    decoded(batcher, 1)
    time.sleep(0.4)
    started_at = time.monotonic()
    model.gate.set()
    wait(future, soon())
    assert time.monotonic() - started_at < 0.2


def test_a_full_queue_refuses_at_once_and_all_or_none(make, model):
    batcher = make(max_queue=3)
    busy_future = model.hold(batcher)  # is computed, and does not wait
    waiting_futures = batcher.submit([b"1", b"2"])
    assert batcher.waiting == 2
    with pytest.raises(QueueFull):
        batcher.submit([b"3", b"4"])
    waiting_futures += batcher.submit([b"5"])
    with pytest.raises(QueueFull):
        batcher.submit([b"6"])
    model.gate.set()
    assert [wait(future, soon())[0] for future in [busy_future, *waiting_futures]] == [99, 1, 2, 5]
    assert batcher.waiting == 0
    assert [value for batch in model.batches for value in batch] == [99, 1, 2, 5]


def test_images_that_are_still_decoded_wait_too(make):
    may_decode = threading.Event()

    def slow(source):
        assert may_decode.wait(10)
        return decode(source)

    batcher = make(max_queue=2, decode=slow)
    futures = batcher.submit([b"1", b"2"])
    with pytest.raises(QueueFull):
        batcher.submit([b"3"])
    may_decode.set()
    assert [wait(future, soon())[0] for future in futures] == [1, 2]


def test_what_is_overdue_is_neither_computed_nor_counted(make, model):
    batcher = make(max_queue=2)
    busy_future = model.hold(batcher)
    late_future, other_future = batcher.submit([b"1"]) + batcher.submit([b"2"])
    decoded(batcher, 2)
    with pytest.raises(Overdue):
        wait(late_future, time.monotonic() + 0.05)
    model.gate.set()
    assert wait(other_future, soon())[0] == 2 and wait(busy_future, soon())[0] == 99
    assert model.batches == [[99], [2]] and batcher.waiting == 0


def test_what_is_overdue_takes_no_place(make, model):
    """Neither in the batch that others wait for nor in the queue."""
    batcher = make(max_batch=2, max_wait=5.0, max_queue=2)
    (late_future,) = batcher.submit([b"1"])
    decoded(batcher, 1)
    with pytest.raises(Overdue):
        wait(late_future, time.monotonic() + 0.05)
    with pytest.raises(QueueFull):
        batcher.submit([b"2", b"3", b"4"])
    later_futures = batcher.submit([b"2"])
    until(lambda: batcher.waiting == 1)
    later_futures += batcher.submit([b"3"])
    assert [wait(future, soon())[0] for future in later_futures] == [2, 3]
    assert model.batches == [[2, 3]] and batcher.waiting == 0


def test_what_is_overdue_is_not_decoded(make):
    may_decode, decoded_sources = threading.Event(), []

    def slow(source):
        decoded_sources.append(source)
        assert may_decode.wait(10)
        return decode(source)

    batcher = make(decode=slow)
    first_future, late_future = batcher.submit([b"1", b"2"])
    with pytest.raises(Overdue):
        wait(late_future, time.monotonic())
    may_decode.set()
    assert wait(first_future, soon())[0] == 1
    until(lambda: batcher.waiting == 0)
    assert decoded_sources == [b"1"]


def test_an_image_that_cannot_be_decoded_is_alone_with_it(make):
    def strict(source):
        if source == b"x":
            raise ImageError("image", "is none")
        return decode(source)

    batcher = make(decode=strict)
    futures = batcher.submit([b"1", b"x", b"2"])
    with pytest.raises(ImageError, match="is none"):
        wait(futures[1], soon())
    assert [wait(futures[position], soon())[0] for position in (0, 2)] == [1, 2]
    assert batcher.waiting == 0


def test_a_model_that_fails_goes_on(make):
    def failing(x):
        if (x == 13).any():
            raise ValueError("no such number")
        return x[:, 0, 0, :2].astype(np.float32)

    batcher = make(predict=failing)
    for source, failed in ((b"13", True), (b"1", False), (b"13", True), (b"2", False)):
        [future] = batcher.submit([source])
        if failed:
            with pytest.raises(ValueError, match="no such number"):
                wait(future, soon())
        else:
            assert wait(future, soon())[0] == int(source)


def test_closing_answers_what_is_there_and_takes_no_more(make, model):
    batcher = make(max_batch=2, max_wait=5)  # nor does it wait for others any more
    batcher._max_wait = 0
    model.hold(batcher)
    batcher._max_wait = 5
    futures = batcher.submit([b"1", b"2", b"3"])
    closing_thread = threading.Thread(target=batcher.close)
    closing_thread.start()
    until(lambda: batcher._closing)
    with pytest.raises(Closed):
        batcher.submit([b"4"])
    assert closing_thread.is_alive()
    model.gate.set()
    closing_thread.join(2)
    assert not closing_thread.is_alive()
    assert [wait(future, time.monotonic())[0] for future in futures] == [1, 2, 3]


def test_what_it_tells_of_its_batches(make, model):
    observations = []
    batcher = make(max_batch=2, observe=lambda size, waiting: observations.append((size, waiting)))
    model.hold(batcher)
    futures = batcher.submit([b"1", b"2", b"3"])
    decoded(batcher, 3)
    model.gate.set()
    for future in futures:
        wait(future, soon())
    assert observations == [(1, 0), (2, 1), (1, 0)]
