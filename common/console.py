"""The terminal: results go to standard output, everything else to standard error."""

import json
import sys


def say(line):
    """Writes a line for the person at the terminal to standard error.

    Args:
        line: str, without a line break at its end.
    """
    print(line, file=sys.stderr, flush=True)


def show(result, text, as_json):
    """Writes what a mode found to standard output.

    Args:
        result: what JSON can hold; the one line of `--json`.
        text: function from `result` to str, for a person; called only without `--json`.
        as_json: bool, whether `--json` was given.

    Example:
        >>> show({"images": 3}, lambda result: f"{result['images']} images", as_json=True)
        {"images": 3}
    """
    print(json.dumps(result, ensure_ascii=False) if as_json else text(result))
