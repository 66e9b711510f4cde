"""What `train` costs beside the training step itself.

    python -m benchmarks.training_overhead --data DIR [--json]

DIR holds one folder of photos a class. Images a second of an epoch of `train`'s own
batches, callbacks and `fit` (EfficientNetB0, 224 x 224, no validation, no checkpoint),
over the same compiled step on one batch that is already in memory.

A shared machine's speed drifts by a third within a minute, far more than what is
measured here. So short epochs and resident steps alternate, each epoch from the
second on is compared with the resident steps just before and after it, and the
median of these ratios counts.
"""

import argparse
import json
import os
import sys
import tempfile
import time


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with one folder of photos a class")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--images", type=int, default=160, help="images an epoch")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(options.data, os.path.join(scratch, "data"), options)
    if options.json:
        print(json.dumps(result))
        return
    print(f"train                  {result['train']:8.2f} images/s")
    print(f"resident batch         {result['resident']:8.2f} images/s")
    print(f"ratio                  {result['ratio']:8.3f}")


def measure(source, target, asked):
    batch_size = asked.batch_size
    from backend import import_keras

    import_keras()
    import numpy as np

    import callbacks
    import options as options_module
    import train
    from job import prepare
    from other.data_reconstruction_dir2txt import convert

    convert(source, target)
    options = options_module.parse(
        "train",
        ["--train_data", target, "--weights", "none", "--batch_size", str(batch_size),
         "--epochs", str(asked.epochs), "--run", "overhead", "--save_dir", os.path.dirname(target)],
    )
    job = prepare(options)
    # Full batches only, as the resident one is.
    count = min(asked.images, len(job.training.names)) // batch_size * batch_size
    chosen = np.random.default_rng(0).permutation(len(job.training.names))[:count]
    job = job._replace(training=job.training.select(chosen))
    training, _ = train.make_batches(job)
    model = train.make_model(job, len(training))
    clock = make_clock(model, training)
    model.fit(
        training, epochs=asked.epochs, shuffle=False, verbose=0,
        callbacks=[
            callbacks.Epochs(training), clock, callbacks.Progress(count, batch_size, asked.epochs)
        ],
    )
    training.close()
    train_rates = count / np.array(clock.epochs)
    resident = np.array(clock.residents)
    resident_rates = batch_size * 2 / (resident[:-1] + resident[1:])
    ratios = train_rates / resident_rates
    return {
        "train": float(np.median(train_rates)),
        "resident": float(np.median(resident_rates)),
        "ratio": float(np.median(ratios)),
        "ratios": [round(float(ratio), 3) for ratio in ratios],
    }


def make_clock(model, training, steps=5):
    """A callback that times epochs, and some resident steps between them."""
    import keras
    import tensorflow as tf

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.epochs, self.residents = [], []

        def resident(self):
            batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
            model.train_function(batches)  # the first has a cold start that an epoch's has not
            began = time.perf_counter()
            for _ in range(steps):
                logs = model.train_function(batches)
            float(logs["loss"])  # waits for the last step
            self.residents.append((time.perf_counter() - began) / steps)

        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            if epoch:
                self.epochs.append(time.perf_counter() - self.began)
            self.resident()

    batch = tuple(tf.constant(part) for part in training[0])
    return Clock()


if __name__ == "__main__":
    sys.exit(main())
