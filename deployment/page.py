"""The page to try a served model on, and headers that let nothing else run in it."""

from pages.languages import LANGUAGES, TAGS
from pages.rendering import content_policy, render


def _page(language):
    html_text = render("server.html", language)
    policy = content_policy(
        html_text, img_src="blob: data:", connect_src="'self'", frame_ancestors="'none'"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Language": TAGS[language],
        "Vary": "Accept-Language",
        "Content-Security-Policy": policy,
    }
    return html_text.encode(), headers


# language -> (bytes of the page, dict of its headers)
PAGES = {language: _page(language) for language in LANGUAGES}
