"""A trained model as the teacher of a training: its probabilities for the classes of that one."""

import os
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError, first_ten
from common.files import checksum
from compute.devices import one_device
from data.class_spelling import normalize
from prediction.batch import predict_samples
from prediction.classifier import Classifier, known_labels
from runs import run_folder
from runs.margin_files import read_hashes, read_unlabelled

BATCH_SIZE = 32  # images that it computes at once


class Teacher(NamedTuple):
    """A run or an exported model that answers for the photos of a training.

    Attributes:
        path: str, its folder.
        order: int (C,), for each class of the training the teacher's id of it.
        digest: str, what tells its weights from others.

    Example:

    ```python
    teacher = open_teacher("save_h5_model/large", ("glass", "metal"))
    probabilities, errors = teacher.answer(samples, workers=4)
    ```
    """

    path: str
    order: np.ndarray
    digest: str

    def answer(self, samples, workers):
        """Predicts photos as the teacher's network computes them, not calibrated.

        Args:
            samples: `Samples`, N photos.
            workers: int, threads that decode.

        Returns:
            (float32 (N, C), dict of position -> `ImageError`): the probabilities in the order of
            the training's classes, zeros for a photo that cannot be decoded.
        """
        with one_device():
            classifier = Classifier.load(self.path, calibrated=False)
            probabilities, errors, _ = predict_samples(classifier, samples, BATCH_SIZE, workers)
        return probabilities[:, self.order], errors


def open_teacher(path, class_names):
    """Looks up a teacher, without opening its network.

    Args:
        path: str, the folder of a run or of an exported model.
        class_names: tuple of str, the classes of the training.

    Returns:
        `Teacher`.

    Raises:
        InputError: it has other classes, or is damaged.
    """
    teacher_names = [normalize(name) for name in known_labels(path)]
    names = [normalize(name) for name in class_names]
    if sorted(teacher_names) != sorted(names):
        other_names = sorted(set(teacher_names) ^ set(names))
        raise InputError(
            f"--teacher: {path} has other classes than the training: {first_ten(other_names)} "
            f"{'is' if len(other_names) == 1 else 'are'} in one of the two only; a teacher needs "
            "the same classes, in any order"
        )
    weights = run_folder.MODEL_FILE if run_folder.is_exported(path) else run_folder.BEST
    order = np.array([teacher_names.index(name) for name in names])
    return Teacher(path, order, checksum(os.path.join(path, weights)))


def check_photos(path, judging_hashes, test_hashes, has_parts):
    """Refuses a teacher that has learned photos which are to judge its student, or says so.

    Args:
        path: str, the folder of a run, or of an exported model in its run.
        judging_hashes: set of int, `content_hash` of the photos that validate the training.
        test_hashes: set of int, of those that are kept for the test.
        has_parts: bool, whether tables of parts decide which these are: then it is said only.

    Raises:
        InputError: it has learned some of them, or what its run has recorded is damaged.
    """
    run_path = path
    if not os.path.exists(os.path.join(run_path, run_folder.OPTIONS)):
        run_path = os.path.dirname(os.path.abspath(path))
        if not os.path.exists(os.path.join(run_path, run_folder.OPTIONS)):
            say(f"note: --teacher: nothing says which photos {path} has learned")
            return
    learned = read_hashes(run_path)[0].keys() | read_unlabelled(run_path)
    counts = [
        f"{len(learned & hashes):,} of the {len(hashes):,} {what} photos"
        for what, hashes in (("validation", judging_hashes), ("test", test_hashes))
        if learned & hashes
    ]
    if not counts:
        return
    message = f"{path} has learned {' and '.join(counts)}, on which its student would seem too good"
    if not has_parts:
        raise InputError(
            f"--teacher: {message}; give it the same training photos, or other --val_data"
        )
    say(f"note: --teacher: {message}")
