"""Several devices of one machine: the processor as two, against the same as one.

Everything runs in one process of its own, since the devices of TensorFlow are fixed when it
begins to compute.
"""

import csv
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, command, write_samples

from modeling import weight_files
from runs import run_folder

pytestmark = pytest.mark.training

PLAIN = ("--weights", "none", "--input_size", 32, "--batch_size", 8, "--workers", 2,
         "--dropout", 0, "--drop_connect", 0, "--epochs", 3)
# name -> options besides; each is trained on one device and on two
SETTINGS = {
    # 15 images: the last batch has 7, one device gets 4 and one 3; without BatchNorm
    "sgd": ("--norm", "group", "--optimizer", "sgd"),
    "batch_norm": ("--sync_batchnorm", "yes", "--optimizer", "sgd"),
    # What Keras does before it adds the devices' gradients up, and what it keeps beside weights
    "clipped": ("--norm", "group", "--optimizer", "sgd", "--clipnorm", 0.05, "--ema", 0.5,
                "--layer_decay", 0.8, "--loss", "focal", "--class_weights", "balanced"),
    "frozen": ("--norm", "group", "--optimizer", "sgd", "--freeze_epochs", 2, "--cache_features"),
}


def few_blocks(*commands, **environment):
    """Runs commands on a small network in a process of their own."""
    words = [[str(word) for word in words] for words in commands]
    return subprocess.run(
        [sys.executable, "-m", "tests.few_blocks", json.dumps(words)], cwd=ROOT, text=True,
        capture_output=True, timeout=600, env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Every run and what the process said; 15 images to train on and 3 to validate on."""
    place = tmp_path_factory.mktemp("multigpu")
    data = ("--train_data", write_samples(place / "train", 5),
            "--val_data", write_samples(place / "val", 1, seed=5))
    folders = ("--save_dir", place / "runs", "--log_dir", place / "logs")
    commands = []
    for name, more in SETTINGS.items():
        for devices, words in (("two", ("--devices", "cpu:2")), ("one", ())):
            commands.append(("--mode", "train", *data, *folders, *PLAIN, *more, *words,
                             "--run", f"{name}_{devices}"))
    evaluate = ("--mode", "eval", "--run", "sgd_two", "--data", place / "train",
                "--batch_size", 7, *folders[:2])
    commands += [
        (*evaluate, "--csv", place / "two.csv", "--devices", "cpu:2"),
        (*evaluate, "--csv", place / "one.csv"),
        ("--mode", "save_pb", "--multigpu", "--run", "batch_norm_two", *folders[:2]),
    ]
    process = few_blocks(*commands)
    assert process.returncode == 0, process.stderr[-3000:]
    return SimpleNamespace(path=place, runs=place / "runs", said=process.stdout + process.stderr)


def largest_difference(one, two):
    one, two = (weight_files.read(os.path.join(path, run_folder.LAST)) for path in (one, two))
    assert one.keys() == two.keys()
    return max(
        float(np.abs(a - b).max()) for name in one for a, b in zip(one[name], two[name])
    )


@pytest.mark.parametrize(
    "name,most",
    [("sgd", 1e-5), ("batch_norm", 1e-4), ("clipped", 1e-5), ("frozen", 1e-5)],
)
def test_two_devices_train_the_same_weights_as_one(place, name, most):
    assert largest_difference(place.runs / f"{name}_one", place.runs / f"{name}_two") < most


def results(path):
    with open(path / run_folder.RESULTS) as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", SETTINGS)
def test_results_of_two_devices_are_those_of_one(place, name):
    """Losses too: each image of the last batch counts once, whichever device it was on."""
    one, two = (results(place.runs / f"{name}_{devices}") for devices in ("one", "two"))
    assert len(one) == len(two) == 3
    for a, b in zip(one, two):
        assert a == pytest.approx(b, abs=2e-5)


def test_evaluation_on_two_devices_gives_the_same_rows(place):
    tables = []
    for name in ("one.csv", "two.csv"):
        with open(place.path / name) as file:
            tables.append(list(csv.reader(file)))
    one, two = tables
    assert len(one) == len(two) == 16
    for a, b in zip(one, two):
        assert len(a) == len(b)
        for left, right in zip(a, b):
            try:
                assert float(left) == pytest.approx(float(right), abs=1e-5)
            except ValueError:
                assert left == right


def test_export_is_proved_on_one_device(place):
    assert (place.runs / "batch_norm_two" / "model" / "model.json").exists()
    assert "in a separate process that sees only the CPU" in place.said


def test_start_says_devices_batch_and_rate(place):
    assert "2 devices: cpu:0, cpu:1; 4 images per device and step; learning rate 0.01" in place.said
    said = [line for line in place.said.splitlines() if line.startswith("2 devices")]
    assert len(said) == len(SETTINGS)  # once a training; the others have no batch normalization
    assert sum("batch normalization over the whole batch" in line for line in said) == 1


@pytest.mark.parametrize(
    "words,said",
    [
        (("--devices", "cpu:3"), "--batch_size: 8 is not a multiple of 3 devices; nearest: 6 or 9"),
        (("--devices", "cpu:2", "--accumulate", 2), "--accumulate: 2 is not possible on several"),
        (("--devices", "cpu:2", "--mixed_precision", "float16"), "--mixed_precision: float16 is"),
        (("--devices", "cpu:2", "--jit", "on"), "--jit: on is not possible on several"),
        (("--devices", "gpu:0"), "--devices: gpu:0 does not exist: this machine has no usable GPU"),
        (("--devices", "gpu:0,cpu:1"), "'gpu:0,cpu:1' is not allowed"),
        (("--devices", "cpu:2", "--scale_lr", "double"), "'double' is not allowed"),
    ],
)
def test_bad_devices_are_refused(folder, words, said, tmp_path):
    process = command(
        "--mode", "train", "--train_data", folder, *PLAIN, *words, "--save_dir", tmp_path / "runs",
    )
    assert process.returncode == 2
    assert said in process.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()
