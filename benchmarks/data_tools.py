"""The data-set tools: pixel statistics against bare decoding, near duplicates at scale.

    python -m benchmarks.data_tools --data DIR [--json]

DIR holds photos, also in folders. `mean_std_ratio` is the rate of `--mode mean_std` over that of
decoding and fitting the same photos and dropping them, with two threads, the median of five
rounds in turns; `mean_std_bytes` the most memory that Python and NumPy took meanwhile, beside
`loading_bytes`, that of all pixels at once. `copies_found` is the share of recompressed, resized
and re-encoded copies of the photos that are found as near duplicates of their originals, and
`pairs_right` the share of the pairs found that are such; `hashes_seconds` the time for the pairs
among 100,000 random hashes, a thousand of them near another.
"""

import argparse
import io
import json
import statistics
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from data import near_duplicates
from data.decoding import load
from data.geometry import Preprocessing
from data.image_files import walk_images
from other import mean_std

INPUT = Preprocessing(224)
ROUNDS, WORKERS = 5, 2
CHANGES = {
    "quality 30": lambda image: (image, "JPEG", {"quality": 30}),
    "quality 60": lambda image: (image, "JPEG", {"quality": 60}),
    "half": lambda image: (image.resize((image.width // 2, image.height // 2)), "JPEG", {}),
    "a third, PNG": lambda image: (
        image.resize((image.width // 3, image.height // 3), Image.BICUBIC),
        "PNG",
        {},
    ),
    "larger": lambda image: (
        image.resize((image.width * 3 // 2, image.height * 3 // 2)),
        "JPEG",
        {"quality": 70},
    ),
    "WebP": lambda image: (image, "WEBP", {"quality": 50}),
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of photos")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    paths = walk_images(asked.data)
    result = {**pixel_statistics(paths), **copies(paths), "hashes_seconds": hashes()}
    if asked.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<16} {value:,.4g}")


def pixel_statistics(paths):
    times = {"bare": [], "tool": []}
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with ThreadPoolExecutor(WORKERS) as pool:
            for _ in pool.map(lambda path: load(path, INPUT) is None, paths):
                pass
        times["bare"].append(time.perf_counter() - began)
        began = time.perf_counter()
        mean_std.measure(paths, INPUT, WORKERS)
        times["tool"].append(time.perf_counter() - began)
    tracemalloc.start()
    mean_std.measure(paths, INPUT, WORKERS)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "mean_std_ratio": statistics.median(a / b for a, b in zip(times["bare"], times["tool"])),
        "mean_std_bytes": most,
        "loading_bytes": len(paths) * INPUT.size**2 * 3,
    }


def copies(paths):
    pictures = [load(path, near_duplicates.PREPROCESSING) for path in paths]
    origin = list(range(len(paths)))
    for position, path in enumerate(paths):
        with Image.open(path) as image:
            change = list(CHANGES.values())[position % len(CHANGES)]
            changed, kind, settings = change(image.convert("RGB"))
        data = io.BytesIO()
        changed.save(data, kind, **settings)
        pictures.append(load(data.getvalue(), near_duplicates.PREPROCESSING))
        origin.append(position)
    groups = near_duplicates.groups(near_duplicates.describe(pictures))
    count = len(paths)
    found = right = named = 0
    for position in range(count):
        found += groups[count + position] == groups[position]
    for number in np.unique(groups):
        members = np.flatnonzero(groups == number)
        for place, one in enumerate(members):
            for two in members[place + 1 :]:
                named += 1
                right += origin[one] == origin[two]
    return {"copies_found": found / count, "pairs_right": right / named}


def hashes(count=100_000, near=1000):
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2**63, count, dtype=np.uint64)
    bits = np.uint64(1) << generator.integers(0, 64, near).astype(np.uint64)
    values[-near:] = values[:near] ^ bits
    began = time.perf_counter()
    found = near_duplicates._candidates(np.unique(values), np.arange(len(np.unique(values))))
    if len(found) < near:
        raise SystemExit(f"{len(found)} pairs found of {near} planted")
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
