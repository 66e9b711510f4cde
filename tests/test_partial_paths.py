"""What is being written: who writes it, who may remove it, and a disk that is full."""

import errno
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import ROOT

from common import partial_paths
from common.errors import InputError, RunError
from common.files import building, replace_folder, replacing, replacing_folder, reserve, write_text
from common.partial_paths import FOREIGN_SECONDS, clear, partial_path
from common.tables import read_table, write_table
from common.write_errors import is_disk_full, write_error

BEGUN = """
import os, sys, time
sys.path.insert(0, {root!r})
from common.files import building, replacing
with replacing("best.weights.h5") as file, building("folder") as folder:
    open(file, "w").write("half")
    open(os.path.join(folder, "1.jpg"), "w").write("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def partials(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith(".partial-"))


@pytest.fixture
def begun(tmp_path):
    """A process that is writing a file and a folder."""
    process = subprocess.Popen([sys.executable, "-c", BEGUN.format(root=ROOT)], cwd=tmp_path,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n" and len(partials(tmp_path)) == 2
    yield process
    process.kill()
    process.communicate()


def age(path, seconds):
    """Makes a file or folder, and all in it, older."""
    then = time.time() - seconds
    for folder, _, names in os.walk(path):
        for name in names:
            os.utime(os.path.join(folder, name), (then, then))
    os.utime(path, (then, then))


def test_what_a_living_process_writes_stays(tmp_path, begun):
    before = partials(tmp_path)
    for name in before:
        age(tmp_path / name, 10 * FOREIGN_SECONDS)
    clear(str(tmp_path))
    assert partials(tmp_path) == before


def test_what_a_dead_process_left_goes_with_the_next_write(tmp_path, begun):
    begun.kill()
    begun.wait()
    (tmp_path / ".partial-mine").write_text("not of this kind")
    write_text(str(tmp_path / "metrics.json"), "{}")
    assert sorted(os.listdir(tmp_path)) == [".partial-mine", "metrics.json"]


def test_what_another_machine_began_stays_for_a_day(tmp_path):
    """Its processes can't be seen: on shared storage one of the same number may live there."""
    def begin(name, hours):
        place = tmp_path / f".partial-0123abcd-{os.getpid()}-01234567-{name}"
        (place / "train" / "a").mkdir(parents=True)
        (place / "train" / "a" / "1.jpg").write_text("half")
        age(place, hours * 3600)
        for folder in (place / "train" / "a", place / "train"):
            os.utime(folder, (0, 0))
        return place

    begin("old", 25)
    begin("new", 23)
    (begin("busy", 25) / "train" / "a" / "2.jpg").write_text("half")
    assert FOREIGN_SECONDS == 24 * 3600
    clear(str(tmp_path))
    assert [name.rpartition("-")[2] for name in partials(tmp_path)] == ["busy", "new"]


def test_a_process_that_had_the_same_number_is_dead(tmp_path):
    """In a container the first process is always number 1."""
    with partial_path(str(tmp_path / "eval.csv")) as own:
        with open(own, "w") as file:
            file.write("half")
        earlier = re.sub(r"-[0-9a-f]{8}-eval", "-00000000-eval", own)
        with open(earlier, "w") as file:
            file.write("half")
        clear(str(tmp_path))
        assert partials(tmp_path) == [os.path.basename(own)]


def test_a_name_of_any_length_keeps_its_extension(tmp_path):
    for name in ("n" * 244 + ".weights.h5", "纸" * 80 + ".csv", "🗑" * 62 + ".csv"):
        with replacing(str(tmp_path / name)) as partial:
            assert os.path.splitext(partial)[1] == os.path.splitext(name)[1]
            with open(partial, "w") as file:
                file.write(name)
        assert (tmp_path / name).read_text() == name


def write_words(path, word, barrier):
    for _round in range(20):
        barrier.wait()
        with replacing(path) as partial, open(partial, "w") as file:
            for _ in range(30):
                file.write(f"{word}\n" * 100)


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_two_that_write_one_file_do_not_mix(tmp_path, kind):
    path = str(tmp_path / "eval.csv")
    context = threading if kind == "threads" else multiprocessing.get_context("fork")
    make = threading.Thread if kind == "threads" else context.Process
    barrier = context.Barrier(2)
    writers = [make(target=write_words, args=(path, word, barrier)) for word in ("aaaa", "bb")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    with open(path) as file:
        lines = file.read().splitlines()
    assert len(lines) == 3000 and len(set(lines)) == 1
    assert os.listdir(tmp_path) == ["eval.csv"]


def test_another_process_that_replaces_the_same_folder(tmp_path, monkeypatch):
    """It comes between the two renames, and puts the old folder back."""
    for name in ("new", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    rename, calls = os.rename, []

    def renames(one, two):
        rename(one, two)
        calls.append(one)
        if len(calls) == 1:
            rename(two, one)

    monkeypatch.setattr(os, "rename", renames)
    replace_folder(str(tmp_path / "new"), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out" / "file").read_text() == "new"


# --- a full disk ----------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place],
                             capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_names_the_file(disk):
    target = disk / "findings.csv"
    with pytest.raises(OSError, match=f"No space left on device: '{target}'") as raised:
        write_table(str(target), ("path",), (["x" * 99] for _ in range(20_000)))
    error = write_error(raised.value, "elsewhere", "--csv")
    assert isinstance(error, RunError)
    assert re.fullmatch(rf"--csv: {target} cannot be written: No space left on device; the disk of "
                        rf"{disk} has [01].\d MB free", str(error))
    assert os.listdir(disk) == []


def test_a_full_disk_under_an_array(disk):
    """NumPy's error has no number, only words."""
    target = disk / "00001.npy"
    with pytest.raises(OSError) as raised, replacing(str(target)) as partial:
        np.save(partial, np.zeros(3_000_000, np.uint8))
    assert str(write_error(raised.value, "elsewhere")).startswith(
        f"{target} cannot be written: No space left on device; ")


@pytest.mark.parametrize("context", [building, replacing_folder])
def test_a_full_disk_names_the_file_in_a_folder(disk, context):
    photo = disk / "photo.jpg"
    photo.write_bytes(bytes(400_000))
    with pytest.raises(OSError) as raised, context(str(disk / "out")) as partial:
        for number in range(9):
            shutil.copyfile(photo, os.path.join(partial, f"{number}.jpg"))
    assert f"{disk}/out/1.jpg cannot be written" in str(write_error(raised.value, "elsewhere"))
    assert os.listdir(disk) == ["photo.jpg"]


@pytest.mark.parametrize("has_fallocate", [True, False])  # macOS and Windows have none
def test_room_is_reserved(disk, monkeypatch, has_fallocate):
    if not has_fallocate:
        monkeypatch.delattr(os, "posix_fallocate")
    path = disk / "best.weights.h5"
    reserve(str(path), 500_000)
    assert path.stat().st_size == 0 and shutil.disk_usage(disk).free > 900_000
    with pytest.raises(OSError) as raised:
        reserve(str(path), 2_000_000)
    assert raised.value.errno == errno.ENOSPC


def test_a_library_with_an_error_of_its_own(tmp_path):
    with pytest.raises(OSError, match="model.onnx") as raised:
        with replacing(str(tmp_path / "model.onnx")):
            raise RuntimeError("write failed: No space left on device")
    assert is_disk_full(raised.value)
    with pytest.raises(RuntimeError, match="another reason"), replacing(str(tmp_path / "file")):
        raise RuntimeError("another reason")


def test_other_reasons_are_wrong_usage():
    for number in (errno.EACCES, errno.EROFS, errno.ENOENT):
        error = write_error(OSError(number, os.strerror(number)), "eval.csv", "--csv")
        assert isinstance(error, InputError)
        assert str(error) == f"--csv: eval.csv cannot be written: {os.strerror(number)}"
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        assert isinstance(write_error(OSError(number, "full"), "eval.csv"), RunError)
    assert not is_disk_full(RunError("x cannot be written: No space left on device"))


# --- tables ---------------------------------------------------------------------------


def test_a_table_is_what_excel_takes_for_unicode(tmp_path):
    """The byte order mark, then CSV as RFC 4180 has it."""
    path = str(tmp_path / "table.csv")
    write_table(path, ("path", "label"), [("a,b.jpg", "纸板"), ('"c".jpg', "=1+1")])
    with open(path, "rb") as file:
        assert file.read() == (b"\xef\xbb\xbfpath,label\r\n" + '"a,b.jpg",纸板\r\n'.encode()
                               + b'"""c"".jpg",=1+1\r\n')
    rows = list(read_table(path, ("path", "label"), "audit"))
    assert rows == [(f"{path}:2", {"path": "a,b.jpg", "label": "纸板"}),
                    (f"{path}:3", {"path": '"c".jpg', "label": "=1+1"})]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_table_is_read_with_and_without_the_mark(tmp_path, mark):
    path = tmp_path / "table.csv"
    path.write_bytes(mark + "path,label\n1.jpg,纸板\n".encode())
    ((location, row),) = read_table(str(path), ("path", "label"), "audit")
    assert (location, row) == (f"{path}:2", {"path": "1.jpg", "label": "纸板"})


def test_a_file_name_that_is_not_unicode_comes_back(tmp_path):
    path, name = str(tmp_path / "table.csv"), os.fsdecode(b"caf\xe9.jpg")
    write_table(path, ("path",), [(name,)])
    with open(path, "rb") as file:
        assert b"caf\xe9.jpg" in file.read()
    ((_, row),) = read_table(path, ("path",), "audit")
    assert row == {"path": name}


def test_every_folder_is_looked_at_once(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(partial_paths, "clear", looked.append)
    for name in ("1.txt", "2.txt"):
        write_text(str(tmp_path / name), name)
    assert looked == [str(tmp_path)]
