"""What turns an option's text into a value, or says what is allowed."""

import collections
import math

from modeling import backbones


class Kind(collections.namedtuple("Kind", "convert allowed metavar")):
    """`convert(text)` gives the value or raises ValueError; `allowed` says what is."""


def whole(low, high):
    def convert(text):
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return Kind(convert, f"a whole number from {low} to {high}", "N")


def number(low, high, above=False, below=False):
    """A finite number; `above` and `below` leave the ends themselves out."""

    def convert(text):
        value = float(text)
        inside = (value > low if above else value >= low) and (
            value < high if below else value <= high
        )
        if not math.isfinite(value) or not inside:
            raise ValueError
        return value

    ends = f"{'above' if above else 'from'} {low:g} {'to below' if below else 'to'} {high:g}"
    return Kind(convert, f"a number {ends}", "X")


def choice(*values):
    def convert(text):
        if text not in values:
            raise ValueError
        return text

    return Kind(convert, "one of " + ", ".join(values), "NAME")


def _text(text):
    if not text.strip() or "\0" in text:
        raise ValueError
    return text


def _yes_no(text):
    return {
        "yes": True,
        "y": True,
        "true": True,
        "on": True,
        "no": False,
        "n": False,
        "false": False,
        "off": False,
    }[text.lower()]


def _color(text):
    parts = [int(part) for part in text.strip("()[]").split(",")]
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise ValueError
    return tuple(parts)


def _some_of(*values):
    """Names with commas between, each at most once."""

    def convert(text):
        parts = text.strip("()[]").replace(" ", "").split(",")
        if len(set(parts)) < len(parts) or not set(parts) <= set(values):
            raise ValueError
        return tuple(parts)

    return Kind(convert, f"some of {', '.join(values)}, with commas between", "NAMES")


def _shares(text):
    parts = [float(part) for part in text.strip("()[]").split(",")]
    if len(parts) not in (2, 3) or min(parts) <= 0 or not abs(sum(parts) - 1) <= 1e-6:  # nor nan
        raise ValueError
    return tuple(parts)


def _run_name(text):
    _text(text)
    if text.startswith(".") or any(letter in '/\\:*?"<>|' or letter < " " for letter in text):
        raise ValueError
    return text


def _normalization(text):
    """A path, or the six numbers that a run keeps of the file there."""
    parts = text.strip("()[]").split(",")
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        return _text(text)
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)) or min(numbers[3:]) <= 0:
        raise ValueError
    return numbers


def _backbone(text):
    if text not in backbones.TABLE and text.removeprefix(backbones.HUB) in (text, ""):
        raise ValueError
    return text


def _devices(text):
    if text == "all":
        return text
    parts = [part.split(":") for part in text.lower().split(",")]
    kinds, numbers = {kind for kind, _ in parts}, [int(number) for _, number in parts]
    if kinds == {"cpu"} and len(parts) == 1 and 1 <= numbers[0] <= 256:
        return f"cpu:{numbers[0]}"
    if kinds != {"gpu"} or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ValueError
    return ",".join(f"gpu:{number}" for number in sorted(numbers))


def _address(text):
    host, _, port = text.rpartition(":")
    if not host.strip("[]") or not 1 <= int(port) <= 65535 or set(text) & set("/ \t"):
        raise ValueError
    return text


def _host(text):
    if not text or set(text) & set("/ \t@\0"):
        raise ValueError
    return text


PATH = Kind(_text, "a path", "PATH")
FOLDER = Kind(_text, "a folder", "DIR")
RUN = Kind(_text, "a run's name below --save_dir, or the path of a run or exported model", "RUN")
RUN_NAME = Kind(_run_name, 'a folder name without any of / \\ : * ? " < > |', "NAME")
SCORE_NAME = Kind(_run_name, "a short name such as test", "NAME")
YES_NO = Kind(_yes_no, "yes or no", "yes|no")
COLOR = Kind(_color, "three whole numbers from 0 to 255: red,green,blue", "R,G,B")
NORMALIZATION = Kind(
    _normalization,
    "a file of --mode mean_std, or its six numbers: means and "
    "standard deviations of red, green and blue",
    "FILE",
)
SHARES = Kind(
    _shares, "two or three numbers above 0 that add up to 1, such as 0.8,0.1,0.1", "X,X,X"
)
FORMATS = _some_of("savedmodel", "onnx", "openvino", "litert")
QUANTIZE = _some_of("none", "fp16", "bf16", "int8")
DEVICES = Kind(
    _devices,
    "all, GPUs by number such as gpu:0,gpu:1, or cpu:N, the processor as N devices",
    "DEVICES",
)
HOST = Kind(_host, "an address such as 127.0.0.1 or 0.0.0.0", "HOST")
ADDRESS = Kind(_address, "HOST:PORT", "HOST:PORT")
BACKBONE = Kind(
    _backbone, "one of " + ", ".join([*backbones.TABLE, backbones.HUB + "PRESET"]), "NAME"
)
WEIGHTS = Kind(_text, "imagenet, none or the path of a weights file", "imagenet|none|PATH")
