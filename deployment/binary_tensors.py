"""The protocol's extension for binary tensors: their bytes stand behind the JSON of the body.

KServe's and Triton's clients use it unless they are told otherwise.
Source: https://github.com/kserve/open-inference-protocol, specification/protocol/
extensions/binary_tensor_data.md (Triton: docs/protocol/extension_binary_data.md).
"""

import math
import re

import numpy as np

from deployment.http_errors import Refused
from prediction.runtimes import INPUT

EXTENSION = "binary_tensor_data"  # what the server's description calls it
HEADER = "Inference-Header-Content-Length"  # how many bytes of a body are JSON
SIZE_PARAMETER = "binary_data_size"
LENGTH_BYTES = 4  # before each element of a tensor of texts, little-endian


def split_body(body, json_length):
    """Divides a body into its JSON and the bytes behind it.

    Args:
        body: memoryview of bytes.
        json_length: str, the value of `HEADER`; "" where the request has none.

    Returns:
        (memoryview of the JSON, memoryview of the rest).

    Raises:
        Refused: it is no number, or larger than the body.

    Example:
        >>> [bytes(part) for part in split_body(memoryview(b"{}\\0\\1"), "2")]
        [b'{}', b'\\x00\\x01']
    """
    if not json_length:
        return body, body[len(body) :]
    if not (re.fullmatch("[0-9]{1,12}", json_length) and int(json_length) <= len(body)):
        raise Refused(
            "bad_request",
            f"{HEADER}: {json_length[:20]!r} is not allowed; allowed is a whole number up to "
            f"{len(body)}, the bytes of the body",
        )
    return body[: int(json_length)], body[int(json_length) :]


def read_tensor(tensor, shape, binary):
    """Reads the images of a tensor whose bytes stand behind the JSON.

    Args:
        tensor: dict, the tensor's description, with the parameter `binary_data_size`.
        shape: list of int, checked.
        binary: memoryview, the bytes behind the JSON.

    Returns:
        list of images: uint8 (S, S, 3), or memoryviews of the bytes of a file.

    Raises:
        Refused: the bytes are not those of such a tensor.
    """
    name, size = tensor["name"], tensor["parameters"][SIZE_PARAMETER]
    if type(size) is not int or size != len(binary):
        shown_size = str(size)[:20] if isinstance(size, int) else type(size).__name__
        raise _refusal(
            f"{name}: {SIZE_PARAMETER}: {shown_size} is not allowed; behind the JSON, whose "
            f"length the header {HEADER} says, are {len(binary)} bytes"
        )
    if tensor.get("data") is not None:
        raise _refusal(f"{name}: has both data and {SIZE_PARAMETER}; allowed is one of them")
    return _read_pixels(binary, shape) if name == INPUT else _read_photos(name, binary, shape)


def _read_pixels(binary, shape):
    if len(binary) != math.prod(shape):
        raise _refusal(
            f"{INPUT}: {len(binary):,} bytes; the shape {shape} has {math.prod(shape):,}"
        )
    return list(np.frombuffer(binary, np.uint8).reshape(shape))


def _read_photos(name, binary, shape):
    photos, position = [], 0
    for _ in range(shape[0]):
        start = position + LENGTH_BYTES
        position = start + int.from_bytes(binary[position:start], "little")
        photos.append(binary[start:position])
    if position != len(binary) or not all(map(len, photos)):
        raise _refusal(
            f"{name}: the {len(binary):,} bytes are not {shape[0]} elements of a length in 4 bytes "
            "and an image file"
        )
    return photos


def wants_binary(document):
    """Whether a request asks for its output in binary form, bool.

    Args:
        document: dict, the request's JSON, checked.
    """
    of_output = [output.get("parameters") for output in document.get("outputs") or ()]
    for parameters, key in (
        *((parameters, "binary_data") for parameters in of_output),
        (document.get("parameters"), "binary_data_output"),
    ):
        if isinstance(parameters, dict) and key in parameters:
            return parameters[key] is True
    return False


def _refusal(message):
    return Refused("bad_request", message)
