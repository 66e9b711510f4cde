"""other/labelling/suggestions.py and its worker: classes and an order for unsorted photos."""

import json
import os
import queue
import subprocess
import time

import numpy as np
import pytest
from conftest import COLORS, write_image

from common.errors import ImageError, RunError
from other.labelling import suggestion_worker
from other.labelling.layouts import SET_ASIDE
from other.labelling.photo_set import PhotoSet
from other.labelling.queues import Queues
from other.labelling.suggestion_worker import SuggestionWorker
from other.labelling.suggestions import Suggestions


class FakeExtractor:
    """The features of the file "2-5.jpg" point to class 2, a little elsewhere by 5."""

    size = 8

    def use_openvino(self):
        return False

    def stream(self, paths, batch_size, workers):
        for path in paths:
            class_id, _, number = os.path.basename(path).removesuffix(".jpg").partition("-")
            if class_id == "broken":
                yield path, ImageError(path, "cannot be decoded", "undecodable")
                continue
            features = np.random.default_rng(int(number)).normal(0, 0.05, self.size)
            features[int(class_id)] += 1
            yield path, features.astype(np.float32)


class Stopped(Exception):
    pass


@pytest.fixture
def answers(monkeypatch):
    """What the worker has answered, a list of dict."""
    answered = []
    monkeypatch.setattr(suggestion_worker, "_answer", lambda **answer: answered.append(answer))
    monkeypatch.setattr(
        suggestion_worker.FeatureExtractor, "from_backbone", lambda name: FakeExtractor())
    return answered


class Messages(queue.Queue):
    """Ends the worker when it waits for a message that nobody sends."""

    def get(self, *arguments, **keywords):
        if self.empty():
            raise Stopped
        return super().get(*arguments, **keywords)


def work(photos, class_names, *later):
    messages = Messages()
    first = {"run": None, "backbone": "any", "classes": class_names, "photos": photos}
    worker = SuggestionWorker(first, messages)
    for message in later:
        messages.put(message)
    with pytest.raises(Stopped):
        worker.work()


def last(answers, key):
    return [answer[key] for answer in answers if key in answer][-1]


def test_guesses_follow_the_labels(answers):
    labelled = [(i, f"{i % 3}-{i}.jpg", "abc"[i % 3]) for i in range(12)]
    unlabelled = [(i, f"{i % 3}-{i}.jpg", None) for i in range(20, 32)]
    work([*labelled, *unlabelled, (99, "broken.jpg", None)], ["a", "b", "c"])
    guesses = last(answers, "guesses")
    assert dict(zip(guesses["ids"], guesses["names"])) == {
        i: "abc"[i % 3] for i, _, _ in unlabelled}
    assert sorted(last(answers, "order")) == [i for i, _, _ in unlabelled]
    assert (last(answers, "done"), last(answers, "total")) == (25, 25)


def test_without_labels_there_is_an_order_and_no_guess(answers):
    work([(i, f"{i % 3}-{i}.jpg", None) for i in range(9)], [])
    assert not any("guesses" in answer for answer in answers)
    assert {i % 3 for i in last(answers, "order")[:3]} == {0, 1, 2}  # one of each kind first


def test_labels_that_come_later_and_new_photos(answers):
    photos = [(i, f"{i % 2}-{i}.jpg", None) for i in range(8)]
    work(photos, [], {"classes": ["x", "y"], "photos": [
        (0, "0-0.jpg", "x"), (1, "1-1.jpg", "y"), (8, "0-8.jpg", None)]})
    guesses = last(answers, "guesses")
    assert dict(zip(guesses["ids"], guesses["names"])) == {i: "xy"[i % 2] for i in range(2, 9)}


def test_photos_that_are_set_aside_are_forgotten(answers):
    photos = [(i, f"{i % 2}-{i}.jpg", "ab"[i % 2] if i < 40 else None) for i in range(44)]
    later = {"classes": ["a", "b"], "photos": [], "gone": [0, 1, 40]}
    work(photos, ["a", "b"], {"classes": ["a", "b"], "photos": []}, later)
    assert sorted(last(answers, "order")) == [41, 42, 43]
    assert last(answers, "estimate")["labels"] == 38


def test_estimate_of_many_labels(answers):
    photos = [(i, f"{i % 2}-{i}.jpg", "ab"[i % 2]) for i in range(40)]
    work([*photos, (50, "0-50.jpg", None)], ["a", "b"])
    estimate = last(answers, "estimate")
    assert estimate["accuracy"] == estimate["half"] == estimate["high"] == 1
    assert estimate["labels"] == 40 and 0.9 < estimate["low"] < 1


def test_a_network_that_cannot_be_had(answers, monkeypatch):
    def fail(_):
        raise RunError("the weights cannot be downloaded")

    monkeypatch.setattr(suggestion_worker.FeatureExtractor, "from_backbone", fail)
    messages = queue.Queue()
    messages.put({"run": None, "backbone": "any", "classes": [], "photos": []})
    monkeypatch.setattr(suggestion_worker.queue, "Queue", lambda: messages)
    monkeypatch.setattr(suggestion_worker, "_read_lines", lambda _: None)
    suggestion_worker.main()
    assert answers == [{"failed": "the weights cannot be downloaded"}]


def test_what_the_worker_is_told(tmp_path, monkeypatch):
    for name in ("a/1.jpg", "_unsorted/2.jpg", "_unsorted/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    script = "import sys; [print(line, end='', flush=True) for line in sys.stdin]"
    popen, told = subprocess.Popen, []
    monkeypatch.setattr("other.labelling.suggestions.subprocess.Popen", lambda command, **options:
                        popen([command[0], "-c", script], **options))
    monkeypatch.setattr(Suggestions, "_receive", lambda self: told.extend(
        map(json.loads, iter(self._process.stdout.readline, ""))))
    with PhotoSet(str(tmp_path)) as photos:
        suggestions = Suggestions(photos, Queues(photos))
        try:
            deadline = time.monotonic() + 20
            while not told and time.monotonic() < deadline:
                time.sleep(0.01)
            photos.label([photos.paths.index("_unsorted/2.jpg")], SET_ASIDE)
            suggestions.note_labels()
            while len(told) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            suggestions.close()
        first, second = told
        assert [label for _, _, label in first["photos"]].count("a") == 1 and not first["gone"]
        assert second["photos"] == []
        assert second["gone"] == [photos.paths.index("_removed/2.jpg")]


@pytest.mark.training
def test_the_process_itself(tmp_path):
    root = tmp_path / "photos"
    for class_id, (name, color) in enumerate(COLORS.items()):
        for i in range(6):
            folder = root / (name if i < 3 else "_unsorted")
            folder.mkdir(parents=True, exist_ok=True)
            write_image(folder / f"{name}{i}.png", color, seed=(class_id, i))
    with PhotoSet(str(root)) as photos:
        queues = Queues(photos)
        suggestions = Suggestions(photos, queues, backbone="EfficientNetLite0")
        try:
            unsorted = queues.list("unsorted")
            deadline = time.monotonic() + 120
            while not all(map(suggestions.guess, unsorted)):
                assert suggestions.state()["failed"] is None and time.monotonic() < deadline
                time.sleep(0.1)
            for i in unsorted:
                name = os.path.basename(photos.paths[i])[:-5]
                assert suggestions.guess(i)[0] == name
        finally:
            suggestions.close()
        deadline = time.monotonic() + 10
        while suggestions.state()["failed"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
