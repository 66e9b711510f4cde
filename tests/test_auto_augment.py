"""data/auto_augment.py: each operation against NumPy or a picture worked out by hand."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT, write_image
from PIL import Image
from scipy.stats import kstest

from data import auto_augment
from data.auto_augment import AUGMIX, RANDAUGMENT, ImagePolicy
from data.geometry import Preprocessing
from data.image_reader import ImageReader
from data.mixing import Mixing


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def operate(name, image, amount):
    result = RANDAUGMENT[name](Image.fromarray(image), amount)
    assert result.mode == "RGB" and result.size == image.shape[1::-1]
    return np.asarray(result)


def generators(seed):
    return np.random.default_rng((seed, 1)), np.random.default_rng((seed, 2))


# The operations


def test_operations_are_those_of_the_papers():
    assert set(RANDAUGMENT) == {
        "identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize",
        "contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
    }
    left_out = {"identity", "color", "contrast", "brightness", "sharpness"}
    assert set(AUGMIX) == set(RANDAUGMENT) - left_out


def plane(right, down):
    """Grey, 31x31, `right` more a column and `down` more a row, 128 in the middle."""
    steps = np.arange(31) - 15
    values = 128 + right * steps[None] + down * steps[:, None]
    return np.repeat(values[..., None], 3, axis=2).astype(np.uint8)


# A shift by 0.45 * 31 * 0.2 = 2.79 pixels lowers a plane of 4 a column by 11.16. A shear of
# 0.3 * 0.5 takes row r from 0.15 * r columns further left: 4 a column become 0.6 less a row.
@pytest.mark.parametrize("name, amount, right, down, expected", [
    ("translate_x", 0.2, 4, 0, lambda x, y: -11.16),
    ("translate_x", -0.2, 4, 0, lambda x, y: 11.16),
    ("translate_x", 0.2, 0, 4, lambda x, y: 0),
    ("translate_y", 0.2, 0, 4, lambda x, y: -11.16),
    ("translate_y", 0.2, 4, 0, lambda x, y: 0),
    ("shear_x", 0.5, 4, 0, lambda x, y: -0.6 * y),
    ("shear_x", 0.5, 0, 4, lambda x, y: 0),
    ("shear_y", 0.5, 0, 4, lambda x, y: -0.6 * x),
    ("shear_y", -0.5, 0, 4, lambda x, y: 0.6 * x),
])
def test_shifts_and_shears_of_a_plane(name, amount, right, down, expected):
    image = plane(right, down)
    result = operate(name, image, amount).astype(float)
    y, x = np.mgrid[:31, :31]
    change = (result - image)[..., 0]
    inner = slice(6, 25)  # away from what came in
    assert np.abs(change - expected(x, y))[inner, inner].max() <= 1.01


@pytest.mark.parametrize("amount", [1.0, -1.0, 0.5])
def test_rotation_of_a_plane(amount):
    """About the centre by 30 degrees at most; above zero counter-clockwise."""
    angle = math.radians(30 * amount)
    result = operate("rotate", plane(4, 0), amount).astype(float)[..., 0]
    y, x = np.mgrid[:31, :31] - 15  # y down
    # A point came from where the rotation turned back puts it.
    expected = 128 + 4 * (x * math.cos(angle) - y * math.sin(angle))
    inner = np.hypot(x, y) < 14
    assert np.abs(result - expected)[inner].max() <= 1.01


def test_gray_comes_in():
    white = np.full((20, 20, 3), 255, np.uint8)
    shifted = operate("translate_x", white, 1.0)  # by 9 pixels
    assert (shifted[:, :9] == 128).all() and (shifted[:, 9:] == 255).all()
    shifted = operate("translate_y", white, -1.0)
    assert (shifted[11:] == 128).all() and (shifted[:11] == 255).all()
    assert (operate("rotate", white, 1.0)[0, 0] == 128).all()
    assert (operate("shear_x", white, 1.0)[19, 0] == 128).all()
    assert (operate("shear_y", white, 1.0)[0, 19] == 128).all()


@pytest.mark.parametrize("amount, bits", [
    (0.0, 8), (0.1, 8), (0.2, 7), (-0.5, 6), (0.5, 6), (0.8, 5), (1.0, 4), (-1.0, 4),
])
def test_posterize_keeps_the_highest_bits(amount, bits):
    image = noise(16)
    assert np.array_equal(operate("posterize", image, amount), image >> (8 - bits) << (8 - bits))


@pytest.mark.parametrize("amount, threshold", [
    (0.0, 256), (0.25, 192), (-0.25, 192), (0.5, 128), (1.0, 0),
])
def test_solarize_inverts_from_a_threshold_up(amount, threshold):
    image = noise(16)
    expected = np.where(image < threshold, image, 255 - image)
    assert np.array_equal(operate("solarize", image, amount), expected)


def test_autocontrast_stretches_each_channel():
    image = noise(16) // 4 + np.array([10, 60, 120], np.uint8)
    least, most = image.min(axis=(0, 1)).astype(float), image.max(axis=(0, 1)).astype(float)
    expected = (image - least) * 255 / (most - least)
    result = operate("autocontrast", image, 0.3)
    assert np.abs(result - expected).max() <= 1
    assert (result.min(axis=(0, 1)) == 0).all() and (result.max(axis=(0, 1)) == 255).all()


def test_equalize_spreads_each_channel():
    """Four values, each as frequent as the others, become four at even distances."""
    image = np.repeat(np.arange(4), 255).reshape(30, 34, 1)
    image = np.concatenate([image**2, 5 * image**3 + 99, 9 - image**2], axis=2).astype(np.uint8)
    even = np.repeat([0, 85, 170, 255], 255).reshape(30, 34)
    result = operate("equalize", image, 0.3)
    assert np.array_equal(result, np.stack([even, even, 255 - even], axis=2))


def luma(image):
    """ITU-R BT.601, 0-255."""
    return image.astype(float) @ [0.299, 0.587, 0.114]


def smoothed(image):
    """Mean of each pixel's 3 x 3 neighbours, itself five times; the border as it is."""
    result = image.astype(float)
    for row in range(1, image.shape[0] - 1):
        for column in range(1, image.shape[1] - 1):
            around = image[row - 1 : row + 2, column - 1 : column + 2].astype(float)
            result[row, column] = (around.sum(axis=(0, 1)) + 4 * around[1, 1]) / 13
    return result


BASES = {
    "brightness": lambda image: np.zeros(image.shape),
    "color": lambda image: np.repeat(luma(image)[..., None], 3, axis=2),
    "contrast": lambda image: np.full(image.shape, luma(image).mean()),
    "sharpness": smoothed,
}


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("amount, factor", [(-1.0, 0.1), (-0.5, 0.55), (0.0, 1), (1.0, 1.9)])
def test_enhancements_lead_from_a_base_through_the_image(name, amount, factor):
    image = noise(12)
    base = BASES[name](image)
    expected = np.clip(base + factor * (image - base), 0, 255)
    # Pillow rounds the base to whole numbers, then the sum.
    assert np.abs(operate(name, image, amount) - expected).max() <= 2


@pytest.mark.parametrize("name", sorted(set(RANDAUGMENT) - {"autocontrast", "equalize"}))
def test_no_amount_changes_nothing(name):
    assert np.array_equal(operate(name, noise(16), 0.0), noise(16))


def test_tiny_images():
    for name in RANDAUGMENT:
        for size in (1, 2, 3):
            operate(name, noise(size), 1.0)


# What is drawn


def fake(monkeypatch, *functions):
    for name in ("RANDAUGMENT", "AUGMIX"):
        monkeypatch.setattr(auto_augment, name, dict(enumerate(functions)))


def adding(value):
    return lambda image, amount: Image.fromarray(np.asarray(image) + np.uint8(value))


def test_randaugment_is_two_operations_each_as_likely_as_the_others(monkeypatch):
    fake(monkeypatch, adding(1), adding(10), adding(100))
    policy, counts = ImagePolicy(Mixing(randaugment=0.5)), np.zeros(3)
    for seed in range(200):
        image = np.zeros((1, 1, 3), np.uint8)
        policy(image, *generators(seed))
        digits = [int(image[0, 0, 0]) // 10**n % 10 for n in range(3)]
        assert sum(digits) == 2
        counts += digits
    assert (np.abs(counts - 400 / 3) < 4 * math.sqrt(400 * 2 / 9)).all()


@pytest.mark.parametrize("field", ["randaugment", "augmix"])
@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_amounts_are_uniform_up_to_the_strength(monkeypatch, field, strength):
    amounts = []
    fake(monkeypatch, lambda image, amount: amounts.append(amount) or image)
    policy = ImagePolicy(Mixing(**{field: strength}))
    for seed in range(200):
        policy(np.zeros((1, 1, 3), np.uint8), *generators(seed))
    assert kstest(amounts, "uniform", (-strength, 2 * strength)).pvalue > 1e-3


@pytest.mark.parametrize("field, names", [("randaugment", RANDAUGMENT), ("augmix", AUGMIX)])
def test_which_operations_come(monkeypatch, field, names):
    seen = set()

    def named(name):
        return lambda image, amount: seen.add(name) or image

    for table, held in (("RANDAUGMENT", RANDAUGMENT), ("AUGMIX", AUGMIX)):
        monkeypatch.setattr(auto_augment, table, {name: named(name) for name in held})
    policy = ImagePolicy(Mixing(**{field: 0.5}))
    for seed in range(80):
        policy(np.zeros((1, 1, 3), np.uint8), *generators(seed))
    assert seen == set(names)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_augmix_of_nothing_is_nothing(monkeypatch, value):
    """The shares of the image and of the three chains are one whole, white included."""
    fake(monkeypatch, lambda image, amount: image)
    for seed in range(50):
        image = np.full((4, 4, 3), value, np.uint8)
        ImagePolicy(Mixing(augmix=0.5))(image, *generators(seed))
        assert (image == value).all()


def test_augmix_is_the_sum_of_its_chains(monkeypatch):
    """Chains of one to three operations, each from the image, by Beta and Dirichlet shares."""
    seen = []

    def operation(image, amount):
        seen.append(image.getpixel((0, 0))[0])
        return adding(60)(image, amount)

    fake(monkeypatch, operation)
    policy, depths = ImagePolicy(Mixing(augmix=0.5)), []
    for seed in range(60):
        seen.clear()
        image = np.zeros((1, 1, 3), np.uint8)
        policy(image, *generators(seed))
        starts = [n for n, value in enumerate(seen) if value == 0]  # each chain starts anew
        assert len(starts) == 3
        lengths = np.diff([*starts, len(seen)])
        depths += lengths.tolist()
        drawn = generators(seed)[1]  # the shares come first, then what the image keeps
        shares, kept = drawn.dirichlet([1, 1, 1]), drawn.beta(1, 1)
        assert abs(image[0, 0, 0] - (1 - kept) * (shares @ (60 * lengths))) <= 0.501
    assert (np.abs(np.bincount(depths)[1:] - 60) < 4 * math.sqrt(180 * 2 / 9)).all()


@pytest.mark.parametrize("chosen", [Mixing(randaugment=0.7), Mixing(augmix=0.7),
                                    Mixing(randaugment=1.0, augmix=1.0)])
def test_an_image_is_a_function_of_its_generators_in_every_thread(chosen):
    policy = ImagePolicy(chosen)

    def work(seed):
        images = np.stack([noise(20, seed)] * 2)
        policy(images[1], *generators(seed))  # a row of a batch, in place
        assert images.dtype == np.uint8 and np.array_equal(images[0], noise(20, seed))
        return images[1]

    once = [work(seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(work, reversed(range(40))))[::-1]
    assert np.array_equal(once, again)
    changed = [not np.array_equal(image, noise(20, seed)) for seed, image in enumerate(once)]
    assert sum(changed) > 25


def test_neither_changes_what_the_other_draws(monkeypatch):
    """After RandAugment of nothing, AugMix makes what it makes alone."""
    monkeypatch.setattr(auto_augment, "RANDAUGMENT", {"identity": RANDAUGMENT["identity"]})
    for seed in range(5):
        alone, both = noise(12), noise(12)
        ImagePolicy(Mixing(augmix=0.6))(alone, *generators(seed))
        ImagePolicy(Mixing(randaugment=0.6, augmix=0.6))(both, *generators(seed))
        assert np.array_equal(alone, both)


def test_off():
    assert not ImagePolicy(Mixing(mixup=1.0, cutmix=1.0))
    assert ImagePolicy(Mixing(randaugment=0.1)) and ImagePolicy(Mixing(augmix=0.1))


def test_reading_data_needs_no_backend():
    modules = [name.removesuffix(".py") for name in os.listdir(os.path.join(ROOT, "data"))
               if name.endswith(".py")]
    assert {"auto_augment", "epoch_sampler", "prefetching", "samples"} <= set(modules)
    loaded = subprocess.run(
        [sys.executable, "-c", "import importlib, sys\n"
         f"for name in {modules}: importlib.import_module(f'data.{{name}}')\n"
         "print({'keras', 'tensorflow', 'jax'} & set(sys.modules))"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )
    assert loaded.stdout.strip() == "set()", loaded.stderr


@pytest.mark.parametrize("mixing", [Mixing(randaugment=1.0), Mixing(augmix=1.0)])
def test_a_policy_draws_anew_for_each_image_epoch_and_seed(tmp_path, mixing):
    path = str(tmp_path / "photo.png")
    write_image(path)
    reader = ImageReader(Preprocessing(24), mixing=mixing)

    def read(*draw):
        row = np.empty((24, 24, 3), np.uint8)
        reader.read(path, draw, row)
        return row.tobytes()

    draws = [(seed, epoch, position, 0) for seed in (0, 1) for epoch in (0, 1)
             for position in range(5)]
    assert len({read(*draw) for draw in draws}) > len(draws) // 2
    assert all(read(*draw) == read(*draw) for draw in draws)
