"""The bytes of a photo, wherever it lies: in a file of its own, or in a shard of a packed place.

A photo in a packed place (`data.packed_index`) is known by a text, its address:
`PLACE/photos-00003.tar:OFFSET:LENGTH:CRC`, where its bytes begin in the tar file, how many they
are, and their CRC-32 in 8 hexadecimal digits. An address needs nothing else to be read, so it goes
to other processes as it is, and an error that shows it says where to look.
"""

import functools
import hashlib
import io
import os
import re
import threading
import zlib
from typing import NamedTuple

from common.errors import ImageError
from data import remote_places
from data.object_stores import is_remote

ADDRESS = re.compile(r"(.+\.tar):(\d{1,19}):(\d{1,10}):([0-9a-f]{8})", re.DOTALL)
MARK = ".tar:"  # what every address has in it, for a test that costs next to nothing
HEADER_BYTES = 512  # of a tar member, before its content; it has a checksum of its own
HEADER_TRIES = 6
MOST_OPEN = 128  # shards that a process keeps open: systems allow 256 files and more
_READ_BYTES = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Address(NamedTuple):
    """Where a photo lies in a shard.

    Attributes:
        shard: str, path of the tar file, or its address in an object store.
        offset: int, where the photo's bytes begin in it.
        length: int, how many they are.
        crc: int, their CRC-32.
    """

    shard: str
    offset: int
    length: int
    crc: int


def write_address(shard, offset, length, crc):
    """The address of a photo as text.

    Args:
        shard: str, path or name of the tar file.
        offset: int, where the photo's bytes begin in it.
        length: int, how many they are.
        crc: int, their CRC-32.

    Example:
        >>> write_address("photos-00003.tar", 1536, 48213, 255)
        'photos-00003.tar:1536:48213:000000ff'
    """
    return f"{shard}:{offset}:{length}:{crc:08x}"


def parse_address(path):
    """The `Address` that a text is, or None for the path of a file.

    Args:
        path: str.

    Example:
        >>> parse_address("place/photos-00003.tar:1536:48213:000000ff").offset
        1536
        >>> parse_address("photos/1.jpg") is None
        True
    """
    match = ADDRESS.fullmatch(path) if MARK in path else None
    return match and Address(match[1], int(match[2]), int(match[3]), int(match[4], 16))


def is_packed(path):
    """Whether a text is the address of a photo in a shard.

    Args:
        path: str.
    """
    return parse_address(path) is not None


def absolute(path):
    """The absolute path of a file, folder or packed photo; what is remote stays as it is.

    Args:
        path: str.
    """
    return path if is_remote(path) else os.path.abspath(path)


def read_photo(path):
    """Reads the bytes of a photo.

    Args:
        path: str or path of a file; or the address of a photo in a packed place.

    Returns:
        bytes.

    Raises:
        ImageError: it cannot be read; or the shard is shorter than the address says, or holds
            other bytes there.

    Example:

    ```python
    read_photo("photos/1.jpg")
    read_photo("place/photos-00003.tar:1536:48213:8d1f03b2")
    ```
    """
    text = os.fspath(path)
    if MARK in text and (address := parse_address(text)):
        return _read_from_shard(address, text)
    try:
        with open(text, "rb", buffering=0) as image_file:
            return image_file.read()
    except (OSError, ValueError) as error:  # a ValueError for a path with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(text, reason, "unreadable") from None


def content_hash(data, part=0):
    """64 bits of the SHA-256 of a file's bytes, as a whole number.

    Args:
        data: bytes.
        part: 0 to 3. Different parts are independent of each other, so that what one split has
            left can be split again by another.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[8 * part : 8 * part + 8], "big")


def open_photo(path):
    """Opens a photo of which the first bytes are often enough.

    Args:
        path: str, as of `read_photo`.

    Returns:
        Binary file to read from.

    Raises:
        OSError: the file cannot be opened.
        ImageError: as of `read_photo`, for an address.

    Example:

    ```python
    with open_photo("photos/1.jpg") as image_file:
        head = image_file.read(16)
    ```
    """
    if parse_address(os.fspath(path)):
        return io.BytesIO(read_photo(path))
    return open(path, "rb")


def is_there(path):
    """Whether the file of a photo exists, or the shard that holds it.

    Args:
        path: str, as of `read_photo`; what is remote counts as there.
    """
    address = parse_address(os.fspath(path))
    shard = address.shard if address else path
    return is_remote(os.fspath(shard)) or os.path.exists(shard)


def file_name(path):
    """The name under which a photo can be kept elsewhere.

    Args:
        path: str, as of `read_photo`.

    Returns:
        str, the name of the file; in a packed place its key, and the extension of the file that
        was packed.

    Raises:
        ImageError: the shard cannot be read.
    """
    address = parse_address(path)
    if address is None:
        return os.path.basename(path)
    import tarfile

    read = remote_places.read_range if is_remote(address.shard) else _read_range
    for _ in range(HEADER_TRIES):
        try:
            header = read(address.shard, address.offset - HEADER_BYTES, HEADER_BYTES)
            return os.path.basename(tarfile.TarInfo.frombuf(header, "utf-8", "replace").name)
        except (OSError, tarfile.HeaderError) as error:
            problem = str(error)
    raise ImageError(path, problem, "unreadable")


class _OpenShard:
    """A shard that is open until nobody reads it and nothing remembers it."""

    def __init__(self, path):
        self.descriptor = os.open(path, _READ_BYTES)
        self._position_lock = threading.Lock()

    def read(self, offset, length):
        """bytes, at most `length`, from `offset` on."""
        if hasattr(os, "pread"):
            return os.pread(self.descriptor, length, offset)
        with self._position_lock:  # Windows
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            return os.read(self.descriptor, length)

    def __del__(self):
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


_open_shard = functools.lru_cache(maxsize=MOST_OPEN)(_OpenShard)


def _read_range(shard, offset, length):
    """bytes of a shard, fewer than `length` where it ends before; raises OSError."""
    content = _open_shard(shard).read(offset, length)
    while 0 < len(content) < length:  # a system reads at most 2 GB at once, some file systems less
        more = _open_shard(shard).read(offset + len(content), length - len(content))
        if not more:
            break
        content += more
    return content


def _read_from_shard(address, text):
    """The bytes at an address; once more from a new descriptor where they are not as expected."""
    if is_remote(address.shard):
        return remote_places.read_range(*address)
    for _ in range(2):
        problem = None
        try:
            content = _read_range(address.shard, address.offset, address.length)
        except OSError as error:
            problem = error.strerror or str(error), "unreadable"
        if problem is None and len(content) != address.length:
            problem = f"the shard ends {address.length - len(content):,} bytes before", "truncated"
        elif problem is None and zlib.crc32(content) != address.crc:
            problem = "the shard holds other bytes there than were packed", "undecodable"
        if problem is None:
            return content
        _open_shard.cache_clear()  # the file may have been replaced since it was opened
    reason, code = problem
    raise ImageError(text, f"{reason}; copy the shard anew, or pack the photos again", code)
