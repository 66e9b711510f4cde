"""The terminal: results go to standard output, everything else to standard error."""

import contextlib
import json
import os
import sys


def say(line):
    """Writes a line to standard error, for the person at the terminal.

    Args:
        line: str, without a line break at the end.
    """
    print(line, file=sys.stderr, flush=True)


class TolerantStream:
    """A text stream that writes to nowhere once its reader or its terminal has gone.

    Args:
        stream: the text stream behind it.
    """

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        """int, the number of characters, as of a text stream."""
        with self._tolerating():
            self.stream.write(text)
        return len(text)

    def flush(self):
        """Passes on what is buffered."""
        with self._tolerating():
            self.stream.flush()

    @contextlib.contextmanager
    def _tolerating(self):
        try:
            yield
        except OSError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())


def tolerate_closed_output():
    """From here on, output that nobody can receive is no error.

    For a process that is to stop: a closed terminal, or a `tee` that Ctrl-C has ended as well,
    must not keep it from writing its checkpoint, nor change its exit status.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, TolerantStream):
            setattr(sys, name, TolerantStream(stream))


def show(result, text, as_json):
    """Writes the result of a mode to standard output.

    Args:
        result: dict, list or number that JSON can represent; with `--json` it is the one line.
        text: function from `result` to str, for a person; called only without `--json`.
        as_json: bool, whether `--json` was given.

    Example:
        >>> show({"images": 3}, lambda result: f"{result['images']} images", as_json=True)
        {"images": 3}
    """
    if not as_json:
        print(text(result))
        return
    # A program that reads JSON expects UTF-8; on Windows a pipe may have another encoding.
    is_utf8 = (sys.stdout.encoding or "utf-8").lower() in ("utf-8", "utf8")
    print(json.dumps(result, ensure_ascii=not is_utf8))
