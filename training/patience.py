"""When a training stops early."""

from collections.abc import Callable
from typing import NamedTuple


class Patience(NamedTuple):
    """Stops a training whose validation score no longer improves.

    Keras's EarlyStopping is not used: it forgets its count when a training resumes (keras-team/
    keras#14862), and counts epochs in which the backbone is still frozen.

    Attributes:
        epochs: int, epochs without a better validation score before training stops; 0 is never.
        unfreeze_epoch: int, epochs with a frozen backbone, which do not count.
        ends_early: function from the history, a list of one dict per epoch, to bool: whether
            somebody else has seen enough of this training; None where nobody looks.
    """

    epochs: int = 0
    unfreeze_epoch: int = 0
    ends_early: Callable | None = None

    def is_exhausted(self, state):
        """bool, whether a `TrainingState` has gone too long without a better score."""
        if self.ends_early and state.history and self.ends_early(state.history):
            return True
        waited = state.epochs_without_improvement(self.unfreeze_epoch)
        return bool(self.epochs) and waited >= self.epochs
