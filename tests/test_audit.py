"""other/data_del.py and other/data_quality/: each fault is found, once, and nothing else."""

import base64
import csv
import io
import json
import os
import re
import shlex
import threading
import warnings
from collections import Counter

import cv2
import numpy as np
import pytest
from conftest import write_image
from heic_files import HEIC
from PIL import Image, ImageEnhance, ImageOps, PngImagePlugin

import run as front_door
from common.errors import InputError
from config import parser
from data import photo_files
from data.label_names import write_label_names
from data.samples import write_sample
from other import data_del
from other.data_quality import duplicates, image_checks
from other.data_quality.findings import Findings
from other.reporting import html_pages

NAMES = ["glass", "metal", "paper"]
WIDTH, HEIGHT = 64, 48


def texture(seed, width=WIDTH, height=HEIGHT):
    """A picture like no other: large random patches, uint8 (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(form="JPEG", seed=0, image=None, **settings):
    image = Image.fromarray(texture(seed)) if image is None else image
    data = io.BytesIO()
    image.save(data, form, **settings)
    return data.getvalue()


def put(folder, name, data, label=0):
    path = folder / name
    path.write_bytes(data)
    write_sample(folder, name, label)
    return path


def sample_folder(path, first=0):
    """Twelve different images of three classes in the sample format."""
    path.mkdir()
    for number in range(12):
        put(path, f"img_{number}.jpg", encode(seed=first + number), number % 3)
    write_label_names(path, NAMES)
    return path


@pytest.fixture
def source(tmp_path):
    return sample_folder(tmp_path / "source")


@pytest.fixture
def by_class(tmp_path):
    """Twelve images in a folder a class, one of the classes two folders deep."""
    path = tmp_path / "classes"
    for number in range(12):
        folder = path / ("glass", "metal", "waste/paper")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(encode(seed=number))
    return path


def audit(source, *words, status=None):
    """Rows of findings.csv, from the command itself."""
    target = os.path.join(os.path.dirname(source), "out")
    found = front_door.main(["--mode", "audit", "--source", str(source), "--target", target,
                             "--workers", "2", *map(str, words)])
    with open(os.path.join(target, "findings.csv"), encoding="utf-8-sig", errors="surrogateescape",
              newline="") as file:
        rows = list(csv.DictReader(file))
    worse = any(row["severity"] != "note" for row in rows)
    assert found == (3 if worse else 0) and status in (None, found)
    return rows


def short(rows, *columns):
    """[(file name, kind, columns)] of the rows."""
    return [(os.path.basename(row["path"]), row["kind"], *(row[name] for name in columns))
            for row in rows]


# --- one file's bytes -----------------------------------------------------------------

def frames(form):
    return encode(form, save_all=True, append_images=[Image.fromarray(texture(99))])


def pixels(mode, change=None):
    image = Image.fromarray(texture(0)).convert(mode)
    if change:
        change(image)
    return image


def half(data):
    return data[: len(data) // 2]


def bad_checksum(kind=b"IDAT"):
    """A PNG whose pixels are whole, with one wrong bit in the checksum of a chunk."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "text")
    data = bytearray(encode("PNG", pnginfo=text))
    start = data.index(kind)
    data[start + 4 + int.from_bytes(data[start - 4 : start], "big")] ^= 1
    return bytes(data)


def maker():
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    return exif


def extraneous():
    """A JPEG with bytes that belong to nothing between two of its parts."""
    data = encode()
    place = data.index(b"\xff\xdb")
    return data[:place] + bytes(5) + data[place:]


def behind(data):
    return data[:-2] + bytes(60) + data[-2:]


def wide_grey():
    return Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20)


def clear_corner(image):
    image.putpixel((3, 3), (0, 0, 0, 0))


FAULTS = [
    ("empty", "a.jpg", lambda: b""),
    ("undecodable", "a.jpg", lambda: b"<!DOCTYPE html><html></html>"),
    ("undecodable", "a.png", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100)),
    ("truncated", "a.jpg", lambda: half(encode())),
    ("truncated", "a.jpg", lambda: encode()[:-20]),
    ("truncated", "a.jpg", lambda: encode(progressive=True)[:-2]),
    ("truncated", "a.heic", lambda: HEIC["8 bits"][:-20]),
    ("truncated", "a.avif", lambda: half(encode("AVIF"))),
    ("truncated", "a.jpg", lambda: half(encode(progressive=True))),
    ("truncated", "a.jpg", lambda: half(encode(image=pixels("CMYK")))),
    ("truncated", "a.png", lambda: half(encode("PNG"))),
    ("truncated", "a.gif", lambda: half(encode("GIF"))),
    ("truncated", "a.bmp", lambda: half(encode("BMP"))),
    ("truncated", "a.webp", lambda: half(encode("WEBP"))),
    ("truncated", "a.tif", lambda: half(encode("TIFF"))),
    ("truncated", "a.png", lambda: half(encode("JPEG"))),  # and not wrong_extension, too
    ("wrong_extension", "a.png", lambda: encode("JPEG")),
    ("wrong_extension", "a.jpeg", lambda: encode("WEBP")),
    ("wrong_extension", "a.tiff", lambda: encode("BMP")),
    ("wrong_extension", "a.jpg", lambda: encode("AVIF")),
    ("wrong_extension", "a.jpg", lambda: HEIC["8 bits"]),
    ("wrong_extension", "a.heic", lambda: encode()),
    ("damaged_metadata", "a.jpg", lambda: encode()[:-2]),
    ("damaged_metadata", "a.jpg", lambda: encode(exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(9))),
    ("damaged_metadata", "a.jpg", lambda: encode(exif=b"Exif\0\0\xff\xff\xff\xff" + bytes(9))),
    ("damaged_metadata", "a.jpg", lambda: encode(
        image=pixels("L"), progressive=True, exif=b"Exif\0\0\xff\xff\xff\xff" + bytes(9))),
    ("damaged_metadata", "a.webp", lambda: encode(
        "WEBP", exif=b"Exif\0\0\xff\xff\xff\xff" + bytes(9))),
    ("damaged_metadata", "a.avif", lambda: encode("AVIF", exif=maker()).replace(
        b"MM\0*", b"\xff" * 4)),
    ("damaged_metadata", "a.png", lambda: bad_checksum(b"tEXt")),
    ("corrupt_data", "a.jpg", extraneous),
    ("corrupt_data", "a.jpg", lambda: behind(encode())),
    ("corrupt_data", "a.jpg", lambda: behind(encode(image=pixels("L")))),
    ("corrupt_data", "a.png", bad_checksum),
    ("animated", "a.gif", lambda: frames("GIF")),
    ("animated", "a.png", lambda: frames("PNG")),
    ("animated", "a.webp", lambda: frames("WEBP")),
    ("animated", "a.tif", lambda: frames("TIFF")),
    ("animated", "a.avif", lambda: frames("AVIF")),
    ("tiny", "a.png", lambda: encode("PNG", image=Image.fromarray(texture(0, 31, 48)))),
    ("extreme_shape", "a.jpg", lambda: encode(image=Image.fromarray(texture(0, 200, 20)))),
    ("blank", "a.jpg", lambda: encode(image=Image.new("RGB", (64, 48), (20, 90, 130)))),
    ("odd_mode", "a.jpg", lambda: encode(image=pixels("CMYK"))),
    ("odd_mode", "a.png", lambda: encode("PNG", image=wide_grey())),
    ("odd_mode", "a.png", lambda: encode("PNG", image=pixels("RGBA", clear_corner))),
    ("odd_mode", "a.gif", lambda: encode("GIF", image=pixels("RGBA", clear_corner))),
    ("unsupported", "a.tif", lambda: encode("TIFF", image=pixels("F"))),
    ("unsupported", "a.jpg", lambda: b"\xff\x0a" + bytes(99)),  # JPEG XL
    ("unsupported", "a.jpg", lambda: b"version https://git-lfs.github.com/spec/v1\n"),
    ("unsupported", "a.png", lambda: encode("PPM")),
    ("unsupported", "a.png", lambda: encode("PCX")),
    ("unsupported", "a.png", lambda: encode("TGA")),
]


@pytest.mark.parametrize("kind, name, make", FAULTS)
def test_a_fault_of_the_bytes_is_one_finding(tmp_path, kind, name, make):
    path = tmp_path / name
    path.write_bytes(make())
    with image_checks.hearing_warnings():
        look = image_checks.look(str(path), small=True)
    assert [fault[0] for fault in look.faults] == [kind]
    assert (look.digest is None) == (kind in ("empty", "undecodable", "truncated", "unsupported"))
    assert look.sound == (look.digest is not None and kind not in ("corrupt_data",
                                                                   "wrong_extension"))


ORDINARY = [
    ("a.jpg", {}), ("a.JPEG", {"progressive": True}), ("a.png", {}), ("a.bmp", {}),
    ("a.webp", {}), ("a.gif", {}), ("a.tif", {}), ("a.tiff", {"compression": "tiff_lzw"}),
    ("a.jfif", {}), ("a.jpe", {}), ("a.MPO", {}), ("a.avif", {}),
    ("a.jpg", {"image": pixels("L")}), ("a.png", {"image": pixels("L")}),
    ("a.png", {"image": pixels("P")}), ("a.png", {"image": pixels("RGBA")}),
    ("a.webp", {"image": pixels("RGBA"), "lossless": True}),
    *(("a.jpg", {"exif": (12, number)}) for number in (1, 3, 6, 8)),
    ("a.jpg", {"image": Image.fromarray(texture(0, 32, 160))}),  # just not tiny, nor extreme
]


@pytest.mark.parametrize("name, settings", ORDINARY)
def test_ordinary_pictures_have_no_fault(tmp_path, name, settings):
    settings = dict(settings)
    if "exif" in settings:
        exif = Image.Exif()
        exif[0x0112] = settings["exif"][1]
        settings["exif"] = exif
    form = Image.registered_extensions()[os.path.splitext(name)[1].lower()]
    form = "JPEG" if form == "MPO" else form
    path = tmp_path / name
    path.write_bytes(encode(form, **settings))
    with image_checks.hearing_warnings(), warnings.catch_warnings(record=True) as escaped:
        look = image_checks.look(str(path))
    assert look.faults == [] and look.sound and not escaped


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.hif"])
def test_heic_has_no_fault(tmp_path, name):
    for data in (HEIC["8 bits"], HEIC["turned 6"], HEIC["10 bits"]):
        (tmp_path / name).write_bytes(data)
        look = image_checks.look(str(tmp_path / name), small=True)
        assert look.faults == [] and look.sound and look.picture is not None


def test_half_a_picture_with_an_end_in_printing_colors(tmp_path):
    """Training takes it, grey where it lacks: a person has to look."""
    (tmp_path / "a.jpg").write_bytes(half(encode(image=pixels("CMYK"))) + b"\xff\xd9")
    faults = image_checks.look(str(tmp_path / "a.jpg")).faults
    assert [kind for kind, _ in faults] == ["corrupt_data", "odd_mode"]


def test_bytes_behind_the_end_are_ordinary(tmp_path):
    """Telephones append films and depths to their photos."""
    (tmp_path / "a.jpg").write_bytes(encode() + b"film" * 50)
    assert image_checks.look(str(tmp_path / "a.jpg")).faults == []


def test_huge_and_too_large_pictures(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encode("PNG"))
    monkeypatch.setattr(image_checks, "HUGE", WIDTH * HEIGHT - 1)
    assert [kind for kind, _ in image_checks.look(str(path)).faults] == ["huge"]
    monkeypatch.setattr(image_checks, "HUGE", WIDTH * HEIGHT)
    assert image_checks.look(str(path)).faults == []
    monkeypatch.setattr(image_checks, "WHOLE", image_checks.WHOLE._replace(max_pixels=100))
    for form in ("PNG", "JPEG"):
        path.write_bytes(encode(form))
        ((kind, detail),) = image_checks.look(str(path)).faults
        assert kind == "unsupported" and "64 x 48 pixels" in detail


def test_blank_within_the_noise_of_a_format_and_no_further(tmp_path):
    for spread, expected in ((2, ["blank"]), (3, [])):
        image = np.full((48, 64, 3), 100, np.uint8)
        image[::5, 7] += np.uint8(spread)
        path = tmp_path / "a.png"
        path.write_bytes(encode("PNG", image=Image.fromarray(image)))
        assert [kind for kind, _ in image_checks.look(str(path)).faults] == expected


def test_a_picture_is_not_blank_for_its_middle_row(tmp_path):
    image = np.full((48, 64, 3), 100, np.uint8)
    image[:10] = 200
    (tmp_path / "a.png").write_bytes(encode("PNG", image=Image.fromarray(image)))
    assert image_checks.look(str(tmp_path / "a.png")).faults == []


def test_what_cannot_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    for name in os.listdir(tmp_path):
        ((kind, _),) = image_checks.look(str(tmp_path / name)).faults
        assert kind == "unreadable"


def test_permission_denied(tmp_path, monkeypatch):
    def refuse(*arguments, **more):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.jpg").write_bytes(encode())
    monkeypatch.setattr(photo_files, "open", refuse, raising=False)
    assert image_checks.look(str(tmp_path / "a.jpg")).faults == [
        ("unreadable", "cannot be read: Permission denied")
    ]


def test_warnings_reach_the_thread_that_caused_them(tmp_path, monkeypatch):
    """Two threads inside the decoder at once: only one file's decoder warns."""
    for name in ("good.png", "bad.png"):
        (tmp_path / name).write_bytes(encode("PNG"))
    both, decode = threading.Barrier(2), image_checks.decoding.decode

    def warns(data, preprocessing, name):
        both.wait(10)
        if "bad" in name:
            warnings.warn_explicit("Corrupt EXIF data", UserWarning, "PIL/Image.py", 1, "PIL.Image")
        both.wait(10)
        return decode(data, preprocessing, name)

    monkeypatch.setattr(image_checks.decoding, "decode", warns)
    found = {}

    def work(name):
        found[name] = image_checks.look(str(tmp_path / name)).faults

    before = warnings.showwarning
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as preprocess.py has it
    with image_checks.hearing_warnings():
        threads = [threading.Thread(target=work, args=(name,)) for name in ("good.png", "bad.png")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found["good.png"] == []
    assert found["bad.png"] == [
        ("damaged_metadata", "the picture is intact, but: EXIF: Corrupt EXIF data")]
    assert warnings.showwarning is before


# --- folders --------------------------------------------------------------------------

def test_a_clean_folder_gives_nothing(source, tmp_path, capsys):
    put(source, "grey.png", encode("PNG", image=pixels("L").rotate(90)))
    put(source, "opaque.png", encode("PNG", image=Image.fromarray(texture(70)).convert("RGBA")))
    exif = Image.Exif()
    exif[0x0112] = 6
    put(source, "turned.jpg", encode(seed=71, exif=exif))
    put(source, "film, \"玻璃\" 1.jpg", encode(seed=72), 2)
    put(source, "n" * 240 + ".jpg", encode(seed=73), 1)
    assert audit(source, status=0) == []
    out = capsys.readouterr().out
    assert "17  images looked at: 0 errors, 0 warnings, 0 notes" in out
    assert "No problems were found." in (tmp_path / "out" / "index.html").read_text()


def test_a_clean_folder_a_class_gives_nothing(by_class):
    write_label_names(by_class, NAMES)
    (by_class / ".cache").mkdir()
    (by_class / "glass" / ".DS_Store").write_bytes(b"x")
    assert audit(by_class, status=0) == []


def test_nothing_in_the_source_is_changed(source):
    put(source, "empty.jpg", b"")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    audit(source)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_what_samples_refuses(source):
    (source / "notes.md").write_text("x")
    (source / "deeper").mkdir()
    (source / "alone.txt").write_text("alone.jpg, 0\n")
    (source / "untold.jpg").write_bytes(encode(seed=50))
    for number, line in enumerate(["other.jpg, 0", "bad_1.jpg 0", "bad_2.jpg, x",
                                   "bad_3.jpg, 7", "bad_4.jpg, 0\nbad_4.jpg, 1"]):
        put(source, f"bad_{number}.jpg", encode(seed=60 + number))
        (source / f"bad_{number}.txt").write_text(line)
    put(source, "two.jpg", encode(seed=51))
    (source / "two.png").write_bytes(encode("PNG", seed=52))
    rows = audit(source, status=3)
    assert Counter(short(rows, "action")) == Counter([
        ("notes.md", "not_an_image", ""), ("deeper", "not_an_image", ""),
        ("alone.txt", "orphan_text", "remove"), ("untold.jpg", "missing_text", ""),
        *((f"bad_{number}.jpg", "bad_label", "") for number in range(5)),
        ("two.jpg", "two_images_one_stem", ""), ("two.png", "two_images_one_stem", ""),
    ])
    details = {os.path.basename(row["path"]): row["detail"] for row in rows}
    assert details["bad_3.jpg"] == (
        f"bad_3.txt:1: label 7 has no name in {source}/label.json; allowed: 0 to 2"
    )
    assert len({row["group"] for row in rows if row["kind"] == "two_images_one_stem"}) == 1


def test_what_is_not_read_is_to_be_converted_and_not_to_go(source, capsys):
    put(source, "xl.jpg", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50))
    put(source, "page.jpg", b"<!DOCTYPE html><html></html>")
    rows = audit(source, status=3)
    assert short(rows, "severity", "action") == [
        ("page.jpg", "undecodable", "error", "remove"),
        ("xl.jpg", "unsupported", "error", "convert"),
    ]
    assert rows[1]["detail"] == "is JPEG XL, which is not read; convert it to JPEG"
    output = capsys.readouterr().out
    assert "1  files to remove, if you agree" in output and "1  files to convert, as " in output
    page = (source.parent / "out" / "index.html").read_text(encoding="utf-8")
    assert '<b class="bad">convert</b>' in page


def test_names_that_are_not_utf8(source, capsys):
    name = os.fsencode(source) + b"/caf\xe9.jpg"
    with open(name, "wb") as file:
        file.write(encode(seed=30))
    with open(name.replace(b".jpg", b".txt"), "wb") as file:
        file.write(b"caf\xe9.jpg, 0\n")
    (row,) = audit(source)
    assert row["kind"] == "name_not_utf8" and os.fsencode(row["path"]) == name
    page = (source.parent / "out" / "index.html").read_text(encoding="utf-8")
    assert "caf\\udce9.jpg" in page


@pytest.mark.parametrize("text", ["{", '{"0": "a", "2": "b"}', "[]"])
def test_a_bad_label_json(source, text):
    """Labels are read all the same, as numbers, and copies are found."""
    (source / "label.json").write_text(text)
    put(source, "copy.jpg", (source / "img_1.jpg").read_bytes(), 1)
    put(source, "third.jpg", (source / "img_2.jpg").read_bytes(), 7)
    assert sorted(short(audit(source), "class")) == [
        ("copy.jpg", "exact_duplicate", "1"), ("img_1.jpg", "exact_duplicate", "1"),
        ("img_2.jpg", "conflicting_labels", "2"), ("label.json", "bad_label_json", ""),
        ("third.jpg", "conflicting_labels", "7"),
    ]


def test_a_class_without_images(source):
    write_label_names(source, [*NAMES, "wood"])
    assert short(audit(source), "class") == [("label.json", "empty_class", "wood")]


def test_a_class_folder_without_images(by_class):
    (by_class / "waste" / "wood").mkdir()
    assert short(audit(by_class), "class") == [("wood", "empty_class", "waste/wood")]


def test_links(source, tmp_path):
    outside = tmp_path / "elsewhere.jpg"
    outside.write_bytes(encode(seed=40))
    (source / "far.jpg").symlink_to(outside)
    write_sample(source, "far.jpg", 0)
    (source / "dead.jpg").symlink_to("nowhere.jpg")
    write_sample(source, "dead.jpg", 0)
    assert short(audit(source), "severity") == [
        ("dead.jpg", "unreadable", "error"), ("far.jpg", "outside_link", "warning")
    ]


# --- copies ---------------------------------------------------------------------------

def smaller(path, form="PNG"):
    """The same picture at 3/4 of its size, in another format."""
    with Image.open(path) as image:
        return encode(form, image=image.resize((48, 36), Image.BICUBIC))


def test_copies_of_one_class(source):
    first = source / "img_0.jpg"
    put(source, "a_copy.jpg", first.read_bytes())
    put(source, "small.png", smaller(first))
    put(source, "small_copy.png", smaller(first))
    rows = audit(source, status=3)
    assert sorted(short(rows, "action")) == [
        ("a_copy.jpg", "exact_duplicate", ""), ("a_copy.jpg", "near_duplicate", ""),
        ("img_0.jpg", "exact_duplicate", "remove"),
        ("small.png", "exact_duplicate", ""), ("small.png", "near_duplicate", "remove"),
        ("small_copy.png", "exact_duplicate", "remove"),
    ]
    groups = {}
    for row in rows:
        groups.setdefault((row["kind"], row["group"]), set()).add(os.path.basename(row["path"]))
    assert sorted(map(sorted, groups.values())) == [
        ["a_copy.jpg", "img_0.jpg"], ["a_copy.jpg", "small.png"], ["small.png", "small_copy.png"],
    ]
    assert {row["class"] for row in rows} == {"glass"}
    without = audit(source, "--near_duplicates", "no")
    assert {row["kind"] for row in without} == {"exact_duplicate"}
    assert [row["path"] for row in without if row["action"]] == [
        str(source / name) for name in ("img_0.jpg", "small_copy.png")
    ]


def test_copies_that_were_changed_say_how(source):
    with Image.open(source / "img_0.jpg") as image:
        put(source, "mirrored.png", encode("PNG", image=ImageOps.mirror(image)))
        darker = ImageEnhance.Brightness(image).enhance(0.7)
        put(source, "mirrored_darker.png", encode("PNG", image=ImageOps.mirror(darker)))
        put(source, "small_grey.png", encode("PNG", image=image.resize((48, 36)).convert("L")))
    rows = [row for row in audit(source) if row["kind"] == "near_duplicate"]
    kept = next(row["path"] for row in rows if not row["action"])
    details = {os.path.basename(row["path"]): row["detail"] for row in rows}
    assert details.pop(os.path.basename(kept)) == "is the one to keep of 4"
    assert kept.endswith(".png") and "small" not in kept  # of the largest the one with most bytes
    assert len(details) == 3 and len({row["group"] for row in rows}) == 1
    assert all(detail.startswith(f"shows the same as {kept}") for detail in details.values())
    assert ", mirrored" in details["img_0.jpg"] and ", without colours" in details["small_grey.png"]


def test_a_copy_of_damaged_data_is_not_the_one_to_keep(source):
    """Though its file is larger."""
    data = (source / "img_0.jpg").read_bytes()
    put(source, "a_damaged.jpg", behind(data))
    found = [row for row in short(audit(source), "action") if row[1] == "near_duplicate"]
    assert found == [("a_damaged.jpg", "near_duplicate", "remove"),
                     ("img_0.jpg", "near_duplicate", "")]


def test_a_file_that_a_link_leads_to_stays(source):
    (source / "a_link.jpg").symlink_to("img_0.jpg")
    write_sample(source, "a_link.jpg", 0)
    assert short(audit(source), "action") == [
        ("a_link.jpg", "exact_duplicate", "remove"), ("img_0.jpg", "exact_duplicate", "")
    ]


def test_conflicting_labels(source):
    put(source, "same.jpg", (source / "img_0.jpg").read_bytes(), 1)
    put(source, "near.png", smaller(source / "img_2.jpg"), 0)
    rows = audit(source)
    assert sorted(short(rows, "class", "action")) == [
        ("img_0.jpg", "conflicting_labels", "glass", ""),
        ("img_2.jpg", "conflicting_labels", "paper", ""),
        ("near.png", "conflicting_labels", "glass", ""),
        ("same.jpg", "conflicting_labels", "metal", ""),
    ]
    assert {len([1 for row in rows if row["group"] == group]) for group in "12"} == {2}
    assert f"is metal here and glass as {source}/img_0.jpg" in [row["detail"] for row in rows]


def test_conflicts_between_class_folders(by_class):
    (by_class / "metal" / "same.jpg").write_bytes((by_class / "glass" / "0.jpg").read_bytes())
    (by_class / "waste/paper" / "x.jpg").write_bytes((by_class / "waste/paper/2.jpg").read_bytes())
    assert sorted(short(audit(by_class), "class")) == [
        ("0.jpg", "conflicting_labels", "glass"), ("2.jpg", "exact_duplicate", "waste/paper"),
        ("same.jpg", "conflicting_labels", "metal"), ("x.jpg", "exact_duplicate", "waste/paper"),
    ]


def test_unlabelled_and_broken_files_are_no_copies(source):
    for name in ("a.jpg", "b.jpg"):
        put(source, name, half(encode(seed=80)), 0)
        (source / f"untold_{name}").write_bytes(encode(seed=0))
    assert sorted(short(audit(source))) == [
        ("a.jpg", "truncated"), ("b.jpg", "truncated"),
        ("untold_a.jpg", "missing_text"), ("untold_b.jpg", "missing_text"),
    ]


def test_blank_pictures_are_no_near_copies(source):
    for number, label in enumerate((0, 0, 1)):
        image = Image.new("RGB", (64, 48 + number), (9, 9, 9))
        put(source, f"blank_{number}.png", encode("PNG", image=image), label)
    assert {row["kind"] for row in audit(source)} == {"blank"}


# --- validation data ------------------------------------------------------------------

@pytest.fixture
def validation(tmp_path):
    return sample_folder(tmp_path / "validation", first=100)


def test_leaks(source, validation):
    put(validation, "exact.jpg", (source / "img_0.jpg").read_bytes(), 0)
    put(validation, "near.png", smaller(source / "img_1.jpg"), 1)
    put(source, "img_0_copy.png", smaller(source / "img_0.jpg"), 0)  # goes as a leak, too
    put(validation, "empty.jpg", b"", 0)
    rows = audit(source, "--val_data", validation, status=3)
    assert sorted(short(rows, "action")) == [
        ("empty.jpg", "empty", "remove"),
        ("exact.jpg", "leak", ""), ("img_0.jpg", "leak", "remove"),
        ("img_0_copy.png", "leak", "remove"), ("img_1.jpg", "leak", "remove"),
        ("near.png", "leak", ""),
    ]
    exact = next(row for row in rows if row["path"] == str(source / "img_0.jpg"))
    assert exact["detail"] == f"validation has it too: {validation}/exact.jpg"
    assert len({row["group"] for row in rows if row["kind"] == "leak"}) == 2


def test_a_mirrored_copy_is_a_leak(source, validation):
    with Image.open(source / "img_1.jpg") as image:
        brighter = ImageEnhance.Brightness(image).enhance(1.2)
        put(validation, "mirrored.jpg", encode(image=ImageOps.mirror(brighter)), 1)
    assert sorted(short(audit(source, "--val_data", validation, status=3), "action")) == [
        ("img_1.jpg", "leak", "remove"), ("mirrored.jpg", "leak", ""),
    ]


def test_validation_as_a_folder_a_class(source, tmp_path):
    for name, seed in (("glass", 0), ("metal", 200), ("wood", 201), ("wood", 202)):
        (tmp_path / "val" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "val" / name / f"{seed}.jpg").write_bytes(encode(seed=seed))
    rows = audit(source, "--val_data", tmp_path / "val")
    assert short(rows, "class") == [
        ("img_0.jpg", "leak", "glass"), ("0.jpg", "leak", "glass"),
        ("val", "only_in_validation", "wood"),
    ]
    assert rows[2]["detail"] == "wood has 2 images to validate on, none to train on"


def test_other_classes_in_validation(source, validation):
    """Its own label.json says what its numbers mean."""
    write_label_names(validation, ["metal", "glass", "paper"])
    put(validation, "same.jpg", (source / "img_1.jpg").read_bytes(), 0)  # metal in both
    assert sorted(short(audit(source, "--val_data", validation), "class")) == [
        ("img_1.jpg", "leak", "metal"), ("label.json", "bad_label_json", ""),
        ("same.jpg", "leak", "metal"),
    ]


def test_a_class_in_validation_only(source, validation):
    """And an empty class beside it, that validation has none of, either."""
    for folder in (source, validation):
        write_label_names(folder, [*NAMES, "wood", "stone"])
    put(validation, "wood.jpg", encode(seed=90), 3)
    assert short(audit(source, "--val_data", validation), "class") == [
        ("label.json", "empty_class", "stone"), ("validation", "only_in_validation", "wood")
    ]


def test_copies_within_validation(source, validation):
    """Beside a leak, and without one."""
    data = [(folder / "img_0.jpg").read_bytes() for folder in (validation, source)]
    put(validation, "a.jpg", data[0])
    put(validation, "b.jpg", data[1])
    put(validation, "c.jpg", data[1])
    rows = audit(source, "--val_data", validation)
    assert [(row["path"].removeprefix(str(source.parent)), row["kind"], row["action"])
            for row in rows] == [
        ("/source/img_0.jpg", "leak", "remove"), ("/validation/b.jpg", "leak", ""),
        ("/validation/c.jpg", "leak", ""),
        ("/validation/b.jpg", "exact_duplicate", ""),
        ("/validation/c.jpg", "exact_duplicate", "remove"),
        ("/validation/a.jpg", "exact_duplicate", ""),
        ("/validation/img_0.jpg", "exact_duplicate", "remove"),
    ]


def test_leak_under_another_class_is_a_conflict(source, validation):
    put(validation, "same.jpg", (source / "img_0.jpg").read_bytes(), 2)
    assert sorted(short(audit(source, "--val_data", validation), "action")) == [
        ("img_0.jpg", "conflicting_labels", ""), ("same.jpg", "conflicting_labels", "")
    ]


def test_broken_label_json_makes_no_conflicts(source, validation):
    (source / "label.json").write_text("{")
    put(validation, "same.jpg", (source / "img_0.jpg").read_bytes(), 0)
    assert {row["kind"] for row in audit(source, "--val_data", validation)} == {
        "bad_label_json", "leak"
    }


# --- page, table, errors --------------------------------------------------------------

def test_one_line_of_json(source, capsys):
    put(source, "empty.jpg", b"")
    put(source, "copy.jpg", (source / "img_0.jpg").read_bytes())
    (source / "notes.md").write_text("x")
    capsys.readouterr()
    rows = audit(source, "--json")
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    out = str(source.parent / "out")
    assert json.loads(line) == {
        "source": str(source), "val_data": None, "images": 14,
        "counts": {"empty": 1, "exact_duplicate": 2, "not_an_image": 1},
        "errors": 1, "warnings": 2, "notes": 1, "remove": 2, "series": None,
        "findings": out + "/findings.csv", "page": out + "/index.html",
    }
    assert len(rows) == 4


def test_page_is_whole_small_and_escaped(source, monkeypatch):
    monkeypatch.setattr(data_del, "SHOWN", 3)
    evil = "<img src=x onerror=alert(1)>.jpg"
    put(source, evil, (source / "img_0.jpg").read_bytes())
    for number in range(5):
        image = Image.fromarray(texture(300 + number, 20, 40))
        put(source, f"tiny_{number}.png", encode("PNG", image=image))
    audit(source)
    page = (source.parent / "out" / "index.html").read_text(encoding="utf-8")
    assert "onerror=alert" in page and "<img src=x" not in page
    pictures = re.findall(r'src="data:image/jpeg;base64,[^"]+"', page)
    assert len(pictures) == 2 + 3 and "2 more are in" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_page_shows_copies_side_by_side(source):
    for number in (0, 1):
        put(source, f"copy_{number}.jpg", (source / f"img_{number}.jpg").read_bytes(), number)
    audit(source)
    page = (source.parent / "out" / "index.html").read_text(encoding="utf-8")
    rows = [re.findall(r'<code title="\S*/source/\S+">(\S+)</code>', part)
            for part in page.split('<ul class="photos"')[1:]]
    assert rows == [["copy_0.jpg", "img_0.jpg"], ["copy_1.jpg", "img_1.jpg"]]


def test_page_names_the_next_commands(source):
    put(source, "empty.jpg", b"")
    audit(source)
    page = (source.parent / "out" / "index.html").read_text(encoding="utf-8")
    words = [shlex.split(text.split("run.py ")[1]) for text in
             re.findall(r"<code>([^<]*run\.py [^<]*)</code>", page)]
    assert words == [["clean", "--csv", str(source.parent / "out" / "findings.csv")],
                     ["label", "--data", str(source), "--queue", "audit"]]
    assert parser.parse("label", words[1][1:]).queue == "audit"


def test_page_in_chinese_beside_a_table_in_english(source):
    put(source, "copy.jpg", (source / "img_0.jpg").read_bytes())
    put(source, "empty.jpg", b"")
    details = {row["detail"] for row in audit(source, "--lang", "zh")}
    assert details == {f"has the bytes of {source}/copy.jpg", "is the one to keep of 2",
                       "has no bytes"}
    page = (source.parent / "out" / "index.html").read_text(encoding="utf-8")
    for text in ("与 copy.jpg 完全相同", "2 张中保留这一张", "文件为空", "完全重复", "建议移除"):
        assert text in page


def test_thumbnails_keep_the_proportions(tmp_path):
    sizes = {(1000, 250): (448, 112), (200, 120): (200, 120), (28, 14): (448, 224)}
    for size, shown in sizes.items():
        Image.fromarray(texture(1, *size)).save(tmp_path / "photo.png")
        picture = base64.b64decode(html_pages.photo(str(tmp_path / "photo.png")).split(",")[1])
        assert Image.open(io.BytesIO(picture)).size == shown
    assert html_pages.photo(str(tmp_path / "gone.png")) is None


def test_notes_alone_are_no_failure(source, capsys):
    (source / "notes.md").write_text("x")
    audit(source, status=0)
    assert "1  note     not_an_image" in capsys.readouterr().out


def refused(*words):
    with pytest.raises(InputError) as found:
        options = front_door.parser.parse("audit", [*map(str, words)])
        data_del.main(options)
    return str(found.value)


def test_what_is_refused_before_any_work(source, tmp_path, monkeypatch):
    monkeypatch.setattr(data_del, "audit", None)
    (tmp_path / "bare").mkdir()
    assert "nowhere: no such folder" in refused("--source", tmp_path / "nowhere")
    assert "no images; looked for .jpg" in refused("--source", tmp_path / "bare")
    assert "is inside --source" in refused("--source", source, "--target", source / "out")
    assert "is also what --source names" in refused("--source", source, "--val_data", source)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    assert "is not an earlier output" in refused("--source", source, "--target", mine)


def test_what_is_refused_of_a_folder_a_class(by_class, tmp_path, monkeypatch):
    monkeypatch.setattr(data_del, "audit", None)
    labels = tmp_path / "label.json"
    labels.write_text('{"0": "a", "1": "b"}')
    assert "names the classes itself" in refused("--source", by_class, "--labels", labels)
    assert "would be found twice" in refused("--source", by_class, "--val_data",
                                             by_class / "glass")


def test_labels_that_are_given_must_be_good(source, tmp_path):
    (tmp_path / "label.json").write_text("{")
    assert "is not JSON" in refused("--source", source, "--labels", tmp_path / "label.json",
                                    "--target", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_of_a_series_only_what_resembles_the_one_kept_may_go():
    """Ten frames of one group, of which only neighbours are alike; the fifth is the best."""
    images = [
        duplicates.Image(f"{number}.jpg", "glass", part, image_checks.Look(
            [], f"{number} {part}", pixels=100 + 10 * (number == 4), bytes=1,
        ))
        for part in (0, 1) for number in range(10)
    ]

    def neighbours(one, two):
        return abs(int(one.path[0]) - int(two.path[0])) <= 1

    found = Findings()
    duplicates.judge(images[:10], dict.fromkeys(range(10), 0), found, neighbours)
    assert {row["kind"] for row in found.rows} == {"near_duplicate"}
    assert [row["path"][0] for row in found.rows if row["action"]] == ["3", "5"]
    through = [row["path"][0] for row in found.rows if "through others" in row["detail"]]
    assert through == ["0", "1", "2", "6", "7", "8", "9"]
    # Training has all ten frames, validation the last: only what is alike to that may go.
    found = Findings()
    chosen = [*images[:10], images[19]]
    duplicates.judge(chosen, dict.fromkeys(range(11), 0), found, neighbours)
    assert [row["path"][0] for row in found.rows if row["action"]] == ["8", "9"]


def test_the_label_of_a_photo_in_another_format_is_not_to_go(source):
    (source / "phone.jxl").write_bytes(b"\xff\x0a")
    write_sample(source, "phone.jxl", 1)
    write_sample(source, "gone.jpg", 1)
    rows = {os.path.basename(row["path"]): row for row in audit(source)}
    assert rows["phone.txt"]["kind"] == rows["gone.txt"]["kind"] == "orphan_text"
    assert (rows["phone.txt"]["action"], rows["gone.txt"]["action"]) == ("", "remove")


def test_paths_hold_wherever_one_stands(source, monkeypatch):
    put(source, "empty.jpg", b"")
    monkeypatch.chdir(source.parent)
    [row] = audit("source", status=3)
    assert row["path"] == str(source / "empty.jpg")


def test_a_csv_is_audited(source, tmp_path):
    """Two tables in one folder, one of them for validation, with the same picture in both."""
    for name, color in (("a", (250, 20, 20)), ("b", (20, 250, 20)), ("c", (20, 20, 250))):
        write_image(tmp_path / f"{name}.png", color)
    (tmp_path / "train.csv").write_text("path,label\na.png,x\nb.png,Y\n")
    (tmp_path / "val.csv").write_text("path,label\nc.png,y\n")
    (tmp_path / "b.png").write_bytes(b"")
    rows = audit(tmp_path / "train.csv", "--val_data", tmp_path / "val.csv")
    by_kind = {row["kind"]: row for row in rows}
    assert by_kind["empty"]["path"] == str(tmp_path / "b.png")
    assert by_kind["empty"]["class"] == "Y"
    assert "'Y', 'y' are taken for 2 classes" in by_kind["class_spelling"]["detail"]
    assert by_kind["only_in_validation"]["class"] == "y"


def test_names_that_no_table_can_hold(by_class):
    os.rename(by_class / "glass" / "0.jpg", by_class / "glass" / "x\ny.jpg")
    rows = [row for row in audit(by_class) if row["kind"] == "line_break_in_name"]
    assert len(rows) == 1 and rows[0]["detail"].startswith(r"'x\ny.jpg' has a line break")


def test_what_systems_leave_is_no_finding(by_class):
    before = audit(by_class)
    (by_class / "glass" / "@eaDir").mkdir()
    write_image(by_class / "glass" / "@eaDir" / "thumb.jpg")
    (by_class / "Thumbs.db").write_bytes(b"x")
    assert audit(by_class) == before
