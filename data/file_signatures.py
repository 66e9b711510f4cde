"""What a file is that is not read, known by its first bytes, and what to do with it."""

import re

from data.tiff_tags import read_tags

HEAD_BYTES = 1024  # of a file, in which everything is recognised
CONVERT = "convert it to JPEG"
EXPORT = "export it as JPEG"
FRAME = "save one of its frames as JPEG"
RAW = "is a camera's RAW file ({}), which is not read; develop it to JPEG"


def _not_read(name, advice):
    return f"is {name}, which is not read; {advice}"


# (what the first bytes match, what the file is and what to do, code of the ImageError)
SIGNATURES = (
    # ISO/IEC 18181-2; a codestream of its own begins with FF 0A
    (rb"\xff\x0a|\0\0\0\x0cJXL ", _not_read("JPEG XL", CONVERT), "unsupported"),
    # ISO/IEC 15444-1: a JP2 file, or a codestream
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", _not_read("JPEG 2000", CONVERT), "unsupported"),
    (rb"II\xbc\x01", _not_read("JPEG XR", CONVERT), "unsupported"),
    (rb"\xff\xd8\xff\xf7", _not_read("JPEG-LS", CONVERT), "unsupported"),
    # RAW files that are no TIFFs; `raw_tiff_text` knows the others
    (rb".{4}ftypcrx ", RAW.format("Canon CR3"), "unsupported"),
    (rb"II(RO|RS)|MMOR", RAW.format("Olympus ORF"), "unsupported"),
    (rb"IIU\0", RAW.format("Panasonic RW2"), "unsupported"),
    (rb"FUJIFILMCCD-RAW", RAW.format("Fujifilm RAF"), "unsupported"),
    (rb"FOVb", RAW.format("Sigma X3F"), "unsupported"),
    (rb"\0MRM", RAW.format("Minolta MRW"), "unsupported"),
    # A file of ISO base media that is no picture; QuickTime may lack the box ftyp
    (rb".{4}(ftyp|moov|mdat|wide|pnot|skip)", _not_read("a video", FRAME), "unsupported"),
    (rb"RIFF.{4}AVI ", _not_read("a video (AVI)", FRAME), "unsupported"),
    (rb"\x1a\x45\xdf\xa3", _not_read("a video (Matroska or WebM)", FRAME), "unsupported"),
    (rb"\0\0\x01[\xb3\xba]", _not_read("a video (MPEG)", FRAME), "unsupported"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", _not_read("a video (WMV)", FRAME), "unsupported"),
    (rb"FLV\x01", _not_read("a video (Flash)", FRAME), "unsupported"),
    (rb"(\x47.{187}){2}\x47", _not_read("a video (MPEG)", FRAME), "unsupported"),
    (rb"%PDF-", _not_read("a PDF", EXPORT), "unsupported"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", _not_read("PostScript", EXPORT), "unsupported"),
    (rb"8BPS", _not_read("a Photoshop file", EXPORT), "unsupported"),
    (rb"gimp xcf", _not_read("a GIMP file", EXPORT), "unsupported"),
    (rb"\0\0[\1\2]\0[^\0]", _not_read("an icon or cursor of Windows", EXPORT), "unsupported"),
    (rb"icns", _not_read("an icon of macOS", EXPORT), "unsupported"),
    (rb"\x76\x2f\x31\x01", _not_read("OpenEXR", CONVERT), "unsupported"),
    (rb"#\?(RADIANCE|RGBE)", _not_read("Radiance HDR", CONVERT), "unsupported"),
    (rb"DDS ", _not_read("a DirectDraw surface", CONVERT), "unsupported"),
    (rb"P[1-7]\s", _not_read("a Netpbm image", CONVERT), "unsupported"),
    (rb"qoif", _not_read("QOI", CONVERT), "unsupported"),
    (rb".{128}DICM", _not_read("DICOM", EXPORT), "unsupported"),
    (
        rb"version https://git-lfs\.github\.com/",
        "is a Git LFS pointer and not the image itself; fetch it with: git lfs pull",
        "unsupported",
    ),
    # RFC 1740
    (
        rb"\0\x05\x16[\0\x07]",
        "is an AppleDouble file, in which macOS keeps properties of another one; use that one",
        "unsupported",
    ),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf", _not_read("an archive", "unpack it"), "unsupported"),
    (rb"\x1f\x8b", _not_read("compressed (gzip)", "unpack it"), "unsupported"),
    (
        rb"(\xef\xbb\xbf)?\s*(<\?xml.*?|<!--.*?)?<(!DOCTYPE )?svg\b",
        _not_read("SVG", EXPORT),
        "unsupported",
    ),
    (
        rb"(?i)(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!DOCTYPE )?html\b",
        "it is a web page, as a failed download leaves; download the image again",
        "undecodable",
    ),
)

# Tags of TIFF 6.0, TIFF/EP and DNG 1.7; the values that a RAW file's main picture has
SUBFILE_TYPE, PHOTOMETRIC, SUB_IFDS, DNG_VERSION = 254, 262, 330, 50706
REDUCED, COLOR_FILTER_ARRAY, LINEAR_RAW = 1, 32803, 34892


def unread_format(data):
    """What a file is that no decoder of this project takes.

    Args:
        data: bytes of the file.

    Returns:
        (what it is and what to do, code of the `ImageError`), two str; None where the first
        bytes say nothing.

    Example:
        >>> unread_format(b"%PDF-1.7")
        ('is a PDF, which is not read; export it as JPEG', 'unsupported')
    """
    head = bytes(data[:HEAD_BYTES])
    for pattern, text, code in SIGNATURES:
        if re.match(pattern, head, re.DOTALL):
            return text, code
    return None


def raw_tiff_text(data):
    """What a RAW file with the structure of a TIFF is: DNG, CR2, NEF, ARW, PEF, SRW.

    The first image of most is a small preview, which must not be taken for the photo. A DNG whose
    first image is the photo itself, in plain colours, is a TIFF like any other.

    Args:
        data: bytes of the file.

    Returns:
        str, what it is and what to do; None where it is no such file.
    """
    if bytes(data[:4]) in (b"II*\0", b"MM\0*") and bytes(data[8:10]) == b"CR":
        return RAW.format("Canon CR2")
    tags = read_tags(data)
    photometric = tags.get(PHOTOMETRIC, (None,))[0]
    is_reduced = tags.get(SUBFILE_TYPE, (0,))[0] & REDUCED
    is_preview = is_reduced and (SUB_IFDS in tags or DNG_VERSION in tags)
    if not is_preview and photometric not in (COLOR_FILTER_ARRAY, LINEAR_RAW):
        return None
    return RAW.format(
        "DNG" if DNG_VERSION in tags else "a TIFF whose photo is not in plain colours"
    )
