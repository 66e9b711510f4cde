"""The terminal: results go to standard output, everything else to standard error."""

import contextlib
import json
import os
import sys
import threading
import time

from common.errors import PlainError

WAITING_SECONDS = 5.0  # between two signs of life on a terminal
_terminal = threading.RLock()  # of `say` and of the sign of life, which share a line
_shown_paths = {}  # temporary path -> what `say` writes in its place
_sign_of_life = ""  # what stands on the terminal's last line and is to go


def say(line):
    """Writes a line to standard error, for the person at the terminal.

    Args:
        line: str, without a line break at the end.
    """
    for path, shown_path in _shown_paths.items():
        line = line.replace(path, shown_path)
    with _terminal:
        _show_sign_of_life("")
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def showing(path, shown_path):
    """A context in which a person reads another path in place of one that is temporary.

    Args:
        path: str, what lines of `say` and errors hold.
        shown_path: str, what they show instead.
    """
    _shown_paths[path] = shown_path
    try:
        yield
    except PlainError as error:
        error.args = (str(error).replace(path, shown_path),)
        raise
    finally:
        del _shown_paths[path]


@contextlib.contextmanager
def waiting(activity):
    """A context in which a terminal shows every few seconds that something goes on.

    For what takes long and has no bar. Elsewhere than on a terminal nothing is written.

    Args:
        activity: str, what is done, such as "exporting".

    Example:

    ```python
    with waiting("exporting"):
        export(run)  # "exporting ... 15 s", on one line that goes at the end
    ```
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not is_terminal:
        yield
        return
    is_done, began = threading.Event(), time.monotonic()
    terminal = os.dup(sys.stderr.fileno())  # while Keras is imported, 2 leads nowhere

    def show_life():
        while not is_done.wait(WAITING_SECONDS):
            _show_sign_of_life(f"{activity} ... {time.monotonic() - began:.0f} s", terminal)

    thread = threading.Thread(target=show_life, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()
        _show_sign_of_life("", terminal)
        os.close(terminal)


def _show_sign_of_life(text, terminal=None):
    """Replaces the last line of the terminal, where a sign of life stands or is to stand."""
    global _sign_of_life
    with _terminal:
        if text or _sign_of_life:
            with contextlib.suppress(OSError):  # the terminal has gone
                blanks = " " * len(_sign_of_life)
                descriptor = sys.stderr.fileno() if terminal is None else terminal
                os.write(descriptor, f"\r{blanks}\r{text}".encode(errors="replace"))
        _sign_of_life = text


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
