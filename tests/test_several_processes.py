"""Several processes on loopback that train together, and what they leave."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import ROOT, write_samples

import efficientnet.model as network
import save_model
import train
from common.errors import InputError, RunError
from compute import cluster, device_names
from compute.devices import Sharding
from config import parser
from config.modes import saved_options
from data import decoding
from modeling import weight_files
from modeling.architecture import Architecture
from modeling.builder import build_model
from prediction.classifier import Classifier
from runs import checkpoint, run_folder

pytestmark = pytest.mark.training

FEW_BLOCKS = (
    network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 6, 2), network.Stage(5, 1, 24, 6, 2),
)
EPOCHS = 3
IMAGES = 15  # batches of 8 and 7


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(words, trace=None):
    """A training on a small network, as a process that has been started."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL")}
    # Compiling takes most of these trainings' time; what is compared is compiled alike.
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    if trace:
        environment["TRACE"] = str(trace)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.few_blocks", json.dumps([[str(word) for word in words]])],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )


def several(count=2, port=None):
    """The options of each of `count` processes."""
    address = f"127.0.0.1:{port or free_port()}"
    return [
        ("--backend", "jax", "--coordinator", address, "--num_processes", count,
         "--process_id", number)
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, a file of weights to start from, and the options of every training here."""
    place = tmp_path_factory.mktemp("several")
    write_samples(place / "train", IMAGES // 3)
    write_samples(place / "val", 3, seed=5, ending=".bmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", FEW_BLOCKS)
        keras.utils.set_random_seed(1)
        model = build_model(Architecture("EfficientNetB0", 32, norm="group"), 3)
        model.save_weights(place / "start.weights.h5")
    words = (
        "--mode", "train", "--train_data", place / "train", "--val_data", place / "val",
        "--weights", place / "start.weights.h5", "--input_size", 32, "--batch_size", 8,
        "--workers", 2, "--dropout", 0, "--drop_connect", 0, "--norm", "group",
        "--optimizer", "sgd", "--recipe", "scratch", "--save_dir", place / "runs",
        "--log_dir", place / "logs",
    )
    return SimpleNamespace(path=place, words=words, runs=place / "runs")


@pytest.fixture(scope="module")
def trained(place):
    """The same training by two processes, by one, and by TensorFlow on one device and two."""
    words = (*place.words, "--epochs", EPOCHS, "--json")
    started = [
        start((*words, "--run", "jax_two", *more), trace=place.path / f"process{number}")
        for number, more in enumerate(several())
    ]
    started += [
        start((*words, "--run", "jax_one", "--backend", "jax"), trace=place.path / "alone"),
        start((*words, "--run", "tf_one")),
        start((*words, "--run", "tf_two", "--devices", "cpu:2")),
    ]
    place.outputs = []
    for process in started:
        out, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        place.outputs.append(out)
    return place


def variables(path):
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def largest_difference(one, two):
    assert len(one) == len(two) and len(one) > 10
    return max(float(np.abs(a - b).max()) for a, b in zip(one, two))


def test_both_processes_end_with_the_weights_of_one(trained):
    alone = variables(trained.path / "alone.npz")
    for number in (0, 1):
        assert largest_difference(alone, variables(trained.path / f"process{number}.npz")) < 1e-5


def test_each_process_reads_its_part_and_together_each_image_once_per_epoch(trained):
    reads = [
        [name for name in (trained.path / f"process{number}.read").read_text().split()
         if name.endswith(".png")]
        for number in (0, 1)
    ]
    # One image of the last batch of 7 is repeated, with a weight of 0.
    assert len(reads[0]) == len(reads[1]) == EPOCHS * (IMAGES + 1) // 2
    counts = np.unique(reads[0] + reads[1], return_counts=True)[1]
    assert len(counts) == IMAGES
    assert counts.min() == EPOCHS


@pytest.mark.parametrize("count", [1, 2, 7, 8, 15, 16, 100])
@pytest.mark.parametrize("number,even", [(1, False), (2, False), (3, False), (8, False),
                                         (2, True), (3, True), (8, True)])
def test_rows_of_a_batch_over_devices(count, number, even):
    """Over all processes each row is real once; no device is without a row."""
    for processes in {1, number} if even else {1}:
        parts = [
            Sharding(number, even, process, processes).rows(count)
            for process in range(processes)
        ]
        rows = np.concatenate([part[0] for part in parts])
        real = np.concatenate([part[1] for part in parts])
        assert sorted(rows[real]) == list(range(count))
        assert rows.min() >= 0 and rows.max() < count
        each = -(-len(rows) // number)  # what TensorFlow gives every device but the last
        assert len(rows) > each * (number - 1)
        if even:
            assert {len(part[0]) for part in parts} == {each * number // processes}


def test_exports_of_all_trainings_answer_alike(trained, monkeypatch):
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    answers = []
    for name in ("jax_two", "tf_one", "tf_two"):
        run = run_folder.read(str(trained.runs / name))
        save_model.export(run)
        classifier = Classifier.load(run.file(run_folder.MODEL))
        files = [str(trained.path / "val" / f"img_{label}_{n}.bmp")
                 for label in range(3) for n in range(3)]
        images = np.stack([decoding.load(file, classifier.preprocessing) for file in files])
        answers.append(classifier.probabilities(images))
    assert np.ptp(answers[0]) > 0.01
    assert np.abs(answers[0] - answers[1]).max() < 1e-5
    assert np.abs(answers[0] - answers[2]).max() < 1e-5


def test_standard_output_has_one_line_of_json_of_one_process(trained):
    first, second = trained.outputs[:2]
    assert json.loads(first)["epochs"] == EPOCHS and first.count("\n") == 1
    assert second == ""


def test_one_process_writes_the_run_folder(trained):
    run = run_folder.read(str(trained.runs / "jax_two"))
    assert run_folder.read_metrics(run.path)["epochs"] == EPOCHS
    assert run.options.backend == "jax"
    # Where a training ran is no part of what it is.
    assert run.options.given.issubset(saved_options("train"))
    assert not [name for name in os.listdir(run.path) if "partial" in name]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_other_and_resuming_finishes(place, lost):
    name, epochs = f"killed{lost}", 12
    words = (*place.words, "--epochs", epochs, "--run", name)
    processes = [start((*words, *more)) for more in several()]
    results = place.runs / name / run_folder.RESULTS
    until = time.monotonic() + 200
    while not results.exists() or results.read_text().count("\n") < 3:
        assert time.monotonic() < until
        assert processes[0].poll() is None, processes[0].communicate()[1]
        time.sleep(0.02)
    processes[lost].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    other = processes[1 - lost]
    said = other.communicate(timeout=60)[1]
    assert time.monotonic() - killed < 60
    assert other.returncode != 0
    assert said.splitlines()[-1].startswith("run.py: ")
    assert cluster.LOST_PROCESS in said.splitlines()[-1]
    processes[lost].communicate()

    folder = str(place.runs / name / run_folder.CHECKPOINT)
    found = checkpoint.newest(folder, pytest.fail)
    assert 1 <= found.epochs == len(found.state.history) < epochs
    if lost == 0:
        return
    again = start(("--mode", "train", "--resume", name, "--save_dir", place.runs,
                   "--backend", "jax"))
    said = again.communicate(timeout=300)[1]
    assert again.returncode == 0, said
    assert run_folder.read_metrics(str(place.runs / name))["epochs"] == epochs
    assert len(weight_files.read(str(place.runs / name / run_folder.BEST))) > 10


def test_different_options_are_named_and_refused(place):
    words = (*place.words, "--epochs", 2, "--run", "different")
    processes = [
        start((*words, *more, "--learning_rate", rate))
        for more, rate in zip(several(), ("0.1", "0.2"))
    ]
    for number, process in enumerate(processes):
        last = process.communicate(timeout=200)[1].splitlines()[-1]
        assert process.returncode == 2
        assert "process 1 differs from process 0 in --learning_rate" in last
        assert f"in process {number}, --learning_rate is 0.{number + 1}" in last
    assert not (place.runs / "different").exists()


def test_a_taken_port_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"cannot listen at {address}"):
            cluster.check_port(address)
        cluster.wait_for_address(address, 1)
    cluster.check_port(address)


def test_an_unreachable_coordinator_is_one_line():
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(RunError, match=f"{address} cannot be reached, tried for 1 s"):
        cluster.wait_for_address(address, 1)
    with pytest.raises(RunError, match="a..b:1 cannot be reached"):
        cluster.wait_for_address("a..b:1", 0.1)


@pytest.mark.parametrize(
    "error,told",
    [
        (RuntimeError("INTERNAL: Gloo all-reduce failed: Connection closed by peer\nmore"),
         r"another process .* \(INTERNAL: Gloo all-reduce failed: Connection closed by peer\)$"),
        (RuntimeError("RESOURCE_EXHAUSTED: aborted: out of memory"), None),
        (RuntimeError("something else"), None),
        (FileNotFoundError(2, "No such file", "/data/connection/1.png"), None),
        (RunError("the loss became nan; connection"), None),
        (KeyboardInterrupt("connection"), None),
    ],
)
def test_a_lost_process_is_told_from_other_errors(error, told):
    found = cluster.explain(error)
    if told is None:
        assert found is error
    else:
        assert isinstance(found, RunError) and re.match(told, str(found))


@pytest.mark.parametrize(
    "words,said",
    [
        (("--coordinator", "10.0.0.1:99"), "--coordinator: needs --num_processes, --process_id"),
        (("--coordinator", "10.0.0.1"), "takes HOST:PORT"),
        (("--num_processes", "2", "--process_id", "2", "--coordinator", "a:1"),
         "--process_id: 2 is too high for 2 processes; allowed: 0 to 1"),
        (("--num_processes", "2", "--process_id", "1", "--coordinator", "a:1",
          "--backend", "tensorflow"), "several processes train with jax, not with tensorflow"),
        (("--num_processes", "2", "--process_id", "1", "--coordinator", "a:1", "--backend", "jax",
          "--freeze_epochs", "1", "--cache_features"), "--cache_features: computes"),
        (("--num_processes", "2", "--process_id", "1", "--coordinator", "a:1", "--backend", "jax",
          "--devices", "cpu:3"), "--batch_size: 16 is not a multiple of 6 devices"),
    ],
)
def test_bad_processes_are_refused_before_any_training(folder, words, said):
    from training import setup

    with pytest.raises(InputError, match=said):
        setup.prepare(parser.parse("train", ["--train_data", folder, *words]))


def test_a_launcher_is_recognised(monkeypatch):
    for names in device_names.LAUNCHERS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    assert device_names.launcher() is None
    for name in device_names.LAUNCHERS["Slurm"]:
        monkeypatch.setenv(name, "4")
    assert device_names.launcher() == "Slurm"
    assert device_names.uses_several_devices(parser.parse("train", ["--backend", "jax"]))
    assert not device_names.uses_several_devices(parser.parse("train", []))
    # Going on has to say --backend jax: what the run was trained with is not known yet.
    assert not device_names.uses_several_devices(parser.parse("train", ["--resume", "a run"]))
    with pytest.raises(InputError, match="Slurm started several .* give --backend jax as well"):
        train.one_device(SimpleNamespace(options=SimpleNamespace(backend="jax")))
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert device_names.launcher() is None
