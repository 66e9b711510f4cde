"""An epoch of photos from an object store that is far away, throttles and breaks.

    python -m benchmarks.remote_places [--photos 640] [--rounds 3] [--json]

moto's S3 runs in a process of its own, behind a proxy that delays every answer and spoils some:
connections reset, answers that break off or are too short, flipped bytes, 500, 503 with and without
Retry-After. The loop is that of a training: batches of 32, four of them announced ahead, 16 ms per
photo for the model (waiting, as for a GPU). All bytes are compared. Epochs of the kinds come in
turns; the median counts. The second table goes through `ImageBatches` with two threads.
"""

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib

from benchmarks.inference import ROOT

PLACE = "s3://bucket/photos"
PER_SHARD, BATCH, AHEAD = 20, 32, 4
WORK = 0.016  # seconds per photo
DELAY = 0.05  # seconds before each answer of the store
# Fault -> fraction of the requests
FAULTS = {"reset": 0.03, "cut": 0.03, "short": 0.02, "flip": 0.02, "500": 0.03, "503": 0.02}
FAULTS |= {"slow": 0.01}  # 503, and a second to wait


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each kind, in turns")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--serve", help=argparse.SUPPRESS)  # the store's process
    options = parser.parse_args(argv)
    if options.serve:
        serve(json.loads(options.serve))
        return
    with tempfile.TemporaryDirectory() as scratch:
        photos = write_shards(scratch, options.photos)
        loop = measure(scratch, photos, options.rounds, read_epoch)
        batches = measure(scratch, photos, options.rounds, batch_epoch)
    result = {"loop": loop, "batches": batches}
    if options.json:
        print(json.dumps(result))
        return
    for title, seconds in result.items():
        print(f"{title}: seconds for {options.photos} photos, and times the undisturbed")
        for name, median in seconds.items():
            print(f"  {name:<40} {median:7.2f} {median / seconds['undisturbed']:6.2f}")


def write_shards(folder, count):
    """Writes photos of about 100 kB into tar files; returns dict of address -> bytes."""
    import cv2
    import numpy as np

    photos, generator = {}, np.random.default_rng(0)
    for start in range(0, count, PER_SHARD):
        name = f"photos-{start // PER_SHARD:05}.tar"
        with tarfile.open(os.path.join(folder, name), "w") as tar:
            for number in range(start, min(start + PER_SHARD, count)):
                small = generator.integers(0, 256, (128, 170, 3), dtype=np.uint8)
                picture = cv2.resize(small, (512, 384), interpolation=cv2.INTER_CUBIC)
                content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
                member = tarfile.TarInfo(f"{number:06}.jpg")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                address = (
                    f"{PLACE}/{name}:{tar.offset - padded(len(content))}:{len(content)}:"
                    f"{zlib.crc32(content):08x}"
                )
                photos[address] = content
    return photos


def padded(length):
    return -(-length // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def serve(settings):
    from tests import faulty_store

    faulty_store.ANSWERS["slow"] = (503, "SlowDown", {"Retry-After": "1"})
    store, generator = faulty_store.FaultyStore(), random.Random(0)
    for name in os.listdir(settings["folder"]):
        with open(os.path.join(settings["folder"], name), "rb") as shard:
            store.forward("PUT", f"/bucket/photos/{name}", {}, shard.read())
    print(store.url, flush=True)
    names, weights = [None, *FAULTS], [1 - sum(FAULTS.values()), *FAULTS.values()]
    for line in sys.stdin:  # a delay, and whether requests are spoilt
        store.delay, is_faulty = json.loads(line)
        store.plan = (
            (lambda request: generator.choices(names, weights)[0])
            if is_faulty
            else (lambda request: None)
        )
        print(flush=True)


def measure(folder, photos, rounds, epoch):
    """dict of a kind of epoch -> its median seconds."""
    words = [sys.executable, "-m", "benchmarks.remote_places"]
    words += ["--serve", json.dumps({"folder": folder})]
    store = subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        os.environ.update(
            AWS_ENDPOINT_URL=store.stdout.readline().strip(),
            AWS_ACCESS_KEY_ID="id",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_DEFAULT_REGION="us-east-1",
        )
        return _measure(store, photos, rounds, epoch)
    finally:
        store.stdin.close()
        store.terminate()
        store.wait()


def _measure(store, photos, rounds, epoch):
    from data import object_stores, remote_places

    object_stores.forget_all()

    def asked(delay, is_faulty, read_ahead=True, cache_dir=None):
        store.stdin.write(json.dumps([delay, is_faulty]) + "\n")
        store.stdin.flush()
        store.stdout.readline()
        remote_places.configure(cache_dir, 10 if cache_dir else 0)
        return epoch(photos, read_ahead)

    with tempfile.TemporaryDirectory() as cache_dir:
        kinds = {
            "undisturbed": lambda: asked(0, False),
            "50 ms": lambda: asked(DELAY, False),
            "50 ms, 16 % of the requests spoilt": lambda: asked(DELAY, True),
            "the same, kept on the local disk": lambda: asked(DELAY, True, True, cache_dir),
        }
        asked(0, False, True, cache_dir)
        if epoch is read_epoch:
            kinds["50 ms, nothing read ahead"] = lambda: asked(DELAY, False, False)
        seconds = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, run in kinds.items():
                seconds[name].append(run())
    return {name: statistics.median(values) for name, values in seconds.items()}


def read_epoch(photos, read_ahead):
    from data import remote_places

    addresses = list(photos)
    random.Random(1).shuffle(addresses)
    batches = [addresses[start : start + BATCH] for start in range(0, len(addresses), BATCH)]
    began, announced = time.perf_counter(), 0
    for index, batch in enumerate(batches):
        for ahead in batches[announced : index + 1 + AHEAD] if read_ahead else ():
            remote_places.announce(ahead)
            announced += 1
        for address in batch:
            if remote_places.read_photo(address) != photos[address]:
                raise SystemExit(f"{address}: a wrong photo")
            time.sleep(WORK)
    return time.perf_counter() - began


def batch_epoch(photos, read_ahead):
    from compute.backend import import_keras

    import_keras()
    import numpy as np

    from data.geometry import Preprocessing
    from data.prefetching import Reading
    from data.samples import Samples
    from data_gen_label import ImageBatches, Variation

    names = [address.removeprefix(f"{PLACE}/") for address in photos]
    samples = Samples(PLACE, names, np.zeros(len(names), np.int32))
    batches = ImageBatches(
        samples, 2, BATCH, Preprocessing(224), Variation("uniform"), reading=Reading(2)
    )
    began, read_count = time.perf_counter(), 0
    for index in range(len(batches)):
        _, _, sample_weight = batches[index]
        read_count += int(sample_weight.sum())
        time.sleep(WORK * len(sample_weight))
    seconds = time.perf_counter() - began
    batches.close()
    if read_count != len(photos):
        raise SystemExit(f"{len(photos) - read_count} photos are missing")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
