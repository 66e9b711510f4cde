"""The devices of a training: which they are, and how the rows of a batch go over them."""

import contextlib
from typing import Any, NamedTuple

import numpy as np

from common.errors import InputError
from compute.device_names import missing_gpu_message, split_device_names

# With fewer images per device, statistics over each device's own part are too noisy (Wu and
# He 2018, "Group Normalization", figure 1: from 8 downwards the error grows by points): batch
# normalization then uses those of the whole batch, unless the user says otherwise. Not with more
# images, because a graph with the exchanges of all layers takes minutes to make.
MIN_IMAGES_PER_DEVICE = 8


class Sharding(NamedTuple):
    """How the rows of a batch go over devices and processes.

    Attributes:
        devices: int, number of devices of all processes together.
        pads: bool, whether every device gets the same number of rows, as JAX needs it; with
            False the last device may get fewer.
        process: int, index of this process, from 0.
        processes: int, number of processes; each has as many devices.

    Example:
        >>> Sharding(devices=2, pads=True, process=1, processes=2).rows(3)
        (array([2, 0]), array([ True, False]))
    """

    devices: int = 1
    pads: bool = False
    process: int = 0
    processes: int = 1

    def rows(self, count):
        """The rows of a batch that this process feeds to its devices.

        Where there are too few rows for the devices, the first rows are repeated at the end,
        with `is_real` False, so that they can get the weight 0.

        Args:
            count: int, rows of the batch, 1 or more.

        Returns:
            (rows, is_real): int (N,), each from 0 to `count` - 1, and bool (N,), False for
            repeated rows. Over all processes each row is real once.
        """
        rows_per_device = -(-count // self.devices)
        padded_count = rows_per_device * self.devices
        if not self.pads:  # one row for the last device is enough
            padded_count = max(count, padded_count - rows_per_device + 1)
        first, last = (
            padded_count * process // self.processes for process in (self.process, self.process + 1)
        )
        positions = np.arange(first, last)
        return positions % count, positions < count


SINGLE_DEVICE = Sharding()


class Devices(NamedTuple):
    """The devices of a training.

    Attributes:
        names: tuple of str, of all processes.
        sharding: `Sharding`, how a batch goes over them.
        strategy: `tf.distribute.MirroredStrategy`, or None.
    """

    names: tuple = ("one device",)
    sharding: Sharding = SINGLE_DEVICE
    strategy: Any = None

    @property
    def is_chief(self):
        """bool, whether this process is the one that writes the run folder."""
        return self.sharding.process == 0

    def total(self, number):
        """The sum of a number over all processes; every process has to call it.

        Args:
            number: int, the number of this process.

        Returns:
            int.
        """
        if self.sharding.processes == 1:
            return number
        from jax.experimental import multihost_utils

        return int(np.sum(multihost_utils.process_allgather(np.array(number))))

    def scope(self):
        """A context in which models and optimizers for these devices are created."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()


def tensorflow_strategy(text):
    """Chooses devices of this machine; call it before TensorFlow has computed anything.

    Args:
        text: str that `--devices` accepts, or None for all.

    Returns:
        (names, strategy): tuple of str, and `tf.distribute.MirroredStrategy`, or None for a
        single device.

    Raises:
        InputError: this machine does not have these devices.
    """
    import tensorflow as tf

    device_type, numbers = split_device_names(text)
    gpus = tf.config.list_physical_devices("GPU")
    if device_type == "cpu":
        tf.config.set_visible_devices([], "GPU")
        processor = tf.config.list_physical_devices("CPU")[0]
        if len(tf.config.get_logical_device_configuration(processor) or ()) != numbers[0]:
            tf.config.set_logical_device_configuration(
                processor, [tf.config.LogicalDeviceConfiguration()] * numbers[0]
            )
    elif device_type == "gpu":
        if max(numbers) >= len(gpus):
            raise InputError(missing_gpu_message(max(numbers), len(gpus)))
        tf.config.set_visible_devices([gpus[index] for index in numbers], "GPU")
    logical_devices = tf.config.list_logical_devices("GPU")
    logical_devices = logical_devices or tf.config.list_logical_devices("CPU")
    device_names = tuple(device.name.split("device:")[-1].lower() for device in logical_devices)
    if device_type == "gpu":
        # TensorFlow numbers the chosen ones from 0.
        device_names = tuple(f"gpu:{index}" for index in numbers)
    if len(device_names) == 1:
        return device_names, None
    # NCCL exchanges between GPUs. TensorFlow's default for processors, a ring of collective
    # operations, failed with batch normalization over all devices where one process trained
    # several times.
    is_gpu = logical_devices[0].device_type == "GPU"
    return device_names, tf.distribute.MirroredStrategy(
        [device.name for device in logical_devices],
        cross_device_ops=None if is_gpu else tf.distribute.ReductionToOneDevice(),
    )


def predict_over(model, strategy):
    """Makes a function that computes a model on several devices, each with a part of the rows.

    Args:
        model: `keras.Model` created under `strategy`, from (N, S, S, 3) to one output or several.
        strategy: `tf.distribute.MirroredStrategy`.

    Returns:
        Function from uint8 (N, S, S, 3) to a list of the outputs, float32 (N, ...).
    """
    import tensorflow as tf

    device_count = strategy.num_replicas_in_sync

    @tf.function(reduce_retracing=True)
    def run_parts(parts):
        return strategy.run(lambda part: model(part, training=False), (parts,))

    def predict(x):
        part_size = -(-len(x) // device_count)
        # The first rows again, to be dropped from the result
        padded_x = np.resize(x, (part_size * device_count, *x.shape[1:]))

        def part_of(replica):
            start = replica.replica_id_in_sync_group * part_size
            return tf.constant(padded_x[start : start + part_size])

        parts = strategy.experimental_distribute_values_from_function(part_of)
        outputs = run_parts(parts)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        results = map(strategy.experimental_local_results, outputs)
        return [np.concatenate([part.numpy() for part in result])[: len(x)] for result in results]

    return predict


def leave_distribution():
    """Makes models that are created from now on compute on one device of this process."""
    import keras

    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(None)


@contextlib.contextmanager
def one_device():
    """A context whose models compute on one device of this process and leave nothing behind.

    Layers without a name of their own are numbered: after it the numbers begin again, so that a
    model is the same whether another was built before it or not.
    """
    import keras

    is_jax = keras.backend.backend() == "jax"
    distribution = keras.distribution.distribution() if is_jax else None
    leave_distribution()
    try:
        yield
    finally:
        keras.utils.clear_session()
        if distribution is not None:
            keras.distribution.set_distribution(distribution)
