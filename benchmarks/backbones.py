"""Every backbone: does it build, learn and export, and what does it cost?

    python -m benchmarks.backbones [--write] [NAME ...]

Each backbone, in a process of its own, is built at its usual size, where parameters and
multiply-adds are counted. A small classifier on it, at the smallest size of at least 64
pixels, without dropout, takes five steps of Adam on one batch of 12 images of noise, which
must lower the loss; its SavedModel must give the same probabilities to 1e-5. --write puts
the table into docs/backbones.md.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile

from modeling import backbones
from modeling.layer_names import SQUEEZE_LAYERS

COUNTED = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")
DOCUMENT = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs", "backbones.md"
)
START, END = "<!-- table -->\n", "<!-- end of table -->\n"
# Of four images a channel of a last map of 1 x 1 has four values: too few for batch normalization
STEPS, BATCH, CLASSES = 5, 12, 3
LOG_LINE = re.compile(r"$|[IWE]\d{4} ")  # TensorFlow's own, which come after what matters


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="backbones; all by default")
    parser.add_argument("--write", action="store_true", help="put the table into the document")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        print(json.dumps(examine(options.names[0])))
        return 0
    rows, failed = [], []
    for name in options.names or backbones.TABLE:
        found = subprocess.run(
            [sys.executable, "-m", "benchmarks.backbones", "--one", name],
            capture_output=True,
            text=True,
        )
        if found.returncode:
            failed.append(name)
            said = [line for line in found.stderr.splitlines() if not LOG_LINE.match(line)]
            print(f"{name}: status {found.returncode}: {said[-1] if said else ''}", file=sys.stderr)
            continue
        rows.append(row(name, json.loads(found.stdout.splitlines()[-1])))
        print(rows[-1], flush=True)
    if options.write:
        write(rows)
    return 1 if failed else 0


def examine(name):
    """Measures one backbone; dict of what `row` shows."""
    import keras
    import numpy as np

    known = backbones.TABLE[name]
    backbone = build(name, known.input_size)
    result = {
        "parameters": backbone.count_params(),
        "gflops": round(multiply_adds(backbone) / 1e9, 3),
        "map": list(backbone.output.shape[1:]),
    }
    del backbone
    keras.utils.set_random_seed(0)
    model = classifier(name, max(64, known.min_size))
    losses, difference = learn(model), export_difference(model)
    onnx = onnx_difference(model)
    if not losses[-1] < losses[0]:
        raise SystemExit(f"{name}: five steps took the loss from {losses[0]} to {losses[-1]}")
    if not difference <= 1e-5 or not np.isfinite(losses).all():
        raise SystemExit(f"{name}: the export differs by {difference}")
    if not onnx <= 1e-4:
        raise SystemExit(f"{name}: the ONNX file differs by {onnx}")
    return {**result, "losses": losses, "difference": difference, "onnx": onnx}


def build(name, size):
    """The backbone alone: uint8 (B, size, size, 3) to its last feature map."""
    import keras

    from efficientnet import VARIANTS
    from efficientnet.model import efficientnet
    from other_model import other_model

    inputs = keras.Input((size, size, 3), dtype="uint8")
    family = backbones.TABLE[name].family
    if name in VARIANTS:
        features = efficientnet(inputs, name, drop_connect=0.0)
    else:
        features = other_model(inputs, name, family, SQUEEZE_LAYERS, drop_connect=0.0)
    return keras.Model(inputs, features)


def classifier(name, size):
    """`build` with average pooling and a head of three classes."""
    import keras

    body = build(name, size)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(body.output)
    outputs = keras.layers.Dense(CLASSES, activation="softmax", name="predictions")(x)
    return keras.Model(body.inputs[0], outputs)


def multiply_adds(model):
    """Multiply-adds of one image: of convolutions and dense layers, as the papers count.

    Args:
        model: a Keras model of fixed input size; models inside it are counted too.
    """
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += multiply_adds(layer)
        elif type(layer).__name__ in COUNTED:
            kernels = [each for each in layer.weights if each.name.endswith("kernel")]
            places = math.prod(layer.output.shape[1:-1])
            total += places * sum(math.prod(kernel.shape) for kernel in kernels)
    return total


def learn(model, steps=STEPS, seed=0):
    """Loss of one batch of noise before each of so many steps of Adam, and after the last."""
    import keras
    import numpy as np

    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, (BATCH, *model.input_shape[1:]), np.uint8)
    y = keras.utils.to_categorical(np.arange(BATCH) % CLASSES, CLASSES)
    model.compile(  # eagerly: tracing the graph takes several times as long as the few steps
        optimizer=keras.optimizers.Adam(1e-4), loss="categorical_crossentropy", run_eagerly=True
    )
    return [float(model.train_on_batch(x, y)) for _ in range(steps + 1)]


def export_difference(model, seed=1):
    """Largest difference between the model's probabilities and those of its SavedModel."""
    import numpy as np
    import tensorflow as tf

    x = np.random.default_rng(seed).integers(0, 256, (2, *model.input_shape[1:]), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        exported = tf.saved_model.load(folder)  # kept: its functions live no longer than it
        found = np.asarray(exported.serve(x))
    return float(np.abs(found - np.asarray(model(x, training=False))).max())


def onnx_difference(model, seed=2):
    """Largest difference between the model's probabilities and ONNX Runtime's, on eight images."""
    import cv2
    import numpy as np

    from data.geometry import Preprocessing
    from export import verification
    from export.conversion import to_onnx
    from prediction.runtimes import INPUT, OUTPUT, RUNTIMES, Answers

    size = model.input_shape[1]
    x = np.random.default_rng(seed).integers(0, 256, (8, size, size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        to_onnx(model, os.path.join(folder, RUNTIMES["onnx"].files["float32"]), INPUT, [OUTPUT])
        files = [os.path.join(folder, f"{number}.png") for number in range(len(x))]
        for path, image in zip(files, x):
            cv2.imwrite(path, image[:, :, ::-1])
        settings = Preprocessing(size)
        [found] = verification.run_in_subprocess(folder, [("onnx", "float32")], files, settings)
    return verification.compare(Answers(np.asarray(model(x, training=False))), found).difference


def row(name, found):
    """A line of the table in Markdown."""
    known = backbones.TABLE[name]
    return (
        f"| {name} | {found['parameters']:,} | {found['gflops']:.3f} | {known.input_size} | "
        f"{known.min_size} | {' x '.join(map(str, found['map']))} | {found['losses'][0]:.2f} "
        f"-> {found['losses'][-1]:.2f} | {found['difference']:.0e} | {found['onnx']:.0e} |"
    )


def write(rows):
    """Puts the lines into the document, in the place of the table there."""
    head = (
        "| backbone | parameters | GFLOPs | input size | least size | last feature map | "
        "loss in five steps | SavedModel differs by | ONNX differs by |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    with open(DOCUMENT, encoding="utf-8") as file:
        text = file.read()
    before, rest = text.split(START)
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(before + START + head + "\n".join(rows) + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    sys.exit(main())
