#!/usr/bin/env bash
# Serves a model over HTTP until Ctrl-C is pressed.
# usage: MODEL=NAME_OR_PATH bash sh/serve.sh [more options of `run.py --mode serve`]
# Needs: an exported model (sh/export.sh) or a run; MODEL is "demo" unless set.
# Time: ready within two seconds from an export for ONNX Runtime or OpenVINO.
# Expect: a page to try the model on at http://127.0.0.1:5001, and POST /predict for programs.
set -euo pipefail
cd "$(dirname "$0")/.."

MODEL=${MODEL:-demo}

exec .venv/bin/python run.py --mode serve --model "$MODEL" "$@"
