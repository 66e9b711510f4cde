"""Training: `fit(options)`, the only training loop of the project."""

import contextlib
import json
import os
import shutil
import time
from typing import NamedTuple

import numpy as np

import run_folder
from augment import Augmentation
from backend import exact_float32, import_keras, use_precision
from compiling import compile_model, make_model
from devices import (
    ENOUGH_IMAGES,
    ONE,
    Devices,
    check_batch_size,
    launcher,
    leave_distribution,
)
from errors import ImageError, InputError
from job import fingerprint, prepare, say, step_rate
from mixing import Mixing
from preprocess import load

CHECK_IMAGES = 16  # files in the run's check/


def main(options):
    """`--mode train`."""
    report(fit(options), options)


def report(metrics, options):
    """Prints what `fit` gave, where a program wants it."""
    if options.json and metrics is not None:
        print(json.dumps(metrics))


def one_device(job):
    """Starts Keras for a training on one device."""
    if job.options.backend == "jax" and launcher():
        raise InputError(
            f"--resume: {launcher()} started several processes, each of which would go on alone; "
            "give --backend jax as well"
        )
    import_keras(job.options.backend)
    return Devices()


def fit(options, start=one_device):
    """Trains a classifier and leaves its run folder.

    Args:
        options: the options of `--mode train`.
        start: imports Keras and gives the `devices.Devices` to train on; called with the
            `Job` once the input has been read and checked.

    Returns:
        dict, the content of the run's metrics.json, and `run`, its path; None in a process
        that is not the one to write the run folder.

    Raises:
        InputError: bad input, before any training; or too many undecodable images.
        RunError: the loss is no longer a number; weights cannot be downloaded.
    """
    started = time.monotonic()
    job = prepare(options)
    options = job.options

    say("starting Keras ...")
    devices = start(job)
    import keras

    import callbacks
    import margins

    _check_devices(options, devices)
    stored = job  # the run keeps what was asked for, not what these devices made of it
    options = options._replace(sync_batchnorm=_synchronized(options, devices.spread))
    job = job._replace(options=options)
    use_precision(options.mixed_precision, float16=devices.strategy is None)
    keras.utils.set_random_seed(options.seed)
    training, validation = make_batches(job, devices.spread)
    with devices.scope():
        model = make_model(job)
    if not job.state and devices.main:
        _start_run(stored)
    thaws = options.freeze_epochs if options.freeze_epochs < options.epochs else 0
    writer = callbacks.RunWriter(
        model, job.path, options.patience, fingerprint(job), job.state, started, devices.main, thaws
    )
    done = len(writer.history)
    watchers = [callbacks.Epochs(training, validation, options.max_bad), writer]
    recorded = margins.make(job, devices)
    if recorded:
        watchers.append(margins.MarginWriter(*recorded, training, job.path))
    if devices.main:
        run_folder.write_trained_on(job.path, job.training)
    if devices.main:
        watchers.append(callbacks.Progress(
            len(job.training.names), options.batch_size, options.epochs, done
        ))
    try:
        if devices.main and writer.finished(options.epochs):
            say(f"{job.path} has finished its {done} epochs already")
        elif devices.main:
            _announce(job, devices, model, len(training), done)
        for stage in stages(options):
            # A run that goes on at a stage's end goes through that end again.
            if not writer.finished(options.epochs) and stage.last >= max(done, 1):
                _train_stage(
                    job, devices, stage, model, training, validation, watchers, recorded
                )
    except BaseException as error:
        # Keras wraps an error of a data set beyond recognition.
        refused = training.error or validation.error
        if refused and not isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise refused from None
        if writer.saved and devices.main:
            say(f"stopped; --resume {os.path.basename(job.path)} goes on after epoch "
                f"{writer.saved}")
        raise
    finally:
        training.close()
        validation.close()

    bad = devices.total(len(training.bad) + len(validation.bad))
    if not devices.main:
        return None
    return _finish(job, devices, model, writer, bad)


def _check_devices(options, devices):
    """Refuses what these devices cannot do."""
    spread = devices.spread
    check_batch_size(options.batch_size, spread.devices)
    if spread.even and options.sync_batchnorm is False and "sync_batchnorm" in options.given:
        raise InputError(
            "--sync_batchnorm: no is not possible with --backend jax, which always computes over "
            "the whole batch"
        )
    if not devices.strategy:
        return
    if options.accumulate > 1:
        # Keras decides inside each replica whether to update, where TensorFlow cannot exchange.
        raise InputError(
            f"--accumulate: {options.accumulate} is not possible on several devices with "
            "TensorFlow; --backend jax can, or a larger --batch_size, of which each device "
            "takes its part"
        )
    if options.mixed_precision == "float16":
        # Keras looks for an overflow in the gradients of the first device only.
        raise InputError(
            "--mixed_precision: float16 is not safe on several devices with TensorFlow; allowed: "
            "auto, float32, bfloat16"
        )
    if options.jit == "on":
        raise InputError(
            "--jit: on is not possible on several devices with TensorFlow; allowed: auto, off"
        )


def _synchronized(options, spread):
    """Whether batch normalisation takes the statistics of all devices' images."""
    if spread.even:
        return True
    if options.sync_batchnorm is None and spread.devices > 1:
        return options.batch_size // spread.devices < ENOUGH_IMAGES
    return options.sync_batchnorm


class Stage(NamedTuple):
    """Epochs that train the same weights: from `first`, counted from 0, to before `last`."""

    first: int
    last: int
    frozen: bool


def stages(options):
    """The stages of a training: the frozen backbone's, if wanted, and that of all weights."""
    freeze, epochs = options.freeze_epochs, options.epochs
    found = (Stage(0, freeze, True), Stage(freeze, epochs, False))
    return [stage for stage in found if stage.first < stage.last]


def _train_stage(job, devices, stage, model, training, validation, watchers, margins):
    import keras

    import callbacks
    import checkpoint
    import fine_tuning

    options = job.options
    done = len(job.state["history"]) if job.state else 0
    with fine_tuning.frozen(model) if stage.frozen else contextlib.nullcontext():
        part = model
        if stage.frozen and options.cache_features:
            body, part = fine_tuning.split(model, devices)
        with devices.scope():
            compile_model(part, job, stage, len(training), devices, margins)
        if stage.first < done <= stage.last:
            checkpoint.load(
                os.path.join(job.path, run_folder.CHECKPOINT), model, part.optimizer
            )
            if done == stage.last:  # what Keras does when a training ends
                part.optimizer.finalize_variable_values(part.trainable_variables)
                return
        if part is not model:
            training, validation = _cache_features(job, body, training, validation)
        part.fit(
            training.dataset(),
            validation_data=validation.dataset(),
            initial_epoch=max(stage.first, done),
            epochs=stage.last,
            shuffle=False,  # the batches have an order of their own
            verbose=0,
            callbacks=[
                *watchers,
                *([keras.callbacks.SwapEMAWeights()] if callbacks.uses_average(part) else []),
                *([keras.callbacks.TensorBoard(
                    os.path.join(options.log_dir, os.path.basename(job.path)),
                    write_graph=False,
                )] if devices.main else []),
            ],
        )


def _cache_features(job, body, *orders):
    """The `FeatureBatches` of training and validation, in the order of theirs."""
    from fine_tuning import FeatureBatches

    images = make_batches(job, ONE, augmented=False)
    try:
        return [FeatureBatches(body, *pair, job.path) for pair in zip(images, orders)]
    finally:
        for batches in images:
            batches.close()


def make_batches(job, spread, augmented=True):
    """(training, validation) batches of a job, two `ImageBatches`, for the devices of `spread`.

    Without augmentation the training's are in the samples' order, too.
    """
    from data_gen_label import ImageBatches

    options = job.options
    common = {
        "classes": len(job.labels),
        "batch_size": options.batch_size,
        "preprocessing": run_folder.preprocessing(options),
        "seed": options.seed,
        "spread": spread,
        "workers": options.workers,
        "report": say,
    }
    changed = {
        "shuffle": True,
        "sampler": options.sampler,
        "augmentation": _chosen(Augmentation, options),
        "mixing": _chosen(Mixing, options),
    }
    training = ImageBatches(
        job.training,
        label_smoothing=options.label_smoothing,
        max_bad=options.max_bad,
        **(changed if augmented else {}),
        **common,
    )
    return training, ImageBatches(job.validation, **common)


def _chosen(kind, options):
    return kind(*(getattr(options, name) for name in kind._fields))


def _start_run(job):
    options = job.options
    run_folder.create(job.path, options, job.labels, options.overwrite)
    if options.overwrite:
        logs = os.path.join(options.log_dir, os.path.basename(job.path))
        for part in ("train", "validation"):  # what TensorBoard's callback makes, nothing else
            shutil.rmtree(os.path.join(logs, part), ignore_errors=True)


def _announce(job, devices, model, steps, done):
    options = job.options
    if devices.spread.devices > 1:
        say(devices_line(options, devices))
    say(
        f"{options.backbone} ({model.count_params():,} parameters) at "
        f"{options.input_size} x {options.input_size} pixels, start: "
        f"{f'epoch {done + 1} of ' + job.path if job.state else options.weights}; "
        f"{steps} steps of {options.batch_size} an epoch, {options.optimizer} at "
        f"{step_rate(options):g}; run {job.path}"
    )


def devices_line(options, devices):
    """What a person should know about a training on several devices."""
    names, count = devices.names, devices.spread.devices
    shown = ", ".join(names if count <= 8 else [*names[:4], "...", names[-1]])
    processes = f" of {devices.spread.processes} processes" if devices.spread.processes > 1 else ""
    norm = ""
    if options.norm == "batch":
        part = "the whole batch" if options.sync_batchnorm else "each device's own part"
        norm = f"; batch normalisation over {part}"
    return (
        f"{count} devices{processes}: {shown}; {options.batch_size // count} images a device and "
        f"step; learning rate {step_rate(options):g} (--scale_lr {options.scale_lr}){norm}"
    )


def _finish(job, devices, model, writer, bad):
    """Leaves check/ and metrics.json, and says how it went."""
    import keras

    import callbacks
    import pretrained

    if keras.config.dtype_policy().name != "float32" or devices.spread.devices > 1:
        # What is exported and used computes in float32 on one device, so check/ has to.
        use_precision("float32")
        leave_distribution()
        model = make_model(job._replace(options=job.options._replace(weights="none")))
    exact_float32()
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
        "undecodable_images": bad,
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
        run_folder.flush(os.path.join(partial, name))
        table[name] = [float(value) for value in row]
    run_folder.write_text(
        os.path.join(partial, run_folder.CHECK_FILE),
        json.dumps(table, ensure_ascii=False, indent=1) + "\n",
    )
    run_folder.replace_folder(partial, folder)
