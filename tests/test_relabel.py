"""other/relabel.py: what is rewritten, undone, gone on with, and refused."""

import csv
import json
import os
import re
from types import SimpleNamespace

import pytest
from conftest import write_image, write_samples

import run
from common.files import write_text
from config import parser
from data import csv_labels, label_places
from data.labelled_data import read_labelled
from data.samples import read_samples, write_sample
from data.splitting import content_hash
from other import relabel
from runs import run_folder

LABELS = ("paper", "纸板, \"x\"", "glass")
LONG = "b, '纸\" " + "y" * 200 + ".png"
HEADER = ["path", "label", "suggested", "how", "new_label"]


@pytest.fixture
def place(tmp_path):
    """Seven images, labels 0 0 1 1 2 2 and one odd name of 0."""
    write_samples(tmp_path / "data", 2, dict.fromkeys(LABELS, (1, 2, 3)))
    write_image(tmp_path / "data" / "o.png")
    os.rename(tmp_path / "data" / "o.png", tmp_path / "data" / LONG)
    write_sample(tmp_path / "data", LONG, 0)
    path = tmp_path / "run"
    run_folder.create(str(path), parser.parse("train", ["--input_size", "32"]), LABELS,
                      False)
    (path / run_folder.BEST).write_bytes(b"")
    return SimpleNamespace(run=path, data=str(tmp_path / "data"), folder=tmp_path,
                           csv=tmp_path / "a table.csv")


def write(place, *rows, header=HEADER):
    """A table with (name, label, new label) for each row."""
    with open(place.csv, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, header, extrasaction="ignore")
        writer.writeheader()
        for name, label, new_label in rows:
            writer.writerow({"path": os.path.join(place.data, name), "label": label,
                             "suggested": "glass", "how": "training", "new_label": new_label})


def main(place, *words, table=None):
    return run.main(["--mode", "relabel", "--run", str(place.run), "--csv",
                     str(table or place.csv), *words])


def labels(place):
    samples = read_samples(place.data, LABELS)
    return dict(zip(samples.file_names, samples.class_ids.tolist()))


def texts(place):
    """The bytes of every text file."""
    return {name: open(os.path.join(place.data, name), "rb").read()
            for name in os.listdir(place.data) if name.endswith(".txt")}


ROWS = [("img_0_0.png", "paper", "glass"), (LONG, "paper", " " + LABELS[1]),
        ("img_1_1.png", LABELS[1], ""), ("img_2_0.png", "glass", "glass"),
        ("img_2_1.png", "glass", "paper")]
AFTER = {"img_0_0.png": 2, LONG: 1, "img_2_1.png": 0}


def test_rewrites_and_takes_back(place, capsys):
    old, place.data = place.data, os.path.join(str(place.folder), os.fsdecode(b"no UTF-8 \xe4"))
    os.rename(old, place.data)
    before, first = labels(place), texts(place)
    write(place, *ROWS)
    assert main(place, "--json") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert out.count("\n") == 1 and found["changed"] == 3 and found["unchanged"] == 2
    assert labels(place) == {**before, **AFTER} and "--resume will refuse" in err
    stem = os.path.splitext(LONG)[0]
    assert texts(place) == {**first, "img_0_0.txt": b"img_0_0.png, 2\n",
                            "img_2_1.txt": b"img_2_1.png, 0\n",
                            f"{stem}.txt": f"{LONG}, 1\n".encode()}
    undo = found["undo"]
    assert os.path.dirname(undo) == str(place.folder)
    assert re.fullmatch(r"relabeled-\d{8}-\d{6}\.csv", os.path.basename(undo))
    with open(undo, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        assert list(csv.reader(file)) == [
            ["path", "label", "new_label"],
            [os.path.join(place.data, "img_0_0.png"), "glass", "paper"],
            [os.path.join(place.data, LONG), LABELS[1], "paper"],
            [os.path.join(place.data, "img_2_1.png"), "paper", "glass"]]
    assert main(place, table=undo) == 0
    assert texts(place) == first
    redo = [name for name in os.listdir(place.folder) if name.startswith("relabeled")]
    assert len(redo) == 2  # also where both fall into one second
    # The same table once more: what was taken back is as the table says again.
    assert main(place) == 0 and labels(place) == {**before, **AFTER}
    assert "changed 3 labels, 2 rows of the table stay as they are" in capsys.readouterr().out


def test_dry_run_changes_nothing(place, capsys):
    write(place, *ROWS)
    first = texts(place)
    assert main(place, "--json", "--dry_run") == 0
    assert json.loads(capsys.readouterr().out) == {"changed": 3, "unchanged": 2, "undo": None}
    assert main(place, "--dry_run") == 0
    out = capsys.readouterr().out
    assert "       1  paper -> glass\n" in out and "would change 3 labels" in out
    assert texts(place) == first
    assert sorted(os.listdir(place.folder)) == sorted(
        [os.path.basename(place.data), "a table.csv", "run"])


def test_an_interruption_is_gone_on_with_and_taken_back(place, monkeypatch, capsys):
    """The second of three files cannot be written, as where a folder is read-only."""
    write(place, *ROWS)
    first = texts(place)

    def failing(path, text):
        if text.startswith("b"):
            raise PermissionError(13, "Permission denied")
        write_text(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(label_places, "write_text", failing)
        assert main(place) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert ".txt: cannot be written: Permission denied; 1 of 3 labels were changed: " in error
    assert "changed: " + os.path.join(place.data, "img_0_0.png") + "; the same command" in error
    undo = place.folder / re.search(r"relabeled-[-\d]+\.csv", error)[0]
    assert labels(place)["img_0_0.png"] == 2 and labels(place)["img_2_1.png"] == 2
    assert main(place) == 0
    assert {name: labels(place)[name] for name in AFTER} == AFTER
    capsys.readouterr()
    assert main(place, "--json", table=undo) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == 3 and texts(place) == first
    # Rows that the interruption left alone are as the undo file wants them.
    write_sample(place.data, "img_0_0.png", 2)
    assert main(place, "--json", table=undo) == 0
    assert json.loads(capsys.readouterr().out)["unchanged"] == 2 and texts(place) == first


def test_a_table_of_excel_and_paths_that_count_from_it(place):
    place.csv.write_text("path,label,new_label\r\ndata2/img_2_0.png,glass,paper\r\n",
                         encoding="utf-8-sig")
    os.rename(place.data, place.folder / "data2")
    assert main(place) == 0
    assert (place.folder / "data2" / "img_2_0.txt").read_text() == "img_2_0.png, 0\n"


def test_nothing_to_do_leaves_no_undo_file(place, capsys):
    write(place, ("img_0_0.png", "paper", "paper"), ("gone.png", "paper", ""))
    assert main(place, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"changed": 0, "unchanged": 2, "undo": None} and not err
    assert not [name for name in os.listdir(place.folder) if name.startswith("relabeled")]


GOOD = ("img_0_0.png", "paper", "glass")


@pytest.mark.parametrize("row, part", [
    (("img_1_0.png", LABELS[1], "papr"), ":3: new_label is 'papr', which is no class of the labels "
     "of .*allowed: paper, .*; did you mean paper"),
    (("img_1_0.png", LABELS[1], "2"), ":3: new_label is '2', which is no class"),
    (("img_1_0.png", "cat", "glass"), ":3: label is 'cat', which is no class"),
    (("img_1_0.png", "glass", "paper"), ":3: .*has the label .* now, not 'glass': it was changed"),
    (("gone.png", "paper", "glass"), ":3: .*gone.png' is no image file"),
    (("sub/img.png", "paper", "glass"), ":3: .*img.png' is no image file of its folder"),
    (("img_0_0.png", "paper", LABELS[1]), ":3: .*is to be .*, in .*:2 'glass'; one new label"),
])
def test_one_wrong_row_and_nothing_is_written(place, capsys, row, part):
    write(place, GOOD, row)
    first = texts(place)
    assert main(place) == 2
    error = capsys.readouterr().err
    assert re.search(part, error) and error.count("\n") == 1
    assert texts(place) == first and len(os.listdir(place.folder)) == 3


def test_the_same_row_twice_counts_once(place, capsys):
    write(place, GOOD, GOOD)
    assert main(place, "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] == 1


@pytest.mark.parametrize("text, part", [
    ("path,label\na,b\n", ":1: has no column new_label; needed are path, label, new_label"),
    ("", ":1: has no column path, label, new_label"),
    ("path;label;new_label\n", ":1: has no column"),
    ("path,label,new_label\na,b\n", ":2: has fewer values"),
    ("path,label,new_label\n" + "a" * 200_000 + ",b,c\n", "is not CSV"),
])
def test_tables_refused(place, capsys, text, part):
    place.csv.write_text(text)
    assert main(place) == 2
    assert part in capsys.readouterr().err
    assert main(place, table=place.folder / "nowhere.csv") == 2
    assert "nowhere.csv: cannot be read: No such file" in capsys.readouterr().err


def test_folders_refused(place, monkeypatch, capsys):
    write(place, GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, how: False)
        assert main(place) == 2
    assert "cannot be written to; no label was changed" in capsys.readouterr().err
    monkeypatch.setattr(relabel, "_free", lambda stem: str(place.folder / "nowhere" / "undo.csv"))
    assert main(place) == 2
    assert "which would undo the changes, cannot be written" in capsys.readouterr().err
    assert labels(place)["img_0_0.png"] == 0
    with open(os.path.join(place.data, "label.json"), "w") as file:
        json.dump({"0": "cat", "1": "dog", "2": "cow"}, file)
    assert main(place) == 2
    assert "names other classes than the labels of" in capsys.readouterr().err


def test_a_linked_text_file_stays_a_link(place, tmp_path):
    text = os.path.join(place.data, "img_0_0.txt")
    os.rename(text, tmp_path / "elsewhere.txt")
    os.symlink(tmp_path / "elsewhere.txt", text)
    write(place, ("img_0_0.png", LABELS[0], LABELS[1]))
    assert main(place) == 0
    assert os.path.islink(text)
    assert (tmp_path / "elsewhere.txt").read_text() == "img_0_0.png, 1\n"


# Folders and tables of photos


def photos(place, *names):
    """One-colour photos below place.folder/photos, each with another colour."""
    for number, name in enumerate(names):
        path = place.folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, size=(8, 8), color=(40 * number, 10, 200))
    place.data = str(place.folder / "photos")
    return {name: (place.folder / "photos" / name).read_bytes() for name in names}


def tree(place):
    return {os.path.relpath(os.path.join(folder, name), place.data):
            open(os.path.join(folder, name), "rb").read()
            for folder, _, names in os.walk(place.data) for name in names}


def journal(path):
    with open(path, encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["time", "hash", "path", "label", "new_label"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line[0]) for line in lines)
    return [line[1:] for line in lines]


def test_photos_move_to_the_folder_of_their_class(place, capsys):
    """The class's folder as it is spelled, or a new one; a name that is taken gets a number."""
    before = photos(place, "paper/a.png", "paper/b.png", "glass /a.png", "paper/c.png")
    write(place, ("paper/a.png", "paper", "glass"), ("paper/b.png", "paper", LABELS[1]),
          ("paper/c.png", "paper", ""))
    assert main(place, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["changed"], found["unchanged"]) == (2, 1)
    after = tree(place)
    lines = journal(os.path.join(place.data, "labels.log.csv"))
    hashes = {name: f"{content_hash(image):016x}" for name, image in before.items()}
    assert lines == [[hashes["paper/a.png"], "glass /a-2.png", "paper", "glass"],
                     [hashes["paper/b.png"], f"{LABELS[1]}/b.png", "paper", LABELS[1]]]
    del after["labels.log.csv"]
    assert after == {"glass /a-2.png": before["paper/a.png"],
                     "glass /a.png": before["glass /a.png"],
                     f"{LABELS[1]}/b.png": before["paper/b.png"],
                     "paper/c.png": before["paper/c.png"]}
    data = read_labelled(place.data, class_names=LABELS, names_from="the run")
    assert dict(zip(data.samples.file_names, data.samples.class_ids)) == {
        "glass /a-2.png": 2, "glass /a.png": 2, f"{LABELS[1]}/b.png": 1, "paper/c.png": 0}
    # Given again, what has moved is done; the undo file brings both back.
    assert main(place, "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] == 0
    assert main(place, table=found["undo"]) == 0
    after = tree(place)
    assert after["paper/a-2.png"] == before["paper/a.png"] and len(after) == 5
    assert after["paper/b.png"] == before["paper/b.png"]
    assert len(journal(os.path.join(place.data, "labels.log.csv"))) == 4


def test_a_class_of_several_folders(place):
    options = parser.parse("train", ["--input_size", "32"])
    run_folder.create(str(place.run), options, ("waste/glass", "waste/paper"), True)
    (place.run / run_folder.BEST).write_bytes(b"")
    before = photos(place, "waste/glass/a.png")
    write(place, ("waste/glass/a.png", "waste/glass", "waste/paper"))
    assert main(place) == 0
    assert tree(place)["waste/paper/a.png"] == before["waste/glass/a.png"]
    assert os.path.exists(os.path.join(place.data, "labels.log.csv"))


@pytest.mark.parametrize("row, part", [
    (("glass/a.png", "paper", LABELS[1]), "does not lie in a folder 'paper'; if a CSV says"),
    (("paper/gone.png", "paper", "glass"), "gone.png' is no image file of its folder"),
    (("paper/link.png", "paper", "glass"), "is a link; move it by hand"),
])
def test_moves_refused(place, capsys, row, part):
    photos(place, "paper/a.png", "glass/a.png")
    os.symlink("a.png", os.path.join(place.data, "paper", "link.png"))
    before = tree(place)
    write(place, ("paper/a.png", "paper", "glass"), row)
    assert main(place) == 2
    error = capsys.readouterr().err
    assert ":3: " in error and part in error
    assert tree(place) == before


def test_rows_of_a_csv(place, capsys):
    """Nothing but the label changes: columns, order, line ends and byte order mark."""
    photos(place, "x/a.png", "x/b.png", "y/a.png")
    table = place.folder / "photos.csv"
    text = ('\ufeffid,label,path,note\r\n7,paper,photos/x/a.png,"one, two"\r\n'
            '8,paper,photos\\x\\b.png,\r\n9,glass,photos/y/a.png,"a ""quote"""\r\n')
    table.write_bytes(text.encode())
    before = tree(place)
    write(place, ("x/a.png", "paper", "glass"), ("x/b.png", "paper", LABELS[1]),
          ("y/a.png", "glass", "glass"))
    assert main(place, "--json", "--data", str(table)) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["changed"], found["unchanged"]) == (2, 1)
    quoted = '"' + LABELS[1].replace('"', '""') + '"'
    wanted = text.replace("7,paper", "7,glass").replace("8,paper", f"8,{quoted}")
    assert table.read_bytes().decode() == wanted
    assert tree(place) == before
    assert [line[1:] for line in journal(place.folder / "photos.labels.log.csv")] == [
        ["photos/x/a.png", "paper", "glass"], ["photos/x/b.png", "paper", LABELS[1]]]
    assert main(place, "--data", str(table), table=found["undo"]) == 0
    assert table.read_bytes().decode() == text
    assert f"--data {table}" in capsys.readouterr().out  # what would undo that


def test_rows_of_a_csv_are_one_write(place, monkeypatch, capsys):
    """Where it fails none is changed or journalled, and the same command continues."""
    photos(place, "x/a.png", "x/b.png", "x/c.png")
    table = place.folder / "photos.csv"
    text = "path,label\nphotos/x/a.png,paper\nphotos/x/b.png,paper\nphotos/x/c.png,paper\n"
    table.write_text(text)
    write(place, ("x/a.png", "paper", "glass"), ("x/b.png", "paper", LABELS[1]))
    writes = []

    def failing(path, text):
        raise PermissionError(13, "Permission denied")

    def counting(path, text):
        writes.append(path)
        write_text(path, text)

    monkeypatch.setattr(csv_labels, "write_text", failing)
    assert main(place, "--data", str(table)) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "photos.csv: cannot be written: Permission denied; 0 of 2 labels were changed: none" in (
        error)
    log_path = place.folder / "photos.labels.log.csv"
    assert table.read_text() == text and not log_path.exists()
    monkeypatch.setattr(csv_labels, "write_text", counting)
    assert main(place, "--data", str(table)) == 0
    assert writes == [str(table)]
    with open(table, newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["glass", LABELS[1], "paper"]
    assert len(journal(log_path)) == 2


def test_a_photo_that_is_gone_is_changed_and_not_journalled(place, monkeypatch, capsys):
    photos(place, "x/a.png", "x/b.png")
    table = place.folder / "photos.csv"
    table.write_text("path,label\nphotos/x/a.png,paper\nphotos/x/b.png,paper\n")
    changes = [label_places.Change(name, "paper", "glass", path, path, str(table), None,
                                   str(place.folder))
               for name in "ab" for path in [str(place.folder / "photos" / "x" / f"{name}.png")]]
    os.remove(changes[0].image)
    assert list(label_places.apply_all(changes)) == [2]
    assert table.read_text().count("glass") == 2
    assert "a.png: cannot be read; the label was changed, but not journalled" in (
        capsys.readouterr().err)
    assert len(journal(place.folder / "photos.labels.log.csv")) == 1


@pytest.mark.parametrize("row, part", [
    (("x/b.png", "paper", "glass"), "b.png' is not in "),
    (("x/a.png", "glass", LABELS[1]), "has the label 'paper' now, not 'glass'"),
])
def test_rows_refused(place, capsys, row, part):
    photos(place, "x/a.png", "x/b.png")
    table = place.folder / "photos.csv"
    table.write_text("path,label\nphotos/x/a.png,paper\n")
    write(place, row)
    assert main(place, "--data", str(table)) == 2
    assert part in capsys.readouterr().err
    assert table.read_text() == "path,label\nphotos/x/a.png,paper\n"
