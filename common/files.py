"""Writing files and folders whole or not at all, and checksums."""

import contextlib
import errno
import hashlib
import os
import shutil
import time

from common.errors import InputError
from common.partial_paths import partial_path

SCANNING = 1.0  # seconds in which another program lets go of a file
COLLISIONS = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY)


@contextlib.contextmanager
def replacing(path):
    """A context with a path to write to, which replaces `path` at the end if no error occurred.

    The new file is flushed to disk first: after a power failure `path` has the old
    content or the new one, never a part. Of several that write at once, one whole file wins.

    Args:
        path: str, the file to write, which may exist.

    Returns:
        Context manager of a str, a path in the same folder with the same extension.

    Raises:
        OSError: the file cannot be written; where the disk is full, it names `path`.

    Example:
        >>> with replacing("photo.jpg") as partial:
        ...     image.save(partial)
    """
    with partial_path(path) as partial:
        yield partial
        flush(partial)
        _patiently(os.replace, partial, path)
        flush(os.path.dirname(os.path.abspath(path)))


@contextlib.contextmanager
def replacing_folder(path):
    """A context with a new folder to fill, which replaces `path` at the end if no error occurred.

    Args:
        path: str, the folder to write, which may exist; parent folders are created.

    Returns:
        Context manager of a str, the folder to fill.

    Raises:
        OSError: the folder cannot be written; where the disk is full, it names what was written.

    Example:
        >>> with replacing_folder("charts") as partial:
        ...     figure.savefig(os.path.join(partial, "classes.png"))
    """
    with partial_path(path) as partial:
        os.makedirs(partial)
        yield partial
        replace_folder(partial, path)


def reserve(path, size):
    """Checks that the disk has room for a file, and leaves an empty one.

    Args:
        path: str, the file to write later; its content is lost.
        size: int, bytes.

    Raises:
        OSError: there is not enough room.
    """
    with open(path, "wb") as empty_file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(empty_file.fileno(), 0, size)
            empty_file.truncate(0)
        elif shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def flush(path):
    """Waits until a file's content, or a folder's entries, are on the disk.

    Args:
        path: str, of a file or folder.
    """
    # Windows flushes only files that are open for writing, and opens no folder.
    flags = os.O_RDWR | os.O_BINARY if os.name == "nt" else os.O_RDONLY
    try:
        descriptor = os.open(path, flags)
    except PermissionError:
        if os.path.isdir(path):
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path, text):
    """Writes a text file in UTF-8, whole or not at all.

    Args:
        path: str, the file to write, which may exist.
        text: str, its content; line breaks are written as they are.
    """
    with replacing(path) as partial:
        with open(partial, "w", encoding="utf-8", newline="") as text_file:
            text_file.write(text)


def replace_folder(partial, path):
    """Renames a finished folder to `path`, and deletes what was there.

    Args:
        partial: str, the finished folder, on the same disk.
        path: str, the folder to replace, which may exist.

    Raises:
        OSError: it cannot be renamed.
    """
    for attempts_left in (2, 1, 0):
        try:
            _exchange(partial, path, f"{path}.old")
            break
        except OSError as error:
            # Another process replaced it between two of the renames.
            if error.errno not in COLLISIONS or not attempts_left:
                raise
    flush(os.path.dirname(os.path.abspath(path)))
    shutil.rmtree(f"{path}.old", ignore_errors=True)


def _exchange(partial, path, old_path):
    if os.path.exists(old_path) and not os.path.exists(path):
        # An earlier call was stopped between the renames below.
        _patiently(os.rename, old_path, path)
    shutil.rmtree(old_path, ignore_errors=True)
    if os.path.exists(path):
        _patiently(os.rename, path, old_path)
    _patiently(os.rename, partial, path)


def _patiently(rename, source, target):
    """Renames; on Windows, where a virus scanner may just look at the file, tries for a second."""
    give_up_at = time.monotonic() + SCANNING
    while True:
        try:
            rename(source, target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() > give_up_at:
                raise
        time.sleep(SCANNING / 20)


def check_building(path):
    """Refuses a path at which a folder cannot be built.

    Args:
        path: str, value of `--target`.

    Raises:
        InputError: the path exists and is not an empty folder.
    """
    if os.path.lexists(path):
        if os.path.islink(path) or not os.path.isdir(path) or os.listdir(path):
            raise InputError(
                f"--target: {path} exists; give a folder that does not exist, or is empty"
            )


@contextlib.contextmanager
def building(path):
    """A context with a new folder to fill, renamed to `path` at the end if no error occurred.

    Args:
        path: str, the folder to build; parent folders are created.

    Returns:
        Context manager of a str, the folder to fill.

    Raises:
        InputError: the path exists and is not an empty folder.
        OSError: the folder cannot be written; where the disk is full, it names what was written.

    Example:
        >>> with building("dataset") as partial:
        ...     write_text(os.path.join(partial, "label.json"), "[]")
    """
    check_building(path)
    with partial_path(path) as partial:
        os.makedirs(partial)
        yield partial
        with contextlib.suppress(OSError):
            os.rmdir(path)  # Windows renames nothing to the name of an empty folder
        _patiently(os.rename, partial, path)


def checksum(path):
    """The SHA-256 of a file.

    Args:
        path: str.

    Returns:
        str, 64 hexadecimal digits.
    """
    with open(path, "rb") as binary_file:
        return hashlib.file_digest(binary_file, "sha256").hexdigest()


def check_writable(path, option):
    """Refuses a file that could not be written, before the work and not after it.

    Args:
        path: str, the file to write; None is accepted.
        option: str, the option that named it, for errors.

    Raises:
        InputError: its folder does not exist, or something other than a file is there.
    """
    if path is None:
        return
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise InputError(f"{option}: {path}: there is no folder {folder}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{option}: {path} is not a file that could be replaced")
