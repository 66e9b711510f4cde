#!/usr/bin/env bash
# Exports a run's best weights as a SavedModel ("pb"), in save_h5_model/RUN/model.
# usage: RUN=NAME bash sh/convert_pb.sh [more options of `run.py --mode save_pb`]
# Needs: a trained run; RUN is "demo" unless set, the run of sh/demo.sh.
# Time: about 20 s.
# Expect: the command reports how far the exported model's probabilities are from the run's.
set -euo pipefail
cd "$(dirname "$0")/.."

RUN=${RUN:-demo}

.venv/bin/python run.py --mode save_pb --run "$RUN" "$@"
