"""The sizes that the AV1 pictures of an AVIF really have, read from their own headers.

libavif decodes a picture at that size, whatever the boxes around it announce, and then scales it:
a file of a kilobyte whose boxes speak of 64 x 64 pixels can take a gigabyte.
"""

import struct

from data.iso_boxes import items, iterate_boxes

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
    boxes = list(iterate_boxes(data, 0, len(data)))
    return [
        size
        for picture in (*items(data, boxes, b"av01"), *_samples(data, boxes))
        for size in _sizes(picture)
    ]


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
