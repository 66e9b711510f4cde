"""The process that computes suggestions: features of all photos, and a head solved on the labels.

A process of its own, so that the page stays quick and small while a network computes. It reads
JSON lines on standard input and answers on standard output; `suggestions.py` is the other end.
"""

import json
import os
import queue
import sys
import threading
import time

import numpy as np
from threadpoolctl import threadpool_limits

from common.cpu import usable_cores
from common.errors import ImageError, InputError, RunError
from other.labelling import usefulness
from prediction.feature_extractor import FeatureExtractor
from runs import run_folder
from training import linear_head

BATCH = 32
EVERY = 1.0  # seconds between two lines about the progress
MOST_SOLVED = 2000  # labels on which the head is solved: more take long and say the same
_ANSWERS = sys.stdout
SHARE_OF_TIME = 0.25  # of solving, while features are still computed


def main():
    """Answers until standard input ends."""
    messages = queue.Queue()
    threading.Thread(target=_read_lines, args=(messages,), daemon=True).start()
    try:
        SuggestionWorker(messages.get(), messages).work()
    except (InputError, RunError) as error:
        _answer(failed=str(error))
    except Exception as error:  # nobody sees this process but through its answers
        _answer(failed=f"{type(error).__name__}: {error}")
        raise


def _read_lines(messages):
    for line in sys.stdin:
        messages.put(json.loads(line))
    os._exit(0)  # the page has ended


def _answer(**answer):
    print(json.dumps(answer), file=_ANSWERS, flush=True)


class SuggestionWorker:
    """Computes features in the order in which they are needed, and solves heads in between.

    Args:
        first: dict, the first message: run (a path, or None), backbone, photos and classes.
        messages: `queue.Queue` of those that follow: photos (list of [id, path, class or None]),
            new, moved or labelled, gone (list of ids, set aside or no longer there), and classes
            (list of str).
    """

    def __init__(self, first, messages):
        self._messages = messages
        self._paths, self._labels = {}, {}  # by id
        self._rows, self._features = {}, []  # id -> row; float16 (D,), None of what fails
        self._waiting = []  # ids whose features are missing, the next one last
        self._is_new = self._is_solving_late = False
        self._solve_seconds, self._started_at = 0.0, time.monotonic()
        run = run_folder.read(first["run"]) if first["run"] else None
        self._run_classes = run.class_names if run else ()
        if run:
            self._extractor = FeatureExtractor.from_run(run)
        else:
            self._extractor = FeatureExtractor.from_backbone(first["backbone"])
        self._extractor.use_openvino()
        self._class_names = []
        self._take(first)

    def work(self):
        """Works for ever."""
        told_at = 0.0
        while True:
            while not self._messages.empty():
                self._take(self._messages.get())
            if self._waiting:
                self._compute(BATCH)
            elif not self._is_new:
                self._take(self._messages.get())
                continue
            now = time.monotonic()
            if now - told_at > EVERY or not self._waiting:
                _answer(done=len(self._rows), total=len(self._paths))
                told_at = now
            elapsed = max(now - self._started_at, 1.0)
            if self._is_new and (
                not self._waiting or self._solve_seconds < SHARE_OF_TIME * elapsed
            ):
                self._is_new = False
                self._solve()
                self._solve_seconds += time.monotonic() - now

    def _take(self, message):
        self._class_names = message["classes"]
        unknown = []
        for photo_id in message.get("gone", ()):
            self._labels.pop(photo_id, None)
            self._is_new = True
        for photo_id, path, label in message["photos"]:
            if photo_id not in self._paths:
                unknown.append(photo_id)
            self._paths[photo_id] = path
            self._labels[photo_id] = label
            self._is_new = True
        # Labelled ones first, which the others are judged by; the rest in any order but that of
        # their names, in which like comes after like.
        np.random.default_rng(len(self._paths)).shuffle(unknown)
        unknown.sort(key=lambda photo_id: self._labels[photo_id] is not None)
        self._waiting = unknown + self._waiting if self._waiting else unknown

    def _compute(self, count):
        photo_ids = [self._waiting.pop() for _ in range(min(count, len(self._waiting)))]
        paths = [self._paths[photo_id] for photo_id in photo_ids]
        answers = self._extractor.stream(paths, BATCH, usable_cores())
        for photo_id, (_, answer) in zip(photo_ids, answers):
            failed = isinstance(answer, ImageError) or not np.isfinite(answer).all()
            self._rows[photo_id] = len(self._features)
            self._features.append(None if failed else answer.astype(np.float16))
        self._is_new = True

    def _solve(self):
        """Suggests classes and an order for the photos whose features are there."""
        rows = self._rows.items()
        usable = [i for i, row in rows if self._features[row] is not None and i in self._labels]
        unlabelled = [i for i in usable if self._labels[i] is None]
        labelled = [i for i in usable if self._labels[i] in self._class_names]
        if not unlabelled:
            return
        features, labelled_features = self._stack(unlabelled), self._stack(labelled)
        class_ids = np.array([self._class_names.index(self._labels[i]) for i in labelled], int)
        # Threads of linear algebra that wait for those of the network take ten times as long.
        with threadpool_limits(1):
            probabilities = self._probabilities(features, labelled_features, class_ids)
        order = usefulness.rank(features, probabilities, labelled_features)
        answer = {"order": [unlabelled[i] for i in order]}
        if probabilities is not None:
            best = probabilities.argmax(axis=1)
            answer["guesses"] = {
                "ids": unlabelled,
                "names": [self._class_names[class_id] for class_id in best],
                "probabilities": [round(float(p), 4) for p in probabilities.max(axis=1)],
            }
        _answer(**answer)
        estimate = usefulness.learning_estimate(
            labelled_features[:MOST_SOLVED],
            class_ids[:MOST_SOLVED],
            len(self._class_names),
            features,
        )
        if estimate is not None:
            described = {
                "accuracy": estimate.accuracy,
                "low": estimate.interval[0],
                "high": estimate.interval[1],
                "half": estimate.half_accuracy,
                "labels": estimate.label_count,
            }
            _answer(estimate=described)

    def _probabilities(self, features, labelled_features, class_ids):
        """float (N, C) of the run's head, of one solved on the labels, or their mean; or None."""
        classes = len(self._class_names)
        found = []
        if self._run_classes:
            of_run = self._extractor.probabilities(features)
            known = [i for i, name in enumerate(self._run_classes) if name in self._class_names]
            full = np.zeros((len(features), classes), np.float32)
            places = [self._class_names.index(self._run_classes[i]) for i in known]
            full[:, places] = of_run[:, known]
            found.append(full)
        chosen = np.arange(len(class_ids))
        if len(chosen) > MOST_SOLVED:
            chosen = np.random.default_rng(0).choice(chosen, MOST_SOLVED, replace=False)
        solution = linear_head.solve(
            labelled_features[chosen], class_ids[chosen], np.ones(len(chosen)), classes
        )
        if solution is not None:
            kernel, bias = solution
            logits = features @ kernel + bias
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            found.append(powers / powers.sum(axis=1, keepdims=True))
        return np.mean(found, axis=0) if found else None

    def _stack(self, photo_ids):
        rows = [self._features[self._rows[photo_id]] for photo_id in photo_ids]
        if not rows:
            return np.zeros((0, self._extractor.size), np.float32)
        return np.stack(rows).astype(np.float32)


def _keep_answers_apart():
    """What libraries print goes to standard error from now on, and only answers to the page."""
    global _ANSWERS
    _ANSWERS = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


if __name__ == "__main__":
    _keep_answers_apart()
    main()
