"""What a file of this project finds on the system of `other_system.py`, as a line of JSON."""

import json
import os
import select
import shutil
import signal


def attempt(function, *arguments):
    """The name of the error, or None."""
    try:
        function(*arguments)
    except Exception as error:
        return type(error).__name__


def import_fcntl():
    import fcntl  # noqa: F401


def import_pwd():
    import pwd  # noqa: F401


def opened_text():
    with open("open.txt"):
        pass


os.mkdir("folder")
os.mkdir("other")
open_file = open("open.txt", "w", encoding="utf-8")
found = [
    attempt(import_fcntl), attempt(import_pwd),
    hasattr(os, "fork"), hasattr(os, "sched_getaffinity"), hasattr(signal, "SIGHUP"),
    hasattr(signal, "SIGALRM"), hasattr(select, "poll"), hasattr(os, "posix_fallocate"),
    attempt(signal.signal, 1, signal.SIG_IGN),
    attempt(os.open, "folder", os.O_RDONLY),
    attempt(open, "folder", "rb"),
    attempt(os.rename, "folder", "other"),
    attempt(os.replace, "open.txt", "moved.txt"),
    attempt(shutil.rmtree, "."),
    attempt(open, "/proc/self/status", "rb"),
    attempt(os.mkdir, "aux"),
    attempt(opened_text),
]
print(json.dumps(found))
