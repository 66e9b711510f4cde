"""Both conversions together: round trips, ways of transfer, splitting, CSV."""

import csv
import errno
import hashlib
import json
import os

import numpy as np
import pytest
from conftest import command, write_image
from PIL import Image

from common.errors import InputError, RunError
from data.label_names import read_label_names
from data.samples import read_samples
from data.splitting import split
from other import data_reconstruction_dir2txt as dir2txt
from other import data_reconstruction_txt2dir as txt2dir

NAMES = ["glass", "waste/paper, old", "waste/it's \"new\"", "玻璃 瓶", "x" * 200]


def picture(path, seed, size=(48, 40)):
    """Smooth patches of colour: a picture that resizing and recompressing leave alike."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.BICUBIC).save(path, quality=95)


@pytest.fixture
def source(tmp_path):
    """Ten pictures a class, of the same ten file names."""
    for number, name in enumerate(NAMES):
        for image in range(10):
            picture(str(tmp_path / "source" / name / f"a b,{image}.png"), (number, image))
    return str(tmp_path / "source")


def tree(folder):
    """{path: bytes} of a folder's images."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            if not name.endswith((".txt", ".json")):
                path = os.path.join(parent, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, folder)] = file.read()
    return found


def by_class(folder):
    """Sorted (class, bytes) of a folder a class."""
    return sorted((os.path.dirname(path), data) for path, data in tree(folder).items())


@pytest.mark.parametrize("how", ["copy", "link", "move"])
def test_a_round_trip_gives_the_same_files_and_classes(source, tmp_path, how):
    before = by_class(source)
    dir2txt.convert(source, str(tmp_path / "flat"), how)
    images = txt2dir.read_folder(str(tmp_path / "flat"))
    found = txt2dir.convert(images, str(tmp_path / "back"), how, texts=True)
    assert found["classes"] == dict.fromkeys(sorted(NAMES), 10)
    assert by_class(tmp_path / "back") == before
    if how == "move":
        assert by_class(source) == []
        assert os.listdir(tmp_path / "flat") == ["label.json"]
    else:
        assert by_class(source) == before
        linked = os.stat(os.path.join(source, "glass", "a b,0.png")).st_nlink
        assert linked == (3 if how == "link" else 1)


def test_nothing_is_lost_when_moving_fails_halfway(source, tmp_path, monkeypatch):
    """The disk is full after seven files: all sources stand, no target does."""
    before, link, count = tree(source), os.link, []

    def full(*words):
        count.append(words)
        if len(count) > 7:
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))
        link(*words)

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(RunError, match="No space left on device"):
        dir2txt.convert(source, str(tmp_path / "flat"), "move")
    assert tree(source) == before
    assert os.listdir(tmp_path) == ["source"]


def test_another_file_system_is_copied_to_or_refused(source, tmp_path, monkeypatch):
    def other(*words):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other)
    with pytest.raises(InputError, match="--how: link: .* choose copy or move"):
        dir2txt.convert(source, str(tmp_path / "flat"), "link")
    before = sorted(data for _, data in by_class(source))
    dir2txt.convert(source, str(tmp_path / "flat"), "move")
    assert sorted(tree(tmp_path / "flat").values()) == before and not tree(source)


def test_moving_takes_a_link_s_file_and_leaves_what_it_leads_to(tmp_path):
    picture(str(tmp_path / "elsewhere" / "1.png"), 1)
    picture(str(tmp_path / "source" / "b" / "2.png"), 2)
    (tmp_path / "source" / "a").mkdir()
    (tmp_path / "source" / "a" / "1.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    dir2txt.convert(str(tmp_path / "source"), str(tmp_path / "flat"), "move")
    assert (tmp_path / "elsewhere" / "1.png").exists()
    assert not (tmp_path / "flat" / "1.png").is_symlink()
    assert not tree(tmp_path / "source")


def test_a_dry_run_says_the_same_and_writes_nothing(source, tmp_path):
    target = str(tmp_path / "flat")
    said = dir2txt.convert(source, target, "move", dry_run=True)
    assert os.listdir(tmp_path) == ["source"]
    assert dir2txt.convert(source, target, "copy") == said
    with pytest.raises(InputError, match="exists"):
        dir2txt.convert(source, target, dry_run=True)
    images = txt2dir.read_folder(target)
    said = txt2dir.convert(images, str(tmp_path / "back"), dry_run=True)
    assert not (tmp_path / "back").exists()
    assert txt2dir.convert(images, str(tmp_path / "back")) == said


# --split


def hash_share(path):
    """Where an image's hash lies in 0 to 1."""
    with open(path, "rb") as file:
        return int(hashlib.sha256(file.read()).hexdigest()[16:32], 16) / 2**64


def test_split_follows_the_hash_as_training_does(source, tmp_path):
    found = dir2txt.convert(source, str(tmp_path / "out"), fractions=(0.6, 0.3, 0.1))
    assert not found["moved"]
    total, strays = 0, 0
    for name, low, high in (("val_datasets", 0, 0.3), ("test_datasets", 0.3, 0.4),
                            ("train_datasets", 0.4, 1)):
        folder = str(tmp_path / "out" / name)
        labels = read_label_names(os.path.join(folder, "label.json"))
        assert labels == tuple(sorted(NAMES))
        samples = read_samples(folder, labels)
        assert len(samples.file_names) == found["parts"][name]["images"]
        total += len(samples.file_names)
        # In every class each part has some, if need be one that its hash would not put there
        assert (np.bincount(samples.class_ids, minlength=len(NAMES)) > 0).all()
        strays += sum(
            not low <= hash_share(os.path.join(folder, image)) < high
            for image in samples.file_names
        )
    assert total == 50
    assert strays <= len(NAMES)


def test_what_is_left_to_train_on_can_be_split_again(tmp_path):
    """Training holds out by a hash, too: by the same one it would find next to nothing."""
    for number in range(200):
        path = tmp_path / "source" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(number).encode())
    dir2txt.convert(str(tmp_path / "source"), str(tmp_path / "out"), fractions=(0.6, 0.4))
    folder = str(tmp_path / "out" / "train_datasets")
    left, held = split(read_samples(folder, ("a", "b")), 0.3)
    assert 0.15 < len(held.file_names) / (len(left.file_names) + len(held.file_names)) < 0.45


def test_near_duplicates_stay_on_one_side(tmp_path):
    """Each picture as it is, smaller, and recompressed: 30 pictures in 90 files."""
    for number in range(30):
        path = tmp_path / "source" / "ab"[number % 2]
        picture(str(path / f"{number}.png"), number, (96, 80))
        image = Image.open(path / f"{number}.png")
        image.resize((48, 40)).save(path / f"{number}_small.png")
        image.save(path / f"{number}_again.jpg", quality=60)
    found = dir2txt.convert(str(tmp_path / "source"), str(tmp_path / "out"), fractions=(0.5, 0.5))
    sides = [
        {name.split(".")[0].split("_")[0] for name in os.listdir(tmp_path / "out" / part)
         if not name.endswith((".txt", ".json"))}
        for part in ("train_datasets", "val_datasets")
    ]
    assert sides[0] | sides[1] == {str(number) for number in range(30)}
    assert not sides[0] & sides[1]
    assert min(map(len, sides)) > 5
    assert len(found["moved"]) > 10


def test_too_few_images_for_the_shares(tmp_path):
    picture(str(tmp_path / "source" / "a" / "1.png"), 1)
    picture(str(tmp_path / "source" / "b" / "2.png"), 2)
    with pytest.raises(InputError, match="2 images are too few: .* would have none"):
        dir2txt.convert(str(tmp_path / "source"), str(tmp_path / "out"), fractions=(0.8, 0.1, 0.1))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_decoded_is_split_all_the_same(source, tmp_path):
    for number in range(3):
        with open(os.path.join(source, "glass", f"broken{number}.jpg"), "wb") as file:
            file.write(bytes([number]))
    found = dir2txt.convert(source, str(tmp_path / "out"), fractions=(0.5, 0.5))
    assert found["images"] == sum(part["images"] for part in found["parts"].values()) == 53
    assert not found["moved"]


# txt2dir and CSV


def test_csv_there_and_back(source, tmp_path):
    dir2txt.convert(source, str(tmp_path / "flat"))
    table = tmp_path / "table.csv"
    process = command("--mode", "txt2dir", "--source", tmp_path / "flat", "--csv", table, "--json")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["images"] == 50
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "label"] and len(rows) == 51
    assert {label for _, label in rows[1:]} == set(NAMES)
    process = command("--mode", "txt2dir", "--csv", table, "--target", tmp_path / "back")
    assert process.returncode == 0, process.stderr
    assert by_class(tmp_path / "back") == by_class(source)


@pytest.mark.parametrize(
    "text,said",
    [
        ("", ":1: has the columns none; needed: path, label"),
        ("image,label\n1.png,a\n", ":1: has the columns image, label; needed: path, label"),
        ("path,label\n", "has no line but the header"),
        ("path,label\n1.png\n", ":2: does not have as many values as"),
        ("path,label\n1.png,a,b\n", ":2: does not have as many values as"),
        ("path,label\n1.png, \n", ":2: the label is empty"),
        ("path,label\nno.png,a\n", ":2: 'no.png' is no image file"),
        ("path,label\n1.png,a\n./1.png,b\n", ":3: './1.png' appears twice"),
        ('path,label\n"1.png,a\n', "is not CSV"),
        ("path,label\n1.png,../a\n", "no folder can have the name of the class '../a'"),
        ("path,label\n1.png,/a\n", "no folder can have the name"),
        ("path,label\n1.png,.a\n", "no folder can have the name"),
        (f"path,label\n1.png,{'y' * 256}\n", "no folder can have the name"),
    ],
)
def test_bad_csv_is_refused(tmp_path, text, said):
    write_image(tmp_path / "1.png")
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError) as error:
        txt2dir.convert(txt2dir.read_table(str(tmp_path / "table.csv")), str(tmp_path / "out"))
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ['say "so"', "con", "glass."])
def test_names_that_windows_alone_forbids(monkeypatch, name):
    txt2dir.check_names([name])
    monkeypatch.setattr(txt2dir, "ON_WINDOWS", True)
    with pytest.raises(InputError, match="no folder can have the name"):
        txt2dir.check_names(["glass", f"waste/{name}"])


def test_moving_what_a_csv_names_leaves_other_files(tmp_path):
    write_image(tmp_path / "1.png")
    (tmp_path / "1.txt").write_text("a note of mine")
    (tmp_path / "table.csv").write_text("path,label\n1.png,a\n")
    images = txt2dir.read_table(str(tmp_path / "table.csv"))
    txt2dir.convert(images, str(tmp_path / "out"), "move")
    assert (tmp_path / "1.txt").read_text() == "a note of mine"
    assert not (tmp_path / "1.png").exists() and (tmp_path / "out" / "a" / "1.png").exists()


def test_files_of_one_name_in_a_class(tmp_path):
    for number, folder in enumerate(("x", "y", "z")):
        picture(str(tmp_path / folder / "1.png"), number)
    (tmp_path / "table.csv").write_text("path,label\nx/1.png,a\ny/1.png,a\nz/1.png,b\n")
    txt2dir.convert(txt2dir.read_table(str(tmp_path / "table.csv")), str(tmp_path / "out"))
    assert sorted(tree(tmp_path / "out")) == ["a/1.png", "a/1_2.png", "b/1.png"]


@pytest.mark.parametrize("words,said", [
    ((), "--source is missing"),
    (("--csv", "t.csv"), "--source is missing"),
    (("--source", "s"), "--target or --csv: give one of them"),
    (("--source", "s", "--target", "t", "--csv", "c"), "--target or --csv: give one of them"),
])
def test_what_is_needed_is_said(words, said):
    process = command("--mode", "txt2dir", *words)
    assert process.returncode == 2 and said in process.stderr
