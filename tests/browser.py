"""A headless Chromium that tests drive over its DevTools protocol, through a pair of pipes."""

import json
import os
import select
import shutil
import subprocess
import time

import pytest

needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed: apt-get install chromium")
LEAVING = ("navigated or closed", "Cannot find context", "Execution context was destroyed")
TIME_LIMIT = 20  # seconds for one answer of the browser or one wait


class Browser:
    """One tab.

    Attributes:
        problems: list of str: script errors, console errors and warnings, and what a page's
            Content-Security-Policy refused. Answers with an error status are not among them.
    """

    def __init__(self, profile):
        """Starts it, with `profile` as the folder for its files."""
        # The browser reads commands from its descriptor 3 and answers on 4.
        command_end, self._commands = os.pipe()
        self._answers, answer_end = os.pipe()
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu",
                   "--disable-extensions", "--remote-debugging-pipe",
                   f"--user-data-dir={profile}", "about:blank"]
        shell_script = f'exec "$@" 3<&{command_end} 4>&{answer_end}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell_script, "-", *command], pass_fds=(command_end, answer_end),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(command_end)
        os.close(answer_end)
        self._buffer, self._number, self._session = b"", 0, None
        self.problems = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for protocol_domain in ("Page", "Runtime", "Log"):
            self.call(f"{protocol_domain}.enable")

    def call(self, method, **parameters):
        """Calls a method of the protocol; returns its result, a dict."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer.get("method"), answer.get("params"))

    def _read(self):
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], TIME_LIMIT)[0], "no answer in time"
            received = os.read(self._answers, 1 << 20)
            assert received, "the browser has ended"
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event, parameters):
        if event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.problems.append(json.dumps(parameters["args"]))
        elif event == "Log.entryAdded" and parameters["entry"]["source"] != "network":
            self.problems.append(parameters["entry"]["text"])

    def open(self, url):
        """Goes to a page and waits until it has loaded."""
        self.call("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def evaluate(self, expression):
        """The value of a JavaScript expression, awaited where it is a promise."""
        response = self.call("Runtime.evaluate", expression=expression, awaitPromise=True,
                             returnByValue=True)
        assert "exceptionDetails" not in response, response["exceptionDetails"]
        return response["result"].get("value")

    def wait(self, expression):
        """Waits until a JavaScript expression is true; returns its value."""
        deadline = time.monotonic() + TIME_LIMIT
        while not (value := self._evaluate_unless_leaving(expression)):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.02)
        return value

    def _evaluate_unless_leaving(self, expression):
        """The value of an expression; None while the page makes room for another."""
        try:
            return self.evaluate(expression)
        except AssertionError as error:
            if not any(text in str(error) for text in LEAVING):
                raise
            return None

    def choose(self, selector, *paths):
        """Chooses files in an `<input type=file>`."""
        response = self.call("Runtime.evaluate",
                             expression=f"document.querySelector({json.dumps(selector)})")
        self.call("DOM.setFileInputFiles", objectId=response["result"]["objectId"],
                  files=list(map(str, paths)))

    def press(self, key, code):
        """Presses and releases a key: its name, such as "Tab", and its Windows key code."""
        typed_text = {"text": "\r"} if key == "Enter" else {}
        for event_type in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=event_type, key=key, code=key,
                      windowsVirtualKeyCode=code, **typed_text)

    def close(self):
        """Ends it."""
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
