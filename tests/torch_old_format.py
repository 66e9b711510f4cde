"""Files in torch's old format, instruction by instruction, whole and spoilt, without torch."""

import pickle
import random
import struct

import numpy as np

MAGIC, VERSION = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
DICT = b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
TYPES = {"float32": b"ctorch\nFloatStorage\n", "int64": b"ctorch\nLongStorage\n"}


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key, count, kind="float32"):
    return b"(" + text("storage") + TYPES[kind] + text(key) + text("cpu") + number(count) + b"NtQ"


def tensor(block, shape, strides, offset=0):
    return (REBUILD + b"(" + block + number(offset) + numbers(shape) + numbers(strides)
            + b"\x89" + DICT + b"tR")


def named(tensors):
    """The pickle of a dict of name -> `tensor`, with the attribute that torch gives it."""
    entries = b"".join(text(name) + value for name, value in tensors.items())
    return b"\x80\x02" + DICT + b"(" + entries + b"u}" + text("_metadata") + b"}sb."


def data(values):
    values = np.ascontiguousarray(values)
    return struct.pack("<q", values.size) + values.astype(values.dtype.newbyteorder("<")).tobytes()


def arrays(seed=0):
    """What `small_file` holds: a kernel that is stored transposed, and a BatchNorm."""
    generator = np.random.default_rng(seed)
    result = {
        name: generator.normal(0, 1, shape).astype(np.float32)
        for name, shape in {"conv.weight": (4, 3, 2, 2), "bn.weight": (5,), "bn.bias": (5,)}.items()
    }
    return {**result, "bn.num_batches_tracked": np.array(7)}


def small_file(**parts):
    """A valid file of 1 kB; `parts` take the place of its magic, version, system, tensors, keys."""
    kernel, gamma, beta, count = arrays().values()
    tensors = {
        "conv.weight": tensor(storage("8", 48), (4, 3, 2, 2), (1, 4, 24, 12)),
        "bn.weight": tensor(storage("9", 10), (5,), (1,)),
        "bn.bias": tensor(storage("9", 10), (5,), (1,), offset=5),
        "bn.num_batches_tracked": tensor(storage("10", 1, "int64"), (), ()),
    }
    whole = {"magic": MAGIC, "version": VERSION, "system": SYSTEM, "tensors": named(tensors),
             "keys": pickle.dumps(["10", "8", "9"], 2), **parts}
    return b"".join(whole.values()) + b"".join([
        data(np.array([7])), data(kernel.transpose(2, 3, 1, 0)),
        data(np.concatenate([gamma, beta])),
    ])


def call(module, name, arguments):
    return f"c{module}\n{name}\n".encode() + arguments


# Pickles that would do something, or take memory or time, if they were loaded
TOUCH = "touch torch-file-was-run"
BOMB = b"]q\x00" + b"(" + b"h\x00" * 2 + b"eq\x00"
HOSTILE = {
    "os.system": call("os", "system", b"(" + text(TOUCH) + b"tR."),
    "posix.system": call("posix", "system", b"(" + text(TOUCH) + b"tR."),
    "subprocess": call("subprocess", "Popen", b"((" + text("touch") + text(TOUCH[6:]) + b"ltR."),
    "eval": call("builtins", "eval", b"(" + text(f"open({TOUCH[6:]!r}, 'w')") + b"tR."),
    "exec of Python 2": call("__builtin__", "exec", b"(" + text("import torch") + b"tR."),
    "import": call("builtins", "__import__", b"(" + text("torch") + b"tR."),
    "getattr": call("builtins", "getattr", b"(" + DICT + text("__class__") + b"tR."),
    "partial": call("functools", "partial", b"(cos\nsystem\n" + text(TOUCH) + b"tR)R."),
    "runpy": call("runpy", "run_path", b"(" + text(TOUCH[6:]) + b"tR."),
    "another function of torch": call("torch._utils", "_rebuild_parameter", b")R."),
    "an attribute of torch's": call("torch._utils", "_rebuild_tensor_v2.__globals__", b")R."),
    "a module of torch's": call("torch", "os.system", b"(" + text(TOUCH) + b"tR."),
    "torch.load": call("torch", "load", b"(" + text(TOUCH[6:]) + b"tR."),
    "a storage that is called": call("torch", "FloatStorage", b"(" + number(2**31 - 1) + b"tR."),
    "a dict that is called": b"ccollections\nOrderedDict\n(" + text("x") + b"tR.",
    "a text that is called": text("os.system") + b")R.",
    "a tensor that is called": tensor(storage("8", 48), (4,), (1,)) + b")R.",
    "by a stack": text("os") + text("system") + b"\x93(" + text(TOUCH) + b"tR.",
    "instance": b"(" + text(TOUCH) + b"ios\nsystem\n.",
    "object": b"(cos\nsystem\n" + text(TOUCH) + b"o.",
    "new object": b"cos\nsystem\n(" + text(TOUCH) + b"t\x81.",
    "new object with names": b"cos\nsystem\n)}\x92.",
    "extension": b"\x82\x01.",
    "attributes of the function": REBUILD + b"}" + text("__defaults__") + b")sb.",
    "attributes of the type": TYPES["float32"] + b"N}" + text("itemsize") + number(0) + b"s\x86b.",
    "attributes of the dict": DICT + b"N}" + text("__class__") + TYPES["float32"] + b"s\x86b.",
    "persistent id as a line": b"Pos.system\n.",
    "persistent id: a number": number(7) + b"Q.",
    "persistent id: six letters": text("abcdef") + b"Q.",
    "persistent id: nothing": b"NQ.",
    "persistent id: a dict": b"}Q.",
    "persistent id: a list as type": b"(" + text("storage") + b"]" + text("8") + text("cpu")
                                     + number(48) + b"NtQ.",
    "persistent id: another kind": b"(" + text("module") + TYPES["float32"] + text("8")
                                   + text("cpu") + number(48) + b"NtQ.",
    "persistent id: a type that is code": b"(" + text("storage") + b"cos\nsystem\n" + text("8")
                                          + text("cpu") + number(48) + b"NtQ.",
    "persistent id: a view": b"(" + text("storage") + TYPES["float32"] + text("8") + text("cpu")
                             + number(48) + numbers([1]) + b"tQ.",
    "text of 4 GB": b"X\xff\xff\xff\x7fabc.",
    "text of 2^63 bytes": b"\x8d" + b"\xff" * 7 + b"\x7fabc.",
    "bytes of 2^62": b"\x8e" + b"\x00" * 7 + b"\x40abc.",
    "bytearray of 2^62": b"\x96" + b"\x00" * 7 + b"\x40abc.",
    "a number of 2 GB": b"\x8b\xff\xff\xff\x7f\x01.",
    "a number of minus bytes": b"\x8b\xff\xff\xff\xff\x01.",
    "a number of many digits": b"I" + b"9" * 20000 + b"\n.",
    "memo of 2^32": b"]r\xff\xff\xff\xff.",
    "memo that nobody wrote": b"hA.",
    "frame of 2^63": b"\x95" + b"\xff" * 8 + b"].",
    "lists in lists": b"]" * 20000 + b"a" * 19999 + b".",
    "tuples in tuples": b")" + b"\x85" * 40000 + b".",
    "a list in itself": b"]q\x00(h\x00e.",
    "a dict in itself": b"}q\x00(" + text("x") + b"h\x00u.",
    "doubled tuples": b")q\x00" + b"h\x00h\x00\x86q\x00" * 12000 + b".",
    "doubled tuples as a key": b"})q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"Ns.",
    "doubled tuples as a type": b"(" + text("storage") + b")q\x00" + b"h\x00h\x00\x86q\x00" * 60
                                + text("8") + text("cpu") + number(48) + b"NtQ.",
    "doubled lists": BOMB * 7000 + b".",
    "a memo written without end": b"]" + b"q\x00" * 60000 + b".",
    "marks alone": b"(" * 60000 + b".",
    "dicts alone": b"}" * 60000 + b".",
    "no end": b"]",
    "nothing": b"",
    "an end alone": b".",
    "more than one value": b"NN.",
    "taken from nothing": b"\x87.",
    "below a mark": b"((ttt.",
    "protocol 5": b"\x80\x05\x95\x02\x00\x00\x00\x00\x00\x00\x00N.",
    "shape of many axes": named({"x": tensor(storage("8", 48), [1] * 1000, [1] * 1000)}),
    "shape of huge numbers": named({"x": tensor(storage("8", 48), [2**31 - 1] * 8, [1] * 8)}),
    "negative shape": named({"x": tensor(storage("8", 48), (-4, -3), (1, 1))}),
    "negative strides": named({"x": tensor(storage("8", 48), (4, 3), (-1, 4))}),
    "strides out of the file": named({"x": tensor(storage("8", 48), (4, 3), (2**31 - 1, 4))}),
    "strides out of the storage": named({"x": tensor(storage("8", 48), (4, 3), (30, 1))}),
    "offset out of the storage": named({"x": tensor(storage("8", 48), (4,), (1,), 45)}),
    "negative offset": named({"x": tensor(storage("8", 48), (4,), (1,), -4)}),
    "one number a million times": named({"x": tensor(storage("8", 48), (10**6,), (0,))}),
    "more axes than strides": named({"x": tensor(storage("8", 48), (4, 3), (1,))}),
    "storage larger than the file": named({"x": tensor(storage("8", 2**31 - 1), (4,), (1,))}),
    "storage of minus one": named({"x": tensor(storage("8", -1), (4,), (1,))}),
    "one storage of two types": named({"x": tensor(storage("8", 48), (4,), (1,)),
                                       "y": tensor(storage("8", 48, "int64"), (4,), (1,))}),
    "no tensor": named({"x": number(3)}),
    "no name": b"\x80\x02" + DICT + b"(" + number(3) + tensor(storage("8", 48), (4,), (1,)) + b"u.",
}
PLACES = ("magic", "version", "system", "tensors", "keys")


def hostile_files():
    """(title, content) of each of `HOSTILE` in each of the five pickles, alone and after it."""
    for title, program in HOSTILE.items():
        for place in PLACES:
            yield f"{title} as {place}", small_file(**{place: program})
        yield f"{title} among the tensors", small_file(
            tensors=b"\x80\x02" + DICT + text("x") + program[:-1] + b"s.")


def spoilt_file(index, seed=0):
    """(title, content): `small_file` with flipped bits, cuts, insertions, hostile parts."""
    generator = random.Random(f"{seed} {index}")
    content, titles = bytearray(small_file()), []
    for _ in range(generator.choice([1, 1, 1, 2, 3, 8])):
        place = generator.randrange(len(content) or 1)
        length = generator.choice([1, 1, 2, 4, 8, 40, 300])
        kind = generator.choice(["flip", "cut", "remove", "insert", "repeat", "huge", "hostile"])
        titles.append(f"{kind} at {place}")
        if kind == "flip":
            for position in range(place, min(place + length, len(content))):
                content[position] ^= 1 << generator.randrange(8)
        elif kind == "cut":
            del content[place:]
        elif kind == "remove":
            del content[place:place + length]
        elif kind == "insert":
            content[place:place] = generator.randbytes(length)
        elif kind == "repeat":
            content[place:place] = content[place:place + length] * generator.choice([1, 2, 50])
        elif kind == "huge":
            huge = [b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4)]
            content[place:place + 4] = generator.choice(huge)
        else:
            program = generator.choice(list(HOSTILE.values()))
            content[place:place] = program[:2000] if len(program) < 4000 else program
    return f"{index}: {', '.join(titles)}", bytes(content)
