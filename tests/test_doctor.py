"""other/doctor.py: the facts against other sources, what is not ok, and what is kept private."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from types import SimpleNamespace

import filelock
import numpy as np
import psutil
import pytest
from conftest import ROOT, command

import run
from config import parser
from data import decoding
from export import formats
from other import doctor
from prediction import runtimes

OPTIONS = parser.parse("doctor", [])
TOKEN = "q7Zk2mX9vB4nR8tY1wLp"
HIDDEN = "set, not shown: it may be a secret"
SECRETS = {"TF_VAR_database": "swordfish", "TF_LOGIN_TOKEN": "tulip", "TF_THING": TOKEN,
           "XLA_FLAGS": f"--xla_gpu_cuda_data_dir=/{TOKEN}", "MY_SETTING": "marzipan"}


def go(monkeypatch, capsys, names, *words):
    """(status, standard output, standard error) of the mode with these parts of the page alone."""
    monkeypatch.setattr(doctor, "PARTS", {name: doctor.PARTS[name] for name in names})
    status = run.main(["--mode", "doctor", "--full", *map(str, words)])
    return status, *capsys.readouterr()


def seconds_off(rows):
    assert all(re.search(r" \(\d+\.\d s\)$", text) for text in rows.values())
    return {name: text.rsplit(" (", 1)[0] for name, text in rows.items()}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The mode as a user called zaphod has it: (process, home folder, temporary folder)."""
    top = tmp_path_factory.mktemp("doctor")
    home, temporary = top / "zaphod", top / "of-zaphod"
    home.mkdir()
    temporary.mkdir()
    process = command(
        "--mode", "doctor", "--full", "--json", "--save_dir", home / "runs", "--log_dir",
        "log_file",
        HOME=str(home), USER="zaphod", LOGNAME="zaphod", TMPDIR=str(temporary),
        OMP_NUM_THREADS="2", TF_ENABLE_ONEDNN_OPTS="1", **SECRETS)
    return process, home, temporary


def test_the_proofs_hold_here(real):
    process, _, _ = real
    page = json.loads(process.stdout)
    assert process.stdout.count("\n") == 1
    assert process.returncode == (0 if page["ok"] else 1) and page["ok"] == (not page["problems"])
    assert seconds_off(page["decoding"]) == dict.fromkeys(
        ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF"), "ok")
    losses = re.match(r"ok: the loss falls from (\S+) to (\S+) in", page["training"]["training"])
    assert 0 <= float(losses[2]) < float(losses[1])
    for module, name in (("tensorflow", "savedmodel"), ("onnxruntime", "onnx"),
                         ("openvino", "openvino"), ("ai_edge_litert", "litert")):
        there = find_spec(module) is not None
        assert there == page["export"].get(name, "").startswith("ok: "), page["export"]
    assert page["devices"]["keras"].startswith("tensorflow ")
    assert "training ..." in process.stderr and "Traceback" not in process.stderr
    assert "--full" not in process.stderr


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_without_full_tensorflow_is_not_imported(words):
    program = ("import json, run, sys\n"
               "status = run.main(['--mode', 'doctor', *json.loads(sys.argv[1])])\n"
               "print(status, 'tensorflow' in sys.modules, 'jax' in sys.modules, file=sys.stderr)")
    process = subprocess.run([sys.executable, "-c", program, json.dumps(words)], cwd=ROOT,
                             capture_output=True, text=True, timeout=120)
    *_, added, last = process.stderr.splitlines()
    assert last in ("0 False False", "1 False False"), process.stderr
    assert added == "--full also checks devices, training, export, which takes up to a minute"
    if words:
        assert list(json.loads(process.stdout)) == [
            "ok", "problems", "toolkit", "machine", "packages", "environment", "folders",
            "decoding"]


def test_facts_agree_with_other_sources(real):
    process, home, _ = real
    page = json.loads(process.stdout)
    assert page["toolkit"]["Python"] == platform.python_version()
    assert page["toolkit"]["platform"] == platform.platform()
    for name in ("numpy", "keras", "ai-edge-litert", "opencv-python-headless"):
        assert metadata.version(name) in page["packages"][name]
    cores = len(psutil.Process().cpu_affinity())
    assert page["machine"]["cores"] == f"{cores} usable of {psutil.cpu_count()}"
    size = float(page["machine"]["memory"].split(" GB")[0])
    assert 0.1 < size <= psutil.virtual_memory().total / 1e9 + 0.06
    for name, folder in (("save_dir", home), ("log_dir", ROOT)):
        free = float(re.search(r"([\d.]+) GB free", page["folders"][name])[1])
        # How much is free may change meanwhile; `test_the_free_space_is_that_of_the_disk` is exact.
        assert 0 <= free <= shutil.disk_usage(folder).total / 1e9 + 0.05


def test_neither_secrets_nor_the_user_appear_and_nothing_is_left(real):
    process, home, temporary = real
    page = json.loads(process.stdout)
    said = process.stdout + process.stderr
    for word in (*SECRETS.values(), TOKEN, "MY_SETTING", "zaphod", str(home)):
        assert word not in said
    shown = page["environment"]
    assert (shown["OMP_NUM_THREADS"], shown["TF_ENABLE_ONEDNN_OPTS"]) == ("2", "1")
    assert {shown.get(name) for name in SECRETS} == {None, HIDDEN}
    assert page["folders"]["save_dir"].startswith("~/runs: not there yet, can be made, ")
    assert page["folders"]["log_dir"].startswith("log_file: writable, ")
    assert os.listdir(temporary) == [] and not (home / "runs").exists()
    assert not list(home.rglob("*Microsoft*"))  # where ONNX Runtime keeps what it reports


@pytest.mark.parametrize("name, value, expected", [
    ("KERAS_BACKEND", "jax", "jax"), ("CUDA_VISIBLE_DEVICES", "", "set, empty"),
    ("XLA_FLAGS", "--xla_cpu_level_v2=8 --b=/usr/lib/cuda-12.4",
     "--xla_cpu_level_v2=8 --b=/usr/lib/cuda-12.4"),
    ("TF_GPU_ALLOCATOR", "cuda_malloc_async", "cuda_malloc_async"),
    ("TF_HOSTS", "https://joe:rose@host", HIDDEN), ("TF_API_KEY", "rose", HIDDEN),
    ("TF_x_password", "rose", HIDDEN), ("TF_VAR_x", "rose", HIDDEN),
    ("TF_A", "eyJhbGciOiJIUzI1NiJ9.e30", HIDDEN), ("TF_B", "a ghp_16C7e42F292c6912E7", HIDDEN),
    ("TF_C", "0123456789abcdef", HIDDEN), ("TF_D", "-ABCDEFGHIJKLMNOP", HIDDEN),
    ("PATH", "/bin", None), ("OMP_STACKSIZE", "16", None),
])
def test_environment(monkeypatch, name, value, expected):
    monkeypatch.setattr(os, "environ", {name: value})
    assert doctor.environment(None) == ({name: expected} if expected else {"none": "is set"})


def test_pins_that_are_not_met_are_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "a.txt").write_text(
        "# what for\n-c constraints.txt\n-r ../requirements.txt\nnumpy==0.0.1  # old\npyyaml\n"
        'no-such-package==1.0\nother-package==1; python_version < "3"\n')
    (tmp_path / "requirements.txt").write_text(f"Pillow=={metadata.version('pillow')}\n")
    (tmp_path / "requirements" / "constraints.txt").write_text(
        f"packaging==0.1\nkeras=={metadata.version('keras')}\nno-more==2\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    status, out, err = go(monkeypatch, capsys, ["packages", "toolkit"], "--json")
    page = json.loads(out)
    numpy, packaging = (metadata.version(name) for name in ("numpy", "packaging"))
    assert page["packages"] == {
        "numpy": f"NOT OK: is {numpy}, requirements/a.txt has ==0.0.1",
        "pyyaml": metadata.version("pyyaml"),
        "no-such-package": "not installed, requirements/a.txt brings it",
        "Pillow": metadata.version("pillow"),
        "packaging": f"NOT OK: is {packaging}, requirements/constraints.txt has ==0.1",
    }
    assert status == 1 and err == "" and not page["ok"]
    assert page["problems"] == [
        f"packages: numpy: is {numpy}, requirements/a.txt has ==0.0.1",
        f"packages: packaging: is {packaging}, requirements/constraints.txt has ==0.1"]
    assert page["toolkit"]["version"] == page["toolkit"]["commit"] == "unknown"


def test_version_and_commit(tmp_path, monkeypatch):
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\nwords\n\n## 1.2.0\n\n## 1.1.0\n")
    (tmp_path / ".git/logs").mkdir(parents=True)
    (tmp_path / ".git/logs/HEAD").write_text(
        f"{'0' * 40} {'a' * 40} A B <a@b> 1790000000 +0000\tcommit (initial): one\n"
        f"{'a' * 40} {'b' * 40} A B <a@b> 1790000001 +0000\tcommit: two\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    rows = doctor.toolkit(None)
    assert (rows["version"], rows["commit"]) == ("1.2.0", "b" * 40)


@pytest.mark.parametrize("files, total, free", [
    ({}, None, 2.0),
    ({"self/cgroup": "0::/a/b\n", "a/b/memory.max": "max", "a/memory.max": "1000000000",
      "a/memory.current": "900000000", "a/memory.stat": "anon 1\ninactive_file 400000000\n"},
     1.0, 0.5),
    ({"self/cgroup": "3:cpu:/x\n4:memory:/y\n0::/z\n", "memory/memory.limit_in_bytes": "3000000\n",
      "memory/memory.usage_in_bytes": "1000000\n"}, 0.003, 0.002),
    ({"self/cgroup": "0::/\n", "memory.max": "9000000000000000"}, None, 2.0),
])
def test_memory(tmp_path, monkeypatch, files, total, free):  # in 10^9 bytes
    system = SimpleNamespace(total=psutil.virtual_memory().total, available=2e9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: system)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(doctor, "PROC", tmp_path)
    monkeypatch.setattr(doctor, "CGROUPS", tmp_path)
    expected = system.total if total is None else total * 1e9
    assert doctor.memory() == (pytest.approx(expected, rel=1e-6), pytest.approx(free * 1e9))


@pytest.mark.parametrize("text, name, features", [
    ("model name\t: A CPU\nflags\t\t: sse avx2 avx512f avx512_vnni avx512_bf16 amx_tile avx\n",
     "A CPU", "avx2, avx512f, avx512_vnni, avx512_bf16, amx_tile"),
    ("Features\t: fp asimd bf16 i8mm\n", platform.machine(), "bf16"),
    ("", platform.machine(), "none known"),
])
def test_processor(tmp_path, monkeypatch, text, name, features):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(doctor, "PROC", tmp_path)
    rows = doctor.machine(None)
    assert (rows["processor"], rows["features"]) == (name, features)
    assert re.fullmatch(r"[\d.]+ GB, [\d.]+ GB free", rows["memory"])


def test_the_free_space_is_that_of_the_disk(tmp_path, monkeypatch, capsys):
    """Of the folder, or of the one in which it would be made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    disks = {str(tmp_path): 12.34e9, str(tmp_path / "there"): 5.67e9}

    def disk_usage(path):
        return SimpleNamespace(free=disks.get(os.path.abspath(path), 0), total=1e12)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    words = ["--save_dir", "new/runs", "--log_dir", "there"]
    _, out, _ = go(monkeypatch, capsys, ["folders"], "--json", *words)
    rows = json.loads(out)["folders"]
    assert ", 12.3 GB free, " in rows["save_dir"] and ", 5.7 GB free, " in rows["log_dir"]


def test_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "there").mkdir()
    status, out, err = go(monkeypatch, capsys, ["folders"], "--json", "--save_dir", "file/below",
                          "--log_dir", "/proc/none")
    page = json.loads(out)
    rows = seconds_off(page["folders"])
    assert status == 1 and len(page["problems"]) == 2
    assert rows["save_dir"] == "NOT OK: file/below: cannot be written to: Not a directory"
    assert rows["log_dir"].startswith("NOT OK: /proc/none: cannot be written to: ")
    assert ": writable, " in rows["temporary"] and rows["temporary"].endswith(", takes locks")
    rows = doctor.folders(OPTIONS._replace(save_dir="there", log_dir="there/a/b"))
    assert rows["save_dir"].startswith("there: writable, ")
    assert rows["log_dir"].startswith("there/a/b: not there yet, can be made, ")
    assert sorted(os.listdir(tmp_path)) == ["file", "there"] and os.listdir("there") == []
    monkeypatch.setattr(filelock, "lock_descriptor", lambda *_, **__: os.stat("none"))  # OSError
    rows = seconds_off(doctor.folders(OPTIONS._replace(save_dir="there")))
    assert ": writable, " in rows["save_dir"] and rows["save_dir"].endswith(", takes no locks")


@pytest.mark.parametrize("text, expected", [
    ("/data/home/joe/runs: no", "~/runs: no"), ("'/data/home/joe'", "'~'"),
    ("/data/home/joey/runs", "/data/home/joey/runs"), ("/disk/joe/x", "/disk/USER/x"),
    ("/tmp/of-joe/x and joe", "/tmp/of-USER/x and joe"), ("/data/project/a.py, b", "./a.py, b"),
    ("joe 1.0", "joe 1.0"), (r"D:\photos\joe\x", r"D:\photos\USER\x"),
    ("/backup/data/home/joe", "/backup/data/home/USER"),
])
def test_private(monkeypatch, text, expected):
    monkeypatch.setenv("HOME", "/data/home/joe")
    monkeypatch.setenv("LOGNAME", "joe")
    monkeypatch.setattr(os, "getcwd", lambda: "/data/project")
    assert doctor.private(text) == expected


def test_a_broken_decoder_leaves_the_others(monkeypatch, capsys):
    monkeypatch.setattr(decoding, "decode_jpeg", None)
    status, out, err = go(monkeypatch, capsys, ["decoding", "toolkit"])
    lines = out.splitlines()
    reason = "a picture made here: cannot be decoded: 'NoneType' object is not callable ("
    assert status == 1 and lines[0] == "decoding" and "Traceback" not in err
    assert lines[1].startswith(f"  JPEG  NOT OK: {reason}")
    assert all(re.match("  (PNG|BMP|WEBP|GIF|TIFF) +ok ", each) for each in lines[2:7])
    assert lines[7:9] == ["", "toolkit"] and f"  platform  {platform.platform()}" in lines
    assert lines[-2] == "problems" and lines[-1].startswith(f"  decoding: JPEG: {reason}")


def test_a_decoder_that_turns_colours_round(monkeypatch):
    true = decoding.load
    monkeypatch.setattr(decoding, "load", lambda *words: true(*words)[..., ::-1])
    rows = seconds_off(doctor.decoding(OPTIONS))
    # Two channels of three are off by 180 and by 200, on average by 127, but for losses.
    assert len(rows) == 6 and set(rows.values()) <= {
        f"NOT OK: comes back changed by {n} of 255" for n in range(123, 131)}


def test_a_part_that_fails_leaves_the_others(monkeypatch, capsys):
    def broken(options):
        print("words of a library")
        raise ImportError("libGL.so.1: no such file")

    monkeypatch.setitem(doctor.PARTS, "training", broken)
    status, out, err = go(monkeypatch, capsys, ["training", "decoding"], "--json")
    page = json.loads(out)
    assert status == 1 and page["problems"] == [
        "training: training: ImportError: libGL.so.1: no such file"]
    assert set(seconds_off(page["decoding"]).values()) == {"ok"}
    assert "words of a library" in err and "Traceback" not in err
    status, out, err = go(monkeypatch, capsys, ["training"], "--debug")
    assert 'raise ImportError("libGL.so.1: no such file")' in err


@pytest.mark.parametrize("losses, expected", [
    ([3.0, 2, 2, 2, 2, 2, 2, 1], "ok: the loss falls from 3.000 to 1.000 in 8 steps"),
    ([1.0, 2, 2, 2, 2, 2, 2, 1], "NOT OK: the loss does not fall: 1, 2, 2, 2, 2, 2, 2, 1"),
    ([3.0, np.nan, 2, 2, 2, 2, 2, 1], "NOT OK: the loss does not fall: 3, nan, 2, 2, 2, 2, 2, 1"),
])
def test_training(monkeypatch, losses, expected):
    left = iter(losses)
    model = SimpleNamespace(train_on_batch=lambda images, labels: np.float32(next(left)))
    monkeypatch.setattr(doctor, "tiny_model", lambda: (model, None, None))
    assert seconds_off(doctor.training(OPTIONS)) == {"training": expected}


def test_export(monkeypatch):
    answers = {"openvino": [0.5, 0.5002], "onnx": [0.5, 0.50009], "litert": [0.5, float("nan")]}
    model = SimpleNamespace(predict_on_batch=lambda images: np.float32([[0.5, 0.5]]))

    def write(model, variants, folder, preprocessing, images):
        assert set(variants) == {(name, "float32", True) for name in answers}
        assert preprocessing.size == 32
        shutil.copy(__file__, os.path.join(folder, "model"))
        raise ValueError("no such\noperation")

    def open_model(folder, name):
        assert os.listdir(folder) == ["model"]
        return lambda images: runtimes.Answers(np.float32([answers[name]]))

    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)  # afterwards as it was
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(doctor, "tiny_model", lambda: (model, None, None))
    monkeypatch.setattr(formats, "write", write)
    monkeypatch.setattr(runtimes, "open_model", open_model)
    monkeypatch.setattr(runtimes, "is_installed", lambda name: name in answers)
    assert seconds_off(doctor.export(OPTIONS)) == {
        "files": "NOT OK: ValueError: no such operation",
        "openvino": "NOT OK: answers differ by 2.0e-04, allowed is 0.0001",
        "onnx": "ok: answers are the same to 9.0e-05",
        "litert": "NOT OK: answers differ by nan, allowed is 0.0001",
    }
