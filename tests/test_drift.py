"""--mode drift: an exact test, a change that is found, and no change that is not."""

import csv
import itertools
import json
import os
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import write_image, write_samples
from scipy.stats import binom, energy_distance
from tiny_backbone import few_blocks, write_weights

import run as front_door
import train
from common.errors import InputError
from config import parser
from evaluation import permutation_test
from evaluation.permutation_test import energy_test, holm
from evaluation.photo_statistics import photo_statistics
from other import drift as tool


def test_energy_distance_of_one_dimension():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 1, 40), generator.gamma(2, 1, 25)
    distance, _ = energy_test(first[:, None], second[:, None], 9)
    assert distance == pytest.approx(energy_distance(first, second) ** 2, rel=1e-4)


def test_energy_distance_of_several_dimensions():
    generator = np.random.default_rng(1)
    first, second = generator.normal(0, 1, (9, 4)), generator.normal(0.5, 2, (7, 4))
    mean = {}
    for names, (one, other) in {"fs": (first, second), "ff": (first, first),
                                "ss": (second, second)}.items():
        mean[names] = np.mean([np.linalg.norm(a - b) for a in one for b in other])
    expected = 2 * mean["fs"] - mean["ff"] - mean["ss"]
    assert energy_test(first, second, 9)[0] == pytest.approx(expected, rel=1e-5)


def test_p_value_is_that_of_all_divisions():
    generator = np.random.default_rng(2)
    rows = np.concatenate([generator.normal(0, 1, (6, 2)), generator.normal(0.9, 1, (5, 2))])

    def energy(chosen):
        chosen = list(chosen)
        rest = [index for index in range(11) if index not in chosen]
        return energy_test(rows[chosen], rows[rest], 1)[0]

    energies = [energy(chosen) for chosen in itertools.combinations(range(11), 6)]
    exact = np.mean(np.array(energies) >= energies[0] - 1e-9)
    _, estimate = energy_test(rows[:6], rows[6:], 3999)
    assert 0.005 < exact < 0.3
    assert estimate == pytest.approx(exact, abs=4 * np.sqrt(exact / 4000))


def test_false_alarms_are_as_rare_as_they_should_be():
    generator = np.random.default_rng(3)
    p_values = [energy_test(generator.standard_t(2, (15, 2)), generator.standard_t(2, (25, 2)),
                            99, seed)[1] for seed in range(400)]
    alarms = np.sum(np.array(p_values) <= 0.05)
    assert binom(400, 0.05).ppf(0.001) < alarms < binom(400, 0.05).ppf(0.999)


def test_a_change_is_found_and_equal_rows_are_none(monkeypatch):
    generator = np.random.default_rng(4)
    first, second = generator.normal(0, 1, (40, 5)), generator.normal(0.7, 1, (50, 5))
    assert energy_test(first, second)[1] == 0.001
    assert energy_test(np.ones((30, 5)), np.ones((20, 5))) == (0.0, 1.0)
    monkeypatch.setattr(permutation_test, "BLOCK", 7)
    assert energy_test(first, second, 50)[1] == 1 / 51


def test_holm():
    """R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")."""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == [0.05, 0.08, 0.09, 0.09, 0.09]
    assert holm([0.03, 0.01, 0.5]) == [0.06, 0.03, 0.5] and holm([0.9, 0.8]) == [1, 1]


def test_photo_statistics():
    image = np.random.default_rng(5).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    red, green, blue = image.astype(float).transpose(2, 0, 1)
    grey = np.round(0.299 * red + 0.587 * green + 0.114 * blue)
    padded = np.pad(grey, 1, "reflect")
    laplacian = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
                 - 4 * grey)
    highest, lowest = image.max(2).astype(float), image.min(2)
    expected = [grey.mean(), grey.std(), (255 * (highest - lowest) / highest).mean(),
                np.log1p(laplacian.std()), (red - blue).mean()]
    np.testing.assert_allclose(photo_statistics(image), expected, rtol=0.01, atol=0.5)


# --- the mode -----------------------------------------------------------------------------

@pytest.fixture(scope="module", autouse=True)
def tiny():
    with few_blocks():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run that 30 photos validate."""
    place = tmp_path_factory.mktemp("drift")
    data, val = write_samples(place / "data", 6), write_samples(place / "val", 10, seed=1)
    train.fit(parser.parse("train", [
        "--head", "linear", "--train_data", data, "--val_data", val, *write_weights(place),
        "--run", "run", "--save_dir", str(place), "--log_dir", str(place / "log")]))
    return place


def main(place, folder, *words):
    return front_door.main(
        ["--mode", "drift", "--run", str(place / "run"), "--data", str(folder), "--target",
         str(place / "out"), *words])


def verdicts(result):
    return {row["question"]: row["moved"] for row in result["questions"]}


def test_no_change(place, tmp_path, capsys):
    folder = write_samples(tmp_path / "same", 10, seed=2)
    assert main(place, folder, "--json", "--workers", "2", "--batch_size", "7") in (0, None)
    result = json.loads(capsys.readouterr().out)
    assert verdicts(result) == {"photos": False, "features": False, "predictions": False}
    assert not result["moved"] and result["images"] == {"before": 30, "now": 30}
    assert sum(row["now"] for row in result["classes"]) == pytest.approx(1)


def test_darker_photos(place, tmp_path, capsys):
    folder = write_samples(tmp_path / "dark", 10, seed=2)
    for name in os.listdir(folder):
        if name.endswith(".png"):
            path = os.path.join(folder, name)
            cv2.imwrite(path, cv2.imread(path) // 3)
    assert main(place, folder, "--json", "--lang", "zh") == tool.MOVED
    result = json.loads(capsys.readouterr().out)
    page = (place / "out" / "index.html").read_text(encoding="utf-8")
    assert '<html lang="zh-CN">' in page and "照片有变化" in page and ">亮度</th>" in page
    assert verdicts(result)["photos"] and verdicts(result)["features"]
    brightness = result["statistics"][0]
    assert brightness["name"] == "brightness"
    assert brightness["now"] == pytest.approx(brightness["before"] / 3, abs=3)


def test_other_classes_and_the_photos_that_moved_most(place, tmp_path, capsys):
    folder = tmp_path / "red"
    folder.mkdir()
    for number in range(24):
        write_image(folder / f"{number}.png", (220, 30, 30), seed=100 + number)
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[::4] = 255
    cv2.imwrite(str(folder / "odd.png"), stripes)
    (folder / "<img src=x onerror=alert(1)>.png").write_bytes(b"x")
    assert main(place, folder) == tool.MOVED
    captured = capsys.readouterr()
    assert "something has changed" in captured.out and "predictions" in captured.out
    assert "1 of 26 photos cannot be decoded and are left out" in captured.err
    with open(place / "out" / "drift.csv", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25 and os.path.basename(rows[0]["path"]) == "odd.png"
    assert {row["predicted"] for row in rows[1:]} == {"red"}
    page = (place / "out" / "index.html").read_text(encoding="utf-8")
    assert len(re.findall('src="data:image/jpeg', page)) == tool.SHOWN
    assert "Something has changed" in page and "<img src=x" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_it_does_not_matter_which_photos_are_the_new_ones():
    """Or the test would not be exact."""
    generator = np.random.default_rng(6)

    def group(count, spread):
        return SimpleNamespace(
            paths=range(count), photos=generator.lognormal(0, spread, (count, 5)),
            features=generator.normal(size=(count, 4)), predictions=np.eye(2)[[0] * count])

    one, other = group(30, 2), group(50, 1)
    first, second = tool.measure(one, other, ("a", "b")), tool.measure(other, one, ("a", "b"))
    for row, again in zip(first["questions"], second["questions"]):
        assert row["distance"] == pytest.approx(again["distance"], rel=1e-5, abs=1e-9)


def test_many_photos_are_thinned_out(monkeypatch):
    monkeypatch.setattr(tool, "MOST", 5)
    assert tool._spread(list(range(101))) == [0, 25, 50, 75, 100]
    assert tool._spread([1, 2]) == [1, 2]


@pytest.mark.parametrize("words, error", [
    (["--data", "few"], "--data: few: 5 photos are too few to compare; at least 20"),
    (["--data", "nowhere"], "--data: nowhere: no such folder"),
    (["--target", "run"], "--target: run exists and is not an earlier output"),
])
def test_bad_input(place, monkeypatch, words, error):
    monkeypatch.chdir(place)
    os.makedirs("few", exist_ok=True)
    for number in range(5):
        write_image(f"few/{number}.png", seed=number)
    options = parser.parse("drift", ["--run", "run", "--save_dir", ".", "--data", "val", *words])
    with pytest.raises(InputError) as caught:
        tool.main(options)
    assert str(caught.value).startswith(error)
