"""The sizes that the AV1 pictures of an AVIF really have, read from their own headers.

libavif decodes a picture at that size, whatever the boxes around it announce, and then scales it:
a file of a kilobyte whose boxes speak of 64 x 64 pixels can take a gigabyte.
"""

import struct

# ISO/IEC 14496-12: boxes that hold others, with the bytes between their header and the first one
CONTAINERS = {b"meta": 4, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
BOX_LIMIT = 10_000  # in a file; pictures of many tiles have some hundreds
# AV1 bitstream specification, 5.3: types of open bitstream units
SEQUENCE_HEADER = 1


class _Bits:
    """Reads numbers of some bits each, most significant bit first; zeros follow the end."""

    def __init__(self, data):
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._position = 0

    def read(self, count):
        """The next `count` bits as an int."""
        self._position += count
        bits = self._bits[self._position - count : self._position]
        return int(bits.ljust(count, "0") or "0", 2)

    def skip_uvlc(self):
        """Passes over a number whose length in bits stands before it, as so many zeros."""
        zeros = 0
        while zeros < 32 and self._position < len(self._bits) and not self.read(1):
            zeros += 1
        self.read(zeros)


def av1_sizes(data):
    """The sizes of all AV1 pictures that decoding the first image of an AVIF touches.

    Args:
        data: bytes of the file.

    Returns:
        list of (width, height), each the maximum that a sequence header allows.

    Raises:
        ValueError: the boxes contradict each other, or are too many.
    """
    boxes = list(_boxes(data, 0, len(data)))
    return [
        size
        for picture in (*_items(data, boxes), *_samples(data, boxes))
        for size in _sizes(picture)
    ]


def _boxes(data, start, end):
    """(type, start, end of the content) of each box, those in other boxes after them."""
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


def _items(data, boxes):
    """bytes of each item of the type av01."""
    picture_ids, idat_start = set(), 0
    for kind, start, end in boxes:
        if kind == b"iinf":
            picture_ids |= _picture_ids(data, start, end)
        elif kind == b"idat":
            idat_start = start
    for kind, start, end in boxes:
        if kind == b"iloc":
            for item_id, construction, extents in _locations(data, start, end):
                if item_id in picture_ids:
                    base = idat_start if construction == 1 else 0
                    yield _joined(data, [(base + offset, length) for offset, length in extents])


def _picture_ids(data, start, end):
    """set of the ids of the items that are AV1 pictures, from a box iinf."""
    picture_ids = set()
    for kind, entry, entry_end in _boxes(data, start + (6 if data[start] == 0 else 8), end):
        if kind != b"infe" or entry_end - entry < 4:
            continue
        # Version and flags, id of 16 bits or from version 3 of 32, protection, type
        entry_format = ">HH4s" if data[entry] == 2 else ">IH4s"
        if data[entry] < 2 or entry_end - entry < 4 + struct.calcsize(entry_format):
            continue
        item_id, _, item_type = struct.unpack_from(entry_format, data, entry + 4)
        if item_type == b"av01":
            picture_ids.add(item_id)
    return picture_ids


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


def _samples(data, boxes):
    """bytes of the first sample of each track."""
    offset = 0
    for kind, start, end in sorted(boxes, key=lambda box: box[1]):
        if kind == b"trak":
            offset = size = 0
        elif kind in (b"stco", b"co64") and start + 16 <= end:
            (offset,) = struct.unpack_from(">I" if kind == b"stco" else ">Q", data, start + 8)
        elif kind == b"stsz" and start + 16 <= end:
            common_size, _, size = struct.unpack_from(">III", data, start + 4)
            size = common_size or size
        else:
            continue
        if offset and size:
            yield bytes(memoryview(data)[offset : offset + size])


def _sizes(picture):
    """(width, height) of each sequence header among the open bitstream units of a picture."""
    position = 0
    while position < len(picture):
        header = picture[position]
        position += 2 if header & 4 else 1  # with an extension
        size = len(picture) - position
        if header & 2:
            size, position = _leb128(picture, position)
        if header >> 3 & 15 == SEQUENCE_HEADER:
            yield _sequence_size(picture[position : position + min(size, 400)])
        position += size


def _leb128(data, position):
    """(value, position behind it) of a number in groups of 7 bits, the lowest first."""
    value = 0
    for index in range(8):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 127) << 7 * index
        if not byte & 128:
            break
    return value, position


def _sequence_size(header):
    """(width, height) of a sequence header, AV1 bitstream specification, 5.5.1."""
    bits = _Bits(header)
    bits.read(4)  # profile, whether it is a still picture
    if bits.read(1):  # the short form for those
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1


def _skip_operating_points(bits):
    """Passes over the timing and the operating points of a sequence header."""
    delay_bits = 0
    if bits.read(1):  # timing information
        bits.read(64)
        if bits.read(1):
            bits.skip_uvlc()
        if bits.read(1):  # a model of the decoder
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:  # a high level has a tier
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)
