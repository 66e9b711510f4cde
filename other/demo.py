"""The whole pipeline on a small real data set: 1,797 handwritten digits, from images to a model.

It trains from scratch, so it downloads neither data nor weights; 24 epochs take about four minutes
on two cores and give an accuracy of 0.97 or more on digits that training has not seen.
"""

import contextlib
import importlib
import os
import sys

from common import console
from config import parser
from config.mode_options import DemoOptions
from config.modes import MODES
from data.samples import text_file_name
from runs import run_folder

RUN = "demo"
# For tiny images and a network without pretrained weights
TRAINING = (
    *("--backbone", "EfficientNetB0", "--weights", "none", "--input_size", "32"),
    *("--drop_connect", "0", "--batch_size", "64", "--horizontal_flip", "no"),
    *("--random_eraser", "0"),
)


def main(options: DemoOptions):
    """`--mode demo`."""
    steps_output = sys.stderr if options.json else sys.stdout
    with contextlib.redirect_stdout(steps_output):
        result = run_all(options)
    console.show(result, _text, options.json)


def run_all(options):
    """Writes the digits where they are not there yet, trains, evaluates, exports and predicts.

    Args:
        options: `DemoOptions`.

    Returns:
        dict: run, model, data and log_dir (paths), test_accuracy, test_images, train_seconds.

    Raises:
        InputError, RunError: a step failed.

    Example:

    ```python
    run_all(parser.parse("demo", []))["test_accuracy"]  # 0.981
    ```
    """
    parts = {
        name: os.path.join(options.target, f"{name}_datasets") for name in ("train", "val", "test")
    }
    if not os.path.isdir(options.target):
        _run("demo_data", "writing the digits", "--target", options.target)
    place = ("--run", RUN, "--save_dir", options.save_dir)
    _run(
        *("train", "training", *place, "--overwrite", "--log_dir", options.log_dir),
        *("--train_data", parts["train"], "--val_data", parts["val"]),
        *("--epochs", str(options.epochs), *TRAINING),
    )
    evaluation = ("--data", parts["test"], "--record", "test")
    _run("eval", "evaluating on the test digits", *place, *evaluation)
    _run("save_pb", "exporting the SavedModel", *place)
    run_path = os.path.join(options.save_dir, RUN)
    model_path = os.path.join(run_path, run_folder.MODEL)
    image_name = min(name for name in os.listdir(parts["test"]) if name.endswith(".png"))
    image_path = os.path.join(parts["test"], image_name)
    _run("predict", "predicting one image with it", "--run", model_path, "--image", image_path)
    with open(os.path.join(parts["test"], text_file_name(image_name)), encoding="utf-8") as file:
        print(f"its text file says: {file.read().strip()}")
    metrics = run_folder.read_metrics(run_path)
    result = {"run": run_path, "model": model_path, "data": options.target}
    for name in ("test_accuracy", "test_images", "train_seconds"):
        result[name] = metrics[name]
    return {**result, "log_dir": options.log_dir}


def _run(mode, heading, *words):
    print(f"\n== {heading}", flush=True)
    # Imported in turn: the first error needs no Keras.
    importlib.import_module(MODES[mode].module).main(parser.parse(mode, words))
    sys.stdout.flush()


def _text(result):
    run_path = result["run"]
    return f"""
== done
accuracy on the test digits  {result["test_accuracy"]:.4f} ({result["test_images"]} images)
time of training             {result["train_seconds"]:.0f} s
the run                      {run_path} (options, weights, results.csv, metrics.json)
one row per test image       {os.path.join(run_path, "eval.csv")}
the exported model           {result["model"]} (plain TensorFlow opens it)
training curves              python -m tensorboard.main --logdir {result["log_dir"]}
try next, with your photos in one folder per class:
  python run.py --mode train --train_data PHOTOS"""
