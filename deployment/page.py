"""The page to try a served model on: its bytes, and headers that let nothing else run in it."""

import base64
import hashlib
import os
import re


def _read():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates", "index.html")
    with open(path, encoding="utf-8") as file:  # as text: a browser hashes it with plain "\n"
        return file.read()


def _source(text, tag):
    """What allows the one <tag> element of `text` in a Content-Security-Policy: its SHA-256."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_TEXT = _read()
INDEX = _TEXT.encode()
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source(_TEXT, 'script')}",
            f"style-src {_source(_TEXT, 'style')}",
            "img-src blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
}
