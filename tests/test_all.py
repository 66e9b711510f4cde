"""--mode all: from a folder of photos to a measured, exported model in one command."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, write_image

import run as front_door
from common.files import checksum
from config import parser
from other import pipeline
from runs import run_folder
from runs.margin_files import read_margins

pytestmark = pytest.mark.training
COLORS = {"blue": (60, 60, 190), "red": (190, 60, 60)}


def photos(folder, count, first=0):
    for number, (class_name, color) in enumerate(COLORS.items()):
        os.makedirs(folder / class_name, exist_ok=True)
        for photo in range(first, first + count):
            shade = np.random.default_rng((number, photo)).integers(-40, 40, 3)
            write_image(folder / class_name / f"{photo}.png", color + shade, seed=(number, photo))


def go(folder, *words):
    """`run.py all` with a small network, in a process of its own."""
    words = ["--mode", "all", "--data", "my photos", "--backbone", "EfficientNetB0", "--weights",
             "none", *words]
    return subprocess.run(
        [sys.executable, os.path.join(ROOT, "tests", "few_blocks.py"), json.dumps([words])],
        cwd=folder, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(working folder, what the command printed, what it printed when given again)."""
    folder = tmp_path_factory.mktemp("all")
    photos(folder / "my photos", 20)
    group = ("--group", r"pattern:(\d)\.")  # ten groups of four photos
    words = ("--minutes", "0.2", "--lang", "zh", *group)
    return folder, go(folder, *words), go(folder, "--json")


def test_one_command_leaves_a_measured_and_exported_model(done):
    folder, process, _ = done
    assert process.returncode == 0, process.stderr
    path = folder / "save_h5_model" / "my photos"
    assert (path / "model" / "model.onnx").exists() and (path / "report.html").exists()
    assert (folder / "save_h5_model" / "my photos-audit" / "index.html").exists()
    audit_page = folder / "save_h5_model" / "my photos-audit" / "index.html"
    assert '<html lang="zh-CN">' in audit_page.read_text(encoding="utf-8")
    assert (folder / "my photos" / "splits.csv").exists()
    trained_on = {os.path.relpath(name, folder) for name in read_margins(str(path))[0]}
    assert len(trained_on) == 32 and len({name[-5] for name in trained_on}) == 8
    with open(path / "eval.csv", encoding="utf-8-sig") as file:
        assert len(file.readlines()) == 1 + 4  # two of each class
    assert "test_accuracy" in run_folder.read_metrics(str(path))


def test_the_summary_says_how_good_it_is_and_what_comes_next(done):
    folder, process, _ = done
    accuracy = run_folder.read_metrics(str(folder / "save_h5_model" / "my photos"))["test_accuracy"]
    assert f"{round(4 * accuracy)} of the 4 photos kept for the test" in process.stdout
    assert "Always answering" in process.stdout and "would be right for 50.0%" in process.stdout
    assert "run.py serve --model 'my photos'" in process.stdout
    headings = [line for line in process.stderr.splitlines() if line.startswith("== ")]
    assert [line.split(": ")[0] for line in headings] == [
        "== looking the photos over", "== training", "== measuring", "== writing the report",
        "== exporting"]


@pytest.mark.parametrize("accuracy, is_said", [(0.69, False), (0.7, True)])
def test_doubtful_labels_are_counted_where_the_model_can_judge_them(accuracy, is_said):
    lines = pipeline._to_look_at({
        "audit": None, "eval": {"accuracy": accuracy}, "report": {"suspects": 3, "html": "r.html"}})
    assert ("3 labels that look wrong" in lines[0]) is is_said and "r.html" in lines[0]


def test_given_again_it_does_only_what_is_left(done):
    """One line of JSON, and the same numbers."""
    _, first, process = done
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("\n") == 1
    result = json.loads(process.stdout)
    headings = [line for line in process.stderr.splitlines() if line.startswith("== ")]
    assert [line.split(": ")[0] for line in headings] == ["== measuring", "== writing the report"]
    assert f"{result['eval']['accuracy']:.1%}" in first.stdout
    assert result["audit"] is None and result["part"] == "test"


def test_other_photos_make_another_run(done, monkeypatch, capsys):
    """Added photos get their parts, and a run that has learned the others stays."""
    folder, *_ = done
    monkeypatch.chdir(folder)
    before = checksum(folder / "save_h5_model" / "my photos" / run_folder.BEST)
    photos(folder / "my photos", 10, first=20)
    commands = []

    def record(mode, heading, *words):
        commands.append((mode, *words))
        return {"model": "m", "errors": 0, "warnings": 0}

    monkeypatch.setattr(pipeline, "_run", record)
    monkeypatch.setattr(pipeline, "_export", lambda *words: {})
    words = ["--data", "my photos", "--save_dir", "save_h5_model", "--log_dir", "logs"]
    pipeline.run_all(parser.parse("all", words))
    train = next(words for words in commands if words[0] == "train")
    assert ("--run", "my photos-2") == train[train.index("--run") :][:2]
    assert "--minutes" not in train
    assert ("--log_dir", "logs") == train[train.index("--log_dir") :][:2]
    assert "EfficientNetLite0" in train and "has learned other photos" in capsys.readouterr().err
    assert checksum(folder / "save_h5_model" / "my photos" / run_folder.BEST) == before


@pytest.mark.parametrize("words, said", [
    (["--backbone", "EfficientNetB1"], "--backbone"), (["--minutes", "7"], "--minutes"),
    (["--weights", "imagenet"], "--weights"),
])
def test_other_options_make_another_run(done, monkeypatch, capsys, words, said):
    folder, *_ = done
    monkeypatch.chdir(folder)
    commands = []
    monkeypatch.setattr(pipeline, "_run", lambda mode, heading, *words: commands.append(
        (mode, *words)))
    monkeypatch.setattr(pipeline, "_export", lambda *words: {})
    pipeline.run_all(parser.parse("all", ["--data", "my photos", *words]))
    assert f"my photos has another {said}; another run" in capsys.readouterr().err
    train = next(command for command in commands if command[0] == "train")
    assert train[train.index("--run") + 1] != "my photos" and words[1] in " ".join(train)


@pytest.mark.parametrize("learns_from, first", [
    ("data", ("--resume", "mine")), ("others", ("--data", "data"))])
def test_a_stopped_training_is_resumed_with_its_photos(tmp_path, monkeypatch, learns_from, first):
    """One that has hardly begun, of other photos, is left alone."""
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "data", 10)
    commands = []
    monkeypatch.setattr(pipeline, "_run", lambda mode, heading, *words: commands.append(
        (mode, *words)))
    monkeypatch.setattr(pipeline, "_export", lambda *words: {})
    options = parser.parse("all", ["--data", "data", "--run", "mine", "--workers", "1"])
    begun = parser.parse("train", ["--input_size", "32", "--train_data", learns_from])
    run_folder.create("save_h5_model/mine", begun, ("blue", "red"), False)
    pipeline.run_all(options)
    train = next(words for words in commands if words[0] == "train")
    assert train[1:3] == first


def test_an_audit_of_other_photos_is_no_audit_of_these(tmp_path, monkeypatch):
    """It was written before the training failed, so that there is no run of that name."""
    monkeypatch.chdir(tmp_path)
    audited = []

    def record(mode, heading, *words):
        if mode == "audit":
            audited.append((words[1], words[3]))
            os.makedirs(words[3])

    monkeypatch.setattr(pipeline, "_run", record)
    monkeypatch.setattr(pipeline, "_export", lambda *words: {})
    for name in ("one", "two", "two", "one"):
        if not os.path.exists(name):
            photos(tmp_path / name, 10)
        pipeline.run_all(parser.parse("all", ["--data", name, "--run", "mine"]))
    folder = os.path.join("save_h5_model", "mine-audit")
    assert audited == [("one", folder), ("two", f"{folder}-2")]


def test_too_few_photos_to_test_on_are_measured_by_validation(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "data", 4)
    commands = []
    monkeypatch.setattr(pipeline, "_run", lambda mode, heading, *words: commands.append(
        (mode, *words)))
    monkeypatch.setattr(pipeline, "_export", lambda *words: {})
    result = pipeline.run_all(parser.parse("all", ["--data", "data"]))
    assert result["part"] == "val"
    assert all(words[-1] == "val" or "--part" in words for words in commands if words[0] == "eval")


def test_the_run_has_the_name_of_the_folder(tmp_path, monkeypatch):
    photos(tmp_path / "my waste", 10)
    monkeypatch.chdir(tmp_path / "my waste")
    monkeypatch.setattr(pipeline, "_run", lambda *words: {})
    monkeypatch.setattr(pipeline, "_export", lambda *words: {})
    options = parser.parse("all", ["--data", ".", "--save_dir", str(tmp_path / "runs")])
    assert pipeline.run_all(options)["run"] == str(tmp_path / "runs" / "my waste")


def test_bad_data_are_refused_before_anything(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert front_door.main(["all", "--data", "empty"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert os.listdir(tmp_path) == ["empty"]
