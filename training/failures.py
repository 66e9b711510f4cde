"""What may stop a training in its middle, told in one line."""

import os
import shutil

from common.errors import InputError, RunError

# How TensorFlow and XLA say that a device's memory is used up
NO_MEMORY = ("resource_exhausted", "resourceexhausted", "out of memory", "oom when allocating")
NO_SPACE = ("no space left", "disk quota exceeded", "file too large")


def explain(error, path):
    """The error to raise instead of one that came up while training; the same where it is plain.

    Args:
        error: the exception.
        path: the run's folder.
    """
    if isinstance(error, (InputError, RunError)) or not isinstance(error, Exception):
        return error
    text = f"{type(error).__name__}: {error}"
    lower = text.lower()
    if isinstance(error, OSError) or any(sign in lower for sign in NO_SPACE):
        # Of copying, the second is what could not be written.
        place = getattr(error, "filename2", None) or getattr(error, "filename", None) or path
        reason = getattr(error, "strerror", None) or text
        return RunError(f"{place}: cannot be written: {reason}{_space(path)}")
    if isinstance(error, MemoryError):
        return RunError("the memory is used up; a smaller --batch_size or --input_size needs less")
    if any(sign in lower for sign in NO_MEMORY):
        return RunError(
            "the device's memory is used up; a smaller --batch_size (with --accumulate for the "
            "same effect), a smaller --input_size or --mixed_precision needs less"
        )
    return error


def _space(path):
    """How full the disk is, where it can be told."""
    while path and not os.path.isdir(path):
        path = os.path.dirname(path)
    try:
        free = shutil.disk_usage(path or ".").free
    except OSError:
        return ""
    return f"; the disk of {path or '.'} has {free / 1e6:,.1f} MB free"
