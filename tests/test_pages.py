"""pages/: the tables of texts are complete, and templates hold no text of their own."""

import html.parser
import os
import re
import string

import pytest
from conftest import ROOT
from test_house import files

from pages.languages import LANGUAGES
from pages.rendering import FOLDER, content_policy, light_colors, render
from pages.text_tables import read_table, script_texts, texts_of

TEMPLATES = sorted(os.listdir(os.path.join(FOLDER, "templates")))
# Keys that are put together from a part that varies: the texts of every kind, question, ...
FAMILIES = re.compile(r"""\b(?:t|texts|text)\(\s*f?["']([\w.]+\.)(?:\{|["'] ~)""")
KEY = re.compile(r"""\b(?:t|texts)\(\s*["']([\w.]+)["']\s*[,)]""")
PREFIX = re.compile(r'script_texts\("([\w.]+)"\)')
SCRIPT_KEY = re.compile(r'\btext\(\s*(?:[^()]*\? )?"(\w+)"(?:\s*:\s*"(\w+)")?')


def template(name):
    with open(os.path.join(FOLDER, "templates", name), encoding="utf-8") as file:
        return file.read()


def sources():
    """What may use a text: the templates and the Python files."""
    yield from map(template, TEMPLATES)
    for name in files():
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            yield file.read()


def placeholders(text):
    return sorted({name for _, name, _, _ in string.Formatter().parse(text) if name is not None})


def tags(text):
    return sorted(re.findall(r"</?\w+", text))


def test_every_language_has_every_text():
    english, *others = map(read_table, LANGUAGES)
    for table in others:
        assert list(table) == list(english)
        for key, text in english.items():
            assert placeholders(table[key]) == placeholders(text), key
            assert tags(table[key]) == tags(text), key
            assert table[key].strip() and text.strip(), key


def test_chinese_is_chinese():
    """Its punctuation as well; a text without a Chinese letter is a name or a number."""
    for key, text in read_table("zh").items():
        words = re.sub(r"<code>.*?</code>|<[^>]*>|\{\w+\}", "", text)
        assert not re.search(r"[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", words), key


def test_every_text_is_used_and_every_used_text_exists():
    keys, used, families = set(read_table("en")), set(), set()
    for source in sources():
        used |= set(KEY.findall(source))
        families |= set(FAMILIES.findall(source))
        for prefix in PREFIX.findall(source):
            own = {prefix + key for pair in SCRIPT_KEY.findall(source) for key in pair if key}
            assert own, prefix
            used |= own
    assert used <= keys, used - keys
    unused = {key for key in keys - used if not key.startswith(tuple(families))}
    assert not unused, unused
    for family in families:
        assert any(key.startswith(family) for key in keys), family


def test_every_detail_of_a_finding_is_used_and_exists():
    quoted, asked = set(), set()
    for name in files():
        if name.startswith("other/data_quality/") or name == "data/near_duplicates.py":
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                source = file.read()
            quoted |= {text.replace(" ", "_") for text in re.findall(r'"([\w ]+)"', source)}
            asked |= set(re.findall(r'\bdetail\(\s*"(\w+)"', source))
    keys = {key.removeprefix("audit.detail.") for key in read_table("en")
            if key.startswith("audit.detail.")}
    assert keys <= quoted and asked <= keys


class Texts(html.parser.HTMLParser):
    """Text outside style and script, and the attributes that people read."""

    READ = ("alt", "title", "aria-label", "placeholder", "data-drop")

    def __init__(self, text):
        super().__init__()
        self.found, self.hidden = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.hidden = tag in ("style", "script")
        self.found += [value for name, value in attributes if name in self.READ and value]

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        if not self.hidden:
            self.found.append(data)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name.endswith(".html")])
def test_templates_hold_no_text_of_their_own(name):
    bare = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", template(name), flags=re.S)
    found = [text.strip() for text in Texts(bare).found if re.search(r"[^\W\d_]{2}", text)]
    assert not found
    for script in re.findall(r"<script>(.*?)</script>", bare, re.S):
        code = re.sub(r"^\s*//.*|//\s.*$", "", script, flags=re.M)
        sentences = re.findall(r'"([A-Z][a-z]+ [^"]*)"|`([A-Z][a-z]+ [^`]*)`', code)
        assert not [pair for pair in sentences if not "".join(pair).startswith("Bearer ")]


def test_values_are_escaped_and_texts_are_not():
    page = render("server.html", "en")
    assert '<a href="openapi.json">' in page and "{{" not in page
    assert texts_of("zh")("server.title") == read_table("zh")["server.title"]
    assert script_texts("en", "cards.script.")["waiting"] == "{count} more to come"


def test_policy_allows_what_the_page_holds_and_no_more():
    policy = content_policy("<style>a</style><script>b</script>", img_src="blob:")
    assert policy == (
        "default-src 'none'; img-src blob:; base-uri 'none'; form-action 'none'; "
        "script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='; "
        "style-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='")


def test_colors_of_the_light_side():
    assert light_colors()["ground"] == "#f6f5f1" and light_colors()["accent"] == "#22705a"
