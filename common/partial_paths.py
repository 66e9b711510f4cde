"""Names for what is being written, and removing what processes that ended midway have left.

A partial file or folder lies beside the one that it becomes, as `.partial-HOST-PID-RANDOM-NAME`:
no two processes or threads share one, and whoever writes in that folder next sees whether its
process still lives.
"""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import time

from common.write_errors import is_disk_full

NAME = re.compile(r"\.partial-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}-.*", re.DOTALL)
LONGEST_END = 40  # characters of the file's own name: a file system allows 255 bytes in all
FOREIGN_SECONDS = 24 * 3600  # without a change, until what another machine began counts as left

_own_names = set()  # of partial files that this process is writing
_cleared_folders = set()


@contextlib.contextmanager
def partial_path(path):
    """A context with a path to write to beside `path`; what is still there at the end is removed.

    What processes that ended midway have left in that folder is removed first, once per process
    and folder.

    Args:
        path: str, of the file or folder to be.

    Returns:
        Context manager of a str, a path in the same folder with the same extension, where nothing
        is yet.

    Raises:
        OSError: writing failed; it names `path` in place of the partial path.
    """
    folder, name = os.path.split(os.path.abspath(path))
    _clear_once(folder)
    partial_name = (
        f".partial-{_host_id()}-{os.getpid()}-{os.urandom(4).hex()}-{name[-LONGEST_END:]}"
    )
    partial = os.path.join(folder, partial_name)
    _own_names.add(partial_name)
    try:
        yield partial
    except Exception as error:
        if is_disk_full(error) and getattr(error, "errno", None) is None:  # a library's own words
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path) from error
        if isinstance(error, OSError):
            _name_target(error, partial, path)
        raise
    finally:
        _remove(partial)
        _own_names.discard(partial_name)


def clear(folder):
    """Removes what processes that ended midway have left in a folder.

    That is: what a process of this machine began that no longer lives, and what another machine
    began on shared storage and has not changed for a day.

    Args:
        folder: str, an existing folder.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            match = NAME.fullmatch(name)
            if match and _is_abandoned(os.path.join(folder, name), match[1], int(match[2])):
                _remove(os.path.join(folder, name))


def _clear_once(folder):
    if folder not in _cleared_folders:
        _cleared_folders.add(folder)
        clear(folder)


@functools.cache
def _host_id():
    """8 hexadecimal digits for the machine, or the container, in which a process id holds."""
    import socket  # only who writes needs it

    host_name = socket.gethostname()
    with contextlib.suppress(OSError):  # Linux: containers number their processes anew
        host_name += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(host_name.encode()).hexdigest()[:8]


def _is_abandoned(path, host_id, process_id):
    if host_id != _host_id():
        try:
            return time.time() - _last_change(path) > FOREIGN_SECONDS
        except OSError:  # it changes right now
            return False
    if process_id == os.getpid():  # or one that had this process's number before it
        return os.path.basename(path) not in _own_names
    # Not os.kill(pid, 0), which ends the process on Windows.
    import psutil

    return not psutil.pid_exists(process_id)


def _last_change(path):
    """When a file or folder, or anything in it, was changed last, in seconds since 1970."""
    times = [os.lstat(path).st_mtime]
    for folder, folder_names, file_names in os.walk(path):
        times += [
            os.lstat(os.path.join(folder, name)).st_mtime for name in folder_names + file_names
        ]
    return max(times)


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        os.unlink(path)


def _name_target(error, partial, path):
    """Lets an error name what could not be written, where it names nothing or the partial path."""
    for attribute in ("filename", "filename2"):
        file_name = getattr(error, attribute)
        if isinstance(file_name, str) and file_name.startswith(partial):
            setattr(error, attribute, f"{path}{file_name[len(partial) :]}")
    if error.filename is None and is_disk_full(error):
        error.filename = path
