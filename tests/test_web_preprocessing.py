"""pages/web/preprocessing.js in Chromium makes the pixels that Python makes."""

import base64
import io
import json
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from browser import Browser, needs_chromium
from conftest import ROOT
from PIL import Image, ImageCms
from web_server import serving

from data.decoding import load
from data.geometry import Preprocessing
from export import self_test
from prediction.exported_model import describe_preprocessing
from prediction.runtimes import Answers

pytestmark = needs_chromium
FILL = (30, 200, 90)
RESIZES = ("letterbox", "crop", "stretch")
LIKE_PYTHON = 0.05  # levels in the mean: libjpeg computes in integers, the page in floats
COLORS = np.array([[60, 40, 30], [200, 180, 60], [30, 90, 190], [240, 240, 235]], float)


def photo(width, height, seed=0, grain=6):
    """Something between a photo and noise: soft patches of colours, edges, and grain."""
    generator = np.random.default_rng(seed)
    coarse = COLORS[generator.integers(0, 4, (7, 9))].astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image[height // 3 : height // 2, width // 5 : width // 2] = (220, 40, 60)
    image += generator.normal(0, grain, (height, width, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


def encode(array, kind, **settings):
    data = io.BytesIO()
    Image.fromarray(array).save(data, kind, **settings)
    return data.getvalue()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """On an empty page beside the scripts."""
    browser = Browser(tmp_path_factory.mktemp("profile"))
    with serving(os.path.join(ROOT, "pages", "web")) as server:
        browser.open(f"{server.url}/preprocessing.js")
        yield browser
        browser.close()


def pixels(browser, data, preprocessing):
    """What the script makes of a file's bytes: uint8 (S, S, 3)."""
    settings = json.dumps(describe_preprocessing(preprocessing))
    text = base64.b64encode(data).decode()
    answer = browser.evaluate(
        "import('/preprocessing.js').then(async ({ preprocess }) => {"
        f"const bytes = Uint8Array.from(atob('{text}'), c => c.charCodeAt(0));"
        f"const pixels = await preprocess(new Blob([bytes]), {settings});"
        "return btoa(Array.from(pixels, v => String.fromCharCode(v)).join('')) })")
    size = preprocessing.size
    return np.frombuffer(base64.b64decode(answer), np.uint8).reshape(size, size, 3).astype(int)


def difference(browser, data, preprocessing):
    """(mean, largest) absolute difference to Python's pixels."""
    apart = np.abs(pixels(browser, data, preprocessing) - load(data, preprocessing))
    return apart.mean(), apart.max()


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [31, 96])
def test_test_vectors(browser, tmp_path, size, resize):
    preprocessing = Preprocessing(size, resize, FILL)
    self_test.write(str(tmp_path), preprocessing,
                    lambda images: Answers(np.zeros((len(images), 1), np.float32)))
    for path in sorted((tmp_path / "self_test").glob("*.png")):
        if not path.name.endswith(".pixels.png"):
            mean, largest = difference(browser, path.read_bytes(), preprocessing)
            assert mean < 0.5 and largest <= 2, (path.name, mean, largest)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("width, height", [(640, 480), (479, 641), (1600, 1200), (130, 97), (8, 9)])
def test_jpegs(browser, width, height, resize):
    """Python decodes them at the scale of libjpeg that is enough."""
    for size in (64, 224):
        data = encode(photo(width, height), "JPEG", quality=88)
        mean, largest = difference(browser, data, Preprocessing(size, resize, FILL))
        assert mean < LIKE_PYTHON and largest <= 3, (size, mean, largest)


@pytest.mark.parametrize("settings", [
    {"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True},
    {"subsampling": 1, "progressive": True, "restart_marker_blocks": 5}, {"keep_rgb": True},
    {"restart_marker_rows": 1}, {"qtables": [[9] * 64, [15] * 64], "optimize": True},
], ids=lambda settings: "-".join(map(str, settings)))
@pytest.mark.parametrize("eighths", range(1, 9))
def test_every_scale_of_libjpeg(browser, eighths, settings):
    """A picture whose sides are so that this scale is enough, and no smaller one."""
    data = encode(photo(192, 192), "JPEG", **{"quality": 90, **settings})
    mean, largest = difference(browser, data, Preprocessing(24 * eighths, "stretch"))
    assert mean < LIKE_PYTHON and largest <= 3, (mean, largest)


@pytest.mark.parametrize("progressive", [False, True])
def test_grey_jpegs(browser, progressive):
    data = encode(photo(451, 330)[..., 0], "JPEG", quality=80, progressive=progressive)
    for size in (50, 101, 300):
        mean, largest = difference(browser, data, Preprocessing(size, "crop"))
        assert mean < LIKE_PYTHON and largest <= 1, (size, mean, largest)


def with_segment(data, marker, content):
    """A JPEG with a segment more, before all others."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]


ADOBE_RGB = b"Adobe\0\x64" + bytes(5)
LONG_ORIENTATION = struct.pack(">6s2sHIHHHIII", b"Exif\0\0", b"MM", 42, 8, 1, 0x0112, 4, 1, 6, 0)


@pytest.mark.parametrize("data", [
    pytest.param(with_segment(encode(photo(192, 144), "JPEG"), 0xEE, b"other\0\x64" + bytes(5)),
                 id="a foreign APP14"),
    pytest.param(with_segment(encode(photo(192, 144), "JPEG"), 0xEE, ADOBE_RGB), id="JFIF wins"),
    pytest.param(with_segment(encode(photo(192, 144), "JPEG"), 0xE1, LONG_ORIENTATION),
                 id="orientation as a long"),
    pytest.param(encode(photo(192, 144), "JPEG", keep_rgb=True), id="RGB by its names"),
])
def test_what_a_jpeg_says_of_itself(browser, data):
    mean, largest = difference(browser, data, Preprocessing(60, "letterbox", FILL))
    assert mean < LIKE_PYTHON and largest <= 3, (mean, largest)


@pytest.mark.parametrize("subsampling", ["440", "411"])
def test_rare_jpegs_are_decoded_by_the_browser(browser, subsampling):
    data = simplejpeg.encode_jpeg(photo(640, 480), 90, colorsubsampling=subsampling)
    for size in (64, 224):
        mean, _ = difference(browser, data, Preprocessing(size))
        assert mean < 1.3, (size, mean)


def test_damaged_jpegs_are_left_to_the_browser(browser):
    """What Python refuses may show something there; nothing hangs, and nothing breaks the page."""
    data = encode(photo(320, 240), "JPEG", progressive=True, quality=70)
    generator = np.random.default_rng(0)
    for number in range(60):
        spoilt = bytearray(data[: len(data) - number * 50])
        for place in generator.integers(2, len(spoilt), 3):
            spoilt[place] = generator.integers(256)
        try:
            made = pixels(browser, bytes(spoilt), Preprocessing(32))
        except AssertionError as error:
            assert "InvalidStateError" in str(error), error
        else:
            assert made.shape == (32, 32, 3)


def refusal(browser, data):
    """What the page's own decoder says of a file that it gives up."""
    text = base64.b64encode(data).decode()
    return browser.evaluate(
        "import('/jpeg.js').then(({ decodeReduced }) => {"
        f"const bytes = Uint8Array.from(atob('{text}'), c => c.charCodeAt(0));"
        "try { return `decoded: ${decodeReduced(bytes, () => 1).width}` }"
        "catch (error) { return error.message } })")


def parts_of(data):
    """(what is before a JPEG's first scan, list of its scans, each with its header and tables)."""
    starts = [place for place in range(2, len(data) - 1) if data[place : place + 2] == b"\xff\xda"]
    return data[: starts[0]], [data[one:after] for one, after in zip(starts, [*starts[1:], -2])]


def test_files_that_would_cost_minutes_are_given_up(browser):
    """Scans cost a pass over the whole picture each, and next to no bytes; so does a size."""
    data = encode(photo(320, 240), "JPEG", progressive=True, quality=70)
    head, scans = parts_of(data)
    assert refusal(browser, data) == "decoded: 40"
    further = b"".join(scans[1:]) + data[-2:]
    hundred = head + scans[0] * (101 - len(scans)) + further
    assert refusal(browser, hundred) == "decoded: 40"
    more = head + scans[0] * (102 - len(scans)) + further
    assert refusal(browser, more) == "no frame, or too many scans"
    frame = head.index(b"\xff\xc2") + 5  # height, width
    huge = head[:frame] + struct.pack(">HH", 5000, 6000) + head[frame + 4 :]
    assert refusal(browser, huge + scans[0] + data[-2:]) == "a scan ends too early"
    assert refusal(browser, head + scans[0][:-40] + data[-2:]) == "a scan ends too early"
    assert refusal(browser, scans[0].join([data[:2], data[-2:]])) == "no frame, or too many scans"
    assert refusal(browser, head + scans[0]) == "the file ends too early"


@pytest.mark.parametrize("kind, settings", [
    ("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("GIF", {}),
    ("WEBP", {"quality": 90}), ("JPEG", {"quality": 90, "progressive": True}),
    ("JPEG", {"quality": 90, "subsampling": 0}), ("JPEG", {"quality": 90, "subsampling": 1}),
])
def test_formats(browser, kind, settings):
    mean, _ = difference(browser, encode(photo(333, 250), kind, **settings), Preprocessing(160))
    assert mean < 0.6, mean


@pytest.mark.parametrize("resize", RESIZES)
def test_a_png_of_more_than_a_megapixel(browser, resize):
    data = encode(photo(1501, 1103, grain=0), "PNG")
    mean, largest = difference(browser, data, Preprocessing(96, resize))
    assert mean < 0.5 and largest <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_exif(browser, orientation):
    exif_block = Image.Exif()
    exif_block[0x0112] = orientation
    for kind in ("JPEG", "PNG"):
        data = encode(photo(320, 200), kind, exif=exif_block)
        mean, _ = difference(browser, data, Preprocessing(64, "letterbox", FILL))
        assert mean < 0.6, kind


def test_no_color_profile_is_applied(browser):
    """One that exchanges red and green, as no eye would overlook."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile = bytes(profile).replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ")
    profile = profile.replace(b"tmp_", b"gXYZ")
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encode(photo(320, 200), kind, icc_profile=profile)
        mean, _ = difference(browser, data, Preprocessing(64))
        assert mean < 0.6, kind


def png_chunk(kind, content):
    return (struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content)))


def test_no_gamma_is_applied(browser):
    data = encode(photo(320, 200), "PNG")
    header_end = 8 + 25
    data = data[:header_end] + png_chunk(b"gAMA", struct.pack(">I", 100_000)) + data[header_end:]
    mean, _ = difference(browser, data, Preprocessing(64))
    assert mean < 0.6


def test_transparency(browser):
    rgba = np.dstack([photo(120, 90), np.linspace(0, 255, 120 * 90).reshape(90, 120)])
    palette = Image.fromarray(photo(120, 90)).quantize(32)
    palette_bytes = io.BytesIO()
    palette.save(palette_bytes, "PNG", transparency=3)
    rgba = rgba.astype(np.uint8)
    for data in (encode(rgba, "PNG"), encode(rgba, "WEBP", lossless=True),
                 palette_bytes.getvalue()):
        mean, largest = difference(browser, data, Preprocessing(64, "letterbox", FILL))
        assert mean < 0.6 and largest <= 3, (mean, largest)


def test_sixteen_bits(browser):
    grey = (np.linspace(0, 65535, 70 * 50).reshape(50, 70)).astype(np.uint16)
    data = cv2.imencode(".png", grey)[1].tobytes()
    mean, largest = difference(browser, data, Preprocessing(64))
    assert mean < 0.6 and largest <= 2


def test_what_cannot_be_decoded_is_said(browser):
    with pytest.raises(AssertionError, match="InvalidStateError"):
        pixels(browser, b"no picture", Preprocessing(32))
