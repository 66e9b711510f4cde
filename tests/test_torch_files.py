"""Reading torch's old format: whole files give their arrays; spoilt and hostile ones one line."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import ROOT
from torch_old_format import (
    HOSTILE,
    arrays,
    data,
    hostile_files,
    named,
    small_file,
    spoilt_file,
    storage,
    tensor,
)

from common.errors import InputError
from efficientnet.torch_files import read_tensors

COUNT = 5000
MEMORY = 10_000_000  # bytes, the most that one file may take


def outcome(content):
    """"refused", or "read" where it gave tensors; anything else is raised."""
    try:
        result = read_tensors(content, "spoilt.pth")
    except InputError as error:
        assert str(error).startswith("spoilt.pth: ") and "\n" not in str(error)
        assert len(str(error)) < 400
        return "refused"
    for name, array in result.items():
        assert isinstance(name, str) and array.dtype in (np.float32, np.int64)
        assert array.nbytes <= len(content)
        array.tobytes()  # reads every number: none may lie outside the file
    return "read"


def test_a_file_gives_its_tensors():
    result = read_tensors(small_file(), "small.pth")
    assert list(result) == list(arrays())
    for name, expected in arrays().items():
        assert result[name].dtype == expected.dtype
        np.testing.assert_array_equal(result[name], expected)


def test_code_is_named():
    with pytest.raises(InputError, match=r"small.pth: .*contains code: 'os system' is not allowed"):
        read_tensors(small_file(tensors=HOSTILE["os.system"]), "small.pth")


@pytest.mark.parametrize("content", [
    b"", small_file()[:-1], small_file()[:-9], small_file() + b"\0", b"PK\x03\x04" + bytes(99),
    small_file()[:300] + small_file()[301:], small_file().replace(b"\x88", b"\x89", 1),
    small_file().replace(data(np.array([7])), data(np.array([7, 7]))),
    small_file(tensors=named({"x": tensor(storage("8", 48), (4,), (1,))})),  # leaves two storages
])
def test_a_damaged_file_is_refused(content):
    with pytest.raises(InputError, match="small.pth: is damaged, or contains more than tensors: "):
        read_tensors(content, "small.pth")


def bounded_outcomes(files):
    """`outcome` of each (title, content), within MEMORY."""
    outcomes = {}
    tracemalloc.start()
    try:
        for title, content in files:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            outcomes[title] = outcome(content)
            memory = tracemalloc.get_traced_memory()[1] - before
            assert memory < MEMORY, (title, memory)
    finally:
        tracemalloc.stop()
    return outcomes


def test_every_hostile_pickle_is_refused_in_every_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = bounded_outcomes(hostile_files())
    assert [title for title, kind in outcomes.items() if kind != "refused"] == []
    assert not os.listdir(tmp_path) and "torch" not in sys.modules


def test_spoilt_files_run_nothing_write_nothing_and_stay_small(tmp_path, monkeypatch):
    """The reader alone, as if the checksum had been that of the spoilt file."""
    monkeypatch.chdir(tmp_path)
    outcomes = list(bounded_outcomes(map(spoilt_file, range(COUNT))).values())
    # What is read is a sound file with another number, or another name.
    assert len(outcomes) == COUNT and outcomes.count("refused") > 0.8 * COUNT
    assert not os.listdir(tmp_path) and "torch" not in sys.modules


AUDIT = """
import sys
from torch_old_format import hostile_files, spoilt_file
from test_torch_files import outcome
b"x".decode("raw_unicode_escape")  # a part of Python that is imported when it is first needed
outcome(next(iter(hostile_files()))[1])
files = [*hostile_files(), *map(spoilt_file, range(500))]
HARMLESS = ("object.", "builtins.id", "code.__new__", "sys._getframe", "gc.")
events, watched = set(), True
def hook(event, arguments):
    if watched and not event.startswith(HARMLESS):
        events.add((event, *map(str, arguments[:1])))
sys.addaudithook(hook)
for _, content in files:
    outcome(content)
watched = False
print(sorted(events))
"""


def test_the_interpreter_saw_nothing_run():
    """Python's audit hooks: no import, no file opened, no command, no code compiled."""
    path = os.pathsep.join([ROOT, os.path.join(ROOT, "tests")])
    result = subprocess.run([sys.executable, "-c", AUDIT], cwd=ROOT, text=True,
                            capture_output=True, env={**os.environ, "PYTHONPATH": path})
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr
