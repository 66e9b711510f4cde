#!/usr/bin/env bash
# Measures a run on labelled photos that it was not trained on.
# usage: RUN=NAME DATA=DIR bash sh/eval.sh [more options of `run.py --mode eval`]
# Time: 10 s to start, then about 30 photos a second on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

RUN=${RUN:-demo}
DATA=${DATA:-datasets/digits/test_datasets}

.venv/bin/python run.py --mode eval --run "$RUN" --data "$DATA" "$@"
