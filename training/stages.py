"""The stages of a training: that of the frozen backbone, if wanted, and that of all weights."""

from typing import NamedTuple


class Stage(NamedTuple):
    """Epochs that train the same weights.

    Attributes:
        first: int, the first epoch, counted from 0.
        last: int, the epoch after the last one.
        frozen: bool, whether the backbone is frozen.
    """

    first: int
    last: int
    frozen: bool

    def contains(self, checkpoint):
        """bool, whether a `Checkpoint` was written in this stage."""
        if checkpoint.steps or not checkpoint.epochs:
            return self.first <= checkpoint.epochs < self.last
        return self.first < checkpoint.epochs <= self.last


def list_stages(options):
    """list of `Stage`: that of the frozen backbone, if wanted, and that of all weights.

    Args:
        options: the options of `--mode train`.
    """
    frozen_epochs, epochs = options.freeze_epochs, options.epochs
    both = (Stage(0, frozen_epochs, True), Stage(frozen_epochs, epochs, False))
    return [stage for stage in both if stage.first < stage.last]
