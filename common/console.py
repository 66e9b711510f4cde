"""What is written to the terminal."""

import sys


def say(line):
    """A line for the person at the terminal; standard output is for results."""
    print(line, file=sys.stderr, flush=True)
