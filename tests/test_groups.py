"""Groups of photos: the rules that name them, and the EXIF blocks that some rules read."""

import os
import struct

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from data import exif, splitting
from data.exif import UNKNOWN, Capture, read_capture
from data.groups import describe_sizes, name_groups, read_groups_by
from data.samples import Samples

TAKEN = Capture("2024-05-01", "Canon EOS R6 0123")


def exif_block(taken="2024:05:01 12:30:00", make="Canon", model="Canon EOS R6", serial="0123"):
    block = Image.Exif()
    block[exif.MAKE], block[exif.MODEL] = make, model
    block[exif.EXIF_DIRECTORY] = {exif.DATE_TAKEN: taken, exif.SERIAL_NUMBER: serial}
    reloaded = Image.Exif()  # TIFFs are saved from what was read
    reloaded.load(block.tobytes())
    return reloaded


def save(path, block=None):
    options = {"exif": block} if block else {}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.new("RGB", (40, 30), (90, 120, 60)).save(path, **options)
    return str(path)


def box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def container(brand, block, construction=0):
    """The boxes of a HEIC or AVIF file around an EXIF item, without a picture."""
    item = struct.pack(">I", 6) + b"Exif\0\0" + block
    info = box(b"infe", b"\2\0\0\0", struct.pack(">HH4s", 7, 0, b"Exif"), b"\0")
    header = box(b"ftyp", brand, bytes(4), brand)

    def meta(offset):
        place = struct.pack(">HHHHII", 7, construction, 0, 1, offset, len(item))
        return box(
            b"meta", bytes(4),
            box(b"iinf", bytes(4), b"\0\1", info),
            box(b"iloc", b"\1\0\0\0", b"\x44\0", b"\0\1", place),
            box(b"idat", item if construction else b""),
        )

    start = 0 if construction else len(header) + len(meta(0)) + 8
    return header + meta(start) + box(b"mdat", b"" if construction else item)


def samples_of(folder, *names):
    return Samples(str(folder), [os.path.join(*name.split("/")) for name in names],
                   np.zeros(len(names), np.int32))


# --- EXIF --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif", "other_name.bmp"])
def test_date_and_camera_of_every_format(tmp_path, name):
    path = str(tmp_path / name)
    save(tmp_path / "x" / name.replace("bmp", "jpg"), exif_block())
    os.rename(tmp_path / "x" / name.replace("bmp", "jpg"), path)  # the content counts
    assert read_capture(path) == TAKEN


@pytest.mark.parametrize("brand", [b"heic", b"avif", b"mif1"])
@pytest.mark.parametrize("construction", [0, 1])
def test_exif_of_heic_and_avif_is_found_by_its_boxes(tmp_path, brand, construction):
    data = container(brand, exif_block().tobytes().removeprefix(b"Exif\0\0"), construction)
    (tmp_path / "a.heic").write_bytes(data)
    assert read_capture(str(tmp_path / "a.heic")) == TAKEN


def test_exif_behind_the_pixels_of_a_png(tmp_path):
    path = save(tmp_path / "a.png", exif_block())
    data = open(path, "rb").read()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    rest = data[:start] + data[end:]
    last = rest.index(b"IEND") - 4
    open(path, "wb").write(rest[:last] + data[start:end] + rest[last:])
    assert read_capture(path) == TAKEN


def test_no_pixel_is_decoded(tmp_path, monkeypatch):
    paths = [save(tmp_path / f"a.{kind}", exif_block()) for kind in ("jpg", "png", "webp", "tif")]
    paths.append(save(tmp_path / "without.png"))
    monkeypatch.setattr(Image.Image, "load", None)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert [read_capture(path) for path in paths] == [TAKEN] * 4 + [UNKNOWN]


def test_what_cameras_leave_empty(tmp_path):
    for block, expected in (
        (exif_block(taken="0000:00:00 00:00:00"), Capture("", TAKEN.camera)),
        (exif_block(taken="    :  :     :  :  ", model="\0\0"), UNKNOWN),
        (exif_block(make="SONY ", model="ILCE-7 ", serial="\0"), Capture(TAKEN.day, "SONY ILCE-7")),
    ):
        assert read_capture(save(tmp_path / "a.jpg", block)) == expected
    path = tmp_path / "a.jpg"
    path.write_bytes(path.read_bytes()[:60])
    assert read_capture(str(path)) == UNKNOWN
    assert read_capture(str(tmp_path / "missing.jpg")) == UNKNOWN


# --- rules -------------------------------------------------------------------------------


def test_date_and_camera(tmp_path, capsys):
    save(tmp_path / "a.jpg", exif_block())
    save(tmp_path / "b.jpg", exif_block(taken="2024:05:01 01:00:00", serial="9"))
    save(tmp_path / "c.jpg", exif_block(taken="2024:05:02 01:00:00"))
    save(tmp_path / "d.jpg")
    samples = samples_of(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    assert read_groups_by(samples, "date") == ["2024-05-01", "2024-05-01", "2024-05-02", "d.jpg"]
    assert "date: 1 of 4 photos have no EXIF date" in capsys.readouterr().err
    cameras = read_groups_by(samples, "camera", workers=2)
    assert cameras == [TAKEN.camera, "Canon EOS R6 9", TAKEN.camera, "d.jpg"]


def test_folders(tmp_path):
    samples = samples_of(tmp_path, "a/one/1.jpg", "a/two/deep/2.jpg", "a/3.jpg")
    assert name_groups(samples, "folder") == ["one", "two", ""]
    assert read_groups_by(samples, "folder") == ["one", "two", "a/3.jpg"]
    deep = samples_of(tmp_path, "waste/glass/one/1.jpg", "waste/glass/2.jpg")
    assert name_groups(deep, "folder", class_names=("waste/glass",)) == ["one", ""]
    (tmp_path / "photos.csv").write_text("path,label\n")
    assert name_groups(samples, "folder", str(tmp_path / "photos.csv")) == ["one", "deep", "a"]


def test_patterns(tmp_path):
    samples = samples_of(tmp_path, "a/rec1_01.jpg", "a/rec1_02.jpg", "b/rec2_01.jpg", "b/x.jpg")
    assert name_groups(samples, "pattern:rec.") == ["rec1", "rec1", "rec2", ""]
    assert name_groups(samples, r"pattern:/(\w+)_\d+\.") == ["rec1", "rec1", "rec2", ""]
    assert name_groups(samples, "pattern:^(?:a|b)") == ["a", "a", "b", "b"]
    assert name_groups(samples, "pattern:rec1_(01)?") == ["01", "", "", ""]  # unmatched group


def test_columns(tmp_path):
    samples = samples_of(tmp_path, "a/1.jpg", "a/2.jpg", "a/3.jpg")
    table = tmp_path / "photos.csv"
    table.write_text("path,label,patient\na\\1.jpg,x,P1\na/2.jpg,x, P1 \na/3.jpg,x,\n")
    assert name_groups(samples, "csv:patient", str(table)) == ["P1", "P1", ""]
    (tmp_path / "groups.csv").write_text("path,day\na/1.jpg,one\na/2.jpg,two\n")
    assert name_groups(samples, "csv:day") == ["one", "two", ""]


@pytest.mark.parametrize("rule, words", [
    ("pattern:nothing", "the 2 photos of .* do not match"),
    ("pattern:(", "is not a regular expression: missing"),
    ("pattern:^a", "all 2 photos are in one group, 'a'"),
    ("csv:patient", "groups.csv does not exist"),
    ("csv:", "allowed: folder, date, camera, pattern:REGEX and csv:COLUMN"),
    ("month", "allowed: folder, date"),
    ("date", "have no EXIF date; name another rule"),
    ("folder", "are in no folder below that of their class"),
])
def test_bad_rules_are_one_line(tmp_path, rule, words):
    samples = samples_of(tmp_path, "a/1.jpg", "a/2.jpg")
    with pytest.raises(InputError, match=words) as caught:
        read_groups_by(samples, rule)
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_there(tmp_path):
    table = tmp_path / "photos.csv"
    table.write_text("path,label\na/1.jpg,x\n")
    with pytest.raises(InputError, match="has the columns path, label; needed: path, patient"):
        read_groups_by(samples_of(tmp_path, "a/1.jpg"), "csv:patient", str(table))


# --- joining -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_joined_groups_are_connected_components(seed):
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    generator = np.random.default_rng(seed)
    count = 60
    groups = np.sort(generator.integers(0, count, count))
    groups = np.searchsorted(groups, groups)  # each the first position of its members
    names = [f"r{number}" if number else "" for number in generator.integers(0, 40, count)]
    same = [(i, j) for i in range(count) for j in range(i)
            if groups[i] == groups[j] or names[i] == names[j] != ""]
    rows, columns = zip(*same)
    graph = coo_matrix((np.ones(len(same)), (rows, columns)), (count, count))
    expected = connected_components(graph, directed=False)[1]
    hashes = generator.integers(0, 2**63, count).astype(np.uint64)
    found = splitting.join_named(hashes, groups, names)
    assert len(set(zip(expected, found))) == len(set(expected)) == len(set(found))
    order = generator.permutation(count)  # the leader depends on the hashes alone
    shuffled = np.searchsorted(np.unique(groups), groups)[order]
    shuffled = splitting.join_named(hashes[order], shuffled, [names[one] for one in order])
    assert (hashes[order][shuffled] == hashes[found][order]).all()


def test_sizes_in_words():
    assert describe_sizes(["a", "b", "a", "a"]) == "2 groups of 1 to 3 photos"
