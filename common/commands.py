"""Commands as a person types them on this system, for messages that name the next one."""

import os
import shlex
import subprocess
import sys


def command_line(*words):
    """A command of `run.py` in one line, quoted as this system's shell wants it.

    Args:
        words: the words after `run.py`.

    Returns:
        str, which begins with the Python that runs now, as it is reached from the working folder.

    Example:
        >>> command_line("eval", "--data", "my photos")
        ".venv/bin/python run.py eval --data 'my photos'"
    """
    all_words = [python_command(), "run.py", *map(str, words)]
    return subprocess.list2cmdline(all_words) if os.name == "nt" else shlex.join(all_words)


def python_command():
    """str, this Python: its path from the working folder where it is below that, else its name."""
    working_folder = os.path.join(os.getcwd(), "")
    if sys.executable.startswith(working_folder):
        return sys.executable[len(working_folder) :]
    return "python" if os.name == "nt" else os.path.basename(sys.executable) or "python3"
