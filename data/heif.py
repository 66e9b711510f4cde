"""HEIC, HEIF and AVIF: pictures in ISO base media files, opened as Pillow images.

libheif (through pi-heif) decodes HEVC, libavif (in Pillow) decodes AV1. Of several pictures the
primary one is taken, of a sequence the first. The file's own boxes (`irot`, `imir`) say how a
picture is turned, its EXIF block is only a copy (ISO/IEC 23008-12, 6.5.10): libheif applies them,
Pillow makes them the orientation of an AVIF. 10 and 12 bits become 8.
"""

import functools
import io
import re
import struct
import warnings

from PIL import ImageFile

from data.av1_sizes import av1_sizes

HEIF, AVIF = "HEIF", "AVIF"
# Brands, ISO/IEC 23008-12 and AVIF 1.1; the general ones leave the codec open
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
AVIF_BRANDS = (b"avif", b"avis")
GENERAL_BRANDS = (b"mif1", b"msf1")
FINE_CHROMA = (2, 3)  # libheif's numbers of colours at more than half the resolution
MAX_BRANDS, MAX_BOXES = 64, 10_000  # of a file that is looked at
# Boxes of ISO/IEC 14496-12 and 23008-12: that of an EXIF item, before its type; a size
EXIF_ITEM = re.compile(rb"(infe\x02.{7}|infe\x03.{9})Exif", re.DOTALL)
SIZE_BOX = re.compile(rb"\0\0\0\x14ispe\0{4}(.{8})", re.DOTALL)


class OtherCodecError(Exception):
    """A HEIF file whose primary picture is coded in another way than HEVC."""


def container_format(data):
    """Which of the formats a file has.

    Args:
        data: bytes of the file, or its first hundreds of bytes.

    Returns:
        "HEIF", "AVIF", or None for any other file.
    """
    if bytes(data[4:8]) != b"ftyp":
        return None
    major_brand = bytes(data[8:12])
    if major_brand in GENERAL_BRANDS:
        end = min(int.from_bytes(data[:4], "big"), 16 + 4 * MAX_BRANDS)
        brands = [bytes(data[start : start + 4]) for start in range(16, end, 4)]
        return AVIF if any(brand in AVIF_BRANDS for brand in brands) else HEIF
    if major_brand in AVIF_BRANDS:
        return AVIF
    return HEIF if major_brand in HEIF_BRANDS else None


def open_container(image_file, container):
    """Opens a file of `container_format`; its pixels are decoded when they are loaded.

    Args:
        image_file: binary file, at its start.
        container: "HEIF" or "AVIF".

    Returns:
        Pillow image.

    Raises:
        OtherCodecError: it holds no picture that libheif can decode.
        RuntimeError: pi-heif is not installed.
        Exception: the file is damaged, or of a kind that the decoder does not know.
    """
    if container == HEIF:
        return HeifImage(image_file)
    opener = _avif_opener()
    try:
        return opener(image_file)
    except Exception as error:
        # libavif refuses a file of which only the EXIF block is damaged: that gets another type.
        image_file.seek(0)
        image = opener(io.BytesIO(EXIF_ITEM.sub(rb"\1free", image_file.read())))
        warnings.warn(f"Corrupt EXIF data: {error}", stacklevel=1)  # for the audit
        return image


class HeifImage(ImageFile.ImageFile):
    """A HEIF file as a Pillow image: its primary picture, decoded by libheif when it is loaded.

    The class of pi-heif reads the metadata as well, which are not needed here, and the process
    ends if the type of one is not UTF-8 (version 1.4.0). So libheif is called as that class does.
    """

    format = HEIF

    def _open(self):
        load_file = _libheif()
        # On the calling thread, as there are several; 8 bits; blue last; rows without gaps.
        pictures = load_file(self.fp.read(), 0, True, False, True, True, "", False)
        # None stands for a picture that libheif cannot decode; another one is no substitute.
        primary = [one for one in pictures if len(pictures) == 1 or (one and one.primary)]
        self._picture = primary[0] if primary else None
        if self._picture is None:
            raise OtherCodecError
        self._size, self._mode = self._picture.size_mode
        has_fine_colors = self._picture.chroma in FINE_CHROMA
        has_fine_alpha = self.mode.endswith(("A", "a")) and self._picture.bit_depth > 8
        self.is_fine = has_fine_colors or has_fine_alpha
        self.n_frames = len(pictures)

    def load(self):
        """Decodes the picture once; see `PIL.ImageFile.ImageFile.load`."""
        if self._picture:
            picture, self._picture = self._picture, None
            pixels = picture.data
            self._size, self._mode = picture.size_mode
            self.load_prepare()
            self.frombytes(pixels, "raw", (self.mode, picture.stride))
        return super().load()


def coded_size(data, container):
    """As many pixels as decoding a file touches, whatever the size of its picture.

    The box `clap` can make a small picture of a large one, and libavif scales a large one to the
    announced size.

    Args:
        data: bytes of the file.
        container: "HEIF" or "AVIF".

    Returns:
        (height, width), two int: of the largest picture, with more rows where there are more than
        two of that size (a picture and its opacity); (0, 0) if the file does not say.
    """
    if container == AVIF:
        sizes = av1_sizes(data)
    else:  # libheif holds each picture to its box ispe
        sizes = [struct.unpack(">II", match[1]) for match in SIZE_BOX.finditer(data)]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    if container == AVIF and width:
        total = sum(one * other for one, other in sizes)
        height = max(height, total // (2 * width))
    return height, width


def is_cut_off(data):
    """Whether a file has fewer bytes than its boxes say.

    Args:
        data: bytes of a file that consists of boxes, ISO/IEC 14496-12.

    Returns:
        bool.
    """
    position = 0
    for _ in range(MAX_BOXES):
        if position >= len(data):
            break
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 0:  # up to the end of the file
            return False
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        position += max(8, size)
    return position > len(data)


@functools.cache
def _avif_opener():
    """Pillow's class of AVIF images, imported when the first one comes."""
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # images are decoded on several threads anyway
    return AvifImagePlugin.AvifImageFile


@functools.cache
def _libheif():
    """The function of pi-heif that opens a file, imported when the first one comes."""
    try:
        import _pi_heif
    except ImportError:
        raise RuntimeError(
            "HEIC needs the package pi-heif, which is not installed; run "
            "pip install -r requirements.txt again"
        ) from None
    return _pi_heif.load_file
