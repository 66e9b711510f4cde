"""Files and folders that appear whole or not at all, and their checksums."""

import contextlib
import hashlib
import os
import shutil

from common.errors import InputError


@contextlib.contextmanager
def replacing(path):
    """Gives a path to write instead of `path`, and renames it there when all went well.

    The new file is flushed to disk first: after a power cut `path` holds the old
    content or the new one, never a part. The name keeps its ending.
    """
    folder, name = os.path.split(os.path.abspath(path))
    # The end alone: with the whole of a long name it would be longer than a file system takes.
    partial = os.path.join(folder, f".partial-{name[-60:]}")
    try:
        yield partial
        flush(partial)
        os.replace(partial, path)
        flush(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def reserve(path, size):
    """Raises an OSError where the disk has no room for a file of so many bytes at `path`."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(0)


def flush(path):
    """Waits until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path, text):
    """Writes a text file whole or not at all."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def replace_folder(partial, path):
    """Puts the finished folder `partial` in the place of `path`, which may exist."""
    old = f"{path}.old"
    if os.path.exists(old) and not os.path.exists(path):  # a stop between the two renames below
        os.rename(old, path)
    shutil.rmtree(old, ignore_errors=True)
    if os.path.exists(path):
        os.rename(path, old)
    os.rename(partial, path)
    flush(os.path.dirname(os.path.abspath(path)))
    shutil.rmtree(old, ignore_errors=True)


def check_building(path):
    """Refuses what `building` would: a path where something stands but an empty folder."""
    if os.path.lexists(path):
        if os.path.islink(path) or not os.path.isdir(path) or os.listdir(path):
            raise InputError(f"--target: {path} exists; name a folder that does not, or is empty")


@contextlib.contextmanager
def building(path):
    """Gives a new folder to fill, which becomes `path` when all went well.

    Raises:
        InputError: something stands there already that is not an empty folder.
    """
    check_building(path)
    parent, name = os.path.split(os.path.abspath(path))
    partial = os.path.join(parent, f".partial-{name}-{os.getpid()}")
    os.makedirs(parent, exist_ok=True)
    os.mkdir(partial)
    try:
        yield partial
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def checksum(path):
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
