"""Which language a page speaks: what was asked for, what the browser prefers, or the system's."""

import locale
import os

LANGUAGES = ("en", "zh")
DEFAULT = "en"
TAGS = {"en": "en", "zh": "zh-CN"}  # for the `lang` attribute: a browser chooses its font by it


def choose_language(option=None, accept_language=None):
    """Chooses the language of a page.

    Args:
        option: str, the value of `--lang`, or None where it was not given.
        accept_language: str, the header of a browser's request, or None for a page in a file.

    Returns:
        str, one of `LANGUAGES`: the option; else what the browser prefers; without a browser, the
        language of the system.

    Example:
        >>> choose_language("zh")
        'zh'
        >>> choose_language(accept_language="de, zh-CN;q=0.8, en;q=0.5")
        'zh'
    """
    if option:
        return option
    return system_language() if accept_language is None else browser_language(accept_language)


def browser_language(accept_language):
    """The language that a browser prefers (RFC 9110, section 12.5.4).

    Args:
        accept_language: str, the value of the header Accept-Language.

    Returns:
        str, one of `LANGUAGES`; `DEFAULT` where none of them is acceptable.

    Example:
        >>> browser_language("en;q=0.7, zh;q=0.9")
        'zh'
    """
    weighted_languages = []
    for entry in accept_language.split(","):
        tag, *parameters = (part.strip() for part in entry.split(";"))
        language = DEFAULT if tag == "*" else tag.lower().split("-")[0]
        weight = _weight(parameters)
        if language in LANGUAGES and weight > 0:
            weighted_languages.append((weight, language))
    # max takes the first of those with the same weight, as the header has them.
    return max(weighted_languages, key=lambda pair: pair[0], default=(0, DEFAULT))[1]


def _weight(parameters):
    """The q of an entry, 1 where there is none, 0 where it is not a number."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0
    return 1


def system_language(environment=os.environ):
    """The language of this system: of LC_ALL, LC_MESSAGES or LANG, or Windows's own.

    Args:
        environment: mapping of str, environment variables.

    Returns:
        str, one of `LANGUAGES`.

    Example:
        >>> system_language({"LANG": "zh_CN.UTF-8"})
        'zh'
    """
    names = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    name = next(filter(None, names), None)
    if name is None and os.name == "nt":
        name = locale.getlocale()[0]  # such as "Chinese (Simplified)_China"
    return "zh" if (name or "").lower().startswith(("zh", "chinese")) else DEFAULT
