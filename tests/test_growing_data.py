"""A data set that grows and is corrected: parts stay, corrections stay, nothing counts twice."""

import csv
import json
import os
import shutil
from collections import Counter

import pytest
from conftest import write_image

import run
from common.tables import read_table
from config import parser
from data.labelled_data import read_labelled
from runs import run_folder

CLASSES = ("glass", "metal", "paper")
COLORS = {"glass": (40, 160, 60), "metal": (90, 90, 200), "paper": (200, 170, 60)}


def write_photos(folder, counts, seed):
    """Photos of one colour with noise, `counts` of each class; a seed makes them different."""
    for class_name, count in counts.items():
        os.makedirs(folder / class_name, exist_ok=True)
        for number in range(count):
            path = folder / class_name / f"{seed}_{number}.png"
            write_image(path, COLORS[class_name], seed=1000 * seed + number)


def go(capsys, *words):
    assert run.main([*map(str, words), "--json"]) in (0, None)
    return json.loads(capsys.readouterr().out)


def parts(photos):
    """{hash: part} of splits.csv; fails where a photo stands there twice."""
    rows = [cells for _, cells in read_table(str(photos / "splits.csv"), ("hash", "part"), "split")]
    assert len({cells["hash"] for cells in rows}) == len(rows)
    return {cells["hash"]: cells["part"] for cells in rows}


def classes(photos):
    """{bytes of a photo: its class}, through the one reader."""
    data = read_labelled(str(photos))
    return {
        (photos / name).read_bytes(): data.class_names[class_id]
        for name, class_id in zip(data.samples.file_names, data.samples.class_ids)
    }


@pytest.fixture
def trained(tmp_path):
    """Path of a run of these classes; nothing asks its weights."""
    path = tmp_path / "runs" / "run"
    options = parser.parse("train", ["--input_size", "32"])
    run_folder.create(str(path), options, CLASSES, False)
    (path / run_folder.BEST).write_bytes(b"")
    return path


def test_added_relabelled_renamed_and_moved(tmp_path, trained, capsys):
    """20 photos added, 5 relabelled, 3 renamed, 2 moved by hand."""
    photos, new = tmp_path / "photos", tmp_path / "new"
    write_photos(photos, {"glass": 40, "metal": 30, "paper": 20}, seed=1)
    go(capsys, "split", "--data", photos)
    before, first_classes = parts(photos), classes(photos)
    assert len(before) == 90

    write_photos(new, {"glass": 12, "metal": 8}, seed=2)
    shutil.copy(photos / "paper" / "1_0.png", new / "glass" / "again.png")
    added = go(capsys, "add", "--data", photos, "--source", new)
    assert added["added"] == {"glass": 12, "metal": 8} and len(added["duplicates"]) == 1

    table = tmp_path / "report.csv"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "new_label"))
        for number in range(5):
            writer.writerow((f"photos/glass/1_{number}.png", "glass", "metal"))
    relabelled = {(photos / "glass" / f"1_{number}.png").read_bytes() for number in range(5)}
    assert go(capsys, "relabel", "--run", trained, "--csv", table)["changed"] == 5
    for number in range(3):
        os.rename(photos / "paper" / f"1_{number}.png", photos / "paper" / f"renamed_{number}.png")
    moved = set()
    for number in (10, 11):
        moved.add((photos / "metal" / f"1_{number}.png").read_bytes())
        os.rename(photos / "metal" / f"1_{number}.png", photos / "paper" / f"moved_{number}.png")

    go(capsys, "split", "--data", photos)
    after, last_classes = parts(photos), classes(photos)
    assert {content: after[content] for content in before} == before
    assert len(after) == 110 and len(last_classes) == 110
    for content, class_name in first_classes.items():
        wanted = "metal" if content in relabelled else "paper" if content in moved else class_name
        assert last_classes[content] == wanted
    assert Counter(last_classes.values()) == {"glass": 47, "metal": 41, "paper": 22}
    # The same modes again change nothing.
    again = go(capsys, "add", "--data", photos, "--source", new)
    assert again["added"] == {} and len(again["duplicates"]) == 21
    assert go(capsys, "relabel", "--run", trained, "--csv", table)["changed"] == 0
    go(capsys, "split", "--data", photos)
    assert parts(photos) == after and classes(photos) == last_classes
    # Converted, the corrections hold.
    converted = go(capsys, "dir2txt", "--source", photos, "--target", tmp_path / "converted")
    assert converted["classes"] == {"glass": 47, "metal": 41, "paper": 22}
