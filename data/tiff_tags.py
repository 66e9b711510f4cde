"""The tags of a TIFF's first image, read from its bytes: TIFF 6.0, and BigTIFF in both orders."""

import struct

MAX_TAGS = 512  # of an image
MAX_VALUES = 16  # of a tag, of those that describe the image
# Types of TIFF 6.0, section 2, and of BigTIFF: bytes, whole numbers, positions
FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


def is_tiff(data):
    """Whether a file begins as a TIFF or BigTIFF does.

    Args:
        data: bytes of the file.

    Returns:
        bool.
    """
    return _layout(data) is not None


def is_big_endian_bigtiff(data):
    """Whether a file is a BigTIFF whose numbers begin with the highest byte.

    Args:
        data: bytes of the file.

    Returns:
        bool.
    """
    return bytes(data[:4]) == b"MM\0+"


def read_tags(data, max_values=MAX_VALUES):
    """Reads the whole numbers among the tags of the first image.

    Args:
        data: bytes of the file.
        max_values: int, values of a tag that are read.

    Returns:
        dict of tag (int) -> tuple of int, at most `max_values` of them, none of a tag of another
        type. As far as the file goes, where it is cut off; empty where it is no TIFF.

    Example:

    ```python
    read_tags(open("photo.tif", "rb").read())[258]  # (8, 8, 8), the bits per sample
    ```
    """
    tags = {}
    for tag, field_type, count, position in _entries(data):
        value_format = FORMATS.get(field_type)
        count = min(count, max_values) if value_format else 0
        byte_order, _ = _layout(data)
        try:
            tags[tag] = struct.unpack_from(
                f"{byte_order}{count}{value_format or 'B'}", data, position
            )
        except (struct.error, OverflowError):  # cut off: the decoder says so
            continue
    return tags


def read_bytes(data, wanted_tag):
    """The bytes of one tag of the first image, whatever they mean.

    Args:
        data: bytes of the file.
        wanted_tag: int, a tag whose values are single bytes.

    Returns:
        bytes; empty where there are none.
    """
    for tag, _, count, position in _entries(data):
        if tag == wanted_tag:
            return bytes(data[position : position + count])
    return b""


def _entries(data):
    """Yields (tag, type, number of values, position of the values) of the first image's tags."""
    layout = _layout(data)
    if layout is None:
        return
    byte_order, is_big = layout
    position_format, count_format = ("Q", "Q") if is_big else ("I", "H")
    entry_bytes, value_bytes = (20, 8) if is_big else (12, 4)
    try:
        (start,) = struct.unpack_from(byte_order + position_format, data, 8 if is_big else 4)
        (entry_count,) = struct.unpack_from(byte_order + count_format, data, start)
        first_entry = start + struct.calcsize("=" + count_format)
        for index in range(min(entry_count, MAX_TAGS)):
            entry = first_entry + entry_bytes * index
            tag, field_type = struct.unpack_from(byte_order + "HH", data, entry)
            (count,) = struct.unpack_from(byte_order + position_format, data, entry + 4)
            position = entry + entry_bytes - value_bytes
            if count * struct.calcsize("=" + FORMATS.get(field_type, "B")) > value_bytes:
                (position,) = struct.unpack_from(byte_order + position_format, data, position)
            yield tag, field_type, count, position
    except (struct.error, OverflowError):  # cut off
        return


def classic_tiff(data, tags):
    """The bytes of a classic TIFF of one image whose pixels lie where they did.

    Args:
        data: bytes of a TIFF or BigTIFF of less than 4 GB.
        tags: dict of tag -> tuple of int or bytes, those of the new file.

    Returns:
        bytes.

    Raises:
        struct.error: a value does not fit into 32 bits.
    """
    byte_order, _ = _layout(data)
    # A classic file's numbers have 32 bits; a tag's values come before the list of the tags.
    start = len(data) + len(data) % 2
    values, entries = bytearray(start - len(data)), bytearray()
    for tag, tag_values in sorted(tags.items()):
        if isinstance(tag_values, bytes):
            field_type, count, packed = 7, len(tag_values), tag_values
        else:
            field_type, count = 4, len(tag_values)
            packed = struct.pack(f"{byte_order}{count}I", *tag_values)
        entries += struct.pack(byte_order + "HHI", tag, field_type, count)
        if len(packed) <= 4:
            entries += packed.ljust(4, b"\0")
        else:
            entries += struct.pack(byte_order + "I", len(data) + len(values))
            values += packed + bytes(len(packed) % 2)
    header = (b"II*\0" if byte_order == "<" else b"MM\0*") + struct.pack(
        byte_order + "I", len(data) + len(values)
    )
    count_bytes = struct.pack(byte_order + "H", len(tags))
    return b"".join((header, memoryview(data)[8:], values, count_bytes, entries, bytes(4)))


def _layout(data):
    """(byte order of `struct`, whether positions have 64 bits), or None."""
    return {
        b"II*\0": ("<", False),
        b"MM\0*": (">", False),
        b"II+\0": ("<", True),
        b"MM\0+": (">", True),
    }.get(bytes(data[:4]))
