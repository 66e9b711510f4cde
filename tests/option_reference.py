"""Writes docs/options.md from the table of options: `python -m tests.option_reference`."""

import os

import run
from config.options import MODES
from config.parser import UNTOLD, mode_options, show

DOCUMENT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                        "docs", "options.md")
HEAD = """# Options

Every option of every mode, as `python run.py --mode MODE --help` lists them. Written by
`python -m tests.option_reference` from `parser.py`; a test keeps the two together.

All modes take `--json` (one line of JSON on standard output), `--config FILE.yaml` (options from a
file, a line each) and `--debug` (the traceback of an error).
"""


def text():
    """The document."""
    parts = [HEAD]
    for mode, (_, summary) in run.MODES.items():
        parts.append(f"## {mode}\n\n{summary[0].upper()}{summary[1:]}.\n")
        rows = [row(option, option.name in MODES[mode].required)
                for option in mode_options(mode) if option.group != "General"
                and option.name != "json"]
        if rows:
            head = "| option | takes | default | what it does |\n| --- | --- | --- | --- |\n"
            parts.append(head + "\n".join(rows) + "\n")
    return "\n".join(parts)


def row(option, required):
    """A line of a table."""
    takes = option.kind.metavar if option.kind in UNTOLD else option.kind.allowed
    default = "required" if required else option.shown or (
        "" if option.default is None else show(option.default))
    cells = (f"`--{option.name}`", takes or "", default, option.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(text())
