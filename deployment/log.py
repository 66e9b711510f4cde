"""The server's log: whole lines with date and time on standard error, and never an exception."""

import contextlib
import os
import sys
import threading
import time

from common.console import TolerantStream

RARELY = 60  # seconds between two lines of the same kind, where clients could fill the log
_lock = threading.Lock()
_last_logged = {}  # kind -> [time of the last line, lines left out since]


def log(line):
    """Writes a line, with date and time before it, as a whole.

    A full disk or a reader that has gone must neither end a thread nor cut a request off, so what
    cannot be written is lost.

    Args:
        line: str; further lines in it, as of a traceback, stay together with the first.
    """
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n"
    with _lock, contextlib.suppress(OSError, ValueError, AttributeError):
        try:
            descriptor = sys.stderr.fileno()
        except (OSError, ValueError):  # a stream that is no file
            sys.stderr.write(text)
            sys.stderr.flush()
        else:
            # Not through the stream: what it cannot write it keeps, and fails again at the end.
            os.write(descriptor, text.encode("utf-8", "backslashreplace"))


def log_rarely(kind, line):
    """Writes a line of which clients may cause any number: at most one in `RARELY` seconds.

    Args:
        kind: str; lines of the same kind count together. Never what a client sends.
        line: str, at most 200 characters of which are written.
    """
    now = time.monotonic()
    with _lock:
        logged_at, left_out = _last_logged.get(kind, (None, 0))
        if logged_at is not None and now - logged_at < RARELY:
            _last_logged[kind] = (logged_at, left_out + 1)
            return
        _last_logged[kind] = (now, 0)
    count_text = f" ({left_out:,} more of this kind before)" if left_out else ""
    log(" ".join(line.split())[:200] + count_text)


class LossyStream(TolerantStream):
    """Standard error for what libraries and the rest of this project write while it serves.

    What cannot be written is lost, as in `log`; what can be written later is.
    """

    def _tolerating(self):
        return contextlib.suppress(OSError)
