"""Labelled images in three layouts, by one reader."""

import os
import unicodedata

import numpy as np
import pytest
from conftest import write_image, write_samples

from common.errors import InputError
from data import csv_labels
from data.class_spelling import natural_key, spelling_variants
from data.image_files import describe_left_out, find_images, walk_images
from data.label_names import write_label_names
from data.labelled_data import list_labelled, read_labelled


def put(folder, *names, data=b"x"):
    for name in names:
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def by_name(data):
    """The class name of each image, by file name."""
    samples, class_names, _ = data
    return {
        name.replace(os.sep, "/"): class_names[class_id]
        for name, class_id in zip(samples.file_names, samples.class_ids)
    }


def refusal(path, *words):
    with pytest.raises(InputError) as error:
        read_labelled(str(path), *words)
    return str(error.value)


# Folders


def test_a_folder_per_class(tmp_path, capsys):
    put(tmp_path, "glass/1.jpg", "waste/can/2.HEIC", "waste/3.jfif", "glass/note.docx", "a.mov")
    data = read_labelled(str(tmp_path))
    assert by_name(data) == {"glass/1.jpg": "glass", "waste/can/2.HEIC": "waste/can",
                             "waste/3.jfif": "waste"}
    assert data.class_names == ("glass", "waste", "waste/can")
    assert data.samples.class_ids.dtype == np.int32
    line = capsys.readouterr().err
    assert line == (f"{tmp_path}: one folder per class, 1 video, 1 other file left out: 3 images "
                    "of 3 classes\n")


def test_classes_are_in_natural_order(tmp_path):
    put(tmp_path, "10/1.jpg", "2/1.jpg", "b/1.jpg", "B/1.jpg", "x9/1.jpg", "x10/1.jpg", "01/1.jpg")
    assert read_labelled(str(tmp_path)).class_names == ("01", "2", "10", "B", "b", "x9", "x10")


def test_every_name_has_a_place_in_the_order():
    names = ["", "a²", "²", "１２", "a10b10", "a10b2", "a1b", "a01", "a1", "1"]
    assert sorted(names, key=natural_key) == [
        "", "1", "１２", "a01", "a1", "a1b", "a10b2", "a10b10", "a²", "²"
    ]


def test_spellings_of_one_class(tmp_path, capsys):
    composed, decomposed = (unicodedata.normalize(form, "métal") for form in ("NFC", "NFD"))
    put(tmp_path, f"{composed}/1.jpg", f"{decomposed}/2.jpg", f"{composed} /3.jpg", "glass/4.jpg",
        "Glass/5.jpg")
    data = read_labelled(str(tmp_path))
    assert data.class_names == ("Glass", "glass", composed)
    assert list(by_name(data).values()).count(composed) == 3
    notes = capsys.readouterr().err.splitlines()[1:]
    assert len(notes) == 2
    assert notes[0].endswith("'Glass', 'glass' are taken for 2 classes: 'Glass', 'glass'")
    assert notes[1].endswith(f"are taken for one class: {composed!r}")
    assert repr(composed + " ") in notes[1]


def test_variants_are_found_whatever_they_differ_by():
    decomposed = unicodedata.normalize("NFD", "É")
    assert spelling_variants(["é", decomposed, "x", "STRASSE", "straße ", "y"]) == [
        ["STRASSE", "straße "], sorted(["é", decomposed])
    ]


def test_what_systems_leave_is_passed_over_in_silence(tmp_path, capsys):
    put(tmp_path, "a/1.jpg", "b/2.jpg", "a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "a/Thumbs.db",
        "__MACOSX/a/._1.jpg", "a/._1.jpg", "b/.ipynb_checkpoints/2-checkpoint.jpg", "desktop.ini",
        ".DS_Store", "#recycle/3.jpg")
    assert by_name(read_labelled(str(tmp_path))) == {"a/1.jpg": "a", "b/2.jpg": "b"}
    assert "left out" not in capsys.readouterr().err


def test_links_to_folders_are_told(tmp_path, capsys):
    put(tmp_path, "store/a/1.jpg", "store/b/1.jpg")
    (tmp_path / "linked").mkdir()
    for name in "ab":
        (tmp_path / "linked" / name).symlink_to(tmp_path / "store" / name)
    assert "2 links to folders, which are not followed" in refusal(tmp_path / "linked")
    put(tmp_path / "linked", "c/1.jpg")
    read_labelled(str(tmp_path / "linked"))
    assert "2 links to folders not followed" in capsys.readouterr().err


def test_parts_of_a_data_set_are_not_taken_for_classes(tmp_path):
    put(tmp_path, "train/a/1.jpg", "val/a/2.jpg", "Test/a/3.jpg")
    message = refusal(tmp_path)
    assert "Test, train, val look like parts" in message
    assert message.endswith(f"for example {tmp_path / 'train'}")
    put(tmp_path, "glass/1.jpg")  # a class may have such a name beside others
    assert "train/a" in read_labelled(str(tmp_path)).class_names


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\rb.jpg", "\ufeffa.jpg"])
def test_names_that_tables_cannot_hold(tmp_path, name):
    put(tmp_path, f"a/{name}", "b/1.jpg")
    message = refusal(tmp_path)
    assert repr(f"a{os.sep}{name}") in message and "rename" in message and "\n" not in message


def test_no_images(tmp_path):
    put(tmp_path, "a/1.jxl", "b/2.cr2", "b/3.cr2")
    message = refusal(tmp_path)
    assert "no images; looked for .jpg" in message and "2 RAW, 1 JPEG XL left out" in message
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    """Even root, who runs many a test, may read every folder: so it is refused by hand."""
    put(tmp_path, "a/1.jpg", "b/1.jpg")
    scan = os.scandir

    def refuse(path="."):
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert refusal(tmp_path) == f"{tmp_path / 'b'}: cannot be read: Permission denied"


def test_an_image_beside_the_folders_of_classes(tmp_path):
    put(tmp_path, "a/1.jpg", "b/2.jpg", "cover.jpg")
    assert "1 images are not in the folder of a class: cover.jpg" in refusal(tmp_path)


def test_a_label_json_gives_the_order(tmp_path):
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    write_label_names(tmp_path, ["b", "c", "a"])
    data = read_labelled(str(tmp_path))
    assert data.class_names == ("b", "c", "a") and data.samples.class_ids.tolist() == [2, 0]
    write_label_names(tmp_path, ["b", "c"])
    assert "the class 'a' is not one of those of" in refusal(tmp_path)
    (tmp_path / "other.json").write_text('{"0": "a", "1": "b"}')
    data = read_labelled(str(tmp_path), None, None, str(tmp_path / "other.json"))
    assert data.class_names == ("a", "b")


# The classes of a run


def test_a_part_may_lack_a_class(tmp_path):
    put(tmp_path, "c/1.jpg", "a/2.jpg", "b/notes.txt")
    data = read_labelled(str(tmp_path), ("a", "b", "c"), "the run")
    assert by_name(data) == {"c/1.jpg": "c", "a/2.jpg": "a"}
    assert data.class_names == ("a", "b", "c") and data.samples.class_ids.tolist() == [0, 2]


def test_a_class_that_the_run_does_not_know(tmp_path):
    put(tmp_path, "glas/1.jpg", "metal/2.jpg")
    message = refusal(tmp_path, ("glass", "metal"), "the run")
    assert "the class 'glas' is not one of those of the run" in message
    assert "did you mean glass?" in message


def test_the_spelling_of_a_run_counts(tmp_path):
    """A run from another system may name its classes in another Unicode form, or with blanks."""
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    put(tmp_path, f"{decomposed}/1.jpg", "x/2.jpg")
    data = read_labelled(str(tmp_path), (composed, "x "), "the run")
    assert sorted(by_name(data).values()) == sorted([composed, "x "])


def test_label_files_of_a_part_are_matched_by_name(tmp_path, capsys):
    folder = write_samples(tmp_path / "part", 1, {"c": (0, 0, 0), "a": (9, 9, 9)})
    data = read_labelled(folder, ("a", "b", "c"), "the run")
    assert data.samples.class_ids.tolist() == [2, 0]
    assert "matched by name with those of the run" in capsys.readouterr().err
    assert "did you mean c?" not in refusal(folder, ("a", "b"), "the run")
    assert "the class 'c' is not one of those of the run" in refusal(folder, ("a", "b"), "the run")


# CSV


def test_a_csv(tmp_path, capsys):
    put(tmp_path, "in/1.jpg", "in/2.jpg", "3.png")
    (tmp_path / "table.csv").write_text(
        f"path,label,note\nin/1.jpg,b10,x\n{tmp_path}/3.png, b2 ,\nin\\2.jpg,b10,y\n",
        encoding="utf-8-sig",
    )
    data = read_labelled(str(tmp_path / "table.csv"))
    assert data.class_names == ("b2", "b10") and data.samples.class_ids.tolist() == [1, 0, 1]
    for name in data.samples.file_names:
        assert os.path.isfile(os.path.join(data.samples.folder, name))
    assert "table.csv: a CSV: 3 images of 2 classes" in capsys.readouterr().err


def test_a_csv_in_the_current_folder(tmp_path, monkeypatch):
    put(tmp_path, "1.jpg")
    (tmp_path / "table.csv").write_text("path,label\n1.jpg,a\n")
    monkeypatch.chdir(tmp_path)
    assert csv_labels.read_csv("table.csv") == (".", ["1.jpg"], ["a"])


# The sample format


def test_images_without_any_text_file_are_pointed_to_folders(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg")
    write_label_names(tmp_path, ["a"])
    assert "give each class a folder of its own" in refusal(tmp_path)


def test_what_the_sample_format_leaves_out_is_counted(tmp_path, capsys):
    folder = write_samples(tmp_path / "data", 1)
    put(folder, "film.mp4", "@eaDir/x.jpg", "Thumbs.db")
    read_labelled(folder)
    assert capsys.readouterr().err == f"{folder}: sample format, 1 video left out: 3 images\n"


# Leniently, for data that may have changed


def test_a_lenient_list(tmp_path):
    assert list_labelled(str(tmp_path / "gone")).file_names == []
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    assert list_labelled(str(tmp_path))[1:] == (["a/1.jpg", "b/2.jpg"], ["a", "b"])
    folder = write_samples(tmp_path / "data", 1)
    assert list_labelled(folder).image_classes == [None] * 3


# Folders within folders, for prediction


def test_folders_within_folders_are_searched(tmp_path, capsys):
    put(tmp_path, "1.jpg", "1.txt", "label.json", "in/deep/2.HEIC", "in/clip.mov", "in/.hidden.jpg",
        "@eaDir/1.jpg", "in/readme.md", "in/archive.zip")
    assert find_images([str(tmp_path)]) == [
        str(tmp_path / "1.jpg"), str(tmp_path / "in" / "deep" / "2.HEIC")
    ]
    assert capsys.readouterr().err == f"{tmp_path}: 1 video, 1 archive, 1 other file left out\n"
    with pytest.raises(InputError, match="--image: .*no images; looked for .jpg"):
        put(tmp_path, "empty/x.pdf")
        find_images([str(tmp_path / "empty")])


def test_files_and_patterns_are_taken_as_before(tmp_path):
    put(tmp_path, "a[1].jpg", "b.dat", "in/c.png")
    given = [str(tmp_path / "a[1].jpg"), str(tmp_path / "b.dat"), str(tmp_path / "**" / "*.png")]
    assert find_images(given + given) == [*given[:2], str(tmp_path / "in" / "c.png")]
    with pytest.raises(InputError, match="no such image"):
        find_images([str(tmp_path / "*.bmp")])


def test_walking_names_the_option(tmp_path):
    with pytest.raises(InputError, match="^--source: .*no such folder"):
        walk_images(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("names, said", [
    ([], ""),
    (["a.mov"], "1 video left out"),
    (["a.x", "b"], "2 other files left out"),
    (["a.MP4", "b.jxl", "c.DNG", "d.jp2", "e.pdf", "f.svg", "g.psd", "h"],
     "1 video, 1 RAW, 1 JPEG XL, 1 JPEG 2000, 1 PDF, 1 SVG, 1 Photoshop, 1 other file left out"),
])
def test_counts_of_what_is_left_out(names, said):
    assert describe_left_out(names) == said


def test_an_image_of_each_layout_is_the_same_image(tmp_path):
    """The three layouts of the same photos give the same classes."""
    for label in "ab":
        for number in range(2):
            path = tmp_path / "folders" / label / f"{label}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path)
    table = tmp_path / "table.csv"
    lines = [f"folders/{label}/{label}{number}.png,{label}" for label in "ab" for number in "01"]
    table.write_text("path,label\n" + "\n".join(lines) + "\n")
    one, two = (read_labelled(str(path)) for path in (tmp_path / "folders", table))
    assert one.class_names == two.class_names
    assert one.samples.class_ids.tolist() == two.samples.class_ids.tolist()
