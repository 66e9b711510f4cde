"""other/confusion_matrix.py: matrix, pairs, charts, and what is refused."""

import csv
import json
import os

import numpy as np
import pytest
from conftest import command, write_image, write_samples
from PIL import Image

from common.errors import ImageError, InputError
from config.parser import parse
from data.decoding import load
from data.geometry import Preprocessing
from evaluation.confusion import confused_pairs, confusion, confusion_order
from other import confusion_matrix as tool
from other.reporting import confusion_charts, fonts
from prediction.classifier import Answer, Classifier
from prediction.exported_model import FORMAT
from runs import run_folder

pytestmark = pytest.mark.filterwarnings("error")  # matplotlib's about glyphs, above all

LABELS = ("red", "纸板", "a name that is far longer than any chart has room for")
# Worked out by hand: (true, predicted), None for no answer.
ANSWERS = [(0, 0), (0, 0), (0, 1), (0, None), (1, 0), (1, 0), (1, 1), (1, 0), (0, 2)]
MATRIX = [[2, 1, 1], [3, 1, 0], [0, 0, 0]]


def make_run(path, labels):
    """A run as far as it needs to be read: no weights are in its weights file."""
    options = parse("train", ["--input_size", "32", "--weights", "none"])
    run_folder.create(str(path), options, labels, False)
    (path / run_folder.BEST).write_bytes(b"")
    return path


def write_rows(run, answers=ANSWERS, labels=LABELS, folder="nowhere"):
    with open(run / "eval.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "true", "predicted", "probability", "error"])
        for number, (true, predicted) in enumerate(answers):
            answer = ["", "", "is broken"]
            if predicted is not None:
                answer = [labels[predicted], 0.5 + number / 100, ""]
            writer.writerow([os.path.join(folder, f"{number}.png"), labels[true], *answer])


@pytest.fixture
def run(tmp_path):
    path = make_run(tmp_path / "run", LABELS)
    write_rows(path, folder=tmp_path)
    return path


def main(run, *words):
    tool.main(parse("confusion_matrix", ["--run", str(run), *map(str, words)]))


def table(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


# --- numbers --------------------------------------------------------------------------

def test_matrix_and_pairs():
    true = np.array([true for true, _ in ANSWERS])
    predicted = np.array([-1 if predicted is None else predicted for _, predicted in ANSWERS])
    matrix = confusion(true, predicted, 3)
    assert matrix.tolist() == MATRIX
    assert confused_pairs(matrix) == [(1, 0, 3, 0.75), (0, 1, 1, 0.25), (0, 2, 1, 0.25)]
    assert confused_pairs(matrix, [5, 4, 0]) == [
        (1, 0, 3, 0.75), (0, 1, 1, 0.2), (0, 2, 1, 0.2)]
    assert confused_pairs(matrix, most=1) == [(1, 0, 3, 0.75)]
    assert confusion(true, np.full(9, -1), 3).tolist() == [[0] * 3] * 3


def test_of_as_many_images_the_larger_share_goes_first():
    matrix = np.array([[8, 2, 0], [0, 2, 2], [0, 0, 5]])
    assert confused_pairs(matrix) == [(1, 2, 2, 0.5), (0, 1, 2, 0.2)]


def test_confused_classes_stand_together_the_worst_first():
    generator = np.random.default_rng(0)
    blocks = generator.permutation(30).reshape(10, 3)
    shares = np.zeros((30, 30))
    for strength, block in zip(np.linspace(0.05, 0.4, 10), blocks):
        for one in block:
            shares[one, block] = strength
        shares[block, block] = 1 - 2 * strength
    order = confusion_order(shares)
    assert sorted(order) == list(range(30))
    found = [set(order[start : start + 3]) for start in range(0, 30, 3)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, blocks))
    assert found[0] == set(blocks[-1])
    assert confusion_order(np.ones((1, 1))) == [0]


# --- from eval.csv ----------------------------------------------------------------------

def test_from_the_rows_of_eval(run, capsys):
    main(run, "--json")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found = json.loads(out)
    target = run / "confusion_matrix"
    assert found["images"] == 9 and found["accuracy"] == 3 / 9
    assert found["labels"] == list(LABELS) and found["matrix"] == MATRIX
    assert found["pairs"] == [
        {"true": "纸板", "predicted": "red", "images": 3, "share": 0.75},
        {"true": "red", "predicted": "纸板", "images": 1, "share": 0.2},
        {"true": "red", "predicted": LABELS[2], "images": 1, "share": 0.2},
    ]
    assert found["target"] == str(target) and len(found["undecodable"]) == 1
    assert sorted(os.listdir(target)) == sorted(tool.FILES)
    assert table(target / "counts.csv") == [
        ["true \\ predicted", *LABELS, "no answer"],
        ["red", "2", "1", "1", "1"], ["纸板", "3", "1", "0", "0"], [LABELS[2], "0", "0", "0", "0"],
    ]
    assert table(target / "pairs.csv")[:2] == [
        ["true", "predicted", "images", "share"], ["纸板", "red", "3", "0.75"]]
    main(run)  # the earlier output is replaced
    assert "       3   75.0%  纸板 -> red" in capsys.readouterr().out


def test_no_column_without_need_and_no_pairs(tmp_path, capsys):
    run = make_run(tmp_path / "run", LABELS)
    write_rows(run, [(0, 0), (1, 1)])
    main(run, "--target", tmp_path / "out")
    assert table(tmp_path / "out" / "counts.csv")[0] == ["true \\ predicted", *LABELS]
    assert len(table(tmp_path / "out" / "pairs.csv")) == 1
    assert "no image is taken for another class" in capsys.readouterr().out


def test_samples_of_a_pair(run, tmp_path):
    """Those of which the model was surest, a grey cell where the file is gone."""
    write_image(tmp_path / "4.png", (255, 0, 0))
    write_image(tmp_path / "7.png", (0, 0, 255), (10, 30))
    (tmp_path / "5.png").write_bytes(b"no picture")
    main(run)
    whole = Preprocessing(96, "letterbox")
    expected = [load(str(tmp_path / name), whole) for name in ("7.png", "4.png")]
    with Image.open(run / "confusion_matrix" / "pairs.png") as file:
        picture = np.asarray(file.convert("RGB"))
    blue = np.argwhere((picture[:, :, 2] > 200) & (picture[:, :, 0] < 60))
    assert 32 * 96 * 0.8 < len(blue) < 32 * 96 * 1.2  # a third of it, at its own size
    answers = tool._read(str(run), LABELS)
    found = tool._thumbnails(answers, 1, 0)
    assert len(found) == 3
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[2], expected[1])
    assert (found[1] == found[1][0, 0]).all() and found[1].shape == (96, 96, 3)


# --- with --data ------------------------------------------------------------------------

class Stub:
    """Says red to all but the second image of the second class, which it cannot read."""

    class_names = ("red", "green", "blue")
    preprocessing = Preprocessing(32)
    tta = "none"

    def stream(self, paths, batch_size, workers):
        for path in paths:
            broken = path.endswith("img_1_1.png")
            row = np.float32([0.6, 0.3, 0.1])
            yield path, ImageError(path, "is broken") if broken else Answer(row)


def test_evaluates(tmp_path, monkeypatch, capsys):
    data = write_samples(tmp_path / "data", 2)
    run = make_run(tmp_path / "run", Stub.class_names)
    monkeypatch.setattr(Classifier, "load", lambda path, devices=None: Stub())
    main(run, "--data", data, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["matrix"] == [[2, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert found["images"] == 6 and found["accuracy"] == 2 / 6
    assert found["undecodable"] == [f"{data}{os.sep}img_1_1.png: is broken"]
    assert found["pairs"][0] == {"true": "blue", "predicted": "red", "images": 2, "share": 1}
    assert not (run / "eval.csv").exists()
    with pytest.raises(InputError, match="nowhere: no such folder"):
        main(run, "--data", tmp_path / "nowhere")
    other = write_samples(tmp_path / "other", 1, {"cat": (0, 0, 0), "dog": (9, 9, 9)})
    with pytest.raises(InputError, match="the class 'cat' .*is not one of those of the labels of"):
        main(run, "--data", other)


# --- charts -----------------------------------------------------------------------------

@pytest.mark.parametrize("classes", [2, 5, 25, 100])
def test_chart_is_readable(classes):
    names = [f"a name that is far longer than any chart has room for {n}" for n in range(classes)]
    words = fonts.for_names(names)[1]
    values = np.arange(classes * classes).reshape(classes, classes) * 1000
    figure = confusion_charts.matrix_chart(values, words, words, "images", "a note")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
    assert len(boxes) == classes
    # The first row is at the top.
    assert all(one.y0 >= other.y1 for one, other in zip(boxes, boxes[1:]))
    assert max(figure.get_size_inches()) < 45
    texts = list(axes.texts)
    assert [text.get_text() for text in texts] == (
        [f"{n}000" for n in range(1, classes**2)] if classes <= 25 else [])
    cell = axes.get_window_extent().width / classes
    assert all(text.get_window_extent().width <= cell for text in texts)


def test_normalized_rows_are_recalls(run, monkeypatch):
    shown = {}

    def keep(figure, folder, stem, endings=()):
        shown[stem] = figure

    monkeypatch.setattr(tool, "save", keep)
    main(run)
    image = shown["normalized"].axes[0].images[0].get_array()
    assert np.allclose(image, [[0.4, 0.2, 0.2, 0.2], [0.75, 0.25, 0, 0], [0, 0, 0, 0]])
    labels = shown["counts"].axes[0].get_xticklabels()
    assert labels[-1].get_text() == "no answer" and labels[0].get_text() == "red"


def test_many_classes_are_ordered_and_said_so(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(tool, "save", lambda figure, folder, stem, *_: shown.update(
        {stem: figure}))
    labels = [f"c{number}" for number in range(26)]
    run = make_run(tmp_path / "run", labels)
    answers = [(number, number) for number in range(26)] + [(20, 9), (9, 20)]
    write_rows(run, answers, labels)
    main(run)
    axes = shown["counts"].axes[0]
    assert {text.get_text() for text in axes.get_yticklabels()[:2]} == {"c9", "c20"}
    assert axes.images[0].get_array()[:2, :2].tolist() == [[1, 1], [1, 1]]
    assert "average-linkage" in axes.get_title("left")


# --- what is refused ----------------------------------------------------------------------

HEADER = "path,true,predicted,probability,error\n"


@pytest.mark.parametrize("text, part", [
    ("path,true,predicted\na,red,red\n", "eval.csv:1: has the columns path, true, predicted;"),
    ("", "eval.csv:1: has the columns of an empty file"),
    (HEADER, "has no rows"),
    (HEADER + "a,cat,red,0.5,\n", "eval.csv:2: true is 'cat', which is none of .*red, 纸板"),
    (HEADER + "a,red,red,0.5,\na,red,cat,0.5,\n", "eval.csv:3: predicted is 'cat'"),
    (HEADER + "a,red,,,\n", "eval.csv:2: predicted is ''"),
    (HEADER + "a,red\n", "eval.csv:2: has 2 values"),
    (HEADER + "a,red,red,much,\n", "eval.csv:2: probability is 'much'"),
])
def test_rows_that_do_not_fit(run, text, part):
    (run / "eval.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=part):
        main(run)
    assert not (run / "confusion_matrix").exists()


def test_no_rows_yet(run):
    (run / "eval.csv").unlink()
    with pytest.raises(InputError, match="eval.csv: no such file; run --mode eval"):
        main(run)


def test_targets_refused(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="--target.*holds mine.txt"):
        main(run, "--target", tmp_path / "out")
    with pytest.raises(InputError, match="--run: .*nowhere"):
        main(tmp_path / "nowhere")


def test_an_exported_model_keeps_nothing(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    description = {"format": FORMAT, "labels": ["a", "b"], "files": {},
                   "preprocessing": {"size": 32, "fill_color": [0, 0, 0]}}
    (model / "model.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="--target is missing"):
        main(model, "--data", tmp_path)
    with pytest.raises(InputError, match="--data is missing"):
        main(model, "--target", tmp_path / "out")


def test_from_the_command_line(run):
    found = command("--mode", "confusion_matrix", "--run", run)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("images 9   accuracy 0.3333\n")
    assert found.stderr.count("\n") <= 1  # at most the line on fonts
