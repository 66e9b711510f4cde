"""Downloading a backbone's ImageNet weights from Keras's store or from a mirror of it.

Keras's own `get_file` is not used: it waits without a limit, writes to the file's own name, and
leaves there what it found to be another file.
"""

import hashlib
import os
import re
import time
from contextlib import contextmanager

from common.console import say
from common.errors import RunError
from common.files import replacing
from efficientnet import lite_packages
from modeling import backbones
from modeling.imagenet_weights import cache_folder, imagenet_file

VARIABLE = "WEIGHTS_URL"  # environment: the mirror of a whole site
STORE_ROOT = "/keras-applications/"  # in each address of Keras's store, before what a mirror has
SIGNATURE = b"\x89HDF\r\n\x1a\n"  # the first bytes of every HDF5 file
MOST_BYTES = 2 * 10**9  # the largest file, ConvNeXtXLarge, has 1.4 * 10^9
MOST_REDIRECTS = 5
CONNECT_SECONDS, SILENCE_SECONDS = 10, 30  # without any answer
GRACE_SECONDS, LEAST_RATE = 60, 10_000  # after that time: bytes per second, on average
CHUNK = 1 << 20


class _RefusedError(Exception):
    """An answer that is not the weights; the message says why."""


def is_needed(weights, backbone):
    """bool, whether a training starts from weights that Keras publishes.

    Args:
        weights: str, the value of --weights.
        backbone: str, the value of --backbone.
    """
    in_package = backbone.startswith(backbones.HUB) or lite_packages.is_lite(backbone)
    return weights == "imagenet" and not in_package


def fetch(backbone, mirror=None):
    """Brings the ImageNet weights of a backbone into Keras's cache, unless they are there.

    Args:
        backbone: str, a backbone whose weights Keras publishes.
        mirror: str, address below which a mirror has Keras's files, under the paths that they
            have below `STORE_ROOT`; None for that of the environment variable WEIGHTS_URL, or
            else Keras's store.

    Returns:
        str, path of the file.

    Raises:
        RunError: the file cannot be had; says why and what to do instead. The cache is as it was.

    Example:
        >>> fetch("ResNet50", "https://mirror.example/keras")
        '/home/me/.keras/models/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5'
    """
    file_name, address, checksum = imagenet_file(backbone)
    path = os.path.join(cache_folder(), file_name)
    if os.path.isfile(path):
        if not checksum or _checksum(path, checksum) == checksum:
            return path
        say(f"{path}: is damaged, or another file: it is downloaded again")
    option = "--weights_url" if mirror else VARIABLE
    mirror = mirror or os.environ.get(VARIABLE)
    if mirror:
        address = mirror.rstrip("/") + "/" + address.split(STORE_ROOT, 1)[1]
    shown = re.sub("//[^/@]*@", "//", address)  # without a password
    say(f"downloading {shown}")
    try:
        _download(address, path, checksum)
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        if mirror:
            raise RunError(f"{option}: {shown}: {reason}") from None
        raise RunError(
            f"--weights imagenet: the weights of {backbone} cannot be downloaded ({reason}). "
            f"Without a network: {_installed_start()}train from scratch with --weights none, "
            f"take them from a mirror with --weights_url BASE, or download {address} elsewhere "
            f"and save it in {cache_folder()} as {file_name}, or give its path with "
            "--weights PATH"
        ) from None
    return path


def _installed_start():
    """The part of an error message that names a backbone whose weights are installed."""
    names = lite_packages.installed()
    return f"--backbone {names[0]} has its weights installed, or " if names else ""


def _download(address, path, checksum):
    """Writes what an address answers to a path, if it is the file that was asked for."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing(path) as partial_path:
        with open(partial_path, "wb") as weights_file, _answer(address) as response:
            _copy(response, weights_file)
        if checksum:
            if _checksum(partial_path, checksum) != checksum:
                raise _RefusedError("is another file than Keras's, by its checksum")
        else:
            _check_whole(partial_path)


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


def _copy(response, weights_file):
    """Writes the body of an answer, while it looks like a weights file that comes in time."""
    start, size, began_at = b"", 0, time.monotonic()
    while chunk := response.raw.read1(CHUNK):
        start = (start + chunk)[: len(SIGNATURE)]
        if not SIGNATURE.startswith(start):
            content_type = response.headers.get("Content-Type", "").split(";")[0]
            raise _RefusedError(f"answered {content_type or 'something else'}, not an HDF5 file")
        weights_file.write(chunk)
        size += len(chunk)
        if size > MOST_BYTES:
            raise _RefusedError(f"is larger than {MOST_BYTES / 1e9:g} GB")
        seconds = time.monotonic() - began_at
        if seconds > GRACE_SECONDS and size < LEAST_RATE * seconds:
            raise _RefusedError(f"sends less than {LEAST_RATE / 1000:g} kB per second")
    if len(start) < len(SIGNATURE):
        raise _RefusedError("answered nothing")


def _checksum(path, like):
    """str, the MD5 or SHA-256 of a file, whichever has the length of another checksum."""
    name = "md5" if len(like) == 32 else "sha256"
    with open(path, "rb") as weights_file:
        return hashlib.file_digest(
            weights_file, lambda: hashlib.new(name, usedforsecurity=False)
        ).hexdigest()


def _check_whole(path):
    """Refuses a file that ends too early, where no checksum would show it."""
    import h5py

    try:
        h5py.File(path, "r").close()
    except OSError:
        raise _RefusedError("is damaged, or ends too early") from None


def _reason(error):
    """str, why a download failed, in words for a person; None for an error of another kind."""
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
