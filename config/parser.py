"""Reads and checks options: the defaults, a YAML file, the command line.

`parse(mode, argv)` returns one frozen value. Precedence, from low to high: the defaults of
`config/option_table.py`, the YAML file that --config names, the command line. Values from the
file and from the command line pass the same checks. Only the standard library is imported at the
top, so that `--help` stays fast.
"""

import argparse

from common.errors import InputError, nearest
from config.mode_options import OPTION_CLASSES
from config.modes import MODES, mode_options
from config.option_names import resolve, suggest
from config.value_types import YES_NO
from config.yaml_files import read_yaml


def parse(mode, argv, prog="run.py"):
    """Turns the arguments of one mode into a frozen value.

    Args:
        mode: str, a key of `MODES`.
        argv: list of str, the arguments without `--mode X`.
        prog: str, the name of the program in the help.

    Returns:
        The class of `config/mode_options.py` for the mode, `TrainOptions` for "train": a named
        tuple with a field per option and `given`, the frozenset of the options that the
        command line or the file sets.

    Raises:
        InputError: an unknown option or key, or a value that is not allowed.
        SystemExit: after printing the help.

    Example:
        >>> parse("train", ["--epochs", "5"]).epochs
        5
    """
    known_options = {option.name: option for option in mode_options(mode)}
    raw_values = _read_command_line(mode, known_options, argv, prog)
    sources = dict.fromkeys(raw_values, "--")
    yaml_path = raw_values.get("config")
    if yaml_path is not None:
        yaml_values = _check_keys(read_yaml(yaml_path), mode, known_options, yaml_path)
        for name, value in yaml_values.items():
            if name not in raw_values:
                raw_values[name], sources[name] = value, f"{yaml_path}: "
    return _convert_all(mode, known_options, raw_values, sources)


def from_mapping(mode, values, source):
    """The options of a mode from a mapping, checked like a YAML file.

    Args:
        mode: str, a key of `MODES`.
        values: dict of option name -> value; None stands for the default.
        source: str, what error messages call the mapping: the path of its file.

    Returns:
        The same as `parse`.

    Raises:
        InputError: an unknown key, or a value that is not allowed.
    """
    known_options = {option.name: option for option in mode_options(mode)}
    raw_values = _check_keys(values, mode, known_options, source)
    return _convert_all(mode, known_options, raw_values, dict.fromkeys(raw_values, f"{source}: "))


def _convert_all(mode, known_options, raw_values, sources):
    values = {name: option.default for name, option in known_options.items()}
    for name, raw_value in raw_values.items():
        values[name] = _convert(known_options[name], raw_value, sources[name])
    for name in MODES[mode].required:
        if values[name] is None:
            raise InputError(
                f"--{name} is missing: --mode {mode} needs {known_options[name].type.allowed}"
            )
    return OPTION_CLASSES[mode](**values, given=frozenset(raw_values))


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(message)


def _read_command_line(mode, known_options, argv, prog):
    """dict of option name -> str, or list of str, as typed; prints the help on --help."""
    argv = [_with_own_name(word, known_options) for word in argv]
    parsed, unknown_words = _make_parser(mode, known_options, prog).parse_known_args(argv)
    raw_values = vars(parsed)
    if not unknown_words:
        return raw_values
    positional = MODES[mode].positional
    only_values = not any(word.startswith("-") for word in unknown_words)
    if positional and positional not in raw_values and only_values:
        return {**raw_values, positional: unknown_words}
    word = next((word for word in unknown_words if word.startswith("-")), unknown_words[0])
    if not word.startswith("-"):
        raise InputError(
            f"{word!r} has no option before it; --mode {mode} takes values as --NAME VALUE"
        )
    suggestion = suggest(word.lstrip("-").split("=")[0], known_options)
    raise InputError(
        f"{word} is not an option of --mode {mode}{suggestion or '; --help lists them'}"
    )


def _with_own_name(word, known_options):
    """`--train-data` as `--train_data`, and `--data` where a mode calls it otherwise."""
    name, equals, value = word.partition("=")
    option_name = resolve(name[2:], known_options) if name.startswith("--") else None
    return f"--{option_name}{equals}{value}" if option_name else word


def _make_parser(mode, known_options, prog):
    parser = _Parser(
        prog=f"{prog} --mode {mode}",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=100),
        usage=f"{prog} --mode {mode} [options]",
    )
    argument_groups = {}
    for option in known_options.values():
        if option.group not in argument_groups:
            argument_groups[option.group] = parser.add_argument_group(option.group)
        nargs_settings = {}
        if option.many:
            nargs_settings = {"nargs": "+"}
        elif option.type is YES_NO:
            nargs_settings = {"nargs": "?", "const": "yes"}
        argument_groups[option.group].add_argument(
            f"--{option.name}",
            default=argparse.SUPPRESS,
            metavar=option.type.metavar,
            help=_help_text(option, option.name in MODES[mode].required),
            **nargs_settings,
        )
    return parser


def _help_text(option, required):
    allowed = allowed_text(option) if option.type.allowed_in_help else ""
    default = default_text(option, required)
    if default and not required:
        default = f"default: {default}"
    notes = "; ".join(note for note in (allowed, default) if note)
    return (f"{option.help} [{notes}]" if notes else option.help).replace("%", "%%")


def allowed_text(option):
    """The allowed values of an option in words, with the unit.

    Args:
        option: `Option`.

    Returns:
        str, such as "a whole number from 1 to 100000 (epochs)".
    """
    return f"{option.type.allowed} ({option.unit})" if option.unit else option.type.allowed


def default_text(option, required):
    """The default of an option in words.

    Args:
        option: `Option`.
        required: bool, whether the mode does not run without the option.

    Returns:
        str, "required" where there is no default to use, "" where there is nothing to say.
    """
    if required:
        return "required"
    if option.default_text or option.default is None:
        return option.default_text
    return show(option.default)


def show(value):
    """A value as users type it on the command line.

    Args:
        value: a value of any option, except None.

    Returns:
        str.

    Example:
        >>> show((255, 255, 255))
        '255,255,255'
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _convert(option, raw_value, source):
    if option.many and isinstance(raw_value, list):
        values = tuple(_convert(option, item, source) for item in raw_value)
        return values[0] if option.usually_one and len(values) == 1 else values
    try:
        text = str(raw_value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        text = "a number with too many digits"
    try:
        return option.type.convert(text)
    except (ValueError, KeyError, OverflowError):
        suggestion = nearest(text, option.type.choices) if option.type.choices else ""
        raise InputError(
            f"{source}{option.name}: {text!r} is not allowed: it takes {option.type.allowed}"
            f"{suggestion}"
        ) from None


def _check_keys(mapping, mode, known_options, path):
    """dict of option name -> what `_convert` takes; refuses an unknown key."""
    raw_values = {}
    for name, value in mapping.items():
        if name not in known_options or name == "config":
            suggestion = nearest(str(name), known_options)
            raise InputError(f"{path}: {name!r} is not an option of --mode {mode}{suggestion}")
        if value is None:
            continue
        if isinstance(value, dict):
            raise InputError(
                f"{path}: {name}: takes {known_options[name].type.allowed}, not a mapping"
            )
        if known_options[name].many:
            value = value if isinstance(value, list) else [value]
            if any(item is None or isinstance(item, (list, dict)) for item in value):
                raise InputError(f"{path}: {name}: takes a value or a list of values, not {value}")
        elif isinstance(value, (list, tuple)):
            try:
                value = ",".join(map(str, value))
            except ValueError:  # an integer of more digits than Python prints
                raise InputError(f"{path}: {name}: has a number with too many digits") from None
        raw_values[name] = value
    return raw_values
