"""Suggestions for the page: classes for the photos that have none, and which to label first.

The work is done by `suggestion_worker.py`, in a process of its own.
"""

import json
import os
import subprocess
import sys
import threading

from other.labelling.layouts import NO_CLASS, SET_ASIDE
from other.labelling.photo_set import GONE


class Suggestions:
    """What the worker has answered so far.

    Args:
        photos: `PhotoSet`.
        queues: `Queues`, whose photos without a class are put in order.
        run: str, path of a run whose network is taken; None for a backbone's.
        backbone: str, its name.
    """

    def __init__(self, photos, queues, run=None, backbone=None):
        self._photos, self._queues = photos, queues
        self._guesses = {}  # position -> (class, probability)
        self._state = {"done": 0, "total": 1, "order": 0, "estimate": None, "failed": None}
        self._sent_version = 0
        self._wake = threading.Event()
        self._first = {"run": run, "backbone": backbone}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "other.labelling.suggestion_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
            text=True,
            encoding="utf-8",
        )
        threading.Thread(target=self._send, daemon=True).start()
        threading.Thread(target=self._receive, daemon=True).start()
        self.note_labels()

    def close(self):
        """Ends the worker."""
        self._process.kill()
        self._process.wait()

    def note_labels(self):
        """Says that photos have changed; returns at once."""
        self._wake.set()

    def guess(self, position):
        """(class, probability) that the model suggests for a photo, or None.

        Args:
            position: int.
        """
        return self._guesses.get(position)

    def state(self):
        """dict of done and total photos, order (which grows), estimate (or None), failed."""
        return dict(self._state)

    def _send(self):
        while True:
            self._wake.wait()
            self._wake.clear()
            version = self._photos.version
            changed = self._photos.changed_since(self._sent_version)
            gone = {i for i in changed if self._photos.names[i] in (SET_ASIDE, GONE)}
            message = {
                **self._first,
                "classes": self._photos.class_names,
                "photos": [
                    (i, os.path.abspath(self._photos.path(i)), self._label(i))
                    for i in changed
                    if i not in gone
                ],
                "gone": [*gone],
            }
            self._sent_version = version
            try:
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()
            except OSError:  # the worker has ended, and _receive says so
                return

    def _label(self, position):
        name = self._photos.names[position]
        return None if name is NO_CLASS else name

    def _receive(self):
        for line in self._process.stdout:
            answer = json.loads(line)
            if "order" in answer:
                self._queues.sort_unsorted(answer.pop("order"))
                answer["order"] = self._state["order"] + 1
            guesses = answer.pop("guesses", None)
            if guesses:
                pairs = zip(guesses["names"], guesses["probabilities"])
                self._guesses = dict(zip(guesses["ids"], pairs))
            self._state.update(answer)
        if self._state["failed"] is None:
            self._state["failed"] = "the program that computes them has ended"
