"""The texts of the pages, by language and key: the tables in `texts/`."""

import functools
import json
import os

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "texts")


@functools.cache
def read_table(language):
    """The table of a language.

    Args:
        language: str, one of `languages.LANGUAGES`.

    Returns:
        dict of key -> text. A text may have placeholders such as `{count}`, and HTML tags where
        only a template uses it.
    """
    with open(os.path.join(FOLDER, f"{language}.json"), encoding="utf-8") as file:
        return json.load(file)


def texts_of(language):
    """A function that looks texts up, for what is not a template: charts, warnings.

    Args:
        language: str, one of `languages.LANGUAGES`.

    Returns:
        function (key, **values) -> str, the values in the place of their placeholders.

    Example:
        >>> texts_of("en")("server.title")
        'Image classifier'
    """
    table = read_table(language)
    return lambda key, **values: table[key].format(**values)


def script_texts(language, prefix):
    """The texts that a page's script shows.

    Args:
        language: str, one of `languages.LANGUAGES`.
        prefix: str, such as "server.script.".

    Returns:
        dict of what follows the prefix -> text, its placeholders left for the script to fill in.
    """
    return {
        key.removeprefix(prefix): text
        for key, text in read_table(language).items()
        if key.startswith(prefix)
    }
