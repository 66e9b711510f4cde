"""The features of any number of photos in a file, continued where it stopped."""

import contextlib
import hashlib
import json
import os
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.console import say
from common.errors import ImageError, InputError
from prediction import feature_files
from prediction.feature_files import FeatureFile

DIGEST_BYTES = 64  # before the rows of an unfinished file: what they are rows of
BLOCK_ROWS = 4096


class Embedding(NamedTuple):
    """What `embed` did.

    Attributes:
        content: `FeatureFile`, as it is on disk.
        computed: int, photos whose features were computed now.
        errors: list of `ImageError`, photos that cannot be decoded and are left out.
    """

    content: FeatureFile
    computed: int
    errors: list


def embed(extractor, paths, target, unit_length=False, batch_size=32, workers=1):
    """Computes features into a file, beside which the unfinished rows lie until it is complete.

    Features that `target` has from the same network are kept where the photo's file has the same
    size and time of change. An interrupted call leaves `target` as it was and its rows beside it;
    the same call continues there.

    Args:
        extractor: `FeatureExtractor`.
        paths: list of str, the photos, each once.
        target: str, the .npz to write or to bring up to date.
        unit_length: bool, whether features are divided by their Euclidean length.
        batch_size: int, images that the network takes at once.
        workers: int, threads that decode.

    Returns:
        `Embedding`.

    Raises:
        InputError: `target` is something else; features are NaN or too large for float16; no photo
            can be decoded.
        OSError: the disk is full.

    Example:
        >>> extractor = FeatureExtractor.from_backbone("EfficientNetLite0")
        >>> embed(extractor, ["glass.jpg", "metal.jpg"], "features.npz").content.features.shape
        (2, 1280)
    """
    description = {**extractor.describe(), "unit_length": unit_length}
    photos = FeatureFile(
        None, np.array(paths, np.str_), *feature_files.stat_photos(paths), description
    )
    earlier = _read_earlier(target, photos, extractor.size)
    rows_path = f"{target}.rows"
    rows = _open_rows(rows_path, photos, extractor.size)
    if earlier:
        _copy_known(rows, photos, earlier)
        del earlier  # Windows replaces no file that is mapped
    missing = np.flatnonzero(_is_missing(rows))
    answers = extractor.stream([paths[row] for row in missing], batch_size, workers)
    errors = _compute(rows, missing, answers, unit_length)
    if len(errors) == len(paths):
        del rows  # Windows removes no file that is mapped
        os.remove(rows_path)
        raise InputError(f"no photo can be decoded; {next(iter(errors.values()))}")
    kept = np.setdiff1d(np.arange(len(paths)), list(errors))
    feature_files.write(target, photos._replace(features=rows), kept)
    del rows
    os.remove(rows_path)
    return Embedding(feature_files.read(target), len(missing) - len(errors), [*errors.values()])


def _open_rows(rows_path, photos, size):
    """float16 (N, D) on disk, rows of NaN where nothing has been computed yet."""
    shape = (len(photos.paths), size)
    identity = hashlib.sha256(json.dumps([photos.description, shape], sort_keys=True).encode())
    for array in (photos.paths, photos.sizes, photos.modified):
        identity.update(array.tobytes())
    digest = identity.hexdigest().encode()
    byte_count = DIGEST_BYTES + 2 * int(np.prod(shape))
    with contextlib.suppress(OSError), open(rows_path, "rb") as rows_file:
        if rows_file.read(DIGEST_BYTES) == digest and os.path.getsize(rows_path) == byte_count:
            return np.memmap(rows_path, np.float16, "r+", DIGEST_BYTES, shape)
    if os.path.exists(rows_path):
        say(f"{rows_path}: unfinished features of other photos or another network are discarded")
    with open(rows_path, "wb") as rows_file:  # written in full: a full disk shows now
        block = np.full((BLOCK_ROWS, size), np.nan, np.float16)
        rows_file.write(bytes(DIGEST_BYTES))
        for start in range(0, len(photos.paths), BLOCK_ROWS):
            rows_file.write(block[: len(photos.paths) - start].tobytes())
        rows_file.seek(0)
        rows_file.write(digest)
    return np.memmap(rows_path, np.float16, "r+", DIGEST_BYTES, shape)


def _read_earlier(target, photos, size):
    """The `FeatureFile` to bring up to date, or None; refuses one of something else."""
    if not os.path.exists(target):
        return None
    earlier = feature_files.read(target)
    if earlier.description != photos.description or earlier.features.shape[1] != size:
        raise InputError(
            f"{target}: has features of another network, input size or length; choose another "
            "--target"
        )
    dropped_count = len(np.setdiff1d(earlier.paths, photos.paths))
    if dropped_count == len(earlier.paths):
        raise InputError(
            f"{target}: has the features of {dropped_count:,} other photos; choose another --target"
        )
    if dropped_count:
        say(f"{target}: {dropped_count:,} of its photos are not in --data any more: left out")
    return earlier


def _copy_known(rows, photos, earlier):
    """Fills rows with those that a `FeatureFile` has of the same files."""
    old_rows = {
        identity: row
        for row, identity in enumerate(zip(earlier.paths, earlier.sizes, earlier.modified))
    }
    for row, identity in enumerate(zip(photos.paths, photos.sizes, photos.modified)):
        old_row = old_rows.get(identity)
        if old_row is not None:
            rows[row] = earlier.features[old_row]


def _is_missing(rows):
    """bool (N,), which rows have NaN in them."""
    blocks = [
        np.isnan(rows[start : start + BLOCK_ROWS]).any(axis=1)
        for start in range(0, len(rows), BLOCK_ROWS)
    ]
    return np.concatenate(blocks)


def _compute(rows, missing, answers, unit_length):
    """Fills the missing rows from the answers of a network; gives dict of row -> `ImageError`."""
    errors = {}
    bar = tqdm(
        answers, "computing features", len(missing), unit=" images", leave=False, disable=None
    )
    for row, (path, answer) in zip(missing, bar):
        if isinstance(answer, ImageError):
            errors[int(row)] = answer
            continue
        if unit_length:
            answer = answer / max(np.linalg.norm(answer), np.finfo(np.float32).tiny)
        with np.errstate(over="ignore"):
            values = answer.astype(np.float16)
        if not np.isfinite(values).all():
            reason = "NaN or infinite" if not np.isfinite(answer).all() else "too large for float16"
            way_out = "" if unit_length else "; --unit_length yes makes all of them small"
            raise InputError(f"{path}: its features are {reason}{way_out}")
        rows[row] = values
    return errors
