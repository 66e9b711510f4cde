"""What options and environment variables say about devices; needs the standard library alone.

`run.py` asks here whether a command is for one device or several, before anything heavy is
imported. The devices themselves are found in `devices.py`.
"""

import os

from common.errors import InputError

# Launcher -> the environment variables that show that it started this process
LAUNCHERS = {
    "Slurm": ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    "Open MPI": ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE"),
    "Kubernetes": ("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"),
}
# Variables in which a launcher gives the number of processes
PROCESS_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")


def uses_several_devices(options):
    """Whether a command uses more than one device or process.

    Args:
        options: the options of any mode; options that the mode does not have count as not given.

    Returns:
        bool.
    """
    if getattr(options, "multigpu", False) or getattr(options, "devices", None):
        return True
    if getattr(options, "coordinator", None) or getattr(options, "num_processes", None):
        return True
    return getattr(options, "backend", None) == "jax" and launcher() is not None


def launcher():
    """The launcher that started this process as one of several.

    Returns:
        str, a key of `LAUNCHERS`, or None.
    """
    if any(os.environ.get(variable) == "1" for variable in PROCESS_COUNTS):
        return None
    for launcher_name, variables in LAUNCHERS.items():
        if all(variable in os.environ for variable in variables):
            return launcher_name
    return None


def split_device_names(text):
    """Splits the value of `--devices`.

    Args:
        text: str that `--devices` accepts, or None.

    Returns:
        (device type, numbers): ("all", ()), ("cpu", (N,)) for the processor as N devices, or
        ("gpu", indices), a tuple of int.

    Example:
        >>> split_device_names("gpu:0,gpu:2")
        ('gpu', (0, 2))
    """
    if text is None or text == "all":
        return "all", ()
    parts = [part.split(":") for part in text.split(",")]
    return parts[0][0], tuple(int(number) for _, number in parts)


def check_batch_size(batch_size, devices):
    """Refuses a batch size that is not a multiple of the number of devices.

    Args:
        batch_size: int, images per step over all devices.
        devices: int, number of devices.

    Raises:
        InputError: names the nearest batch sizes that are allowed.
    """
    if batch_size % devices:
        next_below = batch_size // devices * devices
        nearest = f"{next_below} or {next_below + devices}" if next_below else f"{devices}"
        raise InputError(
            f"--batch_size: {batch_size} is not a multiple of {devices} devices; nearest: {nearest}"
        )


def missing_gpu_message(index, gpu_count):
    """The error message for a GPU that the machine does not have.

    Args:
        index: int, the GPU that was asked for, counted from 0.
        gpu_count: int, number of GPUs that the machine has.

    Returns:
        str.
    """
    if gpu_count > 1:
        available = f"this machine has gpu:0 to gpu:{gpu_count - 1}"
    elif gpu_count:
        available = "this machine has gpu:0 only"
    else:
        available = "this machine has no usable GPU; cpu:2 tries several devices without one"
    return f"--devices: gpu:{index} does not exist: {available}"
