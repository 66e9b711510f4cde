"""--mode crossval: its folds' runs, what they say together, going on after a stop, the exports."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from conftest import COLORS, write_image
from sklearn.metrics import accuracy_score, f1_score, recall_score
from tiny_backbone import few_blocks, write_weights

import train
from common.errors import InputError
from config import parser
from config.modes import MODES
from data.decoding import load
from data.labelled_data import read_labelled
from evaluation.label_errors import trained_on
from other import crossval
from other.folds import runs as fold_runs
from other.folds.plan import training_options
from prediction.classifier import Classifier
from prediction.exported_model import read_description
from runs import run_folder
from runs.results import read_results
from training import fine_tuning
from training.run_recorder import RunRecorder

pytestmark = pytest.mark.training

FOLDS, PER_CLASS = 3, 9


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with few_blocks():
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Words that name the weights of a tiny backbone."""
    return write_weights(tmp_path_factory.mktemp("weights"))


def write_photos(folder, per_class=PER_CLASS, swapped=()):
    """A folder per colour; photos whose numbers are in `swapped` lie in that of the next one."""
    names = list(COLORS)
    for index, (name, color) in enumerate(COLORS.items()):
        for number in range(per_class):
            place = names[(index + 1) % 3] if (name, number) in swapped else name
            os.makedirs(folder / place, exist_ok=True)
            write_image(folder / place / f"{name}_{number}.png", color, seed=(index, number))
    return folder


def cross(place, start, *words, run="tn"):
    """What `--mode crossval --json` prints, for the photos in place/photos."""
    return crossval.main(parser.parse("crossval", [
        "--data", str(place / "photos"), "--folds", str(FOLDS), "--max_bad", "0.2", "--run", run,
        "--save_dir", str(place / "runs"), "--log_dir", str(place / "logs"), "--json", *start,
        *map(str, words)]))


@pytest.fixture(scope="module")
def place(tmp_path_factory, start):
    """A folder with the cross-validation of a linear head, and what was computed for it."""
    place = tmp_path_factory.mktemp("crossval")
    write_photos(place / "photos", swapped=[("red", 0)])
    (place / "photos" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    unknown = []
    compute = fine_tuning.FeatureBatches._compute

    def counting(self, body, image_batches, is_unknown):
        unknown.append(int(is_unknown.sum()))
        compute(self, body, image_batches, is_unknown)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning.FeatureBatches, "_compute", counting)
        result = cross(place, start, "--head", "linear", "--seeds", 1)
    place.joinpath("result.json").write_text(json.dumps({"result": result, "unknown": unknown}))
    return place


@pytest.fixture(scope="module")
def result(place):
    return json.loads((place / "result.json").read_text())["result"]


def answers(place, name="tn"):
    with open(place / "runs" / f"{name}-crossval" / "answers.csv", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_every_photo_is_judged_by_a_model_that_has_not_seen_it(place, result):
    rows = answers(place)
    samples, class_names, _ = read_labelled(str(place / "photos"))
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    assert [row["path"] for row in rows] == paths
    for number, run_path in enumerate(result["runs"], start=1):
        own = np.flatnonzero([row["fold"] == str(number) for row in rows])
        seen = trained_on(run_path, samples)
        assert seen.sum() == len(rows) - len(own) and not seen[own].any()
        classifier = Classifier.load(run_path)
        decodable = [row for row in own if not rows[row]["error"]]
        images = np.stack([load(paths[row], classifier.preprocessing) for row in decodable])
        probabilities = classifier.probabilities(images)
        for row, expected in zip(decodable, probabilities):
            written = [float(rows[row][f"probability of {name}"]) for name in class_names]
            assert written == pytest.approx(expected, abs=1e-5)
            assert rows[row]["predicted"] == class_names[expected.argmax()]


def test_scores_are_scikit_learns(place, result):
    rows = answers(place)
    true, predicted = ([row[column] for row in rows] for column in ("true", "predicted"))
    names = sorted(set(true))
    assert result["accuracy"]["value"] == pytest.approx(accuracy_score(true, predicted))
    assert result["macro_f1"]["value"] == pytest.approx(
        f1_score(true, predicted, labels=names, average="macro"))
    recalls = recall_score(true, predicted, labels=names, average=None, zero_division=0)
    assert [row["recall"]["value"] for row in result["classes"]] == pytest.approx(recalls)
    for number, accuracy in enumerate(result["fold_accuracies"][0], start=1):
        is_right = [row["true"] == row["predicted"] for row in rows if row["fold"] == str(number)]
        assert accuracy == pytest.approx(np.mean(is_right))
    for score in (result["accuracy"], result["macro_f1"], result["classes"][0]["recall"]):
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    assert result["images"] == len(rows) == 28 and result["groups"] == 28
    assert len(result["undecodable"]) == 1 and "broken.jpg" in result["undecodable"][0]


def test_each_photo_goes_through_the_network_once(place, result, start, tmp_path):
    unknown = json.loads((place / "result.json").read_text())["unknown"]
    assert sum(unknown[:2]) == 28 and not any(unknown[2:]) and len(unknown) == 2 * FOLDS
    folder = place / "runs" / "tn-crossval"
    alone = train.fit(parser.parse("train", [
        "--train_data", str(folder / "fold-2-training.csv"), "--val_data",
        str(folder / "fold-2-judging.csv"), "--labels", str(folder / "label.json"), "--head",
        "linear", "--max_bad", "0.2", "--run", "alone", "--save_dir", str(tmp_path), "--log_dir",
        str(tmp_path / "logs"), *start]))
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    both = [Classifier.load(path).probabilities(images)
            for path in (alone["run"], result["runs"][1])]
    np.testing.assert_allclose(*both, atol=1e-4)


def test_doubtful_labels_are_those_that_are_wrong(place, result):
    with open(result["doubtful"], encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [os.path.basename(rows[0]["path"]), rows[0]["suggested"]] == ["red_0.png", "red"]
    assert result["suspects"] == len(rows)


def test_page_in_both_languages(place, start, result):
    for language, words in (("zh", ("交叉验证", "可能有误")), ("en", ("Cross-validation of tn",))):
        cross(place, start, "--head", "linear", "--seeds", 1, "--lang", language)
        page = (place / "runs" / "tn-crossval" / "index.html").read_text(encoding="utf-8")
        assert all(word in page for word in words)
        assert f"{result['accuracy']['low']:.1%}" in page and "tn-fold-3" in page
        assert page.count("data-class=") == 3 and 'data-suspect="green/red_0.png"' in page


def test_mean_of_the_folds_is_exported(place, start, result):
    exported = cross(place, start, "--head", "linear", "--seeds", 1, "--export", "mean")["export"]
    assert exported["model"] == str(place / "runs" / "tn-crossval" / "model")
    images = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    each = [Classifier.load(path, calibrated=False).probabilities(images)
            for path in result["runs"]]
    mean = Classifier.load(exported["model"]).probabilities(images)
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 1e-3
    assert read_description(exported["model"])["run"] == "tn-crossval"
    card = open(os.path.join(exported["model"], "README.md"), encoding="utf-8").read()
    assert f"{result['accuracy']['value']:.3f}" in card and "28 photos, measured by cross" in card
    assert os.path.getsize(os.path.join(exported["model"], "model.onnx")) < 2 * 600_000


def test_run_of_all_photos_is_exported(place, start, result):
    exported = cross(place, start, "--head", "linear", "--seeds", 1, "--export", "all")["export"]
    run_path = os.path.dirname(exported["model"])
    samples = read_labelled(str(place / "photos")).samples
    assert trained_on(run_path, samples).all()
    assert run_folder.read_metrics(run_path)["crossval_accuracy"] == result["accuracy"]["value"]
    card = open(os.path.join(exported["model"], "README.md"), encoding="utf-8").read()
    score = result["accuracy"]
    assert f"| {score['value']:.3f} | {score['low']:.3f} to {score['high']:.3f} |" in card
    assert "validated on" not in card and "photos, measured by cross-validation" in card
    fitted = Classifier.load(exported["model"]).calibration
    assert fitted.temperature == pytest.approx(result["calibration"]["temperature"])


def test_networks_that_differ_are_averaged_too():
    from modeling.architecture import Architecture
    from modeling.builder import build_model
    from other.folds.exporting import mean_model

    models = [build_model(Architecture("EfficientNetB0", 32), 3) for _ in range(2)]
    images = np.random.default_rng(2).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    each = [np.asarray(model(images, training=False)) for model in models]
    mean = np.asarray(mean_model(models)(images, training=False))
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-3


# --- going on -------------------------------------------------------------------------------

WORDS = ("--epochs", 2, "--recipe", "scratch", "--batch_size", 8, "--seeds", 2, "--folds", 2)


def test_the_same_command_goes_on_after_a_stop(tmp_path, start, monkeypatch):
    """Stopped between two epochs of a fold: the runs end as those that nothing stopped."""
    write_photos(tmp_path / "photos")
    whole = cross(tmp_path, start, *WORDS, run="whole")
    ends, epoch_end = [], RunRecorder.on_epoch_end

    def stopping(self, epoch, logs=None):
        epoch_end(self, epoch, logs)
        ends.append(self.run_path)
        if len(ends) == 5:  # the first epoch of the third run
            raise KeyboardInterrupt

    monkeypatch.setattr(RunRecorder, "on_epoch_end", stopping)
    with pytest.raises(KeyboardInterrupt):
        cross(tmp_path, start, *WORDS, run="stopped")
    resumed = cross(tmp_path, start, *WORDS, run="stopped")
    assert len(ends) == 2 * 2 * 2  # no epoch twice
    for path, other in zip(whole["runs"], resumed["runs"], strict=True):
        assert read_results(path) == read_results(other)
    assert resumed["accuracy"] == whole["accuracy"] and len(whole["fold_accuracies"]) == 2
    assert os.path.basename(whole["runs"][2]) == "whole-seed-2-fold-1"
    # Epochs are chosen by photos held out of those to learn from, not by those that judge.
    samples = read_labelled(str(tmp_path / "photos")).samples
    assert trained_on(whole["runs"][0], samples).sum() < len(samples.file_names) / 2
    assert not run_folder.read(whole["runs"][0]).options.val_data


def test_another_command_does_not_go_on(place, start, tmp_path):
    refused = "is that of a command with other values (--head, --neighbour_count)"
    with pytest.raises(InputError, match="other values") as error:
        cross(place, start, "--head", "neighbours", "--neighbour_count", 9, "--seeds", 1)
    assert refused in str(error.value)
    shutil.copytree(place, tmp_path / "copy")
    write_image(tmp_path / "copy" / "photos" / "red" / "new.png", COLORS["red"], seed=77)
    with pytest.raises(InputError, match="the photos or labels"):
        cross(tmp_path / "copy", start, "--head", "linear", "--seeds", 1)
    os.remove(tmp_path / "copy" / "runs" / "tn-crossval" / "crossval.json")
    with pytest.raises(InputError, match="tn-fold-1, tn-fold-2, .* exist and are of"):
        cross(tmp_path / "copy", start, "--head", "linear", "--seeds", 1)
    result = cross(tmp_path / "copy", start, "--head", "prototype", "--seeds", 1, "--overwrite")
    assert result["images"] == 29
    assert run_folder.read(result["runs"][0]).options.head == "prototype"


# --- options and bad input ------------------------------------------------------------------

def test_every_option_of_a_training_reaches_the_folds(tmp_path):
    yaml = tmp_path / "mine.yaml"
    yaml.write_text("ema: 0.9\n")
    options = parser.parse("crossval", [
        "--data", "photos", "--val_fraction", "0.2", "--labels", "names.json", "--max_bad", "0.5",
        "--workers", "3", "--data_time_limit", "7", "--backbone", "EfficientNetB1", "--weights",
        "none", "--weights_url", "http://localhost", "--input_size", "64", "--resize", "crop",
        "--fill_color", "1,2,3", "--dropout", "0.3", "--drop_connect", "0.1", "--attention",
        "cbam", "--block_attention", "cbam", "--pooling", "bilinear", "--bilinear_dim", "32",
        "--head", "neighbours", "--neighbour_count", "7", "--norm", "group", "--normalize",
        "1,2,3,4,5,6", "--recipe", "scratch", "--minutes", "3", "--batch_size", "4", "--epochs",
        "3", "--learning_rate", "0.1", "--optimizer", "sgd", "--weight_decay", "0.2",
        "--warmup_epochs", "1", "--label_smoothing", "0.2", "--loss", "focal", "--focal_gamma",
        "3", "--class_weights", "balanced", "--sampler", "balanced", "--nan_policy", "restore",
        "--linear_head", "no", "--freeze_batchnorm", "--freeze_epochs", "2", "--cache_features",
        "--layer_decay", "0.5", "--clipnorm", "1", "--accumulate", "2", "--ema", "0.8",
        "--mixed_precision", "bfloat16", "--jit", "on", "--scale_lr", "linear", "--patience", "4",
        "--select", "last", "--soup", "--seed", "5", "--horizontal_flip", "no", "--vertical_flip",
        "--shift", "0.3", "--rotation", "9", "--zoom", "0.4", "--random_eraser", "0.1",
        "--randaugment", "0.3", "--augmix", "0.2", "--mixup", "0.3", "--cutmix", "0.2",
        "--checkpoint_minutes", "2", "--log_dir", "logs", "--config", str(yaml), "--debug"])
    shared = training_options(options)
    names = set(MODES["crossval"].options) & set(MODES["train"].options)
    names -= {"data", "group", "labels", "seed", "run", "save_dir", "overwrite", "json", "config"}
    names -= {"track"}  # the folds are sent together, as runs of one parent
    names -= {"cache_dir", "cache_gigabytes"}  # one cache for the whole process
    names -= {"debug", "horizontal_flip"} - shared.keys()
    assert shared.keys() >= names, names - shared.keys()
    defaults = parser.parse("train", [])
    assert not [name for name in names if shared[name] == getattr(defaults, name)]
    asked = fold_runs.with_training_options(["--run", "tn-fold-1"], options)
    assert all(getattr(asked, name) == shared[name] for name in names)
    assert names | {"run"} <= asked.given


def test_labels_and_seed_are_the_commands(tmp_path, start):
    write_photos(tmp_path / "photos", 4)
    labels = tmp_path / "names.json"
    labels.write_text(json.dumps({"0": "red", "1": "blue", "2": "green"}))
    result = cross(tmp_path, start, "--head", "linear", "--labels", labels, "--seed", 4)
    run = run_folder.read(result["runs"][0])
    assert run.class_names == ("red", "blue", "green") and run.options.seed == 4
    other = cross(tmp_path, start, "--head", "linear", "--seed", 5, run="other")
    folds = [[row["fold"] for row in answers(tmp_path, name)] for name in ("tn", "other")]
    assert other["images"] == 12 and folds[0] != folds[1]


@pytest.mark.parametrize("words, message", [
    (("--folds", "1"), "--folds: '1' is not allowed: it takes a whole number from 2 to 100"),
    (("--folds", "10"), "--folds: 10 is more than the groups of 'blue': its 9 photos make 9"),
    (("--head", "linear", "--epochs", "4"), "--epochs: 4 has no effect with --head linear"),
])
def test_bad_input_is_refused_before_anything_is_written(tmp_path, start, words, message):
    write_photos(tmp_path / "photos")
    with pytest.raises(InputError) as error:
        cross(tmp_path, start, *words)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["photos"]


def test_groups_stay_in_one_fold(tmp_path, start):
    """Of solved heads and of trainings that hold photos out to choose an epoch by."""
    write_photos(tmp_path / "photos", 8)
    for path in (tmp_path / "photos").glob("*/*.png"):
        number = int(path.stem.split("_")[1])
        path.rename(path.with_name(f"day{number // 2}_{path.name}"))
    rule = r"pattern:(\w+/day\d)_"
    for run, words in (("tn", ("--head", "linear")), ("trained", WORDS)):
        result = cross(tmp_path, start, *words, "--group", rule, run=run)
        assert result["images"] == 24 and result["groups"] == 12
        folds = {}
        for row in answers(tmp_path, run):
            day = row["true"], os.path.basename(row["path"])[:4]
            folds.setdefault(day, set()).add(row["fold"])
        assert len(folds) == 12 and all(len(values) == 1 for values in folds.values())
    samples = read_labelled(str(tmp_path / "photos")).samples
    days = [name[: name.index("_")] for name in samples.file_names]
    seen = trained_on(result["runs"][0], samples)
    by_day = {day: {bool(one) for own, one in zip(days, seen) if own == day} for day in days}
    assert all(len(values) == 1 for values in by_day.values()) and seen.any()
    with pytest.raises(InputError, match="--folds: 5 is more than the groups of 'blue'"):
        cross(tmp_path, start, "--head", "linear", "--group", rule, "--folds", 5, run="many")


def write_recordings(folder, recordings, seed):
    """Photos of two classes: a spot says the class, the background only which recording it is."""
    generator = np.random.default_rng(seed)
    for recording in range(recordings):
        name, background = ("left", "right")[recording % 2], generator.integers(0, 256, 3)
        os.makedirs(folder / name, exist_ok=True)
        for number in range(6):
            image = np.clip(background + generator.normal(0, 3, (32, 32, 3)), 0, 255)
            shade = generator.normal(12 if recording % 2 else -12, 25)
            image[8:24, 8:24] = np.clip(image[8:24, 8:24] + shade, 0, 255)
            cv2.imwrite(str(folder / name / f"r{recording}_{number}.png"), image.astype(np.uint8))
    return folder


def test_recordings_that_the_background_tells(tmp_path, start):
    """A random division is far above the truth; that by recordings has it in its interval."""
    write_recordings(tmp_path / "photos", 30, seed=0)
    head = ("--head", "neighbours")
    flattered = cross(tmp_path, start, *head)
    honest = cross(tmp_path, start, *head, "--group", r"pattern:(r\d+)_", run="honest")
    new_photos = write_recordings(tmp_path / "new", 60, seed=1)
    run = train.fit(parser.parse("train", [
        "--train_data", str(tmp_path / "photos"), "--val_data", str(new_photos), "--head",
        "neighbours", "--run", "all", "--save_dir", str(tmp_path), "--log_dir",
        str(tmp_path / "logs"), *start]))
    accuracy = honest["accuracy"]
    assert flattered["accuracy"]["value"] >= 0.95
    assert accuracy["low"] <= run["val_accuracy"] <= accuracy["high"] < 0.9
    assert honest["groups"] <= 30


def test_copies_of_one_photo_are_one_group(tmp_path, start):
    write_photos(tmp_path / "photos", 4)
    for number in range(5):
        shutil.copy(tmp_path / "photos" / "red" / "red_0.png",
                    tmp_path / "photos" / "red" / f"copy_{number}.png")
    result = cross(tmp_path, start, "--head", "linear")
    rows = {os.path.basename(row["path"]): row for row in answers(tmp_path)}
    assert len({rows[name]["fold"] for name in rows if name.startswith("copy")}) == 1
    assert rows["copy_0.png"]["group"] == rows["red_0.png"]["group"]
    assert result["images"] == 17 and result["groups"] == 12
