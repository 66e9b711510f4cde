"""The errors that end a command with one plain line instead of a traceback.

`run.py` prints the message and exits with the error's `status`. A message says
what was wrong, the value received, what is allowed, and the file (and line) that has it.
"""

IMAGE_ERROR_CODES = (
    "unreadable",  # the file cannot be opened or read
    "empty",  # it has no bytes
    "truncated",  # part of it is missing
    "too_large",  # more pixels, scans or memory than allowed
    "unsupported",  # valid, but of a kind that is not supported
    "undecodable",  # anything else
)


class PlainError(Exception):
    """An error whose message is one line, even if a file name in it contains a line break.

    Args:
        message: str, or an object with one, such as an exception.
    """

    def __init__(self, message):
        super().__init__(" ".join(str(message).splitlines()))


class InputError(PlainError):
    """Wrong usage or bad input: something that the user can correct. Exit status 2."""

    status = 2


class ImageError(InputError):
    """An image that cannot be used, because of its file or its content.

    Args:
        name: str, the image's path, or the name a client gave it.
        reason: str, why it cannot be used, in words for a person.
        code: str, one of `IMAGE_ERROR_CODES`, for programs.
    """

    def __init__(self, name, reason, code="undecodable"):
        super().__init__(f"{name}: {reason}")
        if code not in IMAGE_ERROR_CODES:
            raise ValueError(f"code must be one of {IMAGE_ERROR_CODES}. Received: {code!r}")
        self.name = str(name)
        self.reason = reason
        self.code = code


class RunError(PlainError):
    """A failure with correct input: a download, a full disk, a check. Exit status 1."""

    status = 1


class DivergedError(RunError):
    """A training whose loss or weights are NaN or infinite."""


class StuckError(RunError):
    """Reading a file takes longer than allowed; its thread cannot be stopped."""


def first_ten(names):
    """The first ten names for a message, and how many more there are.

    Args:
        names: iterable of str.

    Returns:
        str.

    Example:
        >>> first_ten(["a.jpg", "b.jpg"])
        'a.jpg, b.jpg'
    """
    names = list(names)
    suffix = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + suffix


def raise_first(errors, image_count):
    """Ends a mode that has answered for the other images.

    Args:
        errors: list of `ImageError`.
        image_count: int, images in all.

    Raises:
        InputError: the first of the errors, and how many there are; nothing where there is none.
    """
    if errors:
        others = f"; {len(errors)} of {image_count} images failed" if errors[1:] else ""
        raise InputError(f"{errors[0]}{others}")


def nearest(word, known):
    """A suggestion for a misspelled name.

    Args:
        word: str, the name received.
        known: iterable of str, the names that are allowed.

    Returns:
        str, "; did you mean NAME?" with the most similar name, or "" where none is similar.

    Example:
        >>> nearest("epoch", ["epochs", "ema"])
        '; did you mean epochs?'
    """
    import difflib  # only an error needs it

    known_by_lower = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.lower(), known_by_lower, 1, 0.5)
    return f"; did you mean {known_by_lower[matches[0]]}?" if matches else ""
