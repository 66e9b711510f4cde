"""How much memory this process may use, and giving back what it does not."""

import ctypes
import os
import sys

CGROUPS = "/sys/fs/cgroup"
# Of glibc's malloc.h: how large a piece has to be to lie outside its arenas, and how much may stay
# free at the end of an arena.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
KEPT_BYTES = 1 << 22  # a decoded photo's lines and pixels are mostly smaller
UNLIMITED = 1 << 60  # version 1 writes a number near 2^63 where there is no limit


def usable_memory(cgroups=CGROUPS, own_groups="/proc/self/cgroup"):
    """The memory that this process may use: the machine's, or less where its container has a limit.

    Args:
        cgroups: str, the folder of control groups, version 1 or 2.
        own_groups: str, the file that says in which of them this process is.

    Returns:
        int, bytes.
    """
    limits = [_machine_memory()]
    for path in _limit_files(cgroups, own_groups):
        try:
            with open(path, encoding="ascii") as limit_file:
                limit = int(limit_file.read())
        except (OSError, ValueError):  # no such group, or "max"
            continue
        if 0 < limit < UNLIMITED:
            limits.append(limit)
    return min(limits)


def _limit_files(cgroups, own_groups):
    """Paths at which a limit may be, of the process's own groups and of all groups above them."""
    # In a container the root of what is mounted is often its own group, whatever the name says.
    folders = {(cgroups, "memory.max"), (f"{cgroups}/memory", "memory.limit_in_bytes")}
    try:
        with open(own_groups, encoding="utf-8") as groups_file:
            lines = groups_file.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if number == "0":
            top, file_name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            top, file_name = f"{cgroups}/memory", "memory.limit_in_bytes"
        else:
            continue
        while path.strip("/"):
            folders.add((top + path, file_name))
            path = os.path.dirname(path)
    return [os.path.join(folder, file_name) for folder, file_name in sorted(folders)]


def _machine_memory():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 8 << 30


def keep_little_memory():
    """Has glibc give large pieces of memory back to the system as soon as they are freed.

    By itself it keeps up to 64 MB for each of the arenas that its threads share, once a few large
    pieces were freed; `give_back_memory` does not reach what is kept at the end of an arena.
    """
    if sys.platform == "linux":
        try:
            set_option = ctypes.CDLL(None).mallopt
        except (AttributeError, OSError):  # another C library
            return
        set_option(M_MMAP_THRESHOLD, KEPT_BYTES)
        set_option(M_TRIM_THRESHOLD, KEPT_BYTES)


def give_back_memory():
    """Gives freed memory back to the system, which glibc would keep for what comes next."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except (AttributeError, OSError):  # another C library
            pass
