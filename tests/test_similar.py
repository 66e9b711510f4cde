"""--mode similar: the photos that are nearest, on a page, in a table and as JSON."""

import csv
import json
import os
import re
import shutil

import numpy as np
import pytest
from conftest import COLORS, write_image, write_samples
from tiny_backbone import few_blocks, write_weights

import run as front_door
import train
from common.errors import InputError
from config import parser
from data.geometry import Preprocessing
from other import embed, similar
from prediction import feature_files
from prediction.feature_extractor import FeatureExtractor

LITE = ["--backbone", "EfficientNetLite0", "--input_size", "32"]


@pytest.fixture(scope="module")
def extractor():
    return FeatureExtractor.from_backbone("EfficientNetLite0", preprocessing=Preprocessing(32))


@pytest.fixture(autouse=True)
def one_network(extractor, monkeypatch):
    """The same network for every call, which would take a second to build."""
    monkeypatch.setattr(embed, "open_extractor", lambda options: extractor)
    monkeypatch.setattr(similar, "open_extractor", lambda options: extractor)
    monkeypatch.setattr(FeatureExtractor, "again", lambda *args: extractor)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_samples(tmp_path / "photos", 4)


def main(*words):
    return front_door.main(["--mode", "similar", *LITE, *map(str, words)])


def options_of(*words):
    return parser.parse("similar", [*map(str, words)])


def test_page_table_and_answer(photos, tmp_path, capsys):
    write_image("green.png", COLORS["green"], seed=77)
    main("--data", photos, "--image", "green.png", f"{photos}/img_0_1.png", "--top_k", 3, "--json")
    green, red = json.loads(capsys.readouterr().out)
    assert green["image"] == "green.png" and red["image"].endswith("img_0_1.png")
    for result, class_id in ((green, 1), (red, 0)):
        names = [os.path.basename(photo["path"]) for photo in result["similar"]]
        assert len(names) == 3 and all(name.startswith(f"img_{class_id}_") for name in names)
        distances = [photo["distance"] for photo in result["similar"]]
        assert distances == sorted(distances) and 0 < distances[0] < 0.5
    assert f"{photos}/img_0_1.png" not in [photo["path"] for photo in red["similar"]]
    with open("similar/similar.csv", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "rank", "path", "distance"]
    assert [row[:3] for row in rows[:3]] == [
        ["green.png", str(rank), photo["path"]] for rank, photo in enumerate(green["similar"], 1)
    ]
    page = (tmp_path / "similar" / "index.html").read_text(encoding="utf-8")
    assert len(re.findall('src="data:image/jpeg', page)) == 8
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert sorted(os.listdir("similar")) == ["features.npz", "index.html", "similar.csv"]


def test_features_are_kept_and_taken(photos, extractor, capsys):
    write_image("blue.png", COLORS["blue"])
    main("--data", photos, "--image", "blue.png")
    first = capsys.readouterr().out
    asked, whole_stream = [], extractor.stream
    extractor.stream = lambda paths, *rest: (asked.extend(paths), whole_stream(paths, *rest))[1]
    try:
        main("--data", photos, "--image", "blue.png")
        assert asked == ["blue.png"]
        main("--data", "similar/features.npz", "--image", "blue.png", "--target", "again",
             "--lang", "zh")
    finally:
        del extractor.stream
    assert asked == ["blue.png"] * 2
    captured = capsys.readouterr().out
    assert captured == first * 2 and first.count("img_") == 10
    with open("again/index.html", encoding="utf-8") as file:
        page = file.read()
    short = f'<code title="{photos}/img_2_0.png">img_2_0.png</code>'
    assert "相似的照片" in page and short in page  # paths are relative to the photos' folder


def test_a_photo_that_is_gone(photos, capsys):
    write_image("blue.png", COLORS["blue"])
    main("--data", photos, "--image", "blue.png")
    os.remove(os.path.join(photos, "img_2_0.png"))
    main("--data", "similar/features.npz", "--image", "blue.png", "--target", "again")
    assert "similar/features.npz: 1 of its 12 photos are gone" in capsys.readouterr().err
    with open("again/index.html", encoding="utf-8") as file:
        assert "gone, or cannot be decoded" in file.read()


def test_images_that_cannot_be_decoded(photos, tmp_path, capsys):
    evil = "<img src=x onerror=alert(1)>.png"
    (tmp_path / evil).write_bytes(b"x")
    write_image("blue.png", COLORS["blue"])
    status = main("--data", photos, "--image", evil, "blue.png", "--json")
    captured = capsys.readouterr()
    first, second = json.loads(captured.out)
    assert status == 2 and first["error"] and len(second["similar"]) == 10
    assert "1 of 2 images failed" not in captured.err and "onerror" in captured.err
    with open("similar/index.html", encoding="utf-8") as file:
        page = file.read()
    assert "onerror" in page and "<img src=x" not in page


def test_features_of_another_network(photos, extractor, monkeypatch):
    write_image("blue.png", COLORS["blue"])
    main("--data", photos, "--image", "blue.png")
    words = ("--data", "similar/features.npz", "--image", "blue.png", "--target", "again")
    for name, value in (("digest", "0" * 64), ("preprocessing", Preprocessing(64))):
        with monkeypatch.context() as patch:
            patch.setattr(extractor, name, value)
            with pytest.raises(InputError, match="features.npz: its features were computed by "
                                                 "EfficientNetLite0 imagenet with other weights"):
                similar.main(options_of(*words))


def test_a_network_that_is_named_is_compared(photos, monkeypatch):
    """Whichever option names it."""
    write_image("blue.png", COLORS["blue"])
    main("--data", photos, "--image", "blue.png")
    opened = []
    monkeypatch.setattr(similar, "open_extractor", lambda options: opened.append(1) or 1 / 0)
    known = ("--data", "similar/features.npz", "--image", "blue.png")
    for words in (["--input_size", "64"], ["--weights", "none"], ["--backbone", "VGG16"]):
        with pytest.raises(ZeroDivisionError):
            similar.main(options_of(*known, *words))
    assert len(opened) == 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_nan(photos, value):
    write_image("blue.png", COLORS["blue"])
    main("--data", photos, "--image", "blue.png")
    content = feature_files.read("similar/features.npz")
    features = np.array(content.features)
    features[7, 100] = value
    feature_files.write("spoilt.npz", content._replace(features=features))
    with pytest.raises(InputError, match="spoilt.npz: the features of .*img_1_3.png are NaN"):
        similar.main(options_of("--data", "spoilt.npz", "--image", "blue.png"))


@pytest.mark.parametrize("words, error", [
    (["--image", "nowhere.png"], "--image: nowhere.png: no such image"),
    (["--data", "nowhere.npz"], "nowhere.npz: no such file; --mode embed writes one"),
    (["--data", "nowhere"], "--data: nowhere: no such folder"),
    (["--target", "photos"], "--target: photos exists and is not an earlier output"),
])
def test_bad_input(photos, words, error):
    write_image("blue.png", COLORS["blue"])
    with pytest.raises(InputError) as caught:
        similar.main(options_of("--data", photos, "--image", "blue.png", *words))
    assert str(caught.value).startswith(error)


def test_one_photo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkdir("one")
    write_image("one/a.png")
    main("--data", "one", "--image", "one/a.png", "--json")
    assert json.loads(capsys.readouterr().out) == [{"image": "one/a.png", "similar": []}]


def test_the_network_of_a_run_or_of_a_file(photos, tmp_path, monkeypatch, capsys):
    """Tiny ones, opened as a user's command opens them."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    with few_blocks():
        start = write_weights(tmp_path)
        train.fit(parser.parse("train", [
            "--head", "linear", "--train_data", photos, "--val_fraction", "0.3", *start,
            "--run", "run", "--save_dir", "runs", "--log_dir", "log"]))
        write_image("blue.png", COLORS["blue"])
        for words in (["--run", "run", "--save_dir", "runs"],
                      ["--weights", start[1], "--backbone", "EfficientNetB0",
                       "--input_size", "32"]):
            for data in (photos, "similar/features.npz"):
                front_door.main(["--mode", "similar", "--data", data, "--image", "blue.png",
                                 "--top_k", "4", "--workers", "2", "--batch_size", "5", "--json",
                                 *words])
                (answer,) = json.loads(capsys.readouterr().out)
                assert all("img_2_" in photo["path"] for photo in answer["similar"])
                if data != photos:
                    shutil.rmtree("similar")


def test_the_network_is_opened_again(photos, extractor, monkeypatch):
    """As a new process does it: from what the file of features says."""
    monkeypatch.undo()
    monkeypatch.chdir(os.path.dirname(photos))
    description = {**extractor.describe(), "unit_length": False}
    again = FeatureExtractor.again(description, "f.npz")
    assert again.describe() == extractor.describe()
    for spoilt in ({}, {"source": 1, "preprocessing": {}}, {**description, "source": {}}):
        with pytest.raises(InputError, match="f.npz: says nothing about its network"):
            FeatureExtractor.again(spoilt, "f.npz")
    gone = {**description, "source": {"run": "nowhere"}}
    with pytest.raises(InputError, match="nowhere"):
        FeatureExtractor.again(gone, "f.npz")
