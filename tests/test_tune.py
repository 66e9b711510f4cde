"""--mode tune with trainings: its trials, best.yaml, the page, the verdict, ending early."""

import csv
import json
import os

import numpy as np
import pytest
import yaml
from conftest import COLORS, write_image
from tiny_backbone import few_blocks, write_weights

import train
from config import parser
from config.next_steps import next_step
from data import parts
from data.labelled_data import read_labelled
from evaluation.label_errors import trained_on
from evaluation.paired_seeds import compare_seeds
from other import tune
from other.tuning import study as studies
from other.tuning.plan import make_plan
from other.tuning.study import open_study
from prediction.batch import predict_samples
from prediction.classifier import Classifier
from runs import run_folder
from runs.results import read_results

pytest.importorskip("optuna")
pytestmark = pytest.mark.training
TRIALS, SEEDS = 4, 3


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with few_blocks():
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Words that name the weights of a tiny backbone, whose head learns for two epochs."""
    weights = write_weights(tmp_path_factory.mktemp("weights"))
    return [*weights, "--linear_head", "no", "--freeze_epochs", "2", "--epochs", "2",
            "--cache_features", "--batch_size", "8"]


def search(place, start, *words):
    """What `--mode tune --json` prints, for the photos in place/photos."""
    return tune.main(parser.parse("tune", [
        "--data", str(place / "photos"), "--run", "t", "--trials", str(TRIALS), "--seeds",
        str(SEEDS), "--search", "learning_rate,dropout", "--learning_rate", "1e-6",
        "--save_dir", str(place / "runs"), "--log_dir", str(place / "logs"), "--json", *start,
        *map(str, words)]))


@pytest.fixture(scope="module")
def place(tmp_path_factory, start):
    """A folder with a study that begins at a rate too small to learn anything."""
    place = tmp_path_factory.mktemp("tune")
    for index, (name, color) in enumerate(COLORS.items()):
        os.makedirs(place / "photos" / name)
        for number in range(20):
            write_image(place / "photos" / name / f"{name}_{number}.png", color,
                        seed=(index, number))
    result = search(place, start)
    (place / "result.json").write_text(json.dumps(result))
    return place


@pytest.fixture(scope="module")
def result(place):
    return json.loads((place / "result.json").read_text())


def table(place):
    with open(place / "runs" / "t-tune" / "trials.csv", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_trials_are_runs_that_have_not_seen_the_test(place, result):
    rows = table(place)
    assert len(rows) == TRIALS == sum(result["trials"].values())
    samples = read_labelled(str(place / "photos")).samples
    assignment = parts.update(str(place / "photos"), samples)
    is_training = assignment.parts == 0
    for row in rows:
        run_path = str(place / "runs" / "t-tune" / row["run"])
        assert (trained_on(run_path, samples) == is_training).all()
        run = run_folder.read(run_path, weights=None)
        assert run.options.learning_rate == float(row["learning_rate"])
        assert run.options.dropout == float(row["dropout"])
        assert float(row["val_accuracy"]) == pytest.approx(
            run_folder.read_metrics(run_path)["val_accuracy"], abs=1e-6)
        assert not os.path.exists(run.file("checkpoint"))
    assert len({row["weights"] for row in rows}) == TRIALS
    assert result["start"]["values"] == {"learning_rate": 1e-6, "dropout": 0.2}
    assert result["start"]["number"] == 0 < result["best"]["number"]
    assert result["best"]["score"] == max(float(row["val_accuracy"]) for row in rows)


def test_verdict_is_that_of_the_runs_on_the_test(place, result):
    """Answers taken anew from the runs' weights, scores from a comparison by hand."""
    samples = read_labelled(str(place / "photos")).samples
    test = parts.select(samples, parts.update(str(place / "photos"), samples), "test")
    right = []
    for number in (0, result["best"]["number"]):
        rows = []
        for seed in range(1, SEEDS + 1):
            path = place / "runs" / "t-tune" / "verdict" / f"trial-{number:04}-seed-{seed}"
            classifier = Classifier.load(str(path), calibrated=False)
            answers, _, _ = predict_samples(classifier, test, 4, 1)
            rows.append(answers.argmax(axis=1) == test.class_ids)
        right.append(np.array(rows))
    verdict = result["verdict"]
    assert verdict["difference"] == pytest.approx(right[1].mean() - right[0].mean())
    assert verdict["accuracies"]["best"] == pytest.approx(right[1].mean(axis=1).tolist())
    assert result["photos"]["test"] == len(test.file_names) == verdict["groups"]
    expected = compare_seeds(*right, np.arange(len(test.file_names)))
    assert (verdict["low"], verdict["high"]) == pytest.approx((expected.low, expected.high))
    assert verdict["verdict"] == {1: "better", 0: "can't tell", -1: "worse"}[expected.sign]
    seeds = [run_folder.read(str(path)).options.seed
             for path in sorted((place / "runs" / "t-tune" / "verdict").iterdir())]
    assert seeds[:SEEDS] == seeds[SEEDS:] and len(set(seeds)) == SEEDS


def test_best_yaml_gives_the_very_settings(place, result, start):
    path = result["settings"]
    values = yaml.safe_load(open(path))
    given = {word.removeprefix("--") for word in start if word.startswith("--")}
    assert values.keys() == given | {"learning_rate", "dropout"}
    options = parser.parse("train", ["--data", str(place / "photos"), "--config", path])
    assert {name: getattr(options, name) for name in result["best"]["values"]} == (
        result["best"]["values"])
    again = train.fit(options._replace(
        run="again", save_dir=str(place / "runs"), log_dir=str(place / "logs"),
        seed=result["best"]["number"]))
    of_trial = f"trial-{result['best']['number']:04}"
    both = [read_results(path) for path in (
        again["run"], str(place / "runs" / "t-tune" / "trials" / of_trial))]
    assert [row["val_accuracy"] for row in both[0]] == [row["val_accuracy"] for row in both[1]]
    options = parser.parse("tune", ["--data", "photos"])
    assert next_step("tune", options, result) == ["train", "--data", "photos", "--config", path]
    worse = {**result, "verdict": {"verdict": "worse"}}
    assert next_step("tune", options, worse) == ["train", "--data", "photos"]


def test_the_same_command_goes_on_and_speaks_both_languages(place, start, result, monkeypatch):
    monkeypatch.setattr(train, "fit", None)  # nothing is left to train
    page = place / "runs" / "t-tune" / "index.html"
    titles = {"zh": ("t 的参数搜索", "起点"), "en": ("Search of settings for t",)}
    for language, words in titles.items():
        assert search(place, start, "--lang", language) == result
        content = page.read_text(encoding="utf-8")
        assert all(word in content for word in words)
        assert content.count("data-trial=") == TRIALS and 'data-option="learning_rate"' in content
        assert f'data-verdict="{result["verdict"]["verdict"].replace(chr(39), "&#39;")}"' in content


def test_text_for_people(place, start, result, capsys):
    text = tune._text(result)
    assert f"best trial {result['best']['number'] + 1}" in text and "verdict: " in text
    alone = {**result, "verdict": {**result["verdict"], "difference": None}}
    assert "no trial was better than the starting point" in tune._text(alone)
    assert "not reached yet" in tune._text({**result, "verdict": None})


def test_training_ends_where_it_is_told_to(place, start):
    words = ["--data", str(place / "photos"), "--run", "early", "--save_dir", str(place / "runs"),
             "--log_dir", str(place / "logs"), *start[:4], "--freeze_epochs", "5", "--epochs", "5",
             "--linear_head", "no"]
    asked = []

    def ends_early(history):
        asked.append(len(history))
        return len(history) == 2

    metrics = train.fit(parser.parse("train", words), ends_early=ends_early)
    assert metrics["epochs"] == 2 == len(read_results(metrics["run"])) and max(asked) == 2


def test_bad_trials_are_ended_early(place, start, monkeypatch):
    """A study whose pruner has seen better scores ends a training after its second epoch."""
    monkeypatch.setattr(studies, "COMPLETE_BEFORE_PRUNING", 1)
    words = ["--data", str(place / "photos"), "--run", "pruned", "--trials", "2", "--search",
             "learning_rate", "--save_dir", str(place / "runs"), "--log_dir", str(place / "logs"),
             "--json", *start, "--epochs", "5", "--freeze_epochs", "5"]
    options = parser.parse("tune", words)
    study = open_study(make_plan(options), options, 5)
    with study.claimed() as claim:
        for epoch in range(1, 6):
            claim.trial.report(1.1, epoch)  # better than any
        study.finish(claim, "complete", 1.1, epochs=5, seconds=1.0)
    result = tune.main(options)
    assert result["trials"] == {"complete": 1, "pruned": 1, "failed": 0}
    run_path = str(place / "runs" / "pruned-tune" / "trials" / "trial-0001")
    assert len(read_results(run_path)) == 2
    assert not os.path.exists(os.path.join(run_path, "best.weights.h5"))
    assert result["verdict"]["verdict"] == "can't tell" and result["best"]["number"] == 0
