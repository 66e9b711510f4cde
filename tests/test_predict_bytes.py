"""Image files decoded in TensorFlow's graph: what `data.decoding` gives, or a refusal by name."""

import functools
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from data.decoding import load
from data.geometry import Preprocessing
from export import graph_preprocessing

SIDE = 32
SETTINGS = Preprocessing(SIDE, "letterbox", (200, 100, 50))
MOST = {"jpeg": 20}  # levels; the two decoders round colours and frequencies differently
EXIF_TAG = 0x0112


def picture(channels=3, seed=0):
    """A smooth Pillow image of noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, channels), np.uint8)
    large = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray(large.reshape(SIDE, SIDE, channels).squeeze())


def encode(image, file_format, **settings):
    file = io.BytesIO()
    image.save(file, file_format, **settings)
    return file.getvalue()


def png(bits, color_type, rows, extra=b""):
    """A PNG from rows of bytes, with a further chunk before its pixels."""
    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", SIDE, len(rows), bits, color_type, 0, 0, 0)
    lines = zlib.compress(b"".join(b"\0" + row for row in rows))
    more = chunk(extra[:4], extra[4:]) if extra else b""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", lines)
            + chunk(b"IEND", b""))


def noise(length, count=SIDE):
    generator = np.random.default_rng(3)
    return [generator.bytes(length) for _ in range(count)]


def bmp(bits, pixels, height=SIDE, compression=0):
    """A BMP with a header of 40 bytes."""
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, height, 1, bits, compression, len(pixels), 0, 0,
                         0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def bgrx():
    """Rows of 32 bits, the lowest first, whose fourth byte is 0 and means nothing."""
    rgb = np.asarray(picture())
    return np.dstack([rgb[::-1, :, ::-1], np.zeros((SIDE, SIDE), np.uint8)]).tobytes()


def with_color(color, channels=3):
    image = picture(channels)
    image.paste(color, (5, 5, 20, 20))
    return image


def turned(orientation):
    exif = Image.Exif()
    exif[EXIF_TAG] = orientation
    return exif


def exif_block(order, value_type, value):
    """An EXIF block with another tag before the orientation, and one after it."""
    entries = [(0x0100, 4, 1, struct.pack(order + "I", 3)), (EXIF_TAG, value_type, 1, value),
               (0x0128, 3, 1, struct.pack(order + "HH", 6, 0))]
    directory = struct.pack(order + "H", len(entries)) + b"".join(
        struct.pack(order + "HHI", *entry) + content for entry, content
        in ((entry[:3], entry[3]) for entry in entries)) + bytes(4)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "I", 8) + directory


def jpeg_with(block, **settings):
    """A JPEG that has other segments and stray bytes before its EXIF block."""
    data = encode(picture(), "JPEG", quality=95, comment=b"Exif\0\0II", **settings)
    content = b"Exif\0\0" + block
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    end = 4 + int.from_bytes(data[4:6], "big")  # of the JFIF segment
    return data[:end] + b"\xff\xff" + segment[1:] + data[end:]


CMYK = functools.partial(picture, 4)
SAME = {
    "png": lambda: encode(picture(), "PNG"),
    "png_grey": lambda: encode(picture(1), "PNG"),
    "png_alpha": lambda: encode(picture(4), "PNG"),
    "png_grey_alpha": lambda: encode(Image.merge("LA", [picture(1), picture(1, 4)]), "PNG"),
    "png_one_bit": lambda: encode(picture(1).convert("1"), "PNG"),
    "png_two_bits": lambda: png(2, 0, noise(SIDE // 4)),
    "png_four_bits": lambda: png(4, 0, noise(SIDE // 2)),
    "png_four_bits_one_clear": lambda: png(4, 0, noise(SIDE // 2), b"tRNS\0\5"),
    "png_16_bits": lambda: png(16, 0, noise(SIDE * 2)),
    "png_rgb_16_bits": lambda: png(16, 2, noise(SIDE * 6)),
    "png_alpha_16_bits": lambda: png(16, 6, noise(SIDE * 8)),
    "png_palette": lambda: encode(picture().quantize(64), "PNG"),
    "png_palette_alpha": lambda: encode(
        picture().quantize(64), "PNG", transparency=bytes(range(0, 256, 4))),
    "png_clear_colour": lambda: encode(
        with_color((1, 2, 3)), "PNG", transparency=(1, 2, 3)),
    "png_clear_grey": lambda: encode(with_color(77, 1), "PNG", transparency=77),
    "png_animated": lambda: encode(
        picture(), "PNG", save_all=True, append_images=[picture(seed=1)]),
    "png_turned": lambda: encode(picture(), "PNG", exif=turned(6)),
    "webp": lambda: encode(picture(), "WEBP", lossless=True),
    "webp_lossy_alpha": lambda: encode(picture(4), "WEBP", quality=90),
    "webp_turned": lambda: encode(picture(), "WEBP", lossless=True, exif=turned(8)),
    "bmp": lambda: encode(picture(), "BMP"),
    "bmp_grey": lambda: encode(picture(1), "BMP"),
    "bmp_32_bits": lambda: bmp(32, bgrx()),
    "bmp_from_the_top": lambda: bmp(32, bgrx(), -SIDE),
    "jpeg": lambda: encode(picture(), "JPEG", quality=95),
    "jpeg_grey": lambda: encode(picture(1), "JPEG", quality=95),
    "jpeg_progressive": lambda: encode(picture(), "JPEG", quality=95, progressive=True),
    "jpeg_cmyk": lambda: encode(CMYK().convert("RGB").convert("CMYK"), "JPEG", quality=95),
    "jpeg_cmyk_with_black": lambda: encode(
        Image.frombytes("CMYK", (SIDE, SIDE), CMYK().tobytes()), "JPEG", quality=98),
    "jpeg_two_pictures": lambda: encode(
        picture(), "MPO", save_all=True, append_images=[picture(seed=1)], quality=95),
    "jpeg_long_orientation": lambda: jpeg_with(exif_block(">", 4, struct.pack(">I", 6))),
    "jpeg_orientation_of_a_text": lambda: jpeg_with(exif_block("<", 2, b"6\0\0\0")),
    "jpeg_orientation_9": lambda: jpeg_with(exif_block("<", 3, b"\x09\0\0\0")),
    **{f"jpeg_orientation_{number}_{order}": functools.partial(
        lambda order, number: jpeg_with(exif_block(order, 3, struct.pack(order + "HH", number, 0))),
        order, number) for order in "<>" for number in range(1, 9)},
}
REFUSED = {
    "is TIFF": lambda: encode(picture(), "TIFF"),
    "is GIF": lambda: encode(picture(), "GIF"),
    "is AVIF": lambda: encode(picture(), "AVIF"),
    "is HEIC": lambda: b"\0\0\0\x18ftypheic" + bytes(40),
    "is of an unknown format": lambda: b"\0\0\0\x18ftypisom" + bytes(40),  # a film
    "is animated WebP": lambda: encode(
        picture(), "WEBP", save_all=True, append_images=[picture(seed=1)], lossless=True),
    "is BMP with a palette": lambda: encode(picture().quantize(200), "BMP"),
    "is BMP with other than 24 or 32 bits": lambda: encode(picture(1).convert("1"), "BMP"),
    "is BMP with compression or an alpha channel": lambda: bmp(32, bgrx(), compression=3),
    "is BMP of an old kind": lambda: b"BM" + bytes(12) + b"\x0c" + bytes(40),
    "is CMYK JPEG without the mark of Adobe": lambda: without_adobe(encode(CMYK().convert("CMYK"),
                                                                      "JPEG")),
    "is PNG of 16 bits with a transparent colour": lambda: png(
        16, 2, noise(SIDE * 6), b"tRNS\0\1\0\2\0\3"),
    "is PNG with its EXIF block as text": lambda: png(
        8, 0, noise(SIDE), b"zTXtRaw profile type exif\0\0" + zlib.compress(b"\nexif\n  8\n")),
}


def without_adobe(data):
    start = data.index(b"Adobe") - 4
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big"):]


@functools.cache
def decoder():
    """As in the exported model: a graph, made once, for each file of a batch."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def decode_all(contents):
        return tf.map_fn(lambda content: graph_preprocessing.decode(content, SETTINGS), contents,
                         fn_output_signature=tf.TensorSpec((SIDE, SIDE, 3), tf.uint8))

    return decode_all


@pytest.mark.parametrize("kind", SAME)
def test_a_file_becomes_what_decoding_gives(kind):
    data = SAME[kind]()
    found = decoder()([data, data]).numpy().astype(int)
    difference = np.abs(found - load(data, SETTINGS))
    assert difference.max() <= MOST.get(kind.split("_")[0], 1)
    assert difference.mean() < 3


@pytest.mark.parametrize("problem", REFUSED)
def test_a_file_is_refused_by_name(problem):
    """Beside a sound one, too; the process goes on."""
    import tensorflow as tf

    sound = SAME["png"]()
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        decoder()([sound, REFUSED[problem]()])
    assert f"the image {problem}; predict_bytes takes JPEG, PNG, WebP, BMP" in str(raised.value)
    assert np.abs(decoder()([sound])[0].numpy() - load(sound, SETTINGS).astype(int)).max() <= 1


def test_a_file_of_nothing_and_damaged_ones_are_refused():
    import tensorflow as tf

    whole = SAME["jpeg"]()
    for data in (b"", b"\xff", b"BM", b"RIFF", b"RIFF1234WEBPVP8X", SAME["png"]()[:40],
                 b"\xff\xd8\xff" + bytes(30_000), b"\xff\xd8\xff\xe0" * 9_000, whole[:300]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoder()([data])
