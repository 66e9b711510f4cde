"""other/demo.py: all of the pipeline in one command, here with a smaller network and one epoch."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, command
from sklearn.datasets import load_digits

from config import parser
from config.modes import MODES
from runs import run_folder

pytestmark = pytest.mark.training


def demo(folder, *words):
    words = ["--mode", "demo", "--target", "digits", "--epochs", "1", "--save_dir", "runs",
             "--log_dir", "logs", *words]
    return subprocess.run(
        [sys.executable, os.path.join(ROOT, "tests", "few_blocks.py"), json.dumps([words])],
        cwd=folder, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(working folder, what a demo without and one with --json printed there)."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder), demo(folder, "--json")


def test_the_summary_tells_what_the_run_says(done):
    folder, process, _ = done
    assert process.returncode == 0, process.stderr
    with open(folder / "runs" / "demo" / "eval.csv", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    hits = sum(row["true"] == row["predicted"] for row in rows)
    headings = re.findall(r"^== (.*)", process.stdout, re.M)
    assert headings == ["writing the digits", "training", "evaluating on the test digits",
                        "exporting the SavedModel", "predicting one image with it", "done"]
    said = re.search(r"accuracy on the test digits +([\d.]+) \(360 images\)", process.stdout)
    assert float(said[1]) == pytest.approx(hits / 360, abs=5e-5) and len(rows) == 360
    (number, label) = re.search(r"its text file says: digit_(\d+)\.png, (\d)", process.stdout
                                ).groups()
    assert load_digits().target[int(number)] == int(label)


def test_it_leaves_a_run_and_an_exported_model(done):
    folder = done[0]
    run = run_folder.read(str(folder / "runs" / "demo"))
    options = run.options
    assert (options.epochs, options.weights, options.input_size) == (1, "none", 32)
    assert not options.horizontal_flip and options.random_eraser == 0
    assert os.path.exists(run.file("model", "saved_model.pb"))
    assert set(os.listdir(folder / "logs")) == {"demo"}


def test_with_json_one_line_and_the_same_numbers(done):
    """The digits are there already, and on a processor a training repeats bit for bit."""
    _, first, process = done
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert process.stdout.count("\n") == 1
    assert f"{result['test_accuracy']:.4f} ({result['test_images']} images)" in first.stdout
    assert result["run"] == os.path.join("runs", "demo") and result["data"] == "digits"
    assert "== training" in process.stderr and "writing the digits" not in process.stderr


def test_a_step_that_fails_ends_it(tmp_path):
    (tmp_path / "digits").mkdir()
    process = command("--mode", "demo", "--target", "digits", cwd=tmp_path)
    assert process.returncode == 2 and "== evaluating" not in process.stdout
    assert "train_datasets" in process.stderr.splitlines()[-1]


def test_the_old_name_of_its_first_step_is_in_no_list():
    assert MODES["demo_data"].hidden and parser.parse("demo_data", []).target == "datasets/digits"
    process = command()
    assert "  demo  " in process.stdout and "demo_data" not in process.stdout
    assert "demo_data" not in command("--mode", "demo_dta").stderr
