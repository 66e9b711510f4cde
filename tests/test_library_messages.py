"""libtiff writes nothing to standard error; the audit hears what it says."""

import gc
import os
import struct
import subprocess
import sys
import threading
import weakref

import pytest
from conftest import ROOT
from PIL import Image

from data import library_messages
from data.decoding import load
from data.geometry import Preprocessing
from other.data_quality import image_checks

CODE = """
import sys
from data.decoding import load
from data.geometry import Preprocessing
try:
    load(sys.argv[1], Preprocessing(32))
except ValueError as error:
    pass
"""


def fax_noise(byte_count=20_000, width=25, height=9_000):
    """A fax-coded TIFF of noise: libtiff complains of nearly every row."""
    data = os.urandom(byte_count)
    tags = [(256, width), (257, height), (258, 1), (259, 2), (262, 0), (273, 8), (277, 1),
            (278, height), (279, len(data))]
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
    )
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


@pytest.fixture
def noise(tmp_path):
    path = tmp_path / "fax.tif"
    path.write_bytes(fax_noise())
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="libtiff is inside of Pillow's own library")
def test_nothing_is_written(noise):
    process = subprocess.run(
        [sys.executable, "-c", CODE, noise], cwd=ROOT, capture_output=True, text=True
    )
    assert process.stderr == ""


def test_handlers_outlive_their_context(monkeypatch):
    """A thread that is in libtiff at its end may still call one: the process would die."""
    handlers = []
    monkeypatch.setattr(library_messages, "_set_handlers", lambda *some: handlers.extend(
        weakref.ref(handler) for handler in some if handler))
    with library_messages.hearing_libtiff():
        pass
    gc.collect()
    assert len(handlers) == 2 and all(handler() for handler in handlers)


def test_the_audit_hears_it(noise, capfd):
    with image_checks.hearing_warnings():
        look = image_checks.look(noise)
    kinds = dict(look.faults)
    assert capfd.readouterr().err == ""
    assert "corrupt_data" in kinds and "%" not in kinds["corrupt_data"], look.faults


def test_messages_are_those_of_the_thread(noise):
    """One thread decodes a damaged file, another one that is sound, at the same time."""
    heard = {}

    def decode(name, path):
        with library_messages.messages() as kept:
            load(path, Preprocessing(32))
            heard[name] = list(kept)

    sound = noise + ".png"
    Image.new("RGB", (8, 8)).save(sound)
    with library_messages.hearing_libtiff():
        threads = [threading.Thread(target=decode, args=words)
                   for words in (("damaged", noise), ("sound", sound))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert heard["sound"] == []
    assert 0 < len(heard["damaged"]) <= library_messages.MAX_MESSAGES
