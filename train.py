"""Training: `fit(options, strategy)`, the only training loop of the project.

Everything that can be wrong with the input is looked at before Keras and
TensorFlow are imported, which takes seconds.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from typing import NamedTuple

import numpy as np

import options as options_module
import run_folder
from augment import Augmentation
from backend import import_keras
from efficientnet import VARIANTS
from errors import ImageError, InputError, first_ten
from preprocess import load
from samples import Samples, find_label_names, read_samples, split

PROJECT_LABELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "label.json")
DEFAULT_VALIDATION = "../datasets/val_datasets"
CHECK_IMAGES = 16  # files in the run's check/


class Job(NamedTuple):
    """A training ready to start: input checked, nothing written yet."""

    options: tuple
    path: str
    labels: tuple
    training: Samples
    validation: Samples
    resuming: bool


def main(options):
    """`--mode train`."""
    metrics = fit(options)
    if options.json:
        print(json.dumps(metrics))


def fit(options, strategy=None):
    """Trains a classifier and leaves its run folder.

    Args:
        options: the options of `--mode train`.
        strategy: a `tf.distribute.Strategy` to train under, or None.

    Returns:
        dict, the content of the run's metrics.json, and `run`, its path.

    Raises:
        InputError: bad input, before any training; or too many undecodable images.
        RunError: the loss is no longer a number; weights cannot be downloaded.
    """
    started = time.monotonic()
    job = prepare(options)
    options = job.options

    say("starting Keras ...")
    keras = import_keras()
    import callbacks
    import checkpoint
    import model as model_module
    from data_gen_label import ImageBatches

    keras.utils.set_random_seed(options.seed)
    preprocessing = run_folder.preprocessing(options)
    common = {
        "classes": len(job.labels),
        "batch_size": options.batch_size,
        "preprocessing": preprocessing,
        "seed": options.seed,
        "workers": options.workers,
        "max_bad": options.max_bad,
        "report": say,
    }
    training = ImageBatches(
        job.training,
        shuffle=True,
        augmentation=Augmentation(
            options.horizontal_flip, options.vertical_flip, options.shift, options.rotation,
            options.zoom, options.random_eraser,
        ),
        label_smoothing=options.label_smoothing,
        **common,
    )
    validation = ImageBatches(job.validation, **common)

    with strategy.scope() if strategy else contextlib.nullcontext():
        model = model_module.build_model(
            options.backbone,
            len(job.labels),
            options.input_size,
            weights="none" if job.resuming else options.weights,
            dropout=options.dropout,
            drop_connect=options.drop_connect,
        )
        model.compile(
            optimizer=make_optimizer(options, len(training)),
            # Rows of weight 0 leave the mean as well as the sum.
            loss=keras.losses.CategoricalCrossentropy(reduction="mean_with_sample_weight"),
            weighted_metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
            jit_compile=_jit(),
        )
        model.optimizer.build(model.trainable_variables)

    state = None
    if job.resuming:
        folder = os.path.join(job.path, run_folder.CHECKPOINT)
        state = checkpoint.read_state(folder)
        if state["data"] != fingerprint(job):
            raise InputError(
                f"--resume: the images or labels have changed since {job.path} was started; "
                "train a new run on them, with --weights "
                f"{os.path.join(job.path, run_folder.BEST)} to start from what it learned"
            )
        checkpoint.load(folder, model)
    else:
        _start_run(job)
    writer = callbacks.RunWriter(job.path, options.patience, fingerprint(job), state, started)
    done = len(writer.history)
    try:
        if not writer.finished(options.epochs):
            _announce(job, model, len(training), done)
            model.fit(
                training,
                validation_data=validation,
                initial_epoch=done,
                epochs=options.epochs,
                shuffle=False,  # the batches have an order of their own
                verbose=0,
                callbacks=[
                    callbacks.Epochs(training),
                    writer,
                    callbacks.Progress(
                        len(job.training.names), options.batch_size, options.epochs, done
                    ),
                    keras.callbacks.TensorBoard(
                        os.path.join(options.log_dir, os.path.basename(job.path)),
                        write_graph=False,
                    ),
                ],
            )
        else:
            say(f"{job.path} has finished its {done} epochs already")
    except BaseException as error:
        # Keras wraps an error of a data set beyond recognition.
        refused = training.error or validation.error
        if refused and not isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise refused from None
        if writer.history:
            say(f"stopped; --resume {os.path.basename(job.path)} goes on after epoch "
                f"{len(writer.history)}")
        raise
    finally:
        training.close()
        validation.close()

    return _finish(job, model, writer, training, validation)


def prepare(options):
    """Checks everything about a training that needs no Keras.

    Returns:
        a `Job`; its options have the input size, rates and name filled in.
    """
    resuming = options.resume is not None
    if resuming:
        options, path = _resumed(options)
    data = options.train_data
    labels_path = options.labels or os.path.join(data, "label.json")
    if not os.path.exists(labels_path) and not options.labels:
        labels_path = PROJECT_LABELS
    labels = find_label_names(data, options.labels, PROJECT_LABELS)
    if len(labels) < 2:
        raise InputError(f"{labels_path}: has one class; a classifier needs at least 2")
    options = _resolve(options)
    if not resuming:
        path = run_folder.check_new(options.save_dir, options.run, options.overwrite)
    training = read_samples(data, labels, labels_path)
    validation = _validation(options, labels, labels_path)
    if validation is None:
        training, validation = split(training, options.val_fraction, options.workers)
        if not validation.names:
            raise InputError(
                f"{data}: too few images to hold some out for validation: every class has only "
                "one; add images or name a folder with --val_data"
            )
    counts = np.bincount(training.labels, minlength=len(labels))
    say(
        f"{len(training.names):,} images to train on, {len(validation.names):,} to validate on, "
        f"{len(labels)} classes named in {labels_path}"
    )
    if not counts.all():
        empty = [labels[number] for number in np.flatnonzero(counts == 0)]
        say(f"note: no training image has the class {first_ten(empty)}")
    return Job(options, path, labels, training, validation, resuming)


def _resumed(options):
    """The options of the run to go on with; those given beside --resume must agree."""
    path = run_folder.find(options.resume, options.save_dir)
    if run_folder.is_exported(path):
        raise InputError(f"--resume: {path} is an exported model; a run is needed")
    stored = run_folder.read(path, weights=None).options
    folder = os.path.join(path, run_folder.CHECKPOINT)
    if not os.path.isdir(folder):
        raise InputError(
            f"--resume: {path} completed no epoch; start it anew with --run "
            f"{os.path.basename(path)} --overwrite"
        )
    for name in options.given - {"resume", "json", "debug", "config", "workers", "save_dir"}:
        given, before = getattr(options, name), getattr(stored, name)
        if given != before:
            raise InputError(
                f"--{name}: {options_module.show(given)} is not what {path} was started with, "
                f"{options_module.show(before)}; a run goes on with its own options"
            )
    kept = {name: getattr(options, name) for name in ("json", "debug", "resume")}
    if "workers" in options.given:
        kept["workers"] = options.workers
    return stored._replace(**kept), path


def _resolve(options):
    """Fills in what depends on other options, and checks what they mean together."""
    warmup = options.warmup_epochs
    if warmup is None:
        warmup = min(3.0, options.epochs / 10)
    if warmup > options.epochs:
        raise InputError(
            f"--warmup_epochs: {warmup:g} is more than the {options.epochs} of --epochs"
        )
    if options.weights not in ("imagenet", "none") and not os.path.isfile(options.weights):
        raise InputError(
            f"--weights: {options.weights}: no such file; allowed: imagenet, none or a weights "
            "file"
        )
    return options._replace(
        input_size=options.input_size or VARIANTS[options.backbone].input_size,
        learning_rate=options.learning_rate or (4e-3 if options.weights == "none" else 5e-4),
        warmup_epochs=warmup,
        run=options.run or f"{options.backbone}-{time.strftime('%Y%m%d-%H%M%S')}",
    )


def _validation(options, labels, labels_path):
    """The samples of the validation folder, or None where a part is to be held out."""
    folder = options.val_data
    if folder is None:
        if "train_data" in options.given or not os.path.isdir(DEFAULT_VALIDATION):
            return None
        folder = DEFAULT_VALIDATION
    if os.path.isdir(folder) and os.path.samefile(folder, options.train_data):
        raise InputError(
            f"--val_data: {folder} is the training folder; validating on it would measure memory"
        )
    check_labels(folder, labels, labels_path)
    return read_samples(folder, labels, labels_path)


def check_labels(folder, labels, labels_path):
    """Refuses a folder whose own label.json names other classes than `labels`."""
    own = os.path.join(folder, "label.json")
    if os.path.exists(own):
        found = find_label_names(folder)
        if found != labels:
            raise InputError(
                f"{own}: names other classes than {labels_path}: {first_ten(found)} instead of "
                f"{first_ten(labels)}"
            )


def make_optimizer(options, steps):
    """The optimizer with its schedule; `steps` is the number of steps an epoch."""
    import keras

    from warmup_cosine_decay_scheduler import WarmupCosineDecay

    schedule = WarmupCosineDecay(
        options.learning_rate,
        total_steps=options.epochs * steps,
        warmup_steps=round(options.warmup_epochs * steps),
    )
    decay = options.weight_decay
    if options.optimizer == "adam":
        return keras.optimizers.Adam(schedule)
    if options.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(schedule)
    if options.optimizer == "sgd":
        made = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=decay)
    else:
        made = keras.optimizers.AdamW(schedule, weight_decay=decay)
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made


def fingerprint(job):
    """A hash of the samples' names and labels: going on needs the same ones."""
    digest = hashlib.sha256()
    for samples in (job.training, job.validation):
        digest.update("\n".join(samples.names).encode("utf-8", "surrogateescape"))
        digest.update(samples.labels.tobytes())
    return digest.hexdigest()


def say(line):
    """A line for the person at the terminal; standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def _jit():
    """XLA makes a step on a processor six times slower, and pays on a GPU."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return "auto"
    import tensorflow

    return "auto" if tensorflow.config.list_physical_devices("GPU") else False


def _start_run(job):
    options = job.options
    logs = os.path.join(options.log_dir, os.path.basename(job.path))
    if options.overwrite:
        shutil.rmtree(logs, ignore_errors=True)
    run_folder.create(job.path, options, job.labels, options.overwrite)


def _announce(job, model, steps, done):
    options = job.options
    say(
        f"{options.backbone} ({model.count_params():,} parameters) at "
        f"{options.input_size} x {options.input_size} pixels, start: "
        f"{f'epoch {done + 1} of ' + job.path if job.resuming else options.weights}; "
        f"{steps} steps of {options.batch_size} an epoch, {options.optimizer} at "
        f"{options.learning_rate:g}; run {job.path}"
    )


def _finish(job, model, writer, training, validation):
    """Leaves check/ and metrics.json, and says how it went."""
    import callbacks
    import pretrained

    pretrained.load(model, os.path.join(job.path, run_folder.BEST))
    _write_check(job, model)
    best = writer.best
    metrics = {
        "best_epoch": best["epoch"],
        "val_accuracy": best["val_accuracy"],
        "val_loss": best["val_loss"],
        "epochs": len(writer.history),
        "train_images": len(job.training.names),
        "val_images": len(job.validation.names),
        "classes": len(job.labels),
        "undecodable_images": len(training.bad) + len(validation.bad),
        "train_seconds": round(writer.seconds, 1),
    }
    run_folder.add_metrics(job.path, metrics)
    say(
        f"best: epoch {best['epoch']} with val_accuracy {best['val_accuracy']:.4f} and val_loss "
        f"{best['val_loss']:.4f}, after {callbacks.clock(writer.seconds)}; everything is in "
        f"{job.path}"
    )
    return {"run": job.path, **run_folder.read_metrics(job.path)}


def _write_check(job, model):
    """Copies some validation images with the probabilities that the best weights give them."""
    preprocessing = run_folder.preprocessing(job.options)
    count = len(job.validation.names)
    files, images = [], []
    # Spread over the whole folder: neighbours are often of one class.
    for position in np.unique(np.linspace(0, count - 1, min(count, CHECK_IMAGES)).astype(int)):
        path = os.path.join(job.validation.folder, job.validation.names[position])
        try:
            images.append(load(path, preprocessing))
            files.append(path)
        except ImageError:
            continue
    if not files:
        raise InputError(f"{job.validation.folder}: none of the images looked at can be decoded")
    probabilities = np.asarray(model.predict_on_batch(np.stack(images)))
    folder = os.path.join(job.path, run_folder.CHECK)
    partial = folder + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    table = {}
    for path, row in zip(files, probabilities):
        name = os.path.basename(path)
        shutil.copyfile(path, os.path.join(partial, name))
        table[name] = [float(value) for value in row]
    run_folder.write_text(
        os.path.join(partial, run_folder.CHECK_FILE),
        json.dumps(table, ensure_ascii=False, indent=1) + "\n",
    )
    run_folder.replace_folder(partial, folder)
