"""Options of a training that do not go together: refused before anything is built."""

from common.errors import InputError
from compute import device_names
from config.options import FOCAL_GAMMA, PROCESS
from data.augmentation import Augmentation
from data.mixing import Mixing
from modeling import backbones

# What changes a training image, with the value that leaves it as it is
AUGMENTATION = {**Augmentation()._asdict(), **Mixing()._asdict()}


def check(options, input_size):
    """Refuses options that contradict each other.

    Args:
        options: those of `--mode train`.
        input_size: side of the input, in pixels.

    Returns:
        The options; with `cache_features` the augmentation that nobody asked for is off.

    Raises:
        InputError: names the options, their values and the way out.
    """
    _check_backbone(options, input_size)
    _check_head(options)
    _check_steps(options)
    return _check_features(options) if options.cache_features else options


def check_place(options):
    """Refuses what says where a training runs and does not go together, or with the rest.

    Apart from `check` because a run that goes on may do so elsewhere.
    """
    given = [name for name in PROCESS if getattr(options, name) is not None]
    if given and len(given) < len(PROCESS):
        missing = ", ".join(f"--{name}" for name in PROCESS if name not in given)
        raise InputError(f"--{given[0]}: needs {missing} as well, in each of the processes")
    processes = options.num_processes or 1
    if given and options.process_id >= processes:
        raise InputError(
            f"--process_id: {options.process_id} is not one of the {processes} processes, which "
            f"count from 0 to {processes - 1}"
        )
    if given and options.backend != "jax":
        raise InputError(f"--backend: several processes train with jax, not with {options.backend}")
    together = given or (options.backend == "jax" and device_names.launcher())
    if options.cache_features and together:
        raise InputError(
            "--cache_features: computes the features of all images in one process; with several "
            "processes leave it out"
        )
    kind, numbers = device_names.split_name(options.devices)
    if kind != "all":
        count = numbers[0] if kind == "cpu" else len(numbers)
        device_names.check_batch_size(options.batch_size, count * processes)


def _check_backbone(options, input_size):
    name = options.backbone
    known = backbones.find(name)
    if known and input_size < known.least_size:
        raise InputError(
            f"--input_size: {input_size} is too small for {name}; its least is {known.least_size}"
        )
    if options.block_attention != "se" and (known is None or known.family != "EfficientNet"):
        raise InputError(
            f"--block_attention: {options.block_attention} is not possible: {name} has no "
            "attention in its blocks to replace; only EfficientNetB0 to B7 have"
        )
    if known is None and options.norm == "group":
        raise InputError(f"--norm: group is not possible with {name}; allowed: batch")


def _check_head(options):
    if options.bilinear_dim and options.pooling != "bilinear":
        raise InputError(
            f"--bilinear_dim: {options.bilinear_dim} has no effect with --pooling "
            f"{options.pooling}; it is for --pooling bilinear"
        )
    # The default is no contradiction: a run's own options.yaml, used as --config, names it.
    if options.focal_gamma != FOCAL_GAMMA and options.loss != "focal":
        raise InputError(
            f"--focal_gamma: {options.focal_gamma:g} has no effect with --loss {options.loss}; it "
            "is for --loss focal"
        )


def _check_steps(options):
    for name in ("mixup", "cutmix"):
        if getattr(options, name) and options.batch_size < 2:
            raise InputError(
                f"--{name}: {getattr(options, name):g} mixes the images of a batch, and "
                f"--batch_size {options.batch_size} has no two"
            )
    if options.freeze_epochs > options.epochs:
        raise InputError(
            f"--freeze_epochs: {options.freeze_epochs} is more than the {options.epochs} of "
            "--epochs, of which they are the first"
        )
    if options.class_weights != "none" and options.sampler == "balanced":
        raise InputError(
            f"--class_weights: {options.class_weights} and --sampler balanced both make up for "
            "rare classes; together they do so twice: choose one"
        )


def _check_features(options):
    if not options.freeze_epochs:
        raise InputError(
            "--cache_features: needs a frozen backbone: give --freeze_epochs, from 1 to the "
            f"{options.epochs} of --epochs"
        )
    on = [
        name
        for name, off in AUGMENTATION.items()
        if name in options.given and getattr(options, name) != off
    ]
    if on:
        raise InputError(
            "--cache_features: features are computed once, so no augmentation is possible; "
            f"given: {', '.join(f'--{name}' for name in on)}"
        )
    return options._replace(**AUGMENTATION)
