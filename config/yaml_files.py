"""Reads YAML files of options, whose values stay the text that users typed."""

from common.errors import InputError

MAX_LEVELS = 10  # of brackets; options need two


def read_yaml(path):
    """Reads a YAML file of options.

    Args:
        path: str, path of the file.

    Returns:
        dict of key -> str, list or None. Plain values stay the text that the command line
        would take: `off`, `1.10` and `007`, too.

    Raises:
        InputError: the file cannot be read or is not such YAML; names the file and the line.
    """
    import yaml  # 20 ms that --help does not need

    class Loader(yaml.SafeLoader):
        """Recognises null, and leaves every other plain value as text."""

        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith(":null")]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        with open(path, encoding="utf-8-sig") as yaml_file:
            yaml_text = yaml_file.read()
        _check_tokens(yaml, yaml_text, path)
        values = yaml.load(yaml_text, Loader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    # PyYAML raises more than its own errors where a tag does not fit its value.
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        mark = getattr(error, "problem_mark", None)
        line_number = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise InputError(f"{path}{line_number}: is not YAML: {problem}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: must contain lines such as 'epochs: 30', not a {type(values).__name__}"
        )
    return values


def _check_tokens(yaml, yaml_text, path):
    """Refuses what would make PyYAML take very long or return text that cannot be printed."""
    nesting_level = 0
    for token in yaml.scan(yaml_text, yaml.SafeLoader):
        if isinstance(token, yaml.AliasToken):
            raise InputError(f"{path}: must not use aliases (*NAME); write each value out")
        if isinstance(token, yaml.ScalarToken):
            token.value.encode()  # raises on half a surrogate pair, which an escape may give
        nesting_level += token.id in ("[", "{", "<block mapping start>", "<block sequence start>")
        nesting_level -= token.id in ("]", "}", "<block end>")
        if nesting_level > MAX_LEVELS:  # PyYAML takes longer with each level
            raise InputError(f"{path}: has more than {MAX_LEVELS} levels of brackets")
