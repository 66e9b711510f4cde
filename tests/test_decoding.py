"""data/decoding.py and the formats against Pillow, NumPy and positions worked out by hand."""

import io
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from heic_files import BLUE, GREEN, HEIC, PICTURE, RED, box, heic_grid
from PIL import Image, ImageOps, PngImagePlugin

from common.errors import ImageError
from data import decoding_limits, heif, pillow_formats
from data.av1_sizes import av1_sizes
from data.decoding import decode, load
from data.geometry import Preprocessing, resize_to_square, target_size
from data.jpeg import _jpeg_parts, orientation_and_cost
from data.pillow_formats import FORMATS

FILL = (10, 200, 90)
ORIENTATION = 0x0112
LOSSLESS = ("PNG", "BMP", "WEBP", "TIFF")


def encode(image, kind="PNG", **options):
    """Bytes of a Pillow image or an array in the format `kind`."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if kind == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    if kind == "WEBP":
        options = {"lossless": True, "exact": True, **options}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, depth, color_type, rows, extra=b""):
    """A PNG made by hand; `rows` are its bytes before compression."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def smooth(height, width):
    """A smooth picture, another gradient in each channel; uint8 (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / max(1, height - 1), x / max(1, width - 1)
    picture = np.stack([x, y, (1 + np.sin(3 * x + 2 * y)) / 2], axis=-1)
    return np.round(20 + 200 * picture).astype(np.uint8)


def difference(one, two):
    return np.abs(one.astype(int) - np.asarray(two).astype(int))


def whole(data, fill_color=FILL):
    """The decoded image at its own size: S is larger than any picture used with it."""
    return decode(data, Preprocessing(4096, fill_color=fill_color))


# Formats and colour modes


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_are_exact(kind):
    picture = smooth(13, 22)
    assert np.array_equal(whole(encode(picture, kind)), picture)


def test_jpeg_is_what_pillow_decodes():
    data = encode(smooth(40, 56), "JPEG")
    assert difference(whole(data), Image.open(io.BytesIO(data))).max() <= 2


def test_progressive_and_subsampled_jpeg():
    data = encode(smooth(40, 56), "JPEG", progressive=True, subsampling=2)
    assert difference(whole(data), Image.open(io.BytesIO(data))).max() <= 4


def test_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (6, 4), color) for color in ((200, 0, 0), (0, 0, 200))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert np.array_equal(whole(data), np.full((4, 6, 3), (200, 0, 0)))


def test_multipage_tiff_gives_its_first_page():
    pages = [Image.new("RGB", (6, 4), color) for color in ((200, 0, 0), (0, 0, 200))]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert np.array_equal(whole(data), np.full((4, 6, 3), (200, 0, 0)))


@pytest.mark.parametrize("kind", ["JPEG", *LOSSLESS, "GIF"])
def test_grey_becomes_three_equal_channels(kind):
    grey = smooth(16, 24)[..., 0]
    image = whole(encode(grey, kind))
    assert image.shape == (16, 24, 3)
    assert (image == image[..., :1]).all()
    assert difference(image[..., 0], grey).max() <= (2 if kind == "JPEG" else 0)


def test_cmyk_jpeg_has_the_right_colours():
    # Red is no cyan and full magenta and yellow; an inverted reading gives cyan-black.
    inks = {(0, 255, 255, 0): (255, 0, 0), (255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 0): (255,) * 3}
    for ink, color in inks.items():
        image = whole(encode(Image.new("CMYK", (16, 16), ink), "JPEG"))
        assert difference(image, np.full((16, 16, 3), color)).max() <= 4


def test_16_bit_grey_is_scaled():
    # value * 255 / 65535, to the nearest: 128 is 0.498, 129 is 0.502, 32767 is 127.498.
    table = {0: 0, 128: 0, 129: 1, 257: 1, 25700: 100, 32767: 127, 32768: 128, 65535: 255}
    values = np.array([list(table)], np.uint16)
    for kind in ("PNG", "TIFF"):
        image = whole(encode(values, kind))
        assert image[0].tolist() == [[value] * 3 for value in table.values()]


def test_16_bit_rgb_is_scaled():
    values = np.array([[[0, 257, 25700], [32896, 51400, 65535]]], np.uint16)
    ok, data = cv2.imencode(".png", values[..., ::-1])
    image = whole(data.tobytes())
    assert difference(image, [[[0, 1, 100], [128, 200, 255]]]).max() <= 1


def test_palette_with_transparency_shows_the_fill_colour():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 7, 8, 9])
    image.putdata([0, 1, 2])
    for kind in ("PNG", "GIF"):
        result = whole(encode(image, kind, transparency=1))
        assert result.tolist() == [[[255, 0, 0], list(FILL), [7, 8, 9]]]
    assert whole(encode(image)).tolist() == [[[255, 0, 0], [0, 0, 255], [7, 8, 9]]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_rgba_lies_over_the_fill_colour(kind):
    pixels = np.array([[[100, 0, 250, 255], [100, 0, 250, 0], [100, 0, 250, 51]]], np.uint8)
    # 51 of 255 is a fifth: 0.2 * (100, 0, 250) + 0.8 * (10, 200, 90) = (28, 160, 122)
    expected = [[[100, 0, 250], FILL, [28, 160, 122]]]
    assert difference(whole(encode(pixels, kind)), expected).max() <= 1


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("options", [{}, {"lossless": False, "quality": 60}])
def test_webp_has_pillows_pixels(alpha, options):
    pixels = smooth(70, 90)
    if alpha:
        pixels = np.dstack([pixels, np.full((70, 90), 255, np.uint8)])
        pixels[:35, :, 3] = 0
    data = encode(pixels, "WEBP", **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGBA")).copy()
    expected[expected[..., 3] == 0, :3] = FILL
    assert np.array_equal(whole(data), expected[..., :3])


@pytest.mark.parametrize("flags", [0x02, 0x12])
def test_film_of_one_picture_is_read(flags):
    """The flag says film, with opacity or without, and there is one picture."""
    frame = encode(smooth(8, 8), "WEBP")[12:]
    size = struct.pack("<I", 7)[:3]
    extended = b"VP8X" + struct.pack("<IB3x", 10, flags) + size + size
    length = struct.pack("<I", 16 + len(frame))
    animation = b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    picture = b"ANMF" + length + bytes(6) + size + size + struct.pack("<I", 9)[:3] + b"\0" + frame
    content = b"WEBP" + extended + animation + picture
    data = b"RIFF" + struct.pack("<I", len(content)) + content
    assert np.array_equal(whole(data), smooth(8, 8))


def test_grey_with_alpha_lies_over_the_fill_colour():
    pixels = np.array([[[100, 255], [100, 0]]], np.uint8)
    assert whole(encode(pixels)).tolist() == [[[100] * 3, list(FILL)]]


@pytest.mark.parametrize("depth", [8, 16])
def test_transparent_grey_value_shows_the_fill_colour(depth):
    one, two = {8: (10, 200), 16: (2570, 51400)}[depth]  # 10 * 257 and 200 * 257
    form = ">BB" if depth == 8 else ">HH"
    data = raw_png(
        2, 1, depth, 0, b"\0" + struct.pack(form, one, two),
        chunk(b"tRNS", struct.pack(">H", one)),
    )
    assert whole(data).tolist() == [[list(FILL), [200] * 3]]


@pytest.mark.parametrize("depth, pixels, key", [
    (2, 0b11100000, 3), (4, 0b11111010, 15),  # then 2 of two bits, 10 of four: two thirds
])
def test_transparent_grey_value_of_few_bits_shows_the_fill_colour(depth, pixels, key):
    data = raw_png(2, 1, depth, 0, bytes((0, pixels)), chunk(b"tRNS", struct.pack(">H", key)))
    assert whole(data).tolist() == [[list(FILL), [170] * 3]]


def test_transparent_colour_of_16_bits_shows_the_fill_colour():
    one, two = (2571, 51401, 300), (51401, 2571, 44)
    data = raw_png(2, 1, 16, 2, b"\0" + struct.pack(">6H", *one, *two),
                   chunk(b"tRNS", struct.pack(">3H", *one)))
    assert whole(data).tolist() == [[list(FILL), [200, 10, 0]]]


def raw_tiff(width, bits, photometric, content):
    """A grey TIFF of one row, made by hand; `content` are its samples, little-endian."""
    tags = ((256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 122),
            (277, 1), (278, 1), (279, len(content)))
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + content


@pytest.mark.parametrize("bits, photometric, content, expected", [
    (16, 1, struct.pack("<3H", 0, 25700, 65535), [0, 100, 255]),
    (16, 0, struct.pack("<3H", 0, 25700, 65535), [255, 155, 0]),  # TIFF 6.0, WhiteIsZero
    (12, 1, bytes((0xFF, 0xF0, 0x00, 0x64, 0x60)), [255, 0, 100]),  # 4095, 0, 1606, four bits
    (8, 0, bytes((0, 100, 255)), [255, 155, 0]),
])
def test_grey_tiff(bits, photometric, content, expected):
    assert whole(raw_tiff(3, bits, photometric, content))[0].tolist() == [
        [value] * 3 for value in expected]


def test_one_bit_images():
    pixels = np.array([[True, False, True], [False, False, True]])
    for kind in ("PNG", "BMP", "TIFF"):
        expected = np.repeat(pixels[..., None] * 255, 3, axis=-1)
        assert np.array_equal(whole(encode(pixels, kind)), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_a_pixel_are_refused(mode):
    data = encode(Image.new(mode, (4, 4)), "TIFF")
    with pytest.raises(ImageError, match="scan.tif: is a TIFF of .* numbers, which have no"):
        load(data, Preprocessing(8), "scan.tif")


# HEIC and AVIF


@pytest.mark.parametrize("name", ["8 bits", "8 bits, 4:4:4", "10 bits"])
def test_heic_shows_its_picture(name):
    assert difference(whole(HEIC[name]), PICTURE).max() <= 2


@pytest.mark.parametrize("name", ["alpha", "10 bits"])
def test_transparent_heic_lies_over_the_fill_colour(name):
    expected = PICTURE.copy()
    if name == "alpha":
        expected[:24] = FILL
    assert difference(whole(HEIC[name]), expected)[[2, 20, 27, 45]].max() <= 2


def test_of_several_pictures_in_a_heic_the_primary_one_counts():
    assert difference(whole(HEIC["two"]), PICTURE[::-1]).max() <= 3


def test_heic_of_several_tiles():
    image = whole(heic_grid())
    assert image.shape == (128, 128, 3)
    for top in (0, 64):
        for left in (0, 64):
            assert difference(image[top : top + 48, left : left + 64], PICTURE).max() <= 2


def test_a_tile_is_no_substitute_for_the_picture():
    """The grid of a damaged file cannot be made; its tiles could be shown."""
    with pytest.raises(ImageError, match="of a kind that is not read"):
        load(heic_grid().replace(b"dimg", b"gone"), Preprocessing(8))


@pytest.mark.parametrize("orientation", [2, 5, 6])
def test_heic_is_turned_once(orientation):
    """Telephones write the orientation into the boxes and into the EXIF block."""
    data = HEIC[f"turned {orientation}"]
    assert b"Exif\0\0MM" in data and data[-500:].count(b"irot") + data.count(b"imir")
    assert difference(whole(data), UPRIGHT[orientation](PICTURE)).max() <= 3


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_avif_is_what_opencv_decodes(subsampling):
    data = encode(smooth(40, 56), "AVIF", subsampling=subsampling, quality=90)
    opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert difference(whole(data), opencv).max() <= 2
    assert difference(whole(data), smooth(40, 56)).mean() <= 3


def test_avif_of_several_pictures_or_with_alpha():
    frames = [Image.new("RGB", (32, 24), color) for color in (RED, BLUE)]
    data = encode(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert difference(whole(data), np.full((24, 32, 3), RED)).max() <= 3
    clear = encode(Image.new("RGBA", (32, 24), (*GREEN, 0)), "AVIF")
    assert difference(whole(clear), np.full((24, 32, 3), FILL)).max() <= 1


@pytest.mark.parametrize("orientation", range(2, 9))
def test_avif_is_turned_as_its_boxes_say(orientation):
    data = encode(PICTURE, "AVIF", exif=exif(orientation), quality=90)
    assert b"irot" in data or b"imir" in data
    assert difference(whole(data), UPRIGHT[orientation](PICTURE)).mean() <= 3


def test_a_damaged_exif_block_of_an_avif_is_no_reason_to_refuse():
    block = exif(1)
    block[0x010F] = "a maker"
    data = encode(PICTURE, "AVIF", exif=block)
    damaged = data.replace(block.tobytes()[6:10], b"\xff\xff\xff\xff")
    assert damaged != data
    with pytest.raises(ValueError, match="Invalid Exif payload"):
        Image.open(io.BytesIO(damaged))
    assert np.array_equal(whole(damaged), whole(data))


def with_sides(data, width, height):
    """An ISO base media file that announces another size, in the box `ispe`."""
    start = data.index(b"ispe") + 8
    return data[:start] + struct.pack(">II", width, height) + data[start + 8 :]


@pytest.mark.parametrize("name, megapixels", [
    ("8 bits", 50), ("10 bits", 50), ("alpha", 50), ("8 bits, 4:4:4", 28),
])
def test_giant_heic_is_refused_before_decoding(name, megapixels):
    data = with_sides(HEIC[name], 12_000, 10_000)
    with pytest.raises(ImageError, match=rf"12000 x 10000 pixels, more than the {megapixels},"):
        load(data, Preprocessing(8))
    # The picture is coded with 64 x 64 pixels, of which the box clap keeps 64 x 48.
    load(HEIC[name], Preprocessing(8, max_pixels=64 * 64))
    with pytest.raises(ImageError, match="64 x 64 pixels, more than the 4,095 allowed"):
        load(HEIC[name], Preprocessing(8, max_pixels=64 * 64 - 1))


def test_giant_avif_is_refused_before_decoding():
    data = with_sides(encode(PICTURE, "AVIF"), 12_000, 10_000)
    with pytest.raises(ImageError, match="12000 x 10000 pixels, more than the 28,"):
        load(data, Preprocessing(8))


def test_a_heic_that_hides_its_size_is_refused():
    with pytest.raises(ImageError, match="cannot be decoded"):
        load(with_sides(HEIC["8 bits"], 16, 16), Preprocessing(8))


@pytest.mark.parametrize("mode, options", [
    ("RGB", {}), ("RGBA", {}), ("L", {}), ("RGB", {"save_all": True, "append_images": None}),
    ("RGB", {"autotiling": False, "tile_cols": 1}), ("RGB", {"subsampling": "4:4:4"}),
])
def test_an_avif_that_hides_its_size_is_refused(mode, options):
    """libavif decodes what the AV1 header says, and then scales it to what the box says."""
    image = Image.fromarray(smooth(100, 300)).convert("RGBA")
    image.putpixel((0, 0), (0, 0, 0, 0))
    options = {key: [image.convert(mode)] if key == "append_images" else value
               for key, value in options.items()}
    data = encode(image.convert(mode), "AVIF", **options)
    assert {*av1_sizes(data)} == {(300, 100)}
    hidden = re.sub(rb"(ispe\0{4}).{8}", rb"\1" + struct.pack(">II", 16, 16), data, flags=re.DOTALL)
    for file in (data, hidden):
        with pytest.raises(ImageError, match="300 x 100 pixels, more than the 29,999 allowed"):
            load(file, Preprocessing(8, max_pixels=29_999))
    load(data, Preprocessing(8, max_pixels=30_000))


@pytest.mark.parametrize("version, construction, parts", [
    (0, 0, 1), (1, 0, 2), (1, 1, 1), (1, 1, 2), (2, 0, 1), (2, 1, 2),
])
def test_av1_sizes_wherever_the_boxes_put_the_picture(version, construction, parts):
    """Boxes made by hand from ISO/IEC 14496-12: iloc of each version, short and long ids."""
    data = encode(smooth(100, 300), "AVIF")
    picture = data[data.index(b"mdat") + 4 :]
    item_format = ">I" if version == 2 else ">H"
    item = struct.pack(item_format, 7)
    infe = struct.pack(">I", (3 if version == 2 else 2) << 24) + item + b"\0\0av01\0"
    iinf = struct.pack(">IH", 0, 1) + box(b"infe", infe)
    cut = len(picture) // 2 if parts == 2 else len(picture)
    lengths = [cut, len(picture) - cut][:parts]

    def file(offset):
        iloc = struct.pack(">IBB", version << 24, 0x44, 0) + struct.pack(item_format, 1) + item
        iloc += (struct.pack(">H", construction) if version else b"") + struct.pack(">HH", 0, parts)
        for length in lengths:
            iloc += struct.pack(">II", offset, length)
            offset += length
        return box(b"ftyp", b"avif") + box(
            b"meta", bytes(4), box(b"iinf", iinf), box(b"iloc", iloc), box(b"idat", picture))

    assert av1_sizes(file(0 if construction else file(0).index(picture))) == [(300, 100)]


def test_av1_pictures_of_many_parts_are_counted_together(monkeypatch):
    """Two of a size are a picture and its opacity; libavif keeps all tiles of a grid."""
    for count, height in ((1, 50), (2, 50), (6, 150)):
        monkeypatch.setattr(heif, "av1_sizes", lambda data, count=count: [(100, 50)] * count)
        assert heif.coded_size(b"", "AVIF") == (height, 100)


def test_heic_on_several_threads():
    files = [HEIC["8 bits"], HEIC["turned 6"], HEIC["alpha"], encode(PICTURE, "AVIF")] * 20
    expected = [load(data, Preprocessing(32)) for data in files[:4]] * 20
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda data: load(data, Preprocessing(32)), files))
    assert all(np.array_equal(*pair) for pair in zip(results, expected))


def test_heic_with_metadata_of_no_known_type():
    data = HEIC["turned 6"]
    start = data.index(b"Exif", data.index(b"infe"))
    odd = data[:start] + b"\xdb\xff\xfe\x80" + data[start + 4 :]
    assert np.array_equal(whole(odd), whole(data))


def test_heif_of_another_codec_is_unsupported():
    """Its item is no HEVC picture."""
    for codec in (b"av01", b"vvc1", b"j2k1", b"jpeg"):
        with pytest.raises(ImageError, match="is a HEIF file of a kind that is not read") as caught:
            load(HEIC["8 bits"].replace(b"hvc1", codec), Preprocessing(8))
        assert caught.value.code == "unsupported"


# EXIF orientation

# How a camera's stored picture is turned upright, from the EXIF standard's table.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def exif(orientation, endian="<"):
    block = Image.Exif()
    block.endian = endian
    block[ORIENTATION] = orientation
    return block


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_of_jpeg(orientation):
    stored = smooth(16, 24)
    data = encode(stored, "JPEG", exif=exif(orientation))
    image = whole(data)
    pillow = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert image.shape == (pillow.height, pillow.width, 3)
    assert difference(image, pillow).max() <= 2
    assert difference(image, UPRIGHT[orientation](stored)).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_of_other_formats(kind):
    stored = smooth(16, 24)
    data = encode(stored, kind, exif=exif(6))
    pillow = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(whole(data), np.asarray(pillow))
    assert np.array_equal(whole(data), UPRIGHT[6](stored))


def test_exif_of_either_byte_order_and_behind_other_segments():
    stored = smooth(16, 24)
    for endian in "<>":
        data = encode(stored, "JPEG", exif=exif(8, endian))
        # JFIF, a comment-like APP4 and then EXIF, as some editors write it.
        other = b"\xff\xe4" + struct.pack(">H", 2 + 300) + bytes(300)
        data = data[:2] + other + data[2:]
        assert difference(whole(data), UPRIGHT[8](stored)).max() <= 6


@pytest.mark.parametrize("orientation", [0, 9])
def test_exif_orientation_out_of_range_changes_nothing(orientation):
    stored = smooth(16, 24)
    assert whole(encode(stored, "JPEG", exif=exif(orientation))).shape == stored.shape


@pytest.mark.parametrize("first, second", [(6, 3), (3, 6), (1, 6)])
def test_the_first_of_two_exif_blocks_counts(first, second):
    def block(orientation):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        content = b"Exif\0\0" + exif.tobytes()[6 if exif.tobytes()[:4] == b"Exif" else 0 :]
        return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content

    data = encode(smooth(24, 40), "JPEG")
    data = data[:2] + block(first) + block(second) + data[2:]
    pillow = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert difference(whole(data), pillow).max() <= 2


def test_fill_bytes_before_a_marker_are_passed_over():
    """ITU-T T.81, B.1.1.2: any number of FF may stand before a marker."""
    data = encode(smooth(16, 24), "JPEG", exif=exif(6))
    at = data.index(b"\xff\xe1")
    assert whole(data[:at] + b"\xff\xff" + data[at:]).shape == (24, 16, 3)
    assert orientation_and_cost(data[:at] + b"\xff" + data[at:]) == (6, 1)


def test_damaged_exif_is_no_reason_to_refuse():
    block = b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xab" * 40
    image = whole(encode(smooth(16, 24), "JPEG", exif=block))
    assert image.shape == (16, 24, 3)


XMP = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
       b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
       b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>')


def with_xmp(kind, image, **options):
    if kind == "JPEG":
        data = encode(image, kind, **options)
        part = b"http://ns.adobe.com/xap/1.0/\0" + XMP
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part + data[2:]
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return encode(image, kind, pnginfo=text, **options)
    if kind == "TIFF":
        return encode(image, kind, tiffinfo={700: XMP}, **options)
    return encode(image, kind, xmp=XMP, **options)


@pytest.mark.parametrize("kind, mode, options", [
    ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}), ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {}), ("WEBP", "RGB", {}), ("TIFF", "RGB", {}), ("AVIF", "RGB", {}),
])
def test_orientation_in_xmp_alone_does_not_count(kind, mode, options):
    data = with_xmp(kind, Image.fromarray(smooth(16, 24)).convert(mode), **options)
    assert b'Orientation="6"' in data
    assert whole(data).shape == (16, 24, 3)


def test_orientation_and_reduced_scale_together():
    stored = smooth(400, 800)
    image = load(encode(stored, "JPEG", exif=exif(6)), Preprocessing(40, "letterbox", FILL))
    upright = Image.fromarray(UPRIGHT[6](stored)).resize((20, 40), Image.Resampling.BOX)
    assert (image[:, :10] == FILL).all() and (image[:, 30:] == FILL).all()
    assert difference(image[:, 10:30], upright).mean() < 2


# Geometry


def test_letterbox_wide():
    # 10 x 4 into 20: scale 2, so 8 rows from (20 - 8) / 2 = 6 on.
    picture = np.full((4, 10, 3), 50, np.uint8)
    image = resize_to_square(picture, Preprocessing(20, "letterbox", FILL))
    assert (image[:6] == FILL).all() and (image[14:] == FILL).all()
    assert (image[6:14] == 50).all()


def test_letterbox_tall_keeps_every_edge():
    # Already 12 high: 5 columns from (12 - 5) // 2 = 3 on, and no pixel is lost.
    picture = np.random.default_rng(0).integers(0, 256, (12, 5, 3), np.uint8)
    image = resize_to_square(picture, Preprocessing(12, "letterbox", FILL))
    assert np.array_equal(image[:, 3:8], picture)
    assert (image[:, :3] == FILL).all() and (image[:, 8:] == FILL).all()


def test_letterbox_of_a_square_has_no_bars():
    picture = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    assert np.array_equal(resize_to_square(picture, Preprocessing(9, "letterbox", FILL)), picture)


@pytest.mark.parametrize("resize, rows", [("letterbox", slice(4, 5)), ("stretch", slice(None))])
def test_one_pixel_high(resize, rows):
    # Ten blocks of 100 equal pixels become ten pixels; letterboxed in row (10 - 1) // 2.
    picture = np.repeat(np.arange(10, dtype=np.uint8) * 20, 100)[None, :, None].repeat(3, axis=2)
    image = resize_to_square(picture, Preprocessing(10, resize, FILL))
    assert (image[rows, :, 0] == np.arange(10) * 20).all()
    if resize == "letterbox":
        assert (np.delete(image, 4, axis=0) == FILL).all()


def test_one_pixel_wide():
    picture = np.repeat(np.arange(10, dtype=np.uint8) * 20, 100)[:, None, None].repeat(3, axis=2)
    image = resize_to_square(picture, Preprocessing(10, "letterbox", FILL))
    assert (image[:, 4, 0] == np.arange(10) * 20).all()
    assert (np.delete(image, 4, axis=1) == FILL).all()


@pytest.mark.parametrize("tall", [False, True])
def test_crop_of_one_pixel_is_the_middle_one(tall):
    picture = np.zeros((1, 1001, 3), np.uint8)
    picture[0, 500] = (9, 99, 199)
    picture = picture.transpose(1, 0, 2) if tall else picture
    image = resize_to_square(picture, Preprocessing(10, "crop", FILL))
    assert (image == (9, 99, 199)).all()


@pytest.mark.parametrize("tall", [False, True])
def test_crop_takes_the_middle(tall):
    # 30 x 60: columns 15 to 44. 31 x 60: (60 - 31) // 2 = 14, columns 14 to 44.
    for side, first in ((30, 15), (31, 14)):
        picture = np.random.default_rng(1).integers(0, 256, (side, 60, 3), np.uint8)
        expected = picture[:, first : first + side]
        if tall:
            picture, expected = picture.transpose(1, 0, 2), expected.transpose(1, 0, 2)
        assert np.array_equal(resize_to_square(picture, Preprocessing(side, "crop")), expected)


def test_crop_shrunk_averages_the_middle():
    picture = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    expected = picture[:, 10:50].reshape(10, 4, 10, 4, 3).mean(axis=(1, 3))
    cropped = resize_to_square(picture, Preprocessing(10, "crop"))
    assert difference(cropped, np.round(expected)).max() <= 1


def test_crop_is_a_square_of_the_image():
    # 3 high and 5 wide: the middle square is columns 1 to 3, so the last result column is
    # that of the source's column 3.
    picture = np.array([0, 50, 100, 150, 200], np.uint8)[None, :, None].repeat(3, 0).repeat(3, 2)
    assert resize_to_square(picture, Preprocessing(3, "crop"))[0, :, 0].tolist() == [50, 100, 150]
    enlarged = resize_to_square(picture, Preprocessing(4, "crop"))[0, :, 0]
    # Half-pixel centres: (i + 0.5) * 3 / 4 - 0.5 = -0.125, 0.625, 1.375, 2.125
    assert difference(enlarged, [50, 81, 119, 150]).max() <= 1


def test_stretch_fills_the_square():
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:10, :20], picture[10:, 20:] = 100, 200
    image = resize_to_square(picture, Preprocessing(8, "stretch", FILL))
    expected = np.zeros((8, 8, 3))
    expected[:4, :4], expected[4:, 4:] = 100, 200
    assert difference(image, expected)[[0, 2, 5, 7]][:, [0, 2, 5, 7]].max() == 0


def test_enlarging_is_bilinear_with_half_pixel_centres():
    picture = np.array([[0, 100], [0, 100]], np.uint8)[..., None].repeat(3, axis=2)
    image = resize_to_square(picture, Preprocessing(4, "stretch"))
    assert difference(image[..., 0], [[0, 25, 75, 100]] * 4).max() <= 1


def test_shrinking_averages():
    picture = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
    expected = picture.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    assert difference(resize_to_square(picture, Preprocessing(8)), np.round(expected)).max() <= 1


def test_stretching_one_side_while_shrinking_the_other_averages():
    # Of each four columns one is white: wherever it is sampled, the mean is 63.75.
    picture = np.zeros((4, 1000, 3), np.uint8)
    picture[:, 3::4] = 255
    image = resize_to_square(picture, Preprocessing(10, "stretch"))
    assert difference(image, 64).max() <= 2


@pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 3), (1, 1000), (999, 2), (33, 64)])
def test_any_shape_fits(shape, resize):
    picture = np.full((*shape, 3), 77, np.uint8)
    image = resize_to_square(picture, Preprocessing(16, resize, (77, 77, 77)))
    assert image.shape == (16, 16, 3) and image.dtype == np.uint8
    assert (image == 77).all()  # a pixel that nobody wrote shows


# JPEG at a reduced scale


@pytest.mark.parametrize(
    "resize, size, height, width, expected",
    [
        # The eighths of 1000 are 125, 250, 375, 500 ...; the least that is enough is taken.
        ("letterbox", 224, 1000, 1000, (250, 250)),
        ("letterbox", 250, 1000, 1000, (250, 250)),
        ("letterbox", 251, 1000, 1000, (375, 375)),
        ("letterbox", 125, 500, 1000, (63, 125)),  # libjpeg rounds 62.5 up
        ("crop", 125, 1000, 2000, (125, 250)),
        ("crop", 126, 1000, 2000, (250, 500)),
        ("stretch", 224, 1000, 2000, (250, 500)),
        ("letterbox", 2000, 500, 1000, (500, 1000)),
    ],
)
def test_jpeg_is_decoded_at_the_least_scale_that_is_enough(resize, size, height, width, expected):
    data = encode(np.zeros((height, width, 3), np.uint8), "JPEG")
    assert decode(data, Preprocessing(size, resize)).shape == (*expected, 3)


@pytest.mark.parametrize("resize, box", [
    ("letterbox", None), ("crop", (200, 0, 800, 600)), ("stretch", None)
])
def test_reduced_jpeg_is_close_to_pillow(resize, box):
    data = encode(smooth(600, 1000), "JPEG")
    size = (100, 60) if resize == "letterbox" else (100, 100)
    pillow = Image.open(io.BytesIO(data)).resize(size, Image.Resampling.BOX, box)
    image = load(data, Preprocessing(100, resize, FILL))
    inside = image[20:80] if resize == "letterbox" else image
    assert difference(inside, pillow).mean() < 1
    assert difference(inside, pillow).max() <= 4


@pytest.mark.parametrize("band", [1, 700, 4096, 9973])
@pytest.mark.parametrize("resize, box", [
    ("letterbox", None), ("crop", (200, 0, 800, 600)), ("stretch", None)
])
def test_large_images_are_reduced_in_bands(monkeypatch, band, resize, box):
    monkeypatch.setattr(pillow_formats, "BAND_PIXELS", band)
    picture = smooth(600, 1000)
    size = (100, 60) if resize == "letterbox" else (100, 100)
    pillow = Image.fromarray(picture).resize(size, Image.Resampling.BOX, box)
    image = load(encode(picture), Preprocessing(100, resize, FILL))
    inside = image[20:80] if resize == "letterbox" else image
    assert difference(inside, pillow).max() <= 2


def test_a_tall_image_is_cropped_in_bands(monkeypatch):
    monkeypatch.setattr(pillow_formats, "BAND_PIXELS", 700)
    picture = smooth(1000, 600)
    pillow = Image.fromarray(picture).resize((100, 100), Image.Resampling.BOX, (0, 200, 600, 800))
    image = load(encode(picture), Preprocessing(100, "crop", FILL))
    assert difference(image, pillow).max() <= 2


def test_bands_lose_no_pixel(monkeypatch):
    """Not reduced, but turned and over the fill colour: sides that no band divides."""
    monkeypatch.setattr(pillow_formats, "BAND_PIXELS", 300)
    picture = np.random.default_rng(0).integers(0, 256, (67, 101, 4), np.uint8)
    picture[..., 3] = np.where(picture[..., 3] < 99, 0, 255)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # a quarter clockwise shows it upright
    image = load(encode(picture, exif=exif), Preprocessing(101, "letterbox", FILL))
    upright = np.rot90(np.where(picture[..., 3:] > 0, picture[..., :3], FILL), -1)
    assert np.array_equal(image[:, 17:84], upright)


def area_average(image, height, width):
    """Each pixel the mean of the part of the image that it covers, pixels cut at its edges."""
    def weights(count, size):
        edges = np.arange(size + 1) * count / size
        inside = np.minimum(edges[1:, None], np.arange(1, count + 1)) - np.maximum(
            edges[:-1, None], np.arange(count))
        return np.maximum(inside, 0) * size / count

    return np.einsum("hy,wx,yxc->hwc", weights(image.shape[0], height),
                     weights(image.shape[1], width), image.astype(float))


@pytest.mark.parametrize("height, width", [(199, 151), (151, 199), (127, 127), (70, 2000),
                                           (2000, 70), (50, 3001)])
@pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
def test_large_images_are_averaged_by_area(monkeypatch, height, width, resize):
    """Noise, whose sides nothing divides: a shift by a part of a pixel would be seen."""
    monkeypatch.setattr(pillow_formats, "BAND_PIXELS", 1000)
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    size = 23
    image = load(encode(picture), Preprocessing(size, resize, FILL))
    if resize == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        picture = picture[top : top + side, left : left + side]
    elif resize == "letterbox":
        rows, columns = target_size(height, width, Preprocessing(size, resize))
        top, left = (size - rows) // 2, (size - columns) // 2
        image = image[top : top + rows, left : left + columns]
    assert np.abs(image - area_average(picture, *image.shape[:2])).max() <= 1.5


def test_a_long_line_is_reduced_in_bands(monkeypatch):
    monkeypatch.setattr(pillow_formats, "BAND_PIXELS", 1000)
    picture = np.repeat(np.arange(0, 250, 10, dtype=np.uint8), 1000)[None, :, None]
    image = load(encode(picture.repeat(3, axis=2)), Preprocessing(25, "stretch"))
    assert np.array_equal(image[12, :, 0], np.arange(0, 250, 10))


# The limits on pixels and memory


@pytest.mark.parametrize("kind", [*FORMATS, "AVIF"])
def test_pixel_limit(kind):
    data = encode(np.zeros((8, 12, 3), np.uint8), kind)
    load(data, Preprocessing(4, max_pixels=96))
    with pytest.raises(ImageError, match="photo: has 12 x 8 pixels, more than the 95 allowed"):
        load(data, Preprocessing(4, max_pixels=95), "photo")


def test_pixel_limit_holds_for_cmyk_jpeg():
    data = encode(Image.new("CMYK", (12, 8)), "JPEG")
    with pytest.raises(ImageError, match="12 x 8 pixels"):
        load(data, Preprocessing(4, max_pixels=95))


def with_thumbnail(data, thumbnail):
    """A JPEG with another in an application's segment before its own."""
    return data[:2] + b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]


def in_turn(between=b""):
    """A JPEG that is not progressive but has a scan a colour: its frame, then a table, then those.

    Made of three grey ones of 8 x 8 pixels, whose tables all are the same.
    """
    def parts(data):
        found, position = {}, 2
        while data[position + 1] != 0xDA:
            end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            found.setdefault(data[position + 1], b"")
            found[data[position + 1]] += data[position:end]
            position = end
        return found, data[position + 10 : -2]

    grey = [parts(encode(np.full((8, 8), value, np.uint8), "JPEG")) for value in (76, 85, 255)]
    tables = grey[0][0]
    frame = b"\xff\xc0\x00\x11\x08\x00\x08\x00\x08\x03" + b"".join(
        bytes((number, 0x11, 0)) for number in (1, 2, 3))
    scans = b"".join(
        b"\xff\xda\x00\x08\x01" + bytes((number, 0)) + b"\x00\x3f\x00" + data
        for number, (_, data) in zip((1, 2, 3), grey))
    return b"\xff\xd8" + tables[0xDB] + between + frame + tables[0xC4] + scans + b"\xff\xd9"


SMALL = smooth(8, 8)
PLAIN, GATHERED = encode(SMALL, "JPEG"), encode(SMALL, "JPEG", progressive=True)
CMYK = Image.new("CMYK", (8, 8))
TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("progressive", "1")
COSTS = {  # bytes a pixel, rounded up: what reading 26 to 75 megapixels was seen to take
    "plain": (PLAIN, 1),
    "progressive": (GATHERED, 6),
    "a scan a colour": (in_turn(), 6),
    "a scan a colour, for Pillow": (in_turn(bytes(4)), 13),
    "plain, its thumbnail progressive": (with_thumbnail(PLAIN, GATHERED), 1),
    "progressive, its thumbnail plain": (with_thumbnail(GATHERED, PLAIN), 6),
    "CMYK": (encode(CMYK, "JPEG"), 5),
    "CMYK, progressive": (encode(CMYK, "JPEG", progressive=True), 13),
    "PNG": (encode(SMALL), 5),
    "PNG that says it is progressive": (encode(SMALL, pnginfo=TEXT), 5),
    "WebP": (encode(SMALL, "WEBP"), 10),
    "WebP of several pictures": (
        encode(SMALL, "WEBP", save_all=True, append_images=[Image.fromarray(SMALL[::-1])]), 17),
    "TIFF": (encode(SMALL, "TIFF"), 5),
    "TIFF, packed in one strip": (encode(SMALL, "TIFF", compression="tiff_adobe_deflate"), 8),
    "TIFF, packed in two strips": (
        encode(SMALL, "TIFF", compression="tiff_adobe_deflate", tiffinfo={278: 4}), 6.5),
    "AVIF": (encode(SMALL, "AVIF"), 16),
}


@pytest.mark.parametrize("kind", COSTS)
def test_memory_limit(monkeypatch, kind):
    data, cost = COSTS[kind]
    monkeypatch.setattr(decoding_limits, "MAX_MEMORY", 64 * cost)
    load(data, Preprocessing(4))
    monkeypatch.setattr(decoding_limits, "MAX_MEMORY", 64 * cost - 0.1)
    with pytest.raises(ImageError, match="has 8 x 8 pixels, more than the 63 allowed"):
        load(data, Preprocessing(4))


def test_a_scan_a_colour_is_decoded():
    # Y 76, Cb 85, Cr 255 is red in JFIF's colours
    assert difference(whole(in_turn()), np.full((8, 8, 3), (254, 0, 0))).max() <= 4


@pytest.mark.parametrize("width, height", [(1_000_001, 1), (1, 1_000_001)])
def test_a_side_without_end_is_refused(width, height):
    data = raw_png(width, height, 8, 2, b"\0" * 10)
    with pytest.raises(ImageError, match="a side may have 1,000,000 at most"):
        load(data, Preprocessing(8))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_film_behind_a_picture_is_passed_over(progressive):
    """Phones append one to a photo; by chance its bytes hold what begins a scan."""
    data = encode(smooth(64, 64), "JPEG", progressive=progressive)
    noise = np.random.default_rng(0).integers(0, 256, 8 << 20, np.uint8).tobytes()
    for film in (noise, b"\0\2" + b"\xff\xda\0\2" * 101):
        assert film.count(b"\xff\xda") > 100
        assert np.array_equal(whole(data + film), whole(data))


@pytest.mark.parametrize("mode, written", [("RGB", 10), ("CMYK", 18)])  # what libjpeg writes
@pytest.mark.parametrize("restarts", [0, 1])
def test_more_than_100_scans_are_refused(restarts, mode, written):
    image = Image.fromarray(smooth(64, 64)).convert(mode)  # Pillow decodes the CMYK
    data = encode(image, "JPEG", progressive=True, restart_marker_blocks=restarts)
    last = data.rindex(b"\xff\xda")
    before = sum(marker == 0xDA for marker, _ in _jpeg_parts(data[:last]))
    assert before == data[:last].count(b"\xff\xda") == written - 1
    whole(data[:last] + data[last:-2] * (101 - written) + data[-2:])
    with pytest.raises(ImageError, match="has 101 scans; at most 100 are decoded"):
        whole(data[:last] + data[last:-2] * (102 - written) + data[-2:])


def test_giant_png_is_refused_before_decoding():
    # The file has a hundred bytes: a decoder would complain of the missing pixels instead.
    data = raw_png(50_000, 60_000, 8, 2, b"\0" * 10)
    with pytest.raises(ImageError, match="50000 x 60000 pixels, more than the 90,000,000"):
        load(data, Preprocessing(8))


def test_giant_jpeg_is_refused_before_decoding():
    data = bytearray(encode(np.zeros((8, 12, 3), np.uint8), "JPEG"))
    start = data.index(b"\xff\xc0") + 5  # the frame header's height and width
    data[start : start + 4] = struct.pack(">HH", 60_000, 65_000)
    with pytest.raises(ImageError, match="65000 x 60000 pixels"):
        load(bytes(data), Preprocessing(8))


# Files that lack something beside the picture


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("missing", [1, 2])
def test_jpeg_without_its_end_mark_is_read(mode, missing):
    data = encode(Image.fromarray(smooth(60, 80)).convert(mode), "JPEG")
    for preprocessing in (Preprocessing(4096), Preprocessing(10)):
        assert np.array_equal(decode(data[:-missing], preprocessing), decode(data, preprocessing))
    assert np.array_equal(load(data[:-missing], Preprocessing(8)), load(data, Preprocessing(8)))


@pytest.mark.parametrize("mode, options, missing", [
    ("RGB", {}, 8), ("L", {}, 8), ("CMYK", {}, 8), ("RGB", {"restart_marker_blocks": 1}, 20),
    ("RGB", {"progressive": True}, 2), ("CMYK", {"progressive": True}, 2),
])
def test_jpeg_without_some_of_its_pixels_is_truncated(mode, options, missing):
    data = encode(Image.fromarray(NOISE).convert(mode), "JPEG", **options)[:-missing]
    with pytest.raises(ImageError) as caught:
        load(data, Preprocessing(8))
    assert caught.value.code == "truncated"


def text_png(*parts, behind=()):
    """A PNG of 8 x 8 pixels with parts before its pixels and behind them."""
    data = encode(SMALL)
    start, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    return data[:start] + b"".join(parts) + data[start:end] + b"".join(behind) + data[end:]


def wrong_checksum(kind, data):
    return chunk(kind, data)[:-1] + bytes([chunk(kind, data)[-1] ^ 1])


LARGE = zlib.compress(bytes(2 << 20))
EXTRAS = {
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + LARGE),
    "iTXt": chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE),
    "profile": chunk(b"iCCP", b"profile\0\0" + LARGE),
    "many texts": b"".join(
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 20))) for _ in range(70)),
    "bad checksum": wrong_checksum(b"tEXt", b"Comment\0text"),
    "bad checksum of EXIF": wrong_checksum(b"eXIf", exif(6).tobytes()[6:]),
    "nonsense": chunk(b"gAMA", b"") + chunk(b"pHYs", b"x") + chunk(b"tIME", b""),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_png_with_large_or_damaged_parts_beside_its_pixels_is_read(name):
    assert np.array_equal(whole(text_png(EXTRAS[name])), SMALL)
    if name != "bad checksum of EXIF":  # behind the pixels Pillow looks at no checksum
        assert np.array_equal(whole(text_png(behind=[EXTRAS[name]])), SMALL)


def test_png_with_large_text_keeps_its_orientation_and_transparency():
    data = text_png(EXTRAS["zTXt"], chunk(b"eXIf", exif(6).tobytes()[6:]),
                    chunk(b"tRNS", struct.pack(">3H", *SMALL[0, 0])))
    expected = SMALL.copy()
    expected[0, 0] = FILL
    assert np.array_equal(whole(data), UPRIGHT[6](expected))


def bmp(header_size, masks, pixels):
    """A 32-bit BMP made by hand; `pixels` (height, width, 4) are its bytes, blue first."""
    height, width = pixels.shape[:2]
    header = struct.pack("<IiiHHIIiiII", header_size, width, height, 1, 32, 3 if masks else 0,
                         pixels.size, 2835, 2835, 0, 0)
    header += struct.pack("<4I", *masks) + bytes(header_size - 56) if masks else b""
    body = pixels[::-1].tobytes()
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + body


@pytest.mark.parametrize("header_size, masks, fourth", [
    (40, None, 0), (40, None, 255), (40, None, 77),
    (108, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 0), (124, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 0),
    (108, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 255), (108, (0xFF0000, 0xFF00, 0xFF, 0), 9),
])
def test_bmp_of_32_bits_is_what_opencv_decodes(header_size, masks, fourth):
    pixels = np.dstack([smooth(8, 12), np.full((8, 12), fourth, np.uint8)])
    data = bmp(header_size, masks, pixels)
    opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(opencv, smooth(8, 12)[..., ::-1])
    assert np.array_equal(whole(data), opencv)


def masked_bmp(bits, shifts, picture, alpha=None):
    """A BMP with the header of 40 bytes and masks; pixels of 16 bits where these suffice."""
    size = 4 if max(bits) + max(shifts) > 16 else 2
    channels = [*np.moveaxis(picture, -1, 0)] + ([alpha] if alpha is not None else [])
    values = sum(np.rint(channel / 255 * ((1 << count) - 1)).astype(np.int64) << shift
                 for channel, count, shift in zip(channels, bits, shifts))
    masks = [((1 << count) - 1) << shift for count, shift in zip(bits, shifts)]
    height, width = picture.shape[:2]
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8 * size,
                         3 if alpha is None else 6, 0, 2835, 2835, 0, 0)
    header += struct.pack(f"<{len(masks)}I", *masks)
    rows = [row.astype(f"<u{size}").tobytes() for row in values[::-1]]
    body = b"".join(row + bytes(-len(row) % 4) for row in rows)
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + body


@pytest.mark.parametrize("bits, shifts", [
    ((8, 8, 8), (20, 12, 4)), ((6, 6, 6), (0, 10, 20)), ((11, 11, 10), (21, 10, 0)),
    ((2, 3, 1), (4, 1, 0)), ((4, 4, 4), (8, 4, 0)),
])
def test_bmp_of_unusual_masks(bits, shifts):
    picture = smooth(8, 13)
    data = masked_bmp(bits, shifts, picture)
    with pytest.raises(OSError, match="Unsupported BMP bitfields layout"):
        Image.open(io.BytesIO(data))
    # Half a step between the values that so many bits have
    steps = [255 / ((1 << count) - 1) / 2 + 0.5 for count in bits]
    assert (difference(whole(data), picture).max(axis=(0, 1)) <= steps).all()
    with pytest.raises(ImageError, match="13 x 8 pixels, more than the 103 allowed"):
        load(data, Preprocessing(8, max_pixels=103))
    with pytest.raises(ImageError, match="truncated"):
        whole(data[:-9])
    with pytest.raises(ImageError, match="is a BMP of a kind that is not read"):
        whole(data[:28] + b"\2" + data[29:])


def test_bmp_of_unusual_masks_with_opacity():
    alpha = np.zeros((8, 13))
    alpha[:, :5] = 255
    data = masked_bmp((8, 8, 7, 8), (24, 16, 8, 0), smooth(8, 13), alpha)
    expected = np.where(alpha[..., None] > 0, smooth(8, 13), FILL)
    assert difference(whole(data), expected).max() <= 1
    unused = masked_bmp((8, 8, 7, 8), (24, 16, 8, 0), smooth(8, 13), 0 * alpha)
    assert difference(whole(unused), smooth(8, 13)).max() <= 1


# Formats that are not read, by their first bytes as the formats' specifications have them


def raw_file(*tags, marker=b""):
    """The head of a TIFF with these tags, of type LONG."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = 8 + len(marker)
    return b"II*\0" + struct.pack("<I", start) + marker + struct.pack("<H", len(tags)) + entries


UNREAD = {
    "JPEG XL": [b"\xff\x0a\xfa\x1f", b"\0\0\0\x0cJXL \r\n\x87\n"],
    "JPEG 2000": [b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0\x2f"],
    "JPEG XR": [b"II\xbc\x01"], "JPEG-LS": [b"\xff\xd8\xff\xf7\0\x0b\x08"],
    "Canon CR3": [b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom"],
    "Canon CR2": [raw_file((256, 8), (258, 8), marker=b"CR\x02\0\0\0\0\0")],
    "DNG": [raw_file((254, 1), (330, 99), (50706, 0x0401)),
            raw_file((254, 0), (262, 34892), (50706, 0x0401))],
    "RAW file": [raw_file((254, 1), (271, 99), (330, 99)), raw_file((254, 0), (262, 32803)),
                 b"IIRO\x08\0\0\0", b"IIU\0\x18\0\0\0", b"FUJIFILMCCD-RAW 0201", b"FOVb\0\0\2\0"],
    "a video": [b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
                b"\0\0\0\x18ftypmp42", b"\0\0\0\x08wide\0\0\0\0mdat", b"RIFF\0\1\0\0AVI LIST",
                b"\x1a\x45\xdf\xa3\x9fB\x86", b"\0\0\x01\xba\x44"],
    "a PDF": [b"%PDF-1.7\n"], "PostScript": [b"%!PS-Adobe-3.0"],
    "a Photoshop file": [b"8BPS\0\1"], "a GIMP file": [b"gimp xcf v011"],
    "an icon": [encode(SMALL, "ICO"), b"\0\0\2\0\1\0"], "OpenEXR": [b"\x76\x2f\x31\x01"],
    "SVG": [b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<svg>"],
    "git lfs pull": [b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"],
    "AppleDouble": [b"\0\x05\x16\x07\0\2\0\0Mac OS X"],
    "an archive": [b"PK\x03\x04\x14\0"], "Netpbm": [encode(SMALL, "PPM")],
}


@pytest.mark.parametrize("name", UNREAD)
def test_formats_that_are_not_read_are_named(name):
    for data in UNREAD[name]:
        with pytest.raises(ImageError, match=name) as caught:
            load(data + bytes(40), Preprocessing(8), "photo.jpg")
        assert caught.value.code == "unsupported"


def test_what_resembles_raw_and_is_not():
    """A TIFF whose first image is a full one in plain colours, also with DNG's tag."""
    for tags in ({254: 0}, {50706: b"\1\4\0\0"}, {254: 1}):
        assert np.array_equal(whole(encode(SMALL, "TIFF", tiffinfo=tags)), SMALL)


# Broken and misnamed files


def broken_files():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    jpeg, png = encode(picture, "JPEG"), encode(picture)
    return {
        "empty.jpg": b"",
        "half.jpg": jpeg[: len(jpeg) // 2],
        "start.jpg": jpeg[:3],
        "half.png": png[: len(png) // 2],
        "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "text.png": b"img_1.jpg, 0\n",
        "zero.bmp": bytes(1000),
        "half.webp": encode(picture, "WEBP")[:2000],
        "half.gif": encode(picture, "GIF")[:1500],
        "half.tif": encode(picture, "TIFF")[:5000],
    }


@pytest.mark.parametrize("name", broken_files())
def test_broken_files_are_named_with_a_reason(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(broken_files()[name])
    with pytest.raises(ImageError) as found:
        load(str(path), Preprocessing(8))
    assert str(found.value).startswith(f"{path}: ")
    assert found.value.name == str(path)
    assert len(found.value.reason) > 10 and "\n" not in found.value.reason


def test_reasons_are_understandable(tmp_path):
    with pytest.raises(ImageError, match="empty"):
        load(b"", Preprocessing(8))
    with pytest.raises(ImageError, match="is none of JPEG, PNG, BMP, WEBP, GIF, TIFF, HEIF, AVIF"):
        load(b"img_1.jpg, 0", Preprocessing(8), "page.jpg")
    with pytest.raises(ImageError, match="is none of .*; it is a web page, as a failed download"):
        load(b"\n<!-- x --><!doctype HTML><html></html>", Preprocessing(8), "page.jpg")
    with pytest.raises(ImageError, match="No such file"):
        load(tmp_path / "missing.jpg", Preprocessing(8))
    with pytest.raises(ImageError, match="directory"):
        load(tmp_path, Preprocessing(8))


TOO_MANY_SCANS = (GATHERED[: GATHERED.rindex(b"\xff\xda")]
                  + GATHERED[GATHERED.rindex(b"\xff\xda") : -2] * 101 + b"\xff\xd9")
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
CODES = {
    "empty": {"nothing": b""},
    "truncated": {
        **{f"half of a {kind}": encode(NOISE, kind)[: len(encode(NOISE, kind)) // 2]
           for kind in (*FORMATS, "AVIF")},
        "half of a HEIC": HEIC["8 bits"][:400], "a HEIC's first boxes": HEIC["8 bits"][:100],
        "half of a CMYK JPEG": encode(Image.fromarray(NOISE).convert("CMYK"), "JPEG")[:3000],
        "a JPEG's first bytes": PLAIN[:11],
    },
    "too_large": {
        "pixels of a JPEG": encode(NOISE, "JPEG"), "pixels of a PNG": encode(NOISE),
        "a side": raw_png(1_000_001, 1, 8, 2, b"\0"), "scans": TOO_MANY_SCANS,
        "memory": raw_png(10_000, 9_001, 8, 2, b"\0"),
    },
    "unsupported": {
        **{mode: encode(Image.new(mode, (4, 4)), "TIFF") for mode in ("I", "F")},
        "another format": encode(SMALL, "PPM"),
    },
    "undecodable": {
        "a page": b"<html>", "a text": b"img_1.jpg, 0\n",
        "damaged pixels": raw_png(8, 8, 8, 2, b"\7" * 200),
        "a whole WebP of a damaged frame": b"RIFF" + struct.pack("<I", 24) + b"WEBPVP8 "
        + struct.pack("<I", 12) + b"\x10\x02\0\x9d\x01\x2a" + bytes(6),
    },
}


@pytest.mark.parametrize("code, name", [(code, name) for code in CODES for name in CODES[code]])
def test_errors_have_codes(code, name):
    limit = 4095 if name.startswith("pixels") else decoding_limits.MAX_PIXELS
    with pytest.raises(ImageError) as caught:
        load(CODES[code][name], Preprocessing(8, max_pixels=limit))
    assert caught.value.code == code, caught.value


def test_a_file_that_cannot_be_read_has_a_code(tmp_path):
    for path in (tmp_path / "missing.jpg", tmp_path, f"{tmp_path}/null\0.jpg"):
        with pytest.raises(ImageError) as caught:
            load(path, Preprocessing(8))
        assert caught.value.code == "unreadable"


def test_other_formats_are_refused():
    with pytest.raises(ImageError, match="is none of"):
        load(encode(smooth(8, 8), "TGA"), Preprocessing(8))


def test_content_counts_and_not_the_name(tmp_path):
    picture = smooth(16, 16)
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(picture, "PNG"))
    assert np.array_equal(load(path, Preprocessing(16)), picture)


# Where the result lies


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
def test_out_is_written_in_place(kind, resize):
    data = encode(smooth(30, 50), kind)
    for size in (15, 21, 64):
        preprocessing = Preprocessing(size, resize, FILL)
        batch = np.full((3, size, size, 3), 111, np.uint8)
        result = load(data, preprocessing, out=batch[1])
        assert np.shares_memory(result, batch)
        assert (batch[[0, 2]] == 111).all()
        assert np.array_equal(batch[1], load(data, preprocessing))


@pytest.mark.parametrize("get", [load, decode])
def test_results_are_not_overwritten_by_the_next_call(get):
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)] * 6
    files = {color: encode(np.full((48, 48, 3), color, np.uint8), "JPEG") for color in colors}
    # 48 needs no resizing at all; 6 is libjpeg's eighth.
    for size in (48, 6):
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda c, s=size: get(files[c], Preprocessing(s)), colors))
        results += [get(files[color], Preprocessing(size)) for color in colors]
        for color, image in zip(colors * 2, results):
            assert difference(image, np.full(image.shape, color)).max() <= 4


@pytest.mark.parametrize("kind", [*FORMATS, "AVIF"])
def test_path_and_bytes_give_the_same(tmp_path, kind):
    data = encode(smooth(30, 50), kind)
    path = tmp_path / "photo"
    path.write_bytes(data)
    preprocessing = Preprocessing(20)
    expected = load(data, preprocessing)
    for source in (path, str(path), bytearray(data), memoryview(data)):
        assert np.array_equal(load(source, preprocessing), expected)
