"""What a result rests on: a run's epochs and options, the versions, and the data."""

import hashlib
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

from config import parser
from data.splitting import content_hash

PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "numpy", "opencv-python-headless")


def option_rows(options):
    """The options of a training as text.

    Args:
        options: `TrainOptions` of a run.

    Returns:
        list of (name, value, default, whether they differ), str but for the last.
    """
    rows = []
    for option in parser.mode_options("train"):
        value = getattr(options, option.name)
        if option.saved:
            texts = ["–" if each is None else parser.show(each) for each in (value, option.default)]
            default = option.default_text or texts[1]
            rows.append((option.name, texts[0], default, value != option.default))
    return rows


def fingerprint(samples, labels, workers):
    """SHA-256, in hex, of one line per image, sorted by file name: `NAME, CLASS, CONTENT`.

    CONTENT is `splitting.content_hash` of the file in 16 hexadecimal digits. Equal for equal images
    with equal labels, wherever they are.

    CONTENT is `splitting.content_hash` of the file in 16 hexadecimal digits. Equal for equal images
    with equal labels, wherever they are.

    Args:
        samples: `Samples`.
        labels: tuple of str, class names in the order of their ids.
        workers: int, threads that read files.

    Returns:
        str.
    """

    def line(position):
        name = samples.file_names[position]
        try:
            with open(os.path.join(samples.folder, name), "rb") as file:
                content = f"{content_hash(file.read()):016x}"
        except OSError:
            content = "unreadable"
        return f"{name}, {labels[samples.class_ids[position]]}, {content}\n"

    order = sorted(range(len(samples.file_names)), key=samples.file_names.__getitem__)
    with ThreadPoolExecutor(workers) as pool:
        text = "".join(pool.map(line, order))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def versions():
    """Python and the packages that numbers depend on, as one line."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
