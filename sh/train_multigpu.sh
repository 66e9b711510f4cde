#!/usr/bin/env bash
# Trains on all GPUs of this machine; takes the options and the variables of sh/train.sh.
# usage: bash sh/train_multigpu.sh [more options of `run.py --mode train`]
# Needs: several GPUs, or --devices cpu:2 to try it without a GPU. BATCH_SIZE counts the images of
#   all devices: use at least 16 per device, and --scale_lr linear above 64 in all.
# Time: that of sh/train.sh on one GPU, divided by nearly the number of GPUs (docs/scaling.md).
# Expect: the accuracy of sh/train.sh.
# Afterwards, RUN=NAME bash sh/convert_pb.sh --multigpu exports the run and checks it on one device.
set -euo pipefail
cd "$(dirname "$0")/.."

bash sh/train.sh --multigpu "$@"
