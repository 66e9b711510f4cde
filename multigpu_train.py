"""Training on several devices of one machine, or in several processes on one or many.

The loop, the options and the run folder are those of `train.fit`. On TensorFlow the
devices are a `tf.distribute.MirroredStrategy`; on JAX, one process or several, Keras
spreads the batch over them (`keras.distribution.DataParallel`).
"""

import collections

import train
from common.console import say
from common.errors import InputError
from compute import cluster
from compute.backend import check_jax, hidden, import_keras
from compute.device_names import launcher, split_name
from compute.devices import Devices, Sharding, tensorflow_strategy
from config.modes import saved_options
from modeling import backbones
from training import option_checks
from training.setup import fingerprint

# Options that must be the same in every process: those that a run keeps, and those that decide
# what happens to its folder; not the threads, nor the name, which one process chooses for all.
SHARED_OPTIONS = (saved_options("train") - {"workers", "run"}) | {"overwrite", "resume", "force"}


def main(options):
    """`--mode train` with `--multigpu`, `--devices`, `--coordinator` or a launcher's variables."""
    if not (options.coordinator or options.backend == "jax" and launcher()):
        train.report(train.fit(options, one_process), options)
        return
    # What a run that goes on computes with is known when it has been read.
    option_checks.check_place(options._replace(backend="jax") if options.resume else options)
    with cluster.Witness() as witness:
        try:
            with hidden(1):  # Gloo says on standard output whom it has found
                metrics = _together(options, witness)
        except BaseException as error:
            cluster.leave_alone(error)
            told = cluster.plain(error)
            if told is error:
                raise
            raise told from error
    train.report(metrics, options)


def _together(options, witness):
    # Found first: reading the images takes some processes minutes longer than others.
    _choose_jax_devices(options.devices)
    import jax

    kind, numbers = split_name(options.devices)
    witness.expect(cluster.NOT_FOUND)
    cluster.join(
        options.coordinator,
        options.num_processes,
        options.process_id,
        numbers if kind == "gpu" else (),
    )
    witness.expect(f"most likely {cluster.LOST}")
    metrics = train.fit(options, one_of_several)
    jax.distributed.shutdown()  # waits for the others
    return metrics


def one_process(job):
    """Starts Keras on several devices of this machine."""
    options = job.options
    if options.backend == "jax":
        _choose_jax_devices(options.devices)
        return _spread_over_jax_devices(options.devices)
    import_keras(options.backend)
    names, strategy = tensorflow_strategy(options.devices)
    if strategy is None:
        _say_one(names, options.devices)
        return Devices()
    return Devices(names, Sharding(len(names)), strategy)


def one_of_several(job):
    """Starts Keras in one of several processes that have found each other."""
    options = job.options
    if options.backend != "jax":
        raise InputError(f"--backend: several processes train with jax, not with {options.backend}")
    devices = _spread_over_jax_devices(options.devices)
    values = {
        f"--{name}": getattr(options, name) for name in options._fields if name in SHARED_OPTIONS
    }
    values["the images or labels"] = fingerprint(job)
    values["the checkpoint"] = job.checkpoint and job.checkpoint[1:]  # its path may differ
    cluster.agree(values, devices.sharding.process)
    if not job.checkpoint and options.weights == "imagenet":
        _fetch_in_turns(options.backbone, devices.sharding)
    return devices


def _fetch_in_turns(backbone, spread):
    """Two processes that download into one cache would spoil each other's file."""
    if backbone.startswith(backbones.HUB):
        return
    from jax.experimental import multihost_utils

    from modeling import weight_files
    from modeling.imagenet_weights import imagenet_file

    for process in range(spread.processes):
        if process == spread.process:
            weight_files.fetch(backbone, *imagenet_file(backbone))
        multihost_utils.sync_global_devices(f"weights {process}")


def _choose_jax_devices(text):
    """Before JAX has computed anything."""
    check_jax()
    import jax

    # What processors of several processes exchange their gradients with.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    kind, numbers = split_name(text)
    if kind == "cpu":
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", numbers[0])
    elif kind == "gpu":
        jax.config.update("jax_cuda_visible_devices", ",".join(map(str, numbers)))


def _spread_over_jax_devices(text):
    keras = import_keras("jax")
    import jax

    kind, numbers = split_name(text)
    try:
        there = jax.local_device_count() if jax.default_backend() == "gpu" else 0
    except RuntimeError:  # a number that CUDA does not know
        there = 0
    if kind == "gpu" and there < len(numbers):
        raise InputError(
            f"--devices: {text} cannot be used: JAX finds {there} GPUs of these; it needs "
            "jax[cuda13], and numbers of GPUs that are there"
        )
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        raise InputError(
            "--devices: each process needs as many devices as the others; found "
            + ", ".join(f"{count} in process {number}" for number, count in sorted(counts.items()))
        )
    names = tuple(keras.distribution.list_devices())
    if jax.process_count() == 1 and len(names) == 1:
        _say_one(names, text)
        return Devices()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    )
    spread = Sharding(len(names), True, jax.process_index(), jax.process_count())
    return Devices(names, spread)


def _say_one(names, asked):
    if asked is None or asked == "all":
        say(
            f"note: one device is here, {names[0]}; training on that. --devices cpu:2 tries "
            "several without GPUs"
        )
    else:
        say(f"note: {names[0]} is one device; training on that")
