"""--normalize: the numbers of a file that --mode mean_std has written."""

import json

import numpy as np

from common.errors import InputError


def with_normalization(options):
    """The options with the numbers of the file that --normalize names, which a run keeps.

    Args:
        options: the options of `--mode train`.
    """
    if not isinstance(options.normalize, str):
        return options
    return options._replace(normalize=read_normalization(options.normalize))


def read_normalization(json_path):
    """Reads a file of --mode mean_std.

    Args:
        json_path: str, the file.

    Returns:
        tuple of six float: the means, then the standard deviations, each of red, green and
        blue, in 0-255.

    Raises:
        InputError: no such file, or not such a one.
    """
    try:
        with open(json_path, encoding="utf-8") as json_file:
            moments = json.load(json_file)
        numbers = [
            float(value) for name in ("mean", "standard_deviation") for value in moments[name]
        ]
    except FileNotFoundError:
        raise InputError(
            f"--normalize: {json_path}: no such file; --mode mean_std makes it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"--normalize: {json_path}: is not a file of --mode mean_std: {error!r}"
        ) from None
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        raise InputError(f"--normalize: {json_path}: must hold three means and three deviations")
    if min(numbers[3:]) <= 0:
        raise InputError(
            f"--normalize: {json_path}: a deviation is {min(numbers[3:]):g}; it must be above 0, "
            "or the images are all alike in a channel"
        )
    return tuple(numbers)
