"""What several devices cost and bring: a training step on one and on more, and the exchange.

    python -m benchmarks.scaling [--json] [--backbone EfficientNetB0] [--batch_size 16]

Each number of devices in a process of its own: 1, 2, 4, ... GPUs where there are several, else
the processor as one device and as two, which share its cores, so that the second can gain nothing
and shows only what spreading costs. `step` is the median time of a step of training on a resident
batch, of `--batch_size` images for each device; `exchange` that of adding up the gradients alone;
`efficiency` the images per second of all devices over those that as many of the first would make,
or, of a processor that is split, over those of the whole.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

SIZE, CLASSES = 224, 10


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="EfficientNetB0")
    parser.add_argument("--batch_size", type=int, default=16, help="images for each device")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--devices", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    if asked.devices:
        print(json.dumps(measure(asked)))
        return
    rows = [start(asked, devices) for devices in choices()]
    for row in rows:
        rate = row["devices"] / row["step"]
        row["efficiency"] = rate * rows[0]["step"] / (row["devices"] if row["gpu"] else 1)
    if asked.json:
        print(
            json.dumps({"backbone": asked.backbone, "batch_size": asked.batch_size, "rows": rows})
        )
        return
    print(f"{asked.backbone}, {SIZE} x {SIZE}, {asked.batch_size} images per device and step")
    for row in rows:
        print(
            f"  {row['kind']:<12} {row['step']:8.4f} s a step  exchange {row['exchange']:.4f} s of "
            f"{row['megabytes']:.1f} MB  efficiency {row['efficiency']:.2f}"
        )


def choices():
    """The --devices to measure."""
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from compute.backend import import_keras; import_keras()\n"
            "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    gpus = int(found.stdout.split()[-1])
    if gpus < 2:
        return ["cpu:1", "cpu:2"]
    counts = [1 << power for power in range(gpus.bit_length()) if 1 << power <= gpus]
    return [",".join(f"gpu:{number}" for number in range(count)) for count in counts]


def start(asked, devices):
    command = [
        sys.executable,
        "-m",
        "benchmarks.scaling",
        "--devices",
        devices,
        "--backbone",
        asked.backbone,
        "--batch_size",
        str(asked.batch_size),
        "--steps",
        str(asked.steps),
    ]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def measure(asked):
    """Times of this process's devices, those of `asked.devices`."""
    from compute.backend import import_keras, use_precision

    keras = import_keras("tensorflow")
    import numpy as np
    import tensorflow as tf

    from compute.devices import Devices, Sharding, tensorflow_strategy
    from compute.keras_patches import mean_over_devices
    from modeling.architecture import Architecture
    from modeling.builder import build_model
    from training.compilation import jit_compile

    names, strategy = tensorflow_strategy(asked.devices)
    devices = Devices(names, Sharding(len(names)), strategy)
    use_precision("auto", float16=strategy is None)
    images = asked.batch_size * len(names)
    loss = keras.losses.CategoricalCrossentropy(reduction="mean_with_sample_weight")
    with devices.scope():
        model = build_model(Architecture(asked.backbone, SIZE), CLASSES)
        model.compile(
            "sgd", mean_over_devices(loss) if strategy else loss, jit_compile=jit_compile("auto")
        )
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (images, SIZE, SIZE, 3), np.uint8)
    y = np.eye(CLASSES, dtype=np.float32)[generator.integers(0, CLASSES, images)]
    batch = (x, y, np.ones(images, np.float32))
    resident = tf.data.Dataset.from_tensors(batch).repeat(asked.steps)
    times = [time.perf_counter()]

    class Times(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            float(logs["loss"])  # waits for the step
            times.append(time.perf_counter())

    model.fit(resident, verbose=0, shuffle=False, callbacks=[Times()])
    shapes = [tuple(value.shape) for value in model.trainable_variables]
    return {
        "devices": len(names),
        "kind": asked.devices,
        "gpu": asked.devices.startswith("gpu"),
        "step": statistics.median(b - a for a, b in zip(times[1:], times[2:])),
        "exchange": exchange(strategy, shapes, asked.steps),
        "megabytes": sum(4 * np.prod(shape) for shape in shapes) / 1e6,
    }


def exchange(strategy, shapes, rounds):
    """Median time of adding up tensors of these shapes over the devices."""
    if strategy is None:
        return 0.0
    import tensorflow as tf

    @tf.function
    def run(value):
        def one():
            tensors = [tf.fill(shape, value) for shape in shapes]
            added = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, tensors
            )
            return tf.add_n([tf.reduce_sum(tensor) for tensor in added])

        return strategy.run(one)

    times = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        [float(part) for part in strategy.experimental_local_results(run(tf.constant(1.0)))]
        if number:  # the first traces
            times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
