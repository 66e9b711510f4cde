"""Predicting tells nobody: no process is started for it, and nothing is left in the home folder."""

import os
import subprocess
import sys

from conftest import ROOT
from test_server import write_model

PREDICT = """
import os, sys
import numpy as np
from prediction import runtimes
os.register_at_fork(before=lambda: print("forked"))
for name in ("onnx", "openvino"):
    predict = runtimes.open_model(sys.argv[1], name)
    assert predict(np.zeros((1, 32, 32, 3), np.uint8)).probabilities.shape == (1, 4)
"""


def test_predicting_tells_nobody(tmp_path):
    folder, home, temporary = (tmp_path / name for name in ("model", "home", "temporary"))
    write_model(folder)
    home.mkdir()
    temporary.mkdir()
    process = subprocess.run(
        [sys.executable, "-c", PREDICT, folder], cwd=ROOT, capture_output=True, text=True,
        env={**{name: value for name, value in os.environ.items()
                if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")},
             "HOME": str(home), "TMPDIR": str(temporary)},
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""
    assert list(home.rglob("*")) == list(temporary.rglob("*")) == []
