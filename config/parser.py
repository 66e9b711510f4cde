"""Options read and checked: the defaults, a YAML file, the command line.

`parse(mode, argv)` gives one frozen value. Precedence: the defaults of `option_table`, then
the YAML file named by --config, then the command line. Values of the file and of
the command line pass the same checks. Only the standard library is imported at
the top, so that `--help` stays fast.
"""

import argparse
import collections

from common.errors import InputError
from config.options import MODES, OPTIONS
from config.value_types import (
    ADDRESS,
    BACKBONE,
    FOLDER,
    HOST,
    PATH,
    RUN,
    RUN_NAME,
    SCORE_NAME,
    WEIGHTS,
    YES_NO,
)

# Kinds whose help needs no list of what is allowed: the metavariable or the text tells it
UNTOLD = (ADDRESS, BACKBONE, HOST, PATH, FOLDER, RUN, RUN_NAME, SCORE_NAME, WEIGHTS, YES_NO)
MAX_LEVELS = 10  # of brackets in a YAML file; options have two


def nearest(word, known):
    """`; did you mean X?` for the name nearest to `word`, or nothing."""
    import difflib  # only an error needs it

    lower = {name.lower(): name for name in known}
    match = difflib.get_close_matches(word.lower(), lower, 1, 0.5)
    return f"; did you mean {lower[match[0]]}?" if match else ""


def mode_options(mode):
    """The options of `mode`, with what this mode changes about them."""
    changed = MODES[mode].changed
    return [OPTIONS[name]._replace(**changed.get(name, {})) for name in MODES[mode].options]


def parse(mode, argv, prog="run.py"):
    """Turns the arguments of one mode into a frozen value.

    Args:
        mode: a key of `MODES`.
        argv: list of str, the arguments without `--mode X`.
        prog: name shown in the help.

    Returns:
        A named tuple with a field for each option of the mode and `given`, a
        frozenset of the options that the file or the command line set.

    Raises:
        InputError: an unknown option or key, or a value that is not allowed.
        SystemExit: after printing the help.
    """
    known = {option.name: option for option in mode_options(mode)}
    texts = _command_line(mode, known, argv, prog)
    sources = dict.fromkeys(texts, "--")
    config = texts.get("config")
    if config is not None:
        for name, value in _check_keys(read_yaml(config), mode, known, config).items():
            if name not in texts:
                texts[name], sources[name] = value, f"{config}: "
    return _finish(mode, known, texts, sources)


def from_mapping(mode, values, source):
    """The options of `mode` from a mapping, checked as a configuration file is.

    Args:
        mode: a key of `MODES`.
        values: dict of option name -> value; None stands for the default.
        source: what errors call the mapping, a path.
    """
    known = {option.name: option for option in mode_options(mode)}
    texts = _check_keys(values, mode, known, source)
    return _finish(mode, known, texts, dict.fromkeys(texts, f"{source}: "))


def _finish(mode, known, texts, sources):
    values = {name: option.default for name, option in known.items()}
    for name, text in texts.items():
        values[name] = _convert(known[name], text, sources[name])
    for name in MODES[mode].required:
        if values[name] is None:
            raise InputError(f"--{name} is missing: --mode {mode} needs {known[name].kind.allowed}")
    fields = collections.namedtuple("Options", [*values, "given"])
    return fields(**values, given=frozenset(texts))


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(message)


def _command_line(mode, known, argv, prog):
    parser = _Parser(
        prog=f"{prog} --mode {mode}",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=100),
        usage=f"{prog} --mode {mode} [options]",
    )
    groups = {}
    for option in known.values():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        extra = {}
        if option.many:
            extra = {"nargs": "+"}
        elif option.kind is YES_NO:
            extra = {"nargs": "?", "const": "yes"}
        groups[option.group].add_argument(
            f"--{option.name}",
            default=argparse.SUPPRESS,
            metavar=option.kind.metavar,
            help=_help(option, option.name in MODES[mode].required),
            **extra,
        )
    found, unknown = parser.parse_known_args(argv)
    found = vars(found)
    alone = MODES[mode].words
    if alone and alone not in found and unknown and not any(w.startswith("-") for w in unknown):
        return {**found, alone: unknown}
    for word in unknown:
        if word.startswith("-"):
            name = word.lstrip("-").split("=")[0]
            raise InputError(
                f"{word} is not an option of --mode {mode}"
                + (nearest(name, known).replace("mean ", "mean --") or "; --help lists them")
            )
        raise InputError(f"{word!r} stands alone, without an option before it")
    return found


def _help(option, required):
    allowed = option.kind.allowed
    if option.kind in UNTOLD:
        allowed = ""
    if required:
        default = "required"
    elif option.shown:
        default = f"default: {option.shown}"
    elif option.default is None:
        default = ""
    else:
        default = f"default: {show(option.default)}"
    notes = "; ".join(part for part in (allowed, default) if part)
    return (f"{option.help} [{notes}]" if notes else option.help).replace("%", "%%")


def show(value):
    """A value as one would write it on the command line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _convert(option, text, source):
    if option.many and isinstance(text, list):
        return tuple(_convert(option, part, source) for part in text)
    try:
        text = str(text)
    except ValueError:  # Python writes out no integer of thousands of digits
        text = "a number too long to be shown"
    try:
        return option.kind.convert(text)
    except (ValueError, KeyError, OverflowError):
        close = ""
        if option.kind.allowed.startswith("one of "):
            close = nearest(text, option.kind.allowed[7:].split(", "))
        raise InputError(
            f"{source}{option.name}: {text!r} is not allowed: it takes {option.kind.allowed}{close}"
        ) from None


def read_yaml(path):
    """A YAML file's mapping, or an InputError that names the file and the line."""
    import yaml  # 20 ms that --help does not need

    class Loader(yaml.SafeLoader):
        """Values stay the texts that the command line would take: `off`, `1.10` and `007`, too."""

        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in known if tag.endswith(":null")]
            for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
        level = 0
        for token in yaml.scan(text, yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):
                raise InputError(f"{path}: must not use aliases (*NAME); options are plain lines")
            if isinstance(token, yaml.ScalarToken):
                token.value.encode()  # half a character, which an escape may give, is no text
            level += token.id in ("[", "{", "<block mapping start>", "<block sequence start>")
            level -= token.id in ("]", "}", "<block end>")
            if level > MAX_LEVELS:  # the deeper, the longer PyYAML takes for each
                raise InputError(f"{path}: has more than {MAX_LEVELS} levels of brackets")
        values = yaml.load(text, Loader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    # PyYAML raises more than its own errors where a tag does not fit its value.
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "cannot be read"
        raise InputError(f"{path}{line}: is not YAML: {what}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: must hold lines such as 'epochs: 30', not a {type(values).__name__}"
        )
    return values


def _check_keys(found, mode, known, path):
    """The values of a mapping as `_convert` takes them; an unknown key is refused."""
    values = {}
    for name, value in found.items():
        if name not in known or name == "config":
            raise InputError(
                f"{path}: {name!r} is not an option of --mode {mode}{nearest(str(name), known)}"
            )
        if value is None:
            continue
        if isinstance(value, dict):
            raise InputError(f"{path}: {name}: takes {known[name].kind.allowed}, not a mapping")
        if known[name].many:
            value = value if isinstance(value, list) else [value]
            if any(part is None or isinstance(part, (list, dict)) for part in value):
                raise InputError(f"{path}: {name}: takes values or one list of them, not {value}")
        elif isinstance(value, (list, tuple)):
            try:
                value = ",".join(map(str, value))
            except ValueError:  # a number of more digits than Python writes
                raise InputError(f"{path}: {name}: has a number of too many digits") from None
        values[name] = value
    return values
