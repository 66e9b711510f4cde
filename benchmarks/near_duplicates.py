"""Near duplicates: which copies of photos are recognised, and which photos are taken for copies.

    python -m benchmarks.near_duplicates --data DIR [--photos 300] [--curve] [--json]

DIR holds photos that show different things. Copies of the first `--photos` of them, in an order
that a seed decides, are made in memory, and each kind of copy is held against the photos: the
share of the copies that stand in one group with their original. `false_pairs` are pairs of
different photos in one group, among all photos of DIR. `pairs_seconds` is the time of the search
for near pairs among 100,000 hashes, random ones and ones in clusters, mirrored ones included.
`--curve` gives recall and false pairs where what may be left unexplained is a quarter to eight
times as much, too.
"""

import argparse
import io
import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from data import near_duplicates, picture_alignment
from data.decoding import load
from data.hash_pairs import near_pairs
from data.image_files import walk_images

WORKERS = 2
LIMITS = ("MIN_EXPLAINED", "MAX_LEFT_BY_CURVE", "MAX_LEFT_BY_MOVE")
FACTORS = (0.25, 0.5, 1, 2, 4, 8)  # of what may be left unexplained, for the curve
QUALITY = 90  # of the copies' JPEG, unless the kind is one of quality


def crop(image, share):
    """Without `share` of the width and height, half of it at each end."""
    left, top = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((left, top, image.width - left, image.height - top))


def corner(image, share):
    """Without `share` of the width and height, all of it at the left and the top."""
    return image.crop(
        (round(image.width * share), round(image.height * share), image.width, image.height)
    )


def turn(image, degrees):
    """Turned about its centre, and cut so that no corner is empty."""
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    radians = np.radians(abs(degrees))
    width, height = image.size
    scale = min(
        width / (width * np.cos(radians) + height * np.sin(radians)),
        height / (width * np.sin(radians) + height * np.cos(radians)),
    )
    return crop(turned, 1 - scale)


def turn_with_corners(image, degrees):
    """Turned about its centre, of the same size, with black corners."""
    return image.rotate(degrees, Image.Resampling.BICUBIC)


def warm(image):
    """Red 12 % brighter, blue 12 % darker."""
    gains = np.array([1.12, 1.0, 0.88])
    return Image.fromarray(np.clip(np.asarray(image) * gains, 0, 255).astype(np.uint8))


def brightened(image, factor):
    return ImageEnhance.Brightness(image).enhance(factor)


def watermark(image):
    """White text, half transparent, across the middle."""
    layer = Image.new("L", image.size)
    size = image.height // 8
    ImageDraw.Draw(layer).text(
        (image.width // 8, image.height // 2 - size // 2), "(c) PHOTO 2026", 128, font_size=size
    )
    return Image.composite(Image.new("RGB", image.size, (255, 255, 255)), image, layer)


def border(image, share):
    """A black border around it, `share` of the height wide."""
    return ImageOps.expand(image, round(image.height * share), (0, 0, 0))


def scaled(image, width, height):
    return image.resize((round(image.width * width), round(image.height * height)))


KINDS = {
    "half size": (lambda image: scaled(image, 0.5, 0.5), 1.0),
    "quality 60": (lambda image: image, 1.0),
    "quality 20": (lambda image: image, None),
    "PNG": (lambda image: image, 1.0),
    "squeezed to 80 %": (lambda image: scaled(image, 0.8, 1), None),
    "brighter by 10 %": (lambda image: brightened(image, 1.1), 0.95),
    "brighter by 30 %": (lambda image: brightened(image, 1.3), 0.95),
    "darker by 30 %": (lambda image: brightened(image, 0.7), 0.95),
    "more contrast": (lambda image: ImageEnhance.Contrast(image).enhance(1.4), 0.95),
    "less contrast": (lambda image: ImageEnhance.Contrast(image).enhance(0.6), 0.95),
    "warmer": (warm, 0.95),
    "grey": (lambda image: ImageOps.grayscale(image).convert("RGB"), 0.95),
    "mirrored": (ImageOps.mirror, 0.95),
    "mirrored, half, brighter": (
        lambda image: ImageEnhance.Brightness(ImageOps.mirror(scaled(image, 0.5, 0.5))).enhance(
            1.2
        ),
        None,
    ),
    "cropped by 2 %": (lambda image: crop(image, 0.02), 0.95),
    "cropped by 5 %, centre": (lambda image: crop(image, 0.05), 0.8),
    "cropped by 5 %, corner": (lambda image: corner(image, 0.05), None),
    "cropped by 10 %, centre": (lambda image: crop(image, 0.1), None),
    "turned by 2 degrees": (lambda image: turn(image, 2), 0.8),
    "turned by 2, black corners": (lambda image: turn_with_corners(image, 2), None),
    "watermark": (watermark, None),
    "border of 3 %": (lambda image: border(image, 0.03), None),
}
FORMATS = {"quality 60": ("JPEG", 60), "quality 20": ("JPEG", 20), "PNG": ("PNG", None)}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of photos of different things")
    parser.add_argument("--photos", type=int, default=300, help="photos to make copies of")
    parser.add_argument("--curve", action="store_true", help="also for other limits")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    paths = walk_images(asked.data)
    paths = [paths[index] for index in np.random.default_rng(0).permutation(len(paths))]
    pictures = [load(path, near_duplicates.PREPROCESSING) for path in paths]
    with ThreadPoolExecutor(WORKERS) as pool:
        copies = list(pool.map(make_copies, paths[: asked.photos]))
    result = {
        "photos": len(paths),
        **recall_and_false_pairs(pictures, copies, paths),
        "pairs_seconds": {name: pairs_seconds(name) for name in ("random", "clusters")},
    }
    if asked.curve:
        result["curve"] = curve(pictures, copies, paths)
    if asked.json:
        print(json.dumps(result))
        return
    for kind, recall in result["recall"].items():
        goal = KINDS[kind][1]
        print(f"{kind:<28} {recall:7.1%}" + (f"  (goal {goal:.0%})" if goal else ""))
    print(
        f"{result['false_pairs']} false pairs among {len(paths)} photos", *result["false"], sep="\n"
    )
    for name, seconds in result["pairs_seconds"].items():
        print(f"{seconds:.1f} s for the pairs among 100,000 hashes ({name})")
    for threshold, row in result.get("curve", {}).items():
        print(threshold, json.dumps(row))


def make_copies(path):
    """The small picture of each kind of copy of a photo."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    small_pictures = {}
    for kind, (change, _) in KINDS.items():
        form, quality = FORMATS.get(kind, ("JPEG", QUALITY))
        data = io.BytesIO()
        change(image).save(data, form, **({"quality": quality} if quality else {}))
        small_pictures[kind] = load(data.getvalue(), near_duplicates.PREPROCESSING)
    return small_pictures


def recall_and_false_pairs(pictures, copies, paths):
    """Each kind of copy is searched by itself, beside all photos."""
    recall = {}
    for kind in KINDS:
        kind_pictures = [small_pictures[kind] for small_pictures in copies]
        groups = near_duplicates.groups(
            near_duplicates.describe([*pictures, *kind_pictures]), WORKERS
        )
        originals = groups[: len(copies)]
        recall[kind] = float((groups[len(pictures) :] == originals).mean())
    groups = near_duplicates.groups(near_duplicates.describe(pictures), WORKERS)
    false = [
        f"{paths[one]} {paths[two]}"
        for one, two in itertools.combinations(range(len(paths)), 2)
        if groups[one] == groups[two]
    ]
    return {"recall": recall, "false_pairs": len(false), "false": false}


def curve(pictures, copies, paths):
    """Recall and false pairs where copies may differ by more or by less."""
    usual = {name: getattr(picture_alignment, name) for name in LIMITS}
    rows = {}
    for factor in FACTORS:
        for name, value in usual.items():
            is_explained = name == "MIN_EXPLAINED"
            limit = 1 - factor * (1 - value) if is_explained else factor * value
            setattr(picture_alignment, name, limit)
        rows[factor] = recall_and_false_pairs(pictures, copies, paths)
    for name, value in usual.items():
        setattr(picture_alignment, name, value)
    return rows


def pairs_seconds(name, count=100_000):
    """Time of the search for the pairs among hashes: random, or each near one of 200 others."""
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**64, count, dtype=np.uint64)
    if name == "clusters":
        hashes = hashes[generator.integers(0, 200, count)]
        for _ in range(6):
            hashes ^= np.uint64(1) << generator.integers(0, 64, count, dtype=np.uint64)
    started_at = time.perf_counter()
    for _ in range(2):  # the mirrored ones, too
        near_pairs(
            hashes, hashes, near_duplicates.MAX_HASH_BITS, near_duplicates.MAX_PARTNERS, WORKERS
        )
    return time.perf_counter() - started_at


if __name__ == "__main__":
    sys.exit(main())
