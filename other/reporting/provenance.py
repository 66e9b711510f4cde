"""What a result was made from: the run's options, and the data."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from common.errors import ImageError
from config import parser
from data.photo_files import read_photo
from data.splitting import content_hash


def option_rows(options):
    """The options of a training as text.

    Args:
        options: `TrainOptions` of a run.

    Returns:
        list of (name, value, default, whether they differ), str but for the last.
    """
    option_texts = []
    for option in parser.mode_options("train"):
        value = getattr(options, option.name)
        if option.saved:
            value_text, default_text = (
                "–" if setting is None else parser.show(setting)
                for setting in (value, option.default)
            )
            default_text = option.default_text or default_text
            is_different = value != option.default
            option_texts.append((option.name, value_text, default_text, is_different))
    return option_texts


def fingerprint(samples, class_names, workers):
    """SHA-256, in hex, of one line per image, sorted by file name: `NAME, CLASS, CONTENT`.

    CONTENT is `splitting.content_hash` of the file in 16 hexadecimal digits. The same images with
    the same labels have the same fingerprint, in whatever folder they are.

    Args:
        samples: `Samples`.
        class_names: tuple of str, in the order of their ids.
        workers: int, threads that read files.

    Returns:
        str.
    """

    def line(position):
        file_name = samples.file_names[position]
        try:
            content = f"{content_hash(read_photo(os.path.join(samples.folder, file_name))):016x}"
        except ImageError:
            content = "unreadable"
        return f"{file_name}, {class_names[samples.class_ids[position]]}, {content}\n"

    name_order = sorted(range(len(samples.file_names)), key=samples.file_names.__getitem__)
    with ThreadPoolExecutor(workers) as pool:
        sorted_lines = "".join(pool.map(line, name_order))
    return hashlib.sha256(sorted_lines.encode("utf-8", "surrogateescape")).hexdigest()
