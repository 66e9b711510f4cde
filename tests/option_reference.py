"""Writes what follows from the table of options: `python -m tests.option_reference`.

That is docs/options.md, and config/mode_options.py, a class of values per mode.
"""

import os

from config.modes import _COMMON, MODES, mode_options
from config.parser import allowed_text, default_text

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENT = os.path.join(ROOT, "docs", "options.md")
CLASSES = os.path.join(ROOT, "config", "mode_options.py")
HEAD = """# Options

Every option of every mode, as `python run.py --mode MODE --help` lists them. Written by
`python -m tests.option_reference` from `config/option_table.py` and `config/modes.py`; a test
compares them.

All modes take `--json` (print one line of JSON), `--config FILE.yaml` (options from a file, one per
line) and `--debug` (print the traceback of an error).
"""
CLASSES_HEAD = '''"""The options of each mode as a class, whose fields an editor completes.

`parser.parse` returns these values. They are frozen; `_replace`, `_asdict` and `_fields` work as
for every named tuple. `config/options.py` says what an option does. Written by
`python -m tests.option_reference`; a test compares the classes with the table of options.
"""

from typing import Literal, NamedTuple
'''


def text():
    """The document."""
    parts = [HEAD]
    for name, mode in MODES.items():
        if mode.hidden:
            continue
        parts.append(f"## {name}\n\n{mode.summary[0].upper()}{mode.summary[1:]}.\n")
        rows = [row(option, option.name in mode.required) for option in mode_options(name)
                if option.name not in _COMMON]
        if rows:
            head = "| option | takes | default | what it does |\n| --- | --- | --- | --- |\n"
            parts.append(head + "\n".join(rows) + "\n")
    return "\n".join(parts)


def row(option, required):
    """A line of a table."""
    takes = allowed_text(option) if option.type.allowed_in_help else option.type.metavar
    cells = (f"`--{option.name}`", takes, default_text(option, required), option.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def class_name(mode):
    """TrainOptions for train, SavePbOptions for save_pb."""
    return "".join(part.capitalize() for part in mode.split("_")) + "Options"


def field(option, required):
    """A line of a class: the option and the type of its value, laid out as `ruff format` does."""
    value_type = f"tuple[{option.type.annotation}, ...]" if option.many else option.type.annotation
    if option.usually_one:
        value_type = f"{option.type.annotation} | {value_type}"
    optional = "" if required or option.default is not None else " | None"
    line = f"    {option.name}: {value_type}{optional}\n"
    if len(line) > 101:
        line = line.replace("[", "[\n        ").replace("]", "\n    ]")
    return line


def classes():
    """The module with the classes."""
    parts = [CLASSES_HEAD]
    for name, mode in MODES.items():
        fields = [field(option, option.name in mode.required) for option in mode_options(name)]
        parts.append(f'\n\nclass {class_name(name)}(NamedTuple):\n'
                     f'    """`--mode {name}`: {mode.summary}."""\n\n'
                     f'{"".join(fields)}    given: frozenset[str]\n')
    table = "".join(f'    "{name}": {class_name(name)},\n' for name in MODES)
    return "".join(parts) + f"\n\nOPTION_CLASSES = {{\n{table}}}  # mode -> its class\n"


if __name__ == "__main__":
    for path, content in ((DOCUMENT, text()), (CLASSES, classes())):
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
