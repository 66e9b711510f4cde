"""What --mode eval says beside the scores: how sure they are, and what no model would reach."""

import json
import os

import numpy as np
import pytest
from conftest import write_samples
from statsmodels.stats.proportion import proportion_confint

import run as front_door
from common.baseline import no_better
from config import parser
from data.geometry import Preprocessing
from prediction.classifier import Answer, Classifier
from runs import run_folder


@pytest.fixture
def go(tmp_path, monkeypatch, capsys):
    """Runs eval with a model of some classes that gives these probabilities, whatever it sees."""

    def run(colors, per_class, rows, *words, folder="data"):
        data = write_samples(tmp_path / folder, per_class, colors)
        options = parser.parse("train", ["--weights", "none", "--input_size", "32"])
        if not (tmp_path / "one").exists():
            run_folder.create(str(tmp_path / "one"), options, tuple(colors), False)
        (tmp_path / "one" / run_folder.BEST).write_bytes(b"")

        class Stub(Classifier):
            def stream(self, paths, *how):
                return ((path, Answer(np.float32(row))) for path, row in zip(paths, rows))

        stub = Stub(tuple(colors), Preprocessing(32), None)
        monkeypatch.setattr(Classifier, "load", lambda *how, **more: stub)
        status = front_door.main(
            ["eval", "--run", str(tmp_path / "one"), "--data", data, *words]
        )
        out, err = capsys.readouterr()
        assert status == 0, err
        return out, err

    return run


TWO = {"red": (200, 20, 20), "blue": (20, 20, 200)}


def test_the_interval_is_wilsons(go):
    rows = [[0.9, 0.1]] * 10 + [[0.2, 0.8]] * 6 + [[0.8, 0.2]] * 4
    out, err = go(TWO, 10, rows, "--json")
    low, high = proportion_confint(16, 20, method="wilson")
    assert json.loads(out)["accuracy_interval"] == pytest.approx([low, high])
    assert "no better" not in err


def test_the_text_has_it(go):
    rows = [[0.9, 0.1]] * 10 + [[0.2, 0.8]] * 6 + [[0.8, 0.2]] * 4
    out, _ = go(TWO, 10, rows)
    assert out.startswith("images 20   accuracy 0.8000 (95 % interval 0.5840 to 0.9193)\n")


@pytest.mark.parametrize("words, classes, is_shown", [
    ((), 10, False), ((), 11, True), (("--top_k", "2"), 3, True),
])
def test_the_top_k_of_few_classes_says_little(go, words, classes, is_shown):
    colors = {f"c{number}": (20 * number, 10, 10) for number in range(classes)}
    out, _ = go(colors, 1, np.eye(classes), *words)
    assert ("   top " in out.splitlines()[0]) is is_shown


def test_a_model_that_is_no_better_than_one_answer(go):
    _, err = go(TWO, 4, [[0.9, 0.1]] * 8)
    assert "note: always answering 'red' would be right for 0.5000: this model is no better" in err


def test_of_one_class_there_is_nothing_to_compare_with(go, tmp_path):
    colors = {"red": (200, 20, 20)}
    _, err = go(colors, 4, [[1.0]] * 4)
    assert "no better" not in err and os.path.exists(tmp_path / "one" / "eval.csv")


@pytest.mark.parametrize("accuracy, is_said", [
    (float(np.float32(1 / 3)), True), (0.0, True), (4 / 9, False),
])
def test_three_of_nine_by_hand(accuracy, is_said):
    """The float32 of a third, as Keras reports it, is more than a third in float64."""
    said = no_better(np.arange(9) % 3, ("a", "b", "c"), accuracy)
    assert said == ("always answering 'a' would be right for 0.3333: this model is no better"
                    if is_said else "")
