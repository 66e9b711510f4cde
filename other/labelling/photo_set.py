"""The photos of a data set while people label them: what each one is, and what was done."""

import os
import threading
from collections import Counter
from typing import NamedTuple

import filelock

from common.errors import InputError
from data import label_journal
from data.class_spelling import normalize
from data.file_steps import StepLog
from data.image_files import STEPS, is_system_name
from other.data_reconstruction_txt2dir import check_names
from other.labelling.layouts import NO_CLASS, SET_ASIDE, FolderLayout, open_layout

GONE = "_gone"  # in place of a class: the file is not where it was


class Change(NamedTuple):
    """What became of a photo in a step.

    Attributes:
        path, new_path: str, before and after, relative to the root, with "/".
        name, new_name: its class before and after: str, or `NO_CLASS` or `SET_ASIDE`.
    """

    path: str
    new_path: str
    name: str | None
    new_name: str | None


class PhotoSet:
    """The photos of a data set; every change is on the disk when the method returns.

    Threads may share it. A photo is known by its position, which it keeps while it moves.

    Attributes:
        paths: list of str, relative to `root`, with "/".
        names: list of the photos' classes: str, `NO_CLASS`, `SET_ASIDE` or `GONE`.
        class_names: list of str.
        version: int, which every change makes larger.
        root: str, the folder that the paths are relative to.
        journal_path: str, the journal of labels.

    Args:
        data: str, a folder or a CSV file.
        class_names: sequence of str, classes to offer although no photo has them.

    Raises:
        InputError: the data cannot be read, written to, or are open in another process.

    Example:

    ```python
    with PhotoSet("photos") as photos:
        photos.label([photos.paths.index("_unsorted/1.jpg")], "glass")
        photos.undo()
    ```
    """

    def __init__(self, data, class_names=()):
        self._layout = open_layout(data)
        self.root = self._layout.root
        self._lock = threading.RLock()
        self._process_lock = _lock_folder(self.root)
        steps_name = STEPS
        if os.path.isfile(data):
            steps_name = f"{os.path.splitext(os.path.basename(data))[0]}.{STEPS}"
        self.journal_path = label_journal.path_beside(data)
        self._steps = StepLog(self.root, os.path.join(self.root, steps_name))
        self.paths, self.names, self.version = [], [], 0
        self._changed_at = []  # the version of a photo's last change
        self._positions = {}  # path -> position
        self._counts = Counter()  # of `names`
        self._more_names = list(map(normalize, class_names))
        self.class_names = []
        self.rescan()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process_lock.release()

    @property
    def undoable(self):
        """int, the number of steps that can be undone."""
        return len(self._steps.done)

    @property
    def redoable(self):
        """int, the number of steps that can be done again."""
        return len(self._steps.undone)

    def path(self, position):
        """The path of a photo as the operating system takes it: str."""
        return os.path.join(self.root, self.paths[position].replace("/", os.sep))

    def position(self, path):
        """The position of a photo: int, or None where it has another path by now.

        Args:
            path: str, as in `paths`.
        """
        return self._positions.get(path)

    def changed_since(self, version):
        """The positions of the photos that a later version than `version` has changed: list."""
        with self._lock:
            return [i for i, changed_at in enumerate(self._changed_at) if changed_at > version]

    def counts(self):
        """dict of class -> number of photos, with `NO_CLASS` and `SET_ASIDE`."""
        with self._lock:
            shown = [*self.class_names, NO_CLASS, SET_ASIDE]
            return {name: self._counts[name] for name in shown}

    def rescan(self):
        """Takes in what other programs have changed in the folder.

        Raises:
            InputError: the data are damaged.
        """
        version = self.version
        try:
            scanned = self._layout.scan()  # not under the lock: it takes a second with many photos
        except (InputError, OSError):
            with self._lock:  # a step that was under way has ended now
                if version != self.version:
                    return
            raise
        with self._lock:
            if version != self.version:  # the next look sees both
                return
            changed = [
                (path, name)
                for path, name in scanned.items()
                if path not in self._positions or self.names[self._positions[path]] != name
            ]
            gone = [
                path
                for path, position in self._positions.items()
                if path not in scanned and self.names[position] != GONE
            ]
            if changed or gone:
                self.version += 1
            for path, name in changed:
                self._set(path, name)
            for path in gone:
                self._set(path, GONE)
            self._read_names()

    def add_class(self, name):
        """Offers a class that no photo has yet.

        Args:
            name: str.

        Returns:
            str, its name as it is written.

        Raises:
            InputError: no class can have the name.
        """
        with self._lock:
            name = self._check_name(name)
            if name not in self.class_names:
                self._more_names.append(name)
                self.version += 1
                self._read_names()
            return name

    def label(self, positions, name):
        """Gives photos a class, in one step; where they have it, that confirms it.

        Args:
            positions: list of int.
            name: str, a class; `NO_CLASS`; or `SET_ASIDE`, which takes them out of the data.

        Returns:
            list of `Change`.

        Raises:
            InputError: a photo is not where it was, or no class can have the name.
            OSError: a file cannot be changed; nothing was.
        """
        with self._lock:
            if name not in (NO_CLASS, SET_ASIDE):
                name = self.add_class(name)
            photos = {}
            for position in dict.fromkeys(positions):
                if not os.path.lexists(self.path(position)):
                    self.version += 1
                    self._set(self.paths[position], GONE)
                    raise InputError(f"{self.paths[position]}: is not where it was any more")
                if self.names[position] != name or name not in (NO_CLASS, SET_ASIDE):
                    photos[self.paths[position]] = self.names[position]
            if not photos:
                return []
            others = {path: own for path, own in photos.items() if own != name}
            moves, edits = [], []
            if others:
                moves, edits = self._layout.plan(others, name, self.class_names)
            return self._do(photos, dict.fromkeys(photos, name), moves, edits)

    def rename_class(self, name, new_name):
        """Gives a class another name, or makes it a part of the class that has this name.

        Args:
            name, new_name: str.

        Returns:
            list of `Change`.

        Raises:
            InputError, OSError: as of `label`.
        """
        with self._lock:
            new_name = self._check_name(new_name)
            if name not in self.class_names:
                raise InputError(f"{name!r} is no class")
            if new_name == name:
                return []
            at = self.class_names.index(name)
            names = [*self.class_names[:at], new_name, *self.class_names[at + 1 :]]
            if new_name in self.class_names:
                names = [other for other in self.class_names if other != name]
            photos = {
                path: self.names[position]
                for path, position in self._positions.items()
                if self.names[position] != GONE
            }
            moves, edits, emptied = self._layout.rename(photos, name, new_name, names)
            members = {path: own for path, own in photos.items() if own == name}
            new_names = dict.fromkeys(members, new_name)
            changes = self._do(members, new_names, moves, edits, emptied)
            self._more_names = [new_name if n == name else n for n in self._more_names]
            self._read_names()
            return changes

    def undo(self):
        """Takes the last step back.

        Returns:
            list of `Change`, empty where there is none.

        Raises:
            OSError: a file was changed by another program since; nothing is undone.
        """
        with self._lock:
            return self._take_over(self._steps.undo(), is_undone=True)

    def redo(self):
        """Repeats the step undone last; as `undo`."""
        with self._lock:
            return self._take_over(self._steps.redo(), is_undone=False)

    # Inside

    def _do(self, photos, new_names, moves, edits, emptied=()):
        new_paths = dict(moves)
        changes = [
            Change(path, new_paths.get(path, path), name, new_names[path])
            for path, name in photos.items()
        ]
        if not (photos or moves or edits):  # a class without photos
            self.version += 1
            return changes
        step = self._steps.do(moves, edits, emptied, {"photos": changes})
        return self._take_over(step, is_undone=False)

    def _take_over(self, step, is_undone):
        """Makes a step's changes known, and journals them."""
        if step is None:
            return []
        changes = [Change(*photo) for photo in step.note["photos"]]
        if is_undone:
            changes = [Change(c.new_path, c.path, c.new_name, c.name) for c in changes]
        self.version += 1
        positions = [self._positions.pop(change.path, None) for change in changes]
        for change, position in zip(changes, positions):
            if change.new_path in self._positions:  # another program has moved it there before
                self._set(change.new_path, GONE)
            if position is not None:
                self.paths[position] = change.new_path
                self._positions[change.new_path] = position
        for change in changes:
            self._set(change.new_path, change.new_name)
        self._read_names()
        label_journal.add_all(
            self.journal_path,
            [
                (os.path.join(self.root, change.new_path), *_journalled(change, is_undone))
                for change in changes
                if change.new_name not in (NO_CLASS, SET_ASIDE) and change.name != SET_ASIDE
            ],
        )
        return changes

    def _set(self, path, name):
        position = self._positions.get(path)
        if position is None:
            position = self._positions[path] = len(self.paths)
            self.paths.append(path)
            self.names.append(name)
            self._changed_at.append(self.version)
            self._counts[name] += 1
        self._counts[self.names[position]] -= 1
        self._counts[name] += 1
        self.names[position] = name
        self._changed_at[position] = self.version

    def _read_names(self):
        """The classes of the data set, and those that were made on the page or are a run's."""
        used_names = {name for name, count in self._counts.items() if count and name != GONE}
        used_names -= {NO_CLASS, SET_ASIDE}
        self.class_names = self._layout.class_names(used_names, self._more_names)

    def _check_name(self, name):
        name = normalize(name)
        if not name:
            raise InputError("the name of a class is empty")
        if name in self.class_names and self._counts[name]:  # whatever bytes its folder's name has
            return name
        if isinstance(self._layout, FolderLayout):
            try:
                check_names([name])
            except (InputError, UnicodeEncodeError):
                raise InputError(f"no folder can have the name {name!r}") from None
            if any(map(is_system_name, name.split("/"))):
                raise InputError(f"no mode reads a folder with the name {name!r}")
            self._check_folder(name)
        if name in (SET_ASIDE, GONE) or "\n" in name or "\r" in name:
            raise InputError(f"no class can have the name {name!r}")
        return name

    def _check_folder(self, name):
        """Refuses a class whose photos would land in another folder than one of its name."""
        path = os.path.join(self.root, name)
        for other in self.class_names:
            if other == name or other.casefold() != name.casefold():
                continue
            paths = path, os.path.join(self.root, other)
            if all(map(os.path.exists, paths)) and os.path.samefile(*paths):
                raise InputError(f"{name!r} and {other!r} are one folder on this system")
        own_path = os.path.normpath(os.path.join(os.path.realpath(self.root), name))
        if os.path.normcase(os.path.realpath(path)) != os.path.normcase(own_path):
            raise InputError(f"{name!r} is a link to another folder, which no mode follows")


def _journalled(change, is_undone):
    """The two labels of a change in the journal; a confirmation that is undone has no second."""
    if is_undone and change.name == change.new_name:
        return change.name, ""
    return change.name or "", change.new_name


def _lock_folder(root):
    """Refuses a folder that another process has open, or that cannot be written to."""
    if not os.access(root, os.W_OK):
        raise InputError(f"{root}: cannot be written to, so nothing could be labelled in it")
    lock = filelock.FileLock(os.path.join(root, ".labels.lock"))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise InputError(
            f"{root}: another --mode label has it open; use its page, or end it first"
        ) from None
    except OSError as error:
        raise InputError(f"{root}: cannot be locked: {error.strerror}") from None
    return lock
