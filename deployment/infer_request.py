"""The body of an inference request in the Open Inference Protocol: JSON or binary to images.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import base64
import itertools
import json
import math
import sys
import threading
import time
from typing import NamedTuple

import numpy as np

from deployment import binary_tensors
from deployment.batching import Overdue
from deployment.http_errors import Refused
from prediction.runtimes import INPUT, OUTPUT

PHOTOS = "image"  # the input of encoded photos; `INPUT` takes pixels
MAX_OBJECTS = 64  # in the JSON of a request, which needs one per tensor and one for parameters
MAX_TEXTS = 1024  # beside the photos: names, and what they name
# Seconds that a thread waits for one that parses. The loop waits so at each call of the system, of
# which it makes two per new connection: with Python's 5 ms it would stand still for a second.
PARSING_INTERVAL = 0.0001
# Python's objects take up to twelve times the bytes of the JSON: those of one body at a time.
_parsing = threading.Lock()
_PIXEL_VALUES = {str(value): value for value in range(256)}


class InferRequest(NamedTuple):
    """What the body of a request says.

    Attributes:
        id: str, or None where it has none.
        images: list of images: uint8 (S, S, 3), or bytes of a file.
        wants_binary: bool, whether its output is to be in binary form.
    """

    id: str | None
    images: list
    wants_binary: bool


def read_request(body, size, max_images, deadline, json_length=""):
    """Reads the body of `POST /v2/models/NAME/infer`.

    Args:
        body: memoryview of bytes.
        size: int, height and width in pixels of the model's images.
        max_images: int, maximum number of images.
        deadline: float, time to give up, on the clock of `time.monotonic`.
        json_length: str, the value of `binary_tensors.HEADER`; "" where the request has none.

    Returns:
        `InferRequest`.

    Raises:
        Refused: it is not such a request, or has too many images.
        Overdue: other bodies were read until the deadline.

    Example:
        >>> tensor = b'{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["SlBFRw=="]}'
        >>> body = memoryview(b'{"id": "7", "inputs": [' + tensor + b"]}")
        >>> read_request(body, 96, 16, time.monotonic() + 10).images
        [b'JPEG']
    """
    limits = {
        "{": (MAX_OBJECTS, "objects"),
        "[": (max_images * (size * size + size + 1) + MAX_OBJECTS, "lists"),
        '"': (2 * (max_images + MAX_TEXTS), "quotation marks"),
    }
    json_part, binary = binary_tensors.split_body(body, json_length)
    if not _parsing.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise Overdue
    switch_interval = sys.getswitchinterval()
    try:
        sys.setswitchinterval(PARSING_INTERVAL)
        document = _parse(json_part, limits)
        request_id = document.get("id")
        if not isinstance(request_id, str | None):
            raise _refusal(f"id: {_shown(request_id)} is not allowed; allowed is text")
        _check_outputs(document.get("outputs"))
        images = _read_images(document.get("inputs"), size, max_images, binary)
        return InferRequest(request_id, images, binary_tensors.wants_binary(document))
    finally:
        sys.setswitchinterval(switch_interval)
        _parsing.release()


def _parse(body, limits):
    """The JSON object of a body, counted before it is parsed: empty lists take most memory.

    Its numbers go through Python, which lets other threads run between them: in C alone, ten
    megabytes of them would stop the whole server for a second.
    """
    try:
        text = str(body, "utf-8")
        for character, (most, plural) in limits.items():
            if text.count(character) > most:
                raise _refusal(f"the body has more than {most:,} {plural}, which no request needs")
        document = json.loads(
            text, parse_int=_read_integer, parse_float=_read_float, parse_constant=_refuse_constant
        )
    except json.JSONDecodeError as error:
        raise _refusal(f"the body is not JSON: {error}") from None
    except (ValueError, RecursionError):  # not UTF-8, a number of 5,000 digits, too many levels
        raise _refusal("the body is not JSON in UTF-8 that can be read") from None
    if not isinstance(document, dict):
        raise _refusal(f"the body is {_shown(document)}; it has to be a JSON object with inputs")
    return document


def _read_integer(text):
    return _PIXEL_VALUES.get(text) or int(text)  # a large integer is an object of its own


def _read_float(text):
    return float(text)


def _refuse_constant(name):
    raise _refusal(f"the body has the number {name}, which is not JSON")


def _check_outputs(outputs):
    output_list = [] if outputs is None else outputs
    if not isinstance(output_list, list):
        raise _refusal(f"outputs: {_shown(outputs)} is not allowed; allowed is a list")
    for output in output_list:
        if not isinstance(output, dict) or output.get("name") != OUTPUT:
            shown_output = output.get("name") if isinstance(output, dict) else output
            raise _refusal(
                f"outputs: {_shown(shown_output)} is not allowed; allowed is an object with the "
                f"name {OUTPUT!r}"
            )


def _read_images(inputs, size, max_images, binary):
    """The images of the only input."""
    if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
        raise _refusal(f"inputs: has to be a list of one tensor, {INPUT!r} or {PHOTOS!r}")
    [tensor] = inputs
    tensor_name = tensor.get("name")
    if tensor_name not in (INPUT, PHOTOS):
        raise _refusal(
            f"inputs: name: {_shown(tensor_name)} is not allowed; allowed are {INPUT!r} and "
            f"{PHOTOS!r}"
        )
    datatype, item_shape = ("UINT8", [size, size, 3]) if tensor_name == INPUT else ("BYTES", [])
    if tensor.get("datatype") != datatype:
        raise _refusal(
            f"{tensor_name}: datatype: {_shown(tensor.get('datatype'))} is not allowed; allowed is "
            f"{datatype!r}"
        )
    shape = _check_shape(tensor_name, tensor.get("shape"), item_shape, max_images)
    if _is_binary(tensor_name, tensor.get("parameters")):
        return binary_tensors.read_tensor(tensor, shape, binary)
    if binary:
        raise _refusal(
            f"{tensor_name}: {len(binary)} bytes stand behind the JSON, and parameters have no "
            f"{binary_tensors.SIZE_PARAMETER}"
        )
    data = tensor.get("data")
    if not isinstance(data, list):
        raise _refusal(f"{tensor_name}: data: {_shown(data)} is not allowed; allowed is a list")
    return _read_pixels(data, shape) if tensor_name == INPUT else _read_photos(data, shape)


def _check_shape(tensor_name, shape, item_shape, max_images):
    """The shape, a list of int."""
    is_shape = isinstance(shape, list) and all(type(length) is int for length in shape)
    if not (is_shape and len(shape) == len(item_shape) + 1 and shape[1:] == item_shape):
        shown_shape = str(shape[:8])[:60] if is_shape else _shown(shape)
        allowed = ", ".join(map(str, ["N", *item_shape]))
        raise _refusal(
            f"{tensor_name}: shape: {shown_shape} is not allowed; allowed is [{allowed}]"
        )
    if shape[0] > max_images:
        raise Refused(
            "too_large", f"{tensor_name}: shape: more than the {max_images} images allowed"
        )
    if shape[0] < 1:
        raise _refusal(f"{tensor_name}: shape: {shape[0]} images; at least 1 is needed")
    return shape


def _is_binary(tensor_name, parameters):
    """Whether a tensor's bytes stand behind the JSON, bool; refuses what else is not allowed."""
    given = {} if parameters is None else parameters
    if not isinstance(given, dict):
        raise _refusal(f"{tensor_name}: parameters: {_shown(given)} is not an object")
    if binary_tensors.SIZE_PARAMETER in given:
        return True
    content_type = given.get("content_type", "base64")
    if tensor_name == PHOTOS and content_type != "base64":
        raise _refusal(
            f"{PHOTOS}: content_type: {_shown(content_type)} is not allowed; allowed is 'base64'"
        )
    return False


def _read_pixels(data, shape):
    count, *image_shape = shape
    if data and isinstance(data[0], list):
        if len(data) != count:
            raise _nesting_refusal(shape)
        return [_read_image(_flatten(image, shape), image_shape) for image in data]
    if len(data) != math.prod(shape):
        raise _refusal(
            f"{INPUT}: data: {len(data):,} values; the shape {shape} has {math.prod(shape):,}"
        )
    image_size = math.prod(image_shape)
    return [
        _read_image(data[start : start + image_size], image_shape)
        for start in range(0, len(data), image_size)
    ]


def _read_image(values, image_shape):
    """uint8 (S, S, 3) of a list of numbers."""
    wrong_types = set(map(type, values)) - {int}
    try:
        pixels = b"" if wrong_types else bytes(values)
    except ValueError:
        pixels = b""
    if not pixels:
        what = ", ".join(sorted(kind.__name__ for kind in wrong_types)) or "a number outside"
        raise _refusal(f"{INPUT}: data: has {what}; allowed are whole numbers from 0 to 255")
    return np.frombuffer(pixels, np.uint8).reshape(image_shape)


def _flatten(image, shape):
    """The values of an image's lists, nested as the shape says; a list."""
    rows = [image]
    for length in shape[1:]:
        if not all(isinstance(row, list) and len(row) == length for row in rows):
            raise _nesting_refusal(shape)
        rows = list(itertools.chain.from_iterable(rows))
    return rows


def _nesting_refusal(shape):
    return _refusal(f"{INPUT}: data: the lists are not nested as the shape {shape} says")


def _read_photos(data, shape):
    if len(data) != shape[0]:
        raise _refusal(f"{PHOTOS}: data: {len(data):,} elements; the shape {shape} has {shape[0]}")
    photos = []
    for index, text in enumerate(data):
        try:
            photos.append(base64.b64decode(text, validate=True))
        except (TypeError, ValueError):
            raise _refusal(
                f"{PHOTOS}: data: element {index} is {_shown(text)}; allowed is an image file in "
                "base64"
            ) from None
    return photos


def _refusal(message):
    return Refused("bad_request", message)


def _shown(value):
    """A value from a request, short enough for a message."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value[:40] if isinstance(value, str) else value)[:42]
