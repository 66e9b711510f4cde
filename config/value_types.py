"""Types of option values: how text becomes a value, and which values are allowed."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from common.file_names import is_portable
from modeling import backbones


@dataclasses.dataclass(frozen=True)
class OptionType:
    """The type of an option's value.

    Attributes:
        convert: function from str to the value; raises ValueError, KeyError or OverflowError
            where the text is not allowed.
        allowed: str, the allowed values in words, as error messages have them.
        metavar: str, the placeholder of the value in `--help`.
        choices: tuple of str, the allowed texts where they can be listed; else None.
        annotation: str, the Python type of the value in `config/mode_options.py`.
        allowed_in_help: bool, whether `--help` shows `allowed`; the metavar often says enough.
    """

    convert: Callable[[str], Any]
    allowed: str
    metavar: str
    choices: tuple[str, ...] | None = None
    annotation: str = "str"
    allowed_in_help: bool = True


def whole(low, high):
    """The type of a whole number.

    Args:
        low: int, the smallest allowed value.
        high: int, the largest allowed value.

    Returns:
        `OptionType` of an int.
    """

    def convert(text):
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return OptionType(convert, f"a whole number from {low} to {high}", "N", annotation="int")


def number(low, high, above=False, below=False):
    """The type of a finite number.

    Args:
        low: float, the lower end of the range.
        high: float, the upper end of the range.
        above: bool, whether `low` itself is excluded.
        below: bool, whether `high` itself is excluded.

    Returns:
        `OptionType` of a float.
    """

    def convert(text):
        value = float(text)
        high_enough = value > low if above else value >= low
        low_enough = value < high if below else value <= high
        if not (math.isfinite(value) and high_enough and low_enough):
            raise ValueError
        return value

    if above:
        allowed = f"a number above {low:g} and {'below' if below else 'at most'} {high:g}"
    else:
        allowed = f"a number from {low:g} to {'below ' if below else ''}{high:g}"
    return OptionType(convert, allowed, "X", annotation="float")


def choice(*choices):
    """The type of a name from a list.

    Args:
        choices: str, the allowed names.

    Returns:
        `OptionType` of a str.
    """

    def convert(text):
        if text not in choices:
            raise ValueError
        return text

    names = ", ".join(f'"{name}"' for name in choices)
    return OptionType(
        convert, "one of " + ", ".join(choices), "NAME", choices, annotation=f"Literal[{names}]"
    )


def some_of(*names):
    """The type of one or more different names, separated by commas.

    Args:
        names: str, the allowed names.

    Returns:
        `OptionType` of a tuple of str.
    """

    def convert(text):
        parts = text.strip("()[]").replace(" ", "").split(",")
        if len(set(parts)) < len(parts) or not set(parts) <= set(names):
            raise ValueError
        return tuple(parts)

    allowed = f"one or more of {', '.join(names)}, separated by commas"
    return OptionType(convert, allowed, "NAMES", annotation="tuple[str, ...]")


def _not_empty(text):
    if not text.strip() or "\0" in text:
        raise ValueError
    return text


YES_NO_VALUES = {
    "yes": True,
    "y": True,
    "true": True,
    "on": True,
    "no": False,
    "n": False,
    "false": False,
    "off": False,
}


def _yes_no(text):
    return YES_NO_VALUES[text.lower()]


def _color(text):
    channels = [int(part) for part in text.strip("()[]").split(",")]
    if len(channels) != 3 or not all(0 <= channel <= 255 for channel in channels):
        raise ValueError
    return tuple(channels)


def _fractions(text):
    fractions = [float(part) for part in text.strip("()[]").split(",")]
    sums_to_one = abs(sum(fractions) - 1) <= 1e-6  # False for NaN as well
    if len(fractions) not in (2, 3) or min(fractions) <= 0 or not sums_to_one:
        raise ValueError
    return tuple(fractions)


def _group_rule(text):
    kind, colon, detail = text.partition(":")
    if kind == "pattern":
        try:
            re.compile(detail)
        except re.error:
            raise ValueError from None
    if bool(colon) != (kind in ("pattern", "csv")) or (colon and not detail.strip()):
        raise ValueError
    if kind not in ("folder", "date", "camera", "pattern", "csv"):
        raise ValueError
    return text


def _folder_name(text):
    _not_empty(text)
    if text.startswith(".") or not is_portable(text):
        raise ValueError
    return text


def _normalization(text):
    """The path of a file, or the six numbers of such a file that a run keeps."""
    try:
        statistics = tuple(float(part) for part in text.strip("()[]").split(","))
    except ValueError:
        return _not_empty(text)
    deviations = statistics[3:]
    if len(statistics) != 6 or not all(map(math.isfinite, statistics)) or min(deviations) <= 0:
        raise ValueError
    return statistics


def _backbone(text):
    if text not in backbones.TABLE and text.removeprefix(backbones.HUB) in (text, ""):
        raise ValueError
    return text


def _names(text):
    names = tuple(text.strip("()[]").replace(" ", "").replace("-", "_").split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ValueError
    return names


def _storage(text):
    parts = urlsplit(text)
    if not parts.scheme or not text.startswith(f"{parts.scheme}://") or not text.isprintable():
        raise ValueError
    return text


def _devices(text):
    if text == "all":
        return text
    name_parts = [part.split(":") for part in text.lower().split(",")]
    device_types = {device_type for device_type, _ in name_parts}
    indices = [int(index) for _, index in name_parts]
    if device_types == {"cpu"} and len(name_parts) == 1 and 1 <= indices[0] <= 256:
        return f"cpu:{indices[0]}"
    if device_types != {"gpu"} or min(indices) < 0 or len(set(indices)) < len(indices):
        raise ValueError
    return ",".join(f"gpu:{index}" for index in sorted(indices))


def _address(text):
    host, _, port = text.rpartition(":")
    if not host.strip("[]") or not 1 <= int(port) <= 65535 or set(text) & set("/ \t"):
        raise ValueError
    return text


def _url(text):
    parts = urlsplit(text)  # ValueError for some
    has_host = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if not has_host or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError
    return text


def _host(text):
    if not text or set(text) & set("/ \t@\0"):
        raise ValueError
    return text


def _host_name(text):
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]", text):
        raise ValueError
    return text


def _origin(text):
    parts = urlsplit(_url(text))
    if parts.path or parts.username is not None:
        raise ValueError
    return text


PATH = OptionType(convert=_not_empty, allowed="a path", metavar="PATH", allowed_in_help=False)
FOLDER = OptionType(
    convert=_not_empty, allowed="the path of a folder", metavar="DIR", allowed_in_help=False
)
IMAGE_DATA = OptionType(
    convert=_not_empty,
    allowed="the path of a folder or of a CSV",
    metavar="PATH",
    allowed_in_help=False,
)
RUN = OptionType(
    convert=_not_empty,
    allowed="the name of a run in --save_dir, or the path of a run or exported model",
    metavar="RUN",
    allowed_in_help=False,
)
RUN_NAME = OptionType(
    convert=_folder_name,
    allowed='a folder name without any of / \\ : * ? " < > | and without a dot at its start or '
    "end, which Windows has not reserved, as it has con, nul and aux",
    metavar="NAME",
    allowed_in_help=False,
)
CLASS_NAME = OptionType(
    convert=_not_empty, allowed="the name of a class", metavar="NAME", allowed_in_help=False
)
SCORE_NAME = OptionType(
    convert=_folder_name, allowed="a short name such as test", metavar="NAME", allowed_in_help=False
)
YES_NO = OptionType(
    convert=_yes_no, allowed="yes or no", metavar="yes|no", annotation="bool", allowed_in_help=False
)
COLOR = OptionType(
    convert=_color,
    allowed="three whole numbers from 0 to 255: red,green,blue",
    metavar="R,G,B",
    annotation="tuple[int, int, int]",
)
NORMALIZATION = OptionType(
    convert=_normalization,
    allowed="a file written by --mode mean_std, or its six numbers: the means, then the standard "
    "deviations, of red, green and blue",
    metavar="FILE",
    annotation="str | tuple[float, ...]",
)
SPLIT = OptionType(
    convert=_fractions,
    allowed="two or three numbers above 0 that add up to 1, such as 0.8,0.1,0.1",
    metavar="X,X,X",
    annotation="tuple[float, ...]",
)
GROUP_RULE = OptionType(
    convert=_group_rule,
    allowed="folder, date, camera, pattern:REGEX with a regular expression of Python, or "
    "csv:COLUMN",
    metavar="RULE",
)
FORMATS = some_of("savedmodel", "onnx", "openvino", "litert", "web")
QUANTIZE = some_of("none", "fp16", "bf16", "int8")
DEVICES = OptionType(
    convert=_devices,
    allowed="all, GPUs by index such as gpu:0,gpu:1, or cpu:N to use the CPU as N devices",
    metavar="DEVICES",
)
HOST = OptionType(
    convert=_host,
    allowed="an address such as 127.0.0.1 or 0.0.0.0",
    metavar="HOST",
    allowed_in_help=False,
)
HOST_NAME = OptionType(
    convert=_host_name,
    allowed="a host name such as photos.example, without a port",
    metavar="NAME",
    allowed_in_help=False,
)
ORIGIN = OptionType(
    convert=_origin,
    allowed="the origin of a web page, such as https://photos.example, without a path",
    metavar="ORIGIN",
    allowed_in_help=False,
)
ADDRESS = OptionType(
    convert=_address, allowed="HOST:PORT", metavar="HOST:PORT", allowed_in_help=False
)
URL = OptionType(
    convert=_url,
    allowed="an address such as https://mirror.example/keras",
    metavar="URL",
    allowed_in_help=False,
)
OPTION_NAMES = OptionType(
    convert=_names,
    allowed="one or more names of options, separated by commas",
    metavar="NAMES",
    annotation="tuple[str, ...]",
    allowed_in_help=False,
)
STORAGE = OptionType(
    convert=_storage,
    allowed="an address such as postgresql://name@host/database, mysql://... or sqlite:///file.db",
    metavar="URL",
    allowed_in_help=False,
)
_BACKBONES = (*backbones.TABLE, backbones.HUB + "PRESET")
BACKBONE = OptionType(
    convert=_backbone,
    allowed="one of " + ", ".join(_BACKBONES),
    metavar="NAME",
    choices=_BACKBONES,
    allowed_in_help=False,
)
WEIGHTS = OptionType(
    convert=_not_empty,
    allowed="imagenet, none or the path of a weights file",
    metavar="imagenet|none|PATH",
    allowed_in_help=False,
)
