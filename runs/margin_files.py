"""margins/: what a run was trained and validated on, and how sure it was of each label.

Photos are named by their paths and by a hash of their bytes (`data.splitting.content_hash`), by
which they are known wherever they lie and whatever they are called.
"""

import csv
import os
import zipfile

import numpy as np

from common.errors import InputError
from common.files import replacing
from data.object_stores import is_remote
from data.packed_index import AT_ONCE, ENTRY, PackedNames
from data.photo_files import write_address
from runs.run_folder import MARGINS

TRAINED_ON = "images.csv"  # in MARGINS: image file, class id, hash of its bytes
PACKED = "packed.npz"  # in MARGINS, in place of TRAINED_ON: the photos of a packed place
VALIDATED_ON = "validation.npy"  # in MARGINS: uint64 (M,), hashes
UNLABELLED = "unlabelled.npy"  # in MARGINS: the same of the photos of --unlabelled


def write_trained_on(run_path, samples, hashes=None):
    """Writes which images, with which labels, a run is trained on: the columns of its margins.

    Args:
        run_path: str, the run's folder.
        samples: `Samples` to train on.
        hashes: uint64 (N,), of the files' bytes; None leaves them out, as earlier versions did.
    """
    if isinstance(samples.file_names, PackedNames):
        _write_packed(run_path, samples)
        return
    hash_cells = [()] * len(samples.file_names)
    if hashes is not None:
        hash_cells = [(f"{int(value):016x}",) for value in hashes]
    margin_folder = os.path.join(run_path, MARGINS)
    os.makedirs(margin_folder, exist_ok=True)
    folder = samples.folder
    image_folder = os.path.realpath(folder) if folder else folder  # "" where paths are whole
    with (
        replacing(os.path.join(margin_folder, TRAINED_ON)) as partial_path,
        open(partial_path, "w", encoding="utf-8", errors="surrogateescape", newline="") as csv_file,
    ):
        csv.writer(csv_file).writerows(
            (os.path.join(image_folder, file_name), class_id, *cells)
            for file_name, class_id, cells in zip(samples.file_names, samples.class_ids, hash_cells)
        )


def _write_packed(run_path, samples):
    """Writes 37 bytes per photo, piece by piece: a CSV of ten million lines would be a gigabyte."""
    folder, names = samples.folder, samples.file_names
    folder = folder if is_remote(folder) else os.path.realpath(folder)
    margin_folder = os.path.join(run_path, MARGINS)
    os.makedirs(margin_folder, exist_ok=True)
    with (
        replacing(os.path.join(margin_folder, PACKED)) as partial_path,
        zipfile.ZipFile(partial_path, "w") as archive,
    ):
        for name, text in (("folder", folder), ("shards", names.place.shards)):
            with archive.open(f"{name}.npy", "w") as file:
                np.save(file, np.array(text))
        with archive.open("entries.npy", "w", force_zip64=True) as file:
            header = {"descr": ENTRY.descr, "fortran_order": False, "shape": (len(names),)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(names), AT_ONCE):
                entries = names.entries(slice(start, start + AT_ONCE)).copy()
                entries["class"] = samples.class_ids[start : start + AT_ONCE]  # those of the run
                file.write(entries.tobytes())


def _read_packed(path):
    with np.load(path, allow_pickle=False) as arrays:
        shards = [os.path.join(str(arrays["folder"]), str(name)) for name in arrays["shards"]]
        return [
            (write_address(shards[shard], offset, length, crc), class_id, content)
            for shard, offset, length, class_id, _, _, crc, content in arrays["entries"].tolist()
        ]


def write_validated_on(run_path, hashes):
    """Writes which images a run is validated on.

    Args:
        run_path: str, the run's folder.
        hashes: uint64 (M,), of the files' bytes.
    """
    _write_hashes(os.path.join(run_path, MARGINS, VALIDATED_ON), hashes)


def write_unlabelled(run_path, hashes):
    """Writes which images without labels a run learns from.

    Args:
        run_path: str, the run's folder.
        hashes: uint64 (M,), of the files' bytes.
    """
    _write_hashes(os.path.join(run_path, MARGINS, UNLABELLED), hashes)


def read_unlabelled(run_path):
    """Reads the hashes of the images without labels that a run has learned from.

    Args:
        run_path: str, the run's folder.

    Returns:
        set of int, empty where there were none.

    Raises:
        InputError: the file is damaged.
    """
    path = os.path.join(run_path, MARGINS, UNLABELLED)
    if not os.path.exists(path):
        return set()
    try:
        return set(np.load(path, allow_pickle=False).tolist()) - {0}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _write_hashes(path, hashes):
    with replacing(path) as partial_path, open(partial_path, "wb") as hash_file:
        np.save(hash_file, np.unique(hashes))


def read_trained_on(run_path):
    """Reads which images, with which labels, a run is trained on.

    Args:
        run_path: str, the run's folder.

    Returns:
        list of (image path, class id, hash of its bytes or 0 where that is not known), in the
        order of the margins; empty where nothing was recorded.

    Raises:
        InputError: the file is damaged.
    """
    table_path = os.path.join(run_path, MARGINS, PACKED)
    is_packed = os.path.exists(table_path)
    if not is_packed:
        table_path = os.path.join(run_path, MARGINS, TRAINED_ON)
    try:
        if is_packed:
            return _read_packed(table_path)
        with open(table_path, encoding="utf-8", errors="surrogateescape", newline="") as csv_file:
            return [
                (row[0], int(row[1]), int(row[2], 16) if len(row) > 2 else 0)
                for row in csv.reader(csv_file)
            ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, IndexError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{table_path}: cannot be read: {error}") from None


def read_hashes(run_path):
    """Reads the hashes of the images that a run was trained and validated on.

    Args:
        run_path: str, the run's folder.

    Returns:
        (dict of hash -> (position, class id) of an image trained on; set of hashes validated on),
        empty for a run of an earlier version.

    Raises:
        InputError: the files are damaged.
    """
    trained = {
        content: (position, class_id)
        for position, (_, class_id, content) in enumerate(read_trained_on(run_path))
    }
    hash_path, validated = os.path.join(run_path, MARGINS, VALIDATED_ON), set()
    try:
        if os.path.exists(hash_path):
            validated = set(np.load(hash_path, allow_pickle=False).tolist())
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{hash_path}: cannot be read: {error}") from None
    trained.pop(0, None)  # of what could not be read
    return trained, validated - {0}


def write_margins(run_path, epoch, margins):
    """Writes the margins of one epoch.

    Args:
        run_path: str, the run's folder.
        epoch: int, counted from 0.
        margins: float16 (N,), one per image, NaN where it was not drawn.
    """
    with replacing(os.path.join(run_path, MARGINS, f"{epoch + 1:05}.npy")) as partial_path:
        np.save(partial_path, margins)


def read_margins(run_path):
    """Reads what a run was trained on, and how sure it was of each label.

    Args:
        run_path: str, the run's folder.

    Returns:
        (dict of image path -> (position, class id), float32 (epochs, N) margins, NaN where an
        image was not drawn); an empty dict and no rows where nothing was recorded.

    Raises:
        InputError: the files are damaged.
    """
    margin_folder = os.path.join(run_path, MARGINS)
    images = {
        path: (position, class_id)
        for position, (path, class_id, _) in enumerate(read_trained_on(run_path))
    }
    if not images:
        return {}, np.empty((0, 0), np.float32)
    try:
        epoch_margins = {
            int(file_name[:-4]): np.load(os.path.join(margin_folder, file_name), allow_pickle=False)
            for file_name in os.listdir(margin_folder)
            if file_name.endswith(".npy") and file_name[:-4].isdecimal()  # no partial one
        }
        # An epoch on several devices has left none.
        margins = np.full((max(epoch_margins, default=0), len(images)), np.nan, np.float32)
        for epoch_number, row in epoch_margins.items():
            margins[epoch_number - 1] = row
    except (OSError, ValueError, IndexError, EOFError) as error:
        raise InputError(f"{margin_folder}: cannot be read: {error}") from None
    return images, margins
