"""Pages that need no network: templates with everything escaped, one style, a strict policy."""

import base64
import functools
import hashlib
import os
import re

from pages.languages import TAGS
from pages.text_tables import read_table, script_texts

FOLDER = os.path.dirname(os.path.abspath(__file__))
POLICY_PLACE = "<!-- policy -->"  # where base.html wants the policy of a page in a file
# Nothing but what the page holds: no outside request, no frame, no form.
POLICY = {
    "default-src": "'none'",
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
}


def render(template, language, policy_sources=None, **values):
    """Fills in a template.

    Templates get `t(key, **values)`, a text of `texts/` with its values escaped; `script_texts(
    prefix)`, what a script shows; and the style. File names that are not UTF-8 are shown with
    backslashes.

    Args:
        template: str, a file name in `templates/`.
        language: str, one of `languages.LANGUAGES`.
        policy_sources: dict of str -> str, `sources` of `content_policy` for a page in a file.
        values: the variables that the template uses.

    Returns:
        str, the page; one that is read from a file holds its own Content-Security-Policy.
    """
    page_html = _environment(language).get_template(template).render(values)
    page_html = page_html.encode("utf-8", "backslashreplace").decode("utf-8")
    if POLICY_PLACE not in page_html:  # a served page, whose policy is a header
        return page_html
    policy = content_policy(page_html, **(policy_sources or {}))
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return page_html.replace(POLICY_PLACE, meta, 1)


def content_policy(page_html, **sources):
    """A Content-Security-Policy that allows the scripts and styles of a page, by their hashes.

    Args:
        page_html: str.
        sources: str, more directives or other sources, such as `connect_src="'self'"`; those of
            scripts come before the hashes.

    Returns:
        str.
    """
    directives = {**POLICY, **{name.replace("_", "-"): value for name, value in sources.items()}}
    for directive, tag in (("script-src", "script"), ("style-src", "style")):
        contents = re.findall(f"<{tag}>(.*?)</{tag}>", page_html, re.DOTALL)
        if contents:
            own_sources = [directives[directive]] if directive in directives else []
            directives[directive] = " ".join([*own_sources, *map(_source_hash, contents)])
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def page_headers(page_html, language, **sources):
    """The headers with which a page is served, whose policy lets nothing else run in it.

    Args:
        page_html: str.
        language: str, one of `languages.LANGUAGES`.
        sources: str, as of `content_policy`.

    Returns:
        dict of str -> str.
    """
    sources = {"connect_src": "'self'", "frame_ancestors": "'none'", **sources}
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Language": TAGS[language],
        "Vary": "Accept-Language",
        "Content-Security-Policy": content_policy(page_html, **sources),
    }


def _source_hash(content):
    """What allows an inline script or style: its SHA-256."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


@functools.cache
def read_style():
    """str, the stylesheet of all pages."""
    # As text: a browser hashes it with plain "\n".
    with open(os.path.join(FOLDER, "style.css"), encoding="utf-8") as file:
        return file.read()


@functools.cache
def light_colors():
    """dict of str -> str, the colours of the light side by their names, such as "accent"."""
    light_rules = re.search(r":root \{(.*?)\}", read_style(), re.DOTALL)[1]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light_rules))


@functools.cache
def _environment(language):
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(os.path.join(FOLDER, "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "ensure_ascii": False}
    table = read_table(language)
    environment.globals.update(
        t=lambda key, **values: Markup(table[key]).format(**values),
        script_texts=lambda prefix: script_texts(language, prefix),
        language=TAGS[language],
        gap="" if language == "zh" else " ",  # between sentences
        style=Markup(read_style()),
        number="{:,}".format,
        percent="{:.1%}".format,
    )
    return environment
