"""Adding photos: to every layout, copies left out, names, parts, and a failure in the middle."""

import csv
import json
import os
from datetime import UTC, datetime

import numpy as np
import pytest
from conftest import write_image, write_samples

import run as front_door
from common.errors import InputError
from data import csv_labels, parts, parts_table, splitting
from data.file_transfer import Transfer
from data.image_files import list_folder, walk_images
from data.kept_images import is_kept_name, kept_name
from data.label_names import write_label_names
from data.labelled_data import list_labelled, read_labelled
from data.samples import write_sample
from deployment.uncertain_images import Keeper
from other import add_photos
from other.add_photos import add
from other.data_quality.folder_checks import read_folder
from other.data_reconstruction_dir2txt import convert


def go(capsys, *words):
    capsys.readouterr()
    status = front_door.main([str(word) for word in words])
    output = capsys.readouterr()
    return status, output.out, output.err


def make(folder, *names, seed=0):
    """Images of noise, each of its own; returns the folder as str."""
    for number, name in enumerate(names):
        os.makedirs((folder / name).parent, exist_ok=True)
        write_image(folder / name, seed=(seed, number))
    return str(folder)


def copy(source, target):
    os.makedirs(target.parent, exist_ok=True)
    target.write_bytes(source.read_bytes())


def tree(folder):
    """dict of path -> content of all files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def photos(tmp_path):
    """Two classes of two photos."""
    return make(tmp_path / "photos", "glass/1.png", "glass/2.png", "metal/1.png", "metal/2.png")


@pytest.fixture
def new(tmp_path):
    """A photo of a known class whose name is taken, and one of a new class."""
    return make(tmp_path / "new", "glass/1.png", "paper/x.png", seed=1)


# --- the layouts ---------------------------------------------------------------------------


def test_to_class_folders(photos, new, tmp_path, capsys):
    before = tree(tmp_path / "photos")
    words = ("--mode", "add", "--data", photos, "--source", new, "--workers", 2)
    status, out, err = go(capsys, *words)
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["1", "glass"], ["1", "paper"], ["2", "labelled", "photos", "added", "to", photos],
        ["new", "class:", "paper"]]
    assert err.splitlines()[-1].endswith(f"run.py train --data {photos}")
    added = tree(tmp_path / "new")
    assert tree(tmp_path / "photos") == {
        **before, "glass/1-2.png": added["glass/1.png"], "paper/x.png": added["paper/x.png"]}
    again = add(photos, new)
    assert again["added"] == {} and len(again["duplicates"]) == 2
    assert again["new_classes"] == []


@pytest.mark.parametrize("is_csv", [False, True])
def test_photos_that_the_table_of_parts_knows_are_not_read(photos, new, monkeypatch, is_csv):
    """Only those that have changed since, and the answer is the same."""
    if is_csv:
        rows = [f"photos/{name}/{n}.png,{name}" for name in ("glass", "metal") for n in (1, 2)]
        with open(f"{photos}.csv", "w") as file:
            file.write("\n".join(["path,label", *rows, ""]))
    data = f"{photos}.csv" if is_csv else photos
    front_door.main(["split", "--data", data])
    copied = os.path.join(new, "glass", "copy.png")
    with open(os.path.join(photos, "metal", "1.png"), "rb") as file, open(copied, "wb") as target:
        target.write(file.read())
    changed = os.path.join(photos, "glass", "2.png")
    write_image(changed, seed=99)
    read = []

    def record(paths, workers):
        read.extend(paths)
        return splitting.hash_files(paths, workers)

    monkeypatch.setattr(parts, "hash_files", record)
    result = add(data, new, dry_run=True)
    assert list(map(os.path.realpath, read)) == [os.path.realpath(changed)]
    assert result["added"] == {"glass": 1, "paper": 1}
    [duplicate] = result["duplicates"]
    assert duplicate["path"] == copied and duplicate["other_class"] == "metal"


def test_json(photos, new, capsys):
    status, out, err = go(capsys, "--mode", "add", "--data", photos, "--source", new, "--json")
    assert status == 0 and "next:" not in err
    assert json.loads(out) == {
        "target": photos, "added": {"glass": 1, "paper": 1}, "new_classes": ["paper"],
        "unsorted": 0, "duplicates": [], "left_out": []}


def test_to_the_sample_format(tmp_path, capsys):
    data = write_samples(tmp_path / "data", 2)  # red, green, blue
    source = make(tmp_path / "new", "green/img_0_0.jpg", "blue/b.png", seed=1)
    assert add(data, source)["added"] == {"blue": 1, "green": 1}
    # Its stem is taken: two images must not share a text file
    assert (tmp_path / "data" / "img_0_0-2.txt").read_text() == "img_0_0-2.jpg, 1\n"
    assert (tmp_path / "data" / "b.txt").read_text() == "b.png, 2\n"
    samples = read_labelled(data).samples
    assert np.bincount(samples.class_ids).tolist() == [2, 3, 3]
    make(tmp_path / "new", "grean/1.png", seed=2)
    before = tree(tmp_path / "data")
    status, _, err = go(capsys, "--mode", "add", "--data", data, "--source", source)
    assert status == 2 and tree(tmp_path / "data") == before
    assert "--source: " in err and "'grean'" in err and "label.json: red, green, blue" in err
    assert "did you mean green?" in err


def test_to_a_csv(tmp_path):
    make(tmp_path, "images/1.png", "images/2.png")
    table = tmp_path / "photos.csv"
    old_lines = b'\xef\xbb\xbfpath,who,label\r\nimages/1.png,"Ann, B",glass\r\nimages/2.png,C,metal'
    table.write_bytes(old_lines)
    source = make(tmp_path / "new", "glass/1.png", "paper/x, y.png", seed=1)
    result = add(str(table), source)
    assert result["added"] == {"glass": 1, "paper": 1} and result["new_classes"] == ["paper"]
    assert table.read_bytes() == old_lines + b'\r\n1.png,,glass\r\n"x, y.png",,paper\r\n'
    assert read_labelled(str(table)).class_names == ("glass", "metal", "paper")
    assert sorted(os.listdir(tmp_path)) == ["1.png", "images", "new", "photos.csv", "x, y.png"]
    make(tmp_path / "flat", "u.png", seed=3)
    assert add(str(table), str(tmp_path / "flat"))["unsorted"] == 1
    assert (tmp_path / "_unsorted" / "u.png").exists()
    with pytest.raises(InputError, match="is inside --data"):
        add(str(table), str(tmp_path / "_unsorted"))


@pytest.mark.parametrize("layout", ["samples", "csv"])
def test_from_other_layouts(photos, tmp_path, layout):
    source = write_samples(tmp_path / "source", 1, {"metal": (9, 9, 9), "glass": (200, 9, 9)})
    if layout == "csv":
        with open(tmp_path / "source.csv", "w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), ("source/img_0_0.png", " metal"),
                                        ("source/img_1_0.png", "glass")])
        source = str(tmp_path / "source.csv")
    assert add(photos, source)["added"] == {"glass": 1, "metal": 1}
    for name, class_name in (("img_0_0.png", "metal"), ("img_1_0.png", "glass")):
        assert (tmp_path / "photos" / class_name / name).read_bytes() == (
            tmp_path / "source" / name).read_bytes()
    assert len(read_labelled(photos).samples.file_names) == 6


def test_a_label_json_beside_class_folders_fixes_the_classes(photos, new, tmp_path):
    write_label_names(photos, ["glass", "metal"])
    with pytest.raises(InputError, match="'paper' is not one of those of .*label.json"):
        add(photos, new)
    write_label_names(photos, ["glass", "metal", "paper", "../out"])
    with pytest.raises(InputError, match="no folder can have the name of the class '../out'"):
        add(photos, write_samples(tmp_path / "source", 1, {"../out": (9, 9, 9)}))
    assert add(photos, new)["new_classes"] == []  # no photo of it yet, but label.json has it


def test_a_class_in_folders_of_its_own_spelling(tmp_path):
    """The folder that is there takes the photo, in whatever Unicode form its name is written."""
    data = make(tmp_path / "data", "gro\u0308\u00dfe/a.png", "waste/glass/b.png")
    source = make(tmp_path / "new", "gr\u00f6\u00dfe/c.png", "waste/glass/d.png", seed=1)
    result = add(data, source)
    assert result["new_classes"] == [] and sum(result["added"].values()) == 2
    assert (tmp_path / "data" / "gro\u0308\u00dfe" / "c.png").exists()
    assert (tmp_path / "data" / "waste" / "glass" / "d.png").exists()


# --- photos without labels -------------------------------------------------------------------


def test_unlabelled_photos_are_put_aside(photos, tmp_path, capsys):
    source = make(tmp_path / "flat", "1.png", "2.png", seed=1)
    (tmp_path / "flat" / "notes.txt").write_text("mine")
    words = ("--mode", "add", "--data", photos, "--source", source)
    status, out, err = go(capsys, *words)
    assert status == 0 and "2  without a label put into _unsorted" in out and "next:" not in err
    assert sorted(os.listdir(tmp_path / "photos" / "_unsorted")) == ["1.png", "2.png"]
    make(tmp_path / "flat", "glass/3.png", seed=2)  # is a class now, or a mixture?
    status, _, err = go(capsys, *words)
    assert status == 2 and "no text file" in err


def test_unsorted_is_not_read(photos, tmp_path, capsys):
    folders = {"photos": photos, "samples": write_samples(tmp_path / "samples", 1)}
    for name, count in (("photos", 4), ("samples", 3)):
        make(tmp_path / name / "_unsorted", "u.png", "sub/v.png", seed=8)
        capsys.readouterr()
        labelled = read_labelled(folders[name])
        assert "_unsorted left out" in capsys.readouterr().err
        assert len(labelled.samples.file_names) == count
        assert "_unsorted" not in labelled.class_names
        assert len(list_labelled(folders[name]).file_names) == count
        audited = read_folder(folders[name])
        assert len(audited.images) == count and audited.others == []
    parts.update(photos, read_labelled(photos).samples)
    assert "_unsorted" not in (tmp_path / "photos" / "splits.csv").read_text()
    assert list(convert(photos, "out", dry_run=True)["classes"]) == ["glass", "metal"]
    capsys.readouterr()
    assert len(walk_images(photos)) == 4
    assert capsys.readouterr().err == f"{photos}: _unsorted left out\n"
    assert list_folder(str(tmp_path / "photos" / "_unsorted")).images == [
        os.path.join("sub", "v.png"), "u.png"]


def test_what_the_server_keeps_has_no_labels(photos, tmp_path, capsys):
    """Its text files say what the model answered."""
    make(tmp_path, "sent.png", seed=5)
    keeper = Keeper(str(tmp_path / "kept"), ("glass", "metal"), 0.9, 1e9)
    keeper.offer((tmp_path / "sent.png").read_bytes(), np.float32([0.4, 0.6]),
                 ("glass", "metal"), "request-0")
    keeper.close()
    assert sorted(os.path.splitext(name)[1] for name in os.listdir(tmp_path / "kept")) == [
        ".json", ".png", ".txt"]
    status, out, err = go(capsys, "--mode", "add", "--data", photos, "--source", tmp_path / "kept",
                          "--how", "move", "--json")
    result = json.loads(out)
    assert status == 0 and result["added"] == {} and result["unsorted"] == 1
    assert "the model's guess, which is no label" in err
    assert os.listdir(tmp_path / "kept") == ["label.json"]  # no text file without its image
    (kept,) = (tmp_path / "photos" / "_unsorted").iterdir()
    assert kept.read_bytes() == (tmp_path / "sent.png").read_bytes()


def test_samples_among_which_are_images_of_the_server(photos, tmp_path):
    source = write_samples(tmp_path / "source", 1, {"glass": (9, 9, 9)})
    name = kept_name(datetime(2026, 3, 1, 12, tzinfo=UTC), "a", ".png")
    assert name == "20260301T120000.000000-a.png" and is_kept_name(name)
    assert not is_kept_name("20260301-a.png") and not is_kept_name("img_0_0.png")
    make(tmp_path / "source", name, seed=6)
    write_sample(source, name, 0)
    result = add(photos, source)
    assert result["added"] == {"glass": 1} and result["unsorted"] == 1


# --- what is left out ------------------------------------------------------------------------


def test_duplicates(photos, tmp_path, capsys):
    old, source = tmp_path / "photos", tmp_path / "new"
    make(old, "_unsorted/u.png", seed=7)
    copy(old / "glass" / "1.png", source / "glass" / "again.png")
    copy(old / "glass" / "2.png", source / "metal" / "other.png")
    copy(old / "_unsorted" / "u.png", source / "metal" / "u.png")
    make(source, "glass/a.png", seed=1)
    copy(source / "glass" / "a.png", source / "glass" / "b.png")
    words = ("--mode", "add", "--data", photos, "--source", source)
    result = json.loads(go(capsys, *words, "--json", "--dry_run")[1])
    assert result["added"] == {"glass": 1}
    assert {entry.pop("path").replace(str(source), "new"): entry
            for entry in result["duplicates"]} == {
        "new/glass/again.png": {"equals": str(old / "glass" / "1.png")},
        "new/glass/b.png": {"equals": str(source / "glass" / "a.png")},
        "new/metal/other.png": {"equals": str(old / "glass" / "2.png"), "class": "metal",
                                "other_class": "glass"},
        "new/metal/u.png": {"equals": str(old / "_unsorted" / "u.png")},
    }
    status, text, _ = go(capsys, *words)
    assert status == 0 and "4  duplicates left out: " in text
    assert (f"note: 1 under another class: {source}/metal/other.png (metal) is already there as "
            f"{old}/glass/2.png (glass)") in text
    assert sorted(os.listdir(old / "glass")) == ["1.png", "2.png", "a.png"]
    assert sorted(os.listdir(old / "metal")) == ["1.png", "2.png"]


def test_the_own_class_takes_precedence_over_another(photos, tmp_path):
    """A photo that the data set has under two classes is no contradiction to either."""
    old = tmp_path / "photos"
    copy(old / "glass" / "1.png", old / "metal" / "9.png")
    copy(old / "glass" / "1.png", tmp_path / "new" / "metal" / "x.png")
    (duplicate,) = add(photos, str(tmp_path / "new"))["duplicates"]
    assert duplicate == {"path": str(tmp_path / "new" / "metal" / "x.png"),
                         "equals": str(old / "metal" / "9.png")}


def test_a_photo_that_a_source_has_under_two_classes(photos, tmp_path):
    source = make(tmp_path / "new", "glass/a.png", seed=1)
    copy(tmp_path / "new" / "glass" / "a.png", tmp_path / "new" / "metal" / "b.png")
    result = add(photos, source)
    assert result["added"] == {"glass": 1}
    assert [entry["other_class"] for entry in result["duplicates"]] == ["glass"]


def test_files_that_cannot_be_read_equal_nothing(photos, new, tmp_path):
    for place in ("photos", "new"):
        os.symlink("nowhere.png", tmp_path / place / "glass" / "gone.png")
    result = add(photos, new)
    assert result["duplicates"] == [] and result["added"] == {"glass": 1, "paper": 1}
    assert result["left_out"] == [{"path": str(tmp_path / "new" / "glass" / "gone.png"),
                                   "reason": "No such file or directory"}]


def test_broken_files_are_left_out(photos, new, tmp_path, capsys):
    for name, content in (("empty.jpg", b""), ("text.jpg", b"no image"), ("more.jpg", b"no image"),
                          ("film.mov", b"film")):
        (tmp_path / "new" / "glass" / name).write_bytes(content)
    whole = (tmp_path / "new" / "glass" / "1.png").read_bytes()
    (tmp_path / "new" / "glass" / "half.png").write_bytes(whole[: len(whole) // 2])
    status, out, err = go(capsys, "--mode", "add", "--data", photos, "--source", new)
    assert status == 0 and "1 video left out" in err
    assert "4  cannot be decoded, left out: " in out and "empty.jpg (the file is empty)" in out
    assert sorted(os.listdir(tmp_path / "photos" / "glass")) == ["1-2.png", "1.png", "2.png"]
    assert len(add(photos, new)["left_out"]) == 4  # and none of them equals another


# --- writing ---------------------------------------------------------------------------------


def test_names_that_are_taken(photos, tmp_path):
    source = make(tmp_path / "new", "glass/1.png", "glass/1-2.png", "glass/2.PNG", seed=1)
    make(tmp_path / "photos", "glass/1-2.png", seed=2)
    before = tree(tmp_path / "photos")
    add(photos, source)
    after = tree(tmp_path / "photos")
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == [
        "glass/1-2-2.png", "glass/1-3.png", "glass/2-2.PNG"]


@pytest.mark.parametrize("how", ["copy", "link", "move"])
def test_how(photos, tmp_path, how):
    source = write_samples(tmp_path / "new", 1, {"glass": (9, 9, 9)})
    copy(tmp_path / "photos" / "glass" / "1.png", tmp_path / "new" / "same.png")
    write_sample(source, "same.png", 0)
    photo = tmp_path / "new" / "img_0_0.png"
    identity, content = photo.stat().st_ino, photo.read_bytes()
    add(photos, source, how)
    added = tmp_path / "photos" / "glass" / "img_0_0.png"
    assert added.read_bytes() == content
    assert (added.stat().st_ino == identity) is (how != "copy")
    # A duplicate stays where it is
    kept = {"label.json", "same.png", "same.txt"}
    assert {*os.listdir(source)} == kept if how == "move" else {*os.listdir(source)} > kept


def test_dry_run_writes_nothing(photos, new, tmp_path, capsys):
    parts.update(photos, read_labelled(photos).samples)
    before = tree(tmp_path)
    status, out, err = go(
        capsys, "--mode", "add", "--data", photos, "--source", new, "--how", "move", "--dry_run")
    assert status == 0 and "2  labelled photos would be added" in out and "next:" not in err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("layout", ["folders", "samples", "csv"])
def test_a_failure_leaves_everything_as_it_was(photos, tmp_path, monkeypatch, layout):
    data, names = photos, ("glass/1.png", "metal/8.png", "metal/9.png")
    if layout == "samples":
        data = write_samples(tmp_path / "data", 1, {"glass": (9, 9, 9), "metal": (99, 9, 9)})
    if layout == "csv":
        data = str(tmp_path / "photos.csv")
        (tmp_path / "photos.csv").write_text("path,label\nphotos/glass/1.png,glass\n")
    source = make(tmp_path / "new", *names, seed=1)
    before, put = tree(tmp_path), Transfer.put

    def put_two(transfer, old_path, new_path):
        if old_path.endswith("9.png"):
            raise KeyboardInterrupt
        put(transfer, old_path, new_path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Transfer, "put", put_two)
        add(data, source, "move")
    assert tree(tmp_path) == before
    if layout == "csv":
        def fail(path, rows):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(csv_labels, "add_rows", fail)
        with pytest.raises(InputError, match="photos.csv: Permission denied"):
            add(data, source, "move")
        assert tree(tmp_path) == before


def test_a_name_that_another_program_has_taken_meanwhile(photos, new, tmp_path, monkeypatch):
    """As does a class Glass beside glass where upper and lower case do not count."""
    monkeypatch.setattr(add_photos, "_list_taken", lambda folder: set())
    before = tree(tmp_path)
    with pytest.raises(InputError, match="glass/1.png exists already"):
        add(photos, new, "move")
    assert tree(tmp_path) == before


# --- parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["folders", "csv"])
def test_new_photos_get_a_part_and_move_no_other(tmp_path, capsys, layout):
    names = [f"{name}/{number}.png" for name in ("glass", "metal") for number in range(10)]
    data = make(tmp_path / "photos", *names)
    if layout == "csv":
        with open(tmp_path / "photos.csv", "w", newline="") as file:
            csv.writer(file).writerows(
                [("path", "label"), *((f"photos/{name}", name.split("/")[0]) for name in names)])
        data = str(tmp_path / "photos.csv")
    parts.update(data, read_labelled(data).samples, (0.5, 0.25, 0.25))
    old = read_parts(data)
    assert len(old) == 20
    more = [f"glass/n{number}.png" for number in range(10)]
    source = make(tmp_path / "new", *more, "paper/x.png", seed=1)
    make(tmp_path / "flat", "u.png", seed=2)
    assert add(data, str(tmp_path / "flat"))["unsorted"] == 1
    assert read_parts(data) == old
    capsys.readouterr()
    add(data, source)
    assert "11 photos are new and got a part" in capsys.readouterr().err
    after = read_parts(data)
    assert {path: after[path] for path in old} == old and len(after) == 31
    assert sum(part == "train" for path, part in after.items() if path not in old) >= 5
    labelled = read_labelled(data)  # and a later reading finds nothing new
    assert parts.update(data, labelled.samples).added == 0


def read_parts(data):
    with open(parts.table_path(data), encoding="utf-8-sig", newline="") as file:
        return {row["path"]: row["part"] for row in csv.DictReader(file)}


def test_a_damaged_table_of_parts(photos, new, tmp_path):
    (tmp_path / "photos" / "splits.csv").write_text(
        ",".join(parts_table.COLUMNS) + "\n0,glass/1.png,none,0,1,1\n")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="the part is 'none'; allowed: train, val, test"):
        add(photos, new, "move")
    assert tree(tmp_path) == before


# --- bad input -------------------------------------------------------------------------------


def refusal(capsys, data, source):
    status, out, err = go(capsys, "--mode", "add", "--data", data, "--source", source)
    assert status == 2 and out == ""
    return err.splitlines()[-1]


def test_bad_sources(photos, tmp_path, capsys):
    assert "is what --data names" in refusal(capsys, photos, os.path.join(photos, ""))
    inside = os.path.join(photos, "glass")
    assert f"{inside} is inside --data {photos}" in refusal(capsys, photos, inside)
    assert f"{tmp_path} contains --data" in refusal(capsys, photos, tmp_path)
    assert "--source: nowhere: no such folder" in refusal(capsys, photos, "nowhere")
    assert "nowhere: no such folder" in refusal(capsys, "nowhere", photos)
    (tmp_path / "notes.txt").write_text("x")
    assert "a folder or a CSV (.csv) is needed" in refusal(capsys, photos, tmp_path / "notes.txt")
    os.mkdir(tmp_path / "empty")
    assert "--source: " in refusal(capsys, photos, tmp_path / "empty")


@pytest.mark.parametrize("label", ["../out", "_unsorted", "a/.b", "@eaDir"])
def test_classes_that_no_folder_can_have(photos, tmp_path, capsys, label):
    make(tmp_path / "images", "1.png", seed=1)
    (tmp_path / "new.csv").write_text(f"path,label\nimages/1.png,{label}\n")
    before = tree(tmp_path)
    line = refusal(capsys, photos, tmp_path / "new.csv")
    assert "--source: " in line and repr(label) in line
    assert tree(tmp_path) == before


def test_a_new_class_that_differs_in_case_is_noted(photos, tmp_path, capsys):
    source = make(tmp_path / "new", "Glass/1.png", seed=1)
    assert add(photos, source, dry_run=True)["new_classes"] == ["Glass"]
    assert "'Glass', 'glass' are taken for 2 classes" in capsys.readouterr().err
