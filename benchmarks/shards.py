"""Packed photos: what they cost to open, how fast they are read, and what damage does to them.

    python -m benchmarks.shards --data DIR [--out FILE] [--entries 10000000] [--fuzz 5000]

Packs DIR, unpacks it and compares every byte; reads all photos loose and from shards in turns, in
random order, with everything in the page cache and with the files dropped from it; writes an index
of many entries over the real shards and starts a training on it up to its first batch, in a
process of its own; damages shards and indexes by chance and counts what comes of it.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.errors import InputError
from data.decoding import load
from data.geometry import Preprocessing
from data.labelled_data import read_labelled
from data.packed_index import ENTRY, write_index
from data.packing import pack
from data.packing_plan import Packing
from data.photo_files import parse_address, read_photo
from other.unpack import unpack

ROUNDS = 5
PARTS = (0.8, 0.9)  # where train and val end
START = """
import json, sys, time
begun = time.perf_counter()
from config import parser
from data.epoch_sampler import EpochSampler
from data.photo_files import read_photo
from training import setup
import os
from runs.margin_files import write_trained_on

def peak():
    with open("/proc/self/status") as status:  # since the program was loaded, unlike getrusage
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

words = ["--data", sys.argv[1], "--weights", "none", "--save_dir", sys.argv[2]]
before = peak()
ready = setup.prepare(parser.parse("train", words))
prepared = time.perf_counter()
draws = EpochSampler(ready.training.class_ids, "uniform", 0).draw(epoch=0)
print(setup.fingerprint(ready), file=sys.stderr)
names = ready.training.file_names
for position in draws.positions[:64]:
    read_photo(os.path.join(ready.training.folder, names[int(position)]))
batched, batched_peak, cpu = time.perf_counter(), peak(), time.process_time()
write_trained_on(sys.argv[2], ready.training, names.column("content"))
recorded = time.perf_counter()
print(json.dumps({
    "seconds": batched - begun,
    "cpu_seconds": cpu,
    "prepare_seconds": prepared - begun,
    "record_seconds": recorded - batched,
    "peak_megabytes": batched_peak,
    "record_peak_megabytes": peak(),
    "imports_megabytes": before,
    "training_photos": len(names),
}))
"""


def main():
    """Measures, prints a JSON object, and writes it to --out."""
    asked = _parse()
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        photos, place = os.path.join(folder, "photos"), os.path.join(folder, "place")
        shutil.copytree(asked.data, photos, copy_function=shutil.copyfile)
        os.chmod(photos, 0o755)
        result = {"photos": _pack_and_back(photos, place, folder)}
        if asked.rounds:
            result["reading"] = _speeds(photos, place, asked.rounds)
        if asked.entries:
            result["start"] = _start(place, os.path.join(folder, "many"), asked.entries)
        if asked.fuzz:
            result["damage"] = _damage(place, os.path.join(folder, "back"), asked.fuzz)
    text = json.dumps(result, indent=1)
    print(text)
    if asked.out:
        with open(asked.out, "w", encoding="utf-8") as file:
            file.write(text + "\n")


def _parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="labelled photos")
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("--work", help="folder for temporary files, on the disk to measure")
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--fuzz", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    return parser.parse_args()


def _contents(data):
    samples, class_names, _ = read_labelled(data)
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    return paths, [class_names[class_id] for class_id in samples.class_ids]


def _pack_and_back(photos, place, folder):
    begun = time.perf_counter()
    packed = pack(photos, place, Packing(8), workers=2)
    packed_at = time.perf_counter()
    back = os.path.join(folder, "unpacked")
    unpack(place, back)
    unpacked_at = time.perf_counter()
    loose, *copies = [
        [(read_photo(path), class_name) for path, class_name in zip(*_contents(data))]
        for data in (photos, place, back)
    ]
    same = sum(photo == one == other for photo, one, other in zip(loose, *copies))
    return {
        **packed._asdict(),
        "same_bytes_and_class": same,
        "pack_seconds": round(packed_at - begun, 2),
        "unpack_seconds": round(unpacked_at - packed_at, 2),
    }


def _speeds(photos, place, rounds):
    """Photos per second, best of the rounds, loose and packed in turns, and their ratios."""
    each_paths = {"loose": _contents(photos)[0], "shards": _contents(place)[0]}
    preprocessing = Preprocessing(224)
    ways = {"bytes": read_photo, "bytes_and_pixels": lambda path: load(path, preprocessing)}
    result = {}
    for cache in ("warm", "cold"):
        for way, read in ways.items():
            speeds = {name: [] for name in each_paths}
            for number in range(rounds + (cache == "warm")):  # the first round fills the cache
                for name, paths in each_paths.items():
                    order = random.Random(number).sample(paths, len(paths))
                    if cache == "cold":
                        _drop(paths)
                    begun = time.perf_counter()
                    with ThreadPoolExecutor(2) as pool:
                        list(pool.map(read, order))
                    speeds[name].append(len(order) / (time.perf_counter() - begun))
            best = {name: round(max(values[-rounds:])) for name, values in speeds.items()}
            best["ratio"] = round(best["shards"] / best["loose"], 3)
            result[f"{cache}_{way}"] = best
    return result


def _drop(paths):
    """Drops files from the page cache, as far as the system does so without special rights."""
    for path in {(address.shard if (address := parse_address(path)) else path) for path in paths}:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _start(place, many, count):
    """Time and memory until the first batch of a place with many entries over real shards."""
    os.makedirs(many)
    with open(os.path.join(place, "index.json"), encoding="utf-8") as file:
        description = json.load(file)
    for shard in description["shards"]:
        os.link(os.path.join(place, shard["name"]), os.path.join(many, shard["name"]))
    entries = np.load(os.path.join(place, "index.npy"))
    generator = np.random.default_rng(0)
    rows = np.empty(count, ENTRY)
    rows[:] = entries[generator.integers(0, len(entries), count)]
    rows["content"] = generator.integers(0, 2**63, count)
    rows["part"] = np.digitize(generator.random(count), PARTS)
    description["shards"][0]["photos"] += count - sum(s["photos"] for s in description["shards"])
    kept = {key: value for key, value in description.items() if key not in ("format", "photos")}
    write_index(many, rows, {**kept, "has_parts": True})
    del rows
    index_size = os.path.getsize(os.path.join(many, "index.npy"))
    process = subprocess.run(
        [sys.executable, "-c", START, many, os.path.join(many, "runs")],
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(process.stdout)
    return {
        "entries": count,
        "bytes_per_photo": round(index_size / count, 2),
        **{key: round(value, 1) for key, value in measured.items()},
    }


def mutate(content, generator):
    """A few bytes changed, a piece taken out or put in, or the end cut off.

    Args:
        content: bytes of a file, 1 or more.
        generator: `random.Random`.

    Returns:
        bytes.
    """
    content = bytearray(content)
    kind = generator.randrange(4)
    position = generator.randrange(len(content))
    if kind == 0:
        for _ in range(generator.randint(1, 8)):
            content[generator.randrange(len(content))] = generator.randrange(256)
    elif kind == 1:
        del content[position : position + generator.randint(1, 600)]
    elif kind == 2:
        content[position:position] = generator.randbytes(generator.randint(1, 600))
    else:
        del content[position:]
    return bytes(content)


def _damage(place, back, rounds):
    """What came of damaged shards and indexes: refusals, photos read, and nothing else."""
    names = sorted(os.listdir(place))
    originals = {name: os.path.join(os.path.dirname(back), f"whole-{name}") for name in names}
    for name, path in originals.items():
        shutil.copyfile(os.path.join(place, name), path)
    paths, _ = _contents(place)
    known = {read_photo(path) for path in paths}
    generator, counts = random.Random(0), {"refused": 0, "photos_refused": 0, "photos_right": 0}
    for number in range(rounds):
        name = generator.choice(names)
        with open(originals[name], "rb") as file:
            content = mutate(file.read(), generator)
        with open(os.path.join(place, name), "wb") as file:
            file.write(content)
        try:
            for path in generator.sample(_contents(place)[0], 20):
                try:
                    photo = read_photo(path)
                except InputError:
                    counts["photos_refused"] += 1
                    continue
                if photo not in known:
                    raise RuntimeError(f"round {number}: a wrong picture")
                counts["photos_right"] += 1
        except InputError:
            counts["refused"] += 1
        shutil.copyfile(originals[name], os.path.join(place, name))
    return {"rounds": rounds, **counts}


if __name__ == "__main__":
    main()
