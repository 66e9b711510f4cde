"""The images in the body of a request: one image as it is, or the parts of a form."""

import itertools
import re

from werkzeug.http import parse_options_header

from deployment.http_errors import Refused

FIELD = "image"  # name of the form's parts that hold an image
MAX_BOUNDARY = 70  # characters (RFC 2046, section 5.1.1)
_BLANK_LINE = re.compile(rb"\r\n\r\n")
# What nearly all programs send; Werkzeug reads everything else, in 10 to 25 times as long.
_USUAL_TYPE = re.compile(r"multipart/form-data; ?boundary=([0-9A-Za-z'()+_,./:=?-]{1,70})")
_USUAL_HEAD = re.compile(
    r'Content-Disposition: form-data; name="([^"\\\r\n]*)"(?:; filename="[^"\\\r\n]*")?'
    r"(?:\r\nContent-Type: [^\r\n]*)?"
)


def read_images(content_type, body, max_images):
    """Reads the images of a request.

    Args:
        content_type: str, the request's header Content-Type; "" where it has none.
        body: memoryview of bytes. Without the type multipart/form-data it is one image, whatever
            type it declares.
        max_images: int, maximum number of parts of a form.

    Returns:
        A list of memoryviews of `body`, one per image, at least one.

    Raises:
        Refused: the form is broken, has no field `image`, or has too many parts.
    """
    if usual := _USUAL_TYPE.fullmatch(content_type):
        boundary = usual[1]
    else:
        media_type, parameters = parse_options_header(content_type)
        if media_type.lower() != "multipart/form-data":
            return [body]
        boundary = parameters.get("boundary", "")
    return split_multipart(body, boundary.encode("latin-1", "replace"), max_images)


def split_multipart(body, boundary, max_images):
    r"""Finds the images in a multipart/form-data body.

    Not Werkzeug's parser: it takes thirty times as long and writes large parts to disk.

    Args:
        body: memoryview of bytes.
        boundary: bytes, what separates the parts, as Content-Type declares it.
        max_images: int, maximum number of parts, whatever their names.

    Returns:
        A list of memoryviews of `body`, one per image, at least one; nothing is copied.

    Raises:
        Refused: the body is broken, has no field `image`, or has too many parts.

    Example:
        >>> head = b'Content-Disposition: form-data; name="image"'
        >>> body = memoryview(b"--b\r\n" + head + b"\r\n\r\nJPEG\r\n--b--\r\n")
        >>> [bytes(image) for image in split_multipart(body, b"b", 4)]
        [b'JPEG']
    """
    separators = [] if len(boundary) > MAX_BOUNDARY else _separators(body, boundary, max_images)
    if len(separators) == max_images + 2:
        raise Refused("too_large", f"the form has more than the {max_images} images allowed")
    if not (boundary and separators) or body[separators[-1][1] :][:2] != b"--":
        raise Refused("bad_request", "the multipart/form-data body is incomplete")
    images = []
    for (_, part_start), (part_end, _) in itertools.pairwise(separators):
        part = body[part_start:part_end]
        blank_line = _BLANK_LINE.search(part)
        if not blank_line:
            raise Refused("bad_request", "a part of the multipart/form-data body has no content")
        if _holds_image(bytes(part[: blank_line.start()])):
            images.append(part[blank_line.end() :])
    if not images:
        raise Refused("bad_request", f"the form has no field named {FIELD}")
    return images


def _separators(body, boundary, max_images):
    """(start, end) of what separates the parts, one more than allowed at most.

    That is enough to know; a body of nothing but boundaries could have millions.
    """
    first_line = b"--" + boundary  # the only one that no line break precedes
    pattern = re.compile(re.escape(b"\r\n" + first_line))
    places = (match.span() for match in pattern.finditer(body))
    if body[: len(first_line)] == first_line:
        places = itertools.chain([(0, len(first_line))], places)
    return list(itertools.islice(places, max_images + 2))


def _holds_image(head):
    head_text = head.decode("latin-1")
    if usual := _USUAL_HEAD.fullmatch(head_text.strip("\r\n")):
        return usual[1] == FIELD
    for header_line in head_text.split("\r\n"):
        header_name, _, value = header_line.partition(":")
        if (
            header_name.lower() == "content-disposition"
            and parse_options_header(value)[1].get("name") == FIELD
        ):
            return True
    return False
