"""What stops a training in its middle: one line, and a run that goes on as if nothing had been."""

import contextlib
import os
import re
import resource
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
import test_preemption
from test_preemption import CACHED, ONE_BLOCK, assert_same_run, at, done, go, rates, start, words

from runs import checkpoint, run_folder
from runs.margin_files import read_margins
from training import callbacks, finalize, trainer

pytestmark = pytest.mark.training

# Fixtures
data, wholes, one_block = test_preemption.data, test_preemption.wholes, test_preemption.one_block
ROOM = 60_000  # bytes left on a full disk: less than a checkpoint or the weights take
# A training in a process of its own, between whose halves a test puts what happens to it
BEGIN = f"""
import os, shutil, signal, sys, threading
from compute import backend
backend.import_keras()
import efficientnet.model as network, run
from data import image_reader
from runs import checkpoint
from training import callbacks
network.STAGES = (network.Stage{tuple(ONE_BLOCK[0])},)
"""
END = """
run.leave(sys.argv[1:])
"""
# The disk becomes full after the checkpoint of so many epochs.
FILLING = f"""
save, full = checkpoint.save, int(sys.argv.pop(1))
def saved(folder, epochs, *rest):
    save(folder, epochs, *rest)
    if epochs == full:
        with open(folder + "/../../../filler", "wb") as file:
            file.write(bytes(shutil.disk_usage(folder).free - {ROOM}))
checkpoint.save = saved
"""
# Reading one image never ends; where it is asked for, SIGTERM comes in the first step.
HANGING = """
end = callbacks.EpochMonitor.on_train_batch_end
name, how = sys.argv.pop(1), sys.argv.pop(1)
def hanging(load):
    def reading(path, *rest, **more):
        if os.path.basename(path) == name:
            threading.Event().wait()
        return load(path, *rest, **more)
    return reading
def ended(self, batch, logs=None):
    end(self, batch, logs)
    if how == "signal":
        os.kill(os.getpid(), signal.SIGTERM)
    print("step", flush=True)
for reader in ("load", "load_augmented"):
    setattr(image_reader, reader, hanging(getattr(image_reader, reader)))
callbacks.EpochMonitor.on_train_batch_end = ended
"""


def assert_told(result, status, *facts):
    """One line says what was wrong, after those of progress."""
    assert result.status == status, result.err
    assert result.last.startswith("run.py: ") and "Traceback" not in result.err, result.err
    assert "failed:" not in result.last
    for fact in facts:
        assert fact in result.last, result.last


def assert_whole(path, name):
    """The newest checkpoint is this one, and holds numbers."""
    found = checkpoint.newest(str(path / "checkpoint"), pytest.fail)
    assert os.path.basename(found.path) == name
    with np.load(found.path, allow_pickle=False) as stored:
        floats = [stored[key] for key in stored.files if stored[key].dtype.kind == "f"]
    assert len(floats) > 20 and all(np.isfinite(each).all() for each in floats)


@contextlib.contextmanager
def spoilt(times, epoch=1):
    """Before the second step of an epoch weights become NaN, the first `times` times."""
    left = times

    def begin(self, batch, logs=None):
        nonlocal left
        if (self.epoch, batch) == (epoch, 1) and left:
            left -= 1
            kernel = self.model.get_layer("predictions").kernel
            kernel.assign(np.full(kernel.shape, np.nan, np.float32))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.EpochMonitor, "on_train_batch_begin", begin)
        yield


def test_a_loss_that_is_no_number_stops(data, tmp_path):
    with spoilt(1):
        result = go(*words(data, tmp_path))
    assert_told(result, 1, "the loss became nan in epoch 2, step 2, with img_")
    names = re.findall(r"img_\d_\d\.png", result.last)
    assert len(set(names)) == 4 and set(names) <= set(os.listdir(data / "train"))
    assert_whole(tmp_path / "runs" / "run", "00001-0000000.npz")


def test_a_loss_that_is_no_number_goes_back_once(data, tmp_path, wholes):
    with spoilt(1):
        err = done(*words(data, tmp_path), "--nan_policy", "restore")
    assert "back to epoch 1, step 0, with the learning rate halved (1 of 3)" in err
    first, *others = rates(wholes())
    wanted = [first, *(rate / 2 for rate in others)]
    assert rates(tmp_path / "runs" / "run") == pytest.approx(wanted, rel=1e-6)
    assert run_folder.read_metrics(str(tmp_path / "runs" / "run"))["rate_halvings"] == 1


def test_a_loss_that_is_no_number_goes_back_three_times(data, tmp_path):
    with spoilt(9, epoch=0):
        result = go(*words(data, tmp_path), "--nan_policy", "restore")
    assert_told(result, 1, "epoch 1, step 2", "halved 3 times")
    assert re.findall(r"halved \((\d) of 3\)", result.err) == ["1", "2", "3"]
    assert_whole(tmp_path / "runs" / "run", "00000-0000000.npz")


def test_weights_that_are_no_numbers_before_the_first_step(data, tmp_path, monkeypatch):
    """Nothing is there to go back to."""
    make_model = trainer.make_model

    def make_spoilt(setup):
        model = make_model(setup)
        kernel = model.get_layer("predictions").kernel
        kernel.assign(np.full(kernel.shape, np.nan, np.float32))
        return model

    monkeypatch.setattr(trainer, "make_model", make_spoilt)
    result = go(*words(data, tmp_path), "--nan_policy", "restore")
    assert_told(result, 1, "became NaN", "no checkpoint to go back to", "--weights")
    assert not (tmp_path / "runs" / "run" / "checkpoint").exists()


def mount(*arguments):
    result = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"mounting is not allowed here: {result.stderr.strip()}")


@contextlib.contextmanager
def small_disk(place):
    """A context with a disk of 2 MB."""
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "none", place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)  # a file may be open still


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as place:
        yield place


def fill(place, room=ROOM):
    """Fills a disk up to some bytes."""
    (place / "filler").write_bytes(bytes(shutil.disk_usage(place).free - room))


def test_a_full_disk_while_a_checkpoint_is_written(data, disk, wholes):
    path = disk / "runs" / "run"
    with at(1, "test", 1, lambda: fill(disk)):
        result = go(*words(data, disk))
    assert_told(result, 1, str(path), "No space left", f"the disk of {path} has 0.1 MB free")
    assert_whole(path, "00001-0000000.npz")
    assert not list(path.rglob(".partial*"))
    (disk / "filler").unlink()
    done("--resume", path)
    assert_same_run(wholes(), path)


def test_a_full_disk_while_weights_or_features_are_written(data, disk, tmp_path, wholes):
    def training(place, epochs, *more):
        return start("-c", BEGIN + FILLING + END, epochs, "--mode", "train", *words(data, place),
                     *more)

    with small_disk(tmp_path / "other") as other:
        with training(disk, 2) as weights, training(other, 0, *CACHED) as features:
            said = [process.communicate(timeout=60)[1] for process in (weights, features)]
        assert_whole(other / "runs" / "run", "00000-0000000.npz")
    assert_whole(disk / "runs" / "run", "00002-0000000.npz")
    assert (weights.returncode, features.returncode) == (1, 1), said
    assert all("No space left" in text.splitlines()[-1] for text in said)
    (disk / "filler").unlink()
    done("--resume", disk / "runs" / "run")
    assert_same_run(wholes(), disk / "runs" / "run")


def test_a_disk_that_is_full_at_the_end(data, disk, wholes, monkeypatch):
    """When check/ is written, and when going on begins."""
    write_check = finalize.write_check

    def fill_and_write(*arguments):
        fill(disk, 0)
        return write_check(*arguments)

    monkeypatch.setattr(finalize, "write_check", fill_and_write)
    results = [go(*words(data, disk)), go("--resume", disk / "runs" / "run")]
    (disk / "filler").unlink()
    monkeypatch.undo()
    done("--resume", disk / "runs" / "run")
    assert_same_run(wholes(), disk / "runs" / "run")
    for result in results:
        assert_told(result, 1, "No space left", "MB free")


def test_a_file_that_may_not_grow(data, tmp_path):
    """As a quota has it: the limit of a process on the size of its files."""
    path, limits = tmp_path / "runs" / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with at(1, "test", 1, lambda: resource.setrlimit(
                resource.RLIMIT_FSIZE, (ROOM, limits[1]))):
            result = go(*words(data, tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_told(result, 1, f"{path}", "File too large", "MB free")
    assert_whole(path, "00001-0000000.npz")


@pytest.mark.parametrize("more", [(), ("--mixup", 0.4)], ids=["plain", "mixed"])
def test_a_run_folder_that_goes_away(data, tmp_path, more):
    path = tmp_path / "runs" / "run"
    with at(1, "train", 1, lambda: shutil.rmtree(path)):
        result = go(*words(data, tmp_path), *more)
    assert_told(result, 1, str(path))


def test_a_disk_that_becomes_read_only(data, tmp_path):
    path = tmp_path / "runs" / "run"
    folder = path / "checkpoint"

    def protect():
        mount("--bind", folder, folder)
        mount("-o", "remount,ro,bind", folder)

    try:
        with at(1, "test", 0, protect):
            result = go(*words(data, tmp_path))
    finally:
        subprocess.run(["umount", folder], capture_output=True)
    assert_told(result, 1, str(folder), "Read-only file system")
    assert_whole(path, "00001-0000000.npz")


@pytest.mark.parametrize("error", [
    tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[16,112]"),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes."),
])
def test_no_memory_left_on_the_device(data, tmp_path, error):
    def fail():
        raise error

    with at(1, "train", 0, fail):
        result = go(*words(data, tmp_path))
    assert_told(result, 1, "the device's memory is used up", "--batch_size", "--mixed_precision")
    assert_whole(tmp_path / "runs" / "run", "00001-0000000.npz")


@pytest.mark.parametrize("name, spoil, more, status", [
    ("train/img_1_1.png", os.unlink, ("--max_bad", 0.2), 0),
    ("train/img_1_1.png", lambda path: path.write_bytes(b"no image"), (), 1),
    ("val/img_1_1.png", os.unlink, (), 1),
])
def test_an_image_that_goes_bad(data, tmp_path, name, spoil, more, status):
    copied = shutil.copytree(data, tmp_path / "data")
    with at(0, "test", 1, lambda: spoil(copied / name)):
        result = go(*words(copied, tmp_path), *more)
    path = tmp_path / "runs" / "run"
    assert result.err.count("left out: ") == 1
    if status:
        assert_told(result, status, str(copied / name), "--max_bad 0.01")
        return assert_whole(path, "00001-0000000.npz")
    assert result.status == 0, result.err
    assert run_folder.read_metrics(str(path))["undecodable_images"] == 1
    images, margins = read_margins(str(path))
    bad = images[str(copied / name)][0]
    assert np.argwhere(np.isnan(margins)).tolist() == [[1, bad], [2, bad]]


def test_a_read_that_never_ends(data, tmp_path):
    """The process ends: after the time limit, and after a signal while the read is ahead."""
    # In the first epoch's last batch, which is read ahead in its first step
    last = np.random.default_rng((0, 0)).permutation(np.arange(12, dtype=np.int32))[-1]
    name = sorted(path.name for path in (data / "train").glob("*.png"))[last]

    def training(how, *more):
        return start("-c", BEGIN + HANGING + END, name, how, *more, *words(data, tmp_path, how))

    limit = ("--mode", "train", "--data_time_limit", 2)
    with training("limit", *limit) as limited, training("signal", "--mode", "train") as stopped:
        for process in (limited, stopped):
            assert process.stdout.readline() == "step\n"
        line = limited.communicate(timeout=15)[1].splitlines()[-1]
        said = stopped.communicate(timeout=15)[1]
    assert limited.returncode == 1
    assert f"{data / 'train' / name}: was not read within 2 s (--data_time_limit)" in line
    assert stopped.returncode == 143, said
