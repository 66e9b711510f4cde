"""The one line about a file that cannot be written: wrong usage, or a full disk."""

import errno
import os
import shutil

from common.errors import InputError, PlainError, RunError

DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
# How libraries say so whose errors have no number; the last is NumPy's: "9 requested and 0 written"
DISK_FULL_WORDS = ("no space left", "disk quota exceeded", "file too large", "requested and")


def is_disk_full(error):
    """bool, whether an error says that a disk, or a quota on it, is full.

    Args:
        error: exception.
    """
    if isinstance(error, PlainError):  # it has been put into words already
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_FULL
    message = str(error).lower()
    return any(words in message for words in DISK_FULL_WORDS)


def write_error(error, path, option=""):
    """The error to raise where a file cannot be written.

    Args:
        error: exception that writing raised.
        path: str, the file or folder to write; an error that names another one takes precedence.
        option: str, the option that named it, or "".

    Returns:
        `RunError` where the disk is full, which no other option mends; else `InputError`.

    Example:
        >>> write_error(OSError(errno.ENOSPC, "No space left on device"), "eval.csv", "--csv")
        RunError('--csv: eval.csv cannot be written: No space left on device; ...')
    """
    prefix = f"{option}: " if option else ""
    if is_disk_full(error):
        # When a file is copied, the second name is the one that could not be written.
        names = getattr(error, "filename2", None), getattr(error, "filename", None)
        path = names[0] or names[1] or path
        return RunError(f"{prefix}{path} cannot be written: {reason(error)}{free_space(path)}")
    return InputError(f"{prefix}{path} cannot be written: {reason(error)}")


def reason(error):
    """str, what an error says, without its number and file names.

    Args:
        error: exception.
    """
    if getattr(error, "strerror", None):
        return error.strerror
    return os.strerror(errno.ENOSPC) if is_disk_full(error) else f"{type(error).__name__}: {error}"


def free_space(path):
    """str, how full the disk is, where the system tells; begins with a semicolon.

    Args:
        path: str, of a file or folder, which need not exist.
    """
    folder = os.path.abspath(path)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return f"; the disk of {folder} has {free_bytes / 1e6:,.1f} MB free"
