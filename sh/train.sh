#!/usr/bin/env bash
# Trains on your photos: edit the values below, or add options at the end of the command.
# usage: bash sh/train.sh [more options of `run.py --mode train`]
# Needs: TRAIN_DATA, one folder of photos per class, a CSV, or the sample format,
#   and for other backbones than EfficientNetLite0 a network, to download ImageNet weights the first time.
# Time: two to four minutes for 500 photos with EfficientNetLite0 on two cores; less on a GPU.
# Expect: an accuracy of about 0.8 with 480 photos of six kinds of waste (docs/benchmarks.md).
set -euo pipefail
cd "$(dirname "$0")/.."

TRAIN_DATA=${TRAIN_DATA:-} # ../datasets/train_datasets, validated on ../datasets/val_datasets
BACKBONE=${BACKBONE:-}     # EfficientNetB0
WEIGHTS=${WEIGHTS:-}       # imagenet; none: from scratch, without a network
EPOCHS=${EPOCHS:-}         # by the number of photos; 30 from scratch
BATCH_SIZE=${BATCH_SIZE:-} # 16

# Variables that are empty become no options, so that --config, --resume and defaults take effect.
.venv/bin/python run.py --mode train \
  ${TRAIN_DATA:+--train_data "$TRAIN_DATA"} \
  ${BACKBONE:+--backbone "$BACKBONE"} \
  ${WEIGHTS:+--weights "$WEIGHTS"} \
  ${EPOCHS:+--epochs "$EPOCHS"} \
  ${BATCH_SIZE:+--batch_size "$BATCH_SIZE"} \
  "$@"
