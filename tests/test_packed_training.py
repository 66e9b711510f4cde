"""Trainings from packed photos: the same weights as from the loose ones, byte for byte."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT, write_image
from faulty_store import FaultyStore
from test_packing import CLASSES
from test_several_processes import largest_difference, several, start, variables

from data.packing import pack
from data.packing_plan import Packing
from other.split import split

pytestmark = pytest.mark.training

PER_CLASS = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The same photos loose and packed, with their parts, and the options of every training."""
    place = tmp_path_factory.mktemp("packed")
    for number, (name, color) in enumerate(CLASSES.items()):
        (place / "photos" / name).mkdir(parents=True)
        for index in range(PER_CLASS):
            path = place / "photos" / name / f"{index}.png"
            write_image(path, color, (300, 200), seed=(number, index))
    split(str(place / "photos"), (0.7, 0.2, 0.1))
    assert pack(str(place / "photos"), str(place / "shards"), Packing(1)).shards > 3
    words = (
        "--mode", "train", "--weights", "none", "--recipe", "scratch", "--input_size", 32,
        "--batch_size", 4, "--epochs", 2, "--workers", 2, "--norm", "group",
        "--save_dir", place / "runs", "--log_dir", place / "logs",
    )
    return SimpleNamespace(path=place, words=words, runs=place / "runs")


def wait(*processes):
    for process in processes:
        _, said = process.communicate(timeout=900)
        assert process.returncode == 0, said


def assert_same_files(one, two):
    for name in ("best.weights.h5", "last.weights.h5", "results.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.fixture(scope="module")
def trained(place):
    """Runs "loose" and "shards", each from the photos of its name."""
    data = (("loose", place.path / "photos"), ("shards", place.path / "shards"))
    wait(*[start((*place.words, "--data", path, "--run", name)) for name, path in data])
    return place


def test_one_process_ends_with_equal_weights(trained):
    assert_same_files(trained.runs / "loose", trained.runs / "shards")
    kept = sorted(os.listdir(trained.runs / "shards" / "check"))
    assert len([name for name in kept if re.fullmatch(r"\d{9}\.png", name)]) > 3


@pytest.fixture
def store(place, monkeypatch):
    """The shards in an object store where every fifth answer is none, late or damaged."""
    store = FaultyStore()
    for name in os.listdir(place.path / "shards"):
        content = (place.path / "shards" / name).read_bytes()
        store.forward("PUT", f"/bucket/shards/{name}", {}, content)
    for name, value in {"AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "id",
                        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
                        "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    faults = ("503", "cut", "flip", "reset")
    store.plan = lambda request: None if request.number % 5 else faults[request.number // 5 % 4]
    store.delay = 0.01
    yield store
    store.close()


@pytest.mark.parametrize("data", ["shards", "s3://bucket/shards"])
def test_killed_in_mid_epoch_and_resumed_ends_with_equal_weights(trained, store, data):
    """SIGKILL after a checkpoint of the second epoch, whose batches go on in the same order."""
    run = "killed" if data == "shards" else "killed_far"
    words = (*trained.words, "--data", data if "://" in data else trained.path / data, "--run", run,
             "--checkpoint_minutes", "1e-9", "--debug", "--cache_dir", trained.path / "cache")
    process = start(words)
    folder, seen = trained.runs / run / "checkpoint", ""
    deadline = time.monotonic() + 240
    while not re.search(r"00001-0*[1-9]\d*\.npz", seen):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
        seen = " ".join(os.listdir(folder)) if folder.exists() else ""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait(start(("--mode", "train", "--resume", run, "--save_dir", trained.runs, "--log_dir",
                trained.path / "logs", "--cache_dir", trained.path / "cache")))
    assert_same_files(trained.runs / "loose", trained.runs / run)
    assert ("://" in data) == bool(store.ranged_reads)


def test_two_processes_that_each_read_their_share_end_with_equal_weights(place):
    traces = {}
    for name in ("photos", "shards"):
        traces[name] = [place.path / f"{name}{number}" for number in (0, 1)]
        wait(*[
            start((*place.words, "--optimizer", "sgd", "--epochs", 1, "--data", place.path / name,
                   "--run", f"two_{name}", *more), trace=trace)
            for trace, more in zip(traces[name], several())
        ])
    for loose, packed in zip(traces["photos"], traces["shards"]):
        assert largest_difference(variables(f"{loose}.npz"), variables(f"{packed}.npz")) < 1e-5
    reads = [open(f"{trace}.read").read().split() for trace in traces["shards"]]
    assert abs(len(reads[0]) - len(reads[1])) <= 6 and not set(reads[0]) <= set(reads[1])


def test_eval_and_crossval_take_a_place(trained):
    commands = []
    for name in ("photos", "shards"):
        data = ("--data", str(trained.path / name), "--save_dir", str(trained.runs))
        commands += [
            ["--mode", "eval", "--run", "loose", *data, "--csv",
             str(trained.path / f"eval_{name}.csv")],
            ["--mode", "crossval", *data, "--run", f"cv_{name}", "--folds", "2", "--head",
             "prototype", "--weights", "none", "--input_size", "32"],
            ["--mode", "report", "--run", "loose", *data, "--target",
             str(trained.path / f"{name}.html")],
        ]
    process = subprocess.run([sys.executable, "-m", "tests.few_blocks", json.dumps(commands)],
                             cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    tables = []
    for name in ("photos", "shards"):
        lines = (trained.path / f"eval_{name}.csv").read_text().splitlines()
        tables.append([line.split(",")[1:] for line in lines[1:]])
        assert (trained.path / f"{name}.html").exists()
    assert tables[0] == tables[1] and len(tables[0]) > 2
