"""The devices of one training: which they are, how a batch goes over them, one loss for all."""

import contextlib
from typing import Any, NamedTuple

import numpy as np

from common.errors import InputError
from compute.device_names import no_gpu, split_name

# Below this many images a device, statistics of each device's own part are too noisy (Wu and
# He 2018, "Group Normalization", figure 1: from 8 downwards the error grows by points): batch
# normalisation then takes those of the whole batch, unless told otherwise. Not with more images,
# because a graph with the exchanges of all layers takes minutes to make.
ENOUGH_IMAGES = 8


class Sharding(NamedTuple):
    """How the rows of a batch go over devices.

    Attributes:
        devices: number of devices, of all processes together.
        pads: each takes as many rows as any other; else the last may take fewer.
        process: number of this process, from 0.
        processes: number of processes; each feeds as many devices.
    """

    devices: int = 1
    pads: bool = False
    process: int = 0
    processes: int = 1

    def rows(self, count):
        """The rows of a batch that this process takes.

        Where too few are there for every device, the first rows come again at the end,
        to count for nothing.

        Args:
            count: rows of the batch, 1 or more.

        Returns:
            (rows, real): int (N,), each below `count`, and bool (N,), False where a row
            only fills up. Over all processes each row is real once.
        """
        each = -(-count // self.devices)
        filled = each * self.devices if self.pads else max(count, each * (self.devices - 1) + 1)
        first, last = (filled * (self.process + one) // self.processes for one in (0, 1))
        numbers = np.arange(first, last)
        return numbers % count, numbers < count


SINGLE_DEVICE = Sharding()


class Devices(NamedTuple):
    """The devices of one training.

    Attributes:
        names: tuple of str, of all processes.
        sharding: how a batch goes over them.
        strategy: a `tf.distribute.MirroredStrategy`, or None.
    """

    names: tuple = ("one device",)
    sharding: Sharding = SINGLE_DEVICE
    strategy: Any = None

    @property
    def is_chief(self):
        """Whether this process is the one that writes the run folder."""
        return self.sharding.process == 0

    def total(self, number):
        """The sum of a number over all processes; each has to ask."""
        if self.sharding.processes == 1:
            return number
        from jax.experimental import multihost_utils

        return int(np.sum(multihost_utils.process_allgather(np.array(number))))

    def scope(self):
        """A context in which models and optimizers for these devices are made."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()


def tensorflow_strategy(text):
    """A strategy over devices of this machine, before TensorFlow has computed anything.

    Args:
        text: a checked --devices, or None for all.

    Returns:
        (names, strategy): tuple of str, and a `tf.distribute.MirroredStrategy`, or None
        where it is one device.

    Raises:
        InputError: there are no such devices.
    """
    import tensorflow as tf

    kind, numbers = split_name(text)
    gpus = tf.config.list_physical_devices("GPU")
    if kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
        processor = tf.config.list_physical_devices("CPU")[0]
        if len(tf.config.get_logical_device_configuration(processor) or ()) != numbers[0]:
            tf.config.set_logical_device_configuration(
                processor, [tf.config.LogicalDeviceConfiguration()] * numbers[0]
            )
    elif kind == "gpu":
        if max(numbers) >= len(gpus):
            raise InputError(no_gpu(max(numbers), len(gpus)))
        tf.config.set_visible_devices([gpus[number] for number in numbers], "GPU")
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = tuple(device.name.split("device:")[-1].lower() for device in found)
    if kind == "gpu":
        names = tuple(f"gpu:{number}" for number in numbers)  # TensorFlow counts the chosen ones
    if len(names) == 1:
        return names, None
    # With GPUs NCCL exchanges. What TensorFlow takes for processors, a ring of collective
    # operations, failed with batch normalisation over all devices where one process trained
    # several times.
    cross = None if found[0].device_type == "GPU" else tf.distribute.ReductionToOneDevice()
    return names, tf.distribute.MirroredStrategy(
        [device.name for device in found], cross_device_ops=cross
    )


def predict_over(model, strategy):
    """A function from uint8 (N, S, S, 3) to float32 (N, C) that spreads the rows over devices.

    Args:
        model: made under `strategy`.
        strategy: a `tf.distribute.MirroredStrategy`.
    """
    import tensorflow as tf

    count = strategy.num_replicas_in_sync

    @tf.function(reduce_retracing=True)
    def run(parts):
        return strategy.run(lambda part: model(part, training=False), (parts,))

    def predict(x):
        each = -(-len(x) // count)
        filled = np.resize(x, (each * count, *x.shape[1:]))  # the first rows again, to be dropped
        parts = strategy.experimental_distribute_values_from_function(
            lambda replica: tf.constant(filled[replica.replica_id_in_sync_group * each :][:each])
        )
        rows = strategy.experimental_local_results(run(parts))
        return np.concatenate([part.numpy() for part in rows])[: len(x)]

    return predict


def leave_distribution():
    """Models made after this are for one device of this process."""
    import keras

    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(None)
