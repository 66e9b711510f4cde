"""HTML pages that need no network: templates, with everything escaped, and pictures inside."""

import base64
import os

import cv2

from common.errors import ImageError
from data.decoding import load
from data.geometry import Preprocessing

TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")


def render(template, **values):
    """Fills in a template.

    File names that are not UTF-8 are shown with backslashes.

    Args:
        template: str, a file name in `templates/`.
        values: the variables that the template uses.

    Returns:
        str, the page.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page_html = environment.get_template(template).render(values)
    return page_html.encode("utf-8", "backslashreplace").decode("utf-8")


def photo(path, side=144):
    """The photo in a file as the `src` of an HTML image, whole, with bars.

    Args:
        path: str.
        side: int, pixels.

    Returns:
        str, a data URL; None where the file is gone or cannot be decoded.
    """
    try:
        return thumbnail(load(path, Preprocessing(side, "letterbox")))
    except ImageError:
        return None


def thumbnail(image, quality=80):
    """A picture as the `src` of an HTML image.

    Args:
        image: uint8 (height, width, 3), RGB.
        quality: int, of the JPEG, 1 to 100.

    Returns:
        str, a data URL.
    """
    _, jpeg_bytes = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg_bytes).decode()}"
