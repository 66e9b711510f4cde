#!/usr/bin/env bash
# Exports a run's best weights for TensorFlow, ONNX Runtime and OpenVINO, in save_h5_model/RUN/model.
# With --format openvino --quantize int8 the model has a quarter of the size, and is faster still on a CPU.
# usage: RUN=NAME bash sh/export.sh [more options of `run.py --mode export`]
# Needs: a trained run; RUN is "demo" unless set, the run of sh/demo.sh.
# Time: about half a minute for EfficientNetB0.
# Expect: the command reports, per format, how far the probabilities are from the run's.
set -euo pipefail
cd "$(dirname "$0")/.."

RUN=${RUN:-demo}

.venv/bin/python run.py --mode export --run "$RUN" "$@"
