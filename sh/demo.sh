#!/usr/bin/env bash
# The whole pipeline on a small real data set: 1,797 handwritten digits, from images to an exported model.
# usage: bash sh/demo.sh
# Needs: Python with venv. The script creates .venv, and downloads neither data nor weights.
# Time: about 4 minutes on two cores after the installation.
# Expect: an accuracy of 0.97 or more on the test digits.
set -euo pipefail
cd "$(dirname "$0")/.."
bash sh/setup.sh

python=.venv/bin/python
data=datasets/digits
[ -d "$data" ] || $python run.py --mode demo_data --target "$data"

# Trained from scratch on tiny images, so without flips, random erasing and stochastic depth.
$python run.py --mode train --run demo --overwrite \
  --train_data "$data/train_datasets" --val_data "$data/val_datasets" \
  --backbone EfficientNetB0 --weights none --input_size 32 --drop_connect 0 \
  --epochs 24 --batch_size 64 \
  --horizontal_flip no --random_eraser 0

echo; echo "== evaluating on the 360 test digits"
$python run.py --mode eval --run demo --data "$data/test_datasets" --record test

echo; echo "== exporting the SavedModel"
$python run.py --mode save_pb --run demo

images=("$data"/test_datasets/*.png)
image=${images[0]}
echo; echo "== predicting one image with it"
$python run.py --mode predict --run save_h5_model/demo/model --image "$image"
echo "its text file says: $(cat "${image%.png}.txt")"

$python - <<'END'
import json

with open("save_h5_model/demo/metrics.json", encoding="utf-8") as file:
    scores = json.load(file)
print(f"""
== done
accuracy on the test digits  {scores['test_accuracy']:.4f} ({scores['test_images']} images)
time of training             {scores['train_seconds']:.0f} s
the run                      save_h5_model/demo (options, weights, results.csv, metrics.json)
one row per test image       save_h5_model/demo/eval.csv
the exported model           save_h5_model/demo/model (plain TensorFlow opens it)
training curves              .venv/bin/tensorboard --logdir log_file
try next, with your photos in one folder per class:
  .venv/bin/python run.py --mode dir2txt --source PHOTOS --target ../datasets/train_datasets
  bash sh/train.sh""")
END
