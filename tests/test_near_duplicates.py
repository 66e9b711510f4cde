"""Which pictures are taken for the same: hashes, alignment, groups."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from data import hash_pairs, near_duplicates
from data.geometry import Preprocessing, resize_to_square
from data.hash_pairs import near_pairs
from data.picture_alignment import SIDE, show_the_same


def photo(seed, width=160, height=120):
    """Blurred noise of several sizes and some shapes: it has detail everywhere, as photos have."""
    generator = np.random.default_rng(seed)
    image = sum(
        gaussian_filter(generator.normal(size=(height, width, 3)), (size, size, 0)) * size**1.2
        for size in (1, 4, 12, 30)
    )
    image = 128 + 45 * (image - image.mean()) / image.std()
    image = np.clip(image, 20, 235).astype(np.uint8)
    for _ in range(4):
        color = tuple(map(int, generator.integers(30, 220, 3)))
        center = int(generator.integers(0, width)), int(generator.integers(0, height))
        cv2.circle(image, center, int(generator.integers(8, 25)), color, -1)
    return image


def small(image):
    return resize_to_square(image, Preprocessing(SIDE, "stretch"))


def groups(*images):
    return near_duplicates.groups(near_duplicates.describe([small(image) for image in images]))


def crop(image, fraction):
    """Without `fraction` of width and height, half of it at each end."""
    height, width = image.shape[:2]
    top, left = round(height * fraction / 2), round(width * fraction / 2)
    return np.ascontiguousarray(image[top : height - top, left : width - left])


def turn(image, degrees):
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def brighter(image, factor):
    return np.clip(image * factor, 0, 255).astype(np.uint8)


COPIES = {
    "half size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5,
                                          interpolation=cv2.INTER_AREA),
    "squeezed": lambda image: cv2.resize(image, (120, 120), interpolation=cv2.INTER_AREA),
    "JPEG": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [1, 40])[1], 1),
    "brighter": lambda image: brighter(image, 1.3),
    "darker": lambda image: brighter(image, 0.6),
    "contrast": lambda image: np.clip((image - 128.0) * 1.4 + 128, 0, 255).astype(np.uint8),
    "warmer": lambda image: np.clip(image * (1.15, 1.0, 0.85), 0, 255).astype(np.uint8),
    "grey": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY),
                                       cv2.COLOR_GRAY2RGB),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "mirrored, brighter": lambda image: brighter(image[:, ::-1], 1.2),
    "cropped": lambda image: crop(image, 0.05),
    "turned": lambda image: turn(image, 2),
    "turned back": lambda image: turn(image, -2),
    "cropped at a corner": lambda image: image[3:, 4:],
    "in a border": lambda image: cv2.copyMakeBorder(image, 3, 3, 3, 3, cv2.BORDER_CONSTANT),
    "gamma": lambda image: (255 * (image / 255) ** 1.6).astype(np.uint8),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_the_same_picture(kind):
    originals = [photo(seed) for seed in range(12)]
    found = groups(*originals, *map(COPIES[kind], originals))
    assert found.tolist() == [*range(12), *range(12)]


def test_different_pictures_are_not():
    assert groups(*map(photo, range(60))).tolist() == list(range(60))


def recolored(color):
    """A round thing of one colour before a grey wall."""
    image = photo(1) // 8 + 160
    cv2.circle(image, (80, 60), 40, color, -1)
    return image


def test_things_of_one_shape_and_another_colour_are_not():
    red, blue = recolored((200, 60, 60)), recolored((60, 60, 200))
    grey = cv2.cvtColor(cv2.cvtColor(red, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    warmer = COPIES["warmer"](red)
    assert groups(red, blue).tolist() == [0, 1]
    assert groups(red, grey).tolist() == groups(red, warmer).tolist() == [0, 0]


def test_the_negative_of_a_picture_is_another_one():
    pictures = small(photo(2))[None, :, :, 0], 255 - small(photo(2))[None, :, :, 0]
    assert not show_the_same(*pictures)[0]


@pytest.mark.parametrize("shift, scale, degrees", [
    (0, 1.06, 0), (1.2, 1, 0), (0, 1, 3), (-0.8, 1.04, -2),
])
def test_moves_of_up_to_two_pixels_are_seen(shift, scale, degrees):
    """OpenCV moves the picture before it is made small; those of two photos are no move."""
    matrix = cv2.getRotationMatrix2D((79.5, 59.5), degrees, scale)
    matrix[:, 2] += np.array([160, 120]) / SIDE * shift
    for seed in range(6):
        image = photo(seed)
        moved = cv2.warpAffine(image, matrix, (160, 120), borderMode=cv2.BORDER_REFLECT)
        ones, twos, others = (
            cv2.cvtColor(small(each), cv2.COLOR_RGB2GRAY)[None]
            for each in (image, moved, photo(seed + 100))
        )
        assert show_the_same(ones, twos)[0] and show_the_same(twos, ones)[0]
        assert not show_the_same(ones, others)[0]


def test_digits_are_not_copies_of_each_other():
    """Two hand-written ones look more alike than any two photos; a copy of one is still found."""
    digits = [
        cv2.cvtColor(cv2.resize((digit * 15.9).astype(np.uint8), (64, 64)), cv2.COLOR_GRAY2RGB)
        for digit in load_digits().images[:400]
    ]
    found = groups(*digits, *(cv2.flip(digit, 1) for digit in digits[:20]))
    assert len(set(found[:400].tolist())) >= 396
    assert (found[400:] == found[:20]).all()


def test_a_copy_that_shares_its_hash_with_a_third_picture(monkeypatch):
    """Pictures of one hash are compared with several that have it, not with the first alone."""
    monkeypatch.setattr(near_duplicates, "perceptual_hash", lambda picture: np.uint64(5))
    one, two = photo(1), photo(2)
    copies = brighter(one, 1.1), COPIES["half size"](two)
    assert groups(one, two, *copies).tolist() == [0, 1, 0, 1]


def test_many_pictures_of_one_hash_are_compared_with_few(monkeypatch):
    compared = []
    monkeypatch.setattr(near_duplicates, "perceptual_hash", lambda picture: np.uint64(5))
    monkeypatch.setattr(
        near_duplicates, "show_the_same",
        lambda ones, twos: compared.append(len(ones)) or np.zeros(len(ones), bool),
    )
    monkeypatch.setattr(near_duplicates, "MIN_COARSE_CORRELATION", -1)
    noise = np.random.default_rng(0).integers(0, 256, (300, SIDE, SIDE, 1), dtype=np.uint8)
    near_duplicates.groups(near_duplicates.describe(noise.repeat(3, axis=3)))
    # Each with every leader, and the leaders among themselves, mirrored or not
    most = near_duplicates.MAX_LEADERS
    assert 300 * (most - 1) < sum(compared) <= 300 * most + most * most


def test_flat_pictures():
    white, grey = (np.full((60, 80, 3), value, np.uint8) for value in (255, 128))
    assert groups(white, grey, white, photo(0)).tolist() == [0, 1, 0, 3]
    pictures = [small(image)[None, :, :, 0] for image in (white, photo(0))]
    assert not show_the_same(*pictures)[0] and not show_the_same(*pictures[::-1])[0]


def test_alike_agrees_with_groups():
    for kind, change in COPIES.items():
        one, two = photo(3), photo(4)
        described = near_duplicates.describe([small(image) for image in (one, change(one), two)])
        assert near_duplicates.alike(described, 0, 1) and near_duplicates.alike(described, 1, 0)
        assert not near_duplicates.alike(described, 1, 2)
        words = near_duplicates.differences(described, 1, 0)
        assert ("mirrored" in words) == ("mirrored" in kind)
        assert ("without colours" in words) == (kind == "grey")
        if kind in ("brighter", "darker"):
            assert words == [kind]
            opposite = {"brighter": "darker", "darker": "brighter"}[kind]
            assert near_duplicates.differences(described, 0, 1) == [opposite]
        if kind in ("half size", "JPEG", "cropped"):
            assert words == []


def test_no_images():
    assert groups().tolist() == []


# Pairs of hashes


@pytest.mark.parametrize("most, max_bits", [(10**6, 16), (0, 7)])
def test_pairs_are_those_of_comparing_all(monkeypatch, most, max_bits):
    """Also where only hashes with a byte in common are compared, up to seven bits."""
    monkeypatch.setattr(hash_pairs, "MAX_ALL_PAIRS", most)
    monkeypatch.setattr(hash_pairs, "ROW_BLOCK", 7)
    monkeypatch.setattr(hash_pairs, "COLUMN_BLOCK", 31)
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**63, 300, dtype=np.uint64)
    for number in range(150):  # near ones, from 1 to 20 bits away
        bits = generator.choice(64, 1 + number % 20, replace=False)
        flip = np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64))
        hashes[150 + number] = hashes[number] ^ flip
    others = hashes[generator.permutation(300)]
    distances = {
        (i, j): bin(int(hashes[i]) ^ int(others[j])).count("1")
        for i in range(300) for j in range(i + 1, 300)
    }
    expected = {pair: bits for pair, bits in distances.items() if bits <= max_bits}
    pairs, bits = near_pairs(hashes, others, max_bits, 300, workers=2)
    assert dict(zip(map(tuple, pairs.tolist()), bits.tolist())) == expected
    assert len(expected) > 20


def test_the_nearest_partners_are_kept():
    hashes = np.array([0, 0b1, 0b11, 0b111, 0b1111], np.uint64)
    pairs, bits = near_pairs(hashes, hashes, 64, 2)
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3], [2, 4], [3, 4]]
    assert bits.tolist() == [1, 2, 1, 2, 1, 2, 1]
