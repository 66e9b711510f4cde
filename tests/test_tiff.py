"""TIFFs in every layout: the right pixels, or a refusal under the right name."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common.errors import ImageError
from data.decoding import decode
from data.geometry import Preprocessing
from data.tiff_tags import read_tags

HEIGHT, WIDTH = 24, 32
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
COLORS = np.stack([COLUMNS * 8, ROWS * 10, (COLUMNS + ROWS) * 4], -1) / 255  # 0 to 1
FILL = (10, 120, 250)
PREPROCESSING = Preprocessing(4096, fill_color=FILL)  # nothing is reduced
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
NONE, LZW, JPEG, DEFLATE = 1, 5, 7, 8


def lzw(data):
    """TIFF 6.0, section 13: codes of 9 bits, and the table cleared before they would need 10."""
    codes = []
    for start in range(0, len(data), 250):
        codes += [256, *data[start : start + 250]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def jpeg(piece):
    """A whole JPEG of a strip or tile of 8 bits, in the colours that it has."""
    image = Image.fromarray(piece[..., 0] if piece.shape[2] == 1 else piece)
    options = {} if piece.shape[2] == 1 else {"keep_rgb": True}
    image.save(buffer := io.BytesIO(), "JPEG", quality=100, **options)
    return buffer.getvalue()


def write_tiff(samples, order="<", big=False, planar=False, compression=NONE, photometric=RGB,
               opacity=None, sample_format=UNSIGNED, tile=None, **tags):
    """The bytes of a TIFF of (height, width, channels) samples, by TIFF 6.0 and BigTIFF alone."""
    height, width, channels = samples.shape
    samples = samples.astype(samples.dtype.newbyteorder(order))
    planes = [samples[..., [i]] for i in range(channels)] if planar else [samples]
    pieces = []
    for plane in planes:
        if tile:
            padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
            pieces += [padded[top:top + tile, left:left + tile] for top in range(0, height, tile)
                       for left in range(0, width, tile)]
        else:
            pieces += [plane[top:top + 10] for top in range(0, height, 10)]
    pack = {DEFLATE: zlib.compress, LZW: lzw}.get(compression, bytes)
    packed = [jpeg(piece) if compression == JPEG else pack(piece.tobytes()) for piece in pieces]
    position, positions = 16, []
    for piece in packed:
        positions.append(position)
        position += len(piece)
    bits = samples.dtype.itemsize * 8
    entries = {
        256: [width], 257: [height], 258: [bits] * channels, 259: [compression],
        262: [photometric], 277: [channels], 284: [2 if planar else 1],
        339: [sample_format] * channels,
    }
    if opacity:
        entries[338] = [opacity]
    if tile:
        entries |= {322: [tile], 323: [tile], 324: positions, 325: list(map(len, packed))}
    else:
        entries |= {273: positions, 278: [10], 279: list(map(len, packed))}
    entries |= {int(tag): values for tag, values in tags.items()}
    number, count, size = ("Q", "Q", 8) if big else ("I", "H", 4)
    values, directory = b"", struct.pack(order + count, len(entries))
    for tag, numbers in sorted(entries.items()):
        field = struct.pack(f"{order}{len(numbers)}I", *numbers)
        directory += struct.pack(order + "HH" + number, tag, 4, len(numbers))
        if len(field) <= size:
            directory += field.ljust(size, b"\0")
        else:
            directory += struct.pack(order + number, position + len(values))
            values += field
    start = position + len(values)
    mark = b"II" if order == "<" else b"MM"
    header = mark + (struct.pack(order + "HHHQ", 43, 8, 0, start) if big
                     else struct.pack(order + "HI", 42, start))
    body = header.ljust(16, b"\0") + b"".join(packed) + values
    return body + directory + bytes(size)


def to_samples(colors, kind):
    """Colours of 0 to 1 as whole numbers of `kind`, or as they are for floats."""
    if np.dtype(kind).kind == "f":
        return colors.astype(kind)
    return np.round(colors * np.iinfo(kind).max).astype(kind)


def expected(colors, hole=None):
    """8 bits of colours, with the fill colour in the corner that is transparent."""
    image = np.round(np.broadcast_to(colors, (HEIGHT, WIDTH, 3)) * 255)
    if hole is not None:
        image[hole] = FILL
    return image


CORNER = np.zeros((HEIGHT, WIDTH), bool)
CORNER[: HEIGHT // 2, : WIDTH // 2] = True


def check(data, image):
    decoded = decode(data, PREPROCESSING)
    assert decoded.shape == image.shape and decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded.astype(int), image, atol=1)


LAYOUTS = [
    pytest.param({"order": order, "big": big, "compression": compression, "tile": tile},
                 id=f"{order}-{'big' if big else 'classic'}-{compression}-{tile or 'strips'}")
    for order in "<>" for big in (False, True) for compression in (NONE, LZW, DEFLATE)
    for tile in (None, 16)
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("planar", [False, True])
def test_colors(layout, kind, planar):
    check(write_tiff(to_samples(COLORS, kind), planar=planar, **layout), expected(COLORS))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_grey(layout, kind, photometric):
    grey = COLORS[..., :1] if photometric else 1 - COLORS[..., :1]
    data = write_tiff(to_samples(grey, kind), photometric=photometric, **layout)
    check(data, expected(COLORS[..., :1]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("associated", [False, True])
def test_colors_with_opacity(layout, kind, planar, associated):
    opacity = np.where(CORNER, 0.0, 1.0)[..., None]
    colors = COLORS * opacity if associated else COLORS
    samples = to_samples(np.concatenate([colors, opacity], -1), kind)
    data = write_tiff(samples, planar=planar, opacity=1 if associated else 2, **layout)
    check(data, expected(COLORS, CORNER))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind, planar", [("u1", False), ("u1", True), ("u2", True)])
@pytest.mark.parametrize("associated", [False, True])
def test_grey_with_opacity(layout, kind, planar, associated):
    opacity = np.where(CORNER, 0.0, 1.0)[..., None]
    grey = COLORS[..., :1] * opacity if associated else COLORS[..., :1]
    samples = to_samples(np.concatenate([grey, opacity], -1), kind)
    data = write_tiff(samples, planar=planar, photometric=BLACK_IS_ZERO,
                      opacity=1 if associated else 2, **layout)
    check(data, expected(COLORS[..., :1], CORNER))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB])
@pytest.mark.parametrize("planar", [False, True])
def test_jpeg_inside(order, big, tile, photometric, planar):
    """Smooth colours, without reduced resolution: rounding is all that differs."""
    colors = COLORS if photometric == RGB else COLORS[..., :1]
    samples = to_samples(1 - colors if photometric == WHITE_IS_ZERO else colors, "u1")
    data = write_tiff(samples, order, big, planar, JPEG, photometric, tile=tile)
    difference = np.abs(decode(data, PREPROCESSING) - expected(colors))
    assert difference.mean() < 1 and difference.max() <= 8


def test_half_opacity():
    """Half of the colour and half of the fill colour."""
    samples = np.full((HEIGHT, WIDTH, 4), (200, 100, 0, 128), np.uint8)
    half = 128 / 255
    image = np.round(half * np.array([200, 100, 0]) + (1 - half) * np.array(FILL))
    for planar in (False, True):
        check(write_tiff(samples, planar=planar, opacity=2),
              np.broadcast_to(image, (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("planar", [False, True])
def test_cmyk(planar):
    """Ink of one colour alone: cyan takes the red away."""
    samples = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    samples[..., 0] = 255 - to_samples(COLORS[..., 0], "u1")
    decoded = decode(write_tiff(samples, planar=planar, photometric=CMYK), PREPROCESSING)
    np.testing.assert_allclose(decoded[..., 0].astype(int), COLORS[..., 0] * 255, atol=1)
    assert (decoded[..., 1:] == 255).all()


@pytest.mark.parametrize("planar", [False, True])
def test_orientation(planar):
    """6: the right-hand side of the stored picture is its bottom (TIFF 6.0, tag 274)."""
    data = write_tiff(to_samples(COLORS, "u1"), planar=planar, **{"274": [6]})
    check(data, np.rot90(expected(COLORS), -1))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("kind, sample_format, name", [
    ("i1", SIGNED, "signed"), ("i2", SIGNED, "signed"), ("i4", SIGNED, "signed"),
    ("f2", FLOAT, "floating-point"), ("f4", FLOAT, "floating-point"),
    ("f8", FLOAT, "floating-point"), ("u4", UNSIGNED, "32 bits"), ("u8", UNSIGNED, "64 bits"),
])
@pytest.mark.parametrize("order, big", [("<", False), (">", True)])
def test_what_has_no_defined_white_is_refused(planar, kind, sample_format, name, order, big):
    data = write_tiff(to_samples(COLORS, kind), order, big, planar, sample_format=sample_format)
    with pytest.raises(ImageError, match=f"is a TIFF of {name}.*save it with") as refusal:
        decode(data, PREPROCESSING)
    assert refusal.value.code == "unsupported"


@pytest.mark.parametrize("kind, photometric, text", [
    ("u2", BLACK_IS_ZERO, "grey values of 16 bits with opacity"),
    ("u1", WHITE_IS_ZERO, "whose 0 is white, with opacity"),
])
def test_other_grey_with_opacity_is_refused(kind, photometric, text):
    samples = to_samples(COLORS[..., :2], kind)
    with pytest.raises(ImageError, match=text) as refusal:
        decode(write_tiff(samples, photometric=photometric, opacity=2), PREPROCESSING)
    assert refusal.value.code == "unsupported"


def odd(channels, kind="u1", **more):
    samples = to_samples(np.resize(COLORS, (HEIGHT, WIDTH, channels)), kind)
    return write_tiff(samples, **more)


@pytest.mark.parametrize("data, text", [
    (odd(1, photometric=BLACK_IS_ZERO, **{"258": [6]}), r"with 1 x 6 bits per pixel \(grey\)"),
    (odd(1, "u2", photometric=BLACK_IS_ZERO, **{"258": [10]}), r"1 x 10 bits per pixel \(grey\)"),
    (odd(3, **{"258": [4, 4, 4]}), r"with 3 x 4 bits per pixel \(RGB\)"),
    (odd(1, "u2", photometric=3), r"with 1 x 16 bits per pixel \(palette\)"),
    (odd(1, photometric=4), r"with 1 x 8 bits per pixel \(mask\)"),
    (odd(3, photometric=9), r"with 3 x 8 bits per pixel \(CIELAB\)"),
    (odd(3, "u2", photometric=6), r"with 3 x 16 bits per pixel \(YCbCr\)"),
    (odd(5, opacity=2), r"with 5 x 8 bits per pixel \(RGB\)"),
    (odd(5, photometric=BLACK_IS_ZERO), "of several grey values per pixel"),
    (odd(5, photometric=BLACK_IS_ZERO, planar=True), "of 5 planes of 8 bits"),
    (odd(3, photometric=6, planar=True), "of 3 planes of 8 bits"),
    (odd(3, compression=34933), "with PNG inside"),
    (odd(3, compression=34934), "with JPEG XR inside"),
])
def test_sound_files_of_other_kinds_are_not_called_broken(data, text):
    with pytest.raises(ImageError, match=text) as refusal:
        decode(data, PREPROCESSING)
    assert refusal.value.code == "unsupported"


def test_a_broken_file_is_not_called_another_kind():
    """The same kind, with its pixels missing or its sides 0."""
    for tags in ({"273": [10**6] * 3}, {"256": [0]}, {"262": [99]}):
        data = odd(3, **{"258": [4, 4, 4], **tags})
        with pytest.raises(ImageError) as refusal:
            decode(data, PREPROCESSING)
        assert refusal.value.code != "unsupported", tags


@pytest.mark.parametrize("compression, text", [(50001, "WebP inside"), (34712, "JPEG 2000 inside")])
@pytest.mark.parametrize("planar", [False, True])
def test_what_is_inside_is_named(compression, text, planar):
    data = write_tiff(to_samples(COLORS, "u1"), planar=planar, compression=compression)
    with pytest.raises(ImageError, match=text) as refusal:
        decode(data, PREPROCESSING)
    assert refusal.value.code == "unsupported"


def test_limits_hold_before_planes_are_decoded():
    data = write_tiff(to_samples(COLORS, "u1"), planar=True, **{"256": [30000], "257": [30000]})
    with pytest.raises(ImageError, match="has 30000 x 30000 pixels"):
        decode(data, PREPROCESSING)


def test_printing_colours_in_planes_take_more_memory():
    """450 MB at 22 bytes per pixel (14 for RGB) and twice the file, which is small here."""
    sides = {"256": [5000], "257": [5000]}
    samples = to_samples(np.resize(COLORS, (HEIGHT, WIDTH, 4)), "u1")
    with pytest.raises(ImageError, match="has 5000 x 5000 pixels, more than the 20,4") as refusal:
        decode(write_tiff(samples, planar=True, photometric=CMYK, **sides), PREPROCESSING)
    assert refusal.value.code == "too_large"
    with pytest.raises(ImageError) as refusal:  # its strips end too early
        decode(write_tiff(samples[..., :3], planar=True, **sides), PREPROCESSING)
    assert refusal.value.code != "too_large"


@pytest.mark.parametrize("size", [9, 20, 200, 700, -200, -30])
def test_a_planar_tiff_that_is_cut_off(size):
    data = write_tiff(to_samples(COLORS, "u2"), planar=True, compression=DEFLATE)
    with pytest.raises(ImageError):
        decode(data[:size], PREPROCESSING)


@pytest.mark.parametrize("planar", [False, True])
def test_huge_tiles_are_refused(planar):
    """libtiff would make room for one, however small the picture is."""
    data = write_tiff(to_samples(COLORS, "u1"), planar=planar, compression=DEFLATE, tile=16,
                      **{"323": [1 << 24]})
    tags = read_tags(data)
    assert tags[322] == (16,)
    with pytest.raises(ImageError, match="has tiles of 16 x 16777216 pixels") as refusal:
        decode(data, PREPROCESSING)
    assert refusal.value.code == "too_large"


def test_positions_beyond_what_the_system_can_count():
    """A position of 64 bits is an error of the file, not of the program."""
    data = bytearray(write_tiff(to_samples(COLORS, "u1"), ">", big=True))
    data[8:16] = b"\xff" * 8
    with pytest.raises(ImageError):
        decode(bytes(data), PREPROCESSING)
    data = bytearray(write_tiff(to_samples(COLORS, "u2"), ">", big=True, planar=True))
    start = int.from_bytes(data[8:16], "big")
    for entry in range(start + 8, len(data) - 20, 20):
        changed = data.copy()
        changed[entry + 12 : entry + 20] = b"\xff" * 8
        with contextlib.suppress(ImageError):
            decode(bytes(changed), PREPROCESSING)
