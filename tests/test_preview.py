"""other/preview.py: what the picture holds, and what is refused."""

import json
import os

import numpy as np
import pytest
from conftest import command, without_layout, write_image, write_samples
from PIL import Image

from common.errors import InputError, RunError
from config.parser import parse
from data.augmentation import Augmentation
from data.geometry import Preprocessing
from data.label_names import write_label_names
from data.mixing import Mixing
from data.samples import read_samples, write_sample
from data_gen_label import ImageBatches, Variation
from other import preview

SIDE, STEP_X, STEP_Y = 160, 168, 210  # 40 pixels fourfold; 8 between, 3 * 14 below


def run(data, target, *words):
    options = parse("preview", ["--train_data", data, "--target", str(target), "--input_size",
                                "40", *words])
    preview.main(options)
    return np.asarray(Image.open(target))


def cell(picture, number, columns):
    left, top = 8 + number % columns * STEP_X, 8 + number // columns * STEP_Y
    return picture[top : top + SIDE, left : left + SIDE][2::4, 2::4]


@pytest.mark.parametrize("size", [5, 18])
def test_shows_the_batches_that_training_takes(tmp_path, capsys, size):
    data = write_samples(tmp_path / "data", 7)  # 21 images
    words = ["--batch_size", str(size), "--mixup", "0.4", "--cutmix", "1", "--seed", "5",
             "--sampler", "balanced", "--json"]
    picture = run(data, tmp_path / "p.png", *words)
    options = parse("preview", ["--train_data", data])
    batches = ImageBatches(
        read_samples(data, ("red", "green", "blue")), 3, size, Preprocessing(40),
        Variation("balanced", Augmentation(*(getattr(options, n) for n in Augmentation._fields)),
                  Mixing(0.4, 1.0), label_smoothing=0.1, seed=5),
    )
    shown = 20 if size == 5 else 18  # whole batches until there are 16
    x = np.concatenate([batches[index][0] for index in range(shown // size)])
    batches.close()
    for number in range(shown):
        assert np.array_equal(cell(picture, number, 5), x[number])
    rest = picture[8 + 3 * STEP_Y :, 8 + (shown - 15) * STEP_X :]
    assert (rest == 255).all()
    out = capsys.readouterr().out
    assert json.loads(out) == {"target": str(tmp_path / "p.png"), "images": shown}
    assert out.count("\n") == 1


def test_few_images_and_an_undecodable_one(tmp_path, capsys):
    data = write_samples(tmp_path / "data", 1)
    with open(os.path.join(data, "img_2_0.png"), "wb") as file:
        file.write(b"no picture")
    picture = run(data, tmp_path / "p.png")
    assert sum((cell(picture, number, 2) == 0).all() for number in range(3)) == 1
    for number in range(3):  # something is written below each
        top = 8 + number // 2 * STEP_Y + SIDE + 2
        left = 8 + number % 2 * STEP_X
        assert (picture[top : top + 20, left : left + SIDE] < 100).any()
    assert "img_2_0.png" in capsys.readouterr().err


def test_caption():
    row = np.array([0.02, 0.6, 0.0, 0.38], np.float32)
    (first, share), (second, other) = preview.caption(row)
    assert (first, second) == (1, 3)
    assert round(share, 6) == 0.6 and round(other, 6) == 0.38
    # 0.1 over four classes is 0.025 each: that is no class of the image.
    smoothed = np.array([0.925, 0.025, 0.025, 0.025], np.float32)
    assert [number for number, _ in preview.caption(smoothed, 0.1)] == [0]


@pytest.mark.parametrize("target, part", [
    ("nowhere/p.png", "no such folder"), (".", "is a folder"), ("p.jpg", ".png"),
])
def test_targets_refused(folder, tmp_path, target, part):
    with pytest.raises(InputError, match=f"--target.*{part}"):
        run(folder, tmp_path / target)


def test_a_failed_picture_leaves_what_was_there(folder, tmp_path, monkeypatch):
    target = tmp_path / "p.png"
    target.write_bytes(b"before")

    def fail(self, path, **options):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(RunError, match="p.png cannot be written: No space left"):
        run(folder, target)
    assert target.read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["data", "p.png"]


def named(tmp_path, name):
    data = tmp_path / "named"
    data.mkdir()
    write_image(data / "a.png")
    write_sample(data, "a.png", 1)
    write_label_names(data, ["x", name])
    return str(data)


def test_names_that_no_font_knows(tmp_path, capsys, monkeypatch):
    """They are drawn as ids, and one line says what helps."""
    monkeypatch.setattr(preview, "FONTS", ())
    picture = run(named(tmp_path, "纸板"), tmp_path / "p.png")
    error = without_layout(capsys.readouterr().err)
    assert error.count("\n") == 1 and "fonts-noto-cjk" in error
    (tmp_path / "other").mkdir()
    expected = run(named(tmp_path / "other", "class 1"), tmp_path / "q.png")
    assert np.array_equal(picture, expected)
    assert without_layout(capsys.readouterr().err) == ""


def test_long_names_stay_within_their_cell(tmp_path):
    picture = run(named(tmp_path, "W" * 200), tmp_path / "p.png")
    assert picture.shape[1] == STEP_X + 8
    assert (picture[8 + SIDE + 2 :, 8 + SIDE + 4 :] == 255).all()


def test_from_the_command_line(folder, tmp_path):
    target = tmp_path / "p.png"
    found = command("--mode", "preview", "--train_data", folder, "--target", target, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["images"] == 12
    assert Image.open(target).format == "PNG"
