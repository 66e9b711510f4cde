"""Names of images that a server keeps: by them a model's guess is told from a person's label."""

import re

TIME_FORMAT = "%Y%m%dT%H%M%S.%f"
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}-.+", re.DOTALL)


def kept_name(utc_time, name, extension):
    """The file name of an image that the server keeps.

    Args:
        utc_time: `datetime.datetime` at which it was kept.
        name: str, different for every image.
        extension: str, with its dot.

    Example:
        >>> kept_name(datetime(2026, 3, 1, 12, 0, 0, 5), "request-0", ".jpg")
        '20260301T120000.000005-request-0.jpg'
    """
    return f"{utc_time.strftime(TIME_FORMAT)}-{name}{extension}"


def is_kept_name(file_name):
    """Whether a file name is one that `kept_name` makes.

    The text file beside such an image holds what the model answered, which nobody has looked at.

    Args:
        file_name: str, without the folder before it.

    Returns:
        bool.
    """
    return _NAME.fullmatch(file_name) is not None
