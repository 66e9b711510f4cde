"""Runs, checkpoints and exported models made before the packages were there are still read.

old_runs.zip holds, made by the code of that time on networks of few, narrow blocks: `finished`, a
run with calibration and exported model; `stopped`, one stopped in its second epoch; the images
of both; and expected.json, what that code went on to answer.
"""

import csv
import io
import json
import os
import zipfile

import numpy as np
import pytest

import efficientnet.model as network
import run as front_door
from data import augmentation
from data.geometry import resize_to_square
from data.warping import move_to_square
from runs import run_folder
from runs.checkpoint import newest
from runs.margin_files import TRAINED_ON, read_margins
from runs.results import read_results

pytestmark = pytest.mark.training

ARCHIVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "old_runs.zip")
STAGES = (
    network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 6, 2), network.Stage(5, 1, 24, 6, 2),
)
THRESHOLD = 0.6701254844665527  # of `finished`, for green
NEAR = 1e-4  # between processors, on probabilities that a small temperature has sharpened


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The unpacked archive, as the working folder; what it expects."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    for name in ("finished", "stopped"):
        table = tmp_path / name / run_folder.MARGINS / TRAINED_ON
        table.write_text(table.read_text().replace("PLACE", str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(network, "STAGES", STAGES)
    monkeypatch.setattr(network, "round_filters", lambda count, *_: min(count, 32))
    return json.loads((tmp_path / "expected.json").read_text())


@pytest.fixture
def answer(capsys):
    """Runs a mode with --json; gives what it answers."""
    def answer(*words):
        status = front_door.main(["--mode", *words, "--json"])
        output = capsys.readouterr()
        assert status == 0, output.err
        return json.loads(output.out)

    return answer


def assert_same_predictions(answers, expected):
    assert [each["image"] for each in answers] == [each["image"] for each in expected]
    for one, other in zip(answers, expected):
        # A threshold was fitted to one of these images: rounding may move that one across it.
        highest = other["predictions"][0]["probability"]
        assert one["unknown"] == other["unknown"] or abs(highest - THRESHOLD) < NEAR
        probabilities, old_probabilities = (
            {each["label"]: each["probability"] for each in row["predictions"]}
            for row in (one, other))
        assert probabilities == pytest.approx(old_probabilities, abs=NEAR)


@pytest.mark.parametrize("runtime", ["savedmodel", "onnx", "openvino"])
def test_an_old_exported_model_answers_as_it_did(old, answer, runtime):
    folder = ("--run", "finished/model", "--runtime", runtime)
    assert_same_predictions(
        answer("predict", *folder, "--image", "val"), old[f"predict_{runtime}"])
    scores = answer("eval", *folder, "--data", "val")
    expected = old[f"eval_{runtime}"]
    assert scores.keys() - {"accuracy_interval"} == expected.keys()
    for name in ("images", "accuracy", "macro_f1", "classes"):
        assert scores[name] == expected[name]


def test_an_old_run_answers_by_its_weights(old, answer):
    os.rename("finished/model", "model")
    assert_same_predictions(
        answer("predict", "--run", "finished", "--image", "val"), old["predict_weights"])


def test_an_old_run_is_read_whole(old):
    run = run_folder.read("finished")
    assert run.class_names == ("red", "green", "blue") and run.options.freeze_epochs == 1
    assert [row["epoch"] for row in read_results("finished")] == [1, 2]
    images, margins = read_margins("finished")
    assert len(images) == 12 and margins.shape == (2, 12) and np.isfinite(margins).all()
    assert run_folder.read_metrics("finished")["test_images"] == 6


def test_an_old_checkpoint_is_resumed(old, monkeypatch):
    """In mid-epoch, with a moving average of the weights, and the same variants of its images.

    That code resampled an image twice where it is now done once: first to its square, then in it.
    """
    def in_two_steps(image, preprocessing, movement, out, shape):
        resize_to_square(image, preprocessing, out, shape)
        return move_to_square(out, preprocessing, movement, out)

    monkeypatch.setattr(augmentation, "move_to_square", in_two_steps)
    found = newest("stopped/checkpoint", pytest.fail)
    assert (found.epochs, found.steps, found.state.best_number) == (1, 2, 1)
    assert front_door.main(["--mode", "train", "--resume", "stopped"]) == 0
    rows, expected = (
        [{name: float(value) for name, value in row.items()} for row in csv.DictReader(text)]
        for text in (open("stopped/results.csv"), io.StringIO(old["resumed"])))
    assert len(rows) == len(expected) == 3
    for row, old_row in zip(rows, expected):
        assert row == pytest.approx(old_row, abs=1e-3)
