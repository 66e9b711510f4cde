"""Which labels are probably wrong.

For an image that the run was trained on, its margins over the epochs of training tell
(Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking"):
the trained model itself has learnt the label by heart. For any other image the model's answer
tells (Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
section 3.1).
"""

import os
from typing import NamedTuple

import numpy as np

from runs.margin_files import read_margins
from runs.results import read_results

GENERALISES = 0.7  # of the best validation accuracy: from there on an epoch's margins count


class Suspect(NamedTuple):
    """A label that is probably wrong.

    Attributes:
        position: of the image in the samples.
        suggested: class id that the model would give it.
        score: the mean margin, or the logarithm of the label's probability over that of the
            suggested class: below 0, the lower the more doubtful.
        how: "training" or "prediction".
    """

    position: int
    suggested: int
    score: float
    how: str


class Training(NamedTuple):
    """What a run knows of N images from its training.

    Attributes:
        seen: bool (N,), whether it learnt from the image, whatever its label was then.
        margins: float (N,), the mean margin of its label, NaN where there is none: after training
            with --mixup or --cutmix or on several devices, of an image that was not drawn,
            and where the label has been changed since.
    """

    seen: np.ndarray
    margins: np.ndarray

    @property
    def unjudged(self):
        """How many images it learnt from without a margin for their label."""
        return int((self.seen & np.isnan(self.margins)).sum())


def find(training, samples, probabilities, undecodable=()):
    """The doubtful labels, most doubtful first.

    Args:
        training: `Training`, as `recall` gives it.
        samples: `samples.Samples`, N images.
        probabilities: float (N, C), the model's.
        undecodable: positions without probabilities.
    """
    true = np.asarray(samples.class_ids)
    answered = np.ones(len(true), bool)
    answered[list(undecodable)] = False
    seen, margins = training
    logarithms = np.log(np.maximum(probabilities, 1e-30))
    others = np.where(np.arange(probabilities.shape[1]) == true[:, None], -np.inf, logarithms)
    found = [
        Suspect(int(position), int(others[position].argmax()), float(margins[position]), "training")
        for position in np.flatnonzero(answered & (margins < 0))
    ]
    unseen = np.flatnonzero(answered & ~seen)
    if len(unseen):
        suggested = confident(true[unseen], probabilities[unseen])
        found += [
            Suspect(
                int(position),
                int(label),
                float(logarithms[position, true[position]] - logarithms[position, label]),
                "prediction",
            )
            for position, label in zip(unseen, suggested)
            if label != true[position]
        ]
    return sorted(found, key=lambda each: each.score)


def trained_on(path, samples):
    """bool (N,): the images that the run learnt from, whatever their label was then."""
    images, _ = read_margins(path)
    return np.array([each is not None for each in _recorded(images, samples)], bool)


def _recorded(images, samples):
    """For each sample what the run has recorded of its image, (position, class id), or None.

    Where the folder trained on is gone, one that has all of its images' names takes its place.
    """
    folder = os.path.realpath(samples.folder)
    if images and not any(map(os.path.isdir, {os.path.dirname(path) for path in images})):
        names = {os.path.basename(path): value for path, value in images.items()}
        if names.keys() <= set(samples.file_names):
            return [names.get(name) for name in samples.file_names]
    return [images.get(os.path.join(folder, name)) for name in samples.file_names]


def confident(true, probabilities):
    """The class that each image confidently has: its label, where no other is likelier.

    A class is confident where its probability reaches the mean that it has among the images
    labelled with it; of several, the likeliest counts.

    Args:
        true: int (N,), class ids.
        probabilities: float (N, C).

    Returns:
        int (N,), class ids.
    """
    counts = np.bincount(true, minlength=probabilities.shape[1])
    own = probabilities[np.arange(len(true)), true]
    sums = np.bincount(true, own, probabilities.shape[1])
    # A class without images suggests nothing.
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    reached = np.where(probabilities >= thresholds, probabilities, -1)
    best = reached.argmax(axis=1)
    likelier = reached.max(axis=1) > own
    return np.where(likelier, best, true)


def telling_epochs(accuracy, validation):
    """Epochs whose margins tell labels from images: the model generalises, and does not recite.

    It recites when it gets more of its training images right than it ever gets of others.

    Args:
        accuracy: float (E,), training accuracy of each epoch.
        validation: float (E,), validation accuracy.

    Returns:
        int array, positions of epochs, at least one.
    """
    accuracy, validation = np.asarray(accuracy), np.asarray(validation)
    best = validation.max()
    able = validation >= GENERALISES * best
    found = np.flatnonzero(able & (accuracy <= best))
    return found if len(found) else np.flatnonzero(able)[:1]


def recall(path, samples):
    """The `Training` of the run at `path`; None stands for a model whose run is not at hand.

    Raises:
        InputError: the run's margins or results are damaged.
    """
    seen, means = np.zeros(len(samples.file_names), bool), np.full(len(samples.file_names), np.nan)
    images, margins = read_margins(path) if path else ({}, [])
    if not images:
        return Training(seen, means)
    columns = np.full(len(seen), -1)
    for position, found in enumerate(_recorded(images, samples)):
        seen[position] = found is not None
        # Where the label was corrected since, the margins are another label's.
        if found and found[1] == samples.class_ids[position]:
            columns[position] = found[0]
    if len(margins):
        rows = read_results(path)
        if not rows:
            return Training(seen, means)
        epochs = telling_epochs(
            [row["accuracy"] for row in rows], [row["val_accuracy"] for row in rows]
        )
        recorded = np.flatnonzero(np.isfinite(margins).any(axis=1))
        epochs = epochs[np.isin(epochs, recorded)]
        chosen = margins[epochs][:, columns]
        drawn = np.isfinite(chosen)
        sums, counts = np.where(drawn, chosen, 0).sum(axis=0), drawn.sum(axis=0)
        known = (columns >= 0) & (counts > 0)
        means[known] = sums[known] / counts[known]
    return Training(seen, means)
