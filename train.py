"""Training: `fit(options)`, the only training loop of the project."""

import contextlib
import json
import os
import shutil
import time

from common.console import say
from common.errors import DivergedError, InputError
from compute.backend import import_keras, use_precision
from compute.device_names import check_batch_size, launcher
from compute.devices import ENOUGH_IMAGES, Devices
from runs import run_folder
from runs.margin_files import write_trained_on
from training.batches import make_batches
from training.compilation import make_model
from training.failures import explain
from training.finalize import finish
from training.learning_rates import step_rate
from training.setup import fingerprint, prepare
from training.trainer import back, train_stages


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
        RunError: the loss is no longer a number; weights cannot be downloaded; the disk is
            full, memory is used up, data have gone: what was written before is whole.
    """
    started = time.monotonic()
    job = prepare(options)

    say("starting Keras ...")
    devices = start(job)
    with contextlib.ExitStack() as stack:
        try:
            return _fit(job, devices, started, stack)
        except Exception as error:
            told = explain(error, job.path)
            if told is error:
                raise
            raise told from error


def _fit(job, devices, started, stack):
    import keras

    from training import callbacks, label_margins

    options = job.options
    _check_devices(options, devices)
    stored = job  # the run keeps what was asked for, not what these devices made of it
    options = options._replace(sync_batchnorm=_synchronized(options, devices.sharding))
    job = job._replace(options=options)
    use_precision(options.mixed_precision, float16=devices.strategy is None)
    keras.utils.set_random_seed(options.seed)
    training, validation = make_batches(job, devices.sharding)
    with devices.scope():
        model = make_model(job)
    if devices.is_chief:
        if not job.checkpoint:
            _start_run(stored)
        stack.enter_context(run_folder.locked(job.path))
        if job.checkpoint:
            run_folder.write_options(job.path, stored.options)
    thaws = options.freeze_epochs if options.freeze_epochs < options.epochs else 0
    writer = callbacks.RunWriter(
        model,
        job.path,
        options.patience,
        fingerprint(job),
        job.checkpoint,
        started,
        devices.is_chief,
        thaws,
        options.keep,
        (training, validation),
    )
    done, steps = writer.saved or (0, 0)
    watchers = [callbacks.Epochs(training, validation, options.max_bad), writer]
    recorded = label_margins.make(job, devices)
    if recorded:
        watchers.append(label_margins.MarginWriter(*recorded, training, job.path))
    if devices.is_chief:
        write_trained_on(job.path, job.training)
    if devices.is_chief:
        watchers.append(
            callbacks.Progress(
                len(job.training.file_names), options.batch_size, options.epochs, done, steps
            )
        )
    try:
        if devices.is_chief and writer.finished(options.epochs):
            say(f"{job.path} has finished its {done} epochs already")
        elif devices.is_chief:
            _announce(job, devices, model, len(training), done, steps)
        while True:
            try:
                train_stages(job, devices, model, training, validation, writer, watchers, recorded)
                break
            except DivergedError as error:
                job = back(job, writer, error)
    except BaseException as error:
        if devices.is_chief:
            _say_stopped(job, writer)
        # Keras wraps an error of a data set beyond recognition.
        refused = training.error or validation.error
        if refused and isinstance(error, Exception):
            raise refused from None
        raise
    finally:
        training.close()
        validation.close()

    bad = devices.total(len(training.undecodable) + len(validation.undecodable))
    if not devices.is_chief:
        return None
    return finish(job, devices, model, writer, bad)


def _check_devices(options, devices):
    """Refuses what these devices cannot do."""
    spread = devices.sharding
    check_batch_size(options.batch_size, spread.devices)
    if spread.pads and options.sync_batchnorm is False and "sync_batchnorm" in options.given:
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
    if spread.pads:
        return True
    if options.sync_batchnorm is None and spread.devices > 1:
        return options.batch_size // spread.devices < ENOUGH_IMAGES
    return options.sync_batchnorm


def _start_run(job):
    options = job.options
    again = options.overwrite or options.resume  # of which no checkpoint is there yet
    run_folder.create(job.path, options, job.class_names, again)
    if again:
        logs = os.path.join(options.log_dir, os.path.basename(job.path))
        for part in ("train", "validation"):  # what TensorBoard's callback makes, nothing else
            shutil.rmtree(os.path.join(logs, part), ignore_errors=True)


def _say_stopped(job, writer):
    epochs, steps = writer.saved or (0, 0)
    if not epochs and not steps:
        return
    best = ""
    if writer.history:
        best = (
            f"; best so far: epoch {writer.best['epoch']} with val_accuracy "
            f"{writer.best['val_accuracy']:.4f}"
        )
    say(
        f"stopped{best}; --resume {os.path.basename(job.path)} goes on after epoch {epochs}"
        + (f", step {steps}" if steps else "")
    )


def _announce(job, devices, model, steps, done, passed):
    options = job.options
    start = options.weights
    if job.checkpoint:
        step = f", step {passed + 1}," if passed else ""
        start = f"epoch {done + 1}{step} of {job.path}"
    if devices.sharding.devices > 1:
        say(devices_line(options, devices))
    say(
        f"{options.backbone} ({model.count_params():,} parameters) at "
        f"{options.input_size} x {options.input_size} pixels, start: {start}; "
        f"{steps} steps of {options.batch_size} an epoch, {options.optimizer} at "
        f"{step_rate(options):g}; run {job.path}"
    )


def devices_line(options, devices):
    """What a person should know about a training on several devices."""
    names, count = devices.names, devices.sharding.devices
    shown = ", ".join(names if count <= 8 else [*names[:4], "...", names[-1]])
    processes = (
        f" of {devices.sharding.processes} processes" if devices.sharding.processes > 1 else ""
    )
    norm = ""
    if options.norm == "batch":
        part = "the whole batch" if options.sync_batchnorm else "each device's own part"
        norm = f"; batch normalisation over {part}"
    return (
        f"{count} devices{processes}: {shown}; {options.batch_size // count} images a device and "
        f"step; learning rate {step_rate(options):g} (--scale_lr {options.scale_lr}){norm}"
    )
