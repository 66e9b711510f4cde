#!/usr/bin/env bash
# Trains on all GPUs of this machine; the options of sh/train.sh, and its variables, hold here too.
# usage: bash sh/train_multigpu.sh [more options of `run.py --mode train`]
# Needs: several GPUs, or --devices cpu:2 to try it without one. BATCH_SIZE is that of all devices
#   together: give each at least 16, and --scale_lr linear with more than 64 in all.
# Afterwards: RUN=NAME bash sh/convert_pb.sh --multigpu exports the run and proves it on one device.
# Time and accuracy: as sh/train.sh on one GPU, divided by nearly their number (docs/scaling.md).
set -euo pipefail
cd "$(dirname "$0")/.."

bash sh/train.sh --multigpu "$@"
