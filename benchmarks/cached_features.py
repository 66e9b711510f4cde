"""Head epochs with `--cache_features` against the same without.

    python -m benchmarks.cached_features --data DIR [--json]

DIR holds one folder of photos per class. Trains the head of a frozen EfficientNetB0 at
224 x 224 both ways, ten epochs each, without augmentation; `ratio` is the time of
training without over that with cached features, computing them included, and
`difference` the largest between the two heads' weights.
"""

import argparse
import json
import os
import sys
import tempfile


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with one folder of photos per class")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(asked.data, scratch, asked.epochs)
    if asked.json:
        print(json.dumps(result))
        return
    print(f"without       {result['without']:8.1f} s")
    print(f"with          {result['with']:8.1f} s")
    print(f"ratio         {result['ratio']:8.2f}")
    print(f"difference    {result['difference']:8.1e}")


def measure(source, scratch, epochs):
    from compute.backend import import_keras

    import_keras()
    import numpy as np

    import train
    from config import parser
    from modeling import weight_files
    from modeling.architecture import Architecture
    from modeling.builder import build_model
    from other.data_reconstruction_dir2txt import convert
    from training.option_checks import AUGMENTATION

    data = os.path.join(scratch, "data")
    convert(source, data)
    start = os.path.join(scratch, "start.weights.h5")
    build_model(Architecture("EfficientNetB0", 224), 2).save_weights(start)
    off = [
        word for name, value in AUGMENTATION.items() for word in (f"--{name}", parser.show(value))
    ]
    seconds, heads = {}, {}
    for name, more in (("without", off), ("with", ["--cache_features"])):
        found = train.fit(
            parser.parse(
                "train",
                [
                    "--train_data",
                    data,
                    "--weights",
                    start,
                    "--recipe",
                    "scratch",  # the head is trained, not solved
                    "--epochs",
                    str(epochs),
                    "--freeze_epochs",
                    str(epochs),
                    "--run",
                    name,
                    "--save_dir",
                    scratch,
                    "--log_dir",
                    os.path.join(scratch, "logs"),
                    *more,
                ],
            )
        )
        seconds[name] = found["train_seconds"]
        path = os.path.join(found["run"], "last.weights.h5")
        heads[name] = weight_files.read(path)["predictions"]
    return {
        **seconds,
        "ratio": seconds["without"] / seconds["with"],
        "difference": max(
            float(np.abs(a - b).max()) for a, b in zip(heads["without"], heads["with"])
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
