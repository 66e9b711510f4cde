"""Which labels are probably wrong.

For an image that the run was trained on, its margins over the epochs of training are judged
(Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking"): the
trained model has memorized the label. For any other image the model's answer is judged
(Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
section 3.1).
"""

import contextlib
import os
from typing import NamedTuple

import numpy as np

from data.splitting import hash_files
from runs.margin_files import read_hashes, read_margins
from runs.results import read_results

MIN_RELATIVE_ACCURACY = 0.7  # of the best validation accuracy: from there on margins count
MIN_JUDGING_ACCURACY = 0.7  # of a model: below, most of its suspects are errors of its own
SMALLEST = 1e-30  # probability whose logarithm stands for that of 0


class Suspect(NamedTuple):
    """A label that is probably wrong.

    Attributes:
        position: int, of the image in the samples.
        suggested: int, class id that the model would give it.
        score: float, the mean margin, or the logarithm of the label's probability divided by that
            of the suggested class: below 0, the lower the more doubtful.
        how: "training" or "prediction".
    """

    position: int
    suggested: int
    score: float
    how: str


class Training(NamedTuple):
    """What is known about N images from a run's training.

    Attributes:
        seen: bool (N,), whether the run was trained on the image, whatever its label was then.
        margins: float (N,), the mean margin of its label, NaN where there is none: after training
            with --mixup or --cutmix or on several devices, for an image that was not drawn,
            and where the label has been changed since.
    """

    seen: np.ndarray
    margins: np.ndarray

    @property
    def unjudged(self):
        """int, number of images trained on that have no margin for their label."""
        return int((self.seen & np.isnan(self.margins)).sum())


def find(training, samples, probabilities, undecodable=()):
    """Finds the doubtful labels.

    Args:
        training: `Training`, what `recall` returned.
        samples: `samples.Samples`, N images.
        probabilities: float (N, C), the model's.
        undecodable: positions without probabilities.

    Returns:
        list of `Suspect`, the most doubtful first.

    Example:
        >>> suspects = find(recall("save_h5_model/demo", samples), samples, probabilities)
        >>> samples.file_names[suspects[0].position]
        'img_1_7.png'
    """
    class_ids = np.asarray(samples.class_ids)
    answered = np.ones(len(class_ids), bool)
    answered[list(undecodable)] = False
    log_probabilities = np.log(np.maximum(probabilities, SMALLEST))
    suspects = _by_margins(training, class_ids, log_probabilities, answered)
    unseen = np.flatnonzero(answered & ~training.seen)
    if len(unseen):
        suspects += _by_answers(unseen, class_ids, probabilities, log_probabilities)
    return sorted(suspects, key=lambda suspect: suspect.score)


def cannot_judge(accuracy):
    """Says so where a model is not good enough to judge labels.

    Args:
        accuracy: float, of the model on the images whose labels are judged, 0 to 1.

    Returns:
        str, a sentence; "" where it is good enough.
    """
    if accuracy >= MIN_JUDGING_ACCURACY:
        return ""
    return (
        f"A model that names {accuracy:.1%} of these images right cannot judge their labels: it "
        f"takes one that names at least {MIN_JUDGING_ACCURACY:.0%} right."
    )


def _by_margins(training, class_ids, log_probabilities, answered):
    is_own = np.arange(log_probabilities.shape[1]) == class_ids[:, None]
    likeliest_other = np.where(is_own, -np.inf, log_probabilities).argmax(axis=1)
    return [
        Suspect(
            int(position),
            int(likeliest_other[position]),
            float(training.margins[position]),
            "training",
        )
        for position in np.flatnonzero(answered & (training.margins < 0))
    ]


def _by_answers(positions, class_ids, probabilities, log_probabilities):
    suspects = []
    suggestions = confident(class_ids[positions], probabilities[positions])
    for position, suggested in zip(positions, suggestions):
        label, row = class_ids[position], log_probabilities[position]
        if suggested != label:
            score = float(row[label] - row[suggested])
            suspects.append(Suspect(int(position), int(suggested), score, "prediction"))
    return suspects


def trained_on(path, samples):
    """Which images a run was trained on, whatever their labels were then.

    Args:
        path: str, the run's folder.
        samples: `samples.Samples`, N images.

    Returns:
        bool (N,).

    Raises:
        InputError: the run's margins are damaged.
    """
    images, _ = read_margins(path)
    entries = _recorded(images, samples, read_hashes(path)[0])
    return np.array([entry is not None for entry in entries], bool)


def _recorded(images, samples, by_content):
    """For each sample what the run has recorded of its image, (position, class id), or None.

    Where the run has recorded contents, these decide: another photo may have an old name. Of
    copies that it was trained on, the one of the same path counts.
    """
    entries = _recorded_by_path(images, samples)
    if not by_content:  # a run of an earlier version
        return entries
    paths = [os.path.join(samples.folder, file_name) for file_name in samples.file_names]
    known = [by_content.get(int(content)) for content in hash_files(paths)]
    return [by_path if by_path and found else found for by_path, found in zip(entries, known)]


def _recorded_by_path(images, samples):
    """The same by the images' paths alone.

    Where the folder trained on no longer exists, a folder that has the names of all its images
    takes its place.
    """
    folder = os.path.realpath(samples.folder)
    image_folders = {os.path.dirname(path) for path in images}
    if images and not any(map(os.path.isdir, image_folders)):
        with contextlib.suppress(ValueError):  # Windows: they were on several drives
            old_folder = os.path.commonpath(image_folders)  # of all classes, if each has its own
            by_name = {os.path.relpath(path, old_folder): entry for path, entry in images.items()}
            if by_name.keys() <= set(samples.file_names):
                return [by_name.get(file_name) for file_name in samples.file_names]
    return [images.get(os.path.join(folder, file_name)) for file_name in samples.file_names]


def confident(true, probabilities):
    """The class that each image confidently has: its label, where no other is more probable.

    A class is confident where its probability reaches the mean that it has among the images
    labelled with it; of several, the most probable counts.

    Args:
        true: int (N,), class ids.
        probabilities: float (N, C).

    Returns:
        int (N,), class ids.
    """
    class_count = probabilities.shape[1]
    image_counts = np.bincount(true, minlength=class_count)
    own = probabilities[np.arange(len(true)), true]
    sums = np.bincount(true, own, class_count)
    # A class without images suggests nothing.
    thresholds = np.where(image_counts > 0, sums / np.maximum(image_counts, 1), np.inf)
    confident_only = np.where(probabilities >= thresholds, probabilities, -1)
    is_likelier = confident_only.max(axis=1) > own
    return np.where(is_likelier, confident_only.argmax(axis=1), true)


def telling_epochs(accuracy, validation):
    """The epochs whose margins are judged: the model generalises, and does not yet memorize.

    It memorizes when its training accuracy exceeds the best validation accuracy.

    Args:
        accuracy: float (E,), training accuracy of each epoch.
        validation: float (E,), validation accuracy.

    Returns:
        int array, positions of epochs, at least one.
    """
    accuracy, validation = np.asarray(accuracy), np.asarray(validation)
    best_accuracy = validation.max()
    generalises = validation >= MIN_RELATIVE_ACCURACY * best_accuracy
    epochs = np.flatnonzero(generalises & (accuracy <= best_accuracy))
    return epochs if len(epochs) else np.flatnonzero(generalises)[:1]


def recall(path, samples):
    """What is known about images from a run's training.

    Args:
        path: str, the run's folder; None for a model without its run.
        samples: `samples.Samples`, N images.

    Returns:
        `Training`.

    Raises:
        InputError: the run's margins or results are damaged.
    """
    image_count = len(samples.file_names)
    seen, mean_margins = np.zeros(image_count, bool), np.full(image_count, np.nan)
    images, margins = read_margins(path) if path else ({}, [])
    if not images:
        return Training(seen, mean_margins)
    columns = np.full(image_count, -1)
    by_content = read_hashes(path)[0]
    for position, entry in enumerate(_recorded(images, samples, by_content)):
        seen[position] = entry is not None
        # Where the label was corrected since, the margins are those of another label.
        if entry and entry[1] == samples.class_ids[position]:
            columns[position] = entry[0]
    result_rows = read_results(path) if len(margins) else []
    if not result_rows:
        return Training(seen, mean_margins)
    epochs = telling_epochs(
        [row["accuracy"] for row in result_rows], [row["val_accuracy"] for row in result_rows]
    )
    recorded_epochs = np.flatnonzero(np.isfinite(margins).any(axis=1))
    epochs = epochs[np.isin(epochs, recorded_epochs)]
    chosen_margins = margins[epochs][:, columns]
    was_drawn = np.isfinite(chosen_margins)
    draw_counts = was_drawn.sum(axis=0)
    margin_sums = np.where(was_drawn, chosen_margins, 0).sum(axis=0)
    has_margin = (columns >= 0) & (draw_counts > 0)
    mean_margins[has_margin] = margin_sums[has_margin] / draw_counts[has_margin]
    return Training(seen, mean_margins)
