"""The data-set tools: pixel statistics against bare decoding.

    python -m benchmarks.data_tools --data DIR [--json]

DIR holds photos, also in folders. `mean_std_ratio` is the rate of `--mode mean_std` over that of
decoding and fitting the same photos and dropping them, with two threads, the median of five
rounds in turns; `mean_std_bytes` the most memory that Python and NumPy took meanwhile, beside
`loading_bytes`, that of all pixels at once.
"""

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

from data.decoding import load
from data.geometry import Preprocessing
from data.image_files import walk_images
from other import mean_std

INPUT = Preprocessing(224)
ROUNDS, WORKERS = 5, 2


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of photos")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    paths = walk_images(asked.data)
    result = pixel_statistics(paths)
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


if __name__ == "__main__":
    sys.exit(main())
