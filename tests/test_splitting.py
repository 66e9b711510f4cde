"""data/splitting.py: pictures that show the same stay on one side of the hold-out."""

import io
import os

import numpy as np
import pytest
from conftest import COLORS
from PIL import Image, ImageEnhance, ImageOps
from test_bad_input import leave_checkpoint

from common.errors import InputError
from config import parser
from data import splitting
from data.label_names import write_label_names
from data.samples import Samples, write_sample
from data.splitting import read_groups, split
from runs import run_folder
from training import setup, training_data

CHANGES = {
    "small": lambda image: image.resize((image.width // 2, image.height // 2)),
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "mirrored": ImageOps.mirror,
}


def photo(seed):
    """A texture, smooth like a photo's, of its own for every seed."""
    generator = np.random.default_rng(seed)
    image = np.zeros((96, 128, 3))
    for rows, weight in ((3, 0.5), (6, 0.3), (12, 0.2)):
        coarse = generator.integers(30, 226, (rows, rows * 4 // 3, 3), np.uint8)
        image += weight * np.asarray(Image.fromarray(coarse).resize((128, 96), Image.BICUBIC))
    return Image.fromarray(image.astype(np.uint8))


def put(folder, name, image, quality=90):
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    (folder / name).write_bytes(data.getvalue())


def samples_of(folder):
    """Class by the first character of the name, which is a digit."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".jpg"))
    return Samples(str(folder), names, np.array([int(name[0]) for name in names], np.int32))


def with_copies(folder, count):
    """Photos of two classes, each with a copy of every kind."""
    for number in range(count):
        name, image = f"{number % 2}_{number:02}", photo(number)
        put(folder, f"{name}.jpg", image)
        for change, function in CHANGES.items():
            put(folder, f"{name}_{change}.jpg", function(image))
    return samples_of(folder)


def originals(samples):
    return {name[:4] for name in samples.file_names}


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_no_copy_stands_on_both_sides(tmp_path, fraction):
    samples = with_copies(tmp_path, 40)
    kept, held = split(samples, fraction, workers=2)
    assert not originals(kept) & originals(held)
    assert len(kept.file_names) + len(held.file_names) == 200
    assert len(originals(held)) == len(held.file_names) / 5
    # Of 40 groups: within four standard deviations
    assert abs(len(originals(held)) / 40 - fraction) < 4 * np.sqrt(fraction * (1 - fraction) / 40)
    assert {0, 1} == set(kept.class_ids.tolist()) == set(held.class_ids.tolist())


def test_bytes_alone_tear_copies_apart(tmp_path):
    samples = with_copies(tmp_path, 10)
    kept, held = split(samples, 0.5, near=False)
    assert len(originals(kept) & originals(held)) > 5


def test_added_images_leave_the_others_where_they_are(tmp_path):
    samples = with_copies(tmp_path, 30)
    held = set(split(samples, 0.3)[1].file_names)
    for number in range(30, 50):
        put(tmp_path, f"{number % 2}_{number:02}.jpg", photo(number))
    new_held = set(split(samples_of(tmp_path), 0.3, workers=2)[1].file_names)
    assert new_held & set(samples.file_names) == held
    # A new copy of each photo decides for its group once in six times.
    for number in range(30):
        put(tmp_path, f"{number % 2}_{number:02}_again.jpg", photo(number), 60)
    newest_held = set(split(samples_of(tmp_path), 0.3)[1].file_names)
    moved = {name[:4] for name in (newest_held ^ new_held) if "again" not in name}
    assert len(moved) <= 6


def test_the_order_of_the_names_changes_nothing(tmp_path):
    samples = with_copies(tmp_path, 12)
    order = np.random.default_rng(0).permutation(len(samples.file_names))
    held = split(samples, 0.4)[1].file_names
    assert set(split(samples.select(order), 0.4)[1].file_names) == set(held)


def test_the_larger_part_of_a_class_stays_in_training(tmp_path):
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for quality in range(60, 90, 3):
            put(folder, f"0_{quality}.jpg", photo(seed), quality)
        for other in range(3):
            put(folder, f"0_other{other}.jpg", photo(100 + 10 * seed + other))
        held = split(samples_of(folder), 0.5)[1].file_names
        assert held and all("other" in name for name in held)


def test_a_class_that_shows_one_picture_stays_in_training(tmp_path):
    for quality in range(60, 90, 3):
        put(tmp_path, f"0_{quality}.jpg", photo(0), quality)
        put(tmp_path, f"1_{quality}.jpg", photo(quality))
    kept, held = split(samples_of(tmp_path), 0.5)
    assert (kept.class_ids == 0).sum() == 10
    assert set(held.class_ids.tolist()) == {1}


def test_blank_pictures_are_no_copies_of_each_other_unless_equal(tmp_path):
    for number in range(6):
        Image.new("RGB", (40 + number, 30), (120, 120, 120)).save(tmp_path / f"0_{number}.png")
    (tmp_path / "0_again.png").write_bytes((tmp_path / "0_0.png").read_bytes())
    (tmp_path / "0_no.png").write_bytes(b"no picture")
    (tmp_path / "0_no_either.png").write_bytes(b"no picture")
    names = sorted(os.listdir(tmp_path))
    _, leaders = read_groups([str(tmp_path / name) for name in names])
    groups = [{names[i] for i in np.flatnonzero(leaders == leader)} for leader in set(leaders)]
    assert sorted(map(sorted, groups)) == [
        ["0_0.png", "0_again.png"], ["0_1.png"], ["0_2.png"], ["0_3.png"], ["0_4.png"],
        ["0_5.png"], ["0_no.png", "0_no_either.png"],
    ]


def test_of_too_many_only_the_bytes_count(tmp_path, monkeypatch):
    samples = with_copies(tmp_path, 10)
    lines = []
    monkeypatch.setattr(splitting, "say", lines.append)
    monkeypatch.setattr(splitting, "MAX_COMPARED", 49)
    parts = split(samples, 0.3)
    expected = split(samples, 0.3, near=False)
    assert [part.file_names for part in parts] == [part.file_names for part in expected]
    [line] = lines
    assert "50 images are too many" in line and "49" in line


# --- training ---------------------------------------------------------------------------

@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in with_copies(folder, 12).file_names:
        write_sample(folder, name, int(name[0]))
    write_label_names(folder, list(COLORS)[:2])
    return str(folder)


def prepare(*words):
    return setup.prepare(parser.parse("train", list(words)))


def test_training_holds_groups_out(data, tmp_path):
    ready = prepare("--train_data", data, "--val_fraction", "0.4", "--save_dir", str(tmp_path))
    assert ready.validation.file_names
    assert not originals(ready.training) & originals(ready.validation)


@pytest.mark.parametrize("near", [True, False])
def test_a_run_is_resumed_with_the_parts_it_has(data, tmp_path, monkeypatch, near):
    """False: a run of an earlier version, which held files out by their bytes alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(setup, "say", lambda line: None)
    words = ("--train_data", data, "--val_fraction", "0.4", "--save_dir", "runs", "--run", "one")
    with monkeypatch.context() as patch:
        if not near:
            patch.setattr(training_data, "split", lambda *known: split(*known[:3], near=False))
        first = prepare(*words)
    assert bool(originals(first.training) & originals(first.validation)) is not near
    run_folder.create(first.run_path, first.options, first.class_names, False)
    leave_checkpoint(first.run_path, 1, {"data": setup.fingerprint(first), "best_epoch": 1})
    again = prepare("--resume", "one", "--save_dir", "runs")
    assert again.training.file_names == first.training.file_names
    assert again.validation.file_names == first.validation.file_names
    write_sample(data, "0_00.jpg", 1)
    with pytest.raises(InputError, match="--resume: the images or labels have changed"):
        prepare("--resume", "one", "--save_dir", "runs")


def test_a_class_without_validation_images_is_named(data, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(setup, "say", lines.append)
    for name in os.listdir(data):
        if name.startswith("1_") and not name.startswith("1_01"):
            os.remove(os.path.join(data, name))
    prepare("--train_data", data, "--save_dir", str(tmp_path))
    assert f"note: no validation image has the class {list(COLORS)[1]}" in lines


def test_classes_of_one_picture_leave_nothing_to_hold_out(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        for quality in (60, 75, 90):
            put(folder, f"{number}_{quality}.jpg", photo(number), quality)
            write_sample(folder, f"{number}_{quality}.jpg", number)
    write_label_names(folder, list(COLORS)[:2])
    with pytest.raises(InputError, match="only copies of one; .*--val_data"):
        prepare("--train_data", str(folder), "--save_dir", str(tmp_path))
