"""The terminal: results go to standard output, everything else to standard error."""

import json
import sys


def say(line):
    """Writes a line to standard error, for the person at the terminal.

    Args:
        line: str, without a line break at the end.
    """
    print(line, file=sys.stderr, flush=True)


def show(result, text, as_json):
    """Writes the result of a mode to standard output.

    Args:
        result: dict, list or number that JSON can represent; with `--json` it is the one line.
        text: function from `result` to str, for a person; called only without `--json`.
        as_json: bool, whether `--json` was given.

    Example:
        >>> show({"images": 3}, lambda result: f"{result['images']} images", as_json=True)
        {"images": 3}
    """
    print(json.dumps(result, ensure_ascii=False) if as_json else text(result))
