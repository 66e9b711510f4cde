"""Training on several devices of one machine, or in several processes on one machine or many.

Training loop, options and run folder are those of `train.fit`. On TensorFlow the devices are a
`tf.distribute.MirroredStrategy`; on JAX, in one process or several, Keras distributes the batch
over them (`keras.distribution.DataParallel`).
"""

import collections

import train
from common.console import say
from common.errors import InputError
from compute import cluster
from compute.backend import check_jax, hidden_output, import_keras
from compute.device_names import launcher, split_device_names
from compute.devices import Devices, Sharding, tensorflow_strategy
from config.mode_options import TrainOptions
from config.modes import saved_options
from modeling import weight_download
from training import option_checks
from training.setup import fingerprint

# Options that must be the same in every process: those that a run saves, and those that decide
# what happens to its folder; not the threads and the local disk, nor the name, which one process
# chooses for all.
OWN_OPTIONS = {"workers", "cache_dir", "cache_gigabytes", "run"}
SHARED_OPTIONS = (saved_options("train") - OWN_OPTIONS) | {"overwrite", "resume", "force"}


def main(options: TrainOptions):
    """`--mode train` with `--multigpu`, `--devices`, `--coordinator` or a launcher's variables."""
    if options.coordinator or options.backend == "jax" and launcher():
        metrics = _train_in_several_processes(options)
    else:
        metrics = train.fit(options, one_process)
    train.report(metrics, options)


def _train_in_several_processes(options):
    """Joins the other processes and trains; the metrics, or None in all processes but one."""
    # The backend of a run that is resumed is known only when it has been read.
    option_checks.check_place(options._replace(backend="jax") if options.resume else options)
    with cluster.Witness() as witness:
        try:
            with hidden_output(1):  # Gloo writes its connections to standard output
                return _join_and_train(options, witness)
        except BaseException as error:
            cluster.exit_without_waiting(error)
            explained = cluster.explain(error)
            if explained is error:
                raise
            raise explained from error


def _join_and_train(options, witness):
    # Joined first: reading the images takes some processes minutes longer than others.
    _choose_jax_devices(options.devices)
    import jax

    device_type, numbers = split_device_names(options.devices)
    witness.expect(cluster.MISSING_PROCESS)
    cluster.join(
        options.coordinator,
        options.num_processes,
        options.process_id,
        gpus=numbers if device_type == "gpu" else (),
    )
    witness.expect(f"most likely {cluster.LOST_PROCESS}")
    metrics = train.fit(options, one_of_several)
    jax.distributed.shutdown()  # waits for the others
    return metrics


def one_process(setup):
    """Imports Keras for a training on several devices of this machine, in this process.

    Args:
        setup: `TrainingSetup`.

    Returns:
        `Devices`.

    Raises:
        InputError: this machine does not have the devices of `--devices`.
    """
    options = setup.options
    if options.backend == "jax":
        _choose_jax_devices(options.devices)
        return _distribute_over_jax_devices(options.devices)
    import_keras(options.backend)
    device_names, strategy = tensorflow_strategy(options.devices)
    if strategy is None:
        _say_single_device(device_names[0], options.devices)
        return Devices()
    return Devices(device_names, Sharding(len(device_names)), strategy)


def one_of_several(setup):
    """Imports Keras in one of several processes that have joined each other.

    Args:
        setup: `TrainingSetup`.

    Returns:
        `Devices`, those of all processes.

    Raises:
        InputError: the processes have different options, data or numbers of devices.
    """
    options = setup.options
    if options.backend != "jax":
        raise InputError(f"--backend: several processes train with jax, not with {options.backend}")
    devices = _distribute_over_jax_devices(options.devices)
    values = {
        f"--{name}": getattr(options, name) for name in options._fields if name in SHARED_OPTIONS
    }
    values["the images or labels"] = fingerprint(setup)
    values["the checkpoint"] = setup.checkpoint and setup.checkpoint[1:]  # its path may differ
    cluster.check_agreement(values, devices.sharding.process)
    if not setup.checkpoint and weight_download.is_needed(options.weights, options.backbone):
        _fetch_in_turns(options, devices.sharding)
    return devices


def _fetch_in_turns(options, sharding):
    """Downloads the weights, once where processes share a cache."""
    from jax.experimental import multihost_utils

    for process in range(sharding.processes):
        if process == sharding.process:
            weight_download.fetch(options.backbone, options.weights_url)
        multihost_utils.sync_global_devices(f"weights {process}")


def _choose_jax_devices(text):
    """Applies `--devices`, before JAX has computed anything."""
    check_jax()
    import jax

    # The library with which processors of several processes exchange their gradients
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    device_type, numbers = split_device_names(text)
    if device_type == "cpu":
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", numbers[0])
    elif device_type == "gpu":
        jax.config.update("jax_cuda_visible_devices", ",".join(map(str, numbers)))


def _distribute_over_jax_devices(text):
    keras = import_keras("jax")
    import jax

    _check_jax_devices(text)
    device_names = tuple(keras.distribution.list_devices())
    if jax.process_count() == 1 and len(device_names) == 1:
        _say_single_device(device_names[0], text)
        return Devices()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=device_names, auto_shard_dataset=False)
    )
    sharding = Sharding(
        devices=len(device_names),
        pads=True,
        process=jax.process_index(),
        processes=jax.process_count(),
    )
    return Devices(device_names, sharding)


def _check_jax_devices(text):
    """Refuses GPUs that JAX does not find, and processes with different numbers of devices."""
    import jax

    device_type, numbers = split_device_names(text)
    try:
        gpu_count = jax.local_device_count() if jax.default_backend() == "gpu" else 0
    except RuntimeError:  # a GPU index that CUDA does not know
        gpu_count = 0
    if device_type == "gpu" and gpu_count < len(numbers):
        raise InputError(
            f"--devices: {text} cannot be used: JAX finds {gpu_count} of these GPUs; install "
            "jax[cuda13], and give numbers of GPUs that exist"
        )
    device_counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(device_counts.values())) > 1:
        counts = ", ".join(
            f"{count} in process {process}" for process, count in sorted(device_counts.items())
        )
        raise InputError(
            f"--devices: each process needs the same number of devices; found {counts}"
        )


def _say_single_device(device_name, text):
    if text is None or text == "all":
        say(
            f"note: this machine has one device, {device_name}; training on it. --devices cpu:2 "
            "tries several devices without GPUs"
        )
    else:
        say(f"note: {device_name} is one device; training on it")
