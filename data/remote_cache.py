"""Photos of object stores, kept on a local disk: one file per shard, with holes.

A range lies in its shard's file at the offset that it has in the store, and is known by the CRC-32
that the index has for it: what a killed process, a full disk or another program has left there is
simply not the photo. So there is no list of entries that could be wrong, several processes share a
folder without locks, and 10 million photos take as many files as they have shards.

What is in stays in: when the folder is full, ranges of places that nobody reads any more go, the
least recently used place first, and if there are none, new ranges are not kept. In an epoch every
photo is read once, in an order of its own: with half of the photos kept, half of the reads are
saved. Replacing the least recently used range would save 15 % of them (1 - c + c ln c where a
fraction 1 - c fits), because most would go just before they are needed.
"""

import contextlib
import hashlib
import os
import re
import shutil
import threading
import time
import zlib

from common.console import say
from common.write_errors import reason

IN_USE_SECONDS = 600  # after its last read a place counts as read
STAMP_SECONDS = 60  # between two notes that a place is being read
# Of the bound: what a process may write before it looks again at what others have written
UNSEEN_FRACTION = 1 / 64
LEAST_FREE = 1 << 30  # bytes of the disk that are left to the run's own files
READ_WRITE = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)


class RangeCache:
    """Ranges of files in object stores, on a local disk. Threads and processes may share it.

    Args:
        folder: str, made when it is needed.
        most_bytes: int, about what may lie in it; several processes may pass it by a 64th each.
            0 keeps nothing.

    Attributes:
        hits: int, ranges that were there.
        is_writing: bool; False once the disk was full or the folder could not be written.

    Example:

    ```python
    cache = RangeCache("/scratch/photos", 10 * 10**9)
    cache.write("s3://bucket/photos/photos-00003.tar", 512, content)
    cache.read("s3://bucket/photos/photos-00003.tar", 512, len(content), zlib.crc32(content))
    ```
    """

    def __init__(self, folder, most_bytes):
        self.folder = folder
        self.most_bytes = most_bytes
        self.hits = 0
        self.is_writing = most_bytes > 0
        self._lock = threading.Lock()
        self._used_bytes = None  # when it was looked at last, and what was written since
        self._unseen_bytes = 0
        self._stamped_at = {}  # folder of a place -> when it was noted that it is being read

    def path_of(self, address):
        """str, where the file of an address lies here; a place has a folder of its own.

        Args:
            address: str.
        """
        place, _, name = address.rpartition("/")
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", place.split("@")[-1])[-60:]
        digest = hashlib.sha256(place.encode()).hexdigest()[:12]
        return os.path.join(self.folder, f"{readable}-{digest}", name)

    def read(self, address, offset, length, checksum):
        """The bytes of a range.

        Args:
            address: str, of the shard.
            offset: int, bytes.
            length: int, bytes.
            checksum: int, CRC-32 of the range.

        Returns:
            bytes, or None where they are not here.
        """
        path = self.path_of(address)
        try:
            with open(path, "rb", buffering=0) as shard_file:
                shard_file.seek(offset)
                content = shard_file.read(length)
        except OSError:
            return None
        if len(content) != length or zlib.crc32(content) != checksum:
            return None
        self.hits += 1
        self.note_use(os.path.dirname(path))
        return content

    def write(self, address, offset, content):
        """Keeps a range, where there is room; a disk that is full is said once.

        Args:
            address: str, of the shard.
            offset: int, bytes.
            content: bytes.
        """
        if not self.is_writing or not self.make_room(len(content), address):
            return
        path = self.path_of(address)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(os.open(path, READ_WRITE, 0o666), "r+b", buffering=0) as shard_file:
                shard_file.seek(offset)
                remaining = memoryview(content)
                while remaining:
                    remaining = remaining[shard_file.write(remaining) :]
        except OSError as error:
            self.stop_writing(error)
            return
        self.note_use(os.path.dirname(path))

    def stop_writing(self, error):
        """Goes on without keeping anything, and says why.

        Args:
            error: OSError.
        """
        with self._lock:
            was_writing, self.is_writing = self.is_writing, False
        if was_writing:
            say(
                f"note: --cache_dir: {self.folder}: {reason(error)}: photos that are not in it "
                "are read from the store each time"
            )

    def note_use(self, place_folder):
        """Notes that a place is being read, so that other places make room before it.

        Args:
            place_folder: str, its folder here.
        """
        now = time.monotonic()
        if now - self._stamped_at.get(place_folder, -STAMP_SECONDS) >= STAMP_SECONDS:
            self._stamped_at[place_folder] = now
            with contextlib.suppress(OSError):
                os.utime(place_folder)

    def make_room(self, byte_count, address):
        """Counts bytes that are to be written; removes places that are not read any more.

        Args:
            byte_count: int.
            address: str, of the file to write; its place stays.

        Returns:
            bool, whether there is room.
        """
        with self._lock:
            limit = self.most_bytes * UNSEEN_FRACTION
            if self._used_bytes is None or self._unseen_bytes > limit:
                self._look()
            if self._used_bytes + byte_count > self._allowed_bytes:
                self._remove_unused(byte_count, os.path.dirname(self.path_of(address)))
            if self._used_bytes + byte_count > self._allowed_bytes:
                return False
            self._used_bytes += byte_count
            self._unseen_bytes += byte_count
            return True

    def _look(self):
        """Counts what all processes have written, and what the disk has left."""
        self._used_bytes = sum(size for _, size, _ in self._files())
        self._unseen_bytes = 0
        self._allowed_bytes = self.most_bytes
        with contextlib.suppress(OSError):
            os.makedirs(self.folder, exist_ok=True)
            free_bytes = shutil.disk_usage(self.folder).free
            self._allowed_bytes = min(
                self.most_bytes, self._used_bytes + max(0, free_bytes - LEAST_FREE)
            )

    def _files(self):
        """(path, bytes on the disk, folder's last use) of the files here."""
        with contextlib.suppress(OSError):
            for place in os.scandir(self.folder):
                with contextlib.suppress(OSError):  # another process removes it right now
                    used_at = place.stat().st_mtime
                    for entry in os.scandir(place.path):
                        facts = entry.stat()
                        # Windows does not say what of a file is on the disk
                        size = getattr(facts, "st_blocks", facts.st_size / 512) * 512
                        yield entry.path, size, used_at

    def _remove_unused(self, byte_count, own_folder):
        used_before = time.time() - IN_USE_SECONDS
        candidates = sorted(
            (used_at, path, size)
            for path, size, used_at in self._files()
            if used_at < used_before and os.path.dirname(path) != own_folder
        )
        for used_at, path, size in candidates:
            if self._used_bytes + byte_count <= self._allowed_bytes:
                return
            with contextlib.suppress(OSError):
                os.unlink(path)
                self._used_bytes -= size
                os.utime(os.path.dirname(path), (used_at, used_at))  # unlinking has changed it
                os.rmdir(os.path.dirname(path))  # if it was the last one
