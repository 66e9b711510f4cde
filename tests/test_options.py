"""Options and the front door: precedence, checks, help, exit statuses, and who imports what."""

import contextlib
import dataclasses
import functools
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import typing
from types import SimpleNamespace

import pytest
from conftest import ROOT, command

import run
from common import commands, ending_signals
from common.errors import InputError, RunError
from config import mode_options, modes, option_table, options, parser
from config.next_steps import next_step
from other import demo_data

# What a mode cannot do without.
REQUIRED = {
    "train": [], "eval": ["--run", "r", "--data", "d"], "predict": ["--run", "r", "--image", "i"],
    "save_pb": ["--run", "r"], "export": ["--run", "r"], "demo_data": [],
    "dir2txt": ["--source", "s", "--target", "t"],
    "backbones": [], "fetch_weights": [], "preview": [], "txt2dir": [],
    "mean_std": ["--source", "s"], "statistics": ["--source", "s"],
    "confusion_matrix": ["--run", "r"], "audit": ["--source", "s"], "clean": [],
    "report": ["--run", "r", "--data", "d"], "relabel": ["--run", "r", "--csv", "c"],
    "label": ["--data", "d"],
    "compare": ["a", "b", "--data", "d"], "calibrate": ["--run", "r", "--data", "d"],
    "benchmark": ["--model", "m"], "serve": ["--model", "m"],
    "doctor": [], "demo": [],
    "add_class": ["--run", "r", "--name", "n"], "embed": ["--data", "d"],
    "add": ["--data", "d", "--source", "s"],
    "all": ["--data", "d"], "split": ["--data", "d"], "similar": ["--data", "d", "--image", "i"],
    "drift": ["--run", "r", "--data", "d"], "crossval": ["--data", "d"],
    "tune": ["--data", "d"], "pack": ["--data", "d", "--target", "t"],
    "unpack": ["--data", "d", "--target", "t"],
}
NUMBERS = [name for name, option in option_table.OPTIONS.items()
           if option.type.metavar in ("N", "X")]
# Runs `python run.py` and tells afterwards what it has imported.
PROBE = """
import json, runpy, sys
sys.argv[0] = "run.py"
try:
    runpy.run_path("run.py", run_name="__main__")
except SystemExit as end:
    heavy = {"tensorflow", "keras", "jax", "torch", "numpy", "cv2", "PIL"} & {
        name.split(".")[0] for name in sys.modules}
    print(json.dumps([end.code, sorted(heavy)]))
"""


def probe(*words):
    """(exit status, heavy modules imported, standard output) of `python run.py WORDS`."""
    process = subprocess.run(
        [sys.executable, "-c", PROBE, *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert process.stderr == ""
    lines = process.stdout.splitlines()
    return *json.loads(lines[-1]), "\n".join(lines[:-1])


def refusal(capsys, *words):
    """The one line with which `run.py WORDS` refuses."""
    assert run.main([str(word) for word in words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1 and output.err.endswith("\n")
    assert output.err.startswith("run.py: ")
    return output.err


def holder(name):
    """A mode that has the option `name`."""
    return next(mode for mode in parser.MODES if name in parser.MODES[mode].options)


# --- help -----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_run_alone_prints_the_table_of_modes(words):
    status, heavy, text = probe(*words)
    assert (status, heavy) == (0, [])
    for mode in ("train", "eval", "predict", "save_pb", "dir2txt", "demo"):
        assert re.search(rf"^  {mode} +\w", text, re.MULTILINE)
    assert set(modes.MODES) == set(REQUIRED)


@pytest.mark.parametrize("mode", REQUIRED)
def test_help_of_a_mode(mode):
    status, heavy, text = probe("--mode", mode, "--help")
    assert (status, heavy) == (0, [])
    for option in parser.mode_options(mode):
        assert re.search(rf"^  --{option.name}\b", text, re.MULTILINE), option.name
        assert f"{option.group}:" in text
        assert " ".join(option.help.split())[:40] in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


def test_help_tells_defaults_units_and_what_is_required():
    _, _, text = probe("--mode=train", "--help")
    text = " ".join(text.split())
    for piece in (
        "[one of adamw, adam, sgd, rmsprop, lion, muon, nadam, lamb, adafactor; default: adamw]",
        "[a whole number from 32 to 4096 (pixels); default: ",
        "rotation in each direction; 0 disables it [a number from 0 to 180 (degrees); default: 10]",
        "[default: ../datasets/train_datasets]", "default: BACKBONE-DATE-TIME",
    ):
        assert piece in text
    _, _, text = probe("--mode", "eval", "--help")
    assert text.count("[required]") == 1  # --data; --run is the last one


# --- the table ------------------------------------------------------------------------


def test_the_classes_of_values_are_those_of_the_table():
    from option_reference import classes

    with open(os.path.join(ROOT, "config", "mode_options.py"), encoding="utf-8") as file:
        assert file.read() == classes()  # python -m tests.option_reference writes it
    assert list(mode_options.OPTION_CLASSES) == list(modes.MODES)
    for mode, values in mode_options.OPTION_CLASSES.items():
        assert values._fields == (*modes.MODES[mode].options, "given"), mode


@pytest.mark.parametrize("mode", REQUIRED)
def test_parsed_values_are_of_the_class_and_of_the_types_that_it_names(mode):
    values = parser.parse(mode, REQUIRED[mode])
    assert type(values) is mode_options.OPTION_CLASSES[mode]
    for name, wanted in typing.get_type_hints(type(values)).items():
        allowed = list(typing.get_args(wanted) or (wanted,))
        value = getattr(values, name)
        if typing.get_origin(wanted) is typing.Literal:
            assert value in allowed, name
        elif typing.get_origin(wanted) in (tuple, frozenset):
            assert isinstance(value, (tuple, frozenset)), name
        else:
            literals = [part for part in allowed if typing.get_origin(part) is typing.Literal]
            types = [typing.get_origin(part) or part for part in allowed if part not in literals]
            assert isinstance(value, tuple(types)) or any(
                value in typing.get_args(part) for part in literals), name


def test_every_mode_is_whole():
    fields = {field.name for field in dataclasses.fields(options.Option)}
    for name, mode in modes.MODES.items():
        words = {*mode.options}
        assert len(words) == len(mode.options), name
        assert {*mode.overrides, *mode.required} <= words <= set(option_table.OPTIONS), name
        assert mode.positional is None or mode.positional in words, name
        for changed in mode.overrides.values():
            assert set(changed) <= fields - {"name", "saved", "resumable"}, name
        for module in (mode.module, mode.distributed_module or mode.module):
            assert os.path.isfile(os.path.join(ROOT, *module.split(".")) + ".py"), module
    used = {option for mode in modes.MODES.values() for option in mode.options}
    assert used == set(option_table.OPTIONS)


def test_what_a_run_keeps_and_what_resuming_may_change():
    """Written out: an option that is added without a decision is seen here."""
    place = {"multigpu", "devices", "coordinator", "num_processes", "process_id"}
    command = {"json", "debug", "config", "resume", "force", "track"}
    everything = set(modes.MODES["train"].options)
    assert everything - modes.saved_options("train") == {
        *place, *command, "overwrite", "weights_url", "data"}  # data is kept as train_data
    assert modes.resumable_options("train") == {
        *place, *command, "save_dir", "workers", "data_time_limit", "nan_policy", "keep",
        "checkpoint_minutes", "weights_url", "cache_dir", "cache_gigabytes",
    }


def test_choices_are_those_that_are_accepted_and_named():
    for option in option_table.OPTIONS.values():
        for text in option.type.choices or ():
            if text != "hub:PRESET":  # stands for all presets
                assert option.type.convert(text) == text
            assert re.search(rf"\b{re.escape(text)}\b", option.type.allowed)


# --- precedence -----------------------------------------------------------------------


def test_defaults_then_file_then_command_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 7\nbatch_size: 5\n")
    defaults = parser.parse("train", [])
    assert (defaults.epochs, defaults.batch_size, defaults.patience) == (None, 16, 0)
    assert defaults.given == frozenset()
    parsed = parser.parse("train", ["--batch_size", "9", "--config", str(file)])
    assert (parsed.epochs, parsed.batch_size, parsed.patience) == (7, 9, 0)
    assert parsed.given == {"epochs", "batch_size", "config"}
    parsed = parser.parse("train", [f"--config={file}", "--epochs=30"])
    assert (parsed.epochs, parsed.batch_size) == (30, 5)


def test_a_mode_has_its_own_defaults():
    assert parser.parse("eval", REQUIRED["eval"]).batch_size == 32
    assert parser.parse("demo_data", []).target == "datasets/digits"


def test_defaults_are_those_of_the_design():
    parsed = parser.parse("train", [])
    expected = {
        "train_data": "../datasets/train_datasets", "val_fraction": 0.1,
        "save_dir": "save_h5_model", "log_dir": "log_file", "backbone": "EfficientNetB0",
        "weights": "imagenet", "max_bad": 0.01, "resize": "stretch",
        "fill_color": (255, 255, 255),
    }
    assert {name: getattr(parsed, name) for name in expected} == expected


@pytest.mark.parametrize("text, value", [
    ("learning_rate: 1e-3", 0.001),  # text to PyYAML, which wants 1.0e-3
    ("learning_rate: 1.0e-3", 0.001),
    ("learning_rate: 2", 2.0),
    ("learning_rate: null", None),
    ("epochs: 12", 12),
    ("epochs: '12'", 12),
    ("horizontal_flip: no", False),
    ("horizontal_flip: 'no'", False),
    ("vertical_flip: true", True),
    ("overwrite: Y", True),
    ("fill_color: [1, 2, 3]", (1, 2, 3)),
    ("fill_color: 1,2,3", (1, 2, 3)),
    ("run: 2024", "2024"),
    ("run: 1.10", "1.10"),  # a number, an octal one, minutes and a day to YAML
    ("run: 007", "007"),
    ("run: 12_30", "12_30"),
    ("run: 2024-01-02", "2024-01-02"),
    ("epochs: 010", 10),
    ("jit: off", "off"),
    ("jit: on", "on"),
    ("overwrite: on", True),
    ("learning_rate: ~", None),
    ("learning_rate:", None),
    ("weights: none", "none"),
    ("\ufeffepochs: 3", 3),  # with a byte order mark
])
def test_values_in_yaml(tmp_path, text, value):
    file = tmp_path / "mine.yaml"
    file.write_text(text + "\n", encoding="utf-8")
    name = text.split(":")[0].strip("\ufeff")
    parsed = getattr(parser.parse("train", ["--config", str(file)]), name)
    assert parsed == value and type(parsed) is type(value)


def test_several_values_in_yaml_and_on_the_command_line(tmp_path):
    file = tmp_path / "mine.yaml"
    for written in ("image: [a.jpg, b.jpg]\n", "image:\n- a.jpg\n- b.jpg\n"):
        file.write_text(written)
        assert parser.parse("predict", ["--run", "r", "--config", str(file)]).image == (
            "a.jpg", "b.jpg"
        )
    file.write_text("image: a.jpg\n")
    assert parser.parse("predict", ["--run", "r", "--config", str(file)]).image == ("a.jpg",)
    parsed = parser.parse("predict", ["--image", "a.jpg", "b.jpg", "--run", "r"])
    assert parsed.image == ("a.jpg", "b.jpg")


@pytest.mark.parametrize("text", ["[[a.jpg, b.jpg], c.jpg]", "[{a: 1}]", "[a.jpg, null]"])
def test_a_list_in_a_list_is_refused(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(f"image: {text}\n")
    with pytest.raises(InputError, match="image: takes a value or a list of values"):
        parser.parse("predict", ["--run", "r", "--config", str(file)])


@pytest.mark.parametrize("text", ["nan,nan", "0.5,nan", "nan,0.5,0.5", "0.5,0.6", "1,0", "inf,0.1"])
def test_shares_that_do_not_add_up_are_refused(text):
    with pytest.raises(InputError, match=f"--split: '{text}' is not allowed"):
        parser.parse("dir2txt", ["--source", "a", "--target", "b", "--split", text])


@pytest.mark.parametrize("words, value", [
    ([], False), (["--json"], True), (["--json", "yes"], True), (["--json=no"], False),
    (["--json", "False"], False),
])
def test_yes_and_no(words, value):
    assert parser.parse("train", words).json is value


def test_an_empty_file_changes_nothing(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("# nothing yet\n")
    parsed = parser.parse("train", ["--config", str(file)])
    assert parsed._replace(config=None, given=frozenset()) == parser.parse("train", [])


def test_options_are_frozen():
    parsed = parser.parse("train", [])
    with pytest.raises(AttributeError):
        parsed.epochs = 3
    with pytest.raises(AttributeError):
        parsed.something = 3
    with pytest.raises(AttributeError):
        parsed.given.add("epochs")


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_range(capsys, tmp_path, name):
    mode, option = holder(name), option_table.OPTIONS[name]
    low, high = map(float, re.findall(r"-?[\d.]+", option.type.allowed))
    wrong = ["nan", "inf", "-inf", "1e999", "many", "", "1,5", low - 1, high + 1, str(low - 1e-9)]
    if option.type.metavar == "N":
        wrong = [int(value) if isinstance(value, float) else value for value in wrong]
        wrong += ["1.5", "3e0", "0x10", "True"]
    wrong += [low] * ("above" in option.type.allowed) + [high] * ("below" in option.type.allowed)
    for value in wrong:
        line = refusal(capsys, "--mode", mode, *REQUIRED[mode], f"--{name}={value}")
        for fact in (f"--{name}:", repr(str(value)), option.type.allowed):
            assert fact in line
    file = tmp_path / "mine.yaml"
    for value in (".nan", ".inf", "[]", "{a: 1}", "many", "true"):
        file.write_text(f"{name}: {value}\n")
        line = refusal(capsys, "--mode", mode, *REQUIRED[mode], "--config", file)
        for fact in (str(file), name, option.type.allowed):
            assert fact in line


@pytest.mark.parametrize("name", NUMBERS)
def test_ends_of_a_range_are_allowed(name):
    mode, option = holder(name), option_table.OPTIONS[name]
    low, high = re.findall(r"-?[\d.]+", option.type.allowed)
    ends = [low] * ("above" not in option.type.allowed) + [high] * (
        "below" not in option.type.allowed
    )
    for value in ends:
        parsed = getattr(parser.parse(mode, [*REQUIRED[mode], f"--{name}={value}"]), name)
        assert parsed == float(value)


@pytest.mark.parametrize("name, low, high", [
    ("epochs", 1, 100000), ("batch_size", 1, 65536), ("input_size", 32, 4096), ("top_k", 1, 10000),
])
def test_ranges_stand_in_the_message(capsys, name, low, high):
    mode = holder(name)
    line = refusal(capsys, "--mode", mode, *REQUIRED[mode], f"--{name}", 0)
    assert f"--{name}: '0' is not allowed: it takes a whole number from {low} to {high}" in line


@pytest.mark.parametrize("words, facts", [
    (["--epoch", "3"], ["--epoch ", "--mode train", "did you mean --epochs?"]),
    (["--learningrate=3"], ["--learningrate=3", "did you mean --learning_rate?"]),
    (["--lr", "3"], ["--lr is not an option of --mode train"]),
    (["--backbone", "efficientnet_b0"], ["'efficientnet_b0'", "EfficientNetB7",
                                         "did you mean EfficientNetB0?"]),
    (["--optimizer", "AdamW"], ["--optimizer: 'AdamW'", "adamw, adam, sgd, rmsprop",
                                "did you mean adamw?"]),
    (["--resize", "zzz"], ["'zzz'", "one of letterbox, crop, stretch"]),
    (["--horizontal_flip", "maybe"], ["'maybe'", "yes or no"]),
    (["--fill_color", "1,2"], ["'1,2'", "red,green,blue"]),
    (["--fill_color", "1,2,256"], ["'1,2,256'", "0 to 255"]),
    (["--run", "a/b"], ["--run: 'a/b'"]),
    (["--run", "../b"], ["--run: '../b'"]),
    (["--run", ".."], ["--run: '..'"]),
    (["--run", ""], ["--run: ''"]),
    (["--train_data", " "], ["--train_data: ' '"]),
    (["photos"], ["'photos' has no option before it"]),
    (["--epochs"], ["--epochs"]),
])
def test_wrong_words(capsys, words, facts):
    line = refusal(capsys, "--mode", "train", *words)
    for fact in facts:
        assert fact in line


@pytest.mark.parametrize("text, facts", [
    ("epoch: 3\n", ["'epoch'", "--mode train", "did you mean epochs?"]),
    ("csv: x\n", ["'csv' is not an option of --mode train"]),
    ("config: x.yaml\n", ["'config'"]),
    ("mode: train\n", ["'mode'"]),
    ("3: 4\n", ["3"]),
    ("- epochs\n- 3\n", ["epochs: 30", "list"]),
    ("epochs\n", ["epochs: 30", "str"]),
    ("epochs: 3\nbatch_size: [1\n", ["mine.yaml:3"]),
    ("epochs: 3\n\tbatch_size: 3\n", ["mine.yaml:2"]),
    ("a: !!python/object/apply:os.system ['true']\n", ["mine.yaml:1", "python/object"]),
    ("epochs: {a: 1}\n", ["epochs", "a whole number from 1 to 100000", "mapping"]),
    ("backbone: EfficientNetB9\n", ["backbone: 'EfficientNetB9'", "did you mean EfficientNetB"]),
])
def test_wrong_files(capsys, tmp_path, text, facts):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    line = refusal(capsys, "--mode", "train", "--config", file)
    for fact in [str(file), *facts]:
        assert fact in line


def test_files_that_cannot_be_read(capsys, tmp_path):
    missing = tmp_path / "nowhere.yaml"
    line = refusal(capsys, "--mode", "train", "--config", missing)
    assert f"{missing}: cannot be read: No such file" in line
    assert str(tmp_path) in refusal(capsys, "--mode", "train", "--config", tmp_path)
    binary = tmp_path / "binary.yaml"
    for content in (b"\xff\xfe\x00epochs", b"epochs: \x00", b"\x89PNG\r\n\x1a\n"):
        binary.write_bytes(content)
        assert str(binary) in refusal(capsys, "--mode", "train", "--config", binary)


@pytest.mark.parametrize("words, facts", [
    (["--mode", "trian"], ["'trian' is not a mode", "train, eval, predict, save_pb, export",
                           "did you mean train?"]),
    (["--mode"], ["--mode '' is not a mode"]),
    (["--mode="], ["--mode '' is not a mode"]),
    (["--epochs", "3"], ["--mode is missing", "train, eval"]),
    (["trian"], ["'trian' is not a mode", "did you mean train?"]),
])
def test_wrong_modes(capsys, words, facts):
    line = refusal(capsys, *words)
    for fact in facts:
        assert fact in line


@pytest.mark.parametrize("mode, name", [
    ("eval", "data"), ("predict", "image"), ("relabel", "csv"), ("compare", "data"),
    ("dir2txt", "source"), ("dir2txt", "target"),
])
def test_required_options(capsys, mode, name):
    words = REQUIRED[mode].copy()
    position = words.index(f"--{name}")
    del words[position : position + 2]
    line = refusal(capsys, "--mode", mode, *words)
    assert f"--{name} is missing" in line and f"--mode {mode}" in line


@pytest.mark.parametrize("mode, word, name", [
    ("train", "--lr", "learning_rate"), ("eval", "--image", "data"),
    ("predict", "--input", "image"), ("train", "--num-workers", "workers"),
    ("train", "--model", "backbone"), ("mean_std", "--out", "target"),
    ("audit", "--dataset", "source"), ("train", "--imgsz=224", "input_size"),
    ("eval", "--bs", "batch_size"), ("train", "--arch", "backbone"), ("clean", "--images", "csv"),
])
def test_a_name_of_another_tool_suggests_the_mode_s_own(capsys, mode, word, name):
    words = {"predict": ["a.jpg"], "train": []}.get(mode, REQUIRED[mode])
    line = refusal(capsys, "--mode", mode, *words, word, *([] if "=" in word else ["3"]))
    assert f"{word} is not an option of --mode {mode}; did you mean --{name}?" in line


@pytest.mark.parametrize("mode, name, own", [
    ("audit", "data", "source"), ("mean_std", "data", "source"), ("statistics", "data", "source"),
    ("preview", "data", "train_data"), ("dir2txt", "data", "source"), ("serve", "run", "model"),
    ("benchmark", "run", "model"), ("eval", "model", "run"), ("predict", "model", "run"),
    ("report", "model", "run"),
])
def test_data_and_run_are_understood_by_every_mode_that_has_them(mode, name, own):
    words = REQUIRED[mode]
    if f"--{own}" in words:
        position = words.index(f"--{own}")
        words = [*words[:position], *words[position + 2 :]]
    options = parser.parse(mode, [*words, f"--{name}", "x"])
    assert getattr(options, own) == "x" and own in options.given


def test_the_mode_may_come_first_and_names_may_have_hyphens(capsys):
    long, short = (
        refusal(capsys, *words, "nowhere")
        for words in (["--mode", "train", "--train_data"], ["train", "--train-data"])
    )
    assert long == short == "run.py: nowhere: no such folder\n"
    assert parser.parse("train", ["--batch-size=4", "--drop-connect", "0.5"]).batch_size == 4
    # What is no option of the mode stays as it was typed
    assert "--no-such is not" in refusal(capsys, "train", "--no-such", "x")


def test_every_mode_is_listed_once():
    listed = [name for names in modes.MODES_BY_PURPOSE.values() for name in names]
    assert sorted(listed) == sorted(
        name for name, mode in modes.MODES.items() if not mode.hidden
    )
    _, _, text = probe()
    assert text.index("\n  all ") < text.index("\n  train ") < text.index("\n  audit ")
    assert max(map(len, text.splitlines())) <= 100


def test_version():
    status, _, text = probe("--version")
    assert status == 0 and re.fullmatch(r"\S+ \(\w+\), Python 3\.\d+\.\d+", text)


def test_a_package_that_is_missing_is_told_with_the_python_to_use(capsys, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(run, "_task_module", lambda mode, options: missing("cv2"))
    line = refusal_of_status_1(capsys, "audit", "--source", "x")
    assert line == (
        f"run.py: cv2 is not installed for {sys.executable}; bash sh/setup.sh installs everything\n"
    )
    monkeypatch.setattr(sys, "prefix", "/usr")
    line = refusal_of_status_1(capsys, "audit", "--source", "x")
    assert f"use {os.path.join(ROOT, '.venv', 'bin', 'python')} run.py" in line
    # A module of the project that is not there is a fault of ours.
    monkeypatch.setattr(run, "_task_module", lambda mode, options: missing("data.nothing"))
    assert "failed: ModuleNotFoundError" in refusal_of_status_1(capsys, "audit", "--source", "x")


def refusal_of_status_1(capsys, *words):
    assert run.main(list(words)) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("mode, words, expected", [
    ("split", ["--data", "my photos"], "train --data 'my photos'"),
    ("split", ["--data", "d", "--dry_run"], ""),
    ("train", ["--data", "d"], "eval --data d"),
    ("train", ["--val_data", "v", "--save_dir", "s"], "eval --data v --save_dir s"),
    ("train", [], "export"),
    ("eval", ["--data", "d"], "report --data d"),
    ("eval", ["--data", "d", "--part", "val", "--run", "r"], "report --run r --data d --part val"),
    ("export", ["--run", "r"], "serve --model r"),
    ("save_pb", [], "serve"),
    ("audit", ["--source", "s"], ""),
])
def test_the_next_command(capsys, monkeypatch, tmp_path, mode, words, expected):
    """As it has to be typed here; each one is parsed, so it can be run."""
    task = SimpleNamespace(main=lambda options: None)
    monkeypatch.setattr(run, "_task_module", lambda mode, options: task)
    monkeypatch.setattr(commands, "python_command", lambda: ".venv/bin/python")
    monkeypatch.chdir(tmp_path)
    assert run.main([mode, *words]) == 0
    said = capsys.readouterr().err
    assert said == (f"next: .venv/bin/python run.py {expected}\n" if expected else "")
    if expected:
        next_mode, *next_words = shlex.split(expected)
        parser.parse(next_mode, next_words)
    assert run.main([mode, *words, "--json"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words, run_path, is_exported, expected", [
    (["--run", "last"], "save_h5_model/mine", False, ["export", "--run", "mine"]),
    ([], "save_h5_model/mine", True, []),
    (["--run", "mi", "--save_dir", "s/"], "s/mine", False,
     ["export", "--run", "mine", "--save_dir", "s/"]),
    (["--run", "else/mine"], "else/mine", False, ["export", "--run", "else/mine"]),
    (["--run", "m/model"], None, True, []),
])
@pytest.mark.parametrize("mode", ["report", "calibrate"])
def test_the_run_to_export_is_named_and_none_twice(mode, words, run_path, is_exported, expected):
    default_folder = parser.parse(mode, ["--data", "d"]).save_dir
    run_path = run_path and run_path.replace("save_h5_model", default_folder)
    options = parser.parse(mode, ["--data", "d", *words])
    said = next_step(mode, options, {"run": run_path, "is_exported": is_exported})
    assert said == expected


@pytest.mark.parametrize("executable, folder, name, expected", [
    ("/home/a/b/.venv/bin/python", "/home/a/b", "posix", ".venv/bin/python"),
    ("/usr/bin/python3.12", "/home/a/b", "posix", "python3.12"),
    ("/home/a/bc/python", "/home/a/b", "posix", "python"),
])
def test_this_python_as_it_is_typed(monkeypatch, executable, folder, name, expected):
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(os, "getcwd", lambda: folder)
    assert commands.python_command() == expected


def test_a_refusal_in_a_process_of_its_own():
    process = subprocess.run(
        [sys.executable, "-c", PROBE, "--mode", "train", "--epochs", "nan"], cwd=ROOT,
        capture_output=True, text=True, timeout=60,
    )
    assert json.loads(process.stdout) == [2, []]
    assert process.stderr == (
        "run.py: --epochs: 'nan' is not allowed: it takes a whole number from 1 to 100000\n"
    )


# --- exit statuses --------------------------------------------------------------------


def raising(error):
    def main(options):
        raise error

    return main


@pytest.fixture
def quiet_signals():
    """Puts the handlers back that `run.main` replaces."""
    before = {number: signal.getsignal(number)
              for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("error, status, line", [
    (InputError("bad\ninput"), 2, "run.py: bad input\n"),
    (RunError("went wrong"), 1, "run.py: went wrong\n"),
    (ZeroDivisionError("by\nzero"), 1,
     "run.py: failed: ZeroDivisionError: by zero (--debug shows where)\n"),
    (MemoryError(), 1, "run.py: failed: MemoryError: (--debug shows where)\n"),
    (KeyboardInterrupt(), 130, "run.py: interrupted\n"),
])
def test_statuses(capsys, monkeypatch, quiet_signals, error, status, line):
    monkeypatch.setattr(demo_data, "main", raising(error))
    assert run.main(["--mode", "demo_data"]) == status
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", line)


@pytest.mark.parametrize("error", [InputError("bad"), RunError("wrong"), ZeroDivisionError("zero")])
def test_debug_shows_the_traceback(capsys, monkeypatch, quiet_signals, error):
    monkeypatch.setattr(demo_data, "main", raising(error))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    assert run.main(["--mode", "demo_data", "--debug"]) == getattr(error, "status", 1)
    shown = capsys.readouterr().err
    assert "Traceback" in shown and f"{type(error).__name__}: {error}" in shown


def test_success_is_status_0(monkeypatch, quiet_signals):
    monkeypatch.setattr(demo_data, "main", lambda options: None)
    assert run.main(["--mode=demo_data"]) == 0


WAITING = (  # a mode that says that it is ready, and at its end that it stopped, as a training does
    "import sys, time, run\nfrom other import demo_data\n"
    "def main(options):\n"
    "    try:\n        print('ready', flush=True)\n        time.sleep(60)\n"
    "    finally:\n        print('stopped', file=sys.stderr, flush=True)\n"
    "demo_data.main = main\nsys.exit(run.main(['--mode', 'demo_data']))\n"
)
STATUSES = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]


@contextlib.contextmanager
def waiting_process(**settings):
    """A context with a process of `run.main` that is in the middle of a mode."""
    process = subprocess.Popen([sys.executable, "-c", WAITING], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, **settings)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number, status", STATUSES)
def test_signals_end_a_process(number, status):
    with waiting_process() as process:
        process.send_signal(number)
        errors = process.communicate(timeout=30)[1]
    assert process.returncode == status
    assert "Traceback" not in errors and errors.splitlines()[0] == "stopped"
    assert errors.count("\n") <= 2


def test_only_exceptions_of_these_handlers_are_signals(monkeypatch):
    monkeypatch.setattr(ending_signals.signal, "getsignal", lambda number: ending_signals._end)
    errors = [KeyboardInterrupt(), SystemExit(143), SystemExit(129), SystemExit(137),
              SystemExit(255), SystemExit(1), ValueError()]
    found = [ending_signals._signal_of(error) for error in errors]
    assert found == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, None, None, None, None]
    monkeypatch.undo()  # another program's handlers
    assert not any(map(ending_signals._signal_of, errors))


IN_A_CALLBACK = (  # which cannot let an exception go up, as of JAX at garbage collection
    "import signal, time, weakref\n"
    "class Thing:\n    pass\n"
    "thing = Thing()\n"
    "reference = weakref.ref(thing, lambda gone: signal.raise_signal({}))\n"
    "del thing\n"
)


@pytest.mark.parametrize("number, status", STATUSES)
def test_a_signal_in_a_callback_is_not_lost(number, status):
    callback = IN_A_CALLBACK.format(int(number))
    program = WAITING.replace("print('ready', flush=True)", f"exec({callback!r}, {{}})")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True,
                          timeout=50)
    assert done.returncode == status and done.stderr.startswith("stopped\n"), done.stderr


@pytest.mark.parametrize("number, status", STATUSES)
def test_signals_end_a_process_whose_reader_has_gone(number, status):
    """Ctrl-C in a pipeline ends `tee`, too: a line that nobody reads changes no status."""
    with waiting_process() as process:
        process.stderr.close()
        process.stdout.close()
        process.send_signal(number)
        assert process.wait(30) == status
        process.stdout = process.stderr = None


def test_nohup_keeps_a_process_alive():
    ignore = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    with waiting_process(preexec_fn=ignore) as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143


def test_a_closed_terminal_ends_a_process():
    """What is said after the hangup fails at the terminal."""
    process_id, terminal = pty.fork()
    if not process_id:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", WAITING])
    assert os.read(terminal, 100).startswith(b"ready")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) == 129


def test_a_reader_that_leaves_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        process = subprocess.run(
            [sys.executable, os.path.join(ROOT, "run.py")], stdout=gone, stderr=subprocess.PIPE,
            text=True, timeout=60,
        )
    assert "Traceback" not in process.stderr and "Exception" not in process.stderr


def test_run_works_from_another_folder(tmp_path):
    process = command("--mode", "dir2txt", "--source", "nothing", "--target", "x", cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr == "run.py: --source: nothing: no such folder\n"
