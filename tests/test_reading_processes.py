"""Images read in processes of their own: the same batches, the same errors, no process left."""

import contextlib
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import psutil
import pytest
from conftest import ROOT
from test_data_gen_label import SMALL, epoch_of, same, spoil

from common.errors import ImageError, InputError, RunError, StuckError
from data import reading_processes
from data.augmentation import Augmentation
from data.image_reader import ImageReader
from data.mixing import Mixing
from data.reading_processes import ReadingProcesses

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs inheritable sockets")

DRAW = (3, 1, 0, 0)


@pytest.fixture
def processes():
    made = ReadingProcesses(6)
    yield made
    made.close()


def children():
    return [child for child in psutil.Process().children() if child.status() != "zombie"
            and reading_processes.PROGRAM in child.cmdline()]


def test_batches_are_those_of_one_thread(folder, make_batches):
    spoil(folder, "img_0_1.png")
    variation = {
        "sampler": "uniform", "seed": 4, "mixing": Mixing(randaugment=0.5, augmix=0.5),
        "augmentation": Augmentation(True, True, 0.1, 20.0, 0.1, 0.5),
    }
    alone, several = (make_batches(folder, workers=count, **variation) for count in (1, 9))
    for epoch in (0, 3, 1):
        assert same(epoch_of(several, epoch), epoch_of(alone, epoch))
    assert len(children()) == 3  # of four threads at most
    assert several.undecodable.keys() == alone.undecodable.keys() and len(alone.undecodable) == 1
    (found,), (wanted,) = several.undecodable.values(), alone.undecodable.values()
    assert (str(found), found.code) == (str(wanted), wanted.code)


def test_four_threads_need_no_process(folder, make_batches):
    epoch_of(make_batches(folder, workers=4), 0)
    assert not children()


def test_after_a_bad_image_comes_the_next(tmp_path, processes):
    good = str(tmp_path / "good.png")
    cv2.imwrite(good, np.full((12, 12, 3), (10, 20, 30), np.uint8))  # OpenCV's order: BGR
    bad, missing = str(tmp_path / "bad.png"), str(tmp_path / "missing.png")
    open(bad, "wb").close()
    row = np.zeros((12, 12, 3), np.uint8)
    images = [(path, DRAW) for path in (good, bad, missing, good)]
    with processes.reading(ImageReader(SMALL), images) as read:
        read(row)
        assert (row == (30, 20, 10)).all()
        for code in ("empty", "unreadable"):
            with pytest.raises(ImageError) as error:
                read(row)
            assert error.value.code == code
        row[:] = 0
        read(row)
        assert (row == (30, 20, 10)).all()


def test_what_goes_wrong_between_two_images_is_told_as_it_is(tmp_path):
    """And what was not received does not become the answer to the next question."""
    processes = ReadingProcesses(5)
    paths = []
    for number in range(3):
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], np.full((12, 12, 3), number, np.uint8))
    images = [(path, DRAW) for path in paths]
    row = np.zeros((12, 12, 3), np.uint8)
    with (
        pytest.raises(BrokenPipeError, match="the terminal has gone"),
        processes.reading(ImageReader(SMALL), images) as read,
    ):
        read(row)
        raise BrokenPipeError("the terminal has gone")
    answers = []
    for _ in range(5):  # each connection comes once
        with contextlib.suppress(RunError):
            with processes.reading(ImageReader(SMALL), images[:1]) as read:
                row[:] = 9
                read(row)
                answers.append(int(row[0, 0, 0]))
    processes.close()
    assert answers == [0] * 4


def test_nothing_is_read_after_the_end():
    """It would wait for a process that nobody starts."""
    processes = ReadingProcesses(5)
    processes.close()
    with pytest.raises(RunError), processes.reading(ImageReader(SMALL), []):
        pass


def test_a_data_set_that_is_refused(folder, make_batches):
    spoil(folder, "img_0_1.png", "img_1_1.png")
    with pytest.raises(InputError, match="2 of 12 images cannot be decoded"):
        epoch_of(make_batches(folder, workers=5, max_undecodable=0.1), 0)


def test_a_process_that_was_killed(folder, make_batches):
    batches = make_batches(folder, workers=5, batch_size=2)
    batches[0]
    for child in children():
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    with pytest.raises(RunError, match="fewer --workers"):
        epoch_of(batches, 1)
    with pytest.raises(RunError, match="fewer --workers"):  # as Keras's wrapper hides the first
        raise batches.error


def test_signals_to_all_leave_the_end_to_the_training(folder, make_batches):
    batches, alone = make_batches(folder, workers=5), make_batches(folder)
    batches[0]
    for child in children():
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGINT)
    assert same(epoch_of(batches, 1), epoch_of(alone, 1))


def test_a_read_that_hangs_is_named(folder, make_batches):
    os.remove(os.path.join(folder, "img_1_1.png"))
    os.mkfifo(os.path.join(folder, "img_1_1.png"))  # opening it waits for a writer
    batches = make_batches(folder, time_limit=3, workers=5)
    with pytest.raises(StuckError, match="img_1_1.png: was not read within 3 s"):
        epoch_of(batches, 0)
    batches.close()
    assert not children()


def test_closing_ends_the_processes(folder, make_batches):
    batches = make_batches(folder, workers=5)
    batches[0]
    assert len(children()) == 2
    batches.close()
    batches.close()
    assert not children()


START = """
import sys, time
from data.geometry import Preprocessing
from data.image_reader import ImageReader
from data.reading_processes import ReadingProcesses
with ReadingProcesses(5).reading(ImageReader(Preprocessing(12)), []):
    print("started", flush=True)
    time.sleep(60)
"""


def test_processes_end_with_the_one_that_started_them():
    """Also when it is killed and can close nothing."""
    parent = subprocess.Popen([sys.executable, "-c", START], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"started\n"
    started = psutil.Process(parent.pid).children()
    assert len(started) == 2
    parent.kill()
    parent.wait(30)
    parent.stdout.close()
    _, left = psutil.wait_procs(started, 30)
    assert not left
