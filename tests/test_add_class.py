"""--mode add_class: the head of a run with one class more or less, and what it says about both."""

import csv
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import COLORS, write_image, write_samples
from tiny_backbone import few_blocks, write_weights

import eval as evaluation
import train
from common import console
from common.errors import InputError
from config import parser
from data import parts
from data.label_names import read_label_names
from data.labelled_data import read_labelled
from other import add_class as tool
from prediction.classifier import Classifier
from runs import run_folder
from save_model import export

YELLOW = (230, 220, 40)


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with few_blocks():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run of red, green and blue, and a folder of yellow photos."""
    place = tmp_path_factory.mktemp("add_class")
    start = write_weights(place)
    data = write_samples(place / "data", 10)
    (place / "yellow").mkdir()
    for number in range(12):
        write_image(place / "yellow" / f"y_{number}.png", YELLOW, seed=number)
    train.fit(parser.parse("train", [
        "--head", "linear", "--train_data", data, *start, "--val_fraction", "0.3", "--run", "run",
        *places(place)]))
    return place


def places(place):
    return ["--save_dir", str(place), "--log_dir", str(place / "log")]


def main(place, *words, run="run"):
    tool.main(parser.parse("add_class", ["--run", run, *places(place), *map(str, words)]))


def test_a_class_more(place, capsys):
    main(place, "--name", "yellow", "--data", place / "yellow", "--workers", 2, "--batch_size", 5)
    said = capsys.readouterr().err  # the tables lie in the run in the end
    assert f"{place / 'run-with-yellow' / tool.TRAINING}: a CSV: 26 images" in said
    assert f"named in {place / 'run-with-yellow' / 'label.json'}" in said
    assert os.path.join(tempfile.gettempdir(), "tmp") not in said
    main(place, "--name", "yellow", "--data", place / "yellow", "--overwrite", "--json")
    result = json.loads(capsys.readouterr().out)
    path = str(place / "run-with-yellow")
    assert result["run"] == path
    assert [row["class"] for row in result["classes"]] == ["red", "green", "blue", "yellow"]
    *old, new = result["classes"]
    assert new["recall_before"] is None and new["recall"] == 1
    assert new["train_images"] + new["val_images"] == 12 and new["val_images"] > 0
    assert all(row["recall"] > 0.6 and row["recall_before"] > 0.6 for row in old)
    assert all(row["train_images"] + row["val_images"] == 10 for row in old)
    images = [str(place / "yellow" / "y_0.png"), str(place / "data" / "img_2_1.png")]
    top = [answer[0]["label"] for answer in Classifier.load(path).classify(images)]
    assert top == ["yellow", "blue"]


def test_photos_that_the_table_of_parts_knows_are_not_read(place, tmp_path, monkeypatch):
    data = str(shutil.copytree(place / "data", tmp_path / "data"))
    parts.update(data, read_labelled(data).samples)
    run = run_folder.read(str(place / "run"))
    run = run._replace(options=run.options._replace(train_data=data))
    read = []
    monkeypatch.setattr(parts, "hash_files", lambda paths, workers: read.extend(paths) or [])
    options = parser.parse("add_class", ["--name", "yellow", "--data", str(place / "yellow")])
    rows = tool._read_parts(options, run)
    assert read == [] and len(rows.training + rows.validation) > 12
    with pytest.raises(InputError, match="photos are of other classes"):
        tool._read_parts(options._replace(name="pink", data=write_samples(
            tmp_path / "copies", 2, {"red": COLORS["red"], "green": COLORS["green"]})), run)


def test_it_is_the_head_that_all_classes_at_once_give(place, tmp_path, capsys):
    """The same photos learned from and the same solution, so the same answers."""
    main(place, "--name", "yellow", "--data", place / "yellow", "--new_run", "more", "--json")
    tables = [str(place / "more" / name) for name in (tool.TRAINING, tool.VALIDATION)]
    with open(tables[0], encoding="utf-8-sig") as file:
        assert len({row["label"] for row in csv.DictReader(file)}) == 4
    train.fit(parser.parse("train", [
        "--head", "linear", "--train_data", tables[0], "--val_data", tables[1], "--run", "whole",
        "--weights", str(place / "start.weights.h5"), "--input_size", "32", "--labels",
        str(place / "more" / "label.json"), *places(tmp_path)]))
    images = [str(place / "yellow" / "y_0.png"), str(place / "data" / "img_1_1.png")]
    answers = [Classifier.load(str(path)).classify(images, 4)
               for path in (place / "more", tmp_path / "whole")]
    for one, other in zip(*answers):
        assert [row["label"] for row in one] == [row["label"] for row in other]
        np.testing.assert_allclose([row["probability"] for row in one],
                                   [row["probability"] for row in other], atol=1e-4)


def test_a_run_like_any_other(place, capsys):
    main(place, "--name", "yellow", "--data", place / "yellow", "--new_run", "like", "--json")
    capsys.readouterr()
    run = run_folder.read(str(place / "like"))
    assert run.options.train_data == str(place / "like" / tool.TRAINING)
    assert run.options.val_data == str(place / "like" / tool.VALIDATION)
    evaluation.main(parser.parse(
        "eval", ["--run", run.path, "--data", run.options.val_data, "--json"]))
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.8
    assert export(run)["checked_images"] > 10
    # Its classes are not in the order of their names, and its data are what it was trained on.
    assert train.fit(parser.parse("train", ["--resume", run.path]))["run"] == run.path
    assert "has finished its 1 epochs already" in capsys.readouterr().err
    main(place, "--name", "green", "--remove", "--new_run", "less", "--json", run="like")
    rows = json.loads(capsys.readouterr().out)["classes"]
    assert [row["class"] for row in rows] == ["red", "blue", "yellow"]
    assert all(row["recall"] >= row["recall_before"] for row in rows)
    assert read_label_names(str(place / "less" / "label.json")) == ("red", "blue", "yellow")
    assert "green" not in (place / "less" / tool.TRAINING).read_text(encoding="utf-8")


def test_table_for_a_person(place, capsys):
    main(place, "--name", "blue", "--remove")
    out = capsys.readouterr().out
    assert "run-without-blue: 2 classes" in out and "before" in out and "red" in out


@pytest.mark.parametrize("words, error", [
    (["--name", "red", "--data", "yellow"], "--name: 'red' is a class of"),
    (["--name", " red", "--data", "yellow"], "--name: 'red' is a class of"),
    (["--name", "grean", "--remove"], "--name: 'grean' is not a class of"),
    (["--name", "red", "--remove", "--data", "yellow"], "--data: yellow has no effect with --rem"),
    (["--name", "yellow"], "--data: is missing"),
    (["--name", "yellow", "--data", "nowhere"], "--data: nowhere: no such folder"),
    (["--name", "yellow", "--data", "data"], "--data: 30 photos are of other classes"),
    (["--name", "yellow", "--data", "copies"], "--data: 1 photos are of other classes"),
    (["--name", "yellow", "--data", "one"], "--data: one: 1 photos that show the same"),
    (["--name", "yellow", "--data", "yellow", "--new_run", "run"], "--new_run: "),
])
def test_bad_input(place, monkeypatch, words, error):
    monkeypatch.chdir(place)
    os.makedirs("one", exist_ok=True)
    os.makedirs("copies", exist_ok=True)
    shutil.copy(next(Path("data").rglob("*.png")), "copies/other_name.png")
    write_image("one/a.png", YELLOW)
    before = sorted(os.listdir(place))
    with pytest.raises(InputError) as caught:
        main(place, "--new_run", "fresh", *words)
    assert str(caught.value).startswith(error)
    assert sorted(os.listdir(place)) == before


def test_a_photo_that_cannot_be_decoded_counts_as_wrong(monkeypatch):
    """Of the first class, too, which a row of zeros would name."""
    parts = tool.Parts(("a", "b"), [], [("1", "a"), ("2", "a"), ("3", "b")])
    answers = np.float32([[0, 0], [0.9, 0.1], [0.2, 0.8]])
    monkeypatch.setattr(Classifier, "load", lambda *words, **more: None)
    monkeypatch.setattr(tool, "predict_samples", lambda *words: (answers, {0: "broken"}, None))
    options = parser.parse("add_class", ["--run", "r", "--name", "n"])
    assert tool._recalls("r", parts, ("a", "b"), options) == {"a": 0.5, "b": 1.0}


def test_two_classes_are_the_fewest(tmp_path):
    data = write_samples(tmp_path / "data", 6, dict(list(COLORS.items())[:2]))
    train.fit(parser.parse("train", [
        "--head", "prototype", "--train_data", data, *write_weights(tmp_path), "--val_fraction",
        "0.3", "--run", "run", *places(tmp_path)]))
    with pytest.raises(InputError, match="has 2 classes; a classifier needs at least 2 after"):
        main(tmp_path, "--name", "red", "--remove")


def test_photos_that_have_changed_their_classes(place, tmp_path):
    data = write_samples(tmp_path / "data", 6)
    train.fit(parser.parse("train", [
        "--head", "prototype", "--train_data", data, *write_weights(tmp_path), "--val_fraction",
        "0.3", "--run", "run", *places(tmp_path)]))
    with open(os.path.join(data, "label.json"), "w", encoding="utf-8") as file:
        json.dump({"0": "red", "1": "green", "2": "violet"}, file)
    with pytest.raises(InputError, match="have other classes by now .*violet"):
        main(tmp_path, "--name", "yellow", "--data", place / "yellow")


def test_names_and_runs_that_cannot_be(place, tmp_path):
    with pytest.raises(InputError, match="--new_run: is missing: 'run-with-Mr.' cannot be the na"):
        main(place, "--name", "Mr.", "--data", place / "yellow")
    (tmp_path / "new").mkdir()
    name = os.fsencode(str(tmp_path / "new")) + b"/\xff.png"
    write_image(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", name)
    with pytest.raises(InputError, match="the name is not UTF-8"):
        main(place, "--name", "white", "--data", tmp_path / "new")
    text = (place / "run" / "options.yaml").read_text(encoding="utf-8")
    (tmp_path / "gem").mkdir()
    for file_name in ("label.json", "best.weights.h5"):
        os.link(place / "run" / file_name, tmp_path / "gem" / file_name)
    (tmp_path / "gem" / "options.yaml").write_text(text.replace("pooling: avg", "pooling: gem"))
    with pytest.raises(InputError, match="gem has --attention none and --pooling gem; the head"):
        main(tmp_path, "--name", "white", "--data", place / "yellow", run="gem")


def test_a_temporary_path_is_shown_as_the_one_that_lasts(capsys):
    with pytest.raises(InputError, match="^runs/new/training.csv:3: is no"):
        with console.showing("/scratch/x", "runs/new"):
            console.say("/scratch/x/label.json: 3 classes")
            raise InputError("/scratch/x/training.csv:3: is no image")
    console.say("/scratch/x")
    assert capsys.readouterr().err == "runs/new/label.json: 3 classes\n/scratch/x\n"
