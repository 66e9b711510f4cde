"""Tensors from a file in torch's old format (before its zip archives), without torch.

Such a file is five pickles (a magic number, a version, the system, the tensors' names and shapes,
the list of storages), and after them the numbers of each storage. A pickle is a program, and
loading it with `pickle` or torch can run whatever its author wanted. Here nothing of it is run:
the standard library's `pickletools` splits it into instructions, and those that a file of tensors
needs are carried out on plain values. Every other instruction and every other name is refused.
This file imports no Keras.
"""

import enum
import io
import math
import pickletools
import struct
from typing import NamedTuple

import numpy as np

from common.errors import InputError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
FORMAT_VERSION = 1001
MAX_AXES = 8
MAX_INSTRUCTIONS = 50_000  # of one pickle; that of EfficientNet-Lite2 has 14,000


class Name(enum.Enum):
    """The names that a pickle may contain, module and attribute. None of them is imported."""

    ORDERED_DICT = "collections OrderedDict"
    REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
    FLOAT_STORAGE = "torch FloatStorage"
    LONG_STORAGE = "torch LongStorage"


DTYPES = {Name.FLOAT_STORAGE: np.dtype("<f4"), Name.LONG_STORAGE: np.dtype("<i8")}
VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
LITERALS = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1")


class Storage(NamedTuple):
    """A block of numbers in the file.

    Attributes:
        key: str, its name.
        dtype: `numpy.dtype` of the numbers.
        count: int, how many there are.
    """

    key: str
    dtype: np.dtype
    count: int


class Tensor(NamedTuple):
    """A view of a storage.

    Attributes:
        storage: `Storage`.
        offset: int, index of the first number.
        shape: tuple of int.
        strides: tuple of int, numbers from one element to the next along each axis.
    """

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


def read_tensors(content, source):
    """Reads the tensors of a file.

    Args:
        content: bytes, the whole file.
        source: str, the file's path, for the error message.

    Returns:
        dict of tensor name -> array, float32 or int64, a read-only view of `content`.

    Raises:
        InputError: the file is damaged, in another format, or contains more than tensors.

    Example:
        >>> read_tensors(Path("model.pth").read_bytes(), "model.pth")["_fc.weight"].shape
        (1000, 1280)
    """
    try:
        return _read(content)
    except (ValueError, TypeError, LookupError, OverflowError, struct.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source}: is damaged, or contains more than tensors: {reason}") from None


def _read(content):
    stream = io.BytesIO(content)
    if _unpickle(stream) != MAGIC_NUMBER or _unpickle(stream) != FORMAT_VERSION:
        raise ValueError(
            "it does not begin with the magic number and version of torch's old format"
        )
    system, tensors, keys = (_unpickle(stream) for _ in range(3))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    if not isinstance(tensors, dict) or not _all(Tensor, tensors.values()):
        raise ValueError("its names do not stand for tensors")
    if not isinstance(keys, list) or not _all(str, keys):
        raise ValueError("it has no list of storages")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if sorted(keys) != sorted(storages):
        raise ValueError(f"its {len(keys)} storages are not the {len(storages)} of its tensors")
    position, numbers = stream.tell(), {}
    for key in keys:
        numbers[key] = _numbers(content, position, storages[key])
        position += 8 + numbers[key].nbytes
    if position != len(content):
        raise ValueError(f"{len(content) - position} bytes follow the last storage")
    return {name: _array(tensor, numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def _all(kind, values):
    return all(isinstance(value, kind) for value in values)


def _numbers(content, position, storage):
    """The numbers of the storage whose count is at `position`, array (count,)."""
    (count,) = struct.unpack_from("<q", content, position)
    available = (len(content) - position - 8) // storage.dtype.itemsize
    if count != storage.count or not 1 <= count <= available:
        raise ValueError(
            f"a storage of {storage.count} numbers says that it has {count}, and the file has room "
            f"for {available}"
        )
    return np.frombuffer(content, storage.dtype, count, position + 8)


def _array(tensor, numbers):
    if numbers.dtype != tensor.storage.dtype or math.prod(tensor.shape) > len(numbers):
        raise ValueError(f"a tensor of shape {tensor.shape} is larger than its storage")
    itemsize = numbers.itemsize
    strides = [stride * itemsize for stride in tensor.strides]
    # NumPy refuses an array that does not lie inside its buffer.
    return np.ndarray(tensor.shape, numbers.dtype, numbers, tensor.offset * itemsize, strides)


def _unpickle(stream):
    """The value of the pickle at a stream's position: plain values, `Name`, `Storage`, `Tensor`."""
    stack, marks, memo = [], [], {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count == MAX_INSTRUCTIONS:
            raise ValueError(f"a pickle has more than {MAX_INSTRUCTIONS:,} instructions")
        instruction = opcode.name
        if instruction == "STOP":
            (value,) = stack
            return value
        if instruction == "MARK":
            marks.append(len(stack))
        elif instruction in LITERALS:
            stack.append(argument)
        elif instruction in VALUES:
            stack.append(VALUES[instruction])
        elif instruction in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif instruction in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif instruction == "GLOBAL":
            stack.append(_name(argument))
        elif instruction != "PROTO":
            _combine(instruction, stack, marks)
    raise ValueError("a pickle has no end")


def _combine(instruction, stack, marks):
    """Carries out an instruction that makes a value of those at the end of the stack."""
    if instruction == "EMPTY_DICT":
        stack.append({})
    elif instruction == "EMPTY_LIST":
        stack.append([])
    elif instruction == "TUPLE":
        stack.append(tuple(_pop_from(stack, marks.pop())))
    elif instruction in ("TUPLE1", "TUPLE2", "TUPLE3"):
        stack.append(tuple(_pop_from(stack, len(stack) - int(instruction[-1]))))
    elif instruction == "APPENDS":
        values = _pop_from(stack, marks.pop())
        _last(list, stack).extend(values)
    elif instruction in ("SETITEM", "SETITEMS"):
        start = len(stack) - 2 if instruction == "SETITEM" else marks.pop()
        values = _pop_from(stack, start)
        if not _all(str, values[::2]):
            raise ValueError("a key is not a text")
        _last(dict, stack).update(zip(values[::2], values[1::2], strict=True))
    elif instruction == "BINPERSID":
        stack.append(_storage(*stack.pop()))
    elif instruction == "REDUCE":
        arguments = stack.pop()
        stack.append(_call(stack.pop(), arguments))
    elif instruction == "BUILD":  # the versions of the network's layers, which nobody needs
        stack.pop()
        _last(dict, stack)
    else:
        raise ValueError(f"the instruction {instruction} is not allowed in it")


def _pop_from(stack, start):
    if not 0 <= start <= len(stack):
        raise ValueError("an instruction needs more values than there are")
    values = stack[start:]
    del stack[start:]
    return values


def _last(kind, stack):
    if not isinstance(stack[-1], kind):
        raise ValueError(f"an instruction needs a {kind.__name__}")
    return stack[-1]


def _name(text):
    try:
        return Name(text)
    except ValueError:
        raise ValueError(f"it contains code: {text[:80]!r} is not allowed in it") from None


def _storage(kind, storage_type, key, location, count, view):
    """The `Storage` of a persistent id, as torch writes them."""
    if kind != "storage" or not isinstance(storage_type, Name) or storage_type not in DTYPES:
        raise ValueError("a storage is of an unknown type")
    if not isinstance(key, str) or not isinstance(count, int) or view is not None:
        raise ValueError("a storage has no proper key and count")
    return Storage(key, DTYPES[storage_type], count)


def _call(function, arguments):
    """What torch's function or `OrderedDict` would make of the arguments."""
    if function is Name.ORDERED_DICT and arguments == ():
        return {}
    if function is not Name.REBUILD_TENSOR:
        raise ValueError("it contains code: it calls something else than tensors need")
    storage, offset, shape, strides, _, _ = arguments
    if not isinstance(storage, Storage) or not isinstance(offset, int) or offset < 0:
        raise ValueError("a tensor has no storage or no offset")
    for lengths in (shape, strides):
        if not isinstance(lengths, tuple) or len(lengths) > MAX_AXES or not _all(int, lengths):
            raise ValueError(f"a tensor's shape or strides are not up to {MAX_AXES} integers")
        if min(lengths, default=0) < 0:
            raise ValueError("a tensor's shape or strides are negative")
    return Tensor(storage, offset, shape, strides)
