"""Training on several devices of one machine, or in several processes on one or many.

The loop, the options and the run folder are those of `train.fit`. On TensorFlow the
devices are a `tf.distribute.MirroredStrategy`; on JAX, one process or several, Keras
spreads the batch over them (`keras.distribution.DataParallel`).
"""

import functools

import cluster
import train
from backend import check_jax, hidden, import_keras
from devices import Devices, Spread, launcher, no_gpu, split_name, tensorflow_strategy
from errors import InputError
from job import fingerprint, say
from options import PLACE

# Options that need not be the same in every process
OWN = {*PLACE, "workers", "json", "debug", "config", "run", "given"}


def main(options):
    """`--mode train` with `--multigpu`, `--devices`, `--coordinator` or a launcher's variables."""
    if not (options.coordinator or launcher()):
        train.report(train.fit(options, one_process), options)
        return
    with cluster.Witness() as witness:
        try:
            with hidden(1):  # Gloo says on standard output whom it has found
                metrics = train.fit(options, functools.partial(one_of_several, witness))
            import jax

            jax.distributed.shutdown()  # waits for the others
        except BaseException as error:
            cluster.leave_alone(error)
            raise cluster.plain(error) from None
    train.report(metrics, options)


def one_process(job):
    """Starts Keras on several devices of this machine."""
    options = job.options
    if options.backend == "jax":
        _choose_jax_devices(options.devices)
        return _spread_over_jax_devices(options.devices)
    import_keras(options.backend)
    names, strategy = tensorflow_strategy(options.devices)
    if strategy is None:
        _say_one(names)
        return Devices()
    return Devices(names, Spread(len(names)), strategy)


def one_of_several(witness, job):
    """Starts Keras in one of several processes; `witness` is the `cluster.Witness` of this one."""
    options = job.options
    if options.backend != "jax":
        raise InputError(
            f"--backend: several processes train with jax, not with {options.backend}"
        )
    _choose_jax_devices(options.devices)
    witness.expect(cluster.NOT_FOUND)
    cluster.join(options.coordinator, options.num_processes, options.process_id)
    witness.expect(f"most likely {cluster.LOST}")
    devices = _spread_over_jax_devices(options.devices)
    values = {f"--{name}": getattr(options, name) for name in options._fields if name not in OWN}
    cluster.agree({**values, "the images or labels": fingerprint(job)}, devices.spread.process)
    return devices


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
    if kind == "gpu" and (jax.default_backend() != "gpu" or
                          jax.local_device_count() < len(numbers)):
        there = jax.local_device_count() if jax.default_backend() == "gpu" else 0
        raise InputError(no_gpu(max(numbers), there))
    names = tuple(keras.distribution.list_devices())
    if jax.process_count() == 1 and len(names) == 1:
        _say_one(names)
        return Devices()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    )
    spread = Spread(len(names), True, jax.process_index(), jax.process_count())
    return Devices(names, spread)


def _say_one(names):
    say(f"note: one device is here, {names[0]}; training on that. cpu:2 tries several without GPUs")
