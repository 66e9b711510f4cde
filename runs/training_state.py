"""What a training knows beside its weights, kept in every checkpoint."""

import dataclasses

from runs.results import score


@dataclasses.dataclass
class TrainingState:
    """How far a training is, and how it went.

    Attributes:
        data: str, fingerprint of the data set; resuming needs the same one.
        history: list of dict, one row of results.csv per complete epoch.
        best_number: int, number of the best epoch, from 1; 0 before the first is complete.
        seconds: float, time of training up to the last checkpoint.
        lr_reductions: int, how often the learning rate was halved because the loss was NaN.
        undecodable: for the training's and the validation's images one list of
            (position, file, reason, code), one entry per image that cannot be decoded.

    Example:
        >>> state = TrainingState(data="4f1c", history=[{"val_accuracy": 0.5, "val_loss": 1.2}])
        >>> TrainingState.from_json(state.to_json()) == state
        True
    """

    data: str = ""
    history: list = dataclasses.field(default_factory=list)
    best_number: int = 0
    seconds: float = 0.0
    lr_reductions: int = 0
    undecodable: list = dataclasses.field(default_factory=list)

    # Attribute -> key in a checkpoint, where they differ: checkpoints outlive names.
    JSON_KEYS = {"best_number": "best_epoch", "lr_reductions": "halvings", "undecodable": "bad"}

    def to_json(self):
        """dict of the attributes, as JSON can hold it, under the keys that checkpoints have."""
        return {
            self.JSON_KEYS.get(field.name, field.name): getattr(self, field.name)
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_json(cls, values):
        """The state that a checkpoint holds.

        Args:
            values: dict, what `to_json` gave; attributes that are missing have their defaults.
        """
        attributes = {}
        for field in dataclasses.fields(cls):
            key = cls.JSON_KEYS.get(field.name, field.name)
            if key in values:
                attributes[field.name] = values[key]
        return cls(**attributes)

    @property
    def best_row(self):
        """dict, the results of the best epoch."""
        return self.history[self.best_number - 1]

    def add_epoch(self, row):
        """Adds the results of an epoch and ranks it: higher accuracy first, then lower loss.

        Args:
            row: dict with the columns of results.csv.
        """
        self.history.append(row)
        if self.best_number == 0 or score(row) > score(self.best_row):
            self.best_number = len(self.history)

    def epochs_without_improvement(self, unfreeze_epoch=0):
        """int, epochs since the best one.

        Args:
            unfreeze_epoch: int, epochs before which a frozen backbone was not expected to
                improve; they do not count.
        """
        return len(self.history) - max(self.best_number, unfreeze_epoch)
