"""The page to try a served model on, and headers that let nothing else run in it."""

from pages.languages import LANGUAGES
from pages.rendering import page_headers, render


def _page(language):
    html_text = render("server.html", language)
    headers = page_headers(html_text, language, img_src="blob: data:")
    return html_text.encode(), headers


# language -> (bytes of the page, dict of its headers)
PAGES = {language: _page(language) for language in LANGUAGES}
