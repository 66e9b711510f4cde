"""Keeps libraries from reporting to their makers; imported before any of them is.

ONNX Runtime sends from its first session on, OpenVINO when it is imported, from a copy of the
process, and NNCF when it quantizes. Nothing of that is needed here, and a server's network is
not theirs to use.
"""

import os
import sys

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("NNCF_CI", "1")  # what it takes for its own tests, which report nothing
sys.modules.setdefault("openvino_telemetry", None)  # OpenVINO does without where it is missing
