"""`--mode statistics`, its charts and fonts: what is shown, and what is refused."""

import csv
import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT, command, write_image, write_samples
from PIL import Image, ImageFile, ImageOps

from common.errors import ImageError, InputError, RunError
from config.parser import parse
from data.label_names import write_label_names
from data.samples import write_sample
from other import statistics_visual as statistics
from other.reporting import fonts, statistics_charts

pytestmark = pytest.mark.filterwarnings("error")  # matplotlib's about glyphs, above all

CHINESE = "纸板"
LONG = "a name that is much longer than any chart has room for, number "


def run(source, target, *words):
    options = parse("statistics", ["--source", str(source), "--target", str(target), *words])
    statistics.main(options)


def write(folder, names, *images):
    """Images given as (label, width, height, EXIF orientation)."""
    os.makedirs(folder)
    for number, (label, width, height, orientation) in enumerate(images):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (width, height)).save(folder / f"{number}.jpg", exif=exif)
        write_sample(folder, f"{number}.jpg", label)
    write_label_names(folder, names)
    return folder


def read_rows(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path):
    """Three classes: 4 images, 1 of which cannot be read, 1 image and none."""
    source = write(tmp_path / "data", [CHINESE, "glass", "metal"],
                   (0, 40, 20, 1), (0, 60, 30, 6), (0, 50, 50, 3), (1, 90, 10, 1), (0, 8, 8, 1))
    (source / "4.jpg").write_bytes(b"no picture")
    return source


# --- numbers --------------------------------------------------------------------------

def test_numbers_of_a_class(folder, tmp_path, capsys):
    target = tmp_path / "out"
    run(folder, target, "--json")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found = json.loads(out)
    # Worked out by hand: upright 40 x 20, 30 x 60 (turned) and 50 x 50.
    assert found["classes"][0] == {
        "id": 0, "name": CHINESE, "images": 4, "share": 0.8, "validation_images": None,
        "median_width": 40, "median_height": 50, "smallest_aspect_ratio": 0.5,
        "largest_aspect_ratio": 2,
    }
    assert found["classes"][1]["largest_aspect_ratio"] == 9
    assert found["classes"][2] == {
        "id": 2, "name": "metal", "images": 0, "share": 0, "validation_images": None,
        "median_width": None, "median_height": None, "smallest_aspect_ratio": None,
        "largest_aspect_ratio": None,
    }
    assert found["images"] == 5 and found["imbalance"] == 4 and found["target"] == str(target)
    assert len(found["undecodable"]) == 1 and "4.jpg" in found["undecodable"][0]
    assert sorted(os.listdir(target)) == sorted(statistics.FILES)
    rows = read_rows(target / "statistics.csv")
    assert [row["name"] for row in rows] == [CHINESE, "glass", "metal"]
    assert rows[0]["median_height"] == "50.0" and rows[2]["median_width"] == ""
    for name in ("classes", "sizes"):
        with Image.open(target / f"{name}.png") as picture:
            assert picture.format == "PNG"
        assert ElementTree.parse(target / f"{name}.svg").getroot().tag.endswith("svg")


def test_validation_beside_training(folder, tmp_path, capsys):
    data = write(tmp_path / "val", [CHINESE, "glass", "metal"], (0, 8, 8, 1), (2, 8, 8, 1),
                 (2, 9, 9, 1), (0, 8, 8, 1))
    (data / "3.jpg").write_bytes(b"")
    run(folder, tmp_path / "out", "--val_data", str(data))
    out, error = capsys.readouterr()
    rows = read_rows(tmp_path / "out" / "statistics.csv")
    assert [row["validation_images"] for row in rows] == ["2", "0", "2"]
    assert "no training images: metal" in error
    assert f"{data}{os.sep}3.jpg: the file is empty" in out
    assert out.splitlines()[3].split() == ["0", "0.0%", "2", "-", "metal"]


def test_a_class_without_images_is_pointed_out(folder, tmp_path, capsys):
    run(folder, tmp_path / "out")
    assert "has no images: metal" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_counts(tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    with Image.open(path) as picture:
        picture.load()
        assert statistics.read_size(path) == ImageOps.exif_transpose(picture).size


def test_only_headers_are_read(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self))
    for ending in ("png", "jpg", "bmp", "gif"):
        path = tmp_path / f"a.{ending}"
        write_image(path, size=(300, 200))
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) // 2)
        assert statistics.read_size(path) == (300, 200)
    assert not decoded


@pytest.mark.parametrize("content, part", [
    (b"", "is empty"), (b"text", "none of JPEG"),
    (b"P6 1 1 255 \0\0\0", "is a Netpbm image"), (None, "No such file"),
])
def test_what_has_no_size(tmp_path, content, part):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=part):
        statistics.read_size(path)


def test_nothing_can_be_read(tmp_path, capsys):
    data = write(tmp_path / "data", ["a", "b"], (0, 8, 8, 1))
    (data / "0.jpg").write_bytes(b"no picture")
    run(data, tmp_path / "out")
    assert "cannot be read" in capsys.readouterr().out


# --- charts ---------------------------------------------------------------------------

def rows_of(counts, validation=None):
    return [{"id": number, "images": count,
             "validation_images": validation and validation[number]}
            for number, count in enumerate(counts)]


def test_bars_are_sorted_and_labelled():
    figure = statistics_charts.classes_chart(rows_of([3, 1200, 0, 7], [1, 5, 2, 0]), list("abcd"))
    axes = figure.axes[0]
    training, validation = axes.containers
    assert [bar.get_width() for bar in training] == [1200, 7, 3, 0]
    assert [bar.get_width() for bar in validation] == [5, 0, 1, 2]
    assert [text.get_text() for text in axes.get_yticklabels()] == list("bdac")
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["1,200", "7", "3", "0", "5", "0", "1", "2"]
    assert axes.yaxis.get_inverted()  # the first, the largest, at the top


@pytest.mark.parametrize("classes, tallest, shown", [(2, 200, 2), (100, 200, 100), (100, 5, 20)])
def test_names_do_not_overlap(classes, tallest, shown, monkeypatch):
    monkeypatch.setattr(statistics_charts, "TALLEST", tallest)
    words = fonts.for_names([f"{LONG}{number}" for number in range(classes)])[1]
    counts = list(range(classes))
    figure = statistics_charts.classes_chart(rows_of(counts, counts), words)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert len(boxes) == shown
    assert all(one.y0 >= other.y1 for one, other in zip(boxes, boxes[1:]))
    assert min(box.x0 for box in boxes) >= 0
    width, height = figure.get_size_inches()
    assert width < 12 and height <= tallest


def test_histograms_hold_every_image_once():
    sizes = np.array([[40, 20], [30, 60], [np.nan, np.nan], [4000, 20], [40, 21]])
    figure = statistics_charts.sizes_chart(sizes, sizes[:1])
    for axes in figure.axes:
        assert sum(bar.get_height() for bar in axes.containers[0]) == pytest.approx(1)
    widths = {bar.get_x() + bar.get_width() / 2: bar.get_height()
              for bar in figure.axes[0].containers[0] if bar.get_height()}
    assert list(widths.values()) == [0.75, 0.25]  # 30, 40 and 40; 4000


# --- fonts ----------------------------------------------------------------------------

def test_names_that_no_font_knows(monkeypatch, capsys):
    monkeypatch.setattr(fonts, "FONTS", ())
    assert fonts.for_names(["glass", CHINESE]) == (["DejaVu Sans"], ["glass", "class 1"])
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "fonts-noto-cjk" in error


def test_a_font_of_the_machine_is_found(tmp_path, monkeypatch, capsys):
    """One installed after matplotlib's first use, made here: it has these two letters only."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.ttLib.tables._g_l_y_f import Glyph
    from matplotlib import font_manager

    letters = [".notdef", "one", "two"]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(letters)
    builder.setupCharacterMap({ord(CHINESE[0]): "one", ord(CHINESE[1]): "two"})
    builder.setupGlyf({name: Glyph() for name in letters})
    builder.setupHorizontalMetrics(dict.fromkeys(letters, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Two Letters", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = str(tmp_path / "simhei.ttf")
    builder.save(path)
    (tmp_path / "simsun.ttc").write_bytes(b"no font")
    paths = [path, str(tmp_path / "simsun.ttc")]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    known = list(font_manager.fontManager.ttflist)
    try:
        families, words = fonts.for_names(["glass", CHINESE, "玻璃"])
        assert families == ["Two Letters", "DejaVu Sans"]
        assert words == ["glass", CHINESE, "class 2"]
        assert "1 class names" in capsys.readouterr().err
        with statistics.drawing(families):
            figure = statistics_charts.classes_chart(rows_of([1, 2, 3]), words)
            figure.savefig(tmp_path / "a.png")
    finally:
        font_manager.fontManager.ttflist = known


def test_long_names_keep_both_ends():
    assert fonts.shorten("x" * 30) == "x" * 30
    assert fonts.shorten("a" * 20 + "b" * 20) == "a" * 18 + "..." + "b" * 9
    # A Chinese letter takes two columns.
    assert fonts.shorten(CHINESE * 20) == CHINESE * 4 + CHINESE[0] + "..." + CHINESE * 2


def test_odd_names(tmp_path):
    """Dollar signs are no formula, line ends no second line, \ud800 stands in no file."""
    data = write(tmp_path / "data", list("abcd"), *[(number, 8, 8, 1) for number in range(4)])
    names = ["$\\frac$", "two\nlines", "a\ud800", "\U0001f600"]
    (data / "label.json").write_text(json.dumps(dict(enumerate(names))))
    run(data, tmp_path / "out", "--json")
    assert fonts.for_names(["two\nlines"])[1] == ["two lines"]


# --- what is refused, and what stays ----------------------------------------------------

def test_an_earlier_output_is_replaced(folder, tmp_path):
    target = tmp_path / "out"
    run(folder, f"{target}{os.sep}")
    (target / "statistics.csv").write_text("old")
    run(folder, target)
    assert read_rows(target / "statistics.csv")
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


def test_other_folders_are_refused(folder, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "classes.png").write_text("a")
    (target / "mine.txt").write_text("b")
    with pytest.raises(InputError, match="--target.*holds mine.txt"):
        run(folder, target)
    assert (target / "classes.png").read_text() == "a"
    with pytest.raises(InputError, match="--target.*not a folder"):
        run(folder, target / "mine.txt")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="--target.*not a folder"):
        run(folder, tmp_path / "link")
    # Where the old output would go for a moment: what is there would be deleted.
    (tmp_path / "new.old").mkdir()
    (tmp_path / "new.old" / "mine.txt").write_text("b")
    with pytest.raises(InputError, match="new.old.*mine.txt"):
        run(folder, tmp_path / "new")


def test_a_failure_leaves_what_was_there(folder, tmp_path, monkeypatch):
    target = tmp_path / "out"
    run(folder, target)
    (target / "statistics.csv").write_text("before")

    def fail(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(statistics, "save", fail)
    with pytest.raises(RunError, match="--target.*out cannot be written: No space left.*MB free"):
        run(folder, target)
    assert (target / "statistics.csv").read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


def test_bad_sources(folder, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    other = write_samples(tmp_path / "other", 1)
    with pytest.raises(InputError, match="the class 'blue' .*is not one of those of"):
        run(folder, tmp_path / "out", "--val_data", other)
    with pytest.raises(InputError, match="cannot be read"):
        run(folder, tmp_path / "out", "--labels", str(tmp_path / "none.json"))
    assert not (tmp_path / "out").exists()


def test_import_stays_light():
    code = ("import sys, other.statistics_visual, other.confusion_matrix; "
            "print({'tensorflow', 'keras', 'matplotlib', 'sklearn'} & set(sys.modules))")
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == "set()\n", found.stderr


def test_from_the_command_line(folder, tmp_path):
    found = command("--mode", "statistics", "--source", folder, "--target", tmp_path / "out")
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[1].split() == ["4", "80.0%", "40", "x", "50", CHINESE]
