"""--mode predict where some images cannot be decoded: who is answered, what is said, the status."""

import json

import numpy as np
import pytest
from conftest import write_image

import run as front_door
from config import parser
from data.geometry import Preprocessing
from prediction.classifier import Classifier
from prediction.runtimes import Answers
from runs import run_folder


@pytest.fixture
def go(tmp_path, monkeypatch, capsys):
    """Predicts photos, the names of bad ones among them, with a model that says (0.75, 0.25)."""
    options = parser.parse("train", ["--weights", "none", "--input_size", "32"])
    run_folder.create(str(tmp_path / "one"), options, ("red", "blue"), False)
    (tmp_path / "one" / run_folder.BEST).write_bytes(b"")
    stub = Classifier(("red", "blue"), Preprocessing(32),
                      lambda images: Answers(np.float32([[0.75, 0.25]] * len(images)), None))
    monkeypatch.setattr(Classifier, "load", lambda *how, **more: stub)
    (tmp_path / "photos").mkdir()

    def run(good, bad, *words):
        for name in good:
            write_image(tmp_path / "photos" / name)
        for name in bad:
            (tmp_path / "photos" / name).write_bytes(b"no image")
        status = front_door.main(["--mode", "predict", "--run", str(tmp_path / "one"), "--image",
                                  str(tmp_path / "photos"), *words])
        return status, *capsys.readouterr()

    return run


def answered(out):
    return [bool(answer.get("predictions")) for answer in json.loads(out)]


def test_the_others_are_answered_and_each_bad_file_is_named(go, tmp_path):
    status, out, err = go(["a.png", "c.png"], ["b.png", "d.png"], "--json")
    assert status == 0 and answered(out) == [True, False, True, False]
    assert all("error" in json.loads(out)[position] for position in (1, 3))
    lines = [line for line in err.splitlines() if "no answer for" in line]
    assert len(lines) == 2
    for name, line in zip(("b.png", "d.png"), lines):
        assert line.startswith(f"no answer for {tmp_path / 'photos' / name}: ")


def test_strict_ends_with_2(go):
    status, out, err = go(["a.png", "c.png"], ["b.png", "d.png"], "--json", "--strict")
    assert status == 2 and answered(out) == [True, False, True, False]
    last = err.splitlines()[-1]
    assert last.startswith("run.py: ") and "b.png" in last and "2 of 4 images failed" in last


def test_strict_with_good_files_ends_with_0(go):
    status, out, err = go(["a.png"], [], "--strict")
    assert status == 0 and "75.00%  red" in out and "no answer" not in err


def test_no_image_can_be_decoded(go):
    status, out, err = go([], ["b.png", "d.png"], "--json")
    assert status == 2 and answered(out) == [False, False]
    assert err.splitlines()[-1].startswith("run.py: ") and "2 of 2 images failed" in err
