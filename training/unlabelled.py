"""--unlabelled: photos without labels, of which a teacher says what they show."""

import os

import numpy as np

from common.console import say
from common.errors import InputError
from data.image_files import walk_images
from data.parts import exists, hash_photos
from data.parts_table import read_rows, table_path
from data.samples import Samples
from data.several_places import join, paths_of


def read_unlabelled(options, training, validation):
    """Reads the photos that only a teacher answers for.

    Photos that validate or are kept for the test are left out, by the content of their files, and
    so are those that are trained on with a label already, or that come twice.

    Args:
        options: the options of `--mode train`.
        training: `Samples` with labels to train on.
        validation: `Samples` to validate on.

    Returns:
        `Samples`, all of class 0; None where there is no `--unlabelled`.

    Raises:
        InputError: a folder is missing or has no images, or none is left.
    """
    if not options.unlabelled:
        return None
    folders = paths_of(options.unlabelled)
    each_folder = []
    for folder in folders:
        names = [os.path.relpath(path, folder) for path in walk_images(folder, "--unlabelled")]
        each_folder.append(Samples(folder, names, np.zeros(len(names), np.int32)))
    samples = join(each_folder)
    hashes = content_hashes(samples, options)
    judging = set(content_hashes(validation, options).tolist()) | kept_for_test(options)
    is_judging = np.isin(hashes, np.array(list(judging - {0}), np.uint64))
    is_known = np.isin(hashes, content_hashes(training, options)) & (hashes != 0)
    is_first = np.zeros(len(hashes), bool)
    is_first[np.unique(hashes, return_index=True)[1]] = True
    is_first[hashes == 0] = True  # unreadable files are named later
    for is_out, reason in (
        (is_judging, "validate or are kept for the test"),
        (~is_judging & (is_known | ~is_first), "are there with a label, or twice"),
    ):
        if is_out.any():
            say(f"note: --unlabelled: {is_out.sum():,} photos {reason}: left out")
    is_left = ~is_judging & ~is_known & is_first
    if not is_left.any():
        raise InputError(
            f"--unlabelled: {', '.join(folders)}: none of the {len(hashes)} photos is left; name "
            "photos that are neither in the training nor in the validation data"
        )
    return samples.select(np.flatnonzero(is_left))


def content_hashes(samples, options):
    """uint64 (N,), the hashes of the files of some photos; 0 for a file that cannot be read.

    Args:
        samples: `Samples`, N photos.
        options: the options of `--mode train`.
    """
    places = list(paths_of(options.train_data))
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    return hash_photos(places, paths, options.workers)


def kept_for_test(options):
    """set of int, the hashes of the photos that tables of parts keep for the test.

    Args:
        options: the options of `--mode train`.
    """
    tables = map(table_path, filter(exists, paths_of(options.train_data)))
    rows = [row for table in tables for row in read_rows(table)]
    return {int(row.content, 16) for row in rows if row.part == "test"}
