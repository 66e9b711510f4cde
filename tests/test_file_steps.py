"""data/file_steps.py: steps hold whole or not at all, whenever the process ends, and are undone."""

import json
import os
import shutil

import pytest

from common.errors import InputError
from data import file_steps
from data.file_steps import Edit, Move, StepLog


@pytest.fixture
def place(tmp_path):
    for name in ("unsorted/1.jpg", "unsorted/2.jpg", "glass/3.jpg", "3.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "photos"


def open_log(place):
    return StepLog(str(place), str(place.parent / "steps.jsonl"))


def contents(place):
    """Folders and the bytes of files, by path."""
    return {path.relative_to(place).as_posix(): path.is_file() and path.read_bytes()
            for path in place.rglob("*")}


MOVES = [Move("unsorted/1.jpg", "metal/can/1.jpg"), Move("glass/3.jpg", "metal/3.jpg")]
EDITS = [Edit.between("3.txt", b"3.txt", b"3.jpg, 1"), Edit.between("4.txt", None, b"new")]


def expected(before):
    after = {**before, "metal": False, "metal/can": False, "4.txt": b"new", "3.txt": b"3.jpg, 1",
             "metal/can/1.jpg": b"unsorted/1.jpg", "metal/3.jpg": b"glass/3.jpg"}
    for gone in ("unsorted/1.jpg", "glass/3.jpg", "glass"):
        del after[gone]
    return after


def test_do_undo_redo(place):
    before, log = contents(place), open_log(place)
    log.do(MOVES, EDITS, emptied=["glass"], note={"who": "me"})
    assert contents(place) == expected(before)
    assert log.undo().note == {"who": "me"} and contents(place) == before
    assert log.undo() is None
    log.redo()
    assert contents(place) == expected(before) and log.redo() is None
    log.undo()
    log.do([MOVES[0]])
    assert log.redo() is None  # another step has taken its place


def test_undone_to_the_beginning_by_another_process(place):
    before, log = contents(place), open_log(place)
    for number in range(20):
        log.do([Move(f"unsorted/{1 + number % 2}.jpg", f"x{number}/{number}.jpg"),
                Move(f"x{number}/{number}.jpg", f"unsorted/{1 + number % 2}.jpg")][:1 + number % 2]
               if number < 2 else [],
               [Edit.between("3.txt", str(number - 1).encode() if number else b"3.txt",
                             str(number).encode())])
    later = open_log(place)
    assert len(later.done) == 20
    while later.undo():
        pass
    assert contents(place) == before


@pytest.mark.parametrize("word", ["do", "undo", "redo"])
@pytest.mark.parametrize("survived", range(8))
def test_killed_at_any_moment(place, monkeypatch, word, survived):
    """What was written down is finished by whoever opens the folder next."""
    before, log = contents(place), open_log(place)
    after = expected(before)
    if word != "do":
        log.do(MOVES, EDITS, emptied=["glass"])
    if word == "redo":
        log.undo()
    left = [survived]

    class Killed(BaseException):
        pass

    def stop_after(function):
        def counted(*arguments, **keywords):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return function(*arguments, **keywords)
        return counted

    with monkeypatch.context() as patch:
        for name in ("_move", "_edit", "_remove_empty"):
            patch.setattr(file_steps, name, stop_after(getattr(file_steps, name)))
        patch.setattr(log, "_write", stop_after(log._write))
        # A killed process takes nothing back.
        patch.setattr(file_steps, "_apply", apply_without_rollback)
        try:
            getattr(log, word)(*(MOVES, EDITS, ["glass"]) if word == "do" else ())
            ended = True
        except Killed:
            ended = False
    assert not ended or survived >= 6
    open_log(place)
    changed, unchanged = (before, after) if word == "undo" else (after, before)
    assert contents(place) == (unchanged if survived == 0 else changed)


def apply_without_rollback(root, step):
    for folder in step.made:
        os.makedirs(os.path.join(root, folder), exist_ok=True)
    for change in (*step.moves, *step.edits):
        (file_steps._move if isinstance(change, Move) else file_steps._edit)(root, change)
    file_steps._remove_empty(root, step.emptied)


def test_half_a_line_is_no_step(place):
    before, log = contents(place), open_log(place)
    log.do(MOVES)
    with open(log.path, "ab") as log_file:
        log_file.write(b'{"step":1,"moves":[["unsor')
    later = open_log(place)
    later.undo()
    assert contents(place) == before
    later.do([MOVES[0]])
    assert len(open_log(place).done) == 1


@pytest.mark.parametrize("fault", ["target exists", "source is gone", "content differs"])
def test_a_step_that_fails_changes_nothing(place, fault):
    log = open_log(place)
    moves, edits = [*MOVES], [*EDITS]
    if fault == "target exists":
        moves[1] = Move("glass/3.jpg", "unsorted/2.jpg")
    elif fault == "source is gone":
        moves[1] = Move("glass/4.jpg", "metal/4.jpg")
    else:
        edits[1] = Edit.between("3.txt", b"other", b"x")
    before = contents(place)
    with pytest.raises(OSError):
        log.do(moves, edits)
    assert contents(place) == before
    assert open_log(place).done == [] and contents(place) == before


def test_undo_refuses_what_another_program_has_changed(place):
    log = open_log(place)
    log.do(MOVES, EDITS)
    (place / "3.txt").write_bytes(b"3.jpg, 22")
    before = contents(place)
    with pytest.raises(OSError, match="another program"):
        log.undo()
    assert contents(place) == before and open_log(place).done == [0]


@pytest.mark.parametrize("line", ["{", '{"end": 0}', '{"undo": 3}', "[]", '{"other": 1}'])
def test_damaged_log(place, line):
    log = open_log(place)
    log.do([MOVES[0]])
    with open(log.path, "a") as log_file:
        log_file.write(line + "\n")
    with pytest.raises(InputError, match=r"steps\.jsonl:3: is damaged"):
        open_log(place)


def test_disk_full_leaves_no_half_line(place, monkeypatch):
    log, before = open_log(place), contents(place)
    monkeypatch.setattr(file_steps.os, "fsync", raise_disk_full)
    with pytest.raises(OSError, match="space"):
        log.do(MOVES)
    monkeypatch.undo()
    assert contents(place) == before and os.path.getsize(log.path) == 0
    log.do(MOVES)
    assert len(open_log(place).done) == 1


@pytest.mark.parametrize("word", ["do", "undo"])
def test_disk_full_at_the_end_of_a_step_takes_it_back(place, monkeypatch, word):
    log = open_log(place)
    if word == "undo":
        log.do(MOVES, EDITS, ["glass"])
    before, done, write = contents(place), [*log.done], log._write

    def fail_at_the_end(entry, **options):
        return raise_disk_full(entry) if "end" in entry else write(entry, **options)

    monkeypatch.setattr(log, "_write", fail_at_the_end)
    with pytest.raises(OSError, match="space"):
        getattr(log, word)(*(MOVES, EDITS, ["glass"]) if word == "do" else ())
    assert contents(place) == before and log.done == done == open_log(place).done
    assert contents(place) == before


def raise_disk_full(_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("old, new", [(b"", b"a"), (b"aaa", b"aa"), (b"abc", b"axc"),
                                         (b"aXXb", b"ab"), (None, b"x"), (b"x", None)])
def test_edit_and_its_reverse(tmp_path, old, new):
    path = tmp_path / "f"
    if old is not None:
        path.write_bytes(old)
    edit = Edit.between("f", old, new)
    file_steps._edit(str(tmp_path), edit)
    file_steps._edit(str(tmp_path), edit)  # of a killed process: once more changes nothing
    assert (path.read_bytes() if path.exists() else None) == new
    file_steps._edit(str(tmp_path), edit.reverse())
    assert (path.read_bytes() if path.exists() else None) == old


def test_names_and_bytes_of_any_kind(place):
    name = os.fsdecode(b"unsorted/\xff\xe4.jpg")
    with open(os.path.join(place, name), "wb") as file:
        file.write(b"x")
    log = open_log(place)
    log.do([Move(name, "glass/" + os.path.basename(name))],
           [Edit.between("3.txt", b"3.txt", bytes(range(256)))])
    assert (place / "3.txt").read_bytes() == bytes(range(256))
    assert json.loads(open(log.path).readline())["step"] == 0
    open_log(place).undo()
    assert os.path.exists(os.path.join(place, name)) and (place / "3.txt").read_bytes() == b"3.txt"
    shutil.rmtree(place)
