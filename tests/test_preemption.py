"""Stopping in the middle of an epoch and going on: the result is that of a training at once."""

import contextlib
import functools
import importlib.util
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import ROOT, command, write_samples
from test_main_job import QUICK, assert_same_run, rows

import efficientnet.model as network
import run
from runs import run_folder
from runs.margin_files import read_margins
from training import callbacks, preemption

pytestmark = pytest.mark.training

ONE_BLOCK = (network.Stage(3, 1, 8, 1, 1),)
TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
EACH_STEP = ("--checkpoint_minutes", 1e-9)
FROZEN = ("--freeze_epochs", 1, "--ema", 0.5, "--accumulate", 2)
CACHED = ("--freeze_epochs", 1, "--cache_features", "--ema", 0.5)


@pytest.fixture(scope="module", autouse=True)
def one_block():
    before = {number: signal.getsignal(number) for number in (INT, TERM, HUP)}  # commands set them
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", ONE_BLOCK)
        yield
    for number, handler in before.items():
        signal.signal(number, handler)


def go(*words):
    """Runs `python run.py --mode train WORDS` in this process: status and standard error."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            status = run.main(["--mode", "train", *map(str, words)])
        except SystemExit as end:
            status = end.code
    return SimpleNamespace(status=status, err=err.getvalue(), last=err.getvalue().splitlines()[-1])


def done(*words):
    """The same for a training that has to end well: standard error."""
    result = go(*words)
    assert result.status == 0, result.err
    return result.err


@contextlib.contextmanager
def start(*arguments):
    """A context with a process of Python, ended with it."""
    clean = {name: value for name, value in os.environ.items()
             if name not in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL")}
    process = subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, env=clean,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def at(epoch, part, batch, act):
    """A context in which `act` is called at the end of a batch, counted from 0, of one epoch."""
    name = f"on_{part}_batch_end"
    ended = getattr(callbacks.EpochMonitor, name)

    def end(self, number, logs=None):
        ended(self, number, logs)
        if number == batch and epoch in (None, self.epoch):
            act()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.EpochMonitor, name, end)
        yield


def signals(*numbers):
    """Sends them to this process: from a callback, so that a test knows where it is stopped."""
    return lambda: [os.kill(os.getpid(), number) for number in numbers]


def checkpoints(path):
    return sorted(os.listdir(path / "checkpoint"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    write_samples(place / "train", 4)  # three batches of 4
    write_samples(place / "val", 2, seed=5)
    return place


def words(data, place, name="run"):
    return ("--train_data", data / "train", "--val_data", data / "val", *QUICK, "--batch_size", 4,
            "--run", name, "--epochs", 3, "--save_dir", place / "runs", "--log_dir", place / "logs")


@pytest.fixture(scope="module")
def wholes(data, tmp_path_factory):
    """Function: options -> path of a run of them that nothing stopped."""
    @functools.cache
    def whole(*more):
        place = tmp_path_factory.mktemp("whole")
        done(*words(data, place), *more)
        return place / "runs" / "run"

    return whole


@pytest.fixture(scope="module")
def halfway(data, tmp_path_factory):
    """Path of a run stopped in the second step of its second epoch, a checkpoint each step."""
    place = tmp_path_factory.mktemp("halfway")
    with at(1, "train", 1, signals(TERM)):
        result = go(*words(data, place), *EACH_STEP)
    path = place / "runs" / "run"
    assert result.status == 143 and checkpoints(path)[-1] == "00001-0000002.npz", result.err
    return path


@pytest.fixture
def copy(halfway, tmp_path):
    """A copy of that run."""
    return shutil.copytree(halfway, tmp_path / "run")


def rates(path):
    return [float(row["learning_rate"]) for row in rows(path / "results.csv")]


@pytest.mark.parametrize("more, stops", [
    ((), [(TERM, 0, "train", 1), (INT, 1, "test", 0), (HUP, 2, "train", 0)]),
    (FROZEN, [(INT, 0, "test", 0), (TERM, 1, "train", 1), (TERM, 2, "test", 1)]),
    (CACHED, [(TERM, 0, "train", 1), (INT, 0, "test", 0)]),
], ids=["plain", "frozen", "cached"])
def test_stopped_by_signals_again_and_again(data, tmp_path, wholes, more, stops):
    """In both stages, in training and in validation, which has averaged weights in the model."""
    each = EACH_STEP if more == FROZEN else ()  # which changes nothing
    path, start = tmp_path / "runs" / "run", (*words(data, tmp_path), *more, *each)
    for number, epoch, part, batch in stops:
        with at(epoch, part, batch, signals(number)):
            result = go(*start)
        assert result.status == {TERM: 143, INT: 130, HUP: 129}[number], result.err
        steps = batch + 1 if part == "train" else 3
        assert checkpoints(path)[-1] == f"{epoch:05}-{steps:07}.npz"
        assert f"--resume run continues after epoch {epoch}, step {steps}" in result.err
        start = ("--resume", path)
    done(*start)
    assert_same_run(wholes(*more), path)


def test_a_second_signal_ends_at_once(data, tmp_path, wholes):
    """Here in the second stage, of which nothing is kept yet."""
    path = tmp_path / "runs" / "run"
    with at(1, "train", 0, signals(INT, TERM)):
        result = go(*words(data, tmp_path), *CACHED)
    assert result.status == 143 and checkpoints(path)[-1] == "00001-0000000.npz", result.err
    done("--resume", path)
    assert_same_run(wholes(*CACHED), path)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_on_jax(data, tmp_path, monkeypatch):
    """The signal comes from outside, when a checkpoint of the second epoch is there."""
    path = tmp_path / "runs" / "halves"
    common = ("--backend", "jax", "--ema", 0.5, "--batch_size", 2)
    # Most of the time would go into compiling.
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

    commands = [(*words(data, tmp_path, "whole"), *common),
                (*words(data, tmp_path, "halves"), *common, *EACH_STEP), ("--resume", path)]
    lists = [["--mode", "train", *map(str, each)] for each in commands]
    with start("-m", "tests.few_blocks", json.dumps(lists)) as process:
        while process.poll() is None and not list(path.glob("checkpoint/00001-0*[1-9].npz")):
            time.sleep(0.001)
        process.send_signal(INT)
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 130 and said.count("run.py: interrupted") == 1, said
    assert "--resume halves continues after epoch" in said
    assert_same_run(tmp_path / "runs" / "whole", path)


def test_a_damaged_checkpoint_within_an_epoch(copy, wholes):
    """The one before is taken; all that are written on the way change nothing."""
    file = copy / "checkpoint" / "00001-0000002.npz"
    content = file.read_bytes()
    file.write_bytes(content[:99_999] + bytes([content[99_999] ^ 1]) + content[100_000:])
    err = done("--resume", copy)
    assert f"note: {file}: is damaged" in err and "epoch 2, step 2, of" in err
    assert_same_run(wholes(), copy)


def test_without_a_checkpoint(copy, wholes):
    shutil.rmtree(copy / "checkpoint")
    result = go("--resume", copy)
    assert result.status == 2 and "has results but no checkpoint" in result.last
    for name in ("results.csv", "best.weights.h5", "last.weights.h5"):
        (copy / name).unlink()
    assert f"{copy} has no checkpoint yet: it starts from the beginning" in done("--resume", copy)
    assert_same_run(wholes(), copy)


def test_a_finished_run_and_more_epochs(wholes, tmp_path):
    path = shutil.copytree(wholes(), tmp_path / "run")
    assert f"{path} has finished its 3 epochs already" in done("--resume", path)
    done("--resume", path, "--epochs", 5)
    assert "\nepochs: 5\n" in (path / "options.yaml").read_text()
    found = rows(path / "results.csv")
    assert [row["epoch"] for row in found] == list("12345")
    assert found[:3] == rows(wholes() / "results.csv")
    # After one step of warm-up and 11 of the 14 along half a cosine
    assert rates(path)[3] == pytest.approx(0.002 * (1 + math.cos(math.pi * 11 / 14)), rel=1e-5)


def test_another_option_needs_force(copy):
    before = (copy / "options.yaml").read_text()
    result = go("--resume", copy, "--learning_rate", 0.002)
    assert result.status == 2 and (copy / "options.yaml").read_text() == before
    for fact in ("--learning_rate: 0.002", "0.004", "--force"):
        assert fact in result.last
    err = done("--resume", copy, "--learning_rate", 0.002, "--force")
    assert "note: --force: --learning_rate 0.002 instead of 0.004" in err
    assert "\nlearning_rate: 0.002\n" in (copy / "options.yaml").read_text()
    wanted = [0.002 * (1 + math.cos(math.pi * 2 / 8)), 0.001 * (1 + math.cos(math.pi * 5 / 8))]
    assert rates(copy)[:2] == pytest.approx(wanted, rel=1e-5)


def test_fewer_epochs_need_force(copy):
    assert go("--resume", copy, "--epochs", 2).status == 2
    err = done("--resume", copy, "--epochs", 2, "--force")
    assert "note: --force: --epochs 2 instead of 3" in err
    assert len(rows(copy / "results.csv")) == 2


def test_other_batches_within_an_epoch(copy):
    result = go("--resume", copy, "--force", "--batch_size", 12)
    assert result.status == 2 or all(float(row["loss"]) for row in rows(copy / "results.csv"))


def test_other_metrics_within_an_epoch(copy):
    """Mixed images have no margins; those of steps before are unknown where they come back."""
    with at(2, "train", 0, signals(TERM)):
        result = go("--resume", copy, "--force", "--mixup", 0.4)
    assert result.status == 143, result.err
    done("--resume", copy, "--force", "--mixup", 0)
    unknown = np.isnan(read_margins(str(copy))[1])
    order = np.random.default_rng((0, 2)).permutation(np.arange(12, dtype=np.int32))
    assert [set(np.flatnonzero(row)) for row in unknown] == [set(), set(order), set(order[:4])]


def test_the_best_epochs_are_kept_and_nobody_else_trains(data, tmp_path, wholes):
    path, refused, last = tmp_path / "runs" / "run", [], []

    def others():
        for more in (("--resume", path), (*words(data, tmp_path), "--overwrite")):
            refused.append(command("--mode", "train", *more))

    def weights():
        if last or (path / "last.weights.h5").exists():
            last.append((path / "last.weights.h5").read_bytes())

    with at(1, "train", 0, others), at(None, "train", 0, weights):
        done(*words(data, tmp_path), "--keep", 3, "--epochs", 6)
    weights()
    assert [process.returncode for process in refused] == [2, 2]
    for process in refused:
        line, = process.stderr.splitlines()
        assert f"{path}: another process trains this run" in line
    ranked = sorted(rows(path / "results.csv"),
                    key=lambda row: (-float(row["val_accuracy"]), float(row["val_loss"])))
    found = {name: (path / "best" / name).read_bytes() for name in os.listdir(path / "best")}
    assert found == {f"{int(row['epoch']):05}.weights.h5": last[int(row["epoch"]) - 1]
                     for row in ranked[:3]}
    assert not (wholes() / "best").exists()


def test_undecodable_images_are_counted_once(data, tmp_path):
    copied = shutil.copytree(data, tmp_path / "data")
    for name in ("train/img_1_1.png", "val/img_0_0.png"):
        (copied / name).write_bytes(b"no image")
    with at(1, "train", 1, signals(TERM)):
        result = go(*words(copied, tmp_path), "--max_bad", 0.2)
    assert result.status == 143 and result.err.count("left out: ") == 2
    assert "left out: " not in done("--resume", tmp_path / "runs" / "run")
    assert run_folder.read_metrics(str(tmp_path / "runs" / "run"))["undecodable_images"] == 2


@pytest.mark.parametrize("loss, count", [(0.5, 1), (math.nan, 0)])
def test_no_checkpoint_of_a_loss_that_is_no_number(loss, count):
    """Which the logs show one step later: the checkpoint before it is what to go back to."""
    saved = []
    recorder = SimpleNamespace(saved_at=0, save=lambda *arguments: saved.append(arguments))
    writer = preemption.MidEpochCheckpoints(recorder, SimpleNamespace(signal_number=None), 1e-9)
    values = {("mean_loss", "total"): loss, ("margins", "values"): math.nan}
    variables = []
    for (scope, name), value in values.items():
        with keras.name_scope(scope):
            variables.append(keras.Variable(value, name=name))
    assert variables[0].path == "mean_loss/total"
    writer.set_model(SimpleNamespace(metrics_variables=variables))
    writer.on_epoch_begin(0)
    writer.on_train_batch_end(0)
    assert len(saved) == count
