"""Packed photos: the tar files and their index, packing, adding, continuing, and unpacking."""

import csv
import filecmp
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib

import cv2
import numpy as np
import pytest
from conftest import ROOT, write_image, write_samples
from PIL import Image
from test_main_job import done, go

from benchmarks.shards import mutate
from common.errors import ImageError, InputError, RunError
from data import packed_index, packing, packing_plan, parts, photo_files, shard_files
from data.labelled_data import read_labelled
from data.packing import pack
from data.packing_plan import Packing
from data.photo_files import read_photo
from data.several_places import read_all
from other.unpack import check_path, unpack
from runs.margin_files import read_trained_on, write_trained_on

CLASSES = {"glass": (30, 200, 60), "metal": (60, 60, 70), "paper": (220, 210, 190)}


def write_classes(folder, per_class=4, size=(40, 32)):
    for number, (name, color) in enumerate(CLASSES.items()):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            ending = (".png", ".jpg", ".bmp")[index % 3]
            write_image(folder / name / f"{index}{ending}", color, size, (number, index))
    return folder


@pytest.fixture
def photos(tmp_path):
    return write_classes(tmp_path / "photos")


@pytest.fixture
def place(photos, tmp_path):
    pack(str(photos), str(tmp_path / "place"))
    return tmp_path / "place"


def contents(data):
    """[(bytes, class name)] of labelled photos, in the order in which they are read."""
    samples, class_names, _ = read_labelled(str(data))
    return [(read_photo(os.path.join(samples.folder, name)), class_names[class_id])
            for name, class_id in zip(samples.file_names, samples.class_ids)]


def files(folder):
    """dict of every file below a folder -> its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def refusal(*words):
    """The one line with which a command refuses."""
    found = go(*words)
    assert found.status == 2 and found.out == "", found
    return found.err.splitlines()[-1]


def damage_index(place, change):
    """Writes the index anew after `change(entries, description)`, with a checksum that fits."""
    entries = np.load(place / "index.npy").copy()
    description = json.loads((place / "index.json").read_text())
    change(entries, description)
    np.save(place / "index.npy", entries)
    digest = hashlib.sha256((place / "index.npy").read_bytes()).hexdigest()
    description["index_sha256"] = digest
    (place / "index.json").write_text(json.dumps(description))


# --- what is written -------------------------------------------------------------------


def test_tar_files_are_what_the_convention_says(photos, place):
    """Read by Python's tarfile alone: three files per photo, in the order of the index's shard."""
    keys, kept = [], {}
    with tarfile.open(place / "photos-00000.tar") as archive:
        members = [member.name for member in archive]
        assert all(m.mtime == 0 and m.uid == 0 and m.mode == 0o644 for m in archive.getmembers())
        for name in members:
            key, _, extension = name.partition(".")
            keys += [key] * (key not in keys)
            kept.setdefault(key, {})[extension] = archive.extractfile(name).read()
    assert keys == [f"{number:09}" for number in range(12)]
    for sample in kept.values():
        note = json.loads(sample.pop("json"))
        class_id = int(sample.pop("cls"))
        (extension, content), = sample.items()
        assert (photos / note["path"]).read_bytes() == content
        assert note["path"].endswith(f".{extension}")
        assert note["class"] == list(CLASSES)[class_id] == note["path"].split("/")[0]
        assert note["part"] is None and note["pack_size"] is None
        assert note["content"] == hashlib.sha256(content).hexdigest()[:16]
        assert note["crc32"] == f"{zlib.crc32(content):08x}"
    assert os.path.getsize(place / "photos-00000.tar") % 10240 == 0  # records of tar


def test_tar_itself_lists_them(place):
    process = subprocess.run(["tar", "tf", place / "photos-00000.tar"], capture_output=True,
                             text=True, check=True)
    assert process.stderr == "" and len(process.stdout.split()) == 36


def test_an_index_has_at_most_40_bytes_per_photo_in_the_order_of_the_data(photos, place):
    entries = np.load(place / "index.npy")
    assert entries.dtype.itemsize <= 40 and len(entries) == 12
    tar_bytes = (place / "photos-00000.tar").read_bytes()
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*"))
    for entry, name in zip(entries, names, strict=True):
        content = (photos / name).read_bytes()
        assert tar_bytes[entry["offset"]:][:entry["length"]] == content
        assert entry["crc"] == zlib.crc32(content)
        assert int(entry["content"]).to_bytes(8, "big") == hashlib.sha256(content).digest()[:8]
    description = json.loads((place / "index.json").read_text())
    digest = hashlib.sha256((place / "index.npy").read_bytes()).hexdigest()
    assert description["index_sha256"] == digest
    assert description["shards"] == [{
        "name": "photos-00000.tar", "bytes": len(tar_bytes), "photos": 12,
        "sha256": hashlib.sha256(tar_bytes).hexdigest(),
    }]
    assert sorted(os.listdir(place)) == ["index.json", "index.npy", "label.json",
                                         "photos-00000.tar"]


def test_the_same_photos_give_the_same_bytes_and_another_seed_another_order(photos, tmp_path):
    for name, seed, workers in (("a", 0, 1), ("b", 0, 3), ("c", 1, 1)):
        done("--mode", "pack", "--data", photos, "--target", tmp_path / name, "--seed", seed,
             "--workers", workers, "--shard_megabytes", 1)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "c")
    assert files(tmp_path / "a")["photos-00000.tar"] != files(tmp_path / "c")["photos-00000.tar"]


def test_shards_have_the_size_that_was_asked_for(tmp_path, monkeypatch):
    photos = write_classes(tmp_path / "photos", 10, (100, 100))  # PNGs and BMPs of 30 kB
    monkeypatch.setattr(packing_plan, "MEGABYTE", 100_000)
    found = pack(str(photos), str(tmp_path / "place"), Packing(2), workers=3)
    sizes = [os.path.getsize(path) for path in (tmp_path / "place").glob("photos-*.tar")]
    assert found.shards > 3 and max(sizes) <= 200_000 + 10240 and sum(sizes) == found.bytes
    assert contents(photos) == contents(tmp_path / "place")


@pytest.mark.parametrize("layout", ["folders", "texts", "table"])
def test_packed_and_unpacked_every_byte_and_class_is_the_same(tmp_path, layout):
    data = tmp_path / "photos"
    if layout == "texts":
        write_samples(data, 4)
    else:
        write_classes(data)
    if layout == "table":
        rows = [(path.relative_to(tmp_path).as_posix(), path.parent.name + " kind")
                for path in sorted(data.rglob("*.*"), reverse=True)]
        data = tmp_path / "photos.csv"
        with open(data, "w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *rows])
    done("--mode", "split", "--data", data)
    done("--mode", "pack", "--data", data, "--target", tmp_path / "place")
    found = done("--mode", "unpack", "--data", tmp_path / "place", "--target", tmp_path / "back")
    assert found["images"] == 12 and sum(found["classes"].values()) == 12
    back = tmp_path / "back" / "photos.csv" if layout == "table" else tmp_path / "back"
    assert contents(data) == contents(back) == contents(tmp_path / "place")
    originals = [read_labelled(str(place)).samples for place in (data, back)]
    assert originals[0].file_names == originals[1].file_names
    each_part = [parts.update(str(place), samples, write=False)
                 for place, samples in zip((data, back), originals)]
    assert (each_part[0].parts == each_part[1].parts).all() and each_part[1].added == 0
    assert each_part[0].contents == each_part[1].contents


def test_parts_and_groups_come_with_the_photos(photos, tmp_path):
    rule = "pattern:([01])[.]"  # photos 0 and 1 of each class form two groups
    done("--mode", "split", "--data", photos, "--group", rule, "--shares", "0.5,0.25,0.25")
    done("--mode", "pack", "--data", photos, "--target", tmp_path / "place")
    loose, packed = (read_labelled(str(data)).samples for data in (photos, tmp_path / "place"))
    expected = parts.update(str(photos), loose)
    found = parts.update(str(tmp_path / "place"), packed)
    assert found.parts.tolist() == expected.parts.tolist()
    assert list(found.contents) == expected.contents
    names = parts.name_groups(packed, rule, str(tmp_path / "place"))
    assert names == parts.name_groups(loose, rule, str(photos))
    with pytest.raises(InputError, match="--group: folder: the photos in .* have parts by pattern"):
        parts.update(str(tmp_path / "place"), packed, rule="folder")
    test_part = parts.read_part(str(tmp_path / "place"), None, tuple(CLASSES), "the run")
    assert len(test_part.file_names) == (expected.parts == 2).sum()


def test_labels_say_the_ids_of_the_classes(photos, tmp_path):
    (tmp_path / "ids.json").write_text('{"0": "paper", "1": "metal", "2": "glass"}')
    done("--mode", "pack", "--data", photos, "--target", tmp_path / "place", "--labels",
         tmp_path / "ids.json")
    samples, class_names, _ = read_labelled(str(tmp_path / "place"))
    assert class_names == ("paper", "metal", "glass")
    assert samples.class_ids.tolist() == [2] * 4 + [1] * 4 + [0] * 4


def test_a_place_without_parts_says_how_to_get_them(place):
    line = refusal("--mode", "train", "--data", place, "--weights", "none")
    assert "its photos have no parts: assign them with --mode split" in line


@pytest.mark.parametrize("orientation", [1, 6])
def test_pack_size_makes_larger_photos_smaller_and_upright(tmp_path, orientation):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    write_image(tmp_path / "photos" / "a" / "small.png", size=(90, 60))
    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    picture = Image.fromarray(np.broadcast_to(ramp[None, :, None], (200, 400, 3)).copy())
    exif = Image.Exif()
    exif[0x0112] = orientation  # 6: turn by a quarter to the right
    picture.save(tmp_path / "photos" / "a" / "large.png", exif=exif)
    write_image(tmp_path / "photos" / "b.jpg")
    os.makedirs(tmp_path / "photos" / "b")
    os.rename(tmp_path / "photos" / "b.jpg", tmp_path / "photos" / "b" / "1.jpg")
    done("--mode", "pack", "--data", tmp_path / "photos", "--target", tmp_path / "place",
         "--pack_size", 64)
    large, small, _ = (content for content, _ in contents(tmp_path / "place"))
    assert small == (tmp_path / "photos" / "a" / "small.png").read_bytes()
    image = Image.open(io.BytesIO(large))
    assert image.format == "JPEG" and not image.getexif()
    assert image.size == ((128, 64) if orientation == 1 else (64, 128))
    upright = np.asarray(picture if orientation == 1 else picture.transpose(Image.ROTATE_270))
    expected = cv2.resize(upright, image.size, interpolation=cv2.INTER_AREA)
    assert np.abs(np.asarray(image).astype(int) - expected).max() <= 4
    unpack(str(tmp_path / "place"), str(tmp_path / "back"))
    assert sorted(files(tmp_path / "back")) == ["a/large.png.jpg", "a/small.png", "b/1.jpg",
                                                "label.json"]
    assert "packed with 64" in refusal("--mode", "pack", "--data", tmp_path / "photos", "--target",
                                       tmp_path / "place")


# --- later photos, and packing that was stopped ----------------------------------------


def test_later_photos_become_new_shards_and_old_ones_stay(photos, place, tmp_path):
    before = files(place)["photos-00000.tar"]
    write_image(photos / "glass" / "00.png", seed=77)  # first in the order
    write_image(photos / "paper" / "9.png", seed=78)
    os.rename(photos / "metal" / "1.jpg", photos / "metal" / "8.jpg")  # known by its content
    found = done("--mode", "pack", "--data", photos, "--target", place)
    assert {**found, "bytes": 0} == {
        "target": str(place), "photos": 14, "added": 2, "shards": 2, "new_shards": 1, "bytes": 0}
    assert files(place)["photos-00000.tar"] == before
    assert contents(place) == contents(photos)
    os.unlink(photos / "glass" / "00.png")  # it stays in the place, at the end
    pack(str(photos), str(place))
    assert contents(place)[:-1] == contents(photos) and len(contents(place)) == 14


def test_nothing_new_writes_no_shard(photos, place):
    before = {name: os.stat(place / name).st_mtime_ns for name in os.listdir(place)
              if name.endswith(".tar")}
    assert pack(str(photos), str(place))[:4] == (12, 0, 1, 0)
    assert before == {name: os.stat(place / name).st_mtime_ns for name in before}


@pytest.mark.parametrize("change, said", [
    (lambda photos: (photos / "glass" / "0.png").write_bytes(b"other"), "has changed since"),
    (lambda photos: os.rename(photos / "glass" / "0.png", photos / "metal" / "7.png"),
     "has another class or part than when it was packed"),
    (lambda photos: write_image(photos / "paper" / ".." / "x.png"), "not in the folder of a class"),
    (lambda photos: (os.mkdir(photos / "wood"), write_image(photos / "wood" / "1.png")),
     "has the classes glass, metal, paper, --data has glass, metal, paper, wood"),
    (lambda photos: go("--mode", "split", "--data", photos), "have no parts"),
])
def test_a_place_of_other_data_stays_as_it_is(photos, place, change, said):
    before = files(place)
    change(photos)
    assert said in refusal("--mode", "pack", "--data", photos, "--target", place)
    assert files(place) == before


def test_packing_continues_after_an_error_with_the_shards_that_are_missing(
        tmp_path, monkeypatch):
    photos = write_classes(tmp_path / "photos", 10, (100, 100))
    monkeypatch.setattr(packing_plan, "MEGABYTE", 100_000)
    pack(str(photos), str(tmp_path / "whole"), Packing(2))
    read, count = packing.read_photo, 0

    def fail_later(path):
        nonlocal count
        count += 1
        if count > 12:
            raise OSError(28, "No space left on device")
        return read(path)

    monkeypatch.setattr(packing, "read_photo", fail_later)
    with pytest.raises(RunError, match="No space left on device"):
        pack(str(photos), str(tmp_path / "place"), Packing(2))
    left = {name: os.stat(tmp_path / "place" / name).st_ino
            for name in os.listdir(tmp_path / "place") if name.endswith(".tar")}
    assert left and not (tmp_path / "place" / "index.json").exists()
    with pytest.raises(InputError, match="packing has not ended; give the same --mode pack"):
        read_labelled(str(tmp_path / "place"))
    monkeypatch.setattr(packing, "read_photo", read)
    found = pack(str(photos), str(tmp_path / "place"), Packing(2))
    assert found.new_shards == found.shards - len(left)
    assert left == {name: os.stat(tmp_path / "place" / name).st_ino for name in left}
    assert files(tmp_path / "place") == files(tmp_path / "whole")


def test_a_photo_that_changed_while_packing_stood_still_is_packed_anew(photos, place):
    os.unlink(place / "index.json")
    (place / ".packing").write_bytes(b"")
    content = (photos / "glass" / "2.bmp").read_bytes()
    time.sleep(0.02)
    (photos / "glass" / "2.bmp").write_bytes(content[:-1] + b"\1")  # of the same size
    assert pack(str(photos), str(place)).new_shards == 1
    assert contents(place) == contents(photos)


def test_sigkill_at_any_moment_leaves_whole_shards_alone(tmp_path):
    photos = write_classes(tmp_path / "photos", 40, (200, 200))
    pack(str(photos), str(tmp_path / "whole"), Packing(1))
    program = ("import sys; from data.packing import pack; from data.packing_plan import Packing; "
               "pack(sys.argv[1], sys.argv[2], Packing(1), report=print)")
    for lines in (1, 30, 70):
        process = subprocess.Popen(
            [sys.executable, "-uc", program, str(photos), str(tmp_path / "place")], cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for name in os.listdir(tmp_path / "place"):
            if name.startswith("photos-"):
                assert filecmp.cmp(tmp_path / "place" / name, tmp_path / "whole" / name, False)
    pack(str(photos), str(tmp_path / "place"), Packing(1))
    assert files(tmp_path / "place") == files(tmp_path / "whole")


# --- reading ---------------------------------------------------------------------------


def test_names_are_a_sequence_without_text(photos, place):
    samples = read_labelled(str(place)).samples
    names, texts = samples.file_names, list(samples.file_names)
    assert len(names) == 12 and not isinstance(names, list)
    assert samples.class_ids.dtype == np.int32
    assert names[np.int64(3)] == names[3] == texts[3] and names[-1] == texts[-1]
    assert list(names[2:7:2]) == texts[2:7:2] and list(names[[5, 1]]) == [texts[5], texts[1]]
    chosen = samples.select(np.array([7, 2, 2]))
    assert list(chosen.file_names) == [texts[7], texts[2], texts[2]]
    assert chosen.class_ids.tolist() == samples.class_ids[[7, 2, 2]].tolist()
    assert list(chosen.select(np.array([2, 0])).file_names) == [texts[2], texts[7]]
    assert chosen.file_names[-2:][0] == texts[2] and texts[5] in names
    with pytest.raises(IndexError):
        names[12]


def test_a_name_is_an_address_that_needs_nothing_else(place):
    samples = read_labelled(str(place)).samples
    path = os.path.join(samples.folder, samples.file_names[4])
    shard, offset, length, crc = path.rsplit(":", 3)
    with open(shard, "rb") as file:
        file.seek(int(offset))
        content = file.read(int(length))
    assert content == read_photo(path) and crc == f"{zlib.crc32(content):08x}"
    assert photo_files.file_name(path).split(".")[0].isdigit()
    assert photo_files.is_there(path) and not photo_files.is_there(path.replace("-0000", "-0001"))


def test_a_run_matches_the_classes_by_name(place):
    found = read_labelled(str(place), ("paper", "wood", "metal", "glass"), "the run")
    assert found.samples.class_ids.tolist() == [3] * 4 + [2] * 4 + [0] * 4
    with pytest.raises(InputError, match="the class 'glass' is not one of those of the run"):
        read_labelled(str(place), ("paper", "metal"), "the run")


def test_places_and_folders_are_read_together(photos, place, tmp_path):
    other = write_classes(tmp_path / "more", 2)
    samples, class_names, _ = read_all((str(place), str(other)))
    found = [read_photo(os.path.join(samples.folder, name)) for name in samples.file_names]
    assert found == [content for data in (photos, other) for content, _ in contents(data)]
    assert samples.class_ids.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [0, 0, 1, 1, 2, 2]


def test_packed_places_with_other_classes_are_refused(place, tmp_path):
    write_classes(tmp_path / "photos-of-two", 2)
    shutil.rmtree(tmp_path / "photos-of-two" / "paper")
    pack(str(tmp_path / "photos-of-two"), str(tmp_path / "part"), Packing(1))
    part = str(tmp_path / "part")
    # A place that lacks a class is of the same data set,
    data = read_all((part, str(place)))
    assert data.class_names == ("glass", "metal", "paper")
    assert np.bincount(data.samples.class_ids).tolist() == [6, 6, 4]
    # one that has another class is not,
    os.rename(tmp_path / "photos-of-two" / "metal", tmp_path / "photos-of-two" / "tin")
    pack(str(tmp_path / "photos-of-two"), str(tmp_path / "other"), Packing(1))
    other = str(tmp_path / "other")
    with pytest.raises(InputError) as error:
        read_all((other, str(place)))
    assert str(error.value).startswith(
        f"{other}: is packed with other classes than {place}: only it has tin; only {place} has "
        "metal, paper; ")
    # unless somebody says which classes there are; a folder may bring a new one.
    labels = tmp_path / "label.json"
    labels.write_text(json.dumps({"0": "tin", "1": "metal", "2": "glass", "3": "paper"}))
    data = read_all((other, str(place)), labels_path=str(labels))
    assert np.bincount(data.samples.class_ids).tolist() == [2, 4, 6, 4]
    assert len(read_all((str(tmp_path / "photos-of-two"), str(place))).class_names) == 4


def test_descriptors_are_few_and_a_shard_that_was_replaced_is_opened_anew(tmp_path, monkeypatch):
    photos = write_classes(tmp_path / "photos", 10, (100, 100))
    monkeypatch.setattr(packing_plan, "MEGABYTE", 20_000)
    pack(str(photos), str(tmp_path / "place"), Packing(1))
    before = len(os.listdir("/proc/self/fd"))
    assert contents(tmp_path / "place") == contents(photos)
    assert len(os.listdir("/proc/self/fd")) - before <= photo_files.MOST_OPEN
    content = (tmp_path / "place" / "photos-00000.tar").read_bytes()
    os.unlink(tmp_path / "place" / "photos-00000.tar")
    (tmp_path / "place" / "photos-00000.tar").write_bytes(content)
    assert contents(tmp_path / "place") == contents(photos)


def test_every_mode_that_only_reads_takes_a_place(photos, place, tmp_path):
    done("--mode", "statistics", "--source", place, "--target", tmp_path / "statistics")
    tables = []
    for data in (photos, place):
        done("--mode", "mean_std", "--source", data, "--target", tmp_path / "m.json")
        tables.append(json.loads((tmp_path / "m.json").read_text()))
    assert tables[0] == tables[1] and tables[0]["images"] == 12
    found = done("--mode", "audit", "--source", place, "--target", tmp_path / "audit")
    assert (found["images"], found["errors"], found["warnings"]) == (12, 0, 0)


def test_a_run_keeps_which_packed_photos_it_has_learned(place, tmp_path):
    samples = read_labelled(str(place), ("paper", "glass", "metal"), "the run").samples
    chosen = samples.select(np.array([9, 0, 5]))
    write_trained_on(str(tmp_path / "run"), chosen)
    expected = []
    for name, class_id in zip(chosen.file_names, (0, 1, 2)):
        path = os.path.join(os.path.realpath(place), name)
        content = hashlib.sha256(read_photo(path)).digest()[:8]
        expected.append((path, class_id, int.from_bytes(content, "big")))
    assert read_trained_on(str(tmp_path / "run")) == expected
    (tmp_path / "run" / "margins" / "packed.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="packed.npz: cannot be read"):
        read_trained_on(str(tmp_path / "run"))


@pytest.mark.parametrize("words", [
    ("label", "--data"), ("split", "--data"), ("add", "--source", "new", "--data"),
    ("txt2dir", "--target", "out", "--source"), ("dir2txt", "--target", "out", "--source"),
])
def test_modes_that_change_photos_send_to_unpack(place, words):
    line = refusal("--mode", *words, place)
    assert f"is packed, and --mode {words[0]} changes" in line and "--mode unpack --data" in line


@pytest.mark.parametrize("mode, header, cells", [
    ("clean", "path,action", ",remove"), ("relabel", "path,label,new_label", ",glass,metal"),
])
def test_tables_of_packed_photos_send_to_unpack(place, tmp_path, mode, header, cells):
    samples = read_labelled(str(place)).samples
    address = os.path.join(samples.folder, samples.file_names[0])
    (tmp_path / "table.csv").write_text(f"{header}\n{address}{cells}\n")
    (tmp_path / "runs" / "run").mkdir(parents=True)
    words = ["--csv", tmp_path / "table.csv"]
    if mode == "relabel":
        words += ["--run", place, "--data", place]
    line = refusal("--mode", mode, *words)
    assert "--mode unpack --data" in line or "neither a run" in line


# --- tar files of others ---------------------------------------------------------------


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def pictures(count):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 8, 8, 3), np.uint8)
    return [cv2.imencode(".png", image)[1].tobytes() for image in images]


@pytest.mark.parametrize("kind", ["cls", "cls_names", "json", "folder"])
def test_tar_files_of_others_are_indexed_once(tmp_path, kind):
    folder, images, classes = tmp_path / "others", pictures(5), [1, 0, 2, 1, 0]
    folder.mkdir()
    names = ("ant", "bee", "cat")
    for number, positions in enumerate(([0, 1, 2], [3, 4])):
        members = []
        for position in positions:
            folder_name = names[classes[position]] if kind == "folder" else "s"
            key = f"{folder_name}/{position:03}"
            members.append((f"{key}.png", images[position]))
            if kind.startswith("cls"):
                text = names[classes[position]] if kind == "cls_names" else str(classes[position])
                members.append((f"{key}.cls", text.encode()))
            if kind == "json":
                members.append((f"{key}.json", json.dumps({"label": classes[position]}).encode()))
        write_tar(folder / f"train-{number}.tar", members)
    if kind == "json":
        (folder / "label.json").write_text(json.dumps(dict(enumerate(names))))
    expected = names if kind != "cls" else ("0", "1", "2")
    for _ in range(2):
        assert contents(folder) == [(image, expected[c]) for image, c in zip(images, classes)]
    stamp = os.stat(folder / "index.npy").st_mtime_ns
    contents(folder)
    assert os.stat(folder / "index.npy").st_mtime_ns == stamp
    if kind in ("cls", "cls_names"):  # a further tar file is noticed
        write_tar(folder / "train-2.tar", [("9.png", images[0]), ("9.cls", expected[0].encode())])
        assert len(contents(folder)) == 6
    unpack(str(folder), str(tmp_path / "back"))
    assert sorted(content for content, _ in contents(tmp_path / "back")) == sorted(
        content for content, _ in contents(folder))


def test_the_index_of_a_place_that_cannot_be_written_to_is_in_the_users_cache(
        tmp_path, monkeypatch, capsys):
    folder = tmp_path / "others"
    folder.mkdir()
    write_tar(folder / "a.tar", [("x/1.png", pictures(1)[0]), ("y/1.png", pictures(2)[1])])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write = packed_index.write_index

    def refuse_there(where, *rest):
        if where == str(folder):
            raise PermissionError(13, "Permission denied")
        write(where, *rest)

    monkeypatch.setattr("data.other_shards.write_index", refuse_there)
    assert [name for _, name in contents(folder)] == ["x", "y"]
    assert os.listdir(folder) == ["a.tar"] and "its index is in" in capsys.readouterr().err
    assert [name for _, name in contents(folder)] == ["x", "y"]
    assert "indexing" not in capsys.readouterr().err


@pytest.mark.parametrize("members, said", [
    ([("1.png", b"x"), ("1.jpg", b"y"), ("1.cls", b"0")], "the key '1' has 2 photos"),
    ([("1.cls", b"0")], "the key '1' has 0 photos"),
    ([("1.png", b"x")], "the key '1' has no class"),
    ([("a/1.png", b"x"), ("2.png", b"x"), ("2.cls", b"7")], "some classes are numbers, some are"),
    ([("1.png", b"x"), ("1.json", b"[")], "1.json cannot be read"),
    ([("1.png", b""), ("1.cls", b"0")], "1.png has 0 bytes"),
])
def test_tar_files_that_say_no_class_are_refused(tmp_path, members, said):
    (tmp_path / "others").mkdir()
    write_tar(tmp_path / "others" / "a.tar", members)
    with pytest.raises(InputError, match="a.tar|others") as caught:
        read_labelled(str(tmp_path / "others"))
    assert said in str(caught.value)


def test_compressed_tar_files_are_refused(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    write_tar(tmp_path / "b.tar", [("x/1.png", b"1")])
    with pytest.raises(InputError, match="a.tar.gz: photos in tar files are read where"):
        read_labelled(str(tmp_path))


# --- bad input -------------------------------------------------------------------------


def cut(place):
    os.truncate(place / "photos-00000.tar", 20_000)


def rewrite(place):
    content = bytearray((place / "photos-00000.tar").read_bytes())
    content[:] = content[::-1]
    (place / "photos-00000.tar").write_bytes(content)


@pytest.mark.parametrize("change, said", [
    (lambda place: os.unlink(place / "photos-00000.tar"), "photos-00000.tar: No such file"),
    (cut, "photos-00000.tar: is cut off: has 20,000 bytes"),
    (lambda place: (place / "index.npy").write_bytes(b"x"), "is not the index that"),
    (lambda place: os.unlink(place / "index.npy"), "index.npy: No such file"),
    (lambda place: (place / "index.json").write_text("{"), "is not the index of a packed place"),
    (lambda place: (place / "index.json").write_text('{"format": 2}'), "has format 2"),
    (lambda place: (place / "index.json").write_text('{"format": 1}'), "is damaged"),
    (lambda place: (place / "label.json").write_text('{"0": "cat"}'), "names other classes than"),
    (lambda place: damage_index(place, lambda e, d: e["shard"].__setitem__(0, 9)),
     "names shards, classes or groups that are not there"),
    (lambda place: damage_index(place, lambda e, d: e["class"].__setitem__(0, -1)), "classes"),
    (lambda place: damage_index(place, lambda e, d: e["offset"].__setitem__(0, 2**64 - 1)),
     "names shards"),
    (lambda place: damage_index(place, lambda e, d: d.update(photos=13)), "is damaged"),
    (lambda place: damage_index(place, lambda e, d: d["shards"][0].update(name="../x.tar")),
     "is damaged"),
    (lambda place: damage_index(place, lambda e, d: d["shards"][0].update(bytes=-1)), "is damaged"),
])
def test_a_damaged_place_is_refused_in_one_line(place, change, said):
    change(place)
    assert said in refusal("--mode", "statistics", "--source", place)


def test_a_shard_with_other_bytes_gives_an_error_and_never_a_picture(place):
    rewrite(place)
    samples = read_labelled(str(place)).samples
    for name in samples.file_names:
        with pytest.raises(ImageError, match="holds other bytes there than were packed") as caught:
            read_photo(os.path.join(samples.folder, name))
        assert "photos-00000.tar:" in caught.value.name
    with pytest.raises(InputError, match="is not the shard that was packed"):
        unpack(str(place), str(place) + "-back")
    assert not os.path.exists(str(place) + "-back")


def test_a_shard_that_ends_early_says_where(place):
    samples = read_labelled(str(place)).samples
    cut(place)
    errors = []
    for name in samples.file_names:
        try:
            read_photo(os.path.join(samples.folder, name))
        except ImageError as error:
            errors.append(error)
    assert errors and {error.code for error in errors} == {"truncated"}


@pytest.mark.parametrize("words, said", [
    (("pack", "--data", "photos", "--target", "photos"), "lie inside each other"),
    (("pack", "--data", "photos", "--target", "photos/glass"), "lie inside each other"),
    (("pack", "--data", "photos", "--target", "full"), "is not empty and no packed place"),
    (("pack", "--data", "photos", "--target", "full/file"), "is a file; give a folder"),
    (("pack", "--data", "place", "--target", "other"), "its photos are packed already"),
    (("pack", "--data", "photos", "--target", "s3://bucket/place"), "reads and writes folders of"),
    (("unpack", "--data", "photos", "--target", "other"), "is no packed place"),
    (("unpack", "--data", "place", "--target", "full"), "give a folder that does not exist"),
])
def test_what_cannot_be_packed_or_unpacked(photos, place, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    os.mkdir("full")
    with open("full/file", "w"):
        pass
    assert said in refusal("--mode", *words)
    assert os.listdir("full") == ["file"] and not os.path.exists("other")


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png", "a//x.png",
                                  "a/./x.png", "", "a\0.png", "x" * 5000])
def test_paths_that_lead_out_of_the_target_are_refused(name):
    with pytest.raises(InputError, match="leads out of --target"):
        check_path(name, "photos-00000.tar:1:2:3")


def test_an_evil_shard_writes_nothing(photos, place, tmp_path):
    """A shard and an index that fit each other, and a path that leads out."""
    path = place / "photos-00000.tar"
    content = path.read_bytes().replace(b'"path": "glass/0.png"', b'"path": "../../x.png"')
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    damage_index(place, lambda entries, d: d["shards"][0].update(sha256=digest))
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"its path '\.\./\.\./x\.png' leads out of --target"):
        unpack(str(place), str(tmp_path / "back"))
    assert files(tmp_path) == before


def test_two_photos_of_one_path_are_no_overwriting(photos, place, tmp_path):
    path = place / "photos-00000.tar"
    content = path.read_bytes().replace(b'"path": "glass/3.png"', b'"path": "glass/0.png"')
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    damage_index(place, lambda entries, d: d["shards"][0].update(sha256=digest))
    with pytest.raises(InputError, match="another photo has its path 'glass/0.png' as well"):
        unpack(str(place), str(tmp_path / "back"))


def fuzz(place, target, names, rounds, seed=0):
    """(errors of ours, how often all was read): files of a place are damaged by chance.

    Where a photo is given, it has to be the one that was packed.
    """
    originals = {name: (place / name).read_bytes() for name in names}
    expected = {content for content, _ in contents(place)}
    generator, refused, read = random.Random(seed), 0, 0
    for number in range(rounds):
        name = generator.choice(names)
        (place / name).write_bytes(mutate(originals[name], generator))
        try:
            if number % 4:
                found = contents(place)
            else:
                unpack(str(place), str(target))
                found = contents(target)
            assert {content for content, _ in found} <= expected
            read += 1
        except InputError:
            refused += 1
        finally:
            (place / name).write_bytes(originals[name])
            if target.exists():
                shutil.rmtree(target)
    return refused, read


def test_damaged_shards_and_indexes_give_errors_of_ours(place, tmp_path, capsys):
    """`python -m benchmarks.shards --fuzz 5000` does so more often."""
    names = ["photos-00000.tar", "index.npy", "index.json", "label.json"]
    refused, read = fuzz(place, tmp_path / "back", names, 120)
    assert refused > 60 and refused + read == 120


def test_damaged_tar_files_of_others_give_errors_of_ours(tmp_path, capsys):
    """Here the bytes themselves are all that is known: what is read has a whole tar around it."""
    (tmp_path / "others").mkdir()
    members = [(f"{name}/{number}.png", image) for number, image in enumerate(pictures(6))
               for name in ("x",)]
    write_tar(tmp_path / "whole.tar", members)
    content, generator = (tmp_path / "whole.tar").read_bytes(), random.Random(1)
    for _ in range(150):
        (tmp_path / "others" / "a.tar").write_bytes(mutate(content, generator))
        for name in ("index.npy", "index.json", "label.json"):
            if (tmp_path / "others" / name).exists():
                os.unlink(tmp_path / "others" / name)
        try:
            samples, class_names, _ = read_labelled(str(tmp_path / "others"))
            for name in samples.file_names:
                read_photo(os.path.join(samples.folder, name))
        except InputError:
            pass


def test_a_list_that_ends_at_a_damaged_header_is_no_end(place):
    content = bytearray((place / "photos-00000.tar").read_bytes())
    with tarfile.open(place / "photos-00000.tar") as archive:
        offset = archive.getmembers()[9].offset
    content[offset : offset + 100] = b"\xff" * 100
    (place / "photos-00000.tar").write_bytes(content)
    with pytest.raises(InputError, match=f"is damaged at byte {offset:,}"):
        list(shard_files.list_samples(str(place / "photos-00000.tar")))
