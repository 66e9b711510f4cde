"""Which samples an epoch draws, and in which order: a pure function of seed and epoch."""

from typing import NamedTuple

import numpy as np

# Last number of a class order's seed: (seed, class, 0, 0, 4). No other use of randomness in
# `data_gen_label` has the same five numbers.
CLASS_ORDER = 4


class EpochDraws(NamedTuple):
    """The N draws of one epoch, where N is the number of samples.

    Attributes:
        positions: int32 (N,), positions of the samples drawn.
        repeats: int32 (N,), how often the same epoch has drawn this sample before.
    """

    positions: np.ndarray
    repeats: np.ndarray


class EpochSampler:
    """Draws the samples of an epoch.

    Args:
        class_ids: int (N,), the class of each sample.
        method: None, "uniform" or "balanced". None keeps the samples' own order. "uniform"
            draws each sample once per epoch, in an order that changes with every epoch.
            "balanced" draws N samples per epoch too, and equally many of each class, up to one;
            the images of a class take turns over all epochs.
        seed: int, 0 or above; fixes the order of all epochs.

    Raises:
        ValueError: the method is another.

    Example:

    ```python
    sampler = EpochSampler(np.array([0, 0, 0, 1]), "balanced", seed=5)
    sampler.draw(epoch=0).positions  # two images of class 0, and image 3 twice
    ```
    """

    def __init__(self, class_ids, method=None, seed=0):
        if method not in (None, "uniform", "balanced"):
            raise ValueError(
                f"method must be None, 'uniform' or 'balanced'. Received: method={method!r}"
            )
        self.class_ids = class_ids
        self.method = method
        self.seed = seed

    def draw(self, epoch):
        """The `EpochDraws` of an epoch, counted from 0."""
        sample_count = len(self.class_ids)
        in_order = np.arange(sample_count, dtype=np.int32)
        no_repeats = np.zeros(sample_count, np.int32)
        if self.method is None:
            return EpochDraws(in_order, no_repeats)
        generator = np.random.default_rng((self.seed, epoch))
        if self.method == "uniform":
            return EpochDraws(generator.permutation(in_order), no_repeats)
        return EpochDraws(*generator.permutation(self._balanced(epoch), axis=1))

    def _balanced(self, epoch):
        """int32 (2, N): positions and repeats, class by class.

        Each class cycles through its images, in an order of its own. Before epoch e the class
        of rank r has drawn floor((e * N + r) / C) images; over all C classes these sum to e * N.
        """
        sample_count = len(self.class_ids)
        present_classes = np.unique(self.class_ids)
        class_draws = []
        for rank, class_id in enumerate(present_classes):
            generator = np.random.default_rng((self.seed, int(class_id), 0, 0, CLASS_ORDER))
            class_members = generator.permutation(np.flatnonzero(self.class_ids == class_id))
            first_turn, end_turn = (
                (epochs_done * sample_count + rank) // len(present_classes)
                for epochs_done in (epoch, epoch + 1)
            )
            turns = np.arange(first_turn, end_turn)
            positions = class_members[turns % len(class_members)]
            repeats = (turns - first_turn) // len(class_members)
            class_draws.append(np.stack([positions, repeats]))
        return np.concatenate(class_draws, axis=1).astype(np.int32)
