"""export/self_test.py: what it draws, and that its pixels and sums are those of other libraries."""

import hashlib
import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from data.decoding import load
from data.geometry import Preprocessing
from export import self_test
from prediction.runtimes import Answers

SIZE, FILL = 32, (250, 200, 100)


def predict(images):
    """A model whose probabilities are the shares of the three colours."""
    sums = np.array([image.reshape(-1, 3).sum(axis=0) for image in images], np.float32)
    return Answers(sums / sums.sum(axis=1, keepdims=True), sums[:, 0] / 1e6)


@pytest.fixture(params=["letterbox", "crop", "stretch"])
def vectors(request, tmp_path):
    """(folder, rows of vectors.json, preprocessing)."""
    preprocessing = Preprocessing(SIZE, request.param, FILL)
    self_test.write(str(tmp_path), preprocessing, predict)
    folder = tmp_path / "self_test"
    content = json.loads((folder / "vectors.json").read_text())
    assert content["preprocessing"] == {"size": SIZE, "resize": request.param,
                                        "fill_color": list(FILL), "max_pixels": 200_000_000}
    return folder, content["vectors"], preprocessing


def test_each_holds_its_image_its_pixels_and_the_answer(vectors):
    folder, rows, preprocessing = vectors
    assert {row["image"] for row in rows} == {
        f"{name}.png" for name in ("landscape", "portrait", "small", "thin", "pixel", "square",
                                   "transparent", "grey", "turned")}
    for row in rows:
        pixels = cv2.imread(str(folder / row["pixels"]))[..., ::-1]
        assert pixels.shape == (SIZE, SIZE, 3)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == row["sha256"]
        assert np.array_equal(pixels, load(str(folder / row["image"]), preprocessing))
        sums = pixels.reshape(-1, 3).sum(axis=0)
        assert row["probabilities"] == pytest.approx(list(sums / sums.sum()), rel=1e-5)
        assert row["similarity"] == pytest.approx(sums[0] / 1e6, rel=1e-5)
    assert sum(map(os.path.getsize, folder.iterdir())) < 100_000


def test_the_pictures_show_what_their_names_say(vectors):
    folder, _, _ = vectors
    sizes = {}
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            sizes[path.stem] = (image.size, image.mode)
    assert sizes["transparent"][1] == "RGBA" and sizes["grey"][1] == "L"
    assert sizes["pixel"][0] == (1, 1) and sizes["square"][0] == (SIZE, SIZE)
    (width, height), _ = sizes["landscape"]
    assert width > 2 * SIZE and width > height and width % 2
    (width, height), _ = sizes["portrait"]
    assert SIZE < height < 2 * SIZE and width < SIZE and height % 2 and width % 2
    with Image.open(folder / "turned.png") as image:
        upright = ImageOps.exif_transpose(image)
        assert upright.size == image.size[::-1] == (61, 90)


def test_orientation_and_transparency_as_pillow_has_them(vectors):
    """At the size that the pictures have, so that nothing is resized."""
    folder, _, _ = vectors
    with Image.open(folder / "turned.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    made = load(str(folder / "turned.png"), Preprocessing(90, "letterbox"))
    assert np.array_equal(made[:, 14:75], upright)  # 61 columns in the middle of 90
    with Image.open(folder / "transparent.png") as image:
        rgba = np.asarray(image).astype(float)
    opacity = rgba[..., 3:] / 255
    expected = rgba[..., :3] * opacity + np.array(FILL) * (1 - opacity)
    made = load(str(folder / "transparent.png"), Preprocessing(61, "letterbox", FILL))
    assert np.abs(made[7:54] - expected).max() <= 1
