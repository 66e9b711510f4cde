"""common/console.py: a terminal sees that something goes on, and what is said stays readable."""

import contextlib
import os
import sys
import threading

import pytest

from common import console

pty = pytest.importorskip("pty", reason="needs terminals of POSIX")


class Terminal:
    """A terminal, in place of standard error once it is `attached`."""

    def __init__(self):
        self.reading, self.writing = pty.openpty()
        self.stream = os.fdopen(os.dup(self.writing), "w", buffering=1)
        self.text = ""

    @contextlib.contextmanager
    def attached(self):  # by the test itself: pytest puts its own in place after the fixtures
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", self.stream)
            patch.setattr(console, "WAITING_SECONDS", 0.02)
            yield

    def read_until(self, part):
        while part not in self.text:
            self.text += os.read(self.reading, 1000).decode()
        return self.text


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    made.stream.close()
    for descriptor in (made.reading, made.writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_a_terminal_sees_that_something_goes_on(terminal):
    with terminal.attached():
        with console.waiting("exporting"):
            terminal.read_until("\rexporting ... 0 s")
            console.say("a line")
            text = terminal.read_until("a line\r\n")
            assert "s\r                 \ra line\r\n" in text  # the sign goes before the line
            terminal.read_until("a line\r\n\r\rexporting ... 0 s")
        console.say("the end")
    assert "\rthe end" in terminal.read_until("the end")
    assert not [thread for thread in threading.enumerate() if thread.name == "waiting"]


def test_an_error_ends_it(terminal):
    with (
        terminal.attached(),
        pytest.raises(KeyboardInterrupt),
        console.waiting("exporting"),
    ):
        terminal.read_until("exporting ... 0 s")
        raise KeyboardInterrupt
    assert not [thread for thread in threading.enumerate() if thread.name == "waiting"]


def test_elsewhere_nothing_is_written(capsys):
    with console.waiting("exporting"):
        assert not [thread for thread in threading.enumerate() if thread.name == "waiting"]
    assert capsys.readouterr() == ("", "")
