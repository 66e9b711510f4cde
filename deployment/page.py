"""The page to try a served model on: its bytes, and headers that let nothing else run in it."""

import base64
import hashlib
import os
import re


def _read_page():
    page_path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates", "index.html")
    with open(page_path, encoding="utf-8") as file:  # as text: a browser hashes it with plain "\n"
        return file.read()


def _source_hash(html_text, tag):
    """The source that allows the one <tag> element in a Content-Security-Policy: its SHA-256."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html_text, re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_HTML_TEXT = _read_page()
INDEX = _HTML_TEXT.encode()
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source_hash(_HTML_TEXT, 'script')}",
            f"style-src {_source_hash(_HTML_TEXT, 'style')}",
            "img-src blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
}
