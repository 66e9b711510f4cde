"""When a training stops early."""

from typing import NamedTuple


class Patience(NamedTuple):
    """Stops a training whose validation score no longer improves.

    Keras's EarlyStopping is not used: it forgets its count when a training resumes (keras-team/
    keras#14862), and counts epochs in which the backbone is still frozen.

    Attributes:
        epochs: int, epochs without a better validation score before training stops; 0 is never.
        unfreeze_epoch: int, epochs with a frozen backbone, which do not count.
    """

    epochs: int = 0
    unfreeze_epoch: int = 0

    def is_exhausted(self, state):
        """bool, whether a `TrainingState` has gone too long without a better score."""
        waited = state.epochs_without_improvement(self.unfreeze_epoch)
        return bool(self.epochs) and waited >= self.epochs
