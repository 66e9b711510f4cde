"""Packed photos in object stores and on web servers: `s3://bucket/photos` in place of a folder.

Photos are read by ranges of their shards, ahead of their use (`data.read_ahead`), kept on a local
disk (`data.remote_cache`), and asked for again where a store fails (`data.object_stores`). All of
it happens in the process that trains: where other processes decode, they get a photo's bytes.
"""

import contextlib
import hashlib
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from common.errors import ImageError, InputError
from common.files import checksum, flush
from common.partial_paths import partial_path
from common.write_errors import write_error
from data import object_stores
from data.object_stores import BROKEN_TRIES, START_TRIES, BrokenReadError, is_remote, request, shown
from data.read_ahead import READS_AT_ONCE, ReadAhead
from data.remote_cache import RangeCache

CACHE_GIGABYTES = 10.0
PART_BYTES = 8 << 20  # of a whole file that is read in parts
LONGEST_END = 40  # characters of a file's name that a copy's name ends with


class PhotoRange(NamedTuple):
    """Where a photo lies in a store.

    Attributes:
        shard: str, address of the file.
        offset: int, bytes.
        length: int, bytes.
        checksum: int, CRC-32 of the photo; None if it is not known, then it is not kept.
    """

    shard: str
    offset: int
    length: int
    checksum: int | None = None


class _Reading(NamedTuple):
    """What reads photos in this process: the copies on a local disk, and the reads ahead."""

    cache: RangeCache
    ahead: ReadAhead


_lock = threading.Lock()
_settings = {"cache_dir": None, "cache_gigabytes": CACHE_GIGABYTES}
_started = []  # the `_Reading`, once there is one


def cache_folder():
    """str, where photos are kept if --cache_dir says nothing: beside Keras's weights."""
    keras_home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return os.path.join(keras_home, "photos")


def configure(cache_dir=None, cache_gigabytes=CACHE_GIGABYTES):
    """Says where photos of stores are kept, before the first is read; begins anew after that.

    Args:
        cache_dir: str, a folder on a local disk; None for `cache_folder()`.
        cache_gigabytes: float, what may lie in it (10^9 bytes); 0 keeps no photos.
    """
    with _lock:
        _settings.update(cache_dir=cache_dir, cache_gigabytes=cache_gigabytes)
        while _started:
            _started.pop().ahead.close()


def _reading():
    with _lock:
        if not _started:
            folder = _settings["cache_dir"] or cache_folder()
            cache = RangeCache(folder, int(_settings["cache_gigabytes"] * 1e9))
            _started.append(_Reading(cache, ReadAhead(lambda photo: _fetch(cache, photo))))
        return _started[0]


# Photos


def announce(addresses):
    """Says which photos will be read next, in this order: those in stores are read ahead.

    Args:
        addresses: iterable of str, `SHARD:OFFSET:LENGTH:CRC` with the CRC-32 in hexadecimal
            digits, as the samples of a packed place are named. Paths of files are passed over.

    Example:

    ```python
    announce(["s3://bucket/photos/photos-00003.tar:1536:101234:5d30bc65"])
    ```
    """
    photos = [_parse(address) for address in addresses if is_remote(address)]
    if photos:
        _reading().ahead.announce(photos)


def read_photo(address):
    """Reads a photo: `read_range` of its address.

    Args:
        address: str, as of `announce`.

    Returns:
        bytes.

    Raises:
        As `read_range`.
    """
    return read_range(*_parse(address))


def _parse(address):
    shard, offset, length, checksum = _with_slashes(address).rsplit(":", 3)
    return PhotoRange(shard, int(offset), int(length), int(checksum, 16))


def _with_slashes(address):
    """An address that was joined like a path: on Windows that has put backslashes in."""
    return address.replace(os.sep, "/")


def read_range(shard, offset, length, checksum=None):
    """Reads a range of a shard: what was announced, from the local disk, or from the store.

    Args:
        shard: str, address of the shard.
        offset: int, bytes.
        length: int, bytes.
        checksum: int, CRC-32 of the range. With one the bytes are right, or an error is raised, and
            they are kept on the local disk.

    Returns:
        bytes, `length` of them.

    Raises:
        ImageError: the bytes there are not those of the checksum, however often they are read.
        InputError: the store refuses, or has no such shard.
        RunError: it cannot be read now. All of them name shard and offset.

    Example:

    ```python
    content = read_range("s3://bucket/photos/photos-00003.tar", 1536, 101_234, 0x5D30BC65)
    ```
    """
    photo = PhotoRange(_with_slashes(shard), offset, length, checksum)
    reading = _reading()
    content = reading.ahead.take(photo)
    return _fetch(reading.cache, photo) if content is None else content


def _fetch(cache, photo):
    if photo.checksum is not None:
        content = cache.read(photo.shard, photo.offset, photo.length, photo.checksum)
        if content is not None:
            return content
    try:
        content = _download(photo)
    except BrokenReadError as error:
        name, _, problem = str(error).partition(": ")
        raise ImageError(name, problem, "undecodable") from None
    if photo.checksum is not None:
        cache.write(photo.shard, photo.offset, content)
    return content


def _download(photo, tries=object_stores.TRIES):
    shard, offset, length, checksum = photo
    if not length:
        return b""

    def get(store):
        content = object_stores.get_range(store, shard, offset, offset + length)
        if len(content) != length:
            raise BrokenReadError(f"{len(content):,} of {length:,} bytes came")
        if checksum is not None and zlib.crc32(content) != checksum:
            raise BrokenReadError(
                f"other bytes than were packed: their CRC-32 is not {checksum:08x}"
            )
        return content

    where = f"{shown(shard)}, bytes {offset} to {offset + length - 1}"
    return request(shard, get, where, tries)


# Whole files


def read_whole(address):
    """Reads a small file of a place: index.json, label.json.

    Args:
        address: str.

    Returns:
        bytes.

    Raises:
        InputError: the store refuses, or has no such file.
        RunError: it cannot be read.
    """
    return request(address, lambda store: store.cat_file(address), tries=START_TRIES)


def local_copy(address, sha256=None):
    """Brings a whole file to the local disk, unless it is there and the store's is the same.

    Args:
        address: str, for example of index.npy.
        sha256: str, the checksum that it has to have; None where none is known. A copy with another
            one is brought again; the last one is given, whatever it holds, to be refused by who
            knows what it is of.

    Returns:
        str, path of a file whose content does not change.

    Raises:
        InputError: the store refuses, or has no such file; the folder cannot be written.
        RunError: it cannot be read, or the disk is full.

    Example:

    ```python
    index = np.load(local_copy("s3://bucket/photos/index.npy"), mmap_mode="r")
    ```
    """
    for _ in range(BROKEN_TRIES):
        path = _copy(address)
        if sha256 is None or checksum(path) == sha256:
            break
        os.unlink(path)
    else:
        path = _copy(address)
    return path


def _copy(address):
    """Path of a copy, brought now or before."""
    cache = _reading().cache
    place_path, name = os.path.split(cache.path_of(address))
    size, version = _version(address)
    digest = hashlib.sha256(f"{address} {size} {version}".encode()).hexdigest()[:16]
    try:
        os.makedirs(place_path, exist_ok=True)
        cache.note_use(place_path)
        copies = [entry for entry in os.listdir(place_path) if _is_copy(entry, name)]
        for entry in copies:
            path = os.path.join(place_path, entry)
            if version and entry.startswith(digest) and entry.split("-")[1] == _checksum(path):
                return path
        cache.make_room(size or 0, address)  # it is needed, room or not
        path = _bring(address, size, version, place_path, digest)
        for entry in copies:  # of the file as it was before
            if entry != os.path.basename(path):
                with contextlib.suppress(OSError):  # gone, or in use on Windows
                    os.unlink(os.path.join(place_path, entry))
    except OSError as error:
        raise write_error(error, place_path, "--cache_dir") from None
    return path


def _is_copy(entry, name):
    """Whether a file is a copy, `VERSION-CHECKSUM-NAME`, of a whole file of that name."""
    return entry.count("-") >= 2 and entry.split("-", 2)[2] == name[-LONGEST_END:]


def _version(address):
    return request(
        address, lambda store: object_stores.file_version(store, address), tries=START_TRIES
    )


def _bring(address, size, version, place_path, digest):
    """Writes a copy whose name says of which version it is, and its checksum."""
    name = object_stores.base_name(address)[-LONGEST_END:]
    with partial_path(os.path.join(place_path, name)) as partial:
        _write_parts(address, size, partial)
        if _version(address) != (size, version):
            raise InputError(f"{shown(address)}: is being written just now; run it again then")
        flush(partial)
        path = os.path.join(place_path, f"{digest}-{_checksum(partial)}-{name}")
        os.replace(partial, path)
    return path


def _write_parts(address, size, path):
    with open(path, "wb") as copy:
        if size is None:
            copy.write(read_whole(address))
            return
        parts = [
            PhotoRange(address, start, min(PART_BYTES, size - start))
            for start in range(0, size, PART_BYTES)
        ]
        lock = threading.Lock()

        def write(part):
            content = _download(part, START_TRIES)
            with lock:
                copy.seek(part.offset)
                copy.write(content)

        with ThreadPoolExecutor(READS_AT_ONCE // 2) as pool:
            list(pool.map(write, parts))


def _checksum(path):
    """str, 8 hexadecimal digits: the CRC-32 of a file."""
    checksum = 0
    with open(path, "rb") as copy:
        while block := copy.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}"
