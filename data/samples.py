"""The sample format: images, a text file of the same stem beside each, label.json.

A text file holds one line, the image's file name and its class: `img_1.jpg, 0`.
`label.json` maps the classes to names: `{"0": "cardboard", "1": "glass"}`, from 0
without gaps. Reading is strict: a wrong label is worse than none.

Nothing here needs Keras, so that a broken data set is refused at once.
"""

import hashlib
import json
import os
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from common.errors import InputError, first_ten
from data.image_files import EXTENSIONS

# Of the project, beside this package
PROJECT_LABELS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "label.json"
)

MAX_LINE = 4096  # bytes of a text file; one line with a file name is far shorter


class Samples(NamedTuple):
    """Labelled images of one folder.

    Attributes:
        folder: str, where the images are.
        file_names: list of str, the images' file names, sorted by stem.
        class_ids: int32 (N,), the class of each image.
    """

    folder: str
    file_names: list
    class_ids: np.ndarray

    def select(self, chosen):
        """The samples at the positions `chosen` (an integer array)."""
        return Samples(self.folder, [self.file_names[i] for i in chosen], self.class_ids[chosen])


def read_label_names(path):
    """Reads label.json.

    Returns:
        Tuple of str, the class names in the order of their ids.

    Raises:
        InputError: not JSON, ids with gaps or duplicates, names empty or duplicate.
    """

    def pairs(found):
        keys = Counter(key for key, _ in found)
        twice = sorted(key for key, count in keys.items() if count > 1)
        if twice:
            raise InputError(f"{path}: id {twice[0]!r} stands twice; each id stands once")
        return dict(found)

    try:
        with open(path, encoding="utf-8-sig") as file:
            names = json.load(file, object_pairs_hook=pairs)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    except (RecursionError, ValueError):  # a number of thousands of digits, say
        raise InputError(f"{path}: is not a flat JSON object") from None
    if not isinstance(names, dict) or not names:
        raise InputError(f'{path}: must hold ids with names, as {{"0": "cat", "1": "dog"}}')
    for number in range(len(names)):
        if str(number) not in names:
            raise InputError(
                f"{path}: id {number} is missing; {len(names)} names need the ids 0 to "
                f"{len(names) - 1} without gaps, found: {first_ten(sorted(names))}"
            )
    ordered = tuple(names[str(number)] for number in range(len(names)))
    first = {}
    for number, name in enumerate(ordered):
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{path}: id {number}: {name!r} is not a name")
        if first.setdefault(name, number) != number:
            raise InputError(f"{path}: {name!r} names both id {first[name]} and id {number}")
    return ordered


def check_labels(folder, labels, labels_path):
    """Refuses a folder whose own label.json names other classes than `labels`."""
    own = os.path.join(folder, "label.json")
    if os.path.exists(own):
        found = read_label_names(own)
        if found != labels:
            raise InputError(
                f"{own}: names other classes than {labels_path}: {first_ten(found)} instead of "
                f"{first_ten(labels)}"
            )


def read_samples(folder, label_names, labels_path="label.json"):
    """Reads a folder in the sample format.

    Args:
        folder: path of the folder.
        label_names: the class names; their number bounds the labels.
        labels_path: what errors call the place of the names.

    Returns:
        `Samples`, at least one.

    Raises:
        InputError: anything missing, ambiguous or malformed, with file and line.
    """
    images, texts = _list(folder)
    # Sorted by stem and not by name, so that two images of one stem are neighbours.
    images.sort()
    images.sort(key=stem)
    _check_stems(folder, images)
    labels = np.empty(len(images), np.int32)
    missing = []
    for number, name in enumerate(images):
        try:
            labels[number] = read_label(folder, name, label_names, labels_path)
        except FileNotFoundError:
            missing.append(name)
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(images)} images have no text file (.txt) of the "
            f"same stem: {first_ten(missing)}"
        )
    if texts != len(images):
        stems = {stem(name) for name in images}
        alone = sorted(
            name for name in os.listdir(folder) if is_text(name) and stem(name) not in stems
        )
        if alone:
            raise InputError(
                f"{folder}: {len(alone)} text files have no image of the same stem: "
                f"{first_ten(alone)}"
            )
    return Samples(str(folder), images, labels)


def write_sample(folder, image_name, label):
    """Writes the text file of the image `image_name` in `folder`."""
    with open(os.path.join(folder, stem(image_name) + ".txt"), "w", encoding="utf-8") as file:
        file.write(f"{image_name}, {label}\n")


def write_label_names(folder, names):
    """Writes label.json with the class names in the order of their ids."""
    table = {str(number): name for number, name in enumerate(names)}
    with open(os.path.join(folder, "label.json"), "w", encoding="utf-8") as file:
        json.dump(table, file, ensure_ascii=False, indent=1)
        file.write("\n")


def split(samples, fraction, workers=1):
    """Holds a part of the samples out, the same ones however many are added later.

    A sample is held out where a hash of its image's bytes lies below `fraction`,
    so shares are approximate. A class that would get none gives the image with its
    lowest hash, and a class that would lose all keeps the one with its highest. A
    class with a single image keeps it for training. Equal files stay together.

    Args:
        samples: `Samples`.
        fraction: share to hold out, above 0 and below 1.
        workers: threads that read and hash.

    Returns:
        (remaining, held out), two `Samples`.
    """
    from tqdm import tqdm

    def digest(name):
        try:
            with open(os.path.join(samples.folder, name), "rb") as file:
                return content_hash(file.read())
        except OSError as error:
            raise InputError(f"{os.path.join(samples.folder, name)}: {error.strerror}") from None

    with ThreadPoolExecutor(workers) as pool:
        progress = tqdm(
            pool.map(digest, samples.file_names),
            "splitting",
            len(samples.file_names),
            unit="images",
            leave=False,
            disable=None,
            delay=1,
        )
        hashes = np.fromiter(progress, np.uint64, len(samples.file_names))
    held = hashes < np.uint64(int(fraction * 2**64))
    for label in np.unique(samples.class_ids):
        members = np.flatnonzero(samples.class_ids == label)
        own = hashes[members]
        if (own == own[0]).all():
            held[members] = False
        elif not held[members].any():
            held[members[own == own.min()]] = True
        elif held[members].all():
            held[members[own == own.max()]] = False
    return samples.select(np.flatnonzero(~held)), samples.select(np.flatnonzero(held))


def content_hash(data, part=0):
    """64 bits of a file's bytes, as a whole number, by which data are split.

    Args:
        data: bytes.
        part: 0 to 3; different parts know nothing of each other, so that what one split has
            left can be split again by another.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[8 * part : 8 * part + 8], "big")


def stem(name):
    """A file name without its last ending: what image and text file share."""
    return os.path.splitext(name)[0]


def is_text(name):
    """Whether a file name is that of a text file, and not a hidden one."""
    return name.endswith(".txt") and not name.startswith(".")


def _list(folder):
    """The names of the folder's images, and how many text files it has."""
    images, texts, folders = [], 0, 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):  # "._img.jpg" of macOS is no image
                    continue
                if name.lower().endswith(EXTENSIONS):
                    images.append(name)
                elif is_text(name):
                    texts += 1
                elif entry.is_dir():
                    folders += 1
    except FileNotFoundError:
        raise InputError(f"{folder}: no such folder") from None
    except NotADirectoryError:
        raise InputError(f"{folder}: is a file; a folder is needed") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from None
    if not images:
        hint = ""
        if folders:
            hint = (
                f". It has {folders} folders: if each holds the images of one class, "
                f"'python run.py --mode dir2txt --source {folder} --target DIR' converts it"
            )
        raise InputError(
            f"{folder}: no samples; looked for images ({', '.join(EXTENSIONS)}) with a text "
            f"file of the same stem{hint}"
        )
    return images, texts


def _check_stems(folder, images):
    twice = [f"{one} and {two}" for one, two in zip(images, images[1:]) if stem(one) == stem(two)]
    if twice:
        raise InputError(
            f"{folder}: {len(twice)} pairs of images share a stem and so a text file: "
            f"{first_ten(twice)}"
        )


def read_label(folder, image, label_names, labels_path):
    """The class id in the text file of one image; arguments as `read_samples` takes them.

    Raises:
        FileNotFoundError: there is no text file.
        InputError: it does not name the image and a class.
    """
    path = f"{folder}{os.sep}{stem(image)}.txt"
    try:
        descriptor = os.open(path, os.O_RDONLY)  # half the time of open() on small files
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        data = os.read(descriptor, MAX_LINE + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_LINE:
        raise InputError(f"{path}:1: is longer than {MAX_LINE} bytes; allowed is 'IMAGE, CLASS'")
    try:
        line = data.decode("utf-8-sig").rstrip("\r\n \t")
    except UnicodeDecodeError:
        raise InputError(f"{path}:1: is not UTF-8 text") from None
    if "\n" in line or "\r" in line:
        raise InputError(f"{path}:2: more than one line; allowed is one: '{image}, CLASS'")
    name, comma, label = line.rpartition(",")
    if not comma:
        raise InputError(f"{path}:1: {line!r} has no comma; allowed is '{image}, CLASS'")
    label = label.strip()
    if image not in (name, name.strip()):
        # File systems of macOS spell accents in another way than text editors do.
        spelt = unicodedata.normalize("NFC", name.strip())
        if spelt != unicodedata.normalize("NFC", image.strip()):
            raise InputError(f"{path}:1: names {name.strip()!r}; the image beside it is {image!r}")
    if not (label.isascii() and label.removeprefix("-").isdigit()):
        raise InputError(
            f"{path}:1: label {label!r} is not a whole number; allowed: 0 to {len(label_names) - 1}"
        )
    if not 0 <= int(label) < len(label_names):
        raise InputError(
            f"{path}:1: label {label} has no name in {labels_path}; allowed: 0 to "
            f"{len(label_names) - 1}"
        )
    return int(label)


def find_labels(folder):
    """Path of the folder's label.json, else of the project's."""
    beside = os.path.join(folder, "label.json")
    return beside if os.path.exists(beside) else PROJECT_LABELS
