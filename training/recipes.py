"""What `train` does where nobody says otherwise: the recipe that fits weights and photos.

`benchmarks/transfer.py` measured the one for pretrained weights on photos; docs/benchmarks.md
has the figures, and those of the one from scratch.
"""

from typing import Any, NamedTuple

from compute.device_names import uses_several_devices
from training.stages import count_frozen_epochs

SOLVABLE_POOLING = ("avg", "max")  # whose features are few enough to solve a head on
MOST_SOLVED_PHOTOS = 20_000  # their features and mirrored ones take 0.2 GB
IMAGES_TO_SEE = 5_000  # in fine-tuning, where that makes a number of epochs within the limits
FEWEST_EPOCHS, MOST_EPOCHS = 5, 30


class Recipe(NamedTuple):
    """Values for the options of `--mode train` that were not given.

    Attributes:
        name: str, "fine_tuning", "solved" or "scratch".
        settings: dict of option name -> value.
    """

    name: str
    settings: dict[str, Any]


def choose(options, photo_count=None):
    """The recipe that --recipe asks for, or that fits.

    Args:
        options: the options of `--mode train`.
        photo_count: int, photos to train on; None where they have not been counted yet.

    Returns:
        `Recipe`.

    Example:
        >>> choose(options, photo_count=400).name  # --weights imagenet
        'fine_tuning'
    """
    name = options.recipe
    if name == "auto":
        name = "scratch" if options.weights == "none" else "fine_tuning"
        name = "solved" if options.head else name
    return Recipe(name, SETTINGS[name](options, photo_count))


def _scratch(options, photo_count):
    return {
        "epochs": 30,
        "layer_decay": 1.0,
        "linear_head": False,
        "freeze_batchnorm": False,
        "drop_connect": 0.2,
        "select": "best",
    }


def _fine_tuning(options, photo_count):
    solves_head = can_solve_head(options) and (photo_count or 0) <= MOST_SOLVED_PHOTOS
    tuned_epochs = round(IMAGES_TO_SEE / max(1, photo_count or IMAGES_TO_SEE))
    tuned_epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, tuned_epochs))
    return {
        "epochs": max(options.freeze_epochs, int(solves_head)) + tuned_epochs,
        "layer_decay": 0.8,
        "linear_head": solves_head,
        "freeze_batchnorm": True,
        "drop_connect": 0.0,
        "select": "best" if options.patience else "last",
    }


def _solved(options, photo_count):
    places = (photo_count or 0) * (2 if options.horizontal_flip else 1)
    has_places = options.head == "neighbours"
    return {
        "head": "linear",
        "neighbour_count": min(places, MOST_SOLVED_PHOTOS) if has_places else None,
        "dropout": 0.0,
        "epochs": 1,
        "layer_decay": 1.0,
        "linear_head": True,
        "freeze_batchnorm": True,
        "drop_connect": 0.0,
        "select": "best",
    }


SETTINGS = {"fine_tuning": _fine_tuning, "solved": _solved, "scratch": _scratch}


def can_solve_head(options):
    """bool, whether the head can be solved instead of trained.

    Nothing between backbone and head may have weights of its own, and one device has to see the
    features of all images.

    Args:
        options: the options of `--mode train`.
    """
    return (
        options.attention == "none"
        and options.pooling in SOLVABLE_POOLING
        and not uses_several_devices(options)
    )


def describe(options, photo_count):
    """str, what a training does and why, in one line.

    Args:
        options: the resolved options of `--mode train`.
        photo_count: int, photos to train on.
    """
    frozen_epochs = count_frozen_epochs(options)
    parts = []
    if options.linear_head:
        parts.append("the head is solved on the features of the frozen backbone")
    if options.freeze_epochs > int(bool(options.linear_head)):
        parts.append(f"the head learns until epoch {options.freeze_epochs}")
    if options.epochs > frozen_epochs:
        parts.append(f"all layers learn until epoch {options.epochs}")
    return (
        f"recipe {options.recipe} ({photo_count:,} images, weights {options.weights}): "
        f"{', then '.join(parts)}"
    )


def apply(options, recipe):
    """The options with a recipe's values for those that were not given.

    Args:
        options: the options of `--mode train`.
        recipe: `Recipe`.
    """
    settings = {
        name: value
        for name, value in recipe.settings.items()
        if name not in options.given or getattr(options, name) is None
    }
    return options._replace(**settings, recipe=recipe.name)
