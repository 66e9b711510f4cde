"""What an option is: its type, default, unit, help, and what a run does with it.

The options are described once, by group, in `data_options.py`, `model_options.py`,
`training_options.py`, `run_options.py` and `server_options.py`; `option_table.py` has all of them.
`modes.py` says which mode has which options and what a mode changes about them;
`mode_options.py` has the values of a mode as a class.
"""

import dataclasses
from typing import Any

from config.value_types import OptionType

FOCAL_GAMMA = 2.0  # the best value in the paper: Lin et al. 2017, section 5.1


@dataclasses.dataclass(frozen=True)
class Search:
    """How `--mode tune` varies an option.

    Attributes:
        low, high: float or int, the ends of a range within the type's; None for choices.
        log: bool, whether factors count in the range, not differences.
        choices: tuple, the values to choose from; None are those of the option's type.

    Example:
        >>> Search(1e-5, 0.1, log=True)  # as likely from 1e-5 to 1e-4 as from 1e-2 to 0.1
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple | None = None


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of the command line and of YAML files.

    Attributes:
        name: str, as users type it after `--`.
        type: `OptionType`: how text becomes a value, and what is allowed.
        default: the value without the option; None where it depends on something else.
        help: str, what the option does, as `--help` prints it.
        group: str, the heading in `--help` under which the option is listed.
        unit: str, of a number: "epochs", "pixels", "fraction" ...; "" where there is none.
        default_text: str, the default in words where `default` does not say it; else "".
        many: bool, whether the option takes several values; the value is then a tuple.
        usually_one: bool, of several values: a single one is no tuple.
        saved: bool, whether a run keeps the value in its options.yaml.
        resumable: bool, whether `--resume` accepts another value than that of the run.
        search: `Search`, how `--mode tune` varies it; None where it does not.

    Example:
        >>> Option("epochs", whole(1, 100000), 30, "passes over the training data", "Training")
    """

    name: str
    type: OptionType
    default: Any
    help: str
    group: str
    unit: str = ""
    default_text: str = ""
    many: bool = False
    usually_one: bool = False
    saved: bool = False
    resumable: bool = False
    search: Search | None = None
