"""Other systems: what Windows and macOS lack is taken away; paths and names as Windows has them."""

import csv
import json
import ntpath
import os
import re
import signal
import subprocess
import sys
from pathlib import PureWindowsPath

import other_system
import pytest
import wheel_table
from conftest import COLORS, ROOT, write_image

from common import file_names, files
from common.errors import InputError
from config import parser
from data import labelled_data
from data.samples import Samples
from deployment import server
from evaluation import label_errors
from other import data_reconstruction_txt2dir
from other.data_quality import manifest

CLASSES = dict(zip(("玻璃", "größe/rot", "blue"), COLORS.values()))
TRAIN = ("train", "--train_data", "photos", "--val_fraction", "0.3", "--max_bad", "0.1", "--epochs",
         "1", "--weights", "none", "--input_size", "32", "--batch_size", "8")
RUN, DATA = ("--run", "first"), ("--data", "new")
WATCHED = ("train", "--train_data", "new", "--val_data", "photos", "--max_bad", "0.1", "--weights",
           "none", "--input_size", "32")
# One after the other in one process; several leave what the next ones need.
COMMANDS = [
    (*TRAIN, "--run", "cached", "--cache_features", "--freeze_epochs", "1"),
    (*TRAIN, *RUN),
    (*TRAIN, *RUN, "--overwrite"),
    ("train", "--resume", "first", "--epochs", "2"),
    ("export", *RUN),
    ("export", *RUN, "--format", "onnx,litert"),  # takes the place of the one before
    ("predict", *RUN, "--image", "new", "--csv", "predicted.csv"),
    ("eval", *RUN, *DATA, "--record", "test"),
    ("report", *RUN, *DATA),
    ("confusion_matrix", *RUN),
    ("calibrate", *RUN, *DATA),
    ("compare", "first", "first", *DATA),
    ("embed", *RUN, "--data", "photos", "--target", "features.npz"),
    ("embed", *RUN, "--data", "photos", "--target", "features.npz"),  # up to date: takes its place
    ("similar", *RUN, "--data", "features.npz", "--image", "new"),
    ("add_class", *RUN, "--name", "größer", "--data", "new/blue"),
    (*WATCHED, "--head", "prototype", "--run", "watched"),
    ("drift", "--run", "watched", "--data", "photos"),
    ("crossval", "--data", "photos", "--folds", "2", "--head", "prototype", "--weights", "none",
     "--input_size", "32", "--max_bad", "0.2", "--export", "mean"),
    ("audit", "--source", "photos", "--val_data", "new"),
    ("clean", "--csv", "audit/findings.csv"),
    ("clean", "--undo", "quarantine/0001/manifest.csv"),
    ("statistics", "--source", "photos"),
    ("mean_std", "--source", "photos"),
    ("preview", "--train_data", "photos"),
    ("dir2txt", "--source", "photos", "--target", "samples", "--split", "0.5,0.25,0.25"),
    ("txt2dir", "--source", "samples/train_datasets", "--target", "folders", "--how", "move"),
    ("txt2dir", "--source", "samples/val_datasets", "--csv", "table.csv"),
    ("split", "--data", "photos"),
    ("tune", "--data", "photos", "--trials", "2", "--search", "pooling", "--head", "prototype",
     "--weights", "none", "--input_size", "32", "--max_bad", "0.2"),
    ("add", "--data", "folders", "--source", "new"),
    ("pack", "--data", "photos", "--target", "place"),
    ("statistics", "--source", "place"),
    ("unpack", "--data", "place", "--target", "unpacked"),
    ("demo_data", "--target", "digits"),
]


def start(folder, *words, **settings):
    """A process of Python on another system, in `folder`."""
    (folder / "start").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *map(str, words)], cwd=folder, text=True, encoding="cp1252",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=other_system.environment(str(folder / "start")), **settings,
    )


def finish(process):
    """(exit status, standard output, standard error)"""
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(working folder, exit status, output, standard error) of `COMMANDS`, on another system."""
    folder = tmp_path_factory.mktemp("other")
    for part, count in (("photos", 8), ("new", 3)):
        for number, (name, color) in enumerate(CLASSES.items()):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                path = folder / part / name / f"{index}.png"
                write_image(path.with_name("x.png"), color, seed=(count, number, index))
                path.with_name("x.png").rename(path)
    (folder / "photos" / "blue" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    commands = [["--mode", *words, "--debug"] for words in COMMANDS]
    script = os.path.join(ROOT, "tests", "few_blocks.py")
    return folder, *finish(start(folder, script, json.dumps(commands)))


@pytest.mark.training
def test_all_modes_run(done):
    folder, status, _, err = done
    assert status == 3 and "Traceback" not in err, err  # 3: the audit has found the broken file
    with open(folder / "predicted.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 and {row["label_1"] for row in rows} <= set(CLASSES)
    with open(folder / "save_h5_model/first/results.csv", encoding="utf-8") as file:
        assert len(file.readlines()) == 3  # two epochs: one was resumed
    for name in ("model/model.onnx", "report.html", "calibration.json", "eval.csv"):
        assert (folder / "save_h5_model" / "first" / name).exists(), name
    assert (folder / "photos" / "blue" / "broken.jpg").exists()  # clean took it, --undo brought it
    assert {path.name for path in (folder / "folders").iterdir()} == {"玻璃", "größe", "blue"}


@pytest.mark.training
def test_classes_that_the_terminal_cannot_show_are_escaped(done):
    assert r"\u73bb\u7483" in done[2] and "größe/rot" in done[2]


@pytest.mark.training
def test_the_server_answers_and_ends(done):
    folder = done[0]
    run = os.path.join(ROOT, "run.py")
    model = ("--model", "first", "--port", "0")
    status, _, err = finish(start(folder, run, "--mode", "serve", *model, "--workers", "2"))
    assert status == 2 and err.count("\n") == 1 and "--workers: 2 processes need Linux" in err
    process = start(folder, run, "--mode", "serve", *model, "--json")
    try:
        ready = json.loads(process.stdout.readline() or "{}")
        assert ready.get("ready"), process.stderr.read()
        client = os.path.join(ROOT, "deployment", "client.py")
        status, out, err = finish(start(folder, client, "new", "--url", ready["url"], "--json"))
        assert status == 0, err
        labels = {prediction["label"] for answer in json.loads(out)
                  for prediction in answer["predictions"]}
        assert labels == set(CLASSES)
        process.send_signal(signal.SIGINT)  # Ctrl-C
        status, _, err = finish(process)
        assert status == 0 and err.splitlines()[-1].endswith("ended"), err
    finally:
        process.kill()


def test_the_simulation_takes_away_what_it_says(tmp_path):
    """Were it not in force, the tests above would prove nothing."""
    probe = os.path.join(ROOT, "tests", "other_system_probe.py")
    status, out, err = finish(start(tmp_path, probe))
    assert status == 0, err
    assert json.loads(out) == ["ModuleNotFoundError"] * 2 + [False] * 6 + [
        "ValueError", "PermissionError", "PermissionError", "FileExistsError", "PermissionError",
        "PermissionError", "FileNotFoundError", "OSError", "AssertionError"]


# --- paths and names ------------------------------------------------------------------

NAMES = ["glass", "glass.jpg", "größe", "玻璃", ".hidden", "a b", "con", "CON", "con.jpg",
         "con .txt", "nul", "aux.tar.gz", "prn", "com1", "LPT9.csv", "com10", "com", "console",
         "conin$", "com¹", "a.", "a ", "a\\b", "a/b", "c:", "a:b", "a*", "a?", 'a"', "a<b>",
         "a|b", "a\tb", "a\x1f"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_windows_reserves(name):
    """As Python's own module for Windows has it, from 3.13 on; before, what it knows of devices."""
    if hasattr(ntpath, "isreserved"):
        assert file_names.is_portable(name) != ntpath.isreserved(name), name
        return
    assert not (PureWindowsPath(name).is_reserved() and file_names.is_portable(name))
    forbidden = re.search(r'[\\/:*?"<>|\x00-\x1f]|[. ]$', name)
    assert file_names.is_portable(name) == (
        not forbidden and not PureWindowsPath(name.replace("¹", "1")).is_reserved())


@pytest.mark.parametrize("name", ["con", "nul.1", "COM1", "a.", r"C:\runs\a", "a:b", r"..\a"])
def test_runs_do_not_get_such_names(name):
    with pytest.raises(InputError, match="--run.*folder name without"):
        parser.parse("train", ["--run", name])


@pytest.mark.parametrize("mode, option, path", [
    ("train", "train_data", r"C:\photos"), ("train", "train_data", r"\\nas\photos\2026"),
    ("train", "weights", r"D:\runs\best.weights.h5"), ("train", "save_dir", "E:"),
    ("predict", "run", r"C:\runs\first"), ("serve", "model", r"C:\runs\first\model"),
    ("predict", "image", r"C:\photos\*.jpg"), ("train", "normalize", r"C:\mean_std.json"),
    ("eval", "csv", r"C:\eval.csv"), ("audit", "source", r"C:\labels.csv"),
])
def test_paths_with_drives_are_paths(mode, option, path):
    """Not taken for an address, a preset or numbers, and left as they are."""
    needed = {"predict": ["--run", "r", "--image", "i"], "serve": ["--model", "m"],
              "eval": ["--run", "r", "--data", "d"], "audit": ["--source", "s"]}.get(mode, [])
    value = getattr(parser.parse(mode, [*needed, f"--{option}", path]), option)
    assert value in (path, (path,))


@pytest.mark.parametrize("backbone", [r"C:\models\b0", "hub:"])
def test_a_backbone_is_no_path(backbone):
    with pytest.raises(InputError, match="--backbone"):
        parser.parse("train", ["--backbone", backbone])


def on_windows(monkeypatch, *modules):
    """Gives modules the paths of Windows."""
    windows = other_system.Without(os, set(), path=ntpath, sep="\\", name="nt")
    for module in modules:
        monkeypatch.setattr(module, "os", windows)


def test_classes_are_folders_below_folders(monkeypatch):
    on_windows(monkeypatch, labelled_data)
    names = [r"waste\glass\1.jpg", r"waste\metal\2.jpg", r"food\3.jpg"]
    images = labelled_data.name_by_folders(r"D:\photos", names)
    assert images.image_classes == ["waste/glass", "waste/metal", "food"]


def test_a_csv_written_on_windows_has_paths_for_all(monkeypatch):
    on_windows(monkeypatch, data_reconstruction_txt2dir)
    relative = data_reconstruction_txt2dir._relative_path
    assert relative(r"D:\photos\glass\1.jpg", r"D:\tables") == "../photos/glass/1.jpg"
    assert relative(r"C:\photos\1.jpg", r"D:\tables") == r"C:\photos\1.jpg"


def test_a_quarantine_is_of_one_drive(monkeypatch, tmp_path):
    on_windows(monkeypatch, manifest)
    with pytest.raises(InputError, match="on the drives C:, D:; clean one drive at a time"):
        manifest.write_manifest(str(tmp_path), [r"C:\photos\1.jpg", r"D:\photos\2.jpg"])


def test_margins_of_photos_on_several_drives_match_nothing(monkeypatch):
    on_windows(monkeypatch, label_errors)
    samples = Samples(r"E:\photos", ["1.jpg", "2.jpg"], None)
    images = {r"C:\photos\1.jpg": (0, 0), r"D:\photos\2.jpg": (1, 0)}
    monkeypatch.setattr(ntpath, "realpath", ntpath.abspath)
    assert label_errors._recorded_by_path(images, samples) == [None, None]


# --- what runs elsewhere only ---------------------------------------------------------


def test_a_file_that_is_briefly_in_use_is_replaced(tmp_path, monkeypatch):
    path = str(tmp_path / "results.csv")
    refusals, replace = [1, 2, 3], os.replace

    def busy(source, target):
        if refusals:
            refusals.pop()
            raise PermissionError(13, "Access is denied", target)
        replace(source, target)

    monkeypatch.setattr(files, "os", other_system.Without(
        os, set(), name="nt", O_BINARY=0, open=other_system.os_open, replace=busy))
    files.write_text(path, "new")
    assert open(path, encoding="utf-8").read() == "new"
    refusals[:] = range(1000)
    monkeypatch.setattr(files, "SCANNING", 0.05)
    with pytest.raises(PermissionError):
        files.write_text(path, "newer")
    assert open(path, encoding="utf-8").read() == "new" and os.listdir(tmp_path) == ["results.csv"]


def test_json_is_readable_whatever_the_terminal_shows(tmp_path):
    for name in ("玻璃", "größe", "😀"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        write_image(tmp_path / "photos" / name / "x.png")
    words = ("--source", "photos", "--target", "out", "--json")
    for encoding in ("cp1252", "cp936", "utf-8"):
        process = subprocess.run(
            [sys.executable, os.path.join(ROOT, "run.py"), "--mode", "dir2txt", *words,
             "--dry_run"], cwd=tmp_path, capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert process.returncode == 0, process.stderr
        classes = json.loads(process.stdout.decode(encoding))["classes"]
        assert set(classes) == {"玻璃", "größe", "😀"}, encoding


LOOP = """
import socket, threading, types, urllib.request
from deployment import http_server
from deployment.prediction_service import Settings

def application(environment, start_response):
    body = environment["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

settings = Settings(None, 4, 10**6, 10, body_bytes=10**7)
listener = socket.create_server(("127.0.0.1", 0))
server = http_server.create(application, listener, settings, 2, lambda *refusal: None)
state = types.SimpleNamespace(closing=False)
loop = threading.Thread(target=http_server.run, args=(server, state))
loop.start()
url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
answers = [urllib.request.urlopen(url, bytes(200_000), timeout=60).read() for _ in range(2)]
state.closing = True
loop.join()
print(hasattr(http_server.select, "poll"), *map(len, answers), http_server.drain(server, 1))
server.task_dispatcher.shutdown()
"""


def test_the_server_waits_with_what_windows_has(tmp_path):
    status, out, err = finish(start(tmp_path, "-c", LOOP))
    assert (status, out) == (0, "False 200000 200000 0\n"), err


def test_several_server_processes_need_linux(monkeypatch):
    monkeypatch.setattr(server, "HAS_PROCESSES", False)
    with pytest.raises(InputError, match="--workers: 4 processes need Linux; this system allows 1"):
        server.main(parser.parse("serve", ["--model", "none", "--workers", "4"]))


def test_the_table_of_wheels_has_every_pin():
    """`python -m tests.wheel_table` writes it anew."""
    with open(wheel_table.DOCUMENT, encoding="utf-8") as file:
        text = file.read()
    listed = {entry.strip() for entry in re.split(r"[|,\n]|\.\n", text)}
    wanted = {f"{name} {version}" for name, (version, _) in wheel_table.pins().items()
              if name != "tensorflow-cpu"}  # of Linux on x86-64 alone
    assert wanted <= listed and "**no**" not in text, wanted - listed
