"""What the header of an image file says, read inside TensorFlow's graph.

TensorFlow's decoders ignore the EXIF orientation, and decode some kinds of files to garbage or
past the end of their buffer: an animated WebP, a BMP with a palette. What is read here decides how
`graph_preprocessing` decodes a file, and what it refuses.

Layouts: JPEG (ITU-T T.81, annex B), PNG (W3C, 3rd edition, 5.3), WebP (RFC 9649, 2.3 to 2.7),
BMP (BITMAPINFOHEADER), EXIF 2.32 in a TIFF 6.0 directory.
"""

from typing import NamedTuple

SUPPORTED = ("JPEG", "PNG", "WebP", "BMP")
# Name, then position and bytes that tell the format
FIRST_BYTES = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG"),
    ("WebP", 8, b"WEBP"),
    ("BMP", 0, b"BM"),
    ("GIF", 0, b"GIF8"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("TIFF", 0, b"II+\0"),
    ("TIFF", 0, b"MM\0+"),
    ("AVIF", 4, b"ftypavi"),
    ("HEIC", 4, b"ftyphei"),
    ("HEIC", 4, b"ftyphev"),
    ("HEIF", 4, b"ftypmif"),
    ("HEIF", 4, b"ftypmsf"),
)
MOST_PARTS = 20_000  # segments or chunks of a file that are looked at
MOST_ENTRIES = 1_000  # of an EXIF directory
EXIF, ORIENTATION_TAG = b"Exif\0\0", 0x0112
BYTE, SHORT, LONG = 1, 3, 4  # types of a TIFF directory's values
SHORTEST_BMP_HEADER = 40  # bytes; older ones have 12 and other fields
# On a file, as bits
REMARKS = {"ADOBE": 1, "FOUR_COLORS": 2, "TRANSPARENCY": 4, "EXIF_AS_TEXT": 8}
PNG_RGB = 2  # a colour type


class Parts(NamedTuple):
    """What walking over the parts of a file has found.

    Attributes:
        unread: int64 scalar, where the walk stopped before the end of the header; 0 else.
        exif: int64 scalar, where the EXIF block begins; 0 where there is none.
        remarks: int64 scalar, the sum of those of `REMARKS` that apply.
    """

    unread: object
    exif: object
    remarks: object

    def has(self, name):
        """bool scalar tensor, whether a part of the file gave the remark of that name."""
        return self.remarks // REMARKS[name] % 2 == 1


def file_bytes(content):
    """The bytes of a file, and zeros after them: whatever is read beyond the end is 0.

    Args:
        content: scalar string tensor.

    Returns:
        uint8 tensor (N,).
    """
    import tensorflow as tf

    return tf.io.decode_raw(tf.strings.join([content, bytes(16)]), tf.uint8)


def number(data, position, length, big_endian=True):
    """The unsigned number at a position.

    Args:
        data: uint8 tensor, from `file_bytes`.
        position: int or int64 tensor of any shape.
        length: int, bytes of the number, at most 7.
        big_endian: bool or bool tensor, whether its first byte is its highest.

    Returns:
        int64 tensor of the shape of `position`.
    """
    import tensorflow as tf

    positions = tf.cast(position, tf.int64)[..., None] + tf.range(length, dtype=tf.int64)
    last = tf.size(data, tf.int64) - 1
    digits = tf.cast(tf.gather(data, tf.clip_by_value(positions, 0, last)), tf.int64)
    if big_endian is not True:
        digits = tf.where(big_endian, digits, tf.reverse(digits, [-1]))
    return tf.reduce_sum(digits * [256**place for place in reversed(range(length))], -1)


def starts_with(data, position, expected):
    """Whether certain bytes are at a position.

    Args:
        data: uint8 tensor, from `file_bytes`.
        position: int or int64 tensor.
        expected: bytes, at most 7.

    Returns:
        bool tensor of the shape of `position`.
    """
    return number(data, position, len(expected)) == int.from_bytes(expected, "big")


def format_names(data):
    """The format of a file, by its first bytes.

    Args:
        data: uint8 tensor, from `file_bytes`.

    Returns:
        scalar string tensor: a name of `FIRST_BYTES`, or "" for others.
    """
    import tensorflow as tf

    name = tf.constant("")
    for format_name, position, expected in reversed(FIRST_BYTES):
        name = tf.where(starts_with(data, position, expected), format_name, name)
    return name


def jpeg_parts(data):
    """Walks over the segments of a JPEG up to its first scan.

    Args:
        data: uint8 tensor, from `file_bytes`.

    Returns:
        `Parts`.
    """
    import tensorflow as tf

    def step(position):
        marker = number(data, position + 1, 1)
        is_marker = (number(data, position, 1) == 0xFF) & (marker != 0) & (marker != 0xFF)
        is_alone = (marker == 1) | ((marker >= 0xD0) & (marker <= 0xD8))
        is_end = is_marker & ((marker == 0xD9) | (marker == 0xDA))
        after = position + 2 + tf.maximum(number(data, position + 2, 2), 2)
        after = tf.where(is_alone, position + 2, after)
        after = tf.where(is_marker, after, position + 1)  # libjpeg skips bytes in between
        is_frame = (marker >= 0xC0) & (marker <= 0xCF)
        for other in (0xC4, 0xC8, 0xCC):
            is_frame &= marker != other
        is_adobe = is_marker & (marker == 0xEE) & starts_with(data, position + 4, b"Adobe")
        has_four = is_marker & is_frame & (number(data, position + 9, 1) == 4)
        is_exif = is_marker & (marker == 0xE1) & starts_with(data, position + 4, EXIF)
        return (
            _only_if(~is_end, after),
            _only_if(is_exif, position + 4),
            _only_if(is_adobe, REMARKS["ADOBE"]) + _only_if(has_four, REMARKS["FOUR_COLORS"]),
        )

    return _walk(data, 2, step)


def png_parts(data):
    """Walks over the chunks of a PNG.

    Args:
        data: uint8 tensor, from `file_bytes`.

    Returns:
        `Parts`.
    """

    def step(position):
        def is_type(name):
            return starts_with(data, position + 4, name)

        is_text = is_type(b"tEXt") | is_type(b"zTXt") | is_type(b"iTXt")
        is_text &= starts_with(data, position + 8, b"Raw pro")
        is_text &= starts_with(data, position + 8 + len("Raw profile type "), b"exif")
        remark = _only_if(is_text, REMARKS["EXIF_AS_TEXT"])
        return (
            _only_if(~is_type(b"IEND"), position + 12 + number(data, position, 4)),
            _only_if(is_type(b"eXIf"), position + 8),
            remark + _only_if(is_type(b"tRNS"), REMARKS["TRANSPARENCY"]),
        )

    return _walk(data, len(b"\x89PNG\r\n\x1a\n"), step)


def webp_parts(data):
    """Walks over the chunks of a WebP.

    Args:
        data: uint8 tensor, from `file_bytes`.

    Returns:
        `Parts`.
    """

    def step(position):
        length = number(data, position + 4, 4, False)
        is_exif = starts_with(data, position, b"EXIF")
        return position + 8 + length + length % 2, _only_if(is_exif, position + 8), 0

    return _walk(data, len(b"RIFF....WEBP"), step)


def _walk(data, start, step):
    """Steps over a file's parts; `step` gives the next position, that of EXIF, and remarks."""
    import tensorflow as tf

    def body(position, exif, remarks):
        after, exif_here, remarks_here = (tf.cast(value, tf.int64) for value in step(position))
        return (
            _only_if(after < tf.size(data, tf.int64), after),
            tf.where(exif > 0, exif, exif_here),  # the first of several EXIF blocks counts
            tf.bitwise.bitwise_or(remarks, remarks_here),
        )

    first = tuple(tf.constant(value, tf.int64) for value in (start, 0, 0))
    return Parts(
        *tf.while_loop(
            lambda position, *_: position > 0, body, first, maximum_iterations=MOST_PARTS
        )
    )


def _only_if(condition, value):
    """`value` as int64 where a condition holds, else 0."""
    import tensorflow as tf

    return tf.cast(value, tf.int64) * tf.cast(condition, tf.int64)


def orientation(data, exif):
    """The orientation in an EXIF block.

    Args:
        data: uint8 tensor, from `file_bytes`.
        exif: int64 scalar tensor, where the block begins; 0 for none.

    Returns:
        int64 scalar tensor, 1 to 8; 1 where the block says nothing.
    """
    import tensorflow as tf

    start = exif + _only_if(starts_with(data, exif, EXIF), len(EXIF))
    big_endian = starts_with(data, start, b"MM")
    is_block = (exif > 0) & (big_endian | starts_with(data, start, b"II"))
    directory = start + number(data, start + 4, 4, big_endian)
    entry_count = tf.minimum(number(data, directory, 2, big_endian), MOST_ENTRIES)
    entries = directory + 2 + 12 * tf.range(_only_if(is_block, entry_count))
    value_types = number(data, entries + 2, 2, big_endian)
    values = sum(
        _only_if(value_types == value_type, number(data, entries + 8, length, big_endian))
        for value_type, length in ((BYTE, 1), (SHORT, 2), (LONG, 4))
    )
    is_wanted = number(data, entries, 2, big_endian) == ORIENTATION_TAG
    is_wanted &= number(data, entries + 4, 4, big_endian) == 1
    value = tf.reduce_sum(_only_if(is_wanted, values))
    return _only_if(value <= 8, tf.maximum(value, 1)) + _only_if(value > 8, 1)


def bmp_problem(content, data):
    """Why TensorFlow would decode a BMP wrongly.

    Args:
        content: scalar string tensor, the file.
        data: uint8 tensor, from `file_bytes`.

    Returns:
        scalar string tensor, "" where it decodes it right: 24 bits, 32 bits whose fourth byte
        means nothing, or 8 bits with a palette of greys.
    """
    import tensorflow as tf

    header_size, bits = number(data, 14, 4, False), number(data, 28, 2, False)
    compression, color_count = number(data, 30, 4, False), number(data, 46, 4, False)
    grey_palette = b"".join(bytes((level, level, level, 0)) for level in range(256))
    start = tf.minimum(14 + header_size, tf.size(data, tf.int64) - 16)
    palette = tf.strings.substr(content, start, len(grey_palette))
    is_grey = (palette == grey_palette) & ((color_count == 0) | (color_count == 256))
    problem = tf.where((bits == 24) | (bits == 32), "", "is BMP with other than 24 or 32 bits")
    problem = tf.where(bits == 8, tf.where(is_grey, "", "is BMP with a palette"), problem)
    problem = tf.where(compression != 0, "is BMP with compression or an alpha channel", problem)
    return tf.where(header_size < SHORTEST_BMP_HEADER, "is BMP of an old kind", problem)
