"""Class names that are meant to be the same, and the order that a person expects."""

import re
import unicodedata
from collections import defaultdict

_DIGITS = re.compile(r"(\d+)")


def normalize(name):
    """The one spelling of a class name.

    macOS writes accents as letters of their own (NFD), most other systems do not (NFC): the same
    folder copied from one to the other gets another name that looks alike.

    Args:
        name: str, a class name or the path of its folder with "/" between folders.

    Returns:
        str, in Unicode's form NFC, without blanks around any part of the path.

    Example:
        >>> normalize("waste / glass ")
        'waste/glass'
    """
    return "/".join(part.strip() for part in unicodedata.normalize("NFC", name).split("/"))


def natural_key(name):
    """Sorts numbers in names by their value: "2" before "10".

    Args:
        name: str.

    Returns:
        A key for `sorted`.

    Example:
        >>> sorted(["c10", "c2", "b"], key=natural_key)
        ['b', 'c2', 'c10']
    """
    parts = _DIGITS.split(name)  # every second one is a number
    # The name itself decides between "1" and "01".
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def spelling_variants(names):
    """Groups of class names that differ only in Unicode form, upper and lower case, or blanks.

    Args:
        names: iterable of str.

    Returns:
        List of lists of str, the groups of more than one spelling, each sorted.

    Example:
        >>> spelling_variants(["Glass", "glass", "metal"])
        [['Glass', 'glass']]
    """
    spellings = defaultdict(set)
    for name in names:
        spellings[normalize(name).casefold()].add(name)
    return [sorted(group) for _, group in sorted(spellings.items()) if len(group) > 1]


def describe_variants(variants):
    """Says what becomes of names that differ only in spelling; upper and lower case count.

    Args:
        variants: list of str, one of the groups of `spelling_variants`.

    Returns:
        str.

    Example:
        >>> describe_variants(["Glass", "glass", "glass "])
        "'Glass', 'glass', 'glass ' are taken for 2 classes: 'Glass', 'glass'"
    """
    classes = sorted(set(map(normalize, variants)))
    taken_for = f"{len(classes)} classes" if len(classes) > 1 else "one class"
    return (
        f"{', '.join(map(repr, variants))} are taken for {taken_for}: "
        f"{', '.join(map(repr, classes))}"
    )
