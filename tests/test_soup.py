"""training/soup.py: the average of the best epochs' weights, and where it is taken."""

import json
import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from conftest import ROOT, write_samples
from tiny_backbone import few_blocks

import efficientnet.model as network
import train
from common.errors import InputError
from config import parser
from data.samples import read_samples
from evaluation.model_card import model_card
from prediction.batch import predict_samples
from prediction.classifier import Classifier
from runs import run_folder
from runs.results import ranked_epochs, score
from training import soup
from training.run_recorder import RunRecorder

pytestmark = pytest.mark.training

LABELS = ("red", "green", "blue")
ONE_STAGE = ("--weights", "none", "--recipe", "scratch")


@pytest.fixture(autouse=True)
def small_network():
    with few_blocks():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    write_samples(place / "train", 6)
    write_samples(place / "val", 4, seed=5)
    return place


def words(data, place, *more, epochs=3):
    return [
        "--train_data", str(data / "train"), "--val_data", str(data / "val"), "--soup",
        "--input_size", "32", "--batch_size", "6", "--epochs", str(epochs), "--workers", "2",
        "--save_dir", str(place / "runs"), "--log_dir", str(place / "logs"), "--run", "run", *more,
    ]


def fit(*options):
    return train.fit(parser.parse("train", list(options)))


def resume(place, *more):
    return fit("--resume", "run", "--save_dir", str(place / "runs"),
               "--log_dir", str(place / "logs"), *more)


def arrays(path):
    """name -> array of an h5 file."""
    values = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: values.update({name: item[()]})
                        if isinstance(item, h5py.Dataset) else None)
    return values


def epoch_path(run, number):
    return os.path.join(run, "soup", f"{number:05}.weights.h5")


def scores_by_hand(run, data):
    """Accuracy and cross-entropy of what a run has kept on its validation photos."""
    samples = read_samples(str(data / "val"), LABELS)
    rows = predict_samples(Classifier.load(run), samples, 12, 1).probabilities.astype(float)
    own = rows[np.arange(len(rows)), samples.class_ids]
    return np.mean(rows.argmax(axis=1) == samples.class_ids), -np.log(own).mean()


# --- averaging and choosing -----------------------------------------------------------


def test_the_mean_is_numpys(tmp_path):
    generator, paths = np.random.default_rng(0), []
    for number in range(3):
        paths.append(str(tmp_path / f"{number}.h5"))
        with h5py.File(paths[-1], "w") as file:
            file["layers/a/vars/0"] = generator.normal(size=(3, 4)).astype(np.float32)
            file["layers/b/c/vars/1"] = generator.normal(size=()).astype(np.float32)
            file["seed"] = np.array([number, 7], np.uint32)
    target = str(tmp_path / "mean.h5")
    soup.average(paths, target)
    first, second, third = map(arrays, paths)
    mean = arrays(target)
    assert mean.keys() == first.keys()
    for name in ("layers/a/vars/0", "layers/b/c/vars/1"):
        assert mean[name].dtype == np.float32
        expected = (first[name].astype(float) + second[name] + third[name]) / 3
        np.testing.assert_array_equal(mean[name], expected.astype(np.float32))
    assert mean["seed"].tolist() == [0, 7]  # of no use as a mean
    assert not np.array_equal(mean["layers/a/vars/0"], first["layers/a/vars/0"])
    assert sorted(os.listdir(tmp_path)) == ["0.h5", "1.h5", "2.h5", "mean.h5"]


@pytest.mark.parametrize("table, chosen", [
    # accuracy, loss of the mean of these epochs, in the order in which they are tried
    ({(4,): (0.8, 1.0), (4, 2): (0.8, 0.9), (4, 2, 1): (0.9, 2.0)}, [4, 2, 1]),
    ({(4,): (0.8, 1.0), (4, 2): (0.7, 0.1), (4, 1): (0.8, 1.0)}, [4, 1]),  # as good is enough
    ({(4,): (0.8, 1.0), (4, 2): (0.8, 1.1), (4, 1): (0.7, 0.1)}, [4]),
])
def test_the_greedy_soup_by_hand(table, chosen):
    tried = []

    def evaluate(epochs):
        tried.append(tuple(epochs))
        return dict(zip(("val_accuracy", "val_loss"), table[tuple(epochs)]))

    epochs, scores = soup.choose([4, 2, 1], evaluate)
    assert epochs == chosen and tuple(scores.values()) == table[tuple(chosen)]
    assert tried == list(table)


@pytest.mark.parametrize("epochs, after, is_better", [
    ((3, 2), (0.9, 1.0), True), ((3, 2), (0.8, 0.9), True), ((3, 2), (0.8, 1.0), False),
    ((3, 2), (0.7, 0.1), False), ((3,), (0.9, 0.1), False),
])
def test_an_average_has_to_be_better_than_the_one_epoch(epochs, after, is_better):
    names = ("val_accuracy", "val_loss")
    made = soup.Soup(epochs, dict(zip(names, after)), dict(zip(names, (0.8, 1.0))))
    assert made.is_better == made.to_json()["kept"] == is_better
    assert ("test images" in made.describe()) == is_better
    assert made.to_json()["val_accuracy_before"] == 0.8
    assert made.to_json()["val_loss_after"] == after[1]


# --- in a training --------------------------------------------------------------------


def set_epochs(run, change_head):
    """Gives the files of the two epochs other heads; returns the better epoch's number."""
    numbers = sorted(int(name[:5]) for name in os.listdir(os.path.join(run, "soup")))
    for number, factor in zip(numbers, (1, -1)):
        with h5py.File(epoch_path(run, number), "r+") as file:
            kernel = next(item for name, item in file["layers"].items()
                          if item["vars"].attrs.get("name") == "predictions")["vars/0"]
            kernel[...] = change_head(kernel[()], factor)


@pytest.fixture
def trained(data, tmp_path):
    """A run of a network that has learned the colours, and of two epochs."""
    start = fit(*words(data, tmp_path, *ONE_STAGE, "--run", "start", epochs=8))["run"]
    more = ("--weights", os.path.join(start, "best.weights.h5"), "--learning_rate", "1e-6",
            "--recipe", "scratch")
    return fit(*words(data, tmp_path, *more, epochs=2))


def test_an_average_that_is_better_is_taken(trained, data, tmp_path, capsys):
    run = trained["run"]

    def add_noise(kernel, factor):
        return kernel + factor * np.random.default_rng(3).normal(0, 50, kernel.shape)

    set_epochs(run, add_noise)
    metrics = resume(tmp_path)
    accuracy, loss = scores_by_hand(run, data)
    made = metrics["soup"]
    assert made["kept"] and made["epochs"] == [1, 2]
    assert metrics["val_accuracy"] == made["val_accuracy_after"] == pytest.approx(accuracy)
    assert metrics["val_loss"] == made["val_loss_after"] == pytest.approx(loss, rel=1e-4)
    assert score({name: made[f"{name}_before"] for name in ("val_accuracy", "val_loss")}) < (
        accuracy, -loss)
    best = arrays(os.path.join(run, "best.weights.h5"))
    one, two = (arrays(epoch_path(run, number)) for number in (1, 2))
    for name, value in best.items():
        expected = (one[name].astype(float) + two[name]) / 2
        np.testing.assert_array_equal(value, expected.astype(value.dtype), err_msg=name)
    err = capsys.readouterr().err
    assert "soup: the average of epochs 1, 2 is kept" in err
    assert "measure it on test images" in err and "best: the average of 2 epochs" in err
    check = json.loads(open(os.path.join(run, "check", "probabilities.json")).read())
    photo = next(iter(check))
    row = Classifier.load(run).classify([os.path.join(run, "check", photo)], 3)[0]
    assert max(check[photo]) == pytest.approx(row[0]["probability"], abs=1e-5)


def test_an_average_that_is_worse_is_not_taken(trained, data, tmp_path, capsys):
    run, kept = trained["run"], trained["best_epoch"]
    set_epochs(run, lambda kernel, factor: kernel * (1 if factor == 3 - 2 * kept else -1))
    metrics = resume(tmp_path)
    made = metrics["soup"]
    assert made["kept"] is False and made["epochs"] == [kept]
    assert metrics["val_accuracy"] == trained["val_accuracy"]
    with open(os.path.join(run, "best.weights.h5"), "rb") as best:
        with open(epoch_path(run, kept), "rb") as one:
            assert best.read() == one.read()
    assert "no epoch could be averaged with the best one" in capsys.readouterr().err


def same_runs(one, two):
    """Arrays, not bytes: Keras numbers layers without a name through a process."""
    names = ["best.weights.h5", "last.weights.h5"]
    names += [os.path.join("soup", name) for name in sorted(os.listdir(one / "soup"))]
    assert sorted(os.listdir(two / "soup")) == sorted(os.listdir(one / "soup"))
    for name in names:
        first, second = arrays(one / name), arrays(two / name)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key]) for key in first), name
    assert (one / "results.csv").read_bytes() == (two / "results.csv").read_bytes()
    values = [run_folder.read_metrics(str(run)) for run in (one, two)]
    for metrics in values:
        metrics.pop("train_seconds")
    assert values[0] == values[1]


CASES = {
    "averaged": (*ONE_STAGE, "--ema", "0.5", "--select", "last"),
    "frozen": (*ONE_STAGE, "--freeze_epochs", "3", "--cache_features"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_training_leaves_the_same(data, tmp_path, monkeypatch, case):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    more = words(data, stopped, *CASES[case])
    fit(*words(data, whole, *CASES[case]))
    end_epoch, copy_weights = RunRecorder.on_epoch_end, soup.copy_weights

    def stop_in_an_epoch(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        end_epoch(self, epoch, logs)

    def stop_before_the_end(source_path, target_path):
        copy_weights(source_path, target_path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunRecorder, "on_epoch_end", stop_in_an_epoch)
        fit(*more)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(soup, "copy_weights", stop_before_the_end)
        resume(stopped)
    made = resume(stopped)["soup"]
    assert set(made["epochs"]) <= {1, 2, 3}
    same_runs(whole / "runs" / "run", stopped / "runs" / "run")


def test_the_best_five_of_the_last_stage(data, tmp_path):
    """And the one that is compared with them, should it be another."""
    metrics = fit(*words(data, tmp_path, *ONE_STAGE, "--freeze_epochs", "1", epochs=7))
    run = metrics["run"]
    with open(os.path.join(run, "results.csv")) as file:
        names, *lines = [line.strip().split(",") for line in file]
    rows = [dict(zip(names, map(float, line))) for line in lines]
    best = sorted(rows[1:], key=lambda row: (-row["val_accuracy"], row["val_loss"]))[:5]
    expected = {int(row["epoch"]) for row in best} | {metrics["best_epoch"]}
    assert {int(name[:5]) for name in os.listdir(os.path.join(run, "soup"))} == expected
    assert set(metrics["soup"]["epochs"]) <= expected - {1}
    assert ranked_epochs(rows, 1)[:5] == [row["epoch"] for row in best]
    metrics = resume(tmp_path, "--epochs", "8")  # a finished one may go on
    assert metrics["epochs"] == 8 and metrics["soup"]["epochs"]


def test_one_epoch_cannot_be_averaged(data, tmp_path, capsys):
    metrics = fit(*words(data, tmp_path, *ONE_STAGE, epochs=1))
    assert "soup" not in metrics and metrics["best_epoch"] == 1
    assert "fewer than two epochs" in capsys.readouterr().err
    with pytest.raises(InputError, match="--soup: yes has no effect with --head linear") as error:
        fit(*words(data, tmp_path, "--head", "linear", "--overwrite", epochs=1))
    assert "\n" not in str(error.value)


def test_undecodable_validation_photos_are_named_once(tmp_path, capsys):
    write_samples(tmp_path / "train", 6)
    write_samples(tmp_path / "val", 4, seed=5)
    (tmp_path / "val" / "img_0_0.png").write_bytes(b"no image")
    metrics = fit(*words(tmp_path, tmp_path, *ONE_STAGE, "--max_bad", "0.2", epochs=2))
    assert capsys.readouterr().err.count("left out: ") == 1
    assert metrics["undecodable_images"] == 1


def test_two_devices(data, tmp_path, monkeypatch):
    """The run is that of several devices, the average is computed and measured on one."""
    more = ["--mode", "train", *words(data, tmp_path, *ONE_STAGE), "--multigpu", "--json",
            "--devices", "cpu:2"]
    result = subprocess.run(
        [sys.executable, "-m", "tests.few_blocks", json.dumps([more])], cwd=ROOT,
        capture_output=True, text=True, timeout=600,
    )
    assert result.returncode == 0, result.stderr
    monkeypatch.setattr(network, "STAGES", (*network.STAGES, network.Stage(5, 1, 24, 6, 2)))
    metrics = json.loads(result.stdout)
    accuracy, loss = scores_by_hand(metrics["run"], data)
    after = metrics["soup"]["val_accuracy_after" if metrics["soup"]["kept"]
                            else "val_accuracy_before"]
    assert after == pytest.approx(accuracy)
    assert metrics["val_loss"] == pytest.approx(loss, rel=1e-3)


# --- telling people -------------------------------------------------------------------


def test_the_model_card_says_who_has_chosen():
    description = {
        "run": "waste", "backbone": "EfficientNetLite0", "labels": ["glass", "metal"],
        "preprocessing": {"size": 224, "resize": "letterbox"}, "calibration": None,
        "versions": {"python": "3.12.1"}, "checked_images": 80, "formats": {},
    }
    made = {"epochs": [3, 5, 6], "kept": True, "val_accuracy_before": 0.9,
            "val_accuracy_after": 0.925}
    card = model_card(description, {"val_images": 40, "val_accuracy": 0.925, "soup": made}, "none")
    assert "the average of those of epochs 3, 5, 6" in card
    assert re.search(r"0\.900 with one epoch and is 0\.925", card) and "flatters" in card
    made["kept"] = False
    assert "average" not in model_card(description, {"soup": made}, "none")
