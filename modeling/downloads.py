"""Downloading one known file: bounded in time and size, checked, and whole or not at all.

Keras's own `get_file` is not used: it waits without a limit, writes to the file's own name, and
leaves there what it found to be another file.
"""

import hashlib
import os
import re
import time
from contextlib import contextmanager
from typing import NamedTuple

from common.files import replacing

MOST_REDIRECTS = 5
CONNECT_SECONDS, SILENCE_SECONDS = 10, 30  # without any answer
GRACE_SECONDS, LEAST_RATE = 60, 10_000  # after that time: bytes per second, on average
CHUNK = 1 << 20
DIGESTS = {32: "md5", 64: "sha256", 128: "sha512"}  # by the length in hex


class _RefusedError(Exception):
    """An answer that is not the file; the message says why."""


class Expected(NamedTuple):
    """What is known of a file before it is there.

    Attributes:
        kind: str, what it is, with its article, for errors.
        signature: bytes with which every file of this kind begins.
        most_bytes: int, size from which on it cannot be the file.
        checksum: str, its MD5, SHA-256 or SHA-512 in hex, or None where none is published.
        problem: function of a path that says what is wrong with the file, or "", where there is
            no checksum.
    """

    kind: str
    signature: bytes
    most_bytes: int
    checksum: str | None
    problem: object = None


def download(address, path, expected):
    """Writes what an address answers to a path, if it is the file that was asked for.

    Args:
        address: str, URL of the file.
        path: str, the file to write; folders above it are made.
        expected: `Expected`.

    Raises:
        Exception: of several kinds, which `reason_of` puts into words. `path` is as it was.

    Example:

    ```python
    download("https://mirror.example/a.h5", "a.h5", Expected("an HDF5 file", b"", 10**9, None))
    ```
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing(path) as partial_path:
        with open(partial_path, "wb") as partial_file, _answer(address) as response:
            _copy(response, partial_file, expected)
        if expected.checksum:
            if checksum_like(expected.checksum, partial_path) != expected.checksum:
                raise _RefusedError("is another file than the published one, by its checksum")
        elif expected.problem and (problem := expected.problem(partial_path)):
            raise _RefusedError(problem)


@contextmanager
def _answer(address):
    """A context with the streamed answer to a GET request that succeeded."""
    import requests

    with requests.Session() as session:
        session.max_redirects = MOST_REDIRECTS
        with session.get(
            address,
            stream=True,
            timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
            headers={"Accept-Encoding": "identity"},
        ) as response:
            if response.status_code != requests.codes.ok:
                raise _RefusedError(f"answered {response.status_code} {response.reason}".strip())
            yield response


def _copy(response, partial_file, expected):
    """Writes the body of an answer, while it looks like the file and comes in time."""
    signature = expected.signature
    start, size, began_at = b"", 0, time.monotonic()
    while chunk := response.raw.read1(CHUNK):
        start = (start + chunk)[: len(signature)]
        if not signature.startswith(start):
            content_type = response.headers.get("Content-Type", "").split(";")[0]
            raise _RefusedError(f"answered {content_type or 'something else'}, not {expected.kind}")
        partial_file.write(chunk)
        size += len(chunk)
        if size > expected.most_bytes:
            raise _RefusedError(f"is larger than {expected.most_bytes / 1e9:g} GB")
        seconds = time.monotonic() - began_at
        if seconds > GRACE_SECONDS and size < LEAST_RATE * seconds:
            raise _RefusedError(f"sends less than {LEAST_RATE / 1000:g} kB per second")
    if len(start) < len(signature):
        raise _RefusedError("answered nothing")


def checksum_like(checksum, path):
    """The checksum of a file, of the kind that another checksum is.

    Args:
        checksum: str, an MD5, SHA-256 or SHA-512 in hex.
        path: str, the file.

    Returns:
        str, in hex.
    """
    digest = DIGESTS[len(checksum)]
    with open(path, "rb") as binary_file:
        return hashlib.file_digest(
            binary_file, lambda: hashlib.new(digest, usedforsecurity=False)
        ).hexdigest()


def without_password(address):
    """An address as it may be shown.

    Args:
        address: str, a URL.

    Returns:
        str.

    Example:
        >>> without_password("https://me:secret@mirror.example/a")
        'https://mirror.example/a'
    """
    return re.sub("//[^/@]*@", "//", address)


def reason_of(error):
    """Why a download failed, in words for a person.

    Args:
        error: exception that `download` raised.

    Returns:
        str; None for an error of another kind.
    """
    import requests
    import urllib3

    if isinstance(error, requests.TooManyRedirects):
        return f"redirects more than {MOST_REDIRECTS} times"
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return f"no answer within {SILENCE_SECONDS} s"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the answer ends too early"
    if isinstance(error, (_RefusedError, OSError, urllib3.exceptions.HTTPError)):
        cause = error  # requests wraps what the system said three times
        while cause.args and isinstance(cause.args[0], Exception):
            cause = cause.args[0]
        cause = getattr(cause, "reason", None) or cause
        text = re.sub(r"^HTTPS?Connection(Pool)?\(.*?\): ", "", str(cause))
        return " ".join(text.split())[:200]
    return None
