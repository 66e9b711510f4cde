"""A model as a page: size, time to the first answer, and how close it is to Python.

    python -m benchmarks.web --model FOLDER --photos DIR [--rounds 5] [--json]

FOLDER is an exported model with `web`, DIR holds photos, also in folders below. The time is that of
a fresh headless Chromium from opening the page on the loopback, a photo chosen at once, to its
answer; a new profile each round. Agreement is with ONNX Runtime on Python's pixels of at most 256
photos: by the page as it is; with libjpeg's reduced scale from the browser's pixels instead of the
file; with JPEGs taken at full size; and, as a yardstick, by Python itself with one level added to
or taken from as many pixels by chance as the second way changes.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time

import numpy as np

from data.decoding import load
from data.image_files import find_images
from export import web, web_proof
from prediction import runtimes
from prediction.exported_model import formats_of, parse_description, read_description

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from browser import Browser  # noqa: E402  the driver that the tests use
from web_server import serving  # noqa: E402

MOST = 256
DECODER = "isJpeg && await reducedJpeg(blob, settings)"
REDUCTION = "if (isJpeg) picture = reduce(picture, height, width);"
# Way of making the pixels -> what is taken out of the page's script for it
WAYS = {"page": (), "from_pixels": (DECODER,), "full_size": (DECODER, REDUCTION)}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="exported model with the format web")
    parser.add_argument("--photos", required=True, help="folder of photos")
    parser.add_argument("--rounds", type=int, default=5, help="openings of the page")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    paths = find_images([asked.photos])
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, min(MOST, len(paths))).astype(int)]
    page_folder = os.path.join(asked.model, web.FOLDER)
    result = {
        "megabytes": sum(entry.stat().st_size for entry in os.scandir(page_folder)) / 1e6,
        "seconds": [first_answer(page_folder, paths[0]) for _ in range(asked.rounds)],
        "photos": len(paths),
        **agreements(asked.model, paths),
    }
    print(json.dumps(result, indent=None if asked.json else 1))


def first_answer(page_folder, photo):
    """Seconds from opening the page to the answer for a photo that is chosen at once."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            with serving(page_folder) as server:
                began = time.perf_counter()
                browser.open(f"{server.url}/index.html#here")
                browser.choose("#files", photo)
                browser.wait("document.querySelector('.bars') !== null")
                seconds = time.perf_counter() - began
                browser.open("about:blank")
        finally:
            browser.close()
    return seconds


def agreements(model_folder, paths):
    """dict of way -> how far it is from Python's pixels and answers."""
    description = read_description(model_folder)
    class_names, preprocessing = parse_description(model_folder, description)
    [precision] = formats_of(description)[web.FORMAT]
    predict = runtimes.open_model(model_folder, "onnx", precision)
    images = np.stack([load(path, preprocessing) for path in paths])
    expected = compute(predict, images)
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for way, removed in WAYS.items():
            folder = shutil.copytree(os.path.join(model_folder, web.FOLDER), f"{scratch}/{way}")
            for text in removed:
                replace(os.path.join(folder, "preprocessing.js"), text, "null;")
            found = web_proof.predict(folder, paths, len(class_names), preprocessing.size)
            rows[way] = compare(found.pixels, found.answers.probabilities, images, expected)
    changed = rows["from_pixels"]["pixels"]
    noise = np.random.default_rng(0).choice(
        (-1, 0, 1), images.shape, p=(changed / 2, 1 - changed, changed / 2)
    )
    noisy = np.clip(images + noise, 0, 255).astype(np.uint8)
    rows["noise"] = compare(noisy, compute(predict, noisy), images, expected)
    return rows


def replace(path, old_text, new_text):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert old_text in text, f"{path}: has no {old_text!r}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(old_text, new_text))


def compute(predict, images):
    return np.concatenate(
        [predict(images[i : i + 16]).probabilities for i in range(0, len(images), 16)]
    )


def compare(pixels, probabilities, images, expected):
    apart = np.abs(pixels.astype(int) - images).mean(axis=(1, 2, 3))
    return {
        "pixels": float(apart.mean()),
        "worst_photo": float(apart.max()),
        "other_class": int((probabilities.argmax(1) != expected.argmax(1)).sum()),
        "largest_probability_difference": float(np.abs(probabilities - expected).max()),
    }


if __name__ == "__main__":
    main()
