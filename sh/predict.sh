#!/usr/bin/env bash
# Names the classes of images.
# usage: RUN=NAME bash sh/predict.sh IMAGE_OR_FOLDER...
# Needs: a trained run; RUN is "demo" unless set, and the images are then the demo's test digits.
# Time: 10 s to start, then about 30 photos per second on two cores.
# Expect: the likeliest classes of each image, with their probabilities.
set -euo pipefail
cd "$(dirname "$0")/.."

RUN=${RUN:-demo}

if [ $# = 0 ]; then set -- datasets/digits/test_datasets; fi
.venv/bin/python run.py --mode predict --run "$RUN" --image "$@"
