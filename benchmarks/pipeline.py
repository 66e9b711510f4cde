"""How fast batches of photos are made, against Keras's and PyTorch's usual ways.

    python -m benchmarks.pipeline --data DIR [--json]

DIR holds one folder of photos per class. All contenders give batches of 32 photos
letterboxed to 224 x 224, on two workers, in turns, in one run; the best of the
rounds counts for each. The 12-megapixel photos are some of the same, enlarged; with
--grain they also get the noise that a camera's sensor adds, which makes reading the
JPEG's code the greater part of the work for everybody.

- ours: `ImageBatches` with two threads
- keras: `keras.utils.image_dataset_from_directory(pad_to_aspect_ratio=True)`
- pillow: two processes that open, convert, resize and paste with Pillow, and hand
  batches over in shared memory, as PyTorch's DataLoader with torchvision does
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time

SIZE, BATCH, WORKERS = 224, 32, 2
LARGE_SIDE, LARGE_COUNT = 4000, 48


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with one folder of photos per class")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, in turns")
    parser.add_argument("--grain", type=float, default=0, help="standard deviation, 0-255")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        small = measure(options.data, scratch, "small", options.rounds)
        large_source = os.path.join(scratch, "large-source")
        enlarge(options.data, large_source, options.grain)
        large = measure(large_source, scratch, "large", options.rounds)
    result = {
        "images_per_second": small,
        "images_per_second_12mp": large,
        "ratio_to_keras": small["ours"] / small["keras"],
        "ratio_to_pillow": small["ours"] / small["pillow"],
        "ratio_to_keras_12mp": large["ours"] / large["keras"],
        "ratio_to_pillow_12mp": large["ours"] / large["pillow"],
        "augmented_ratio": small["ours augmented"] / small["ours"],
    }
    if options.json:
        print(json.dumps(result))
        return
    for title, rates in (("photos as they are", small), ("12 megapixels", large)):
        print(title)
        for name, rate in rates.items():
            print(f"  {name:<16} {rate:8.0f} images/s")
    for name, value in result.items():
        if "ratio" in name:
            print(f"{name:<22} {value:.2f}")


def measure(source, scratch, name, rounds):
    """Images a second of every contender, the best of `rounds` passes."""
    from compute.backend import import_keras

    keras = import_keras()
    from config import parser
    from data.augmentation import Augmentation
    from data.geometry import Preprocessing
    from data.label_names import read_label_names
    from data.prefetching import Reading
    from data.samples import read_samples
    from data_gen_label import ImageBatches, Variation
    from other.data_reconstruction_dir2txt import convert

    target = os.path.join(scratch, name)
    convert(source, target)
    labels = read_label_names(os.path.join(target, "label.json"))
    samples = read_samples(target, labels)
    defaults = parser.parse("train", [])
    augmentation = Augmentation(*(getattr(defaults, field) for field in Augmentation._fields))

    settings = Preprocessing(SIZE, "letterbox")

    def ours(variation):
        batches = ImageBatches(
            samples, len(labels), BATCH, settings, variation, reading=Reading(WORKERS)
        )
        for index in range(len(batches)):
            batches[index]
        batches.close()

    theirs = keras.utils.image_dataset_from_directory(
        source,
        label_mode="categorical",
        image_size=(SIZE, SIZE),
        batch_size=BATCH,
        shuffle=False,
        pad_to_aspect_ratio=True,
        verbose=False,
    )

    def keras_pass():
        for _ in theirs:
            pass

    paths = [os.path.join(target, name) for name in samples.file_names]
    with PillowLoader(paths) as loader:
        contenders = {
            "ours": lambda: ours(Variation()),
            "ours augmented": lambda: ours(Variation(augmentation=augmentation)),
            "keras": keras_pass,
            "pillow": loader.run,
        }
        best = dict.fromkeys(contenders, 0.0)
        for number in range(rounds + 1):
            for title, run in contenders.items():
                began = time.perf_counter()
                run()
                rate = len(paths) / (time.perf_counter() - began)
                if number:  # the first pass of each warms files and tuners up
                    best[title] = max(best[title], rate)
    return best


class PillowLoader:
    """Two processes that fill batches in shared memory, a few ahead of the reader."""

    SLOTS = 2 * WORKERS

    def __init__(self, paths):
        self.batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]

    def __enter__(self):
        context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
        self.memory = context.RawArray("B", self.SLOTS * BATCH * SIZE * SIZE * 3)
        self.pool = context.Pool(WORKERS, _set_memory, (self.memory,))
        return self

    def __exit__(self, *error):
        self.pool.terminate()
        self.pool.join()

    def run(self):
        ahead = []
        for number, batch in enumerate(self.batches):
            if len(ahead) == self.SLOTS:
                ahead.pop(0).get()
            ahead.append(self.pool.apply_async(_pillow_batch, (batch, number % self.SLOTS)))
        for task in ahead:
            task.get()


def _set_memory(memory):
    import numpy as np

    global _SHARED
    _SHARED = np.frombuffer(memory, np.uint8).reshape(-1, BATCH, SIZE, SIZE, 3)


def _pillow_batch(paths, slot):
    import numpy as np
    from PIL import Image

    for row, path in enumerate(paths):
        with Image.open(path) as image:
            image = image.convert("RGB")
        scale = SIZE / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        square = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
        square.paste(
            image.resize((width, height), Image.Resampling.BILINEAR),
            ((SIZE - width) // 2, (SIZE - height) // 2),
        )
        _SHARED[slot, row] = np.asarray(square)


def enlarge(source, target, grain):
    """Writes some photos of `source`, evenly chosen, as JPEGs of 12 megapixels."""
    import cv2
    import numpy as np

    from data.image_files import EXTENSIONS

    paths = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(source)
        for name in names
        if name.lower().endswith(EXTENSIONS)
    )
    generator = np.random.default_rng(0)
    for number in np.unique(np.linspace(0, len(paths) - 1, LARGE_COUNT).astype(int)):
        image = cv2.imread(paths[number])
        scale = LARGE_SIDE / max(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        if grain:
            noise = np.rint(generator.normal(0, grain, image.shape)).astype(np.int16)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
        folder = os.path.join(target, os.path.basename(os.path.dirname(paths[number])))
        os.makedirs(folder, exist_ok=True)
        cv2.imwrite(os.path.join(folder, f"{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    sys.exit(main())
