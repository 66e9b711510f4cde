"""Which options a study searches, and between which values: from the option table itself.

An option says how it is searched (`config.options.Search`); choices and kinds of numbers come from
its type. The starting point always belongs to the space.
"""

from typing import Any, NamedTuple

from common.errors import InputError, nearest
from config.modes import AUGMENTATION
from config.option_table import OPTIONS
from config.parser import show
from config.value_types import YES_NO
from training.setup import resolve
from training.stages import count_frozen_epochs

# What is searched where --search does not say it, by recipe: few options, so that a dozen trials
# can tell something about them
DEFAULT_SEARCH = {
    "fine_tuning": (
        *("learning_rate", "layer_decay", "label_smoothing", "random_eraser", "randaugment"),
    ),
    "scratch": ("learning_rate", "weight_decay", "label_smoothing", "random_eraser", "rotation"),
    "solved": ("input_size", "pooling", "resize"),
}
HEAD_ALONE = ("learning_rate", "weight_decay", "label_smoothing", "dropout")


class Dimension(NamedTuple):
    """One option of a space.

    Attributes:
        low, high: float or int, both of which belong to it; None for choices.
        log: bool, whether factors count and not differences.
        choices: tuple, the values to choose from; None for a range.
        is_whole: bool, whether the values are whole numbers.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple | None = None
    is_whole: bool = False

    @property
    def extremes(self):
        """tuple, the values that may contradict other options: all choices, or the ends."""
        return self.choices or (self.low, self.high)


class Space(NamedTuple):
    """What a study searches, and where it begins.

    Attributes:
        dimensions: dict of option name -> `Dimension`.
        start: dict of option name -> value, what `--mode train` would do by itself.
    """

    dimensions: dict[str, Dimension]
    start: dict[str, Any]

    def as_json(self):
        """dict that JSON can represent, by which studies are told from each other."""
        return {name: list(dimension) for name, dimension in self.dimensions.items()}


def make_space(names, asked, photo_count):
    """The space of a study.

    Args:
        names: tuple of str, of `--search`; None chooses.
        asked: `TrainOptions`, as the command gives them, with data.
        photo_count: int, photos to train on, on which defaults depend.

    Returns:
        `Space`.

    Raises:
        InputError: an option is unknown or cannot be searched, or values contradict each other.

    Example:
        >>> make_space(("dropout",), parse("train", ["--weights", "none"]), 500).start
        {'dropout': 0.2}
    """
    resolved = resolve(asked, photo_count)
    names = names or default_names(resolved)
    for name in names:
        check_searchable(name)
    start = {name: getattr(resolved, name) for name in names}
    dimensions = {}
    for name in names:
        dimension = make_dimension(name, start[name])
        dimensions[name] = _keep_possible(name, dimension, start, asked, photo_count)
    return Space(dimensions, start)


def check_searchable(name):
    """Refuses the name of an option that cannot be searched.

    Args:
        name: str.

    Raises:
        InputError: names those that can.
    """
    searchable = [option.name for option in OPTIONS.values() if option.search]
    if name not in OPTIONS:
        raise InputError(
            f"--search: {name!r} is not an option{nearest(name, searchable)}; options that can be "
            f"searched: {', '.join(searchable)}"
        )
    if name not in searchable:
        raise InputError(
            f"--search: --{name} cannot be searched, only set; options that can be searched: "
            f"{', '.join(searchable)}"
        )


def default_names(resolved):
    """The options to search where nobody says which: those that matter and were not given.

    Args:
        resolved: `TrainOptions`, with every default filled in.

    Returns:
        tuple of str.

    Raises:
        InputError: all of them were given.
    """
    names = DEFAULT_SEARCH[resolved.recipe]
    if resolved.recipe != "solved" and count_frozen_epochs(resolved) >= resolved.epochs:
        names = HEAD_ALONE
    if resolved.cache_features:
        names = tuple(name for name in names if name not in AUGMENTATION)
    left = tuple(name for name in names if name not in resolved.given)
    if not left:
        raise InputError(
            f"--search: nothing is left to search, since {', '.join(names)} are given; name what "
            "to search"
        )
    return left


def make_dimension(name, start):
    """How an option is searched from a starting value on.

    Args:
        name: str, of an option that has a `Search`.
        start: its value at the starting point.

    Returns:
        `Dimension`, which holds the value; a logarithmic range cannot hold 0 and becomes linear.

    Example:
        >>> make_dimension("label_smoothing", 0.5)
        Dimension(low=0, high=0.5, log=False, choices=None, is_whole=False)
    """
    option = OPTIONS[name]
    search = option.search
    if search.low is None:
        choices = search.choices or option.type.choices
        choices = (False, True) if option.type is YES_NO else choices
        return Dimension(choices=choices if start in choices else (*choices, start))
    low, high = min(search.low, start), max(search.high, start)
    is_whole = option.type.annotation == "int"
    return Dimension(low, high, search.log and low > 0, is_whole=is_whole)


def with_values(asked, values):
    """The options of a training with the values of a trial.

    Args:
        asked: `TrainOptions`.
        values: dict of option name -> value.
    """
    return asked._replace(**values, given=asked.given | values.keys())


def _keep_possible(name, dimension, start, asked, photo_count):
    """A `Dimension` whose values do not contradict the other options, before a trial meets them.

    Choices that do are left out, as long as two are left; the ends of a range have to be possible.
    """
    problems = {}
    for value in dimension.extremes:
        try:
            resolve(with_values(asked, {**start, name: value}), photo_count)
        except InputError as error:
            problems[value] = error
    left = tuple(value for value in dimension.choices or () if value not in problems)
    if problems and len(left) < 2:
        value, error = next(iter(problems.items()))
        raise InputError(f"--search: {name} {show(value)} is not possible: {error}")
    return dimension._replace(choices=left) if dimension.choices else dimension


def describe(values):
    """str, the values of a trial in one line.

    Args:
        values: dict of option name -> value.

    Example:
        >>> describe({"learning_rate": 0.00123456, "pooling": "avg"})
        'learning_rate 0.001235, pooling avg'
    """
    return ", ".join(f"{name} {show_value(value)}" for name, value in values.items())


def show_value(value):
    """str, a value as people read it.

    Args:
        value: bool, int, float, str or tuple.
    """
    return f"{value:.4g}" if isinstance(value, float) else show(value)
