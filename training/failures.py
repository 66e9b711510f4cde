"""What may stop a training in its middle, explained in one line."""

import os
import shutil

from common.errors import InputError, RunError

# How TensorFlow and XLA say that a device's memory is used up
NO_MEMORY = ("resource_exhausted", "resourceexhausted", "out of memory", "oom when allocating")
NO_SPACE = ("no space left", "disk quota exceeded", "file too large")


def explain(error, run_path):
    """The error to raise instead of one that came up while training.

    Args:
        error: the exception.
        run_path: str, the run's folder.

    Returns:
        `RunError` in one line, or `error` itself where it is plain already or unknown.
    """
    if isinstance(error, (InputError, RunError)) or not isinstance(error, Exception):
        return error
    error_text = f"{type(error).__name__}: {error}"
    lower_text = error_text.lower()
    if isinstance(error, OSError) or any(sign in lower_text for sign in NO_SPACE):
        # When a file is copied, the second name is the one that could not be written.
        names = getattr(error, "filename2", None), getattr(error, "filename", None)
        place = names[0] or names[1] or run_path
        reason = getattr(error, "strerror", None) or error_text
        return RunError(f"{place}: cannot be written: {reason}{_free_space(run_path)}")
    if isinstance(error, MemoryError):
        return RunError("the memory is used up; a smaller --batch_size or --input_size needs less")
    if any(sign in lower_text for sign in NO_MEMORY):
        return RunError(
            "the device's memory is used up; a smaller --batch_size (with --accumulate for the "
            "same effect), a smaller --input_size or --mixed_precision needs less"
        )
    return error


def _free_space(folder):
    """How full the disk is, where the system tells; begins with a semicolon."""
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        free_bytes = shutil.disk_usage(folder or ".").free
    except OSError:
        return ""
    return f"; the disk of {folder or '.'} has {free_bytes / 1e6:,.1f} MB free"
