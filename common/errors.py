"""The errors that end a command in one plain line instead of a traceback.

`run.py` prints the message and exits with the error's `status`. A message says
what was wrong, the value received and what is allowed, and names the file (and
line) where it stands.
"""


IMAGE_ERROR_CODES = (
    "unreadable",  # the file cannot be opened or read
    "empty",  # it has no bytes
    "truncated",  # a part of it is missing
    "too_large",  # more pixels, scans or memory than allowed
    "unsupported",  # sound, but of a kind that is not read
    "undecodable",  # anything else
)


class PlainError(Exception):
    """An error of one line, though a name in it holds a separator of lines, as file names may."""

    def __init__(self, message):
        super().__init__(" ".join(str(message).splitlines()))


class InputError(PlainError):
    """Wrong usage or bad input: what a user can cause and can put right."""

    status = 2


class ImageError(InputError):
    """An image that cannot be used.

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
    """What failed while running although the input was right: a download, a check."""

    status = 1


class DivergedError(RunError):
    """A training whose loss or weights are no longer numbers."""


class StuckError(RunError):
    """A file that is not read within the time it may take; its thread cannot be ended."""


def first_ten(names):
    """The first ten of `names` for a message, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
