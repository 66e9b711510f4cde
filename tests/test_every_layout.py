"""A folder per class and a CSV take the sample format's place in every mode that reads labels."""

import contextlib
import csv
import io
import json
import os
import shutil

import cv2
import pytest
from conftest import COLORS, write_image

import efficientnet.model as network
import run
from data.labelled_data import read_labelled
from evaluation.label_errors import trained_on
from prediction.classifier import known_labels
from runs import reference_images, run_folder

pytestmark = pytest.mark.training

FEW_BLOCKS = (network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 6, 2))


def go(*words):
    """Runs a mode that has to succeed; returns its JSON and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run.main([*map(str, words), "--json"])
    assert status == 0, err.getvalue()
    return json.loads(out.getvalue()), err.getvalue()


def write_folders(place, per_class, seed, classes=tuple(COLORS)):
    """Photos named 1.png, 2.png, ... in each class's own folder, one of them a level deeper."""
    for name in classes:
        folder = place / ("deep/blue" if name == "blue" else name)
        folder.mkdir(parents=True)
        for number in range(per_class):
            write_image(folder / f"{number}.png", COLORS[name], seed=(seed, number))
    (place / "@eaDir").mkdir()
    write_image(place / "@eaDir" / "thumb.png")
    (place / "film.mov").write_bytes(b"x")
    return place


def write_csv(path, folder):
    rows = [
        (os.path.relpath(os.path.join(parent, name), path.parent),
         os.path.relpath(parent, folder).replace(os.sep, "/"))
        for parent, _, names in os.walk(folder) for name in names
        if name.endswith(".png") and "@eaDir" not in parent
    ]
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *sorted(rows)])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two runs of the same photos: "folders" learned from folders, "csv" from a table."""
    place = tmp_path_factory.mktemp("layouts")
    train = write_folders(place / "train", 8, seed=1)
    val = write_folders(place / "val", 4, seed=2)
    words = ("--mode", "train", "--weights", "none", "--input_size", 32, "--batch_size", 8,
             "--epochs", 3, "--learning_rate", 0.004, "--workers", 2, "--horizontal_flip", "no",
             "--random_eraser", 0, "--save_dir", place / "runs", "--log_dir", place / "logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", FEW_BLOCKS)
        _, err = go(*words, "--train_data", train, "--val_data", val, "--run", "folders")
        assert f"{train}: one folder per class, 1 video left out: 24 images of 3 classes\n" in err
        assert f"3 classes named in {train}" in err
        _, err = go(*words, "--train_data", write_csv(place / "train.csv", train),
                    "--val_data", write_csv(place / "val.csv", val), "--run", "csv")
        assert f"{place / 'train.csv'}: a CSV: 24 images of 3 classes" in err
        go("--mode", "export", "--run", place / "runs" / "folders", "--format", "onnx")
        yield place


def test_class_names_stay_with_the_run(place):
    """In the order of the folders' names, so that nobody needs a label.json."""
    for name in ("folders", "csv"):
        with open(place / "runs" / name / "label.json", encoding="utf-8") as file:
            assert json.load(file) == {"0": "deep/blue", "1": "green", "2": "red"}


def test_the_layout_makes_no_difference_to_training(place):
    def results(name):
        return (place / "runs" / name / "results.csv").read_text()

    assert results("folders") == results("csv")


def test_the_check_of_a_run_has_every_image_and_its_class(place):
    """Photos of the same name, one in each class, all have their own copy."""
    loaded = run_folder.read(str(place / "runs" / "folders"))
    paths, probabilities = reference_images.check(loaded)
    assert len(set(paths)) == 12 and all(map(os.path.isfile, paths))
    assert sorted(reference_images.labels(loaded, paths)) == sorted([0, 1, 2] * 4)
    by_color = {0: 2, 1: 1, 2: 0}  # class id -> the channel of its colour, RGB
    for path, class_id in zip(paths, reference_images.labels(loaded, paths)):
        assert cv2.imread(path)[..., ::-1].mean(axis=(0, 1)).argmax() == by_color[class_id]
    training = reference_images.training(loaded)
    assert training.shape == (24, 32, 32, 3)


def test_validation_images_and_their_classes_are_known(place):
    """Exports measure their accuracy on them."""
    for name in ("folders", "csv"):
        loaded = run_folder.read(str(place / "runs" / name))
        paths, images = reference_images.validation(loaded, [])
        assert len(paths) == len(images) == 12
        expected = [0 if "blue" in path else 1 if "green" in path else 2 for path in paths]
        assert reference_images.labels(loaded, paths).tolist() == expected


def test_a_csv_says_the_class_where_a_text_file_says_another(place):
    """Text files beside the images belong to another numbering of the classes."""
    loaded = run_folder.read(str(place / "runs" / "csv"))
    image = str(place / "val" / "green" / "0.png")
    text = place / "val" / "green" / "0.txt"
    text.write_text("0.png, 0\n")
    try:
        assert reference_images.labels(loaded, [image]).tolist() == [1]
    finally:
        text.unlink()


@pytest.mark.parametrize("layout", ["val", "val.csv"])
def test_every_mode_that_reads_labels(place, layout, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    run_path, data = place / "runs" / "folders", place / layout
    scores, _ = go("--mode", "eval", "--run", run_path, "--data", data, "--csv", tmp_path / "e.csv")
    assert scores["images"] == 12
    assert {row["label"]: row["images"] for row in scores["classes"]} == {
        "deep/blue": 4, "green": 4, "red": 4
    }
    matrix, _ = go("--mode", "confusion_matrix", "--run", run_path, "--data", data,
                   "--target", tmp_path / "matrix")
    assert matrix["accuracy"] == pytest.approx(scores["accuracy"])
    report, _ = go("--mode", "report", "--run", run_path, "--data", data,
                   "--target", tmp_path / "report.html")
    assert report["scores"]["accuracy"]["value"] == pytest.approx(scores["accuracy"])
    compared, _ = go("--mode", "compare", run_path, place / "runs" / "csv", "--data", data)
    assert compared["accuracy"][0] == pytest.approx(scores["accuracy"])
    fitted, _ = go("--mode", "calibrate", "--run", run_path, "--data", data, "--dry_run", "yes")
    assert fitted["images"] == 12
    measured, _ = go("--mode", "benchmark", "--model", run_path, "--data", data, "--batch_size", 1,
                     "--target", tmp_path / "benchmark")
    assert measured["images"] == 12
    counted, _ = go("--mode", "statistics", "--source", data, "--target", tmp_path / "statistics")
    assert [row["images"] for row in counted["classes"]] == [4, 4, 4]
    means, _ = go("--mode", "mean_std", "--source", data, "--target", tmp_path / "mean.json")
    assert means["images"] == 12
    drawn, _ = go("--mode", "preview", "--train_data", data, "--target", tmp_path / "preview.png",
                  "--input_size", 32)
    assert drawn["images"] == 12


def test_photos_that_lack_a_class(place, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    test = write_folders(tmp_path / "test", 3, 7, classes=("red", "blue"))
    scores, err = go("--mode", "eval", "--run", place / "runs" / "folders", "--data", test,
                     "--csv", tmp_path / "eval.csv")
    assert {row["label"]: row["images"] for row in scores["classes"]} == {
        "deep/blue": 3, "green": 0, "red": 3
    }
    with open(tmp_path / "eval.csv", encoding="utf-8-sig", newline="") as file:
        true = {row["path"].split(os.sep)[-2]: row["true"] for row in csv.DictReader(file)}
    assert true == {"blue": "deep/blue", "red": "red"}


def test_a_moved_folder_is_recognized_by_its_names(place, tmp_path, monkeypatch):
    """The report knows which images the run was trained on."""
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    moved = shutil.move(str(place / "train"), str(tmp_path / "train"))
    try:
        loaded = str(place / "runs" / "folders")
        data = read_labelled(moved, known_labels(loaded), "the run")
        assert trained_on(loaded, data.samples).all()
    finally:
        shutil.move(moved, str(place / "train"))
