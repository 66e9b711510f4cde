"""What the audit says about series: groups on two sides, and signs that there are groups."""

import json
import os
import shlex

import numpy as np
import pytest
from PIL import Image
from test_audit import audit, encode, short
from test_groups import exif_block, save

import run as front_door
from common.errors import InputError
from data import parts
from data.labelled_data import read_labelled
from other.data_quality import series_checks

RULE = r"pattern:(r\d+)_"


def recordings(path, numbers, class_names=("glass", "metal"), first=0, photos=3):
    """`CLASS/rNUMBER_PHOTO.jpg`, all different."""
    for label, class_name in enumerate(class_names):
        (path / class_name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            for photo in range(first, first + photos):
                seed = 1000 * label + 100 * number + photo
                (path / class_name / f"r{number}_{photo}.jpg").write_bytes(encode(seed=seed))
    return path


def notes(path, *words, capsys=None):
    """The detail of the note about series, and the command in it, as a list of words."""
    rows = [row for row in audit(path, *words) if row["kind"] == "series"]
    assert len(rows) <= 1
    if not rows:
        return None, None
    text, _, command = rows[0]["detail"].rpartition(": ")
    return text, shlex.split(command)[2:]


def test_groups_in_training_and_validation(tmp_path):
    source = recordings(tmp_path / "train", range(4))
    validation = recordings(tmp_path / "val", [3, 7], ("metal",), first=50, photos=2)
    rows = audit(source, "--val_data", validation, "--group", RULE, status=3)
    assert short(rows, "class", "detail") == [
        ("r3_0.jpg", "split_group", "glass", "6 photos of the group r3 are on this side, 2 in the "
         f"validation data: {validation}/metal/r3_50.jpg"),
        ("r3_50.jpg", "split_group", "metal", "2 photos of the group r3 are on this side, 6 in the "
         f"training data: {source}/glass/r3_0.jpg"),
    ]
    assert rows[0]["group"] == rows[1]["group"] and rows[0]["action"] == ""
    assert audit(source, "--val_data", recordings(tmp_path / "new", [8]), "--group", RULE) == []


def test_groups_on_two_sides_of_a_table(tmp_path):
    """By the rule that is asked for, or by that of the table: renamed photos show."""
    source = recordings(tmp_path / "photos", range(6))
    table = parts.update(str(source), read_labelled(str(source)).samples).path
    rows = audit(source, "--group", RULE)
    assert rows and {row["kind"] for row in rows} == {"split_group"}
    os.unlink(table)
    parts.update(str(source), read_labelled(str(source)).samples, rule=RULE)
    assert audit(source) == []
    sides = {row.group_name: row.part for row in parts.read_rows(table)}
    trains, held_out = (next(name for name in sides if sides[name] == part)
                        for part in ("train", "test"))
    os.rename(source / "glass" / f"{trains}_0.jpg", source / "glass" / f"{held_out}_9.jpg")
    samples = read_labelled(str(source)).samples
    parts.update(str(source), samples)
    details = [row["detail"] for row in audit(source)]
    assert any("are on this side, 1 in the training data" in text for text in details)
    assert len(details) == 2


def test_one_side_only(tmp_path):
    source = recordings(tmp_path / "photos", range(3))
    with pytest.raises(InputError, match="--group: date: there is one side only: name the other"):
        series_checks.agreed_rule(str(source), "date", False)
    words = ["--mode", "audit", "--source", str(source), "--group", "date"]
    assert front_door.main([*words, "--target", str(tmp_path / "out")]) == 2


def test_names_with_counters_are_said_once_with_the_command(tmp_path, capsys):
    source = recordings(tmp_path / "photos", range(4))
    text, command = notes(source)
    assert text == "most names are counted through in 4 series, such as r0"
    assert f"series: {text}: " in capsys.readouterr().out
    assert front_door.main(command) == 0  # it can be typed as it is
    names = {row.group_name for row in parts.read_rows(parts.table_path(str(source)))}
    assert names == {"r0", "r1", "r2", "r3"}
    assert notes(source) == (None, None)  # a rule is in use
    os.unlink(parts.table_path(str(source)))
    validation = recordings(tmp_path / "val", [9])
    _, command = notes(source, "--val_data", validation)
    assert command[:2] == ["audit", "--source"] and command[3:5] == ["--val_data", str(validation)]


@pytest.mark.parametrize("names", [
    ("glass1.jpg", "glass2.jpg", "glass3.jpg", "glass4.jpg"),
    ("IMG_0001.jpg", "IMG_0002.jpg", "IMG_0003.jpg", "DSC_1.jpg", "DSC_2.jpg", "DSC_3.jpg"),
    ("a1.jpg", "b1.jpg", "c1.jpg", "d1.jpg"),
    ("1.jpg", "2.jpg", "3.jpg", "4.jpg"),
])
def test_ordinary_names_are_no_series(tmp_path, names):
    for label, class_name in enumerate(("glass", "metal")):
        (tmp_path / "photos" / class_name).mkdir(parents=True)
        for number, name in enumerate(names):
            data = encode(seed=100 * label + number)
            (tmp_path / "photos" / class_name / name).write_bytes(data)
    assert notes(tmp_path / "photos") == (None, None)


def test_folders_below_classes_are_said(tmp_path):
    for label, class_name in enumerate(("glass", "metal")):
        recordings(tmp_path / "photos" / class_name, [label], ("2024-05-01", "2024-05-02"),
                   first=10 * label)
    text, command = notes(tmp_path / "photos")
    assert text == "folders such as glass/2024-05-01 count as classes and seem to be series of one"
    assert command[-2:] == ["--group", "folder"]
    assert front_door.main(command) == 0
    assert read_labelled(str(tmp_path / "photos")).class_names == ("glass", "metal")
    for name in ("may", "june"):  # words may be classes
        recordings(tmp_path / "words" / name, [name == "may"], ("cups", "plates"))
    assert notes(tmp_path / "words") == (None, None)


@pytest.mark.parametrize("has_dates", [True, False])
def test_near_copies_are_said(tmp_path, has_dates):
    """Pictures of which each has two near copies; with dates these are the rule to try."""
    for number in range(6):
        picture = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        for copy in range(3):
            name = f"{'abcdefgh'[number]}{'xyz'[copy]}.jpg"
            block = exif_block(taken=f"2024:05:0{1 + number} 10:00:00") if has_dates else None
            path = save(tmp_path / "photos" / ("glass", "metal")[number % 2] / name)
            image = Image.fromarray(picture).resize((64, 48), Image.BICUBIC)
            image.save(path, quality=95 - 10 * copy, **({"exif": block} if block else {}))
    text, command = notes(tmp_path / "photos")
    assert text.startswith("18 photos are near copies of others")
    assert command[-1] == ("date" if has_dates else "csv:recording")


def test_json_has_the_note(tmp_path, capsys):
    source = recordings(tmp_path / "photos", range(3))
    capsys.readouterr()
    words = ["--mode", "audit", "--source", str(source), "--target", str(tmp_path / "out")]
    assert front_door.main([*words, "--json"]) == 0
    assert "in 3 series" in json.loads(capsys.readouterr().out)["series"]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Series of photos" in page
