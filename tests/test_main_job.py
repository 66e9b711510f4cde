"""The main job from end to end: train, evaluate, export, predict, and going on after a stop.

One real EfficientNetB0 is trained in a process of its own, as a user does. What needs
many trainings uses the same code with fewer blocks, in this process.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
import yaml
from conftest import command, write_image, write_samples
from sklearn import metrics as sklearn_metrics

import efficientnet.model as network
import efficientnet.weights as efficientnet_weights
import run
from common.errors import RunError
from data import decoding
from data.geometry import Preprocessing
from modeling.architecture import Architecture
from modeling.builder import build_model
from prediction.classifier import Classifier
from runs import checkpoint, run_folder
from runs.margin_files import read_margins
from runs.slices_file import write_slices
from training import callbacks, run_recorder
from training.patience import Patience
from training.run_recorder import RunRecorder
from training.weights_selection import WeightsSelection
from training.weights_writer import WeightsWriter

pytestmark = pytest.mark.training

LABELS = ["red", "green", "blue"]
FEW_BLOCKS = (
    network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 6, 2), network.Stage(5, 1, 24, 6, 2),
)
QUICK = ("--weights", "none", "--input_size", 32, "--batch_size", 8, "--workers", 2,
         "--learning_rate", 0.004)


def go(*words):
    """Runs `python run.py WORDS` in this process: status, standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run.main([str(word) for word in words])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


def done(*words):
    """The same for a command that has to succeed, with its one line of JSON as `json`."""
    result = go(*words, "--json")
    assert result.status == 0, result.err
    assert result.out.count("\n") == 1
    return json.loads(result.out)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with 12 samples to train on and one with 9 to validate on."""
    place = tmp_path_factory.mktemp("data")
    return SimpleNamespace(
        train=write_samples(place / "train", 4), val=write_samples(place / "val", 3, seed=5)
    )


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """An EfficientNetB0 trained for two epochs: its folder, its place and the process."""
    place = tmp_path_factory.mktemp("trained")
    process = command(
        "--mode", "train", "--train_data", data.train, "--val_data", data.val, "--run", "first",
        *QUICK, "--epochs", 2, "--save_dir", place / "runs", "--log_dir", place / "logs", "--json",
    )
    assert process.returncode == 0, process.stderr
    return SimpleNamespace(place=place, path=place / "runs" / "first", process=process)


@pytest.fixture
def few_blocks(monkeypatch):
    """Makes every network that is built small, which saves most of the time."""
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)


def train_little(data, place, *words):
    return go(
        "--mode", "train", "--train_data", data.train, "--val_data", data.val, "--run", "little",
        *QUICK, "--epochs", 3, "--save_dir", place / "runs", "--log_dir", place / "logs", *words,
    )


def test_a_training_that_learns_nothing_says_so(tmp_path, few_blocks):
    """All photos are grey: the answer is the same for the 3 of each class, right for a third."""
    grey = dict.fromkeys(LABELS, (128, 128, 128))
    train, val = (write_samples(tmp_path / name, 3, grey, seed=seed)
                  for seed, name in enumerate(("train", "val")))
    words = ["train", "--train_data", train, "--val_data", val, "--run", "nothing",
             "--weights", "none", "--input_size", 32, "--learning_rate", 1e-12, "--epochs", 1]
    result = go(*words, "--save_dir", tmp_path / "runs", "--log_dir", tmp_path / "logs", "--json")
    metrics = json.loads(result.out)
    is_no_better = "note: always answering 'red' would be right for 0.3333: this model is no better"
    assert metrics["val_accuracy"] <= 1 / 3 + 1e-6 and is_no_better in result.err


@pytest.fixture(scope="module")
def little(data, tmp_path_factory):
    """The folder of a small network's run of three epochs."""
    place = tmp_path_factory.mktemp("little")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", FEW_BLOCKS)
        result = train_little(data, place)
    assert result.status == 0, result.err
    return place / "runs" / "little"


@pytest.fixture(scope="module")
def exported(little, tmp_path_factory):
    """A copy of that run with its exported model."""
    path = tmp_path_factory.mktemp("exported") / "little"
    shutil.copytree(little, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", FEW_BLOCKS)
        done("--mode", "save_pb", "--run", path)
    return path


@pytest.fixture
def copy(little, tmp_path, few_blocks):
    """A copy of the small run, to be damaged."""
    return shutil.copytree(little, tmp_path / "copy")


def arrays(path):
    """Every array of a weights file, by its place in the file."""
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, item: found.update({name: np.asarray(item)})
            if isinstance(item, h5py.Dataset) else None
        )
    assert found
    return found


def assert_same_weights(one, two):
    one, two = arrays(one), arrays(two)
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name


def rows(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def image_names(folder):
    return sorted(name for name in os.listdir(folder) if name.endswith(".png"))


def read_images(folder):
    settings = Preprocessing(32)
    return np.stack(
        [decoding.load(os.path.join(folder, name), settings) for name in image_names(folder)]
    )


def true_label(name):
    return int(os.path.basename(name).split("_")[1])


# --- what a training leaves -----------------------------------------------------------


def test_the_run_folder_is_complete(trained, data):
    assert sorted(os.listdir(trained.path)) == [
        ".lock", "best.weights.h5", "check", "checkpoint", "label.json", "last.weights.h5",
        "margins", "metrics.json", "options.yaml", "results.csv",
    ]
    assert json.loads((trained.path / "label.json").read_text()) == {
        "0": "red", "1": "green", "2": "blue"
    }
    stored = yaml.safe_load((trained.path / "options.yaml").read_text())
    assert stored["train_data"] == data.train
    assert (stored["epochs"], stored["input_size"], stored["seed"]) == (2, 32, 0)
    assert (stored["learning_rate"], stored["warmup_epochs"]) == (0.004, 0.2)
    for part in ("train", "validation"):
        events = os.listdir(trained.place / "logs" / "first" / part)
        assert len(events) == 1 and events[0].startswith("events.out.tfevents")


def test_the_check_folder(trained, data):
    table = json.loads((trained.path / "check" / "probabilities.json").read_text())
    assert sorted(table) == image_names(data.val)  # 9, fewer than 16
    texts = [f"{os.path.splitext(name)[0]}.txt" for name in table]
    assert sorted(os.listdir(trained.path / "check")) == sorted(
        [*table, *texts, "probabilities.json"]
    )
    for text in texts:
        with open(os.path.join(data.val, text), "rb") as file:
            assert (trained.path / "check" / text).read_bytes() == file.read()
    for name in table:
        with open(os.path.join(data.val, name), "rb") as file:
            assert (trained.path / "check" / name).read_bytes() == file.read()
    probabilities = np.array([table[name] for name in sorted(table)])
    assert probabilities.shape == (9, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    # All validation images are here, so the best epoch's scores follow from them.
    true = np.array([true_label(name) for name in sorted(table)])
    scores = json.loads((trained.path / "metrics.json").read_text())
    assert scores["val_accuracy"] == pytest.approx((probabilities.argmax(axis=1) == true).mean())
    loss = -np.log(probabilities[range(9), true]).mean()
    assert scores["val_loss"] == pytest.approx(loss, rel=1e-4)


def test_results_have_a_row_an_epoch(trained):
    table = rows(trained.path / "results.csv")
    assert list(table[0]) == [
        "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"
    ]
    assert [row["epoch"] for row in table] == ["1", "2"]
    # 2 steps an epoch: half way down the cosine from 4e-3, and at its end
    assert [float(row["learning_rate"]) for row in table] == pytest.approx([2e-3, 0], abs=1e-9)
    for row in table:
        assert float(row["loss"]) > 0 and 0 <= float(row["accuracy"]) <= 1
        right = float(row["val_accuracy"]) * 9
        assert right == pytest.approx(round(right), abs=1e-5)
    scores = json.loads((trained.path / "metrics.json").read_text())
    best = max(table, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert (scores["best_epoch"], scores["epochs"]) == (int(best["epoch"]), 2)
    assert scores["val_loss"] == float(best["val_loss"])
    assert (scores["train_images"], scores["val_images"], scores["classes"]) == (12, 9, 3)
    assert scores["val_class_images"] == [3, 3, 3]
    assert scores["undecodable_images"] == 0
    assert 0 < scores["train_seconds"] < 600


def test_json_is_one_line_and_progress_goes_elsewhere(trained):
    assert trained.process.stdout.count("\n") == 1
    found = json.loads(trained.process.stdout)
    assert found.pop("run") == str(trained.path)
    assert found == json.loads((trained.path / "metrics.json").read_text())
    lines = trained.process.stderr.splitlines()
    for piece in (
        "12 images to train on, 9 to validate on, 3 classes", "EfficientNetB0 (4,053,407 ",
        "epoch 1/2 ", "epoch 2/2 ", "images/s", "left", "best: epoch ",
    ):
        assert any(piece in line for line in lines), piece
    hardly_trained = [line for line in lines if "this model is no better" in line]
    assert len(lines) - len(hardly_trained) == 9  # and none of TensorFlow's


# --- evaluation -----------------------------------------------------------------------


def test_eval_agrees_with_scikit_learn(copy, tmp_path):
    # Shares of the classes differ, so that means over classes and over images do too.
    folder = write_samples(tmp_path / "test", 6, seed=8)
    for name in ("img_0_0", "img_0_1", "img_1_0"):
        for ending in (".png", ".txt"):
            os.unlink(os.path.join(folder, name + ending))
    change_predictions(copy)
    before = json.loads((copy / "metrics.json").read_text())
    scores = done("--mode", "eval", "--run", copy, "--data", folder, "--top_k", 2,
                  "--record", "test", "--batch_size", 4)
    table = rows(scores.pop("csv"))
    assert [row["path"] for row in table] == [
        os.path.join(folder, name) for name in image_names(folder)
    ]
    true = [row["true"] for row in table]
    assert true == [LABELS[true_label(row["path"])] for row in table]
    predicted = [row["predicted"] for row in table]
    assert len(set(predicted)) > 1 and predicted != true
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        true, predicted, labels=LABELS, zero_division=0
    )
    assert list(support) == [4, 5, 6]
    assert scores["images"] == 15
    assert scores["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(true, predicted))
    assert [each["label"] for each in scores["classes"]] == LABELS
    assert [each["images"] for each in scores["classes"]] == [4, 5, 6]
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert [each[name] for each in scores["classes"]] == pytest.approx(list(values))
        assert scores[f"macro_{name}"] == pytest.approx(values.mean())
    assert scores["undecodable"] == []

    # All three probabilities of each image, from the other mode.
    answers = done("--mode", "predict", "--run", copy, "--image", folder, "--top_k", 3)
    probabilities = np.zeros((15, 3))
    for row, answer in zip(probabilities, answers):
        for each in answer["predictions"]:
            row[each["id"]] = each["probability"]
    ids = [LABELS.index(name) for name in true]
    assert scores["top_2_accuracy"] == pytest.approx(
        sklearn_metrics.top_k_accuracy_score(ids, probabilities, k=2)
    )
    assert [LABELS[i] for i in probabilities.argmax(axis=1)] == predicted
    np.testing.assert_allclose(
        [float(row["probability"]) for row in table], probabilities.max(axis=1), atol=1e-6
    )

    after = json.loads((copy / "metrics.json").read_text())
    assert {name: after[name] for name in before} == before
    added = {name.removeprefix("test_"): after[name] for name in after.keys() - before.keys()}
    assert added == {
        name: scores[name]
        for name in scores
        if name not in ("classes", "undecodable", "accuracy_interval")
    }


def change_predictions(path):
    """Gives a run statistics and a head whose answers differ from image to image."""
    model = build_model(Architecture("EfficientNetB0", 32), 3)
    model.load_weights(path / "best.weights.h5")
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    images[:4] = [[[[220, 30, 30]]], [[[30, 200, 60]]], [[[40, 60, 220]]], [[[128] * 3]]]
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # one call sets the moving statistics to those of the images
    model(images, training=True)
    features = keras.Model(model.inputs[0], model.get_layer("pool").output)
    features = np.asarray(features(images))
    kernel = generator.normal(size=(features.shape[1], 3))
    logits = features @ kernel
    model.get_layer("predictions").set_weights(
        [kernel / logits.std(axis=0), -logits.mean(axis=0) / logits.std(axis=0)]
    )
    model.save_weights(path / "best.weights.h5")
    return model


def test_eval_counts_an_undecodable_image_as_wrong(copy, data, tmp_path):
    folder = shutil.copytree(data.val, tmp_path / "val")
    whole = done("--mode", "eval", "--run", copy, "--data", folder)
    (folder / "img_2_1.png").write_bytes(b"no image")
    part = done("--mode", "eval", "--run", copy, "--data", folder, "--csv", tmp_path / "a.csv")
    assert part["csv"] == str(tmp_path / "a.csv")
    assert part["images"] == 9
    [line] = part["undecodable"]
    assert "img_2_1.png" in line
    table = {os.path.basename(row["path"]): row for row in rows(tmp_path / "a.csv")}
    assert len(table) == 9
    assert table["img_2_1.png"]["predicted"] == "" and table["img_2_1.png"]["error"]
    assert [row["error"] for row in table.values()].count("") == 8
    right = sum(row["true"] == row["predicted"] for row in table.values())
    assert part["accuracy"] == pytest.approx(right / 9)
    assert part["accuracy"] <= whole["accuracy"]
    top = next(name for name in part if name.startswith("top_"))
    assert top == "top_3_accuracy"  # 5, or all where there are fewer
    assert part[top] == pytest.approx(8 / 9)
    text = go("--mode", "eval", "--run", copy, "--data", folder).out
    assert "counted as wrong: " in text and "img_2_1.png" in text


def test_the_real_run_is_evaluated_and_exported(trained, data, tmp_path):
    """The best weights, read back, score what training said, before the export and after."""
    path = shutil.copytree(trained.path, tmp_path / "first")
    expected = json.loads((path / "metrics.json").read_text())["val_accuracy"]
    words = ("--run", "first", "--save_dir", tmp_path)
    result = go("--mode", "eval", *words, "--data", data.val)
    assert result.status == 0, result.err
    assert f"accuracy {expected:.4f}" in result.out
    for name in LABELS:
        assert f"\n{name} " in result.out
    right = [row["true"] == row["predicted"] for row in rows(path / "eval.csv")]
    assert np.mean(right) == pytest.approx(expected)
    result = done("--mode", "save_pb", *words)
    assert result["checked_images"] == 9 and 0 <= result["difference"] < 1e-5
    scores = done("--mode", "eval", "--run", path / "model", "--data", data.val)
    assert scores["accuracy"] == pytest.approx(expected)


# --- export and prediction ------------------------------------------------------------


READER = """
import json, sys
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
images = tf.constant(np.load(sys.argv[2]))
found = {}
for name in ("serving_default", "predict_image"):
    signature = loaded.signatures[name]
    [[word, spec]] = signature.structured_input_signature[1].items()
    out, similarity = sorted(signature.structured_outputs)
    assert similarity == "output_similarity"
    kind = signature.structured_outputs[out]
    found[name] = {
        "input": [word, spec.name, spec.dtype.name, spec.shape.as_list()],
        "output": [out, kind.dtype.name, kind.shape.as_list()],
        "rows": signature(**{word: images})[out].numpy().tolist(),
        "row": signature(**{word: images[:1]})[out].numpy().tolist(),
    }
print(json.dumps(found))
"""


def test_the_exported_model_serves_by_itself(copy, data, tmp_path):
    # After a few epochs every image gets nearly the same answer, and a wrong graph might pass.
    model, path = change_predictions(copy), copy
    names = image_names(path / "check")
    answers = np.asarray(model(read_images(path / "check")))
    (path / "check" / "probabilities.json").write_text(
        json.dumps(dict(zip(names, answers.tolist())))
    )
    before = done("--mode", "predict", "--run", path, "--image", data.val)
    row = {"attribute": "camera", "value": "A17", "photos": 12, "accuracy": 0.5,
           "accuracy_interval": [0.25, 0.75], "expected_accuracy": 0.9, "verdict": "worse"}
    weights = hashlib.sha256((path / "best.weights.h5").read_bytes()).hexdigest()
    write_slices(str(path), weights, 40, {"tests": 2, "attributes": [], "rows": [row]})
    result = done("--mode", "save_pb", "--run", path)
    assert result["model"] == str(path / "model")
    card = (path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| camera | A17 | 12 | 0.500 | 0.250 to 0.750 | 0.900 | worse |" in card
    assert result["checked_images"] == 9 and 0 <= result["difference"] < 1e-5

    # Moved elsewhere, opened by TensorFlow in a process that knows nothing of the project.
    elsewhere = shutil.copytree(path / "model", tmp_path / "elsewhere")
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    expected = np.asarray(model(images))
    assert expected.std(axis=0).min() > 0.01
    assert np.abs(expected - np.asarray(model(images[..., ::-1]))).max() > 0.01
    process = subprocess.run(
        [sys.executable, "-I", "-c", READER, elsewhere, tmp_path / "images.npy"], cwd=tmp_path,
        capture_output=True, text=True, timeout=300,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    assert sorted(found) == ["predict_image", "serving_default"]
    for signature in found.values():
        assert signature["input"] == ["input_img", "input_img", "uint8", [None, 32, 32, 3]]
        assert signature["output"] == ["output_score", "float32", [None, 3]]
        np.testing.assert_allclose(signature["rows"], expected, atol=1e-5)
        np.testing.assert_allclose(signature["row"], expected[:1], atol=1e-5)

    description = json.loads((elsewhere / "model.json").read_text())
    assert description["labels"] == LABELS
    settings = description["preprocessing"]
    assert (settings["size"], settings["resize"], settings["fill_color"]) == (
        32, "stretch", [255, 255, 255]
    )
    there = {
        os.path.relpath(os.path.join(parent, name), elsewhere)
        for parent, _, names in os.walk(elsewhere) for name in names
    }
    assert there == {*description["files"], "model.json", "README.md"}
    assert {"saved_model.pb", "variables/variables.index"} <= there
    for name, value in description["files"].items():
        assert hashlib.sha256((elsewhere / name).read_bytes()).hexdigest() == value

    for place in (elsewhere, path):
        after = done("--mode", "predict", "--run", place, "--image", data.val)
        assert [each["image"] for each in after] == [each["image"] for each in before]
        for one, two in zip(before, after):
            assert_same_predictions(one["predictions"], two["predictions"])


def assert_same_predictions(one, two):
    one = {each["label"]: each["probability"] for each in one}
    two = {each["label"]: each["probability"] for each in two}
    assert one == pytest.approx(two, abs=1e-5)


def test_predict_is_the_model_on_the_preprocessed_image(copy, data):
    model = change_predictions(copy)
    names = [os.path.join(data.val, name) for name in image_names(data.val)]
    expected = np.asarray(model(read_images(data.val)))
    answers = done("--mode", "predict", "--run", copy, "--image", data.val, "--batch_size", 4)
    assert [answer["image"] for answer in answers] == names
    for row, answer in zip(expected, answers):
        found = answer["predictions"]
        assert [each["probability"] for each in found] == pytest.approx(sorted(row)[::-1], abs=1e-5)
        assert all(each["label"] == LABELS[each["id"]] for each in found)
        assert [each["probability"] for each in found] == pytest.approx(
            [row[each["id"]] for each in found], abs=1e-5
        )


def test_predict_as_a_table_and_as_csv(copy, data, tmp_path):
    pattern = os.path.join(data.val, "img_[01]_0.png")
    one = os.path.join(data.val, "img_2_2.png")
    words = ("--mode", "predict", "--run", copy, "--image", one, pattern, one, "--top_k", 2)
    answers = done(*words)
    paths = [one, *(os.path.join(data.val, f"img_{number}_0.png") for number in (0, 1))]
    assert [answer["image"] for answer in answers] == paths  # each once
    assert all(len(answer["predictions"]) == 2 for answer in answers)
    result = go(*words, "--csv", tmp_path / "a.csv")
    assert result.status == 0
    table = rows(tmp_path / "a.csv")
    for answer, row in zip(answers, table, strict=True):
        assert row["image"] == answer["image"] and row["image"] in result.out
        for place, each in enumerate(answer["predictions"], 1):
            assert row[f"label_{place}"] == each["label"]
            probability = each["probability"]
            assert float(row[f"probability_{place}"]) == pytest.approx(probability, abs=1e-6)
            assert f"{probability:.2%}  {each['label']}" in result.out
        assert row["error"] == ""


def test_predict_names_an_undecodable_image_and_answers_the_others(copy, data, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        write_image(folder / name)
    (folder / "b.png").write_bytes(b"no image")
    result = go("--mode", "predict", "--run", copy, "--image", folder, "--json",
                "--csv", tmp_path / "a.csv")
    assert result.status == 0
    answers = json.loads(result.out)
    assert result.out.count("\n") == 1
    assert [len(answer.get("predictions", ())) for answer in answers] == [3, 0, 3]
    assert answers[1]["error"]
    last = result.err.splitlines()[-1]
    assert last.startswith("no answer for ") and str(folder / "b.png") in last
    assert [bool(row["error"]) for row in rows(tmp_path / "a.csv")] == [False, True, False]


def test_a_changed_or_missing_file_of_an_exported_model_is_refused(exported, data, tmp_path):
    weights = "variables/variables.data-00000-of-00001"
    folder = shutil.copytree(exported / "model", tmp_path / "model")
    content = bytearray((folder / weights).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / weights).write_bytes(content)
    for mode, words in (("predict", ["--image", data.val]), ("eval", ["--data", data.val])):
        result = go("--mode", mode, "--run", folder, *words)
        assert (result.status, result.out) == (2, "")
        assert str(folder) in result.err and weights in result.err and "changed" in result.err
    (folder / weights).unlink()
    result = go("--mode", "predict", "--run", folder, "--image", data.val)
    assert result.status == 2
    assert weights in result.err and "missing" in result.err


@pytest.mark.parametrize("labels", [LABELS[:2], [*LABELS, "pink"]])
def test_an_exported_model_with_more_or_fewer_labels_is_refused(exported, data, tmp_path, labels):
    folder = shutil.copytree(exported / "model", tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    description["labels"] = labels
    (folder / "model.json").write_text(json.dumps(description))
    result = go("--mode", "predict", "--run", folder, "--image", data.val)
    assert (result.status, result.out) == (2, ""), result.err
    assert str(folder) in result.err


def test_from_a_run_its_exported_model_is_taken_where_it_fits(exported, data, monkeypatch):
    taken = []

    def load(name):
        def load(self_or_path, *rest):
            taken.append(name)
            raise KeyboardInterrupt

        return staticmethod(load)

    monkeypatch.setattr(Classifier, "_load_exported", load("exported"))
    monkeypatch.setattr(Classifier, "_load_run", load("run"))
    words = ("--mode", "predict", "--run", exported, "--image", data.val)
    assert go(*words).status == 130
    description = exported / "model" / "model.json"
    before = description.read_text()
    try:  # as if the run had been trained on since
        description.write_text(before.replace(json.loads(before)["weights"], "0" * 64))
        assert go(*words).status == 130
    finally:
        description.write_text(before)
    assert taken == ["exported", "run"]


def test_record_of_an_exported_model_goes_to_its_run(exported, data, tmp_path):
    path = shutil.copytree(exported, tmp_path / "run")
    scores = done("--mode", "eval", "--run", path / "model", "--data", data.val, "--record", "pb")
    found = json.loads((path / "metrics.json").read_text())
    assert found["pb_accuracy"] == scores["accuracy"]
    assert found["val_accuracy"] == pytest.approx(scores["accuracy"])
    assert scores["csv"] is None and not (path / "model" / "eval.csv").exists()
    lonely = shutil.copytree(path / "model", tmp_path / "lonely" / "model")
    result = go("--mode", "eval", "--run", lonely, "--data", data.val, "--record", "pb")
    assert result.status == 2 and "--record" in result.err


def test_a_calibration_goes_from_the_run_to_what_is_exported(exported, data, tmp_path, few_blocks):
    path = shutil.copytree(exported, tmp_path / "run")
    images = read_images(data.val)
    roots = np.sqrt(Classifier.load(str(path)).probabilities(images))
    done("--mode", "calibrate", "--run", path, "--data", data.val)
    file, description = path / "calibration.json", path / "model" / "model.json"
    fitted = {**json.loads(file.read_text()), "temperature": 2.0}  # 1 where all is right
    file.write_text(json.dumps(fitted))
    done("--mode", "save_pb", "--run", path)
    assert json.loads(description.read_text())["calibration"] == fitted
    for folder in (path, path / "model"):
        answers = Classifier.load(str(folder)).probabilities(images)
        np.testing.assert_allclose(answers, roots / roots.sum(axis=1, keepdims=True), rtol=1e-3)
    found = done("--mode", "compare", path, path / "model", "--data", data.val)
    assert found["images"] == 9 and found["only_first"] == found["only_second"] == 0
    file.write_text(json.dumps({**fitted, "weights": "0" * 64}))
    result = go("--mode", "save_pb", "--run", path)
    assert "calibration.json" in result.err and "--mode calibrate" in result.err
    assert json.loads(description.read_text())["calibration"] is None


def contents(folder):
    """Every file below a folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*") if path.is_file()
    }


def test_a_model_that_answers_otherwise_is_not_published(exported, tmp_path, few_blocks):
    path = shutil.copytree(exported, tmp_path / "run")
    before = contents(path / "model")
    file = path / "check" / "probabilities.json"
    table = json.loads(file.read_text())
    name = sorted(table)[4]
    table[name][0] += 0.01
    file.write_text(json.dumps(table))
    result = go("--mode", "save_pb", "--run", path)
    assert (result.status, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert str(path / "check") in result.err and "1.0e-02" in result.err
    assert contents(path / "model") == before
    table[name][0] = float("nan")
    file.write_text(json.dumps(table))
    result = go("--mode", "save_pb", "--run", path)
    assert result.status in (1, 2)
    assert contents(path / "model") == before


def test_an_export_replaces_the_older_one(exported, tmp_path, few_blocks):
    path = shutil.copytree(exported, tmp_path / "run")
    (path / "model" / "old.onnx").write_text("of older weights")
    done("--mode", "save_pb", "--run", path)
    assert sorted(os.listdir(path / "model")) == sorted(os.listdir(exported / "model"))
    assert not [name for name in os.listdir(path) if name.startswith("model.")]


# --- runs that do not fit together ----------------------------------------------------


def test_labels_of_another_number_than_the_weights(copy, data):
    (copy / "label.json").write_text('{"0": "red", "1": "green", "2": "blue", "3": "pink"}')
    result = go("--mode", "predict", "--run", copy, "--image", data.val)
    assert (result.status, result.out) == (2, "")
    for fact in (copy / "best.weights.h5", "'predictions'", "(1280, 3)", "(1280, 4)"):
        assert str(fact) in result.err


def test_weights_that_are_none(copy, data):
    (copy / "best.weights.h5").write_bytes(b"no weights")
    for mode, words in (("predict", ["--image", data.val]), ("eval", ["--data", data.val]),
                        ("save_pb", [])):
        result = go("--mode", mode, "--run", copy, *words)
        assert (result.status, result.out) == (2, "")
        assert str(copy / "best.weights.h5") in result.err


def test_a_check_image_that_is_gone(copy):
    (copy / "check" / "img_0_0.png").unlink()
    result = go("--mode", "save_pb", "--run", copy)
    assert (result.status, result.out) == (2, "")
    assert str(copy / "check" / "img_0_0.png") in result.err
    assert not (copy / "model").exists()


# --- the same again, and going on -----------------------------------------------------


def assert_same_run(one, two):
    for name in ("best.weights.h5", "last.weights.h5"):
        assert_same_weights(one / name, two / name)
    margins = sorted(f"margins/{name}" for name in os.listdir(one / "margins"))
    assert len(margins) == 5  # the images, those of validation, and three epochs
    for name in ("results.csv", "check/probabilities.json", *margins):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    scores = [json.loads((path / "metrics.json").read_text()) for path in (one, two)]
    for each in scores:
        each.pop("train_seconds")
    assert scores[0] == scores[1]


def test_the_same_seed_gives_the_same_weights(little, data, tmp_path, few_blocks):
    """Bit for bit, however many threads decode."""
    result = train_little(data, tmp_path, "--workers", 5)
    assert result.status == 0, result.err
    assert_same_run(tmp_path / "runs" / "little", little)


def interrupt_in_a_step(patch):
    """Ctrl-C after the first step of the second epoch, when weights are under way."""
    ended = callbacks.EpochMonitor.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        ended(self, batch, logs)
        if self.epoch == 1:
            raise KeyboardInterrupt

    patch.setattr(callbacks.EpochMonitor, "on_train_batch_end", on_train_batch_end)


def interrupt_before_the_checkpoint(patch):
    """Stopped when the second epoch is trained and its checkpoint is not there."""
    save = checkpoint.save

    def interrupted(folder, epochs, *rest):
        if epochs == 2:
            raise KeyboardInterrupt
        return save(folder, epochs, *rest)

    patch.setattr(checkpoint, "save", interrupted)


def interrupt_after_the_checkpoint(patch, epochs=2):
    """Stopped when an epoch's checkpoint is there, its weights and results are not."""
    publish = run_recorder.RunRecorder.publish

    def interrupted(self, model):
        if len(self.state.history) == epochs:
            raise KeyboardInterrupt
        publish(self, model)

    patch.setattr(run_recorder.RunRecorder, "publish", interrupted)


def interrupt_after_the_last_checkpoint(patch):
    """The same, and nothing is left to train."""
    interrupt_after_the_checkpoint(patch, 3)


@pytest.mark.parametrize("interrupt", [
    interrupt_in_a_step, interrupt_before_the_checkpoint, interrupt_after_the_checkpoint,
    interrupt_after_the_last_checkpoint,
])
def test_going_on_gives_what_training_at_once_gives(little, data, tmp_path, few_blocks, interrupt):
    path = tmp_path / "runs" / "little"
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch)
        result = train_little(data, tmp_path)
    assert result.status == 130
    assert "--resume little" in result.err and result.err.endswith("run.py: interrupted\n")
    assert not (path / "metrics.json").exists()
    if interrupt is interrupt_in_a_step:
        assert len(rows(path / "results.csv")) == 1
    found = done("--mode", "train", "--resume", "little", "--save_dir", tmp_path / "runs")
    assert found["run"] == str(path)
    assert_same_run(path, little)


def test_going_on_with_a_finished_run_changes_nothing(copy, few_blocks):
    before = contents(copy)
    result = go("--mode", "train", "--resume", copy)
    assert result.status == 0, result.err
    assert "finished" in result.err
    after = contents(copy)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == []


def test_going_on_with_other_images_is_refused(little, data, tmp_path, few_blocks):
    folder = SimpleNamespace(train=shutil.copytree(data.train, tmp_path / "train"), val=data.val)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_a_step(patch)
        assert train_little(folder, tmp_path).status == 130
    before = contents(tmp_path / "runs")
    for ending in (".png", ".txt"):
        os.unlink(os.path.join(folder.train, "img_0_0" + ending))
    result = go("--mode", "train", "--resume", "little", "--save_dir", tmp_path / "runs")
    assert result.status == 2
    last = result.err.splitlines()[-1]
    assert "--resume" in last and "changed" in last
    assert contents(tmp_path / "runs") == before


def test_undecodable_images_in_training(data, tmp_path, few_blocks):
    """Above --max_bad training refuses and names one; below it they count for nothing."""
    folder = SimpleNamespace(train=shutil.copytree(data.train, tmp_path / "train"), val=data.val)
    with open(os.path.join(folder.train, "img_1_1.png"), "wb") as file:
        file.write(b"no image")
    result = train_little(folder, tmp_path)
    assert (result.status, result.out) == (2, "")
    last = result.err.splitlines()[-1]
    assert last.startswith("run.py: ") and "img_1_1.png" in last and "--max_bad 0.01" in last
    assert "Traceback" not in result.err
    result = train_little(folder, tmp_path, "--max_bad", 0.1, "--overwrite", "--epochs", 2)
    assert result.status == 0, result.err
    assert result.err.count("img_1_1.png") == 1  # reported once, not in every epoch
    scores = json.loads((tmp_path / "runs" / "little" / "metrics.json").read_text())
    assert scores["undecodable_images"] == 1
    images, margins = read_margins(tmp_path / "runs" / "little")
    assert margins.shape == (2, 12)
    bad, label = images[os.path.join(folder.train, "img_1_1.png")]
    assert label == 1
    assert np.isnan(margins).sum(axis=0).tolist() == [2 * (n == bad) for n in range(12)]


def test_overwrite_makes_a_new_run(copy, data, few_blocks, tmp_path):
    (copy / "model").mkdir()
    logs = tmp_path / "logs" / "copy"
    (logs / "train").mkdir(parents=True)
    (logs / "train" / "events.old").write_text("x")
    (logs / "notes.txt").write_text("mine")
    result = train_little(data, tmp_path, "--run", "copy", "--save_dir", tmp_path, "--overwrite",
                          "--epochs", 1)
    assert result.status == 0, result.err
    assert not (copy / "model").exists() and not (logs / "train" / "events.old").exists()
    assert (logs / "notes.txt").exists()
    assert len(rows(copy / "results.csv")) == 1


def test_no_network_ends_in_a_line_that_says_what_to_do(data, tmp_path, few_blocks, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("WEIGHTS_URL", raising=False)
    monkeypatch.setattr(efficientnet_weights, "STORE", "http://127.0.0.1:9/keras-applications/")
    result = train_little(data, tmp_path, "--weights", "imagenet")
    assert (result.status, result.out) == (1, "")
    last = result.err.splitlines()[-1]
    for fact in ("run.py: --weights imagenet", "--weights none", "--weights PATH"):
        assert fact in last
    assert not (tmp_path / "runs").exists()


# --- best epoch and patience ----------------------------------------------------------


def write_epochs(path, patience, scores, start=None, unfreeze_epoch=0, **settings):
    """Gives a run's recorder some epochs; returns it and the epoch after which it stopped."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    recorder = RunRecorder(
        model, WeightsWriter(model, str(path)), "data",
        patience=Patience(patience, unfreeze_epoch), **settings
    )
    if start:
        recorder.resume(start)
    recorder.set_model(model)
    for epoch, (accuracy, loss) in enumerate(scores, len(recorder.state.history)):
        model.layers[0].bias.assign([epoch + 1.0])
        model.stop_training = False
        recorder.on_epoch_end(epoch, {
            "loss": 1.0, "accuracy": 0.5, "val_loss": loss, "val_accuracy": accuracy,
            "learning_rate": 0.1,
        })
        if model.stop_training:
            return recorder, epoch + 1
    return recorder, None


def epoch_of(path):
    """The epoch that a weights file of `write_epochs` is from."""
    return next(value.item() for name, value in arrays(path).items() if value.shape == (1,))


@pytest.mark.parametrize("scores, best", [
    ([(0.5, 1.0), (0.6, 2.0), (0.4, 0.1)], 2),  # accuracy first
    ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.95)], 2),  # then the loss
    ([(0.5, 1.0), (0.5, 1.0)], 1),  # the earlier of equals
    ([(0.0, 9.0)], 1),
])
def test_the_best_epoch(tmp_path, scores, best):
    recorder, _ = write_epochs(tmp_path, 0, scores)
    assert recorder.state.best_number == recorder.state.best_row["epoch"] == best
    assert epoch_of(tmp_path / "best.weights.h5") == best
    assert epoch_of(tmp_path / "last.weights.h5") == len(scores)


@pytest.mark.parametrize("accuracies, images, kept", [
    # By hand, Wilson's lower limit of 38 of 40 is 0.835, of 380 of 400 0.924, of 1 of 1 0.207.
    ((0.95, 0.85), 40, 2), ((0.95, 0.825), 40, 1), ((0.95, 0.85), 400, 1), ((0.95, 0.925), 400, 2),
    ((1.0, 0.925), 40, 2), ((1.0, 0.9), 40, 1),  # 0.912
    ((0.5, 0.6), 40, 2), ((0.5, 0.5), 40, 2),
    ((0.9, 0.6, 0.8), 40, 3), ((0.6, 0.9, 0.7), 40, 2),  # 36 of 40: 0.769
    ((1.0, 0.0), 1, 1),
])
def test_the_last_epoch_is_taken_where_chance_explains_a_better_one(
        tmp_path, accuracies, images, kept):
    scores = [(accuracy, 1.0) for accuracy in accuracies]
    selection = WeightsSelection("last", len(scores), images)
    recorder, _ = write_epochs(tmp_path, 0, scores, selection=selection)
    assert recorder.state.best_number == kept
    assert epoch_of(tmp_path / "best.weights.h5") == kept


@pytest.mark.parametrize("select, epochs", [("last", 4), ("best", 3), (None, 3)])
def test_before_the_end_the_best_epoch_is_kept(tmp_path, select, epochs):
    scores = [(0.5, 1.0), (0.9, 1.0), (0.85, 1.0)]
    selection = WeightsSelection(select, epochs, 40)
    recorder, _ = write_epochs(tmp_path, 0, scores, selection=selection)
    assert recorder.state.best_number == epoch_of(tmp_path / "best.weights.h5") == 2


WORSE = [(0.5, 1.0), (0.7, 1.0), (0.6, 1.0), (0.6, 1.0), (0.6, 1.0), (0.6, 1.0)]


@pytest.mark.parametrize("patience, stopped", [(0, None), (1, 3), (2, 4), (4, 6), (5, None)])
def test_patience(tmp_path, patience, stopped):
    recorder, found = write_epochs(tmp_path, patience, WORSE)
    assert found == stopped
    assert recorder.is_finished(100) == (stopped is not None)
    assert len(rows(tmp_path / "results.csv")) == (stopped or 6)


@pytest.mark.parametrize("unfreeze_epoch, stopped", [(0, 3), (2, 3), (3, 4), (5, 6), (6, None)])
def test_patience_waits_for_the_frozen_backbone(tmp_path, unfreeze_epoch, stopped):
    assert write_epochs(tmp_path, 1, WORSE, unfreeze_epoch=unfreeze_epoch)[1] == stopped


def test_a_process_that_does_not_write_follows(tmp_path):
    recorder, stopped = write_epochs(tmp_path, 2, WORSE, is_chief=False)
    assert stopped == 4 and recorder.state.best_number == 2 and recorder.saved is None
    assert os.listdir(tmp_path) == []


def test_patience_goes_on_after_a_stop(tmp_path):
    recorder, _ = write_epochs(tmp_path, 3, WORSE[:3])
    start = checkpoint.newest(str(tmp_path / "checkpoint"), pytest.fail)
    assert (start.epochs, start.steps, start.state.best_number) == (3, 0, 2)
    again, stopped = write_epochs(tmp_path, 3, WORSE[3:], start)
    assert stopped == 5 and again.state.best_number == 2
    assert again.is_finished(100) and again.is_finished(5) and not recorder.is_finished(100)
    assert [row["epoch"] for row in rows(tmp_path / run_folder.RESULTS)] == list("12345")


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_training(loss):
    class Batches:
        samples = SimpleNamespace(file_names=[f"img_{number}.png" for number in range(30)])

        def rows(self, batch):
            return np.arange(4 * batch, 4 * batch + 4), np.ones(4, bool)

        def __len__(self):
            return 7

    callback = callbacks.EpochMonitor(Batches())
    callback.on_epoch_begin(4)
    callback.on_train_batch_end(0, {"loss": 1e30})
    ends = (  # the logs of a step come with the next one's, those of the last with the epoch's
        (callback.on_train_batch_end, 0, 1), (callback.on_train_batch_end, 1, 1),
        (callback.on_train_batch_end, 6, 6), (callback.on_epoch_end, 4, 7),
    )
    for end, argument, step in ends:
        with pytest.raises(RunError) as error:
            end(argument, {"loss": loss})
        first = 4 * (step - 1)
        for fact in (f"the loss became {loss}", "epoch 5", f"step {step},", "--learning_rate",
                     ", ".join(f"img_{number}.png" for number in range(first, first + 4)) + ";"):
            assert fact in str(error.value)


def test_the_batches_are_told_the_epoch():
    batches = SimpleNamespace(epoch=0)
    callbacks.EpochMonitor(batches).on_epoch_begin(4)
    assert batches.epoch == 4


def test_margins_stay_out_of_the_logs():
    """They are no score: TensorBoard, which gets the logs next, would draw a line at 0."""
    samples = SimpleNamespace(file_names=[])
    callback = callbacks.EpochMonitor(SimpleNamespace(epoch=0, undecodable={}, samples=samples))
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.5)))
    logs = {"mean_loss": 1.5, "margins": 0.0, "val_mean_loss": 2.5, "val_margins": 0.0}
    callback.on_epoch_end(0, logs)
    assert logs == {"loss": 1.5, "val_loss": 2.5, "learning_rate": 0.5}
