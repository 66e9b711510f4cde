"""Keeps libraries from reporting usage to their makers; imported before any of them.

ONNX Runtime reports from its first session on, and OpenVINO when it is imported (from a fork of
the process). Nothing here needs that, and a server's network is not theirs to use.
"""

import os
import sys

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # OpenVINO works without this module
