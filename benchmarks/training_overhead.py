"""What `train` costs beside the training step itself.

    python -m benchmarks.training_overhead --data DIR [--json]

DIR holds one folder of photos per class. Images a second of an epoch of `train`'s own
batches, callbacks and `fit` (EfficientNetB0, 224 x 224, no validation, no checkpoint),
over the same compiled step on one batch that is already in memory.

A shared machine's speed drifts by a third within a minute, far more than what is
measured here. So each step of an epoch is followed by a resident step, timed by
itself, and the median of these pairs stands for an epoch's steps; its first step,
which waits for the first batch and for what ends the epoch before, counts as it is. Of
the epochs from the second on the median counts; all of them are printed, because
such a wait need not come every time.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with one folder of photos per class")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--images", type=int, default=432, help="images per epoch")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(options.data, os.path.join(scratch, "data"), options)
    if options.json:
        print(json.dumps(result))
        return
    print(f"train                  {result['train']:8.2f} images/s")
    print(f"resident batch         {result['resident']:8.2f} images/s")
    print(f"ratio                  {result['ratio']:8.3f}   by epoch {result['ratios']}")


def measure(source, target, asked):
    batch_size = asked.batch_size
    from compute.backend import import_keras

    import_keras()
    import numpy as np

    from compute.devices import SINGLE_DEVICE, Devices
    from config import parser
    from other.data_reconstruction_dir2txt import convert
    from training import callbacks, compilation, stages
    from training.batches import make_batches
    from training.setup import prepare

    convert(source, target)
    options = parser.parse(
        "train",
        [
            "--train_data",
            target,
            "--weights",
            "none",
            "--batch_size",
            str(batch_size),
            "--epochs",
            str(asked.epochs),
            "--run",
            "overhead",
            "--save_dir",
            os.path.dirname(target),
        ],
    )
    setup = prepare(options)
    # Full batches only, as the resident one is.
    count = min(asked.images, len(setup.training.file_names)) // batch_size * batch_size
    chosen = np.random.default_rng(0).permutation(len(setup.training.file_names))[:count]
    setup = dataclasses.replace(setup, training=setup.training.select(chosen))
    training, _ = make_batches(setup, SINGLE_DEVICE)
    model = compilation.make_model(setup)
    (stage,) = stages.list_stages(setup.options)
    compilation.compile_model(model, setup, stage, len(training), Devices())
    clock = make_clock(model, training)
    model.fit(
        training.dataset(),
        epochs=asked.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            callbacks.EpochMonitor(training),
            callbacks.ProgressBar(count, batch_size, asked.epochs),
            clock,
        ],
    )
    training.close()
    ratios, resident = [], []
    for own, other in clock.epochs[1:]:
        pairs = np.array(own) / np.array(other)
        ratios.append(len(pairs) / (pairs[0] + (len(pairs) - 1) * np.median(pairs[1:])))
        resident.append(batch_size / np.median(other))
    return {
        "train": float(np.median(resident) * np.median(ratios)),
        "resident": float(np.median(resident)),
        "ratio": float(np.median(ratios)),
        "ratios": [round(float(ratio), 3) for ratio in ratios],
    }


def make_clock(model, training):
    """A callback that times every step, and a resident step after each."""
    import keras
    import tensorflow as tf

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.epochs = []  # a pair of lists each: seconds of its steps, of the resident ones

        def on_epoch_begin(self, epoch, logs=None):
            self.epochs.append(([], []))
            self.began = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            ended = time.perf_counter()
            float(model.train_function(batches)["loss"])
            own, resident = self.epochs[-1]
            own.append(ended - self.began)
            self.began = time.perf_counter()
            resident.append(self.began - ended)

    batch = tuple(tf.constant(part) for part in training[0])
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    return Clock()


if __name__ == "__main__":
    sys.exit(main())
