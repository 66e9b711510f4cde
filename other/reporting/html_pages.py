"""HTML pages that need no network: templates, with everything escaped, and pictures inside."""

import base64
import os

import cv2

TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")


def render(template, **values):
    """Fills in a template.

    File names that are not UTF-8 are shown with backslashes.

    File names that are no UTF-8 are shown with backslashes in their place.

    Args:
        template: str, a file name in `templates/`.
        values: what the template asks for.

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
    text = environment.get_template(template).render(values)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def thumbnail(image, quality=80):
    """A picture as the `src` of an HTML image.

    Args:
        image: uint8 (height, width, 3), RGB.
        quality: of the JPEG, 1 to 100.
    """
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
