"""other/benchmark.py: what it times, counts and compares, its outputs, and what is refused."""

import csv
import json
import os
import subprocess
import warnings
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from conftest import write_samples
from onnx import TensorProto, helper
from statsmodels.stats.proportion import proportion_confint
from test_calibrate import LABELS, done, go, make_exported, make_run, write_images

from common.errors import RunError
from common.files import checksum
from data.label_names import write_label_names
from evaluation import runtime_speed
from evaluation.runtime_speed import clock, measure
from other import benchmark
from other.reporting import benchmark_table
from prediction import runtimes
from prediction.runtimes import Answers

# What the export is said to have found; another than what is measured here.
EXPORT = {"difference": 0.25, "agreement": 0.5}
TRUE = np.array([0, 0, 1, 2, 2, 1, 0, 1, 2, 0])
APART = benchmark.run_in_subprocess  # before the tests' stand-in takes its place


def one_hot(classes, sure=1.0):
    """A row of probabilities for each class named, which gets `sure`, and the last the rest."""
    rows = np.zeros((len(classes), 3), np.float32)
    rows[:, 2] = 1 - sure
    rows[np.arange(len(classes)), classes] += np.float32(sure)
    return rows


@pytest.fixture
def tables(monkeypatch):
    """(runtime, precision) -> the table that it answers from, or the error it raises.

    An image's colour is the number of its row, as `write_images` paints it.
    """
    found = {}

    def open_model(folder, name, precision="float32"):
        def predict(x):
            table = found.get((name, precision), one_hot(TRUE))
            if isinstance(table, Exception):
                raise table
            return Answers(table[np.minimum(x[:, 16, 16, 0], len(table) - 1)])

        return predict

    def apart(task):
        try:
            return measure(**{**task, "seconds": (0, 0)})
        except ValueError as error:
            raise RunError(f"failed: {error}") from None

    monkeypatch.setattr(runtimes, "open_model", open_model)
    monkeypatch.setattr(runtimes, "is_installed", lambda name: True)
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: True)
    monkeypatch.setattr(runtimes, "size", lambda folder, name, precision: 2_500_000)
    monkeypatch.setattr(runtimes, "FASTEST", (
        ("openvino", "bfloat16"), ("onnx", "float32"), ("openvino", "float32"),
        ("openvino", "int8"), ("onnx", "int8"), ("savedmodel", "float32")))
    monkeypatch.setattr(benchmark, "run_in_subprocess", apart)
    return found


def exported(path, formats, **changes):
    """An exported model said to be there in these formats: runtime -> precisions."""
    make_exported(path)
    file = path / "model.json"
    (path / "saved_model.pb").write_bytes(b"1234567")
    description = {**json.loads(file.read_text()), "backbone": "EfficientNetB0",
                   "files": {"saved_model.pb": checksum(path / "saved_model.pb")}, **changes}
    if formats:
        description["formats"] = {name: dict.fromkeys(precisions, EXPORT)
                                  for name, precisions in formats.items()}
    file.write_text(json.dumps(description))
    return path


ALL = {"openvino": ("float32", "bfloat16", "int8"), "onnx": ("float32",),
       "savedmodel": ("float32",)}


@pytest.fixture
def words(tmp_path):
    """The command for a model in `ALL`, with labelled images."""
    data = write_images(tmp_path / "data", TRUE)
    model = exported(tmp_path / "model", ALL)
    return ("--mode", "benchmark", "--model", model, "--data", data, "--target", tmp_path / "out",
            "--batch_size", 4)


def rows_of(result):
    return {(row["runtime"], row["precision"]): row for row in result["results"]}


# --- time and memory ------------------------------------------------------------------


@pytest.mark.parametrize("largest, sizes", [
    (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (24, [1, 2, 4, 8, 16, 24]), (32, [1, 2, 4, 8, 16, 32]),
])
def test_batch_sizes(largest, sizes):
    assert benchmark.batch_sizes(largest) == sizes


def test_times_by_a_clock_of_its_own(tmp_path, monkeypatch):
    """One image takes 10 ms and every tenth time 30, two 12, four 40; what is cold takes 5 s."""
    now, counts = [0.0], {}

    def predict(x):
        assert x.dtype == np.uint8 and x.shape[1:] == (32, 32, 3)
        count = counts[len(x)] = counts.get(len(x), 0) + 1
        usual = {1: 0.03 if count % 10 == 0 else 0.01, 2: 0.012, 4: 0.04}[len(x)]
        now[0] += 5 if count == 1 else usual
        return Answers(np.zeros((len(x), 3), np.float32))

    def open_model(folder, name, precision):
        assert (name, precision) == ("onnx", "int8")
        now[0] += 2
        return predict

    monkeypatch.setattr(runtimes, "open_model", open_model)
    monkeypatch.setattr(runtime_speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    folder = str(exported(tmp_path / "model", ALL))
    figures, answers, undecodable = measure(
        folder, "onnx", "int8", [1, 2, 4], (3.0, 0.6), "", [], 1)
    assert figures.pop("peak_memory") > 1e6
    assert figures == {
        "load_seconds": pytest.approx(7),
        "milliseconds": pytest.approx(10), "milliseconds_95": pytest.approx(30),
        "images_per_second_1": pytest.approx(100),
        "images_per_second_2": pytest.approx(2 / 0.012),
        "images_per_second_4": pytest.approx(100),
        "images_per_second": pytest.approx(2 / 0.012), "batch_size": 2,
    }
    assert answers.shape == (0, 3) and undecodable == {}
    # 3 s hold 250 calls of 12 ms on average, 0.6 s hold 50 of 12 ms and 15 of 40.
    for size, calls in ((1, 250), (2, 50), (4, 15)):
        assert calls - 3 <= counts[size] <= calls + 5


def test_slow_calls_are_timed_once_a_turn(monkeypatch):
    now = [0.0]

    def predict(x):
        now[0] += 9

    monkeypatch.setattr(runtime_speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert clock(predict, None, 0.5) == [9]
    assert clock(predict, None, 20) == [9, 9, 9]


def colour_model(path):
    """An ONNX file: the softmax of an image's mean red, green and blue, each over 50."""
    nodes = [
        helper.make_node("Cast", [runtimes.INPUT], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "fifty"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [runtimes.OUTPUT], axis=1),
    ]
    taken = helper.make_tensor_value_info(runtimes.INPUT, TensorProto.UINT8, ["N", 32, 32, 3])
    given = helper.make_tensor_value_info(runtimes.OUTPUT, TensorProto.FLOAT, ["N", 3])
    fifty = helper.make_tensor("fifty", TensorProto.FLOAT, [], [50.0])
    graph = helper.make_graph(nodes, "colours", [taken], [given], [fifty])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
              str(path))


def test_in_processes_of_their_own(tmp_path, monkeypatch, capsys):
    """One measures, the other fails; the memory is not this process's, which starts them."""
    monkeypatch.setattr(benchmark, "SECONDS", (0.05, 0.05))
    monkeypatch.chdir(tmp_path)
    exported(tmp_path / "model", {"onnx": ("float32",), "openvino": ("float32",)},
             labels=["red", "green", "blue"])
    colour_model(tmp_path / "model" / "model.onnx")
    (tmp_path / "model" / "model.xml").write_text("no model")
    (tmp_path / "model" / "model.bin").write_text("1234")
    write_samples("data", 2)
    (tmp_path / "data" / "img_1_1.png").write_bytes(b"no image")
    held = np.ones(10**8)  # 800 MB
    status, out, err = go(capsys, "--mode", "benchmark", "--model", "model", "--data", "data",
                          "--batch_size", 2, "--json")
    result = json.loads(out)
    good, bad = result["results"]
    assert held[-1] == 1 and 3e7 < good["peak_memory"] < 6e8
    assert good["accuracy"] == pytest.approx(5 / 6) and good["problem"] is None
    assert 0 < good["milliseconds"] <= good["milliseconds_95"]
    assert 0.001 < good["load_seconds"] < 60
    assert good["images_per_second"] == max(good["images_per_second_1"],
                                            good["images_per_second_2"])
    assert result["undecodable"] == [
        f"{os.path.join('data', 'img_1_1.png')}: cannot be decoded: is none of "
        "JPEG, PNG, BMP, WEBP, GIF, TIFF, HEIF, AVIF"]
    assert bad["problem"].startswith("failed: ") and "model.xml: cannot be opened" in bad["problem"]
    assert good["bytes"] == os.path.getsize(tmp_path / "model" / "model.onnx")
    assert bad["bytes"] == 12
    assert bad["load_seconds"] is None and bad["agreement"] is None
    assert status == 1 and err.splitlines()[-1].startswith("run.py: openvino float32: failed: ")
    assert sorted(os.listdir("benchmark")) == sorted(benchmark.FILES)


def test_a_runtime_is_opened_once_before_it_is_measured(words, tables, capsys, monkeypatch):
    """Its libraries are then in the file cache; no images are answered for that."""
    tasks, measure = [], benchmark.run_in_subprocess
    monkeypatch.setattr(
        benchmark, "run_in_subprocess", lambda task: tasks.append(task) or measure(task)
    )
    done(capsys, *words)
    once, all_of_it = (0, [1]), (10, [1, 2, 4])
    assert [(task["name"], task["precision"], (len(task["names"]), task["batches"]))
            for task in tasks] == [
        ("savedmodel", "float32", once), ("savedmodel", "float32", all_of_it),
        ("onnx", "float32", once), ("onnx", "float32", all_of_it),
        ("openvino", "float32", once), ("openvino", "float32", all_of_it),
        ("openvino", "bfloat16", all_of_it), ("openvino", "int8", all_of_it),
    ]


def test_a_process_that_was_killed(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *words, **more: SimpleNamespace(
        returncode=-9, stderr="some warning"))
    with pytest.raises(RunError, match="^failed: status -9, as of a process that was killed$"):
        APART({})


# --- accuracy and agreement -----------------------------------------------------------


def test_on_labelled_images(words, tables, capsys):
    wrong = TRUE.copy()
    wrong[[2, 3]] = 0
    tables["savedmodel", "float32"] = one_hot(wrong, 0.75)
    tables["onnx", "float32"] = one_hot(wrong, 0.875)
    tables["openvino", "float32"] = one_hot(wrong, 0.75)
    tables["openvino", "int8"] = one_hot(TRUE, 0.75)
    with open(os.path.join(words[5], "0000.png"), "wb") as file:
        file.write(b"no image")  # of class 0, which a row of zeros would name
    result, err = done(capsys, *words)
    assert (result["images"], result["images_from"]) == (10, words[5])
    assert result["original"] == "savedmodel float32" and len(result["undecodable"]) == 1
    rows = rows_of(result)
    assert list(rows) == [("savedmodel", "float32"), ("onnx", "float32"), ("openvino", "float32"),
                          ("openvino", "bfloat16"), ("openvino", "int8")]
    for key, right, same, difference in (
        (("savedmodel", "float32"), 7, 9, 0), (("onnx", "float32"), 7, 9, 0.125),
        (("openvino", "float32"), 7, 9, 0), (("openvino", "bfloat16"), 9, 7, 1),
        (("openvino", "int8"), 9, 7, 0.75),
    ):
        row = rows[key]
        assert row["accuracy"] == right / 10, key
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(
            proportion_confint(right, 10, method="wilson"))
        assert row["agreement"] == pytest.approx(same / 9), key
        assert row["difference"] == pytest.approx(difference), key
        assert row["bytes"] == 2_500_000 and row["problem"] is None
    assert [key for key, row in rows.items() if row["auto"]] == [("openvino", "bfloat16")]


def test_the_check_images_of_the_run(tables, tmp_path, capsys, monkeypatch):
    """Not the first two images, so that a wrong folder or order shows."""
    run = tmp_path / "runs" / "a"
    make_run(run)
    exported(run / "model", {"onnx": ("float32", "int8")})
    write_images(run / "check", TRUE[:6])
    (run / "check" / "probabilities.json").write_text(
        json.dumps({"0005.png": [1, 0, 0], "0002.png": [1, 0, 0]}))
    tables["onnx", "int8"] = one_hot([0, 0, 1, 0, 0, 0])
    monkeypatch.chdir(tmp_path)
    words = ("--mode", "benchmark", "--model", "a", "--save_dir", "runs")
    result, _ = done(capsys, *words)
    assert result["model"] == os.path.join("runs", "a", "model")
    assert (result["images"], result["original"]) == (2, "onnx float32")
    assert result["images_from"] == os.path.join("runs", "a", "check")
    row = rows_of(result)["onnx", "int8"]
    assert (row["agreement"], row["difference"], row["accuracy"]) == (0.5, 1, None)
    out = go(capsys, *words)[1].splitlines()
    assert out[1] == f"agreement and difference: to onnx float32, on 2 images of " \
                     f"{os.path.join('runs', 'a', 'check')}"
    assert "accuracy" not in out[2]
    # The exported folder itself is the same.
    assert done(capsys, *words[:3], run / "model")[0]["images"] == 2


def test_without_images_the_figures_are_the_exports(tables, tmp_path, capsys):
    model = exported(tmp_path / "model", {"onnx": ("float32", "int8")})
    words = ("--mode", "benchmark", "--model", model, "--target", tmp_path / "out")
    result, _ = done(capsys, *words)
    assert (result["images"], result["images_from"], result["original"]) == (0, None, None)
    for row in result["results"]:
        assert (row["agreement"], row["difference"], row["accuracy"]) == (0.5, 0.25, None)
        assert row["milliseconds"] > 0
    assert "only of the export" in go(capsys, *words)[1].splitlines()[1]


def test_without_any_float32_they_are_too(words, tables, capsys):
    for name in ("savedmodel", "onnx", "openvino"):
        tables[name, "float32"] = ValueError("no")
    status, out, _ = go(capsys, *words, "--json")
    result = json.loads(out)
    assert status == 1 and result["original"] is None
    row = rows_of(result)["openvino", "int8"]
    assert (row["agreement"], row["accuracy"]) == (0.5, 1)


def test_an_export_that_tells_no_formats(tables, tmp_path, capsys):
    model = exported(tmp_path / "model", None)
    result, _ = done(capsys, "--mode", "benchmark", "--model", model, "--target", tmp_path / "out")
    [row] = result["results"]
    assert (row["runtime"], row["precision"], row["auto"]) == ("savedmodel", "float32", True)
    assert row["agreement"] is None


# --- what cannot be measured ----------------------------------------------------------


def test_what_is_missing_or_fails_leaves_the_others(words, tables, capsys, monkeypatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda name: name != "onnx")
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: False)
    status, out, err = go(capsys, *words)  # without the two fastest
    assert (status, err) == (0, "")
    lines = {" ".join(line.split()[:2]): line for line in out.splitlines()}
    assert lines["onnx float32"].endswith("  not installed")
    assert lines["openvino bfloat16"].endswith("  not on this processor")
    assert lines["* openvino"].split()[:4] == ["*", "openvino", "float32", "2.50"]
    tables["openvino", "int8"] = ValueError("out of luck")
    status, out, err = go(capsys, *words, "--json")
    assert status == 1 and err == "run.py: openvino int8: failed: out of luck\n"
    rows = rows_of(json.loads(out))
    assert rows["openvino", "int8"]["problem"] == "failed: out of luck"
    assert rows["openvino", "float32"]["accuracy"] == 1
    tables["savedmodel", "float32"] = ValueError("nor here")
    status, out, err = go(capsys, *words, "--json")
    assert err == "run.py: savedmodel float32: failed: nor here; 2 of 5 failed\n"
    assert json.loads(out)["original"] == "openvino float32"


def test_nothing_installed(words, tables, capsys, monkeypatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda name: False)
    status, out, err = go(capsys, *words)
    assert (status, out) == (2, "") and "nothing that could compute the model is installed" in err
    assert not os.path.exists(words[7])


# --- outputs --------------------------------------------------------------------------


def test_table_csv_and_chart(words, tables, capsys):
    tables["onnx", "float32"] = one_hot(np.roll(TRUE, 1), 0.75)
    status, out, err = go(capsys, *words)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{words[3]}, computed on ")
    assert lines[2].split() == (
        "runtime precision MB load s ms ms 95 % images/s batch memory MB accuracy "
        "95 % interval agreement difference").split()
    right = int((np.roll(TRUE, 1) == TRUE).sum())
    low, high = proportion_confint(right, 10, method="wilson")
    assert f"{right / 10:.4f}  {low:.4f} - {high:.4f}  " in lines[4]
    assert f"{right / 10:.2%}" in lines[4] and lines[4].endswith("1.0e+00")
    assert lines[6].startswith("* openvino    bfloat16   2.50")
    assert lines[-1] == f"table and chart: {words[7]}"
    with open(os.path.join(words[7], "benchmark.csv"), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["auto"] for row in rows] == ["no", "no", "no", "yes", "no"]
    assert rows[1]["accuracy"] == str(right / 10) and rows[1]["problem"] == ""
    assert f"{float(rows[1]['peak_memory']) / 10**6:.0f}" in lines[4].split()
    best = max(float(rows[0][f"images_per_second_{size}"]) for size in (1, 2, 4))
    assert float(rows[0]["images_per_second"]) == best
    with open(os.path.join(words[7], "benchmark.png"), "rb") as file:
        assert file.read(4) == b"\x89PNG"
    with open(os.path.join(words[7], "benchmark.svg"), encoding="utf-8") as file:
        assert "<svg" in file.read()
    bad = os.path.join(words[5], "0000.png")
    with open(bad, "wb") as file:
        file.write(b"")
    status, out, _ = go(capsys, *words)  # an earlier output is replaced
    assert status == 0
    assert out.splitlines()[-2] == f"counted as wrong: {bad}: the file is empty"


def test_chart():
    none = dict.fromkeys(benchmark.COLUMNS)
    rows = [
        {**none, "runtime": "savedmodel", "precision": "float32", "milliseconds": 8.125,
         "images_per_second": 1234.5, "batch_size": 16},
        {**none, "runtime": "onnx", "precision": "int8", "problem": "failed: long: story"},
        {**none, "runtime": "openvino", "precision": "bfloat16", "auto": True,
         "milliseconds": 0.5, "images_per_second": 99.96, "batch_size": 1},
    ]
    figure = benchmark_table.chart(rows, "EfficientNetB0")
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [8.125, 0, 0.5]
    assert [bar.get_width() for bar in right.patches] == [1234.5, 0, 99.96]
    assert [text.get_text() for text in left.texts] == ["8.12", "failed", "0.500"]
    assert [text.get_text() for text in right.texts] == [
        "1,234  (batch 16)", "failed", "100  (batch 1)"]
    names = [text.get_text() for text in left.get_yticklabels()]
    assert names == ["savedmodel float32", "onnx int8", "openvino bfloat16 (auto)"]
    assert [text.get_fontweight() for text in left.get_yticklabels()] == [
        "normal", "normal", "bold"]
    top, bottom = left.transData.transform([(0, 0), (0, 2)])[:, 1]
    assert top > bottom  # the first row stands at the top
    with warnings.catch_warnings(action="error"):
        assert benchmark_table.chart(rows[1:2], "nothing to show").axes[0].get_xlim() == (0, 1.4)


# --- what is refused ------------------------------------------------------------------


def test_what_is_refused(words, tables, tmp_path, capsys, monkeypatch):
    make_run(tmp_path / "runs" / "a")
    words = [str(word) for word in words]

    def refused(*changes):
        status, out, err = go(capsys, *words, *changes)
        assert (status, out) == (2, "") and err.count("\n") == 1
        assert not os.path.exists(words[7])
        return err

    runs = tmp_path / "runs"
    assert "--model: 'b' is neither a run or exported model" in refused(
        "--model", "b", "--save_dir", runs)
    assert "has no exported model; --mode export makes one" in refused(
        "--model", "a", "--save_dir", runs)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "run_in_subprocess", None)  # before anything is measured
        assert "is not an earlier output of this tool" in refused("--target", taken)
    write_label_names(words[5], ["no class", *LABELS[1:]])
    assert "the class 'no class' is not one of those of the labels of" in refused()
    write_label_names(words[5], LABELS)
    check = tmp_path / "check"
    check.mkdir()
    (check / "probabilities.json").write_text("{")
    status, _, err = go(capsys, *words[:4], "--target", words[7])
    assert status == 2 and "probabilities.json: cannot be read" in err
    for position in range(len(TRUE)):
        with open(os.path.join(words[5], f"{position:04}.png"), "wb") as file:
            file.write(b"no image")
    assert "none of its 10 images can be decoded" in refused()
    with open(os.path.join(words[3], "saved_model.pb"), "wb") as file:
        file.write(b"7654321")
    assert "files have changed since export: saved_model.pb" in refused()
