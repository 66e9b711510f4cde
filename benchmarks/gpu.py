"""Training on a GPU: `train` against timm under PyTorch's compiler, in the same call.

    python -m benchmarks.gpu --data DIR [--backbones EfficientNetB0,EfficientNetV2S,ResNet50]
        [--batch_size 256] [--images 10240] [--peers_python PATH] [--json]

DIR holds one folder of photos per class; they are linked under new names until an epoch has
--images of them. Everything computes in bfloat16 at 224 x 224. Images per second, the median of
the epochs from the second on:

train        `--mode train`, its own reading, augmentation, callbacks and loop; without the
             validation and the checkpoint after each epoch
in_memory    the same loop and callbacks on one batch that lies in the machine's memory
step         the compiled training step alone, on a batch that lies on the GPU
timm         timm's loader, PyTorch's compiled step, channels last, autocast to bfloat16
timm_step    that step alone, on a batch that lies on the GPU

waiting      the fraction of the time of `train` in which the GPU waits for photos: 1 - train /
             in_memory
idle         the fraction in which it waits for anything: 1 - train / step

Each network and each side in a process of its own. --backend as `train` has it; without
TensorFlow, JAX. timm runs with --peers_python, a Python that has torch, torchvision and timm.
"""

import argparse
import importlib.util
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time

from benchmarks.inference import ROOT

PEERS = os.path.join(ROOT, "benchmarks", "gpu_peers.py")
PEER_NAMES = {
    "EfficientNetB0": "efficientnet_b0",
    "EfficientNetV2S": "tf_efficientnetv2_s",
    "ResNet50": "resnet50",
}
SIZE = 224
COLUMNS = "train in_memory step timm timm_step waiting idle".split()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with one folder of photos per class")
    parser.add_argument("--backbones", default=",".join(PEER_NAMES))
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--images", type=int, default=10240, help="images per epoch")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of both sides")
    parser.add_argument("--backend", default="tensorflow" if has_tensorflow() else "jax")
    parser.add_argument("--options", default="", help="further options of `train`")
    parser.add_argument("--sides", default="ours,timm", help="what to measure")
    parser.add_argument("--peers_python", default=sys.executable)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.ours:
        print(json.dumps(measure(asked.ours, asked)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        link_photos(asked.data, scratch, asked.images, asked.batch_size)
        rows = [measure_both(name, scratch, asked) for name in asked.backbones.split(",")]
    if asked.json:
        print(json.dumps({"batch_size": asked.batch_size, "backend": asked.backend, "rows": rows}))
        return
    print(f"{'images per second':<18}" + "".join(f"{name:>11}" for name in COLUMNS))
    for row in rows:
        cells = (row.get(name, float("nan")) for name in COLUMNS)
        print(
            f"{row['backbone']:<18}"
            + "".join(f"{cell:11.0f}" if cell >= 1 else f"{cell:11.3f}" for cell in cells)
        )


def has_tensorflow():
    """bool, whether TensorFlow is installed."""
    return importlib.util.find_spec("tensorflow") is not None


def link_photos(source, target, count, batch_size):
    """Fills target/train with links to the photos, `count` of them, and target/val with a batch."""
    photos = [
        (name, entry.path)
        for name in sorted(os.listdir(source))
        if os.path.isdir(os.path.join(source, name))
        for entry in sorted(os.scandir(os.path.join(source, name)), key=lambda entry: entry.name)
    ]
    random.Random(0).shuffle(photos)
    for part, part_count in (("train", count), ("val", batch_size)):
        for number, (name, path) in zip(range(part_count), itertools.cycle(photos)):
            folder = os.path.join(target, part, name)
            os.makedirs(folder, exist_ok=True)
            link = f"{number}{os.path.splitext(path)[1]}"
            os.symlink(os.path.abspath(path), os.path.join(folder, link))


def measure_both(backbone, scratch, asked):
    """dict, a row of the table."""
    row = {"backbone": backbone}
    common = [
        f"--data={scratch}",
        f"--batch_size={asked.batch_size}",
        f"--epochs={asked.epochs}",
        f"--workers={asked.workers}",
    ]
    ours = [sys.executable, "-m", "benchmarks.gpu", *common, f"--images={asked.images}"]
    ours += [f"--ours={backbone}", f"--backend={asked.backend}", f"--options={asked.options}"]
    timm = [asked.peers_python, PEERS, *common, f"--model={PEER_NAMES[backbone]}"]
    for side, command in (("ours", ours), ("timm", timm)):
        if side in asked.sides.split(","):
            finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if finished.returncode:  # the others are still worth measuring
                print(f"{backbone}, {side}: failed, see above", file=sys.stderr)
                continue
            row |= json.loads(finished.stdout.splitlines()[-1])
    if "train" in row:
        row["waiting"] = 1 - row["train"] / row["in_memory"]
        row["idle"] = 1 - row["train"] / row["step"]
    return row


def measure(backbone, asked):
    """Images per second of this project on the GPU, dict."""
    options = [
        f"--train_data={asked.data}/train",
        f"--val_data={asked.data}/val",
        f"--save_dir={asked.data}/runs",
        f"--log_dir={asked.data}/log",
        f"--backbone={backbone}",
        f"--input_size={SIZE}",
        f"--batch_size={asked.batch_size}",
        f"--epochs={asked.epochs}",
        f"--workers={asked.workers}",
        f"--backend={asked.backend}",
        *"--weights=none --mixed_precision=bfloat16 --optimizer=adamw".split(),
        f"--run={backbone}",
        *asked.options.split(),
    ]
    from compute.backend import import_keras
    from config import parser
    from training.setup import prepare

    began = time.monotonic()
    setup = prepare(parser.parse("train", options))
    keras = import_keras(asked.backend)
    if not has_tensorflow():  # which alone writes these charts
        keras.callbacks.TensorBoard = lambda *_, **__: keras.callbacks.Callback()
    from compute.devices import Devices
    from training.trainer import Trainer

    class TimedTrainer(Trainer):
        """A training whose end is the end of its last epoch."""

        def make_callbacks(self):
            super().make_callbacks()
            self.clock = make_clock()
            self.callbacks.append(self.clock)

        def finalize(self):
            """Nothing: the model is still needed."""

    trainer = TimedTrainer(setup, Devices(), began)
    trainer.run()
    image_count = len(setup.training.file_names)
    batch = next_batch(trainer.training_batches)
    in_memory = train_in_memory(trainer, batch)
    step_seconds = time_step(trainer.fitted_model, batch)
    return {
        "train": image_count / trainer.clock.median(),
        "in_memory": image_count / in_memory.median(),
        "step": asked.batch_size / step_seconds,
        "epochs": [round(image_count / seconds) for seconds in trainer.clock.epochs],
    }


def next_batch(batches):
    """A batch of what was trained on, of random pixels: those of the closed batches are gone."""
    import numpy as np

    generator = np.random.default_rng(0)
    count, size = batches.batch_size, batches.preprocessing.size
    labels = np.eye(batches.classes, dtype=np.float32)
    return (
        generator.integers(0, 256, (count, size, size, 3), np.uint8),
        labels[generator.integers(0, batches.classes, count)],
        np.ones(count, np.float32),
    )


def make_clock():
    """A callback with the seconds of each epoch, until its last step has been computed."""
    import keras
    import numpy as np

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.epochs = []

        def on_epoch_begin(self, epoch, logs=None):
            self.began, self.is_training = time.perf_counter(), True

        def on_test_begin(self, logs=None):  # Keras has read the metrics by then
            self._stop()

        def on_epoch_end(self, epoch, logs=None):
            self._stop()

        def _stop(self):
            if self.is_training:
                self.epochs.append(time.perf_counter() - self.began)
            self.is_training = False

        def median(self):
            return float(np.median(self.epochs[1:]))

    return Clock()


def train_in_memory(trainer, batch):
    """The clock of two epochs of the trainer's loop, with a batch that needs no reading."""
    import keras

    from data_gen_label import as_dataset
    from training.callbacks import EpochMonitor, ProgressBar

    class InMemory(keras.utils.PyDataset):
        epoch, samples = 0, trainer.training_batches.samples

        def __len__(self):
            return len(trainer.training_batches)

        def __getitem__(self, index):
            return batch

    clock = make_clock()
    batches, image_count = InMemory(), len(trainer.training_batches.samples.file_names)
    trainer.fitted_model.fit(
        as_dataset(batches, batch[0].shape[1:], "uint8", batch[1].shape[1]),
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[
            EpochMonitor(trainer.training_batches),
            ProgressBar(image_count, len(batch[2]), 3),
            clock,
        ],
    )
    return clock


def time_step(model, batch, steps=20):
    """Seconds of a training step on a batch that lies on the device; changes the model."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        resident = tuple(jax.device_put(part) for part in batch)
        state = model._get_jax_state(True, True, True, True)
        step, wait = model.train_function, jax.block_until_ready
    else:
        import tensorflow as tf

        resident = tuple(tf.constant(part) for part in batch)
        state = ()

        def step(state, batches):
            return model.train_function(batches), state

        def wait(logs):
            return float(logs["loss"])

    for count in (3, steps):
        began = time.perf_counter()
        for _ in range(count):
            logs, state = step(state, iter([resident]))
        wait(logs)
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    sys.exit(main())
