#!/usr/bin/env bash
# Exports a run's best weights for TensorFlow, ONNX Runtime and OpenVINO, in save_h5_model/RUN/model.
# With --format openvino --quantize int8: a quarter of the size, and faster still on a processor.
# usage: RUN=NAME bash sh/export.sh [more options of `run.py --mode export`]
# Time: about half a minute for EfficientNetB0.
set -euo pipefail
cd "$(dirname "$0")/.."

RUN=${RUN:-demo}

.venv/bin/python run.py --mode export --run "$RUN" "$@"
