"""sh/setup.sh: what it says where the right Python or the packages cannot be had."""

import os
import shutil
import subprocess

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
OTHER_PYTHON = """#!/bin/bash
if [ "$1" = --version ]; then echo "Python {version}.1"; exit 0; fi
case "$2" in *print*) echo {version} ;; *) exit 1 ;; esac
"""
NO_NETWORK = """#!/bin/bash
case "$*" in *--version*) exit 0 ;; *) exit 1 ;; esac
"""


@pytest.fixture
def clone(tmp_path):
    """A folder with the script and the requirements, and a function that runs it there."""
    shutil.copytree(os.path.join(ROOT, "requirements"), tmp_path / "requirements")
    shutil.copy(os.path.join(ROOT, "requirements.txt"), tmp_path)
    (tmp_path / "sh").mkdir()
    shutil.copy(os.path.join(ROOT, "sh", "setup.sh"), tmp_path / "sh")

    def setup():
        path = os.pathsep.join((str(tmp_path / "bin"), "/usr/bin", "/bin"))
        return subprocess.run(["bash", "sh/setup.sh"], cwd=tmp_path, capture_output=True,
                              text=True, env={"PATH": path, "PYTHON": "python3"})

    return tmp_path, setup


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("version, system, advice", [
    ("3.10", "Linux", "sudo apt install python3.11 python3.11-venv (Ubuntu 22.04)"),
    ("3.12", "Linux", "sudo apt install python3-venv (Debian, Ubuntu)"),
    ("3.14", "Linux", "TensorFlow has no packages for 3.14 yet"),
    ("3.9", "Darwin", "brew install python@3.13"),
    ("3.6", "Linux", "sudo apt install python3 python3-venv (Debian, Ubuntu)"),
])
def test_another_python(clone, version, system, advice):
    folder, setup = clone
    write_program(folder / "bin" / "python3", OTHER_PYTHON.format(version=version))
    write_program(folder / "bin" / "uname", f"#!/bin/bash\necho {system}\n")
    result = setup()
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    for fact in (f"python3 is Python {version}.1: {advice};", "uv venv --seed --python 3.13 .venv",
                 "conda create -p .venv python=3.13"):
        assert fact in result.stderr
    assert not (folder / ".venv").exists()


def test_packages_that_cannot_be_had(clone):
    folder, setup = clone
    write_program(folder / ".venv" / "bin" / "python", NO_NETWORK)
    result = setup()
    assert result.returncode == 1
    for fact in ("requirements.txt was not installed", "HTTPS_PROXY", "PIP_INDEX_URL"):
        assert fact in result.stderr.splitlines()[-1]
    assert not list((folder / ".venv").glob("installed-*"))
