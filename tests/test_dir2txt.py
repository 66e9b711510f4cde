"""other/data_reconstruction_dir2txt.py and other/demo_data.py: folders in the sample format."""

import errno
import json
import os
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

import run
from common.errors import InputError, RunError
from config import parser
from data import label_journal
from data.label_names import read_label_names
from data.samples import read_samples
from other import data_reconstruction_dir2txt, demo_data
from other.data_reconstruction_dir2txt import convert
from runs import run_folder


@pytest.fixture
def source(tmp_path):
    """An empty folder to fill with classes."""
    path = tmp_path / "source"
    path.mkdir()
    return path


def put(source, *paths):
    """Files whose bytes are their own path, so that a mix-up shows."""
    for path in paths:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(path.encode())


def read_back(target):
    """{original path: class name} of a converted folder, through the strict reader."""
    names = read_label_names(os.path.join(target, "label.json"))
    samples = read_samples(target, names)
    found = {}
    for name, label in zip(samples.file_names, samples.class_ids):
        with open(os.path.join(target, name), "rb") as file:
            found[file.read().decode()] = names[label]
    assert len(found) == len(samples.file_names)
    return found


def check(source, target, *paths):
    """Converts, and holds each image's bytes and class to its own path."""
    put(source, *paths)
    result = convert(str(source), str(target))
    assert read_back(target) == {path: os.path.dirname(path) for path in paths}
    return result


def leftovers(tmp_path):
    return sorted(name for name in os.listdir(tmp_path) if name != "source")


# dir2txt

PLAIN = {"group": None, "how": "copy", "split": None, "workers": 1, "dry_run": False}


def test_two_classes(source, tmp_path):
    result = check(source, tmp_path / "out", "glass/1.jpg", "cardboard/2.png", "glass/3.JPG")
    assert result == {
        "target": str(tmp_path / "out"), "images": 3,
        "classes": {"cardboard": 1, "glass": 2}, "left_out": [],
    }
    assert read_label_names(tmp_path / "out" / "label.json") == ("cardboard", "glass")
    assert (tmp_path / "out" / "1.txt").read_text() == "1.jpg, 1\n"
    assert sorted(os.listdir(tmp_path / "out")) == [
        "1.jpg", "1.txt", "2.png", "2.txt", "3.JPG", "3.txt", "converted_from.json", "label.json"
    ]
    assert leftovers(tmp_path) == ["out"]


def test_the_source_stays_as_it_is(source, tmp_path):
    check(source, tmp_path / "out", "a/1.jpg", "b/1.jpg")
    assert (source / "a" / "1.jpg").read_bytes() == b"a/1.jpg"
    assert sorted(os.listdir(source)) == ["a", "b"]


def test_nested_classes(source, tmp_path):
    check(source, tmp_path / "out", "waste/glass/1.jpg", "waste/metal/2.jpg", "waste/3.jpg",
          "other/glass/4.jpg")
    assert read_label_names(tmp_path / "out" / "label.json") == (
        "other/glass", "waste", "waste/glass", "waste/metal"
    )


def test_classes_are_numbered_in_the_order_of_their_names(source, tmp_path):
    check(source, tmp_path / "out", "b/1.jpg", "B/2.jpg", "a/3.jpg", "10/4.jpg", "9/5.jpg")
    assert read_label_names(tmp_path / "out" / "label.json") == ("9", "10", "B", "a", "b")


def test_the_same_name_in_two_classes(source, tmp_path):
    check(source, tmp_path / "out", "a/1.jpg", "b/1.jpg", "b/2.jpg")
    names = {name for name in os.listdir(tmp_path / "out") if name.endswith(".jpg")}
    assert names == {"a_1.jpg", "b_1.jpg", "2.jpg"}


def test_one_stem_with_two_endings(source, tmp_path):
    check(source, tmp_path / "out", "a/1.jpg", "a/1.png", "b/1.gif")


def test_names_that_differ_in_case_only(source, tmp_path):
    """They would be one file on the disks of Windows and macOS."""
    check(source, tmp_path / "out", "a/Img.jpg", "b/img.JPG", "c/IMG.png", "c/straße.jpg",
          "d/STRASSE.jpg")
    stems = [os.path.splitext(name)[0].casefold() for name in os.listdir(tmp_path / "out")
             if not name.endswith((".txt", ".json"))]
    assert len(set(stems)) == len(stems) == 5


def test_a_made_up_name_that_exists_already(source, tmp_path):
    # a/1.jpg becomes a_1.jpg, which c has; a_b/1 and a/b/1 both become a_b_1.
    check(source, tmp_path / "out", "a/1.jpg", "b/1.jpg", "c/a_1.jpg", "c/A_1_2.jpg",
          "a/b/1.jpg", "a_b/1.jpg")
    assert (tmp_path / "out" / "a_1.jpg").read_bytes() == b"c/a_1.jpg"


@pytest.mark.parametrize("name", [
    "with blanks", "a, b", "comma,", "it's", 'say "so"', "玻璃 瓶", "dots.in.it", "percent%20", "é",
])
def test_unusual_names(source, tmp_path, name):
    check(source, tmp_path / "out", f"{name}/{name}.jpg", f"{name}/2.jpg", f"z/{name}.jpg",
          f"y/alone {name}.png", f"y/{name} alone.png")


def test_blanks_around_the_name_of_a_class_do_not_count(source, tmp_path):
    put(source, "glass /1.jpg", " glass/2.jpg", "metal / can/3.jpg")
    assert convert(str(source), str(tmp_path / "out"))["classes"] == {"glass": 2, "metal/can": 1}


@pytest.mark.parametrize("name, written", [
    ("a\nb.jpg", "a_b.jpg"), ("a\r\nb.jpg", "a__b.jpg"), ("\ufeffa.jpg", "_a.jpg"),
])
def test_a_name_that_no_text_file_can_hold_is_changed(source, tmp_path, name, written):
    put(source, f"glass/{name}", "metal/x.png")
    convert(str(source), str(tmp_path / "out"))
    samples = read_samples(str(tmp_path / "out"), ("glass", "metal"))
    assert sorted(samples.file_names) == sorted([written, "x.png"])


def test_unusual_name_that_stays(source, tmp_path):
    """A name that no other image has is kept, and is read back."""
    names = ("with blanks", "a, b", "comma,", "it's", 'say "so"', "玻璃 瓶")
    check(source, tmp_path / "out", *(f"class/{name}.jpg" for name in names))
    assert {f"{name}.jpg" for name in names} <= set(os.listdir(tmp_path / "out"))


def test_other_files_are_listed_and_hidden_ones_ignored(source, tmp_path):
    put(source, "readme.md", "a/notes.txt", "a/1.xml", "a/.DS_Store", "a/._1.jpg", ".git/x.jpg")
    result = check(source, tmp_path / "out", "a/1.jpg")
    assert sorted(result["left_out"]) == ["a/1.xml", "a/notes.txt", "readme.md"]


def test_an_existing_target_is_refused(source, tmp_path):
    put(source, "a/1.jpg")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "file", "link"):
        with pytest.raises(InputError, match=f"--target: .*{name} exists"):
            convert(str(source), str(tmp_path / name))
    assert leftovers(tmp_path) == ["file", "folder", "link"]
    assert os.listdir(tmp_path / "folder") == ["mine.txt"]
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_target_is_taken(source, tmp_path):
    (tmp_path / "out").mkdir()
    check(source, tmp_path / "out", "a/1.jpg", "b/2.jpg")
    assert leftovers(tmp_path) == ["out"]


def test_a_target_within_the_source_is_refused(source):
    """The next conversion would take it for a class."""
    put(source, "a/1.jpg")
    with pytest.raises(InputError, match="--target: .*out is inside --source"):
        convert(str(source), str(source / "out"))
    assert os.listdir(source) == ["a"]


def test_images_outside_any_class_are_refused(source, tmp_path):
    put(source, "a/1.jpg", *(f"{number:02}.jpg" for number in range(12)))
    expected = "12 images are not in the folder of a class: 00.jpg.*and 2 more"
    with pytest.raises(InputError, match=expected):
        convert(str(source), str(tmp_path / "out"))
    assert leftovers(tmp_path) == []


def test_no_images_and_no_source(source, tmp_path):
    put(source, "a/notes.txt")
    with pytest.raises(InputError, match="--source: .*no images.*\\.jpg"):
        convert(str(source), str(tmp_path / "out"))
    with pytest.raises(InputError, match="--source: .*nowhere: no such folder"):
        convert(str(tmp_path / "nowhere"), str(tmp_path / "out"))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error, caught", [
    (OSError(errno.ENOSPC, "No space left on device", "source", None, "disk"), RunError),
    (OSError(errno.EACCES, "Permission denied", "source"), InputError),
    (KeyboardInterrupt(), KeyboardInterrupt),
])
def test_nothing_half_written_stays(source, tmp_path, monkeypatch, error, caught):
    put(source, "a/1.jpg", "a/2.jpg", "b/3.jpg")
    copyfile, calls = shutil.copyfile, []

    def fails(one, two):
        calls.append(one)
        if len(calls) == 3:
            raise error
        return copyfile(one, two)

    monkeypatch.setattr(shutil, "copyfile", fails)
    with pytest.raises(caught) as found:
        convert(str(source), str(tmp_path / "out"))
    assert len(calls) == 3 and leftovers(tmp_path) == []
    if caught is RunError:
        assert str(found.value).startswith("disk cannot be written: No space left on device; the ")
    if caught is InputError:
        assert str(found.value) == "source: Permission denied"
    monkeypatch.undo()
    convert(str(source), str(tmp_path / "out"))  # and it can be tried again
    assert len(read_back(tmp_path / "out")) == 3


def test_a_foreign_folder_beside_the_target_is_not_deleted(source, tmp_path):
    put(source, "a/1.jpg")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.tex").write_text("mine")
    try:
        convert(str(source), str(tmp_path / "out"))
    except InputError:
        pass  # to refuse is fine as well
    assert (tmp_path / "out.partial" / "thesis.tex").read_text() == "mine"


def test_main_prints_one_line_of_json(source, tmp_path, capsys):
    put(source, "玻璃/1.jpg", "b/2.jpg", "notes.txt")
    options = SimpleNamespace(**PLAIN, source=str(source), target=str(tmp_path / "out"), json=True)
    data_reconstruction_dir2txt.main(options)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0]) == {
        "target": str(tmp_path / "out"), "images": 2, "classes": {"b": 1, "玻璃": 1},
        "left_out": ["notes.txt"],
    }


def test_main_prints_a_table(source, tmp_path, capsys):
    put(source, "glass/1.jpg", "glass/2.jpg", "notes.txt")
    options = SimpleNamespace(
        **PLAIN, source=str(source), target=str(tmp_path / "out"), json=False
    )
    data_reconstruction_dir2txt.main(options)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["2", "glass"] and lines[1][:2] == ["2", "images"]
    assert "notes.txt" in lines[2]


# demo_data

PARTS = {"train_datasets": 1257, "val_datasets": 180, "test_datasets": 360}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The path of the demo data, written once."""
    target = tmp_path_factory.mktemp("demo") / "digits"
    result = demo_data.write(str(target))
    assert result == {"target": str(target), "images": PARTS}
    return target


def read_part(demo, part):
    names = read_label_names(demo / part / "label.json")
    assert names == tuple("0123456789")
    return read_samples(str(demo / part), names)


def test_demo_parts_hold_every_digit_once(demo):
    assert sorted(os.listdir(demo)) == sorted(PARTS)
    seen = []
    for part, count in PARTS.items():
        names = read_part(demo, part).file_names
        assert len(names) == count
        seen += names
    assert sorted(seen) == [f"digit_{number:04}.png" for number in range(1797)]


def test_demo_labels_and_pixels_are_scikit_learns(demo):
    digits = load_digits()
    largest = mean = 0
    for part in PARTS:
        samples = read_part(demo, part)
        numbers = [int(name[6:10]) for name in samples.file_names]
        assert np.array_equal(samples.class_ids, digits.target[numbers])
        for name, number in list(zip(samples.file_names, numbers))[::10]:
            image = cv2.imread(str(demo / part / name), cv2.IMREAD_UNCHANGED)
            assert image.shape == (32, 32) and image.dtype == np.uint8
            # The middle 2 x 2 of each 4 x 4 lie nearest to the scan's pixel.
            small = image.reshape(8, 4, 8, 4)[:, 1:3, :, 1:3].mean(axis=(1, 3))
            scan = digits.images[number] * 255 / 16
            largest = max(largest, np.abs(small - scan).max())
            mean = max(mean, np.abs(small - scan).mean())
    # No two different scans are nearer than 11 on average.
    assert mean < 8 and largest < 25


def test_demo_classes_have_equal_shares(demo):
    shares = np.bincount(load_digits().target) / 1797
    for part, count in PARTS.items():
        found = np.bincount(read_part(demo, part).class_ids, minlength=10)
        assert np.abs(found - shares * count).max() <= 1.5  # whole images, rounded twice


def test_demo_is_repeatable_and_the_seed_counts(tmp_path, monkeypatch):
    # What a scan looks like is another test's business; here only what goes where.
    placed = []
    monkeypatch.setattr(
        demo_data, "_write_digit", lambda folder, name, digits, number: placed.append(
            (os.path.basename(folder), name, int(number))
        )
    )
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        demo_data.write(str(tmp_path / name), seed)
    one, two, three = placed[:1797], placed[1797:3594], placed[3594:]
    assert one == two and sorted(one) != sorted(three)


def test_demo_existing_target_is_refused(tmp_path):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(InputError, match="--target: .* exists"):
        demo_data.write(str(tmp_path))
    assert os.listdir(tmp_path) == ["mine"]


def test_demo_leaves_nothing_half_written(tmp_path, monkeypatch):
    written = []

    def fails(folder, file_name, digits, index):
        written.append(file_name)
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(demo_data, "_write_digit", fails)
    with pytest.raises(RunError, match="--target: .*digits cannot be written: No space left"):
        demo_data.write(str(tmp_path / "digits"))
    assert os.listdir(tmp_path) == []


def test_demo_prints_one_line_of_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo_data, "_write_digit", lambda *arguments: None)
    demo_data.main(SimpleNamespace(target=str(tmp_path / "digits"), seed=0, json=True))
    assert json.loads(capsys.readouterr().out) == {
        "target": str(tmp_path / "digits"), "images": PARTS
    }


def test_converting_again_keeps_corrections(source, tmp_path):
    """Also where a photo has another name there; what was moved by hand since is left alone."""
    put(source, "glass/a.png", "glass/b.png", "glass/c.png", "glass/d.png", "metal/a.png")
    first, again = str(tmp_path / "first"), str(tmp_path / "again")
    assert "corrected" not in convert(str(source), first)
    options = parser.parse("train", ["--input_size", "32"])
    run_folder.create(str(tmp_path / "run"), options, ("glass", "metal"), False)
    (tmp_path / "run" / run_folder.BEST).write_bytes(b"")
    table = tmp_path / "table.csv"
    table.write_text("path,label,new_label\nfirst/glass_a.png,glass,metal\n"
                     "first/b.png,glass,metal\nfirst/c.png,glass,metal\n")
    words = ["--run", str(tmp_path / "run"), "--csv", str(table)]
    assert run.main(["--mode", "relabel", *words]) == 0
    (source / "paper").mkdir()
    os.rename(source / "glass" / "c.png", source / "paper" / "c.png")
    os.rename(source / "glass" / "b.png", source / "glass" / "z.png")
    log_path = str(source / label_journal.FILE_NAME)
    for new_label in ("glass", ""):  # confirmed, and taken back
        label_journal.add(log_path, str(source / "glass" / "d.png"), "glass", new_label)
    assert convert(str(source), again)["corrected"] == 2
    assert read_back(again) == {
        "glass/a.png": "metal", "glass/b.png": "metal", "glass/c.png": "paper",
        "glass/d.png": "glass", "metal/a.png": "metal",
    }


def test_what_was_moved_has_no_origin(source, tmp_path):
    put(source, "glass/a.png", "metal/b.png")
    convert(str(source), str(tmp_path / "target"), how="move")
    assert "converted_from.json" not in os.listdir(tmp_path / "target")
