"""The chunks of a PNG (ISO/IEC 15948), for files of which a part beside the pixels is damaged.

Pillow refuses a file whose compressed texts or profile are large, or in which the checksum of any
chunk is wrong. libpng reads its pixels all the same, and so does this project.
"""

import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The ancillary chunks that change how the picture looks; critical ones begin with a capital
USED = (b"tRNS", b"eXIf")


def chunks(data):
    """The chunks of a PNG up to its end, or to where the file is cut off.

    Args:
        data: bytes of the file.

    Yields:
        (type, start, end, whether its checksum is right): bytes of length 4, two int, bool. The
        chunk is `data[start:end]`, checksum included.
    """
    position, view = len(SIGNATURE), memoryview(data)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(view[position : position + 4], "big")
        if end > len(data):
            return
        checksum = int.from_bytes(view[end - 4 : end], "big")
        kind = bytes(view[position + 4 : position + 8])
        yield kind, position, end, zlib.crc32(view[position + 4 : end - 4]) == checksum
        if kind == b"IEND":
            return
        position = end


def is_critical(kind):
    """Whether the picture cannot be shown without a chunk.

    Args:
        kind: bytes of length 4, its type.

    Returns:
        bool.
    """
    return kind[:1].isupper()


def without_extras(data):
    """A PNG without texts, profiles and whatever else does not change how it looks here.

    Args:
        data: bytes of the file.

    Returns:
        bytes; None where nothing can be left out, or it is not a PNG.
    """
    if bytes(data[:8]) != SIGNATURE:
        return None
    view, parts, end = memoryview(data), [SIGNATURE], len(SIGNATURE)
    left_out = 0
    for kind, start, end, is_right in chunks(data):
        if is_critical(kind) or (kind in USED and is_right):
            parts.append(view[start:end])
        else:
            left_out += 1
    parts.append(view[end:])  # of a file that is cut off
    return b"".join(parts) if left_out else None


def frame_count(data):
    """How many pictures a PNG holds: more than one in an animated one (APNG, chunk acTL).

    Args:
        data: bytes of the file.

    Returns:
        int of at least 1.
    """
    for kind, start, _, _ in chunks(data):
        if kind == b"acTL":
            return max(1, int.from_bytes(data[start + 8 : start + 12], "big"))
        if kind == b"IDAT":  # from here on it would mean nothing
            return 1
    return 1
