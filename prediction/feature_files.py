"""Files of features: NumPy's .npz with a row per photo, and what computed them.

    features.npz
      features     float16 (N, D)
      paths        str (N,), the photos
      sizes        int64 (N,), bytes of the photos' files
      modified     int64 (N,), when they were last changed, in nanoseconds
      description  str, JSON: what computed the features, and whether they have unit length

`numpy.load` opens it without this project. The arrays are not compressed, so that a file larger
than memory is read in parts.
"""

import json
import os
import struct
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from common.errors import InputError
from common.files import replacing

FORMAT = 1
BLOCK_ROWS = 4096
ARRAYS = ("features", "paths", "sizes", "modified", "description")
UNREADABLE = (  # what zipfile, NumPy and JSON raise for spoilt files
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError),
    *(RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error),
)
AGAIN = "--mode embed writes one"


class FeatureFile(NamedTuple):
    """The features of some photos.

    Attributes:
        features: float16 (N, D), where possible a `numpy.memmap`.
        paths: str (N,).
        sizes: int64 (N,), bytes of each photo's file.
        modified: int64 (N,), nanoseconds, of each photo's file.
        description: dict, JSON's types alone.
    """

    features: np.ndarray
    paths: np.ndarray
    sizes: np.ndarray
    modified: np.ndarray
    description: dict


def write(path, content, kept=None):
    """Writes a file of features, whole or not at all.

    Args:
        path: str, the file; its name should end with .npz.
        content: `FeatureFile`; of features on disk only parts are in memory at a time.
        kept: int (M,), the photos that are written; None is all.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> write("features.npz", FeatureFile(features, paths, sizes, modified, {"by": "hand"}))
        >>> np.load("features.npz")["features"].shape
        (480, 1280)
    """
    kept = np.arange(len(content.paths)) if kept is None else kept
    description = json.dumps({"format": FORMAT, **content.description}, ensure_ascii=False)
    arrays = {name: getattr(content, name)[kept] for name in ("paths", "sizes", "modified")}
    arrays["description"] = np.array(description)
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            _write_rows(member, content.features, kept)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_rows(member, rows, kept):
    """Rows as float16 in NumPy's format, block by block."""
    header = {"descr": "<f2", "fortran_order": False, "shape": (len(kept), rows.shape[1])}
    np.lib.format.write_array_header_1_0(member, header)
    for start in range(0, len(kept), BLOCK_ROWS):
        member.write(rows[kept[start : start + BLOCK_ROWS]].astype("<f2").tobytes())


def read(path):
    """Opens a file of features.

    Args:
        path: str.

    Returns:
        `FeatureFile`.

    Raises:
        InputError: it does not exist, is damaged, or is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _read_array(path, archive, name) for name in ARRAYS}
        description = json.loads(str(arrays.pop("description")))
        if description.pop("format") != FORMAT:
            raise ValueError("its format is that of another version")
        content = FeatureFile(**arrays, description=description)
        _check(content)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {AGAIN}") from None
    except UNREADABLE as error:
        raise InputError(f"{path}: is not a file of features: {error}; {AGAIN}") from None
    return content


def _read_array(path, archive, name):
    """An array of an archive; a large one that is not compressed stays on disk."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as member:
        if name != "features" or entry.compress_type != zipfile.ZIP_STORED:
            return np.lib.format.read_array(member, allow_pickle=False)
        version = np.lib.format.read_magic(member)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(member)
        header_length = member.tell()
    if dtype.hasobject or is_fortran or not np.prod(shape):
        raise ValueError("features are not rows of numbers")
    with open(path, "rb") as file:  # the name and extra field of the entry itself
        file.seek(entry.header_offset + 26)
        name_length, extra_length = np.frombuffer(file.read(4), "<u2")
    data_offset = entry.header_offset + 30 + int(name_length) + int(extra_length)
    return np.memmap(path, dtype, "r", data_offset + header_length, shape)


def _check(content):
    count = len(content.paths)
    if content.features.ndim != 2 or content.features.dtype.kind != "f":
        raise ValueError("features are not rows of numbers")
    shapes = [array.shape for array in (content.paths, content.sizes, content.modified)]
    if len(content.features) != count or any(shape != (count,) for shape in shapes):
        raise ValueError("its arrays differ in length")
    if content.paths.dtype.kind != "U" or not isinstance(content.description, dict):
        raise ValueError("paths are not text")


def check_finite(path, content):
    """Refuses features that nothing can be computed with; reads all of them.

    Args:
        path: str, the file, for errors.
        content: `FeatureFile`.

    Raises:
        InputError: a number is NaN or infinite.
    """
    for start in range(0, len(content.paths), BLOCK_ROWS):
        block = content.features[start : start + BLOCK_ROWS]
        bad_rows = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad_rows):
            photo = content.paths[start + bad_rows[0]]
            raise InputError(f"{path}: the features of {photo} are NaN or infinite; {AGAIN}")


def stat_photos(paths):
    """Size and time of change of photos' files.

    Args:
        paths: list of N str.

    Returns:
        (sizes, modified): int64 (N,), bytes and nanoseconds; -1 where there is no such file.
    """
    table = np.full((2, len(paths)), -1, np.int64)
    for position, path in enumerate(paths):
        try:
            status = os.stat(path)
        except OSError:
            continue
        table[:, position] = status.st_size, status.st_mtime_ns
    return table[0], table[1]
