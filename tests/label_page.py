"""The command `--mode label` and a browser on its page, for tests and measurements."""

import re
import signal
import subprocess
import sys

from browser import Browser
from conftest import ROOT

CODES = {"Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowRight": 39, "Delete": 46,
         "End": 35, "Home": 36}


class Page:
    """The command and a browser on its page."""

    def __init__(self, data, profile, *options):
        self.browser = Browser(profile)
        self.browser.call("Emulation.setDeviceMetricsOverride", width=1280, height=900,
                          deviceScaleFactor=1, mobile=False)
        self.command = [sys.executable, "run.py", "--mode", "label", "--data", str(data),
                        "--suggest", "no", "--browser", "no", *options]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline())[0]
        self.browser.open(self.url)
        self.browser.wait("document.activeElement === grid || !find('empty').hidden")

    def press(self, key, modifiers=0):
        typed = {"text": key} if len(key) == 1 and not modifiers else {}
        code = CODES.get(key) or ord(key.upper())
        for event_type in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=event_type, key=key,
                              windowsVirtualKeyCode=code, modifiers=modifiers, **typed)

    def settled(self):
        """Waits until the server has confirmed everything and the page shows it."""
        self.browser.wait("!outbox.length && !sending")
        self.browser.evaluate("refresh()")

    def mouse(self, *points):
        """Drags from the first point to the last; a click where there is one."""
        for kind, (x, y) in (("mousePressed", points[0]), *(("mouseMoved", p) for p in points[1:]),
                             ("mouseReleased", points[-1])):
            self.browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left",
                              buttons=1, clickCount=1)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.browser.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
