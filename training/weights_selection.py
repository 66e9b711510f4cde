"""Which epoch's weights a finished training leaves as its model."""

from typing import NamedTuple

CONFIDENCE = 0.95  # two-sided


class WeightsSelection(NamedTuple):
    """Ranks the last epoch against the best one.

    A few dozen validation images cannot rank epochs: the best of many scores is high by chance,
    and at the end of a cosine schedule the last weights are as good or better
    (docs/benchmarks.md). So `last` takes the last epoch, unless an earlier one was better by
    more than chance explains.

    Attributes:
        select: str, "best" or "last".
        epochs: int, epochs of the whole training.
        images: int, validation images.

    Example:
        >>> selection = WeightsSelection("last", epochs=12, images=40)
        >>> selection.takes_last(best_accuracy=0.95, last_accuracy=0.90)
        True
        >>> selection.takes_last(best_accuracy=0.95, last_accuracy=0.80)
        False
    """

    select: str = "best"
    epochs: int = 0
    images: int = 0

    def takes_last(self, best_accuracy, last_accuracy):
        """bool, whether the last epoch replaces a better one.

        Args:
            best_accuracy: float, from 0 to 1, on the validation images.
            last_accuracy: float, from 0 to 1, on the same ones.
        """
        if self.select != "last" or not self.images:
            return False
        from scipy.stats import binomtest  # half a second, which --select best does not need

        hits = binomtest(round(best_accuracy * self.images), self.images)
        return bool(last_accuracy >= hits.proportion_ci(CONFIDENCE, method="wilson").low)

    def apply(self, state):
        """Makes the last epoch of a `TrainingState` its best one, where it is to be taken.

        Args:
            state: `TrainingState` to whose history the results of an epoch were just added.
        """
        if len(state.history) < self.epochs:
            return
        accuracies = state.best_row["val_accuracy"], state.history[-1]["val_accuracy"]
        if self.takes_last(*accuracies):
            state.best_number = len(state.history)
