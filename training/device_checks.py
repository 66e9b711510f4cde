"""What the devices of a training mean for its options: what they cannot do, and what they need."""

from common.errors import InputError
from compute.device_names import check_batch_size
from compute.devices import MIN_IMAGES_PER_DEVICE
from training.learning_rates import peak_learning_rate

MOST_NAMES = 8  # of devices that are listed in full


def check_devices(options, devices):
    """Refuses what these devices cannot do.

    Args:
        options: the options of `--mode train`.
        devices: `Devices`.

    Raises:
        InputError: names the option, its value and what is allowed.
    """
    sharding = devices.sharding
    check_batch_size(options.batch_size, sharding.devices)
    if sharding.pads and options.sync_batchnorm is False and "sync_batchnorm" in options.given:
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


def synchronizes_batchnorm(options, sharding):
    """Whether batch normalization takes the statistics of all devices' images.

    Args:
        options: the options of `--mode train`.
        sharding: `Sharding` of a batch over the devices.

    Returns:
        bool, or None where nobody asked and there is one device.
    """
    if sharding.pads:
        return True
    if options.sync_batchnorm is None and sharding.devices > 1:
        return options.batch_size // sharding.devices < MIN_IMAGES_PER_DEVICE
    return options.sync_batchnorm


def describe_devices(options, devices):
    """str, what a person should know about a training on several devices.

    Args:
        options: the resolved options of `--mode train`.
        devices: `Devices`, more than one.
    """
    device_names, device_count = devices.names, devices.sharding.devices
    if device_count > MOST_NAMES:
        device_names = [*device_names[:4], "...", device_names[-1]]
    process_count = devices.sharding.processes
    processes = f" of {process_count} processes" if process_count > 1 else ""
    normalization = ""
    if options.norm == "batch":
        part = "the whole batch" if options.sync_batchnorm else "each device's own part"
        normalization = f"; batch normalization over {part}"
    return (
        f"{device_count} devices{processes}: {', '.join(device_names)}; "
        f"{options.batch_size // device_count} images per device and step; learning rate "
        f"{peak_learning_rate(options):g} (--scale_lr {options.scale_lr}){normalization}"
    )
