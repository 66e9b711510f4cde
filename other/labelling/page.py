"""The page itself, and headers that let nothing else run in it."""

from pages.languages import choose_language
from pages.rendering import page_headers, render


def render_page(name, commands, language=None, accept_language=None):
    """Makes the page.

    Args:
        name: str, of the data set.
        commands: list of str, what to run next.
        language: str, "en" or "zh"; None is the browser's.
        accept_language: str, what the browser says of its languages.

    Returns:
        (str, dict), the page and its headers.
    """
    language = choose_language(language, accept_language or "")
    page_html = render("label.html", language, name=name, commands=commands)
    return page_html, page_headers(page_html, language, img_src="'self' data:")
