"""deployment/page.py in a browser, against a server that plays the answers a test gives it."""

import base64
import hashlib
import html.parser
import http.server
import json
import re
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from browser import Browser, needs_chromium

from deployment import page

LABELS = ["cat", "dog", "狐狸"]
ASKED = "document.getElementById('login').open"  # whether for the token
GOOD = [{"label": "狐狸", "id": 2, "probability": 0.75},
        {"label": "cat", "id": 0, "probability": 0.2496},
        {"label": "dog", "id": 1, "probability": 0.0004}]
PICTURE = cv2.imencode(".png", np.full((30, 40, 3), 200, np.uint8))[1].tobytes()
TIFF = cv2.imencode(".tif", np.full((30, 40, 3), 200, np.uint8))[1].tobytes()


def answer(predictions=GOOD, **more):
    return 200, {"success": True, "predictions": predictions, "model": "animals", "ms": 12.34,
                 "request_id": "1", **more}, {}


def refusal(status, code, message, **headers):
    error_answer = {"success": False, "error": {"code": code, "message": message},
                    "request_id": "1"}
    return status, error_answer, headers


class Handler(http.server.BaseHTTPRequestHandler):
    """The routes that the page uses; `server.stub` says what they answer."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        stub = self.server.stub
        if self.path == "/":
            self.reply(200, *page.PAGES["en"])
        elif stub.silent == "GET":
            self.close_connection = True
        elif self.allowed():
            self.reply(200, {"labels": stub.class_names, "model": "animals"}, {})

    def do_POST(self):
        stub = self.server.stub
        request_body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.allowed():
            return
        stub.busy += 1
        stub.most = max(stub.most, stub.busy)
        stub.requests.append(
            SimpleNamespace(path=self.path, headers=self.headers, body=request_body))
        time.sleep(0.01)
        stub.open.wait(10)
        reply = stub.replies.pop(0) if stub.replies else answer()
        stub.busy -= 1
        if stub.silent == "POST":
            self.close_connection = True
        else:
            self.reply(*reply)

    def allowed(self):
        token = self.server.stub.token
        if token is None or self.headers["Authorization"] == f"Bearer {token}":
            return True
        self.reply(*refusal(401, "unauthorized", "a token is needed", WWW_Authenticate="Bearer"))

    def reply(self, status, content, headers):
        if not isinstance(content, bytes):
            content, headers = json.dumps(content).encode(), {
                "Content-Type": "application/json", **headers}
        self.send_response(status)
        for header_name, value in headers.items():
            self.send_header(header_name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tab(browser, server):
    """The page, newly opened; nothing may have gone wrong in it when the test ends."""
    server.stub = SimpleNamespace(class_names=LABELS, replies=[], requests=[], token=None,
                                  silent=None, busy=0, most=0, open=threading.Event())
    server.stub.open.set()
    browser.problems.clear()
    browser.call("Emulation.setEmulatedMedia", features=[])
    browser.call("Emulation.setDeviceMetricsOverride", width=1000, height=800,
                 deviceScaleFactor=1, mobile=False)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.open(f"http://127.0.0.1:{server.server_address[1]}/")
    yield browser
    browser.evaluate("sessionStorage.clear()")
    assert browser.problems == []


@pytest.fixture
def stub(tab, server):
    return server.stub


@pytest.fixture
def picture(tmp_path):
    picture_path = tmp_path / "a fox.png"
    picture_path.write_bytes(PICTURE)
    return picture_path


def give(tab, event, *files, target="document.body"):
    """Drops or pastes (name, bytes) as files; whether the browser would go on with it."""
    add_files = "".join(
        f"data.items.add(new File([Uint8Array.from(atob('{base64.b64encode(data).decode()}'), "
        f"c => c.charCodeAt(0))], {json.dumps(file_name)}));" for file_name, data in files)
    event_class, data_field = ("ClipboardEvent", "clipboardData") if event == "paste" else (
        "DragEvent", "dataTransfer")
    event_options = f"{{{data_field}: data, bubbles: true, cancelable: true}}"
    return tab.evaluate(f"(() => {{ const data = new DataTransfer(); {add_files} "
                        f"return {target}.dispatchEvent("
                        f"new {event_class}('{event}', {event_options})) }})()")


def texts(tab, selector):
    return tab.evaluate(f"[...document.querySelectorAll('{selector}')].map(e => e.textContent)")


def finished(tab, count=1):
    """Waits until that many cards have their answer or error, and nothing waits."""
    tab.wait(f"document.querySelectorAll('.card:not([aria-busy])').length === {count} "
             "&& !working")


# --- the file ---------------------------------------------------------------------------

class Elements(html.parser.HTMLParser):
    """Tags with attributes, and the content of style and script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.contents = [], {"style": [], "script": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.last = tag

    def handle_data(self, data):
        if self.cdata_elem:
            self.contents[self.cdata_elem].append(data)


def test_policy():
    policy = dict(part.split(" ", 1) for part in
                  page.PAGES["en"][1]["Content-Security-Policy"].split("; "))
    elements = Elements(page.PAGES["en"][0].decode())
    for tag_name in ("style", "script"):
        (content,) = elements.contents[tag_name]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy.pop(f"{tag_name}-src") == f"'sha256-{digest}'"
    assert policy == {"default-src": "'none'", "img-src": "blob: data:", "connect-src": "'self'",
                      "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"}
    assert page.PAGES["en"][1]["Content-Type"] == "text/html; charset=utf-8"


def test_the_page_stands_alone():
    html_text = page.PAGES["en"][0].decode()
    elements = Elements(html_text)
    assert ("html", {"lang": "en"}) in elements.tags and b"\r" not in page.PAGES["en"][0]
    links = [value for _, attributes in elements.tags
             for attribute_name, value in attributes.items()
             if attribute_name in ("src", "href", "srcset", "action", "data")]
    assert [link for link in links if not link.startswith("data:")] == ["openapi.json"]
    assert "url(" not in html_text and "@import" not in html_text
    handlers = [attribute_name for _, attributes in elements.tags for attribute_name in attributes
                if attribute_name.startswith("on") or attribute_name == "style"]
    assert handlers == []
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "localStorage"):
        assert word not in html_text


# --- pictures in, answers out -------------------------------------------------------------

@needs_chromium
def test_a_chosen_picture(tab, stub, picture):
    tab.choose("#files", picture)
    finished(tab)
    assert texts(tab, ".bars .label") == ["狐狸", "cat", "dog"]
    assert texts(tab, ".percent") == ["75.0%", "25.0%", "0.0%"]
    assert texts(tab, ".made") == ["animals · 12.3 ms"]
    assert texts(tab, ".unknown, .error, .state") == []
    assert texts(tab, "[role=status]") == ["a fox.png: 狐狸, 75.0%"]
    tab.wait("document.getAnimations().every(each => each.playState === 'finished')")
    bar_widths = tab.evaluate("[...document.querySelectorAll('.fill')].map(each => each."
                              "getBoundingClientRect().width / each.parentNode.clientWidth)")
    assert bar_widths == pytest.approx([0.75, 0.2496, 0.0004], abs=0.001)
    (request,) = stub.requests
    assert request.path == "/predict?top_k=3" and request.body == PICTURE
    assert request.headers["Content-Type"] == "image/png"
    assert request.headers["Authorization"] is None
    shown_picture = tab.wait("(({alt, naturalWidth, naturalHeight}) => naturalWidth && "
                             "[alt, naturalWidth, naturalHeight])"
                             "(document.querySelector('.card img'))")
    assert shown_picture == ["a fox.png", 40, 30]
    tab.choose("#files", picture)  # once more the same
    finished(tab, 2)
    tab.choose("#camera", picture)
    finished(tab, 3)


@needs_chromium
def test_five_classes_are_asked_for_where_there_are_more(tab, stub):
    stub.class_names = [str(class_id) for class_id in range(9)]
    give(tab, "paste", ("image.png", PICTURE))
    finished(tab)
    assert [request.path for request in stub.requests] == ["/predict?top_k=5"]


@needs_chromium
def test_several_one_after_another_the_newest_first(tab, stub):
    probabilities = [0.1, 0.2, 0.3]
    stub.replies += [answer([{"label": "cat", "id": 0, "probability": probability}])
                     for probability in probabilities]
    named_files = [(f"{index}.png", PICTURE + bytes([index])) for index in range(3)]
    # Otherwise the browser would leave the page for the picture.
    assert not give(tab, "drop", *named_files[:2])
    give(tab, "drop", named_files[2])
    finished(tab, 3)
    assert [request.body[-1] for request in stub.requests] == [0, 1, 2] and stub.most == 1
    card_names = [card_name.split()[0] for card_name in texts(tab, ".name")]
    assert card_names == ["2.png", "1.png", "0.png"]
    assert texts(tab, ".percent") == ["30.0%", "20.0%", "10.0%"]
    assert tab.evaluate("document.getElementById('waiting').hidden")


@needs_chromium
def test_twenty_are_kept_and_pictures_are_let_go(tab, stub):
    tab.evaluate("window.urls = []; const { createObjectURL, revokeObjectURL } = URL;"
                 "URL.createObjectURL = file => (urls.push(createObjectURL(file)), urls.at(-1));"
                 "URL.revokeObjectURL = url => { revokeObjectURL(url);"
                 "urls.splice(urls.indexOf(url), 1) };")
    give(tab, "drop", ("first.tif", TIFF), *[(f"{index}.png", PICTURE) for index in range(21)])
    tab.wait("document.querySelector('.name')?.textContent.startsWith('20.png') && !working")
    assert len(stub.requests) == 22
    card_names = [card_name.split()[0] for card_name in texts(tab, ".name")]
    assert card_names == [f"{index}.png" for index in range(20, 0, -1)]
    assert tab.wait("urls.length === 0")


@needs_chromium
def test_what_a_browser_cannot_show_is_sent(tab, stub):
    give(tab, "drop", ("scan.tif", TIFF))
    finished(tab)
    tab.wait("document.querySelector('.placeholder') !== null")
    assert texts(tab, ".placeholder strong") == ["scan.tif"]
    assert texts(tab, ".picture img") == [] and len(texts(tab, ".label")) == 3
    assert stub.requests[0].body == TIFF
    assert stub.requests[0].headers["Content-Type"] == "application/octet-stream"


@needs_chromium
def test_unknown(tab, stub):
    stub.replies.append(answer(unknown=True))
    give(tab, "drop", ("a.png", PICTURE))
    finished(tab)
    assert texts(tab, ".unknown strong") == ["Unknown"] and len(texts(tab, ".label")) == 3
    assert texts(tab, "[role=status]") == ["a.png: unknown"]
    assert "not sure enough" in texts(tab, ".unknown span")[0]
    stub.replies.append(answer(unknown=False))
    give(tab, "drop", ("b.png", PICTURE))
    finished(tab, 2)
    assert len(texts(tab, ".unknown")) == 1
    stub.replies.append(answer(unknown=True, reason="unlike anything seen"))
    give(tab, "drop", ("c.png", PICTURE))
    finished(tab, 3)
    assert "unlike those that the model has learned from" in texts(tab, ".unknown span")[0]


@needs_chromium
def test_names_of_others_stay_text(tab, stub):
    html_name = "<img src=x onerror='document.title=1'>"
    stub.replies += [answer([{"label": html_name, "id": 0, "probability": 1}], model=html_name),
                     refusal(422, "undecodable", html_name)]
    give(tab, "drop", (html_name, TIFF), (html_name, TIFF))
    finished(tab, 2)
    tab.wait("document.querySelectorAll('.placeholder').length === 2")
    assert texts(tab, ".label") == [html_name] and texts(tab, ".error") == [html_name]
    assert texts(tab, ".placeholder strong") == [html_name, html_name]
    assert texts(tab, ".made") == [f"{html_name} · 12.3 ms"]
    assert tab.evaluate("document.images.length") == 0
    assert tab.evaluate("document.title") == "Image classifier"


# --- what goes wrong ----------------------------------------------------------------------

@needs_chromium
@pytest.mark.parametrize("reply, words", [
    (refusal(422, "undecodable", "is none of JPEG, PNG"), "is none of JPEG, PNG"),
    (refusal(413, "too_large", "10 MB are allowed"), "10 MB are allowed"),
    ((502, b"<html>", {}), "The server answered 502 Bad Gateway, without saying why."),
    ((200, b"{", {}), "No answer came. The server may not take a file of this size (1 kB)."),
])
def test_errors_in_the_words_of_the_server(tab, stub, reply, words):
    stub.replies += [reply]
    give(tab, "drop", ("a.png", PICTURE), ("b.png", PICTURE))
    finished(tab, 2)
    assert texts(tab, ".error[role=alert]") == [words] and texts(tab, ".state") == []
    assert tab.evaluate("document.querySelector('.error').checkVisibility()")
    assert len(texts(tab, ".label")) == 3  # the next is served
    assert len(stub.requests) == 2


@needs_chromium
def test_no_answer(tab, stub):
    for silent_method in ("POST", "GET"):
        stub.silent = silent_method
        give(tab, "drop", ("a.png", PICTURE + bytes(2_400_000)))
        tab.wait("!working")
    assert texts(tab, ".error[role=alert]") == [
        "The server cannot be reached.",
        "No answer came. The server may not take a file of this size (2.4 MB)."]


@needs_chromium
def test_dragging_over(tab):
    is_over = "document.body.classList.contains('over')"
    for leave_event in ("dragleave", "drop"):
        assert not give(tab, "dragover") and tab.evaluate(is_over)
        give(tab, leave_event)
        assert not tab.evaluate(is_over)


@needs_chromium
def test_nothing_dropped(tab, stub):
    assert not tab.evaluate("document.getElementById('notice').checkVisibility()")
    give(tab, "paste", target="document.getElementById('token')")
    assert texts(tab, "#notice") == [""]
    give(tab, "drop")
    assert tab.evaluate("document.getElementById('notice').checkVisibility()")
    (words,) = texts(tab, "#notice[role=alert]")
    assert "no picture file" in words
    give(tab, "drop", ("a.png", PICTURE))
    finished(tab)
    assert texts(tab, "#notice") == [""]


@needs_chromium
def test_it_waits_while_the_server_is_busy(tab, stub):
    tab.evaluate("window.waits = []; window.setTimeout = (go, ms) => { waits.push(ms); go() }")
    full_answers = [refusal(503, "queue_full", "come again", Retry_After=retry_after)
                    for retry_after in (2, 1, 7)]
    stub.replies += [*full_answers, answer(), *full_answers]
    stub.replies += [refusal(503, "not_ready", "the last"), answer()]
    give(tab, "drop", ("a.png", PICTURE))
    finished(tab)
    assert len(texts(tab, ".label")) == 3 and tab.evaluate("waits") == [2000, 1000, 7000]
    give(tab, "drop", ("b.png", PICTURE))
    finished(tab, 2)
    assert texts(tab, ".error") == ["the last"] and len(stub.requests) == 8


@needs_chromium
def test_busy(tab, stub):
    stub.replies.append(refusal(503, "queue_full", "come again", Retry_After=1))
    stub.open.clear()
    give(tab, "drop", ("a.png", PICTURE), ("b.png", PICTURE), ("c.png", PICTURE))
    assert tab.evaluate("document.querySelector('.card').ariaBusy") == "true"
    assert texts(tab, ".doing") == ["Classifying…"]
    assert texts(tab, "#waiting") == ["2 more to come"]
    stub.open.set()
    tab.wait("document.querySelector('.doing').textContent.includes('in 1 s')")
    finished(tab, 3)


@needs_chromium
def test_a_token_is_asked_for_when_it_is_needed(tab, stub):
    stub.token = "right token"
    assert not tab.evaluate(ASKED)
    give(tab, "drop", ("a.png", PICTURE))
    tab.wait(ASKED)
    assert texts(tab, "#login-reason") == ["a token is needed"]
    assert tab.evaluate("document.activeElement.id") == "token"
    assert tab.evaluate("document.activeElement.type") == "password"
    tab.call("Input.insertText", text="wrong")
    tab.press("Enter", 13)
    tab.wait(f"{ASKED} && document.getElementById('token').value === ''")
    assert tab.evaluate("sessionStorage.length") == 0
    tab.call("Input.insertText", text=" right token ")
    tab.press("Enter", 13)
    finished(tab)
    assert len(texts(tab, ".label")) == 3
    assert tab.evaluate("[sessionStorage.token, localStorage.length, document.cookie]") == [
        "right token", 0, ""]
    assert tab.evaluate("document.getElementById('token').value") == ""
    give(tab, "drop", ("b.png", PICTURE))  # is not asked again
    finished(tab, 2)


@needs_chromium
@pytest.mark.parametrize("leave", ["document.getElementById('cancel').click()", None])
def test_no_token(tab, stub, leave):
    stub.token = "right"
    give(tab, "drop", ("a.png", PICTURE), ("b.png", PICTURE))
    tab.wait(ASKED)
    tab.call("Input.insertText", text="wrong")
    tab.press("Enter", 13)
    tab.wait(f"{ASKED} && document.getElementById('token').value === ''")
    assert tab.evaluate("sessionStorage.length") == 0
    tab.evaluate(leave) if leave else tab.press("Escape", 27)
    finished(tab)
    assert tab.evaluate("document.getElementById('waiting').hidden")
    assert texts(tab, ".error") == ["a token is needed"] and stub.requests == []
    assert not tab.evaluate(f"{ASKED} || sessionStorage.length")


# --- how it looks -------------------------------------------------------------------------

@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(tab, stub, scheme):
    """Nothing sticks out sideways at 360 pixels, and all text has WCAG's contrast of 4.5."""
    tab.call("Emulation.setEmulatedMedia",
             features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1,
             mobile=True)
    long_name = "x" * 200
    predictions = [{"label": long_name, "id": 0, "probability": 0.9}, *GOOD]
    stub.replies += [answer(predictions, model=long_name, unknown=True),
                     refusal(422, "undecodable", long_name), answer()]
    give(tab, "drop", (long_name, TIFF), (long_name, PICTURE), ("c.png", PICTURE))
    finished(tab, 3)
    give(tab, "drop")
    tab.evaluate("document.getElementById('login').showModal()")
    tab.wait("document.getAnimations().every(each => each.playState === 'finished')")
    assert tab.evaluate("innerWidth") == 360
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    sticking_out = tab.evaluate("[...document.querySelectorAll('body *')].filter(each => each."
                                "getBoundingClientRect().right > 360).map(each => each.outerHTML)")
    assert sticking_out == []
    colors = tab.evaluate("""[...document.querySelectorAll('body *')].filter(each =>
        each.checkVisibility() && [...each.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .map(each => {
          let ground = each;
          while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)')
            ground = ground.parentElement;
          return [each.className || each.localName, getComputedStyle(each).color,
                  getComputedStyle(ground).backgroundColor];
        })""")
    assert len(colors) > 20
    for name, *pair in colors:
        text, background = sorted(map(luminance, pair))
        assert (background + 0.05) / (text + 0.05) >= 4.5, (name, pair)
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(background) > 0.5) == (scheme == "light")


def luminance(color):
    """WCAG's relative luminance of a CSS colour rgb(r, g, b)."""
    parts = np.array(re.findall(r"\d+", color)[:3], float) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@needs_chromium
def test_the_camera_is_offered_where_fingers_point(tab):
    is_visible = "document.querySelector('.camera').checkVisibility()"
    assert not tab.evaluate(is_visible)
    tab.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1,
             mobile=True)
    tab.call("Emulation.setTouchEmulationEnabled", enabled=True)
    assert tab.wait(is_visible)
    assert tab.evaluate("document.getElementById('camera').getAttribute('capture')") == \
        "environment"


@needs_chromium
def test_by_keyboard(tab):
    tab.press("Tab", 9)
    assert tab.evaluate("document.activeElement.id") == "files"
    outline_style = "getComputedStyle(document.querySelector('.primary')).outlineStyle"
    assert tab.evaluate(outline_style) == "solid"
    tab.press("Tab", 9)
    assert tab.evaluate("document.activeElement.localName") == "a"
    assert tab.evaluate(outline_style) == "none"


@needs_chromium
def test_reduced_motion(tab, stub):
    tab.call("Emulation.setEmulatedMedia",
             features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    stub.replies.append(refusal(503, "queue_full", "come again", Retry_After=1))
    give(tab, "drop", ("a.png", PICTURE))
    assert tab.evaluate("document.getAnimations().length") == 0
    finished(tab)
    assert tab.evaluate("document.getAnimations().length") == 0


@needs_chromium
def test_nothing_else_runs(tab, stub):
    """The policy holds: a script that somehow gets in is refused, and so is another address."""
    tab.evaluate("document.body.append(Object.assign(document.createElement('script'), "
                 "{ textContent: 'window.entered = 1' }))")
    assert tab.evaluate("fetch('http://127.0.0.1:9/').then(() => 'reached', () => 'refused')") == \
        "refused"
    assert not tab.evaluate("window.entered")
    assert len(tab.problems) >= 2 and "Content Security Policy" in tab.problems[0]
    tab.problems.clear()
