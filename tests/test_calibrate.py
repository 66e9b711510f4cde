"""calibration.py, other/calibrate.py and other/calibration_error.py, and what modes make of them.

The model is a table of probabilities here: an image's colour is the number of its row.
"""

import csv
import json
import math
import os

import cv2
import numpy as np
import pytest
from conftest import without_layout
from sklearn.calibration import _TemperatureScaling
from sklearn.metrics import accuracy_score, log_loss, precision_recall_curve

import run
from common.files import checksum, write_text
from config.parser import parse
from data.geometry import Preprocessing
from data.label_names import write_label_names
from data.samples import read_samples, write_sample
from evaluation.calibration_error import expected_calibration_error, reliability
from evaluation.scores import measure_answered
from other import calibrate
from prediction import calibration, exported_model
from prediction.classifier import Classifier, known_calibration, known_labels
from prediction.loading import run_calibration
from prediction.runtimes import Answers
from runs import run_folder
from runs.margin_files import write_trained_on

SIMILARITIES = np.random.default_rng(1).permutation(np.linspace(-0.5, 1, 301)[:300])
FAMILIAR = {"probability_mean": 0.9, "probability_scale": 0.1, "similarity_mean": 0.5,
            "similarity_scale": 0.2, "minimum": -2.0}
LABELS = ("猫", "a name, with a comma", 'so-called "dog"')


def write_images(folder, true, labels=LABELS):
    """Labelled images, the one at position i in the colour (i % 256, i // 256, 0)."""
    os.makedirs(folder)
    for position, label in enumerate(true):
        image = np.full((8, 8, 3), (0, position // 256, position % 256), np.uint8)  # BGR
        name = f"{position:04}.png"
        assert cv2.imwrite(os.path.join(folder, name), image)
        write_sample(folder, name, label)
    write_label_names(folder, labels)
    return str(folder)


def make_run(path, labels=LABELS, weights=b"weights"):
    options = parse("train", ["--input_size", "32", "--weights", "none"])
    run_folder.create(str(path), options, labels, False)
    (path / run_folder.BEST).write_bytes(weights)
    return str(path)


def make_exported(path, labels=LABELS, weights=b"weights"):
    os.makedirs(path)
    (path.parent / "for_checksum").write_bytes(weights)
    description = {
        "format": exported_model.FORMAT, "labels": list(labels),
        "preprocessing": {"size": 32, "resize": "letterbox", "fill_color": [255, 255, 255]},
        "calibration": None, "weights": checksum(path.parent / "for_checksum"),
        "files": {}, "kept": "as it is",
    }
    (path / run_folder.MODEL_FILE).write_text(json.dumps(description))
    return str(path)


@pytest.fixture
def tables(monkeypatch):
    """Run or exported model -> the table that it answers from, (N, C); filled by the tests.

    Or that and the similarities, (N,).
    """
    found = {}

    def load(cls, path, *rest):
        def predict(x):
            rows = x[:, 16, 16, 0] + 256 * x[:, 16, 16, 1].astype(int)
            tables = found[path] if isinstance(found[path], tuple) else (found[path],)
            return Answers(*(table[rows] for table in tables))

        return Classifier(known_labels(path), Preprocessing(32), predict)

    monkeypatch.setattr(Classifier, "_load", classmethod(load))
    monkeypatch.setattr(calibrate, "_find_centers", lambda *words: None)  # no network to ask
    return found


def answers(count, classes=3, sharpness=3.0, seed=0):
    """True classes and the probabilities of a model that is too sure of itself."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1, (count, classes))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = np.array([generator.choice(classes, p=row) for row in honest])
    sure = np.exp(sharpness * logits)
    return true, (sure / sure.sum(axis=1, keepdims=True)).astype(np.float32)


def go(capsys, *words):
    status = run.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, without_layout(err)


def done(capsys, *words):
    status, out, err = go(capsys, *words, "--json")
    assert status == 0, err
    assert out.count("\n") == 1
    return json.loads(out), err


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


# --- numbers --------------------------------------------------------------------------

def test_scale_by_hand():
    found = calibration.scale(np.array([[0.8, 0.2], [0.5, 0.5]], np.float32), 2.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3], [0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(calibration.scale([0.75, 0.25], 0.5), [0.9, 0.1], rtol=1e-6)
    np.testing.assert_allclose(calibration.scale([0.1, 0.7, 0.2], 1), [0.1, 0.7, 0.2], rtol=1e-6)


def test_probabilities_of_0_and_1_stay_finite():
    for temperature in (0.01, 1.0, 100.0):
        found = calibration.scale(np.eye(3, dtype=np.float32), temperature)
        assert np.isfinite(found).all() and (found.argmax(axis=1) == [0, 1, 2]).all()
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(calibrate.negative_log_likelihood(np.array([1]), np.eye(3)[:1], 1.0))


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_temperature(sharpness):
    true, probabilities = answers(500, 5, sharpness)
    other = _TemperatureScaling().fit(np.log(probabilities.astype(np.float64)), true)
    found = calibrate.fit_temperature(true, probabilities)
    assert found == pytest.approx(1 / other.beta_, rel=1e-3)
    assert found == pytest.approx(sharpness, rel=0.2)  # what made them too sure


def test_where_all_is_right_the_temperature_stays():
    _, probabilities = answers(50)
    assert calibrate.fit_temperature(probabilities.argmax(axis=1), probabilities) == 1


def test_negative_log_likelihood():
    true, probabilities = answers(300, sharpness=1.5)
    wide = probabilities.astype(np.float64)
    wide /= wide.sum(axis=1, keepdims=True)
    assert calibrate.negative_log_likelihood(true, wide, 1.0) == pytest.approx(log_loss(true, wide))
    powers = wide ** (1 / 2.5)
    expected = log_loss(true, powers / powers.sum(axis=1, keepdims=True))
    assert calibrate.negative_log_likelihood(true, wide, 2.5) == pytest.approx(expected)


def error_by_definition(true, probabilities, bins):
    """Guo et al. 2017, equations 2 and 3: bin m holds ((m - 1) / M, m / M]."""
    total = 0
    for m in range(1, bins + 1):
        inside = [i for i in range(len(true))
                  if (m - 1) / bins < max(probabilities[i]) <= m / bins]
        if inside:
            accuracy = np.mean([np.argmax(probabilities[i]) == true[i] for i in inside])
            confidence = np.mean([max(probabilities[i]) for i in inside])
            total += len(inside) / len(true) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [15, 4])
def test_expected_calibration_error(bins):
    true, probabilities = answers(400)
    probabilities = probabilities.astype(np.float64)
    probabilities[:3] = [[0.5, 0.25, 0.25], [0.75, 0.25, 0], [1, 0, 0]]  # edges of 4 bins
    expected = error_by_definition(true, probabilities, bins)
    assert expected > 0.1
    assert expected_calibration_error(true, probabilities, bins) == pytest.approx(expected)


def test_reliability_by_hand():
    probabilities = np.array(
        [[0.6, 0.4], [0.3, 0.7], [0.95, 0.05], [1, 0], [1.0000001, 0], [0.5, 0.5]])
    found = reliability(np.array([0, 0, 0, 1, 0, 0]), probabilities, 4)
    assert found.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.count.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found.confidence, [np.nan, 0.5, 0.65, 2.9500001 / 3])
    np.testing.assert_allclose(found.accuracy, [np.nan, 1, 1 / 2, 2 / 3])


@pytest.mark.parametrize("precision", [0.55, 0.7, 0.9])
def test_thresholds(precision):
    true, probabilities = answers(600, sharpness=1.0)
    probabilities = np.round(probabilities, 2)  # images of the same probability
    found = calibrate.fit_thresholds(true, probabilities, precision)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    for number in range(3):
        chosen = predicted == number
        precisions, _, thresholds = precision_recall_curve(
            true[chosen] == number, confidence[chosen])
        assert found[number] == thresholds[precisions[:-1] >= precision].min()


def test_thresholds_by_hand():
    probabilities = np.array(
        [[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0.6, 0.4, 0], [0.4, 0.6, 0]], np.float32)
    true = np.array([0, 0, 1, 0, 0])
    found = calibrate.fit_thresholds(true, probabilities, 0.75)
    assert found[0] == probabilities[3, 0]  # 3 of 4; and 2 of 2 at 0.8
    assert found[1] == math.inf  # never right
    assert found[2] == probabilities[1, 0]  # never predicted: of all, 2 of 2; then 2 of 3, 3 of 5
    assert calibrate.fit_thresholds(true, probabilities, 0.8)[0] == probabilities[1, 0]
    unknown = calibration.unknown(probabilities, found)
    assert unknown.tolist() == [False, False, False, False, True]
    assert not calibration.unknown(np.array([0.1, 0.1, 0.8], np.float32), found)
    assert calibration.unknown(np.array([0.1, 0.11, 0.79], np.float32), found)


def test_measure_answered_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0, 0]], np.float32)
    true = np.array([0, 0, 0, 0])  # the last has no answer, whatever the threshold
    found = measure_answered(true, probabilities, np.array([False, False, True, False]))
    assert found == {"answered": 0.5, "answered_accuracy": 1}
    found = measure_answered(true, probabilities, np.array([False, True, False, True]))
    assert found == {"answered": 0.5, "answered_accuracy": 0.5}
    found = measure_answered(true, probabilities, np.ones(4, bool))
    assert found == {"answered": 0, "answered_accuracy": None}


# --- the mode ---------------------------------------------------------------------------

@pytest.fixture
def fitted(tmp_path, tables, capsys):
    """A calibrated run and its exported model, their images and what the mode said."""
    true, table = answers(300)
    path = make_run(tmp_path / "runs" / "run")
    exported = make_exported(tmp_path / "runs" / "run" / "model")
    tables[path] = tables[exported] = table, SIMILARITIES
    data = write_images(tmp_path / "data", true)
    result, err = done(capsys, "--mode", "calibrate", "--run", path, "--data", data,
                       "--precision", 0.8)
    return path, exported, data, true, table, result, err


def is_unlike(powers):
    """The 15 of 300 whose two scores, standardized and added, are lowest."""
    added = sum((values - values.mean()) / values.std()
                for values in (powers.max(axis=1), SIMILARITIES))
    return np.argsort(np.argsort(added)) < 15


def middles(values):
    """Of 50 parts of 300 sorted values, by linear interpolation; to what a file rounds them."""
    places = (np.arange(50) + 0.5) / 50 * 299
    return pytest.approx(np.interp(places, np.arange(300), np.sort(values)), abs=1e-5)


def test_calibrate(fitted, tables, tmp_path, capsys):
    path, exported, data, true, table, result, err = fitted
    temperature = 1 / _TemperatureScaling().fit(np.log(table.astype(float)), true).beta_
    assert result["temperature"] == pytest.approx(temperature, rel=1e-3)
    powers = table.astype(float) ** (1 / temperature)
    powers /= powers.sum(axis=1, keepdims=True)
    assert result["images"] == 300 and "note" not in err
    for name, score in (("negative_log_likelihood", log_loss),
                        ("expected_calibration_error", lambda *a: error_by_definition(*a, 15))):
        assert result[name]["before"] == pytest.approx(score(true, table), rel=1e-3)
        assert result[name]["after"] == pytest.approx(score(true, powers), rel=1e-2)
        assert result[name]["after"] < result[name]["before"] / 1.3
    assert 0.05 < result["answered"] < 0.95 and result["answered_accuracy"] >= 0.8
    assert result["accuracy"] == accuracy_score(true, table.argmax(axis=1)) < 0.75
    assert [each["label"] for each in result["classes"]] == list(LABELS)
    unlike = is_unlike(powers)  # of 300, 5 %
    assert unlike.sum() == 15 and result["false_alarms"] == 0.05
    for number, each in enumerate(result["classes"]):
        chosen = table.argmax(axis=1) == number
        known = chosen & (powers.max(axis=1) >= each["threshold"] - 1e-6) & ~unlike
        assert each["predicted"] == chosen.sum() and each["answered"] == known.sum()
        assert each["answered_accuracy"] == (true[known] == number).mean() >= 0.8
    assert result["answered"] == sum(each["answered"] for each in result["classes"]) / 300

    assert result["written"] == [os.path.join(path, "calibration.json"),
                                 os.path.join(exported, "model.json")]
    stored = read(os.path.join(path, "calibration.json"))
    assert stored == {
        "temperature": result["temperature"], "precision": 0.8, "images": 300,
        "thresholds": {each["label"]: each["threshold"] for each in result["classes"]},
        "weights": checksum(os.path.join(path, run_folder.BEST)),
        "familiarity": result["familiarity"],
        "false_alarms": 0.05,
        "probability_quantiles": middles(powers.max(axis=1)),
        "similarity_quantiles": middles(SIMILARITIES),
        "applied_by": "the reader, not the graph",
    }
    description = read(os.path.join(exported, "model.json"))
    assert description["calibration"] == stored and description["kept"] == "as it is"
    # Fitted again it reads what the network gives, not what the first fit makes of it.
    again, _ = done(capsys, "--mode", "calibrate", "--run", exported, "--data", data,
                    "--precision", 0.8)
    assert {**again, "written": 0} == {**result, "written": 0}
    assert sorted(again["written"]) == sorted(result["written"])


def test_as_text_and_without_writing(tmp_path, tables, capsys):
    path = make_run(tmp_path / "run")
    # One class; the second class is never right, the third never predicted.
    tables[path] = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.2, 0.7, 0.1]], np.float32)
    data = write_images(tmp_path / "data", [0, 0, 0])
    status, out, err = go(capsys, "--mode", "calibrate", "--run", path, "--data", data, "--dry_run")
    assert status == 0 and not os.path.exists(os.path.join(path, "calibration.json"))
    lines = out.splitlines()
    assert lines[-1] == "nothing written: --dry_run"
    assert any(line.startswith(LABELS[1]) and " never " in line for line in lines)
    notes = err.splitlines()
    assert "does not compute how similar" in notes.pop(2)
    assert len(notes) == 4 and all(note.startswith("note: ") for note in notes)
    assert "3 images are few" in notes[0] and "one class" in notes[1]
    assert notes[2].endswith(f"always unknown: {LABELS[1]}")
    assert "never predicted" in notes[3] and notes[3].endswith(LABELS[2])


def test_undecodable_images_are_left_out(fitted, tables, tmp_path, capsys):
    path, _, data, true, table, result, _ = fitted
    with open(os.path.join(data, "0300.png"), "wb") as file:
        file.write(b"no image")
    write_sample(data, "0300.png", 0)
    again, err = done(capsys, "--mode", "calibrate", "--run", path, "--data", data,
                      "--precision", 0.8)
    assert len(again["undecodable"]) == 1 and "left out: " in err and "0300.png" in err
    assert {**again, "undecodable": []} == result
    scores, _ = done(capsys, "--mode", "eval", "--run", path, "--data", data)
    assert scores["answered"] == pytest.approx(result["answered"] * 300 / 301)
    assert scores["answered_accuracy"] == result["answered_accuracy"]


def test_images_that_training_has_seen_are_told(tmp_path, tables, capsys):
    path = make_run(tmp_path / "run")
    true, tables[path] = answers(60)
    data = write_images(tmp_path / "data", true)
    write_trained_on(path, read_samples(data, LABELS))
    _, err = done(capsys, "--mode", "calibrate", "--run", path, "--data", data)
    assert "trained on 60 of these images" in err


def test_no_image_that_can_be_decoded(tmp_path, tables, capsys):
    path = make_run(tmp_path / "run")
    tables[path] = np.eye(3)
    data = write_images(tmp_path / "data", [0])
    with open(os.path.join(data, "0000.png"), "wb") as file:
        file.write(b"no image")
    status, out, err = go(capsys, "--mode", "calibrate", "--run", path, "--data", data)
    assert status == 2 and out == "" and data in err.splitlines()[-1]


def test_an_exported_model_elsewhere_is_calibrated_alone(tmp_path, tables, capsys):
    exported = make_exported(tmp_path / "served")
    true, tables[exported] = answers(60)
    data = write_images(tmp_path / "data", true)
    result, _ = done(capsys, "--mode", "calibrate", "--run", exported, "--data", data)
    assert result["written"] == [os.path.join(exported, "model.json")]
    assert known_calibration(exported).temperature == result["temperature"]


def test_an_exported_model_of_other_weights_is_left_alone(tmp_path, tables, capsys):
    path = make_run(tmp_path / "run")
    exported = make_exported(tmp_path / "run" / "model", weights=b"older")
    true, tables[path] = answers(60)
    tables[exported] = tables[path]
    data = write_images(tmp_path / "data", true)
    for name, file in ((path, os.path.join(path, "calibration.json")),
                       (exported, os.path.join(exported, "model.json"))):
        result, _ = done(capsys, "--mode", "calibrate", "--run", name, "--data", data)
        assert result["written"] == [file]


# --- what other modes make of it -----------------------------------------------------------

def calibrated(fitted):
    """The table as the calibrated model answers, and which of its rows are unknown."""
    _, _, _, _, table, result, _ = fitted
    powers = table.astype(float) ** (1 / result["temperature"])
    powers /= powers.sum(axis=1, keepdims=True)
    thresholds = np.array([each["threshold"] for each in result["classes"]])
    unsure = powers.max(axis=1) < thresholds[powers.argmax(axis=1)] - 1e-6
    unlike = is_unlike(powers)
    return powers, np.where(unlike, "unlike anything seen", np.where(unsure, "unsure", ""))


def test_predict(fitted, tmp_path, capsys):
    path, exported, data, *_ = fitted
    powers, reasons = calibrated(fitted)
    wanted = ["unsure", "unlike anything seen", ""]
    first = [int(np.argmax(reasons == reason)) for reason in wanted]
    images = [os.path.join(data, f"{n:04}.png") for n in first]
    for name in (path, exported):
        found, _ = done(capsys, "--mode", "predict", "--run", name, "--image", *images)
        assert [each["unknown"] for each in found] == [True, True, False]
        assert [each.get("reason", "") for each in found] == wanted
        for each, row in zip(found, powers[first]):
            assert [one["id"] for one in each["predictions"]] == np.argsort(-row).tolist()
            np.testing.assert_allclose(
                [one["probability"] for one in each["predictions"]], np.sort(row)[::-1], rtol=1e-4)
    table = tmp_path / "answers.csv"
    status, out, _ = go(capsys, "--mode", "predict", "--run", path, "--image", *images,
                        "--csv", table)
    lines = out.splitlines()
    assert status == 0 and lines[:2] == [images[0], "  unknown: unsure"] and "%" in lines[2]
    assert lines[5:7] == [images[1], "  unknown: unlike anything seen"] and "%" in lines[7]
    assert lines[10] == images[2] and "%" in lines[11]
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["unknown"] for row in rows] == ["yes", "yes", "no"]
    assert [row["reason"] for row in rows] == wanted
    assert rows[0]["label_1"] == LABELS[powers[first[0]].argmax()]


def test_predict_of_a_model_that_is_not_calibrated(tmp_path, tables, capsys):
    path = make_run(tmp_path / "run")
    _, tables[path] = answers(1)
    data = write_images(tmp_path / "data", [0])
    table = tmp_path / "answers.csv"
    found, _ = done(capsys, "--mode", "predict", "--run", path, "--image", data, "--csv", table)
    assert list(found[0]) == ["image", "predictions"] and "unknown" not in table.read_text()
    scores, _ = done(capsys, "--mode", "eval", "--run", path, "--data", data)
    assert "answered" not in scores


def test_eval(fitted, capsys):
    path, exported, data, true, table, result, _ = fitted
    _, reasons = calibrated(fitted)
    unknown = reasons != ""
    for name in (path, exported):
        scores, _ = done(capsys, "--mode", "eval", "--run", name, "--data", data)
        assert scores["accuracy"] == accuracy_score(true, table.argmax(axis=1))
        assert scores["answered"] == (~unknown).mean()
        right = accuracy_score(true[~unknown], table.argmax(axis=1)[~unknown])
        assert scores["answered_accuracy"] == pytest.approx(right)
        assert scores["unlike_seen"] == 0.05
    _, out, _ = go(capsys, "--mode", "eval", "--run", path, "--data", data)
    assert f"answered {scores['answered']:.4f} with accuracy {right:.4f}" in out


def test_without_false_alarms_nothing_is_unlike(fitted, capsys):
    path, exported, data, *_ = fitted
    result, err = done(capsys, "--mode", "calibrate", "--run", path, "--data", data,
                       "--precision", 0.8, "--false_alarms", 0)
    assert result["familiarity"] is None and result["false_alarms"] is None and "note" not in err
    found, _ = done(capsys, "--mode", "predict", "--run", exported, "--image", data)
    assert {each.get("reason") for each in found} == {None, "unsure"}


def test_a_calibration_of_an_earlier_version(fitted, capsys):
    """It has no similarity, and works as before."""
    path, exported, data, *_ = fitted
    description = read(os.path.join(exported, "model.json"))
    for name in ("familiarity", "false_alarms", *calibration.QUANTILE_FIELDS):
        del description["calibration"][name]
    write_text(os.path.join(exported, "model.json"), json.dumps(description))
    found, _ = done(capsys, "--mode", "predict", "--run", exported, "--image", data)
    assert {each.get("reason") for each in found} == {None, "unsure"}


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.009, 0.33])
def test_no_more_false_alarms_than_allowed(share):
    generator = np.random.default_rng(0)
    probabilities, similarities = generator.uniform(0.3, 1, 100), generator.uniform(-1, 1, 100)
    found = calibrate.fit_familiarity(probabilities, similarities, share)
    assert found.is_unlike(probabilities, similarities).sum() == int(share * 100)
    flat = calibrate.fit_familiarity(np.full(10, 0.5), np.full(10, 0.5), share)
    assert not flat.is_unlike(np.full(10, 0.5), np.full(10, 0.5)).any()


def test_familiarity_by_hand():
    familiarity = calibration.Familiarity(0.9, 0.1, 0.5, 0.2, -2.5)
    found = familiarity.measure(np.array([0.8, 0.9, 0.6]), np.array([0.3, 0.5, 0.6]))
    np.testing.assert_allclose(found, [-2, 0, -2.5])
    unlike = familiarity.is_unlike(np.array([0.8, 0.6]), np.array([0.1, 0.7]))
    assert unlike.tolist() == [True, False]
    fitted = calibrate.fit_familiarity(np.array([0.8, 1.0]), np.array([0.3, 0.7]), 0.25)
    np.testing.assert_allclose(fitted, [0.9, 0.1, 0.5, 0.2, -2])


def test_a_calibration_of_other_weights_is_ignored(fitted, capsys):
    path, exported, data, *_ = fitted
    with open(os.path.join(path, run_folder.BEST), "ab") as file:
        file.write(b"trained on")
    scores, err = done(capsys, "--mode", "eval", "--run", path, "--data", data)
    assert "answered" not in scores
    assert err.count("\n") == 1 and "calibration.json" in err and "--mode calibrate" in err
    assert run_calibration(run_folder.read(path)) is None


@pytest.mark.parametrize("change, said", [
    ({"temperature": 0}, "temperature is 0"),
    ({"temperature": math.nan}, "temperature is nan"),
    ({"familiarity": {**FAMILIAR, "minimum": math.nan}}, "a number that is NaN"),
    ({"familiarity": {**FAMILIAR, "similarity_scale": 0}}, "a scale that is not above 0"),
    ({"familiarity": {**FAMILIAR, "similarity_mean": "near"}}, "near"),
    ({"familiarity": {"minimum": 0}}, "lacks 'probability_mean'"),
    ({"familiarity": 3}, "not subscriptable"),
    ({"false_alarms": [1]}, "list"),
    ({"probability_quantiles": [0.5, math.nan]}, "probability_quantiles are not"),
    ({"similarity_quantiles": []}, "similarity_quantiles are not"),
    ({"similarity_quantiles": 0.5}, "similarity_quantiles are not"),
    ({"similarity_quantiles": ["a"]}, "could not convert"),
    ({"temperature": "hot"}, "hot"),
    ({"temperature": None}, "NoneType"),
    ({"precision": 2}, "precision is 2"),
    ({"images": math.inf}, "infinity"),
    ({"thresholds": {**dict.fromkeys(LABELS, 0.5), LABELS[0]: math.nan}}, f"{LABELS[0]} is nan"),
    ({"thresholds": {**dict.fromkeys(LABELS, 0.5), LABELS[0]: 2}}, f"{LABELS[0]} is 2"),
    ({"thresholds": {**dict.fromkeys(LABELS, 0.5), LABELS[0]: math.inf}}, f"{LABELS[0]} is inf"),
    ({"thresholds": {"cat": 0.5}}, "thresholds of cat"),
    ({"thresholds": [0.5, 0.5, 0.5]}, "thresholds of 0.5"),
    ({"thresholds": 3}, "int"),
    ("temperature", "lacks 'temperature'"),
    ("thresholds", "lacks 'thresholds'"),
    ("weights", "lacks 'weights'"),
])
def test_a_damaged_calibration_is_refused_in_one_line(fitted, capsys, change, said):
    path, exported, data, *_ = fitted
    description = read(os.path.join(exported, "model.json"))
    stored = description["calibration"]
    if isinstance(change, str):
        del stored[change]
    else:
        stored.update(change)
    for name, file, content in (
        (path, os.path.join(path, "calibration.json"), stored),
        (exported, os.path.join(exported, "model.json"), description),
    ):
        write_text(file, json.dumps(content))
        status, out, err = go(capsys, "--mode", "predict", "--run", name, "--image", data)
        assert status == 2 and out == "" and err.count("\n") == 1, err
        assert file in err and said in err and "--mode calibrate" in err, err
    # ... which the mode that it names puts right
    done(capsys, "--mode", "calibrate", "--run", path, "--data", data)
    assert known_calibration(path) and known_calibration(exported)


def test_a_calibration_that_is_no_json(fitted, capsys):
    path, _, data, *_ = fitted
    for content in ("{", "[1]", '"text"', "null"):
        write_text(os.path.join(path, "calibration.json"), content)
        status, _, err = go(capsys, "--mode", "predict", "--run", path, "--image", data)
        assert status == 2 and err.count("\n") == 1 and "calibration.json" in err


def test_views_of_a_calibrated_model_are_told(capsys):
    loaded = Classifier(("a", "b"), Preprocessing(32), None)
    loaded.set_views("flip")
    assert capsys.readouterr().err == ""  # nothing was fitted
    loaded.calibration = calibration.Calibration(1.0, np.zeros(2), 0.9, 50, "")
    loaded.set_views("none")
    assert capsys.readouterr().err == ""
    loaded.set_views("five_crop")
    assert "fitted without --tta five_crop" in capsys.readouterr().err
