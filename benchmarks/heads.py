"""What the poolings cost: parameters, a training step, memory.

    python -m benchmarks.heads [--json]

Each pooling on EfficientNetB0 at 224 and B4 at 380 pixels, 10 classes. Steps on one
resident batch of all poolings take turns, since the machine's speed drifts; the median
counts. Memory is the peak of a process of its own that makes three steps.
"""

import argparse
import json
import subprocess
import sys
import time

POOLINGS = ("avg", "bilinear", "compact_bilinear")
SIZES = {"EfficientNetB0": (224, 16), "EfficientNetB4": (380, 4)}  # pixels, images per batch
BILINEAR_DIM = 256  # all 1,280 channels of B0 would make 16 million parameters for 10 classes
CLASSES = 10


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="steps of each")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    if asked.peak:
        print(peak(*asked.peak))
        return
    result = {backbone: measure(backbone, asked.rounds) for backbone in SIZES}
    if asked.json:
        print(json.dumps(result))
        return
    for backbone, rows in result.items():
        size, batch = SIZES[backbone]
        print(f"{backbone}, {size} x {size}, batches of {batch}")
        for pooling, row in rows.items():
            print(
                f"  {pooling:<17} {row['parameters']:>12,} parameters {row['seconds']:8.3f} s a "
                f"step, {row['ratio']:.3f} of avg {row['megabytes']:8.0f} MB"
            )


def measure(backbone, rounds):
    steps = {pooling: make_step(backbone, pooling) for pooling in POOLINGS}
    seconds = {pooling: [] for pooling in POOLINGS}
    for number in range(rounds + 1):
        for pooling, (step, _) in steps.items():
            began = time.perf_counter()
            step()
            if number:  # the first traces
                seconds[pooling].append(time.perf_counter() - began)
    found = {}
    for pooling, (_, parameters) in steps.items():
        command = [sys.executable, "-m", "benchmarks.heads", "--peak", backbone, pooling]
        ratios = sorted(a / b for a, b in zip(seconds[pooling], seconds["avg"]))
        found[pooling] = {
            "parameters": parameters,
            "seconds": sorted(seconds[pooling])[rounds // 2],
            "ratio": ratios[rounds // 2],
            "megabytes": float(
                subprocess.run(
                    command, capture_output=True, text=True, check=True
                ).stdout.splitlines()[-1]
            ),
        }
    return found


def make_step(backbone, pooling):
    """(a function that makes one training step, the model's parameters)."""
    from compute.backend import import_keras

    keras = import_keras()
    import numpy as np

    from modeling.architecture import Architecture
    from modeling.builder import build_model

    size, batch = SIZES[backbone]
    keras.utils.set_random_seed(0)
    dim = BILINEAR_DIM if pooling == "bilinear" else None
    model = build_model(Architecture(backbone, size, pooling=pooling, bilinear_dim=dim), CLASSES)
    model.compile("adamw", "categorical_crossentropy", jit_compile=False)
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (batch, size, size, 3), np.uint8)
    y = np.eye(CLASSES, dtype=np.float32)[generator.integers(0, CLASSES, batch)]
    return (lambda: float(np.asarray(model.train_on_batch(x, y)))), model.count_params()


def peak(backbone, pooling):
    """Peak memory of this process after three steps, in megabytes."""
    step, _ = make_step(backbone, pooling)
    for _ in range(3):
        step()
    # Not getrusage: its maximum counts what the parent had when it started this process.
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    sys.exit(main())
