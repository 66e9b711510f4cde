"""A headless Chromium that opens one page and is ended: Chromium, Chrome or Edge."""

import contextlib
import os
import shutil
import subprocess
import tempfile

from common.errors import InputError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
# Where they are on macOS and Windows, which put them on no PATH
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
END_SECONDS = 10


def find_browser():
    """The browser that proves a page.

    Returns:
        str, path of its program.

    Raises:
        InputError: there is none.
    """
    for name in NAMES:
        if path := shutil.which(name):
            return path
    for path in PLACES:
        if os.path.isfile(path):
            return path
    raise InputError(
        "--format: web: no Chromium was found, and without one the page's answers cannot be "
        "proved; install one (Debian, Ubuntu: apt-get install chromium), or leave web out"
    )


@contextlib.contextmanager
def open_page(url):
    """A context in which a headless browser shows a page, with a profile of its own.

    Args:
        url: str, the page's address.

    Returns:
        Context manager of the `subprocess.Popen` of the browser.

    Raises:
        InputError: there is no browser.
    """
    command = [
        find_browser(),
        "--headless",
        "--disable-gpu",
        "--disable-extensions",
        "--no-first-run",
        "--disable-background-networking",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")  # which it refuses to set up as root
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
