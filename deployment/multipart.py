"""The images in the body of a request: one image as it is, or the parts of a form."""

from werkzeug.http import parse_options_header

from deployment.http_errors import Refused

FIELD = "image"  # name of the form's parts that hold an image


def read_images(content_type, body, max_images):
    """Reads the images of a request.

    Args:
        content_type: str, the request's header Content-Type; "" where it has none.
        body: bytes. Without the type multipart/form-data it is one image, whatever type it
            declares.
        max_images: int, maximum number of parts of a form.

    Returns:
        A list of bytes, one per image, at least one.

    Raises:
        Refused: the form is broken, has no field `image`, or has too many parts.
    """
    media_type, parameters = parse_options_header(content_type)
    if media_type.lower() != "multipart/form-data":
        return [body]
    boundary = parameters.get("boundary", "").encode("latin-1", "replace")
    return split_multipart(body, boundary, max_images)


def split_multipart(body, boundary, max_images):
    r"""Splits a multipart/form-data body into its images.

    Not Werkzeug's parser: it takes thirty times as long and writes large parts to disk.

    Args:
        body: bytes.
        boundary: bytes, what separates the parts, as Content-Type declares it.
        max_images: int, maximum number of parts, whatever their names.

    Returns:
        A list of bytes, one per image, at least one.

    Raises:
        Refused: the body is broken, has no field `image`, or has too many parts.

    Example:
        >>> head = b'Content-Disposition: form-data; name="image"'
        >>> split_multipart(b"--b\r\n" + head + b"\r\n\r\nJPEG\r\n--b--\r\n", b"b", 4)
        [b'JPEG']
    """
    # One more than allowed is enough to know; a body of nothing but boundaries could have millions.
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, max_images + 2)
    if len(pieces) > max_images + 2:
        raise Refused("too_large", f"the form has more than the {max_images} images allowed")
    if not boundary or len(pieces) < 2 or pieces[-1][:2] != b"--":
        raise Refused("bad_request", "the multipart/form-data body is incomplete")
    images = []
    for piece in pieces[1:-1]:
        head, blank_line, content = piece.partition(b"\r\n\r\n")
        if not blank_line:
            raise Refused("bad_request", "a part of the multipart/form-data body has no content")
        if _holds_image(head):
            images.append(content)
    if not images:
        raise Refused("bad_request", f"the form has no field named {FIELD}")
    return images


def _holds_image(head):
    for header_line in head.decode("latin-1").split("\r\n"):
        header_name, _, value = header_line.partition(":")
        if (
            header_name.lower() == "content-disposition"
            and parse_options_header(value)[1].get("name") == FIELD
        ):
            return True
    return False
