"""The page in a browser, from the real server: a picture's answer, an error, a token."""

import pytest
from browser import Browser, needs_chromium
from test_page import finished, give, texts
from test_server import LABELS, PNG, Process, by_hand, write_model

pytestmark = needs_chromium
TOKEN = "a-token-of-24-characters"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def browser(place):
    browser = Browser(place / "profile")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def server(place):
    (place / "token").write_text(TOKEN)
    process = Process(place, "--model", write_model(place / "model"), "--token_file",
                      place / "token", "--max_megabytes", "0.2")
    yield process
    process.kill()


def test_from_a_picture_to_its_label(browser, server):
    browser.open(f"{server.url}/")
    give(browser, "drop", ("bright.png", PNG))
    browser.wait("document.getElementById('login').open")
    browser.evaluate(f"document.querySelector('#login input').value = '{TOKEN}'")
    browser.evaluate("document.querySelector('#login .primary').click()")
    browser.wait("!document.getElementById('login').open")
    finished(browser)
    by_probability = sorted(zip(by_hand((10, 60, 110, 200)), LABELS), reverse=True)
    assert texts(browser, ".bars .label") == [label for _, label in by_probability]
    assert texts(browser, ".percent") == [f"{probability:.1%}" for probability, _ in by_probability]
    give(browser, "paste", ("broken.png", PNG[:60]))
    finished(browser, 2)
    (error_text,) = texts(browser, ".error[role=alert]")
    assert "broken.png" in error_text or "decoded" in error_text
    give(browser, "drop", ("large.png", PNG + bytes(300_000)))
    finished(browser, 3)
    assert len(texts(browser, ".error[role=alert]")) == 2
    assert "200,000 bytes" in texts(browser, ".error[role=alert]")[0]
    assert browser.problems == []
