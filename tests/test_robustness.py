"""evaluation/robustness.py: photos made worse as they should be, and the accuracy on them."""

import os

import numpy as np
import pytest
from conftest import write_image, write_samples
from scipy.ndimage import gaussian_filter

from data.geometry import Preprocessing
from data.samples import read_samples
from evaluation import robustness
from evaluation.robustness import STRENGTHS, corrupt
from prediction.classifier import Classifier
from prediction.runtimes import Answers


@pytest.fixture
def image():
    generator = np.random.default_rng(0)
    coarse = generator.integers(20, 235, (8, 8, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


def worse(image, kind, strength, seed=0):
    return corrupt(image, kind, strength, np.random.default_rng(seed)).astype(float)


def test_blur(image):
    expected = gaussian_filter(image.astype(float), (64 * 0.02, 64 * 0.02, 0), mode="mirror")
    found = worse(image, "blur", 2)
    assert np.abs(found - expected)[8:-8, 8:-8].max() < 3


def test_noise(image):
    noise = worse(np.full((200, 200, 3), 128, np.uint8), "noise", 20) - 128
    assert noise.std() == pytest.approx(20, rel=0.01) and abs(noise.mean()) < 0.3
    assert worse(np.full((20, 20, 3), 250, np.uint8), "noise", 60).max() == 255


def test_darkness(image):
    assert np.abs(worse(image, "darkness", 0.4) - 0.4 * image).max() <= 0.5


def test_jpeg(image):
    losses = [np.abs(worse(image, "JPEG", quality) - image).mean() for quality in (95, 30, 4)]
    assert 0 < losses[0] < losses[1] < losses[2]
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    assert worse(red, "JPEG", 50)[..., 0].mean() > 150  # channels stay in their order


def test_rotation(image):
    turned = [worse(image, "rotation", 90, seed) for seed in range(8)]
    either = [np.rot90(image, 1), np.rot90(image, -1)]
    assert {min(range(2), key=lambda side: np.abs(one - either[side]).mean())
            for one in turned} == {0, 1}
    assert all(min(np.abs(one - side).mean() for side in either) < 1 for one in turned)


def test_stronger_is_worse(image):
    for kind, strengths in STRENGTHS.items():
        if kind != "rotation":
            losses = [np.abs(worse(image, kind, one) - image).mean() for one in strengths]
            assert losses == sorted(losses) and len(set(losses)) == 5


def test_accuracy_of_each_kind_and_strength(tmp_path):
    """A classifier that says how bright a photo is: darkness alone takes its answers away."""
    folder = write_samples(tmp_path / "data", 4, {"dark": (20, 20, 20), "bright": (200, 200, 200)})

    def predict(images):
        is_bright = images.mean((1, 2, 3)) > 100
        return Answers(np.stack([1.0 - is_bright, is_bright], 1).astype(np.float32))

    classifier = Classifier(("dark", "bright"), Preprocessing(32), predict)
    table = robustness.measure(classifier, read_samples(folder, ("dark", "bright")), 3)
    assert table.pop("darkness") == [1.0, 1.0, 0.5, 0.5, 0.5]
    assert table == {kind: [1.0] * 5 for kind in ("blur", "noise", "JPEG", "rotation")}
    with open(os.path.join(folder, "img_0_0.png"), "wb") as file:
        file.write(b"no picture")
    assert robustness.measure(classifier, read_samples(folder, ("dark", "bright")), 3)["blur"] == [
        0.875] * 5
    write_image(os.path.join(folder, "img_0_0.png"), (20, 20, 20))
