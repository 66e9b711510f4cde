"""What may stop a training in its middle, explained in one line."""

from common.errors import InputError, RunError
from common.write_errors import free_space, is_disk_full, reason

# How TensorFlow and XLA say that a device's memory is used up
NO_MEMORY = ("resource_exhausted", "resourceexhausted", "out of memory", "oom when allocating")


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
    if isinstance(error, OSError) or is_disk_full(error):
        # When a file is copied, the second name is the one that could not be written.
        names = getattr(error, "filename2", None), getattr(error, "filename", None)
        place = names[0] or names[1] or run_path
        return RunError(f"{place}: cannot be written: {reason(error)}{free_space(run_path)}")
    lower_text = f"{type(error).__name__}: {error}".lower()
    if isinstance(error, MemoryError):
        return RunError("the memory is used up; a smaller --batch_size or --input_size needs less")
    if any(sign in lower_text for sign in NO_MEMORY):
        return RunError(
            "the device's memory is used up; a smaller --batch_size (with --accumulate for the "
            "same effect), a smaller --input_size or --mixed_precision needs less"
        )
    return error
