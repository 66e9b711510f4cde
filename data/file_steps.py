"""Steps of moved and edited files that survive a kill at any moment and can all be taken back.

A step is written to a log and flushed to the disk before anything is changed, so that whoever
opens the folder next finishes what was begun. The log keeps the bytes that an edit replaces:
undone to the beginning, every file is as it was, byte for byte.
"""

import contextlib
import errno
import json
import os
from typing import NamedTuple

from common.errors import InputError
from common.files import replacing


class Move(NamedTuple):
    """A file that gets another path; both relative to the folder of the log, with "/"."""

    source: str
    target: str


class Edit(NamedTuple):
    """Bytes of a file that are replaced by others.

    Attributes:
        path: str, relative to the folder of the log, with "/".
        size: int, bytes of the file before; -1 where there is none.
        start: int, where the replaced bytes begin.
        before, after: bytes. Where a new file is empty of them, `after` is None: it is removed.
    """

    path: str
    size: int
    start: int
    before: bytes
    after: bytes | None

    @classmethod
    def between(cls, path, old, new):
        """The edit that makes a file's content another one.

        Args:
            path: str, as above.
            old, new: bytes, the whole content; None where there is no file.

        Returns:
            `Edit` of the bytes that differ.

        Example:
            >>> Edit.between("1.txt", b"1.jpg, 0", b"1.jpg, 12")
            Edit(path='1.txt', size=8, start=7, before=b'0', after=b'12')
        """
        if old is None or new is None:
            return cls(path, -1 if old is None else len(old), 0, old or b"", new)
        start = len(os.path.commonprefix([old, new]))
        tail = len(os.path.commonprefix([old[start:][::-1], new[start:][::-1]]))
        return cls(
            path, len(old), start, old[start : len(old) - tail], new[start : len(new) - tail]
        )

    def reverse(self):
        """The edit that takes this one back."""
        if self.after is None:
            return self._replace(size=-1, before=b"", after=self.before)
        if self.size < 0:
            return self._replace(size=len(self.after), before=self.after, after=None)
        size = self.size - len(self.before) + len(self.after)
        return self._replace(size=size, before=self.after, after=self.before)


class Step(NamedTuple):
    """Changes that belong together.

    Attributes:
        moves: list of `Move`.
        edits: list of `Edit`, made in this order.
        made: list of str, folders that the step makes; undoing removes them where they are empty.
        emptied: list of str, folders that are removed at the end where they are empty.
        note: what the caller wants to know of it later; JSON.
    """

    moves: list
    edits: list
    made: list
    emptied: list
    note: dict


class StepLog:
    """The steps of a folder, of which the last can be undone, and again until the first.

    Attributes:
        done: list of int, the steps that hold, in the order in which they can be undone from the
            end.
        undone: list of int, those undone since the last new one, which `redo` repeats.

    Args:
        root: str, the folder that all paths are relative to.
        path: str, the log; it is made where there is none.

    Raises:
        InputError: the log is damaged, or what a killed process began cannot be finished.
        OSError: it cannot be read.

    Example:

    ```python
    log = StepLog("photos", "photos/labels.steps.jsonl")
    log.do(moves=[Move("_unsorted/1.jpg", "glass/1.jpg")], note={"label": "glass"})
    log.undo()  # photos/_unsorted/1.jpg is there again
    ```
    """

    def __init__(self, root, path):
        self.root, self.path = root, path
        self.done, self.undone = [], []
        self._offsets = []  # of the steps' lines in the log
        self._recover()

    def do(self, moves=(), edits=(), emptied=(), note=None):
        """Makes a new step; where a part of it fails, nothing is changed.

        Args:
            moves: list of `Move`; their targets do not exist.
            edits: list of `Edit`.
            emptied: list of str, folders to remove where the moves leave them empty.
            note: dict, JSON.

        Returns:
            `Step`.

        Raises:
            OSError: a file cannot be changed, or the log not be written.
        """
        made = self._missing_folders(os.path.dirname(move.target) for move in moves)
        step = Step([*moves], [*edits], made, [*emptied], note or {})
        number = len(self._offsets)
        self._offsets.append(self._write({"step": number, **_to_json(step)}))
        self._finish(step, number, "do")
        return step

    def undo(self):
        """Takes the last step back.

        Returns:
            `Step` that was undone; None where there is none.

        Raises:
            OSError: a file was changed or removed since; nothing is undone.
        """
        return self._turn(self.done, "undo")

    def redo(self):
        """Repeats the step undone last; as `undo`."""
        return self._turn(self.undone, "redo")

    def _turn(self, numbers, word):
        if not numbers:
            return None
        step = self._read_step(numbers[-1])
        self._write({word: numbers[-1]})
        self._finish(step, numbers[-1], word)
        return step

    def _finish(self, step, number, word):
        """Applies what has been written down; takes it back and says so where that fails."""
        applied = step if word != "undo" else _reverse(step)
        try:
            _apply(self.root, applied)
            try:
                self._write({"end": number}, flushed=False)
            except BaseException:
                _apply(self.root, _reverse(applied))
                raise
        except BaseException:
            self._write({"failed": number})
            self._note(word, number, failed=True)
            raise
        self._note(word, number)

    def _note(self, word, number, failed=False):
        """Keeps `done` and `undone` as the log says."""
        if failed:
            return
        if word == "do":
            self.done.append(number)
            self.undone.clear()
        elif word == "undo":
            self.undone.append(self.done.pop())
        else:
            self.done.append(self.undone.pop())

    # The log

    def _write(self, entry, flushed=True):
        """Adds a line; returns where it begins."""
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        with open(self.path, "ab", buffering=0) as log_file:
            offset = log_file.seek(0, os.SEEK_END)
            try:
                if log_file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
                if flushed:
                    os.fsync(log_file.fileno())
            except OSError:
                log_file.truncate(offset)  # half a line would spoil the next
                raise
        return offset

    def _read_step(self, number):
        with open(self.path, "rb") as log_file:
            log_file.seek(self._offsets[number])
            return _from_json(json.loads(log_file.readline()))

    def _recover(self):
        """Reads the log; what the last process began and did not end is finished."""
        if not os.path.exists(self.path):
            return
        begun, end = None, 0
        with open(self.path, "rb") as log_file:
            for line_number, line in enumerate(log_file, 1):
                if not line.endswith(b"\n"):  # the machine stopped while it was written
                    break
                begun = self._read_entry(line, line_number, end, begun)
                end += len(line)
        if end < os.path.getsize(self.path):
            os.truncate(self.path, end)
        if begun:
            word, number = begun
            step = self._read_step(number)
            try:
                self._finish(step, number, word)
            except OSError as error:
                raise InputError(
                    f"{self.path}: its last step could not be finished and was taken back: "
                    f"{error}; begin again"
                ) from None

    def _read_entry(self, line, line_number, offset, begun):
        """Takes one line in; returns the (word, number) that has begun and not ended."""
        try:
            entry = json.loads(line)
            word = next(iter(entry))
            number = entry[word]
            if word in ("end", "failed"):
                self._note(*begun, failed=word == "failed")
                return None
            if word == "step":
                self._offsets.append(offset)
                return "do", number
            if number != {"undo": self.done, "redo": self.undone}[word][-1]:
                raise ValueError("another step was the last")
            return word, number
        except (ValueError, KeyError, TypeError, IndexError, StopIteration) as error:
            raise InputError(
                f"{self.path}:{line_number}: is damaged: {error}; rename the file to go on without "
                "what it could undo"
            ) from None

    def _missing_folders(self, folders):
        """The folders, and those above them, that do not exist; outermost first."""
        missing = set()
        for folder in set(folders):
            while folder and not os.path.isdir(os.path.join(self.root, folder)):
                missing.add(folder)
                folder = os.path.dirname(folder)
        return sorted(missing)


def _apply(root, step):
    """Applies a step, of which a part may have been applied already; all or nothing."""
    completed = []
    try:
        for folder in step.made:
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        for move in step.moves:
            _move(root, move)
            completed.append(move)
        for edit in step.edits:
            _edit(root, edit)
            completed.append(edit)
    except BaseException:  # Ctrl-C as well
        for change in reversed(completed):
            with contextlib.suppress(OSError):
                if isinstance(change, Move):
                    _move(root, Move(change.target, change.source))
                else:
                    _edit(root, change.reverse())
        _remove_empty(root, step.made)
        raise
    _remove_empty(root, step.emptied)


def _reverse(step):
    """The step that takes another one back."""
    return Step(
        [Move(move.target, move.source) for move in reversed(step.moves)],
        [edit.reverse() for edit in reversed(step.edits)],
        step.emptied,
        step.made,
        step.note,
    )


def _move(root, move):
    source, target = os.path.join(root, move.source), os.path.join(root, move.target)
    if os.path.lexists(target):
        if not os.path.lexists(source):  # done before the process was killed
            return
        raise FileExistsError(errno.EEXIST, "is there already; another program has made it", target)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(source, target)


def _edit(root, edit):
    path = os.path.realpath(os.path.join(root, edit.path))  # a link stays one
    content = read_bytes(path)
    removed = len(edit.before)
    size_after = -1 if edit.after is None else max(edit.size, 0) - removed + len(edit.after)
    size = -1 if content is None else len(content)
    if size == edit.size and (size < 0 or content[edit.start :][:removed] == edit.before):
        if edit.after is None:
            os.unlink(path)
            return
        start = edit.start
        new_content = (content or b"")[:start] + edit.after + (content or b"")[start + removed :]
        with replacing(path) as partial, open(partial, "wb") as new_file:
            new_file.write(new_content)
        return
    is_after = size < 0 or content[edit.start :][: len(edit.after or b"")] == edit.after
    if size != size_after or not is_after:
        raise OSError(errno.EBUSY, "was changed by another program", path)


def read_bytes(path):
    """The content of a file: bytes, None where there is none.

    Args:
        path: str.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _remove_empty(root, folders):
    for folder in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(root, folder))


def _to_json(step):
    """Bytes as text of the same code points: texts beside photos stay legible."""
    edits = [
        [edit.path, edit.size, edit.start, edit.before.decode("latin-1")]
        + [None if edit.after is None else edit.after.decode("latin-1")]
        for edit in step.edits
    ]
    return {**step._asdict(), "edits": edits}


def _from_json(entry):
    edits = [
        Edit(path, size, start, before.encode("latin-1"), _to_bytes(after))
        for path, size, start, before, after in entry["edits"]
    ]
    moves = [Move(*move) for move in entry["moves"]]
    return Step(moves, edits, entry["made"], entry["emptied"], entry["note"])


def _to_bytes(text):
    return None if text is None else text.encode("latin-1")
