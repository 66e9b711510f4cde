"""Which photos the page offers, and in which order."""

import itertools
import os

from common.errors import InputError
from common.tables import read_table
from data.kept_images import is_kept_name
from data.label_journal import find_confirmed
from other.labelling.layouts import NO_CLASS, SET_ASIDE
from other.labelling.photo_set import GONE

UNSORTED, KEPT, DOUBTFUL, AUDIT, CONFLICTS, REMOVED = (
    *("unsorted", "kept", "doubtful", "audit", "conflicts"),
    "removed",
)
CLASS = "class:"  # before the name of a class
CONFLICT_KINDS = ("conflicting_labels",)


class Queues:
    """The queues of a data set.

    Attributes:
        hints: dict of queue -> dict of path of a photo -> dict: what the queue says of the photo,
            `suggested` and `label` or `kind`, `detail` and `group`.

    Args:
        photos: `PhotoSet`.
        doubtful_path: str, the report's table of doubtful labels, or None.
        findings_path: str, the audit's findings.csv, or None.
    """

    def __init__(self, photos, doubtful_path=None, findings_path=None):
        self._photos = photos
        self._order = {}  # position -> rank, of the photos that are most useful first
        self._counts, self._counted = {}, None  # what it was counted at: versions
        self._settled = set()  # photos whose label somebody has confirmed or corrected
        self.hints = {DOUBTFUL: {}, AUDIT: {}, CONFLICTS: {}}
        if doubtful_path is not None:
            self._read_doubtful(doubtful_path)
        if findings_path is not None:
            self._read_findings(findings_path)
        self._read_confirmed()

    def sort_unsorted(self, positions):
        """Sets the order of the photos without a class; those not in it come last.

        Args:
            positions: iterable of int, the most useful first.
        """
        self._order = {position: rank for rank, position in enumerate(positions)}

    def list(self, name):
        """The positions of the photos of a queue, in its order.

        Args:
            name: str, one of the queues, or `CLASS` and a class's name.

        Returns:
            list of int.

        Raises:
            InputError: there is no such queue.
        """
        names = self._photos.names
        if name == UNSORTED:
            positions = [i for i, own_name in enumerate(names) if own_name is NO_CLASS]
            last = len(names)
            return sorted(positions, key=lambda i: (self._order.get(i, last), i))
        if name == KEPT:
            paths = self._photos.paths
            return [
                i
                for i, own_name in enumerate(names)
                if own_name is NO_CLASS and is_kept_name(os.path.basename(paths[i]))
            ]
        if name == REMOVED:
            return [i for i, own_name in enumerate(names) if own_name == SET_ASIDE]
        if name.startswith(CLASS):
            class_name = name.removeprefix(CLASS)
            return [i for i, own_name in enumerate(names) if own_name == class_name]
        if name not in self.hints:
            raise InputError(f"{name!r} is no queue")
        return [
            i
            for i, hint in self.hints[name].items()
            if i not in self._settled and self._is_open(i, hint)
        ]

    def settle(self, changes, is_undone=False):
        """Takes photos that somebody has judged out of what is doubtful about them, or back in.

        Args:
            changes: list of `Change`, of photos of the `PhotoSet`.
            is_undone: bool, whether the judgement was taken back.
        """
        positions = {self._photos.position(change.new_path) for change in changes} - {None}
        change_settled = self._settled.difference_update if is_undone else self._settled.update
        change_settled(positions)

    def counts(self):
        """dict of queue (not of classes) -> number of photos."""
        state = self._photos.version, len(self._settled)
        if state != self._counted:  # asked for every second
            names = (UNSORTED, KEPT, *self.hints, REMOVED)
            self._counts = {name: len(self.list(name)) for name in names}
            self._counted = state
        return dict(self._counts)

    def _is_open(self, position, hint):
        """Whether nobody has dealt with what was found of a photo."""
        name = self._photos.names[position]
        return name not in (SET_ASIDE, GONE) and name == hint["label"]

    def _read_doubtful(self, path):
        positions = self._positions()
        for _, row in read_table(path, ("path", "label", "suggested"), "report"):
            position = positions.get(_place(row["path"]))
            if position is not None:
                hint = {"label": row["label"], "suggested": row["suggested"]}
                self.hints[DOUBTFUL][position] = hint

    def _read_findings(self, path):
        positions = self._positions()
        for _, row in read_table(path, ("path", "kind", "group", "detail"), "audit"):
            position = positions.get(_place(row["path"]))
            if position is None:
                continue
            hint = {
                "label": self._photos.names[position],
                **{name: row[name] for name in ("kind", "detail", "group")},
            }
            self.hints[AUDIT].setdefault(position, hint)
            if row["kind"] in CONFLICT_KINDS:
                self.hints[CONFLICTS].setdefault(position, hint)

    def _read_confirmed(self):
        """Leaves out what was confirmed before this page was opened."""
        positions = sorted(set().union(*self.hints.values()))
        paths = [self._photos.path(i) for i in positions]
        names = [self._photos.names[i] for i in positions]
        is_confirmed = find_confirmed(self._photos.journal_path, paths, names)
        self._settled.update(itertools.compress(positions, is_confirmed))

    def _positions(self):
        """dict of `_place` -> position."""
        root, places = os.path.realpath(self._photos.root), {}
        for i, path in enumerate(self._photos.paths):
            places[os.path.normpath(os.path.join(root, path))] = i
        return places


def _place(path):
    """The real folder of a photo and its name: the photo itself may be a link."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
