"""The sample format: images, and a text file of the same stem beside each.

A text file holds one line, the image's file name and its class id: `img_1.jpg, 0`. Reading is
strict: a wrong label is worse than none. Text files are written and read here and nowhere else;
`label_names.py` has label.json beside them.

Nothing here needs Keras, so that a broken data set is refused at once.
"""

import os
import unicodedata
from typing import NamedTuple

import numpy as np

from common.errors import InputError, first_ten
from data.image_files import (
    EXTENSIONS,
    OWN_FILES,
    check_folder,
    check_line_breaks,
    describe_left_out,
    describe_unsorted,
    is_being_sorted,
    is_image,
    is_system_name,
)
from data.packed_index import PackedNames

READ_BYTES = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # Windows would translate line ends
MAX_LINE = 4096  # bytes of a text file; one line with a file name is far shorter


class Samples(NamedTuple):
    """Labelled images of one folder.

    Attributes:
        folder: str, where the images are.
        file_names: list of str, the images' file names, sorted by stem; where each class has its
            folder, paths relative to `folder`; of a packed place `packed_index.PackedNames`.
        class_ids: int32 (N,), the class of each image.
    """

    folder: str
    file_names: list
    class_ids: np.ndarray

    def select(self, positions):
        """The `Samples` at `positions`, an integer array."""
        if isinstance(self.file_names, PackedNames):
            return Samples(self.folder, self.file_names[positions], self.class_ids[positions])
        file_names = [self.file_names[position] for position in positions]
        return Samples(self.folder, file_names, self.class_ids[positions])


class NamedImages(NamedTuple):
    """Images whose classes are given by name.

    Attributes:
        folder: str, what the file names are relative to.
        file_names: list of N str.
        image_classes: list of N str, the class of each image, as it is written.
    """

    folder: str
    file_names: list
    image_classes: list


# Text files


def stem(name):
    """What an image and its text file share.

    Args:
        name: str, a file name or path.

    Returns:
        str, the name without its last extension.
    """
    return os.path.splitext(name)[0]


def is_text(name):
    """Whether a name is that of a text file, and not a hidden one.

    Args:
        name: str, a file name.

    Returns:
        bool.
    """
    return name.endswith(".txt") and not name.startswith(".")


def text_file_name(image_name):
    """Name of the text file beside an image.

    Args:
        image_name: str, a file name or path.

    Returns:
        str, likewise a file name or path.
    """
    return stem(image_name) + ".txt"


def sample_line(image_name, class_id):
    """The content of an image's text file.

    Args:
        image_name: str, the image's file name.
        class_id: int.
    """
    return f"{image_name}, {class_id}\n"


def write_sample(folder, image_name, class_id):
    """Writes the text file of an image.

    Args:
        folder: path of the folder that the image is in.
        image_name: str, the image's file name.
        class_id: int.
    """
    text_path = os.path.join(folder, text_file_name(image_name))
    with open(text_path, "w", encoding="utf-8") as text_file:
        text_file.write(sample_line(image_name, class_id))


def read_label(folder, image_name, class_names, labels_path):
    """Reads the text file of an image.

    Args:
        folder: path of the folder that the image is in.
        image_name: str, the image's file name.
        class_names: the class names; only their number counts here.
        labels_path: what errors call the place of the names.

    Returns:
        int, the class id.

    Raises:
        FileNotFoundError: the text file does not exist.
        InputError: it does not name the image and a class.
    """
    text_path = f"{folder}{os.sep}{text_file_name(image_name)}"
    line = _read_line(text_path, image_name)
    written_name, comma, written_class = line.rpartition(",")
    if not comma:
        raise InputError(f"{text_path}:1: {line!r} has no comma; allowed is '{image_name}, CLASS'")
    written_class = written_class.strip()
    if image_name not in (written_name, written_name.strip()):
        # File systems of macOS spell accents in another way than text editors do.
        normalized_name = unicodedata.normalize("NFC", written_name.strip())
        if normalized_name != unicodedata.normalize("NFC", image_name.strip()):
            raise InputError(
                f"{text_path}:1: names {written_name.strip()!r}; the image beside it is "
                f"{image_name!r}"
            )
    last_id = len(class_names) - 1
    if not (written_class.isascii() and written_class.removeprefix("-").isdigit()):
        raise InputError(
            f"{text_path}:1: label {written_class!r} is not a whole number; allowed: 0 to {last_id}"
        )
    if not 0 <= int(written_class) <= last_id:
        raise InputError(
            f"{text_path}:1: label {written_class} has no name in {labels_path}; allowed: 0 to "
            f"{last_id}"
        )
    return int(written_class)


def _read_line(text_path, image_name):
    """The only line of a text file, without the white space at its end."""
    try:
        descriptor = os.open(text_path, READ_BYTES)  # half the time of open() on small files
        try:
            data = os.read(descriptor, MAX_LINE + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{text_path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_LINE:
        raise InputError(
            f"{text_path}:1: is longer than {MAX_LINE} bytes; allowed is 'IMAGE, CLASS'"
        )
    try:
        line = data.decode("utf-8-sig").rstrip("\r\n \t")
    except UnicodeDecodeError:
        raise InputError(f"{text_path}:1: is not UTF-8 text") from None
    if "\n" in line or "\r" in line:
        raise InputError(
            f"{text_path}:2: more than one line; allowed is one: '{image_name}, CLASS'"
        )
    return line


# Folders


def read_samples(folder, class_names, labels_path="label.json", report=None):
    """Reads a folder in the sample format.

    Args:
        folder: path of the folder.
        class_names: the class names; their number bounds the class ids.
        labels_path: what errors call the place of the names.
        report: function of str that is called with a line about what was read and what was left
            out, or None.

    Returns:
        `Samples`, at least one.

    Raises:
        InputError: anything missing, ambiguous or malformed, with file and line.

    Example:

    ```python
    samples = read_samples("photos", read_label_names("photos/label.json"))
    ```
    """
    image_names, text_count, others = _list_folder(folder)
    check_line_breaks(folder, image_names)
    # Sorted by stem and not by name, so that two images of one stem are neighbours.
    image_names.sort()
    image_names.sort(key=stem)
    check_stems(folder, image_names)
    class_ids = np.empty(len(image_names), np.int32)
    without_text = []
    for index, image_name in enumerate(image_names):
        try:
            class_ids[index] = read_label(folder, image_name, class_names, labels_path)
        except FileNotFoundError:
            without_text.append(image_name)
    left_out = []
    if 0 < len(without_text) < len(image_names) and is_being_sorted(folder):
        missing = {*without_text}
        has_text = np.array([name not in missing for name in image_names])
        image_names = [name for name in image_names if name not in missing]
        class_ids = class_ids[has_text]
        left_out = [f"{len(without_text):,} photos without a class left out"]
    elif without_text:
        hint = ""
        if not text_count:
            hint = "; or give each class a folder of its own, which needs no text files"
        raise InputError(
            f"{folder}: {len(without_text)} of {len(image_names)} images have no text file (.txt) "
            f"of the same stem: {first_ten(without_text)}{hint}"
        )
    if text_count != len(image_names):
        _check_texts(folder, image_names)
    if report:
        left_out += [describe_left_out(others), describe_unsorted(folder)]
        left_out.insert(0, "sample format")
        report(f"{folder}: {', '.join(filter(None, left_out))}: {len(image_names):,} images")
    return Samples(str(folder), image_names, class_ids)


def _list_folder(folder):
    """The names of the folder's images, how many text files it has, and its other files."""
    check_folder(folder)
    image_names, text_count, others = [], 0, []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_system_name(entry.name):  # "._img.jpg" of macOS is no image
                continue
            if is_image(entry.name):
                image_names.append(entry.name)
            elif is_text(entry.name):
                text_count += 1
            elif entry.name not in OWN_FILES:
                others.append(entry.name)
    if not image_names:
        raise InputError(
            f"{folder}: no samples; looked for images ({', '.join(EXTENSIONS)}) with a text "
            "file of the same stem"
        )
    return image_names, text_count, others


def check_stems(folder, image_names):
    """Refuses two images that share a stem.

    Args:
        folder: str, for the message.
        image_names: list of str, sorted by stem.

    Raises:
        InputError: two share a stem, and so a text file.
    """
    neighbours = zip(image_names, image_names[1:])
    pairs = [f"{one} and {two}" for one, two in neighbours if stem(one) == stem(two)]
    if pairs:
        raise InputError(
            f"{folder}: {len(pairs)} pairs of images share a stem and so a text file: "
            f"{first_ten(pairs)}"
        )


def _check_texts(folder, image_names):
    """Refuses a text file without an image of its stem."""
    image_stems = {stem(image_name) for image_name in image_names}
    without_image = sorted(
        name for name in os.listdir(folder) if is_text(name) and stem(name) not in image_stems
    )
    if without_image:
        raise InputError(
            f"{folder}: {len(without_image)} text files have no image of the same stem: "
            f"{first_ten(without_image)}"
        )
