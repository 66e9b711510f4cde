"""data/samples.py and data/splitting.py: the strict reader, label.json and the split by hash."""

import hashlib
import json
import os
import tracemalloc
import unicodedata

import numpy as np
import pytest

from common.errors import InputError
from data.label_names import check_labels, label_names_json, read_label_names, write_label_names
from data.samples import Samples, read_samples, sample_line, text_file_name, write_sample
from data.splitting import split

NAMES = ("red", "green", "blue")


def put(folder, image, text):
    """An image file, never decoded here, and its text file with the bytes `text`."""
    (folder / image).write_bytes(b"no picture")
    stem = os.path.splitext(image)[0]
    (folder / f"{stem}.txt").write_bytes(text.encode() if isinstance(text, str) else text)


def refusal(folder, names=NAMES, **options):
    """The message with which the folder is refused."""
    with pytest.raises(InputError) as found:
        read_samples(str(folder), names, **options)
    assert "\n" not in str(found.value)
    return str(found.value)


# Reading


def test_reads_names_and_labels(folder):
    samples = read_samples(folder, NAMES)
    assert samples.folder == folder
    assert samples.file_names == [f"img_{label}_{n}.png" for label in range(3) for n in range(4)]
    assert samples.class_ids.dtype == np.int32
    assert samples.class_ids.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_order_does_not_depend_on_the_directory(tmp_path):
    for name in ("b.jpg", "a.png", "d.bmp", "c.webp"):
        put(tmp_path, name, f"{name}, 0")
    assert read_samples(tmp_path, NAMES).file_names == ["a.png", "b.jpg", "c.webp", "d.bmp"]


@pytest.mark.parametrize("text", [
    "img_1.jpg, 2", "img_1.jpg, 2\n", "img_1.jpg, 2\r\n", "img_1.jpg,2", " img_1.jpg ,  2 \n",
    "\ufeffimg_1.jpg, 2", "\ufeffimg_1.jpg, 2\r\n", "img_1.jpg, 2\n\n",
])
def test_accepted_lines(tmp_path, text):
    put(tmp_path, "img_1.jpg", text)
    assert read_samples(tmp_path, NAMES).class_ids.tolist() == [2]


@pytest.mark.parametrize("name", [
    "one, two, 3.jpg", "with blanks.jpg", "it's \"quoted\".jpg", "玻璃瓶 1.jpg", "a.b.c.jpg",
    "UPPER.JPG", "tail,.jpeg", " leading blank.jpg", "\u3000wide blank.jpg",
])
def test_written_names_are_read_back(tmp_path, name):
    put(tmp_path, name, "")
    write_sample(tmp_path, name, 1)
    samples = read_samples(tmp_path, NAMES)
    assert samples.file_names == [name] and samples.class_ids.tolist() == [1]


def test_what_is_written(tmp_path):
    """The formats, byte for byte."""
    assert sample_line("one, two.jpg", 12) == "one, two.jpg, 12\n"
    assert text_file_name("a.b.JPG") == "a.b.txt"
    assert text_file_name(os.path.join("x.y", "a.b.JPG")) == os.path.join("x.y", "a.b.txt")
    write_sample(tmp_path, "玻璃.jpg", 0)
    assert (tmp_path / "玻璃.txt").read_bytes() == "玻璃.jpg, 0\n".encode()
    assert label_names_json(["a", '玻"璃']) == '{\n "0": "a",\n "1": "玻\\"璃"\n}\n'
    write_label_names(tmp_path, ["a", '玻"璃'])
    assert (tmp_path / "label.json").read_text("utf-8") == label_names_json(["a", '玻"璃'])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_of_either_form_name_the_same_image(tmp_path, form):
    name = unicodedata.normalize(form, "café.jpg")
    other = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], name)
    assert name != other
    put(tmp_path, name, f"{other}, 1")
    assert read_samples(tmp_path, NAMES).file_names == [name]


def test_every_extension_is_an_image_and_the_rest_is_not(tmp_path):
    endings = ("jpg", "jpeg", "png", "bmp", "webp", "gif", "tif", "tiff", "JPG")
    for number, ending in enumerate(endings):
        put(tmp_path, f"{number}.{ending}", f"{number}.{ending}, 0")
    write_label_names(tmp_path, NAMES)
    (tmp_path / "notes.md").write_text("no sample")
    (tmp_path / "._0.jpg").write_bytes(b"what macOS leaves beside every file")
    (tmp_path / ".hidden.txt").write_text("")
    assert len(read_samples(tmp_path, NAMES).file_names) == len(endings)


def test_select():
    samples = Samples("here", ["a", "b", "c"], np.array([0, 1, 2], np.int32))
    chosen = samples.select(np.array([2, 0]))
    assert chosen.folder == "here" and chosen.file_names == ["c", "a"]
    assert chosen.class_ids.tolist() == [2, 0]


# What is refused, and how


@pytest.mark.parametrize("text, line, parts", [
    ("img_1.jpg, cat", 1, ["'cat'", "not a whole number"]),
    ("img_1.jpg, 1.0", 1, ["'1.0'", "not a whole number"]),
    ("img_1.jpg, ", 1, ["''", "not a whole number"]),
    ("img_1.jpg, ²", 1, ["'²'", "not a whole number"]),
    ("img_1.jpg, 1_0", 1, ["'1_0'", "not a whole number"]),
    ("img_1.jpg, --1", 1, ["'--1'", "not a whole number"]),
    ("img_1.jpg, -1", 1, ["-1", "0 to 2"]),
    ("img_1.jpg, 3", 1, ["3", "label.json", "0 to 2"]),
    ("img_2.jpg, 0", 1, ["'img_2.jpg'", "'img_1.jpg'"]),
    ("IMG_1.JPG, 0", 1, ["'IMG_1.JPG'", "'img_1.jpg'"]),
    ("../img_1.jpg, 0", 1, ["'../img_1.jpg'", "'img_1.jpg'"]),
    ("/data/img_1.jpg, 0", 1, ["'/data/img_1.jpg'", "'img_1.jpg'"]),
    (", 0", 1, ["''", "'img_1.jpg'"]),
    ("0", 1, ["'0'", "no comma", "'img_1.jpg, CLASS'"]),
    ("img_1.jpg 0", 1, ["'img_1.jpg 0'", "no comma"]),
    ("", 1, ["no comma"]),
    ("img_1.jpg, 0\nimg_2.jpg, 1\n", 2, ["more than one line"]),
    ("img_1.jpg, 0\rimg_2.jpg, 1", 2, ["more than one line"]),
    ("img_1.jpg, 0\n" * 1000, 1, ["longer than 4096 bytes"]),
    ("é, 0".encode("latin-1"), 1, ["not UTF-8"]),
    ("img_1.jpg, 0".encode("utf-16"), 1, ["not UTF-8"]),
])
def test_malformed_lines_are_refused_with_file_and_line(tmp_path, text, line, parts):
    put(tmp_path, "img_1.jpg", text)
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'img_1.txt'}:{line}: ")
    for part in parts:
        assert part in message


def test_the_message_names_the_given_place_of_the_labels(tmp_path):
    put(tmp_path, "img_1.jpg", "img_1.jpg, 3")
    assert "mine/label.json" in refusal(tmp_path, labels_path="mine/label.json")


def test_images_without_text_are_counted_and_ten_are_named(tmp_path):
    for number in range(13):
        (tmp_path / f"lost_{number:02}.jpg").write_bytes(b"")
    put(tmp_path, "img_1.jpg", "img_1.jpg, 0")
    message = refusal(tmp_path)
    assert "13 of 14 images have no text file" in message
    assert "lost_09.jpg and 3 more" in message
    assert "lost_10" not in message and "img_1" not in message


def test_texts_without_image_are_counted_and_ten_are_named(tmp_path):
    for number in range(12):
        (tmp_path / f"lost_{number:02}.txt").write_text("x")
    put(tmp_path, "img_1.jpg", "img_1.jpg, 0")
    message = refusal(tmp_path)
    assert "12 text files have no image" in message
    assert "lost_09.txt and 2 more" in message
    assert "lost_10" not in message and "img_1" not in message


def test_two_images_of_one_stem(tmp_path):
    put(tmp_path, "img_1.jpg", "img_1.jpg, 0")
    put(tmp_path, "img_1.png", "img_1.png, 0")
    put(tmp_path, "img_1.k.jpg", "img_1.k.jpg, 0")  # sorts between the two by name
    message = refusal(tmp_path)
    assert str(tmp_path) in message and "1 pairs of images share a stem" in message
    assert "img_1.jpg" in message and "img_1.png" in message and "img_1.k" not in message


def test_empty_folder(tmp_path):
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}: no samples") and ".jpg" in message
    assert "dir2txt" not in message


def test_no_such_folder_and_a_file_instead(tmp_path):
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such folder"
    (tmp_path / "file").write_bytes(b"")
    message = refusal(tmp_path / "file")
    assert message.startswith(f"{tmp_path / 'file'}: is a file")


# label.json


def labels_refusal(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as found:
        read_label_names(path)
    assert str(found.value).startswith(str(path))
    return str(found.value)


def test_label_names_in_the_order_of_their_ids(tmp_path):
    path = tmp_path / "label.json"
    table = {str(number): f"class {number}" for number in range(12)}
    path.write_text(json.dumps(dict(sorted(table.items()))))  # "10" comes before "2"
    assert read_label_names(path) == tuple(f"class {number}" for number in range(12))


def test_label_names_with_bom_and_accents(tmp_path):
    path = tmp_path / "label.json"
    path.write_text('\ufeff{"0": "玻璃", "1": "café"}', encoding="utf-8")
    assert read_label_names(path) == ("玻璃", "café")


def test_written_label_names_are_read_back(tmp_path):
    names = ("玻璃", 'with "quotes"', "a, b", "waste/glass")
    write_label_names(tmp_path, names)
    assert read_label_names(tmp_path / "label.json") == names


@pytest.mark.parametrize("content, parts", [
    ('{"0": "a", "2": "b"}', ["id 1 is missing", "0 to 1", "0, 2"]),
    ('{"1": "a", "2": "b"}', ["id 0 is missing"]),
    ('{"00": "a"}', ["id 0 is missing"]),
    ('{"0": "a", "-1": "b"}', ["id 1 is missing"]),
    ('{"glass": 0}', ["id 0 is missing", "glass"]),
    ('{"0": "a", "1": "b", "0": "c"}', ["'0' appears twice"]),
    ('{"0": "a", "1": "b", "2": "a"}', ["'a'", "id 0", "id 2"]),
    ('{"0": ""}', ["id 0", "''"]),
    ('{"0": "  "}', ["id 0", "is not a name"]),
    ('{"0": 7}', ["id 0", "7", "is not a name"]),
    ('{"0": null}', ["id 0", "is not a name"]),
    ('{"0": ["a"], "1": {"x": 1}}', ["id 0", "is not a name"]),
    ("{}", ["must map ids to class names"]),
    ('["a", "b"]', ["must map ids to class names"]),
    ('"a"', ["must map ids to class names"]),
    ("[" * 100_000, ["JSON"]),
    (b'{"0": "caf\xe9"}', ["not UTF-8"]),
])
def test_label_names_refused(tmp_path, content, parts):
    message = labels_refusal(tmp_path / "label.json", content)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("content, line", [
    ('{"0": "a",\n "1": "b",\n}', (2, 3)), ('{\n"0": "a"\n"1": "b"}', (3,)), ("", (1,)),
])
def test_what_is_not_json_is_refused_with_its_line(tmp_path, content, line):
    path = tmp_path / "label.json"
    message = labels_refusal(path, content)
    # For a comma too many, Python versions point at the comma or at the brace after it.
    assert any(message.startswith(f"{path}:{number}: is not JSON") for number in line)


def test_no_label_json(tmp_path):
    with pytest.raises(InputError, match="label.json: cannot be read: No such file"):
        read_label_names(tmp_path / "label.json")


def test_the_folders_own_names_must_be_the_ones_in_use(tmp_path):
    check_labels(tmp_path, ("a", "b"), "run/label.json")  # no label.json: nothing to compare
    write_label_names(tmp_path, ["a", "b"])
    check_labels(tmp_path, ("a", "b"), "run/label.json")
    for names in (("b", "a"), ("a",), ("a", "b", "c")):
        with pytest.raises(InputError) as found:
            check_labels(tmp_path, names, "run/label.json")
        assert str(found.value).startswith(f"{tmp_path / 'label.json'}: ")
        for part in ("run/label.json", "a, b instead of " + ", ".join(names)):
            assert part in str(found.value)


# Holding a part out


def write_numbered(folder, counts, first=0):
    """`counts[label]` samples a class, each with bytes of its own; returns `Samples`."""
    names, labels = [], []
    for label, count in enumerate(counts):
        for number in range(first, first + count):
            name = f"img_{label}_{number:04}.jpg"
            (folder / name).write_bytes(f"{label} {number}".encode())
            names.append(name)
            labels.append(label)
    return Samples(str(folder), names, np.array(labels, np.int32))


def share(samples, name):
    """The hash of an image's bytes as a share of 1, as the docstring of `split` has it."""
    with open(os.path.join(samples.folder, name), "rb") as file:
        return int(hashlib.sha256(file.read()).hexdigest()[:16], 16) / 16**16


def test_split_holds_out_what_hashes_below_the_fraction(tmp_path):
    samples = write_numbered(tmp_path, [150, 150])
    kept, held = split(samples, 0.2)
    expected = {name for name in samples.file_names if share(samples, name) < 0.2}
    assert set(held.file_names) == expected
    assert set(kept.file_names) == set(samples.file_names) - expected
    for part in (kept, held):
        assert part.file_names == sorted(part.file_names) and part.folder == samples.folder
        assert part.class_ids.tolist() == [int(name[4]) for name in part.file_names]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_split_shares_are_approximate(tmp_path, fraction):
    samples = write_numbered(tmp_path, [600])
    held = len(split(samples, fraction, workers=2)[1].file_names)
    assert abs(held / 600 - fraction) < 4 * np.sqrt(fraction * (1 - fraction) / 600)


def test_split_never_moves_old_samples_when_others_are_added(tmp_path):
    old = write_numbered(tmp_path, [120, 120])
    old_held = set(split(old, 0.2)[1].file_names)
    write_numbered(tmp_path, [80, 80], first=5000)
    names = sorted(os.listdir(tmp_path))
    new = Samples(str(tmp_path), names, np.array([int(name[4]) for name in names], np.int32))
    new_held = set(split(new, 0.2, workers=3)[1].file_names)
    assert new_held & set(old.file_names) == old_held
    assert new_held - old_held  # and of the new ones, some


def test_split_follows_the_bytes_and_not_the_name(tmp_path):
    samples = write_numbered(tmp_path, [60])
    held = {(tmp_path / name).read_bytes() for name in split(samples, 0.3)[1].file_names}
    renamed = []
    for name in samples.file_names:
        renamed.append("x" + name)
        os.rename(tmp_path / name, tmp_path / renamed[-1])
    again = split(samples._replace(file_names=renamed), 0.3)[1]
    assert {(tmp_path / name).read_bytes() for name in again.file_names} == held


def test_a_class_that_would_get_none_gives_its_lowest_hash(tmp_path):
    samples = write_numbered(tmp_path, [5, 3])
    lowest = [
        min((name for name in samples.file_names if name[4] == label),
            key=lambda name: share(samples, name))
        for label in "01"
    ]
    fraction = min(share(samples, name) for name in samples.file_names) / 2
    kept, held = split(samples, fraction)
    assert sorted(held.file_names) == sorted(lowest) and held.class_ids.tolist() == [0, 1]
    assert len(kept.file_names) == 6


def test_a_class_that_would_lose_all_keeps_its_highest_hash(tmp_path):
    samples = write_numbered(tmp_path, [4, 2])
    highest = [
        max((name for name in samples.file_names if name[4] == label),
            key=lambda name: share(samples, name))
        for label in "01"
    ]
    fraction = (1 + max(share(samples, name) for name in samples.file_names)) / 2
    kept, held = split(samples, fraction)
    assert sorted(kept.file_names) == sorted(highest)
    assert len(held.file_names) == 4


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_a_class_of_one_image_stays_in_training(tmp_path, fraction):
    samples = write_numbered(tmp_path, [1, 30])
    kept, held = split(samples, fraction)
    assert "img_0_0000.jpg" in kept.file_names and 0 not in held.class_ids
    assert 1 in held.class_ids and 1 in kept.class_ids


def test_split_names_a_file_that_cannot_be_read(tmp_path):
    samples = write_numbered(tmp_path, [3])
    os.remove(tmp_path / samples.file_names[1])
    with pytest.raises(InputError, match="img_0_0001.jpg: No such file"):
        split(samples, 0.5)


# Memory


def test_reading_costs_little_memory_a_sample(tmp_path):
    """Below 300 bytes a sample, kept and at the worst moment."""
    def cost(folder):
        tracemalloc.start()
        samples = read_samples(folder, NAMES)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return kept, peak, len(samples.file_names)

    folders = []
    for count in (200, 3000):
        folders.append(tmp_path / str(count))
        folders[-1].mkdir()
        for name in write_numbered(folders[-1], [count]).file_names:
            write_sample(folders[-1], name, 0)
    cost(folders[0])  # what is imported or cached once is none of a sample's cost
    small, large = (cost(folder) for folder in folders)
    assert (small[2], large[2]) == (200, 3000)
    assert (large[0] - small[0]) / 2800 < 300
    assert (large[1] - small[1]) / 2800 < 300
