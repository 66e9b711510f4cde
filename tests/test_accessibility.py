"""Every page by axe-core (WCAG and more): in both languages, light and dark, wide and narrow."""

import importlib.util
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import web_folder
from browser import Browser, needs_chromium
from conftest import write_image, write_samples
from label_page import Page
from test_page import finished, give
from test_report import COLORS, LABELS, answers, make_run, report
from web_server import serving

import run
from config.parser import parse
from deployment import page
from evaluation.paired_seeds import compare_seeds
from other.reporting import html_pages
from other.tuning import outputs
from other.tuning.space import Dimension, Space
from other.tuning.study import Record
from other.tuning.verdict import Verdict
from pages.rendering import render

AXE = importlib.util.find_spec("axe_core_python")
pytestmark = [needs_chromium, pytest.mark.skipif(
    AXE is None, reason="axe-core-python is not installed: requirements/test.txt")]
# language, colour scheme, width
VIEWS = [("en", "light", 1200), ("zh", "dark", 1200), ("zh", "light", 360), ("en", "dark", 360)]


def server_pages(folder):
    for language, (html_bytes, _) in page.PAGES.items():
        (folder / f"server-{language}.html").write_bytes(html_bytes)


def web_pages(folder):
    """That of `--format web`, which comes from a server: browsers load no modules from files."""
    with pytest.MonkeyPatch.context() as patch:
        web_folder.write(patch, folder / "model")


def report_pages(folder):
    data = write_samples(folder / "data", 12, COLORS)
    path = make_run(folder / "run", LABELS)
    names = sorted(name for name in os.listdir(data) if name.endswith(".png"))
    rows = [f"{name},{('north', 'south')[i % 2]}\n" for i, name in enumerate(names)]
    (folder / "sites.csv").write_text("path,site\n" + "".join(rows))
    with pytest.MonkeyPatch.context() as patch:
        for language in ("en", "zh"):
            assert report(patch, path, data, answers(36), "--lang", language, "--attributes",
                          folder / "sites.csv", "--target",
                          folder / f"report-{language}.html") == 0
        assert 'data-table="slices"' in (folder / "report-en.html").read_text(encoding="utf-8")


def audit_pages(folder):
    data = folder / "photos"
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        for number in range(3):
            write_image(data / name / f"{number}.png", (40, 90, 160), (64, 48), number)
    (data / "a" / "empty.jpg").write_bytes(b"")
    for language in ("en", "zh"):
        assert run.main(["--mode", "audit", "--source", str(data), "--lang", language, "--target",
                         str(folder / f"audit-{language}")]) == 3
        os.rename(folder / f"audit-{language}" / "index.html", folder / f"audit-{language}.html")


def photo_pages(folder):
    """Those of drift and similar, whose networks would take long to build, from made values."""
    write_image(folder / "photo.png", (40, 90, 160), (300, 200))
    photo = {"picture": html_pages.photo(str(folder / "photo.png")), "distance": 0.25,
             "place": html_pages.place(str(folder / "photo.png"), str(folder))}
    questions = [{"question": name, "p_value": p_value, "moved": p_value < 0.05}
                 for name, p_value in (("photos", 0.01), ("features", 0.5), ("predictions", 1))]
    rows = [{"name": "one", "before": 1.0, "now": 2.0}]
    for language in ("en", "zh"):
        drift = render(
            "drift.html", language, statistics=rows, classes=rows, level=0.05, run=photo["place"],
            result={"moved": True, "questions": questions, "images": {"before": 20, "now": 30}},
            cards=[{**photo, "predicted": "cat", "probability": "50.0%"}])
        similar = render("similar.html", language, more=3, cards=[
            {"place": photo["place"], "error": None, "picture": photo["picture"],
             "similar": [photo, {**photo, "picture": None}]},
            {"place": photo["place"], "error": "cannot be decoded"}])
        (folder / f"drift-{language}.html").write_text(drift, encoding="utf-8")
        (folder / f"similar-{language}.html").write_text(similar, encoding="utf-8")


def tune_pages(folder):
    """That of a search, from made trials."""
    dimensions = {"learning_rate": Dimension(1e-5, 0.1, log=True),
                  "dropout": Dimension(0, 0.5), "pooling": Dimension(choices=("avg", "max"))}
    records = [
        Record(number, "pruned" if number in (4, 6) else "complete",
               {"learning_rate": 10.0 ** -(1 + number % 4), "dropout": number / 20,
                "pooling": ("avg", "max")[number % 2]},
               0.7 + 0.02 * number, 5, 61.0, "0123456789abcdef", "")
        for number in range(9)
    ]
    first, second = np.zeros((3, 60), bool), np.zeros((3, 60), bool)
    first[:, :40], second[:, :55] = True, True
    comparison = compare_seeds(first, second, np.arange(60))
    plan = SimpleNamespace(
        name="photos", data="photos", counts=(480, 60, 60), groups=np.arange(60),
        space=Space(dimensions, records[0].values), file=lambda name: str(folder / name),
        given=dict)
    study = SimpleNamespace(records=lambda: records, best=lambda: records[-1], importance=lambda: {
        "learning_rate": 0.7, "dropout": 0.3})
    accuracies = {"start": [0.66, 0.67, 0.66], "best": [0.91, 0.92, 0.91]}
    verdict = Verdict("better", comparison, accuracies, [])
    for language in ("en", "zh"):
        options = parse("tune", ["--data", "photos", "--lang", language])
        outputs.write(study, plan, outputs.summarize(study, plan, verdict), options)
        os.rename(folder / "index.html", folder / f"tune-{language}.html")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for make in (server_pages, web_pages, report_pages, audit_pages, photo_pages, tune_pages):
        make(folder)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def violations(browser):
    """What axe finds wrong in the page that is open: list of (rule, elements)."""
    with open(os.path.join(os.path.dirname(AXE.origin), "axe.min.js"), encoding="utf-8") as file:
        browser.evaluate(file.read() + ";0")
    found = browser.evaluate(
        "axe.run().then(({ violations, passes }) => JSON.stringify([passes.length, violations.map("
        "rule => [rule.id, rule.nodes.map(node => node.html.slice(0, 200) + node.failureSummary"
        ")])]))")
    passed, broken = json.loads(found)
    assert passed  # or it has looked at nothing
    return broken


@pytest.mark.parametrize("language, scheme, width", VIEWS)
@pytest.mark.parametrize("name", ["server", "report", "audit", "drift", "similar", "tune"])
def test_no_rule_is_broken(folder, browser, name, language, scheme, width):
    browser.problems.clear()
    browser.call("Emulation.setEmulatedMedia", features=[
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"}])
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800,
                 deviceScaleFactor=1, mobile=False)
    browser.open((folder / f"{name}-{language}.html").as_uri())
    assert violations(browser) == []
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.problems == []


def test_what_is_wrong_is_seen(tmp_path, browser):
    (tmp_path / "page.html").write_text("<p style='color: #bbb'>words<img src='x'>")
    browser.open((tmp_path / "page.html").as_uri())
    rules = {rule for rule, _ in violations(browser)}
    assert {"color-contrast", "image-alt", "html-has-lang", "document-title"} <= rules


def test_a_card_and_the_dialog_of_the_server(folder, browser):
    browser.open((folder / "server-en.html").as_uri())
    browser.evaluate(
        "newCard(new File(['x'], 'a.png')).removeAttribute('aria-busy');"
        "showPrediction(document.querySelector('.answer'), { unknown: true, model: 'm', ms: 1,"
        "predictions: [{ label: 'cat', probability: 0.6 }, { label: '狐狸', probability: 0.4 }] });"
        "0")
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"}])
        assert violations(browser) == []
    browser.evaluate("login('a token is needed'), 0")
    assert violations(browser) == []


@pytest.mark.parametrize("language, scheme, width", VIEWS)
def test_the_page_without_a_server(folder, browser, language, scheme, width):
    browser.problems.clear()
    browser.call("Emulation.setEmulatedMedia", features=[
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"}])
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800,
                 deviceScaleFactor=1, mobile=False)
    write_image(folder / "green.png", (30, 200, 60))
    with serving(folder / "model" / "web") as server:
        page_name = {"en": "index.html#here", "zh": "zh.html"}[language]
        browser.open(f"{server.url}/{page_name}")
        assert violations(browser) == []
        give(browser, "drop", ("a.png", (folder / "green.png").read_bytes()), ("b", b"nothing"))
        finished(browser, 2)
        assert browser.evaluate("find('live').hidden = false, find('viewer').showModal(), 0") == 0
        assert violations(browser) == []
        browser.evaluate("find('viewer').close()")
        assert violations(browser) == []
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert browser.problems == []
        browser.open("about:blank")


def test_reports_of_many_classes(tmp_path, browser):
    """The matrix of 30 classes is in a part of the page that is scrolled."""
    names = [f"零件{number}" for number in range(30)]
    data = write_samples(tmp_path / "data", 1, {name: (number, 9, 99) for number, name
                                                in enumerate(names)}, size=(8, 8))
    rows = np.roll(np.eye(30, dtype=np.float32), 1, 1) * 0.6 + np.float32(0.4 / 30)
    with pytest.MonkeyPatch.context() as patch:
        assert report(patch, make_run(tmp_path / "run", names), data, rows, "--lang", "zh") == 0
    browser.open((tmp_path / "run" / "report.html").as_uri())
    assert violations(browser) == []
    scrolled = "(box => [box.scrollHeight > box.clientHeight, box.tabIndex])"
    assert browser.evaluate(f"{scrolled}(document.querySelector('.tall'))") == [True, 0]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_for_labels(tmp_path, language):
    for name in ("glass/a.png", "metal/b.png", "_unsorted/1.png", "_unsorted/2.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "photos" / name)
    opened = Page(tmp_path / "photos", tmp_path / "profile", "--lang", language)
    try:
        for scheme in ("light", "dark"):
            opened.browser.call("Emulation.setEmulatedMedia", features=[
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"}])
            assert violations(opened.browser) == []
        opened.press("?")
        assert violations(opened.browser) == []
    finally:
        opened.close()
