"""other/quarantine.py: files go, and come back, whatever interrupts."""

import csv
import errno
import json
import os
import shutil

import pytest
from test_audit import audit, encode, half, put, sample_folder, smaller

import run as front_door
from common.errors import InputError, RunError
from data.label_names import read_label_names
from data.samples import read_samples
from other import quarantine
from other.data_quality import file_moves

# What the audit proposes nothing for
HUMAN = {"bad_label", "missing_text", "two_images_one_stem", "conflicting_labels", "corrupt_data",
         "wrong_extension", "blank"}


def table(path, *rows, columns=("path", "action")):
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return str(path)


def state(folder):
    """{relative path: bytes, or where a link leads} of all files."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                found[os.path.relpath(path, folder)] = os.readlink(path)
            else:
                with open(path, "rb") as file:
                    found[os.path.relpath(path, folder)] = file.read()
    return found


@pytest.fixture
def data(tmp_path):
    """Small files with unusual names, the ones of interest in two class folders."""
    folder = tmp_path / "data"
    for name in ("a/1.jpg", "a/1.txt", "b/1.jpg", "b/1.txt", "b/2, \"玻璃\".png", "b/stays.jpg",
                 "b/" + "n" * 250 + ".jpg", "b/stays.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    with open(os.fsencode(folder) + b"/a/caf\xe9.jpg", "wb") as file:
        file.write(b"cafe")
    (folder / "a" / "link.jpg").symlink_to("../b/stays.jpg")
    return folder


@pytest.fixture
def findings(data, tmp_path):
    """All of `data` but what is named stays, the texts not being named."""
    paths = [os.path.join(data, name) for name in sorted(state(data))]
    chosen = [path for path in paths if "stays" not in os.path.basename(path)
              and not path.endswith(".txt")]
    kept = [path for path in paths if "stays.jpg" in path]
    return table(tmp_path / "findings.csv", *((path, "remove") for path in chosen),
                 (chosen[0], "remove"), *((path, "") for path in kept))


STAYS = {"b/stays.jpg", "b/stays.txt"}


def run(*words):
    return front_door.main(["--mode", "clean", *map(str, words)])


def test_files_go_and_come_back(data, findings, tmp_path, capsys):
    before = state(data)
    assert run("--csv", findings, "--target", tmp_path / "q") == 0
    manifest = tmp_path / "q" / "0001" / "manifest.csv"
    assert capsys.readouterr().out.splitlines() == [
        f"8 files moved to {tmp_path}/q/0001", f"to undo it: --mode clean --undo {manifest}"
    ]
    assert set(state(data)) == STAYS
    moved = state(tmp_path / "q" / "0001" / "files")
    # As they were, below the name of the folder that all have in common; the link as a link.
    assert moved == {f"data/{name}": value for name, value in before.items() if name not in STAYS}
    assert run("--undo", manifest) == 0
    assert state(data) == before
    assert os.listdir(tmp_path / "q" / "0001") == ["manifest.csv"]
    capsys.readouterr()
    assert run("--undo", manifest, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"files": 0, "in_place": 8, "dry_run": False}


def test_a_second_call_makes_a_second_folder_and_a_moved_quarantine_works(data, tmp_path):
    before = state(data)
    for number in (1, 2):
        chosen = str(data / "a" / ("1.jpg", "link.jpg")[number - 1])
        quarantine.clean(table(tmp_path / "f.csv", (chosen, "remove")), str(tmp_path / "q"))
    assert sorted(os.listdir(tmp_path / "q")) == ["0001", "0002"]
    (tmp_path / "q").rename(tmp_path / "r")
    for number in (1, 2):
        quarantine.undo(str(tmp_path / "r" / f"000{number}" / "manifest.csv"))
    assert state(data) == before


def test_a_shared_text_file_stays_until_the_last_image_goes(data, tmp_path):
    (data / "a" / "1.png").write_bytes(b"other")
    for images, text_goes in ((["1.jpg"], False), (["1.jpg", "1.png"], True)):
        rows = [(str(data / "a" / name), "remove") for name in images]
        found = quarantine.clean(table(tmp_path / "f.csv", *rows), dry_run=True)["files"]
        assert (str(data / "a" / "1.txt") in found) == text_goes


def test_a_text_file_alone(data, tmp_path):
    path = str(data / "a" / "1.txt")
    assert quarantine.clean(table(tmp_path / "f.csv", (path, "remove")),
                            dry_run=True)["files"] == [path]


def test_dry_run_names_and_touches_nothing(data, findings, tmp_path, capsys):
    before = state(data)
    for words in ([], ["--delete"]):
        assert run("--csv", findings, *words, "--dry_run",
                   *([] if words else ["--target", tmp_path / "q"])) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 9 and lines[8].startswith("8 files would be ")
        assert str(data / "a" / "1.txt") in lines
    assert state(data) == before and not (tmp_path / "q").exists()


def test_delete_deletes(data, findings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("--csv", findings, "--delete", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "files": 8, "folder": None, "manifest": None, "dry_run": False
    }
    assert set(state(data)) == STAYS
    assert sorted(os.listdir(tmp_path)) == ["data", "findings.csv"]


def test_nothing_to_do(data, tmp_path, capsys):
    path = table(tmp_path / "f.csv", (str(data / "a" / "1.jpg"), ""))
    assert run("--csv", path, "--target", tmp_path / "q") == 0
    assert capsys.readouterr().out == "0 files moved\n" and not (tmp_path / "q").exists()


# --- refused --------------------------------------------------------------------------

def refused(*words):
    with pytest.raises((InputError, RunError)) as found:
        quarantine.main(front_door.parser.parse("clean", [*map(str, words)]))
    return str(found.value)


def test_what_is_refused_and_nothing_is_touched(data, findings, tmp_path):
    before = state(tmp_path)
    sound = (str(data / "a" / "1.jpg"), "remove")
    gone = [(str(data / f"gone_{number:02}.jpg"), "remove") for number in range(12)]

    def given(*rows, **more):
        try:
            return refused("--csv", table(tmp_path / "f.csv", *rows, **more),
                           "--target", tmp_path / "q")
        finally:
            os.unlink(tmp_path / "f.csv")

    assert "f.csv:3: action 'keep' is not allowed; allowed are remove" in given(
        sound, (str(data / "b" / "1.jpg"), "keep"))
    message = given(sound, *gone)
    assert "12 files do not exist any more" in message and "and 2 more" in message
    assert "gone_09" in message and "gone_10" not in message
    assert "f.csv:3: " in given(sound, (str(data / "b"), "remove"))
    assert "is not a file" in given(sound, (str(data / "b") + "/", "remove"))
    assert "f.csv:3: '' is not a file" in given(sound, ("", "remove"))
    assert "has fewer values" in given(sound, ("x",))
    assert "f.csv:1: has no column action" in given(sound, columns=("path", "verdict"))
    os.mkfifo(data / "pipe.jpg")
    assert "is not a file" in given(sound, (str(data / "pipe.jpg"), "remove"))
    os.unlink(data / "pipe.jpg")
    assert "cannot be read" in refused("--csv", tmp_path / "nowhere.csv")
    assert "needs --csv" in refused()
    assert "goes alone, without --csv" in refused("--csv", findings, "--undo", findings)
    assert "choose one" in refused("--csv", findings, "--delete", "--target", "q")
    assert "is inside" in refused("--csv", findings, "--target", data / "b" / "q")
    assert "has no column from" in refused("--undo", findings)
    assert "--target" in refused("--csv", findings, "--target", findings)
    assert state(tmp_path) == before


def test_a_read_only_folder_is_refused_before_anything_moves(data, findings, tmp_path,
                                                             monkeypatch):
    before, access = state(data), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("/b")
                        and access(path, mode))
    assert f"{data}/b: is read-only" in refused("--csv", findings, "--target", tmp_path / "q")
    assert state(data) == before and not (tmp_path / "q").exists()


@pytest.mark.parametrize("number", [0, 5])
def test_a_move_that_fails_moves_all_back(data, findings, tmp_path, monkeypatch, number):
    before, move, count = state(data), file_moves.move_file, []

    def fails(one, two):
        count.append(one)
        if len(count) == number + 1:
            raise OSError(errno.ENOSPC, "No space left on device", two)
        move(one, two)

    monkeypatch.setattr(file_moves, "move_file", fails)
    message = refused("--csv", findings, "--target", tmp_path / "q")
    assert "No space left on device; all files are where they were" in message
    assert len(count) == 2 * number + 1  # to, and back
    assert state(data) == before and os.listdir(tmp_path / "q") == []


# --- interruptions --------------------------------------------------------------------

@pytest.mark.parametrize("number", range(9))
def test_an_interruption_at_any_move_can_be_undone(data, findings, tmp_path, monkeypatch, number):
    """And the undoing as well."""
    before, move, count = state(data), file_moves.move_file, []

    def stops(one, two):
        if len(count) == number:
            raise KeyboardInterrupt
        count.append(one)
        move(one, two)

    monkeypatch.setattr(file_moves, "move_file", stops)
    assert run("--csv", findings, "--target", tmp_path / "q") == (130 if number < 8 else 0)
    manifest = tmp_path / "q" / "0001" / "manifest.csv"
    moved = len(count)
    count[:] = [None] * (number - 2)  # an interruption after two are back
    assert run("--undo", manifest) == (130 if moved > 2 else 0)
    monkeypatch.undo()
    assert run("--undo", manifest) == 0
    assert state(data) == before


def another_disk(monkeypatch, folder):
    """Lets renames into or out of `folder` fail as between two disks."""
    replace = os.replace

    def between(one, two):
        if (str(folder) in os.path.abspath(one)) != (str(folder) in os.path.abspath(two)):
            raise OSError(errno.EXDEV, "Invalid cross-device link", one)
        replace(one, two)

    monkeypatch.setattr(os, "replace", between)


def test_across_disks(data, findings, tmp_path, monkeypatch):
    before = state(data)
    another_disk(monkeypatch, tmp_path / "q")
    assert run("--csv", findings, "--target", tmp_path / "q") == 0
    assert set(state(data)) == STAYS
    assert run("--undo", tmp_path / "q" / "0001" / "manifest.csv") == 0
    assert state(data) == before


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("module, name", [(shutil, "copy2"), (file_moves, "flush"),
                                          (os, "unlink")])
def test_an_interruption_across_disks_can_be_undone(data, tmp_path, monkeypatch, module, name,
                                                    back):
    """Within the copying of a file, before its flushing, before the old one goes."""
    before = state(data)
    findings = table(tmp_path / "f.csv", (str(data / "b" / "1.jpg"), "remove"))
    another_disk(monkeypatch, tmp_path / "q")
    manifest = tmp_path / "q" / "0001" / "manifest.csv"
    if back:
        quarantine.clean(findings, str(tmp_path / "q"))

    def stops(path, *rest, **more):
        if name == "copy2":
            with open(rest[0], "wb") as file:
                file.write(b"half")
        elif os.path.basename(path) == "manifest.csv" or str(path) == str(tmp_path / "q"):
            return
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stops)
        with pytest.raises(KeyboardInterrupt):
            if back:
                quarantine.undo(str(manifest))
            else:
                quarantine.clean(findings, str(tmp_path / "q"))
    quarantine.undo(str(manifest))
    after = {path: value for path, value in state(data).items() if ".partial" not in path}
    assert after == before
    assert not os.path.exists(tmp_path / "q" / "0001" / "files" / "b" / "1.jpg")


def test_undo_refuses_where_a_file_stands_in_the_way(data, findings, tmp_path):
    quarantine.clean(findings, str(tmp_path / "q"))
    (data / "b" / "1.jpg").write_bytes(b"another")
    before = state(tmp_path)
    message = refused("--undo", tmp_path / "q" / "0001" / "manifest.csv")
    assert "1 files cannot be moved back" in message
    assert f"move those away: {data}/b/1.jpg" in message
    assert state(tmp_path) == before


def test_undo_brings_back_what_is_not_lost(data, findings, tmp_path):
    before = state(data)
    quarantine.clean(findings, str(tmp_path / "q"))
    os.unlink(tmp_path / "q" / "0001" / "files" / "data" / "b" / "1.jpg")
    shutil.rmtree(data / "a")
    message = refused("--undo", tmp_path / "q" / "0001" / "manifest.csv")
    assert "1 files are neither in the quarantine nor where they were: " in message
    assert f"{data}/b/1.jpg; 7 were moved back" in message
    del before["b/1.jpg"]
    assert state(data) == before


# --- from audit to clean --------------------------------------------------------------

def test_after_audit_and_clean_only_a_human_has_work(tmp_path, capsys):
    source = sample_folder(tmp_path / "source")
    validation = sample_folder(tmp_path / "validation", first=100)
    first = (source / "img_0.jpg").read_bytes()
    put(source, "empty.jpg", b"")
    put(source, "broken.jpg", b"<html>")
    put(source, "cut.jpg", half(encode(seed=20)))
    (source / "alone.txt").write_text("alone.jpg, 0\n")
    put(source, "copy.jpg", first)
    put(source, "near.png", smaller(source / "img_1.jpg"), 1)
    put(validation, "leak.jpg", (source / "img_2.jpg").read_bytes(), 2)
    put(source, "conflict.jpg", (source / "img_3.jpg").read_bytes(), 2)
    put(source, "png.jpg", encode("PNG", seed=21))
    names = read_label_names(source / "label.json")
    words = ("--val_data", validation)
    audit(source, *words)
    table_path = str(tmp_path / "out" / "findings.csv")
    assert run("--csv", table_path, "--target", tmp_path / "q") == 0
    rows = audit(source, *words)
    assert {row["kind"] for row in rows} == {"conflicting_labels", "wrong_extension"} < HUMAN
    # Less the three without a picture, two copies and the leak
    assert len(read_samples(str(source), names).file_names) == 12 + 7 - 3 - 2 - 1
    assert len(read_samples(str(validation), names).file_names) == 13


def test_what_is_to_be_converted_stays(tmp_path):
    source = sample_folder(tmp_path / "source")
    put(source, "xl.jpg", b"\xff\x0a" + bytes(50))
    put(source, "empty.jpg", b"")
    audit(source)
    assert run("--csv", tmp_path / "out" / "findings.csv", "--target", tmp_path / "q") == 0
    assert (source / "xl.jpg").exists() and (source / "xl.txt").exists()
    assert not (source / "empty.jpg").exists()


def test_labels_are_a_humans_work_who_may_write_remove(tmp_path):
    source = sample_folder(tmp_path / "source")
    (source / "untold.jpg").write_bytes(encode(seed=30))
    put(source, "bad.jpg", encode(seed=31), 9)
    put(source, "two.jpg", encode(seed=32))
    (source / "two.png").write_bytes(encode("PNG", seed=33))
    rows = audit(source)
    assert {row["kind"] for row in rows} == {"missing_text", "bad_label", "two_images_one_stem"}
    assert {row["kind"] for row in rows} < HUMAN and not any(row["action"] for row in rows)
    chosen = [(row["path"], "" if row["path"].endswith("two.jpg") else "remove") for row in rows]
    quarantine.clean(table(tmp_path / "f.csv", *chosen), str(tmp_path / "q"))
    names = read_label_names(source / "label.json")
    assert len(read_samples(str(source), names).file_names) == 13
    assert audit(source, status=0) == []


def test_a_relative_source_works_from_the_same_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample_folder(tmp_path / "source")
    put(tmp_path / "source", "empty.jpg", b"")
    assert front_door.main(["--mode", "audit", "--source", "source"]) == 3
    assert run("--csv", "audit/findings.csv") == 0
    assert sorted(os.listdir("quarantine/0001/files/source")) == ["empty.jpg", "empty.txt"]
    assert not os.path.exists("source/empty.jpg")


def test_a_quarantine_among_the_classes_is_refused(data, findings, capsys):
    """Its folder would be one more class."""
    before = state(data)
    assert front_door.main(["--mode", "clean", "--csv", findings, "--target",
                            str(data / "quarantine")]) == 0
    # data/a and data/b hold text files, so they are two data sets, not two classes.
    assert state(data) != before
    for name in ("a", "b"):
        for text in (data / name).glob("*.txt"):
            text.unlink()
    (data / "a" / "5.jpg").write_bytes(b"5")
    more = table(findings + "2", (str(data / "a" / "5.jpg"), "remove"))
    assert front_door.main(["--mode", "clean", "--csv", more, "--target",
                            str(data / "more")]) == 2
    assert "among the folders of the classes" in capsys.readouterr().err
    assert (data / "a" / "5.jpg").exists() and not (data / "more").exists()
