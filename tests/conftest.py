"""What several tests need: folders in the sample format, and commands in their own process."""

import os
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data.label_names import write_label_names
from data.samples import write_sample
from export import verification

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.environ["LC_ALL"] = "C.UTF-8"  # pages in English, whatever system the tests run on
# Classes that a tiny network tells apart: the dominant colour, RGB.
COLORS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220)}


def without_layout(err):
    """Standard error without the line in which the reader says what it has read."""
    lines = err.splitlines(keepends=True)
    layout = re.compile(r": \d+ images( of \d+ classes)?$")
    return "".join(line for line in lines if not layout.search(line))


def write_image(path, color=(128, 128, 128), size=(40, 32), seed=0):
    """Writes a (width, height) image of one colour with noise, in the format of its ending."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(-25, 26, (size[1], size[0], 3))
    image = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
    assert cv2.imwrite(str(path), image[..., ::-1])


def write_samples(folder, per_class, colors=COLORS, ending=".png", seed=0, size=(40, 32)):
    """Writes a folder in the sample format; returns its path as str."""
    os.makedirs(folder)
    for label, color in enumerate(colors.values()):
        for number in range(per_class):
            name = f"img_{label}_{number}{ending}"
            write_image(
                os.path.join(folder, name), color, size, (seed, label, number)
            )
            write_sample(folder, name, label)
    write_label_names(folder, list(colors))
    return str(folder)


@pytest.fixture(autouse=True, scope="session")
def gate_in_this_process():
    """Exports prove themselves without a process of their own, which takes seconds each.

    `command` starts a process that does so as users have it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "run_in_subprocess", verification.predict_all)
        yield


@pytest.fixture(autouse=True)
def signals_as_before():
    """Modes and servers set handlers: one that ignores SIGHUP would make the next test fail."""
    handlers = {
        number: signal.getsignal(number)
        for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))
    }
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path):
    """Twelve samples of three classes."""
    return write_samples(tmp_path / "data", 4)


def command(*words, cwd=ROOT, **environment):
    """Runs `python run.py ...` in a process of its own, with its output as text."""
    # Importing JAX, which some tests do, sets this for the whole process.
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, os.path.join(ROOT, "run.py"), *map(str, words)],
        cwd=cwd, capture_output=True, text=True, timeout=600, env={**inherited, **environment},
    )


@pytest.fixture
def make_batches():
    """Makes `ImageBatches` of 12 x 12 pixels of a folder and closes them after the test.

    Options are the fields of `Variation` and `Reading`, or `batch_size`.
    """
    from data.geometry import Preprocessing
    from data.prefetching import Reading
    from data.samples import read_samples
    from data_gen_label import ImageBatches, Variation

    made, names = [], ("red", "green", "blue")

    def batches(folder, batch_size=5, **options):
        varied = {name: options.pop(name) for name in Variation._fields if name in options}
        made.append(ImageBatches(
            read_samples(folder, names), len(names), batch_size, Preprocessing(12, "stretch"),
            Variation(**varied), reading=Reading(**options),
        ))
        return made[-1]

    yield batches
    for batches in made:
        batches.close()
