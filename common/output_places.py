"""Where outputs go by default: one of the same data is replaced, one of other data is kept.

`.outputs.json` in the folder of the outputs says what each of them is about. One that is about
something else, or that it does not know, stays, and the new one gets a number: `audit-2`.
"""

import contextlib
import itertools
import json
import os
import re
from typing import NamedTuple

from common.console import say
from common.files import write_text

INDEX = ".outputs.json"  # name of the output -> its subject, the one written last at the end


class OutputPlace(NamedTuple):
    """Where an output goes.

    Attributes:
        path: str, the file or folder to write.
        subject: dict of str -> str, what the output is about.
        is_named: bool, whether the user has named the path.
    """

    path: str
    subject: dict
    is_named: bool = False

    def record(self):
        """Writes down what the output is about, once it is written."""
        folder, name = os.path.split(os.path.normpath(self.path))
        records = _read(folder)
        if self.is_named and name not in records:
            return
        records.pop(name, None)
        records[name] = self.subject
        # Where it cannot be written, the output counts as unknown: nothing will replace it.
        with contextlib.suppress(OSError):
            text = json.dumps(records, indent=1)  # ASCII: names may be no UTF-8
            write_text(os.path.join(folder, INDEX), text + "\n")


def choose(default_path, named_path=None, **subject):
    """Chooses where an output goes; a line says so where it is not the default.

    Args:
        default_path: str, the file or folder to write where the user names none.
        named_path: str, the one that the user has named, or None.
        **subject: str, path of a file or folder or another text, or None: what the output is
            about.

    Returns:
        `OutputPlace`.

    Example:

    ```python
    place = choose("audit", source="photos")
    write_pages(place.path)
    place.record()
    ```
    """
    subject = {
        name: os.path.realpath(value) if os.path.exists(value) else value
        for name, value in subject.items()
        if value
    }
    if named_path is not None:
        return OutputPlace(named_path, subject, True)
    folder, name = os.path.split(os.path.normpath(default_path))
    records, (stem, ending) = _read(folder), os.path.splitext(name)
    for number in itertools.count(1):
        numbered = name if number == 1 else f"{stem}-{number}{ending}"
        path = os.path.join(folder, numbered)
        if not os.path.lexists(path) or records.get(numbered) == subject:
            break
    if numbered != name:
        known = records.get(name)
        owner = f"is about {describe(known)}" if known else "may be about other data"
        say(f"note: {os.path.join(folder, name)} {owner} and stays; this one is {path}")
    return OutputPlace(path, subject)


def choose_target(options, **subject):
    """Chooses where an output goes whose place is the option --target, with a default.

    Args:
        options: the options of a mode.
        **subject: as of `choose`.

    Returns:
        `OutputPlace`.
    """
    named_path = options.target if "target" in options.given else None
    return choose(options.target, named_path, **subject)


def latest(default_path, **subject):
    """The output of a kind that was written last.

    Args:
        default_path: str, the default of `choose`.
        **subject: str, what it has to be about; nothing for any output.

    Returns:
        `OutputPlace`; its subject is empty where it is not known.
    """
    folder, name = os.path.split(default_path)
    stem, ending = map(re.escape, os.path.splitext(name))
    wanted = {key: os.path.realpath(value) for key, value in subject.items()}
    for other, known in reversed(_read(folder).items()):
        path = os.path.join(folder, other)
        if re.fullmatch(rf"{stem}(-\d+)?{ending}", other) and os.path.lexists(path):
            if wanted.items() <= known.items():
                return OutputPlace(path, known)
    return OutputPlace(default_path, {})


def describe(subject):
    """What an output is about, for a message.

    Args:
        subject: dict of str -> str.

    Example:
        >>> describe({"data": "/home/me/photos", "part": "test"})
        'data /home/me/photos, part test'
    """
    return ", ".join(f"{name} {value}" for name, value in subject.items())


def _read(folder):
    """What the index of a folder says; nothing where it is missing or damaged."""
    try:
        with open(os.path.join(folder, INDEX), encoding="utf-8") as json_file:
            records = json.load(json_file)
    except (OSError, ValueError, RecursionError):
        return {}
    return records if isinstance(records, dict) else {}
