"""The boxes of ISO base media files (HEIC, AVIF), and the items that they hold."""

import struct

# ISO/IEC 14496-12: boxes that hold others, with the bytes between their header and the first one
CONTAINERS = {b"meta": 4, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
BOX_LIMIT = 10_000  # in a file; pictures of many tiles have some hundreds


def iterate_boxes(data, start, end):
    """The boxes of a part of a file, those in other boxes after them.

    Args:
        data: bytes of the file.
        start, end: int, the part.

    Yields:
        (type, start, end of the content): bytes of length 4, two int.

    Raises:
        ValueError: they are too many.
    """
    waiting, count = [(start, end)], 0
    while waiting:
        start, end = waiting.pop()
        while start + 8 <= end:
            size, kind = struct.unpack_from(">I4s", data, start)
            header = 8
            if size == 1 and start + 16 <= end:
                (size,), header = struct.unpack_from(">Q", data, start + 8), 16
            box_end = end if size == 0 else min(end, start + max(size, header))
            count += 1
            if count > BOX_LIMIT:
                raise ValueError(f"has more than {BOX_LIMIT:,} boxes")
            yield kind, start + header, box_end
            if kind in CONTAINERS:
                waiting.append((start + header + CONTAINERS[kind], box_end))
            start = box_end


def items(data, boxes, item_type):
    """The items of a type, such as pictures or blocks of EXIF.

    Args:
        data: bytes of the file.
        boxes: list of what `iterate_boxes` yields for all of it.
        item_type: bytes of length 4.

    Yields:
        bytes of an item.

    Raises:
        ValueError: the boxes contradict each other.
    """
    item_ids, idat_start = set(), 0
    for kind, start, end in boxes:
        if kind == b"iinf":
            item_ids |= _item_ids(data, start, end, item_type)
        elif kind == b"idat":
            idat_start = start
    for kind, start, end in boxes:
        if kind == b"iloc":
            for item_id, construction, extents in _locations(data, start, end):
                if item_id in item_ids:
                    base = idat_start if construction == 1 else 0
                    yield _joined(data, [(base + offset, length) for offset, length in extents])


def _item_ids(data, start, end, wanted_type):
    """set of the ids of the items of a type, from a box iinf."""
    item_ids = set()
    for kind, entry, entry_end in iterate_boxes(data, start + (6 if data[start] == 0 else 8), end):
        if kind != b"infe" or entry_end - entry < 4:
            continue
        # Version and flags, id of 16 bits or from version 3 of 32, protection, type
        entry_format = ">HH4s" if data[entry] == 2 else ">IH4s"
        if data[entry] < 2 or entry_end - entry < 4 + struct.calcsize(entry_format):
            continue
        item_id, _, item_type = struct.unpack_from(entry_format, data, entry + 4)
        if item_type == wanted_type:
            item_ids.add(item_id)
    return item_ids


def _locations(data, start, end):
    """(item id, construction method, list of (offset, length)) of each item, from a box iloc."""
    view, position = memoryview(data)[:end], start

    def number(size):
        nonlocal position
        position += size
        return int.from_bytes(view[position - size : position], "big")

    version, _, sizes = number(1), number(3), number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    for _ in range(number(2 if version < 2 else 4)):
        if position >= end:
            return
        item_id = number(2 if version < 2 else 4)
        construction = number(2) & 15 if version else 0
        number(2)
        base, extents = number(base_size), []
        for _ in range(number(2)):
            if position >= end:
                break
            number(index_size)
            offset = base + number(offset_size)
            extents.append((offset, number(length_size)))
        yield item_id, construction, extents


def _joined(data, extents):
    """bytes of the parts of a file; a length of 0 means up to its end."""
    lengths = [length or len(data) - offset for offset, length in extents]
    if sum(lengths) > len(data):
        raise ValueError("its parts overlap")
    view = memoryview(data)
    return b"".join(view[offset : offset + length] for (offset, _), length in zip(extents, lengths))
