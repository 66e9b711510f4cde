#!/usr/bin/env bash
# Trains on your photos: edit the values below, or add options at the end of the command.
# usage: bash sh/train.sh [more options of `run.py --mode train`]
# Needs: TRAIN_DATA in the sample format (a folder a class? `run.py --mode dir2txt` converts it),
#   and a network for the ImageNet weights the first time (16 MB).
# Time: 500 photos, 30 epochs, EfficientNetB0 on two cores: about 20 minutes; on a GPU, one or two.
# Accuracy: on 500 photos of six classes expect 0.85 to 0.95 from ImageNet's weights.
set -euo pipefail
cd "$(dirname "$0")/.."

TRAIN_DATA=${TRAIN_DATA:-} # ../datasets/train_datasets, validated on ../datasets/val_datasets
BACKBONE=${BACKBONE:-}     # EfficientNetB0
WEIGHTS=${WEIGHTS:-}       # imagenet; none: from scratch, without a network
EPOCHS=${EPOCHS:-}         # 30
BATCH_SIZE=${BATCH_SIZE:-} # 16

# What is empty above is left to run.py, so that --config and --resume have their say.
.venv/bin/python run.py --mode train \
  ${TRAIN_DATA:+--train_data "$TRAIN_DATA"} \
  ${BACKBONE:+--backbone "$BACKBONE"} \
  ${WEIGHTS:+--weights "$WEIGHTS"} \
  ${EPOCHS:+--epochs "$EPOCHS"} \
  ${BATCH_SIZE:+--batch_size "$BATCH_SIZE"} \
  "$@"
