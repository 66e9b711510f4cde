"""--teacher: a training that learns a larger model's probabilities beside the labels.

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2: the
student learns a weighted mean of the true label and of the teacher's probabilities; photos without
a label have the teacher's row alone. The teacher answers once, for the photos as they are; its
answers are kept in the run's folder.

The rows take the place of the labels in a batch's y, so that one loss serves all of them, also
those that are mixed. The paper raises the temperature of both models and scales that part of the
loss by its square. Measured on heads for photos that brings nothing over a temperature of 1, and
softening the rows alone is worse (docs/benchmarks.md): there is no temperature here.
"""

import os
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from common.console import say
from common.errors import InputError
from common.files import replacing
from data.samples import Samples
from data.several_places import join
from data.splitting import hash_files
from runs import run_folder

TEACHER_WEIGHT = 0.5  # of its row beside a label


class Lesson(NamedTuple):
    """What a training with a teacher learns from.

    Attributes:
        samples: `Samples`, those with a label first; the class of one without is the one that
            the teacher thinks most probable.
        rows: float32 (N, C), what is learned of each, rows sum to 1.
        answers: dict of name -> array, what the run's folder keeps.
    """

    samples: Samples
    rows: np.ndarray
    answers: dict

    def write(self, run_path):
        """Keeps the teacher's answers in a run's folder.

        Args:
            run_path: str.
        """
        path = os.path.join(run_path, run_folder.TEACHER)
        with replacing(path) as partial_path, open(partial_path, "wb") as npz_file:
            np.savez(npz_file, **self.answers)


def lesson_rows(labels, probabilities):
    """What is learned of photos: the label and the teacher's row, or the latter alone.

    Args:
        labels: float (M, C), one-hot or smoothed, of the first M of N photos.
        probabilities: float (N, C), the teacher's; of a photo that it has not answered, zeros.

    Returns:
        float32 (N, C), rows sum to 1.

    Example:
        >>> lesson_rows(np.array([[0.0, 1.0]]), np.array([[0.9, 0.1], [0.5, 0.5]])).tolist()
        [[0.45, 0.55], [0.5, 0.5]]
    """
    rows = np.array(probabilities, np.float64)
    is_answered = probabilities[: len(labels)].any(axis=1, keepdims=True)
    weight = np.where(is_answered, TEACHER_WEIGHT, 0.0)
    rows[: len(labels)] = (1 - weight) * labels + weight * rows[: len(labels)]
    return rows.astype(np.float32)


def learn_from(setup, teacher):
    """Adds a teacher's answers to a training; asks it only for what the run does not have yet.

    Args:
        setup: `TrainingSetup` with a teacher.
        teacher: `prediction.teacher.Teacher`, or None where it has gone since.

    Returns:
        The `TrainingSetup` with a `Lesson`.

    Raises:
        InputError: too many of the photos without labels are undecodable, or the teacher has gone
            and the photos have changed.
    """
    options = setup.options
    unlabelled = setup.unlabelled
    samples = join([setup.training, unlabelled]) if unlabelled else setup.training
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    hashes = hash_files(paths, options.workers)
    answers = _read(setup.run_path) if options.resume else None
    is_known = answers is not None and np.array_equal(answers["hashes"], hashes)
    if teacher and is_known and str(answers["teacher"]) != teacher.digest:
        say(f"note: --teacher: {options.teacher} has other weights now; it answers anew")
        is_known = False
    if not is_known:
        if not teacher:
            raise InputError(
                f"--teacher: {options.teacher}: no such run or exported model, and its answers in "
                f"{setup.run_path} are not those for these photos"
            )
        answers = _ask(teacher, samples, hashes, setup)
    probabilities = answers["probabilities"]
    labelled_count = len(setup.training.file_names)
    is_used = probabilities.any(axis=1)
    is_used[:labelled_count] = True  # batches count those that are undecodable
    _check_undecodable(is_used[labelled_count:], options)
    used = np.flatnonzero(is_used)
    classes = len(setup.class_names)
    labels = _one_hot(setup.training.class_ids, classes, options.label_smoothing)
    class_ids = probabilities.argmax(axis=1).astype(samples.class_ids.dtype)
    class_ids[:labelled_count] = setup.training.class_ids
    samples = samples._replace(class_ids=class_ids).select(used)
    lesson = Lesson(samples, lesson_rows(labels, probabilities[used]), answers)
    return replace(setup, lesson=lesson)


def _one_hot(class_ids, classes, smoothing):
    from data_gen_label import smooth_labels  # needs Keras

    return smooth_labels(class_ids, classes, smoothing)


def _ask(teacher, samples, hashes, setup):
    """What the run's folder keeps of a teacher's answers, as arrays by name."""
    labelled_count = len(setup.training.file_names)
    say(
        f"the teacher {teacher.path} answers for {labelled_count:,} images with a label and "
        f"{len(samples.file_names) - labelled_count:,} without"
    )
    probabilities, errors = teacher.answer(samples, setup.options.workers)
    for position in sorted(errors):
        if position >= labelled_count:  # the training itself names the others
            say(f"left out: {errors[position]}")
    return {"probabilities": probabilities, "hashes": hashes, "teacher": np.array(teacher.digest)}


def _check_undecodable(is_used, options):
    """Refuses photos without labels of which too many are undecodable."""
    undecodable_count = int((~is_used).sum())
    if undecodable_count > options.max_bad * len(is_used):
        raise InputError(
            f"--unlabelled: {undecodable_count} of {len(is_used)} images cannot be decoded, more "
            f"than --max_bad {options.max_bad:g} allows"
        )


def _read(run_path):
    """What a run's folder has of a teacher's answers; None where it has nothing that is whole."""
    try:
        with np.load(os.path.join(run_path, run_folder.TEACHER), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("probabilities", "hashes", "teacher")}
    except Exception:  # missing or damaged: asked anew
        return None
