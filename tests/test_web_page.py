"""The page of `--format web` in Chromium, with a stand-in for the network."""

import json
import os
import re

import cv2
import numpy as np
import pytest
import web_folder
from browser import Browser, needs_chromium
from test_page import finished, give, texts
from web_server import serving

from common.errors import InputError
from common.files import checksum
from export import web
from prediction.calibration import Calibration, Familiarity
from prediction.classifier import Classifier
from prediction.exported_model import CALIBRATED_PAGE_FILES, check_files
from prediction.runtimes import Answers

LABELS = web_folder.LABELS


def picture(*color, size=(12, 20)):
    """A PNG of one colour, RGB."""
    return cv2.imencode(".png", np.full((*size, 3), color[::-1], np.uint8))[1].tobytes()


GREENISH = picture(50, 100, 30)
FAMILIARITY = Familiarity(0.5, 0.1, 0.0, 0.5, -1.0)
FITTED = Calibration(1.7, np.array([0.5, 0.45, np.inf]), 0.95, 100, "0", FAMILIARITY, 0.05)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = web_folder.write(patch, tmp_path_factory.mktemp("model"))
    with serving(folder) as server:
        yield server


def show(browser, server, path="index.html#here"):
    """Opens the page anew, also where it is open: another fragment alone would not load it."""
    browser.open("about:blank")
    browser.open(f"{server.url}/{path}")


@pytest.fixture
def tab(browser, server):
    browser.problems.clear()
    browser.call("Emulation.setEmulatedMedia", features=[])
    show(browser, server)
    yield browser
    assert browser.problems == []


# --- the folder ---------------------------------------------------------------------------


def test_files_and_settings(tmp_path, monkeypatch):
    folder = web_folder.write(monkeypatch, tmp_path, FITTED, "crop")
    settings = json.loads((tmp_path / "web" / "classifier.json").read_text(encoding="utf-8"))
    assert settings["labels"] == list(LABELS) and settings["model"] == "animals"
    assert settings["preprocessing"] == {"size": 16, "resize": "crop",
                                         "fill_color": [255, 255, 255]}
    assert settings["calibration"] == {
        "temperature": 1.7, "thresholds": {"red": 0.5, "green": 0.45, "蓝<b>": None},
        "familiarity": FAMILIARITY._asdict()}
    assert (tmp_path / "web" / "model.onnx").read_bytes() == b"a network"
    offline = (tmp_path / "web" / "offline.js").read_text(encoding="utf-8")
    names = {path.name for path in (tmp_path / "web").iterdir()}
    kept = set(json.loads(re.search(r"FILES = (\[.*?\]);", offline)[1]))
    assert names - kept == {"offline.js"} and kept < names
    assert folder == str(tmp_path / "web")


def test_another_calibration_is_another_version(tmp_path, monkeypatch):
    folder = web_folder.write(monkeypatch, tmp_path)
    before = (tmp_path / "web" / "offline.js").read_text(encoding="utf-8")
    changed = web.update_calibration(str(tmp_path), FITTED, LABELS)
    assert changed == {name: checksum(f"{tmp_path}/{name}")
                       for name in ("web/classifier.json", "web/offline.js")}
    settings = json.loads((tmp_path / "web" / "classifier.json").read_text(encoding="utf-8"))
    assert settings["calibration"]["temperature"] == 1.7 and settings["labels"] == list(LABELS)
    after = (tmp_path / "web" / "offline.js").read_text(encoding="utf-8")
    assert after != before and after.split("\n")[1:] == before.split("\n")[1:] and folder
    assert web.update_calibration(str(tmp_path / "web"), FITTED, LABELS) == {}  # without a page
    assert set(changed) == set(CALIBRATED_PAGE_FILES)


def test_a_calibration_that_was_killed_halfway_can_be_made_again(tmp_path, monkeypatch):
    """The page's files are new, model.json is not yet: the model opens, which is enough for it."""
    web_folder.write(monkeypatch, tmp_path)
    files = {name: checksum(f"{tmp_path}/{name}")
             for name in (*CALIBRATED_PAGE_FILES, "web/index.html")}
    web.update_calibration(str(tmp_path), FITTED, LABELS)
    check_files(str(tmp_path), {"files": files})
    (tmp_path / "web" / "index.html").write_text("another")
    with pytest.raises(InputError, match="have changed since export: web/index.html$"):
        check_files(str(tmp_path), {"files": files})
    os.unlink(tmp_path / "web" / "offline.js")
    with pytest.raises(InputError, match="files are missing: web/offline.js"):
        check_files(str(tmp_path), {"files": files})


def test_the_policy_lets_in_only_its_own_files(tmp_path, monkeypatch):
    web_folder.write(monkeypatch, tmp_path)
    for name in ("index.html", "zh.html"):
        html_text = (tmp_path / "web" / name).read_text(encoding="utf-8")
        policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', html_text)[1]
        directives = dict(part.split(" ", 1) for part in policy.split("; "))
        assert re.fullmatch(r"'self' 'wasm-unsafe-eval' 'sha256-[\w+/]+='",
                            directives.pop("script-src"))
        assert re.fullmatch(r"'sha256-[\w+/]+='", directives.pop("style-src"))
        assert directives == {
            "default-src": "'none'", "img-src": "blob: data:", "connect-src": "'self'",
            "worker-src": "'self'", "base-uri": "'none'", "form-action": "'none'"}
        links = re.findall(r'(?:src|href)="([^"]*)"', html_text)
        assert [link for link in links if not link.startswith("data:")] == [
            "index.html#here" if name == "zh.html" else "zh.html"]
        assert "http://" not in html_text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in html_text and "innerHTML" not in html_text


# --- answers ------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.parametrize("event", ["drop", "paste"])
def test_from_a_picture_to_its_label(tab, server, event):
    assert not give(tab, event, ("leaf.png", GREENISH)) or event == "paste"
    finished(tab)
    # 16 rows of a letterboxed picture: 10 of it (12 of 20), 6 of white.
    shares = np.array([50, 100, 30]) * 10 + 255 * 6
    expected = sorted(zip(shares / shares.sum(), LABELS), reverse=True)
    assert texts(tab, ".bars .label") == [label for _, label in expected]
    assert texts(tab, ".percent") == [f"{share:.1%}" for share, _ in expected]
    assert texts(tab, ".made")[0].startswith("animals · ") and texts(tab, ".unknown") == []
    assert texts(tab, ".card [role=alert]") == []
    tab.wait("find('state').textContent === 'Ready, and from now on without a network.'")


@needs_chromium
def test_pictures_are_prepared_in_a_worker_where_there_is_one(browser, server):
    """Without one the page prepares them itself, and a file that is none is told alike."""
    data = json.dumps(list(GREENISH))
    classify = ("import('./classifier.js').then(async ({ open }) => { const ready = await open();"
                f"const blob = new Blob([new Uint8Array({data})]);"
                "const { predictions } = await ready.classify(blob, 1);"
                "const broken = await ready.classify(new Blob(['text']), 1).catch(e => e.name);"
                "return [predictions[0].label, broken, await ready.worker !== null] })")
    browser.open(f"{server.url}/index.html")
    assert browser.evaluate(classify) == [LABELS[1], "InvalidStateError", True]
    for spoilt in ("delete self.Worker",
                   "self.Worker = class extends Worker { constructor() { super('./none.js'); } }"):
        browser.open(f"{server.url}/index.html")
        browser.evaluate(f"{spoilt}, 0")
        assert browser.evaluate(classify) == [LABELS[1], "InvalidStateError", False]
    browser.problems.clear()  # a script that is not there


@needs_chromium
def test_several_and_one_that_is_no_picture(tab):
    give(tab, "drop", ("a.png", picture(200, 10, 10)), ("b.txt", b"text"), ("c.png", GREENISH))
    finished(tab, 3)
    assert texts(tab, ".error[role=alert]") == [
        "This browser cannot read the file. Save the picture as JPEG or PNG and try again."]
    assert [name.split()[0] for name in texts(tab, ".name")] == ["c.png", "b.txt", "a.png"]


@needs_chromium
def test_calibrated_and_unknown_as_python_has_it(browser, tmp_path, monkeypatch):
    """`Classifier.describe`, whose numbers tests hold to the papers, for random answers."""
    folder = web_folder.write(monkeypatch, tmp_path, FITTED)
    generator = np.random.default_rng(0)
    rows = generator.dirichlet((1, 1, 0.4), 200).astype(np.float32)
    rows[0] = (1, 0, 0)  # the logarithm of 0 stays finite
    similarities = generator.uniform(-1, 1, 200)
    classifier = Classifier(LABELS, None, lambda images: Answers(rows, similarities))
    classifier.calibration = FITTED
    with serving(folder) as server:
        show(browser, server)
        answers = browser.evaluate(
            "classifier.then(ready => " + json.dumps([[*map(float, row)] for row in rows])
            + ".map((row, i) => ready.describe({ probabilities: Float32Array.from(row), "
            f"similarity: {json.dumps(list(similarities))}[i] }}, 3)))")
    reasons = set()
    for known, answer in zip(classifier.answers(np.zeros(1)), answers):
        expected = classifier.describe(known, 3)
        assert answer["unknown"] == expected["unknown"]
        assert answer.get("reason") == expected.get("reason")
        for one, other in zip(answer["predictions"], expected["predictions"]):
            assert (one["label"], one["id"]) == (other["label"], other["id"])
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
        reasons.add(answer.get("reason"))
    assert reasons == {None, "unsure", "unlike anything seen"}


@needs_chromium
def test_unknown_on_the_page(browser, tmp_path, monkeypatch):
    with serving(web_folder.write(monkeypatch, tmp_path, FITTED)) as server:
        show(browser, server)
        give(browser, "drop", ("dull.png", picture(90, 90, 90)))
        finished(browser)
        assert texts(browser, ".unknown strong") == ["Unknown"]


@needs_chromium
def test_without_its_model_it_says_why(browser, tmp_path, monkeypatch):
    folder = web_folder.write(monkeypatch, tmp_path)
    (tmp_path / "web" / "model.onnx").unlink()
    with serving(folder) as server:
        show(browser, server)
        browser.wait("find('notice').textContent")
        assert texts(browser, "#notice") == ["The model cannot be loaded: no model"]
        give(browser, "drop", ("a.png", GREENISH))
        finished(browser)
        assert texts(browser, ".error") == ["The model cannot be loaded: no model"]
    browser.problems.clear()


# --- without a network, languages, camera -------------------------------------------------


@needs_chromium
def test_offline_and_a_new_version(browser, tmp_path, monkeypatch):
    folder = web_folder.write(monkeypatch, tmp_path)
    with serving(folder) as server:
        show(browser, server)
        browser.wait("find('state').textContent.includes('without a network')")
        assert not [path for path in server.asked if not (tmp_path / "web" / path[1:].split("?")[0]
                                                          ).exists()]
        show(browser, server, "zh.html")
        browser.wait("navigator.serviceWorker.controller && find('state').textContent")
        server.asked.clear()
        for path in ("", "index.html#here", "zh.html"):
            show(browser, server, path)
            give(browser, "drop", ("a.png", GREENISH))
            finished(browser)
            assert len(texts(browser, ".bars .label")) == 3
        assert set(server.asked) <= {"/offline.js"}  # a browser looks for a new version of it
        # A new version takes over once no page of the old one is open.
        web.update_calibration(str(tmp_path), FITTED, LABELS)
        browser.evaluate("navigator.serviceWorker.ready.then(ready => ready.update())"
                         ".then(() => 1)")
        browser.wait("navigator.serviceWorker.getRegistration().then(({ waiting }) => !!waiting)")
        temperature = "classifier.then(ready => ready.settings.calibration?.temperature)"
        for _ in range(20):
            show(browser, server)
            if browser.evaluate(temperature) == 1.7:
                break
        assert browser.evaluate(temperature) == 1.7
        assert browser.evaluate("caches.keys().then(names => names.length)") == 1


@needs_chromium
@pytest.mark.parametrize("language, path, title", [
    ("zh-CN", "index.html", "图像分类"), ("zh-CN", "index.html#here", "Image classifier"),
    ("de-DE", "index.html", "Image classifier"), ("en-US", "zh.html", "图像分类"),
])
def test_language(browser, server, language, path, title):
    browser.call("Emulation.setUserAgentOverride", userAgent="test", acceptLanguage=language)
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=f"{server.url}/{path}")
    browser.wait(f"document.title === {json.dumps(title)} && document.readyState === 'complete'")
    lang = "zh-CN" if title == "图像分类" else "en"
    assert browser.evaluate("document.documentElement.lang") == lang
    browser.call("Emulation.setUserAgentOverride", userAgent="", acceptLanguage="en-US")


FAKE_CAMERA = """(() => {
  const canvas = document.createElement("canvas"), { mediaDevices } = navigator;
  [canvas.width, canvas.height] = [40, 40];
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(0 200 0)";
  window.timer = setInterval(() => context.fillRect(0, 0, 40, 40), 20);
  mediaDevices.enumerateDevices = async () => [{ kind: "videoinput" }];
  mediaDevices.getUserMedia = async () => (window.stream = canvas.captureStream(30));
  return offerCamera().then(() => find("live").hidden);
})()"""


@needs_chromium
def test_camera(tab):
    assert tab.evaluate("find('live').hidden") is True  # this machine has none
    assert tab.evaluate(FAKE_CAMERA) is False
    tab.evaluate("find('live').click()")
    tab.wait("find('viewer').open && find('video').currentTime > 0.2")
    tab.evaluate("document.querySelector('#viewer .primary').click()")
    finished(tab)
    assert texts(tab, ".bars .label")[0] == "green"
    assert tab.evaluate("stream.getTracks().every(each => each.readyState === 'ended')")
    tab.evaluate("find('live').click()")
    tab.wait("find('viewer').open")
    tab.evaluate("document.querySelector('#viewer .button').click()")  # cancelled
    tab.wait("!find('viewer').open && stream.getTracks().every(each => "
             "each.readyState === 'ended')")
    assert len(texts(tab, ".card")) == 1


@needs_chromium
def test_a_camera_that_is_refused(tab):
    tab.evaluate("navigator.mediaDevices.getUserMedia = "
                 "async () => { throw new Error('Permission denied') }")
    tab.evaluate("look()")
    assert texts(tab, "#notice") == ["The camera cannot be used: Permission denied"]


def test_pages_of_both_languages_have_the_same_script(tmp_path, monkeypatch):
    web_folder.write(monkeypatch, tmp_path)
    scripts = [re.sub(r"TEXTS.*", "", re.search(r"<script>(.*?)</script>", (
        tmp_path / "web" / name).read_text(encoding="utf-8"), re.S)[1])
        for name in ("index.html", "zh.html")]
    assert scripts[0].split("function start")[0].replace("zh.html", "index.html#here") == (
        scripts[1].split("function start")[0])


