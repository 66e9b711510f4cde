"""The stages of a training: the solved head, the frozen backbone, if wanted, and all weights."""

from typing import NamedTuple


class Stage(NamedTuple):
    """Epochs that train the same weights.

    Attributes:
        first: int, the first epoch, counted from 0.
        last: int, the epoch after the last one.
        frozen: bool, whether the backbone is frozen.
        solved: bool, whether the head is solved instead of trained; the stage is one epoch, in
            which nothing else changes.
    """

    first: int
    last: int
    frozen: bool
    solved: bool = False

    def contains(self, checkpoint):
        """bool, whether a `Checkpoint` was written in this stage."""
        if checkpoint.steps or not checkpoint.epochs:
            return self.first <= checkpoint.epochs < self.last
        return self.first < checkpoint.epochs <= self.last


def list_stages(options):
    """list of `Stage`: the solved head, the frozen backbone, if wanted, and all weights.

    Args:
        options: the options of `--mode train`.
    """
    solved_epochs, frozen_epochs = int(bool(options.linear_head)), count_frozen_epochs(options)
    stages = (
        Stage(0, solved_epochs, True, solved=True),
        Stage(solved_epochs, frozen_epochs, True),
        Stage(frozen_epochs, options.epochs, False),
    )
    return [stage for stage in stages if stage.first < stage.last]


def count_frozen_epochs(options):
    """int, the first epochs, in which the backbone does not change.

    Args:
        options: the options of `--mode train`.
    """
    return max(options.freeze_epochs, int(bool(options.linear_head)))
