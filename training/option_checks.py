"""Training options that contradict each other: refused before anything is built."""

from common.errors import InputError
from compute.device_names import check_batch_size, launcher, split_device_names
from config.modes import PROCESS_OPTIONS
from config.option_table import OPTIONS
from config.options import FOCAL_GAMMA
from config.parser import show
from data.augmentation import Augmentation
from data.mixing import Mixing
from modeling import backbones, weight_download
from training.recipes import SOLVABLE_POOLING, can_solve_head

# Every option that changes training images, with the value that disables it
AUGMENTATION = {**Augmentation()._asdict(), **Mixing()._asdict()}
# Options that a head has no use for that is solved and not trained
NOT_SOLVED = (AUGMENTATION.keys() - {"horizontal_flip"}) | {
    *("epochs", "minutes", "freeze_epochs", "cache_features", "patience", "optimizer"),
    *("learning_rate", "weight_decay", "warmup_epochs", "layer_decay", "clipnorm"),
    *("accumulate", "ema", "label_smoothing", "loss", "soup"),
    *("teacher", "unlabelled"),
}
BALANCING = {"sampler", "class_weights"}  # which only logistic regression knows


def check(options, input_size):
    """Refuses options that contradict each other.

    Args:
        options: `TrainOptions`.
        input_size: int, height and width of the model's input, in pixels.

    Returns:
        The options; with `cache_features`, every augmentation that has its default is disabled.

    Raises:
        InputError: names the options, their values and what to do.
    """
    _check_backbone(options, input_size)
    _check_head(options)
    _check_solved_head(options)
    _check_batches(options)
    _check_epochs(options)
    _check_mirror(options)
    _check_teacher(options)
    return _check_cached_features(options) if options.cache_features else options


def has_several_processes(options):
    """bool, whether this is one of several processes that train together.

    Args:
        options: `TrainOptions`.
    """
    given = options.num_processes is not None
    return given or (options.backend == "jax" and launcher() is not None)


def check_place(options):
    """Refuses options about devices and processes that contradict each other, or the rest.

    Apart from `check` because a run may resume on other devices.

    Args:
        options: `TrainOptions`.

    Raises:
        InputError: names the options, their values and what to do.
    """
    given_names = [name for name in PROCESS_OPTIONS if getattr(options, name) is not None]
    if given_names and len(given_names) < len(PROCESS_OPTIONS):
        missing = ", ".join(f"--{name}" for name in PROCESS_OPTIONS if name not in given_names)
        raise InputError(f"--{given_names[0]}: needs {missing} as well, in each of the processes")
    process_count = options.num_processes or 1
    if given_names and options.process_id >= process_count:
        raise InputError(
            f"--process_id: {options.process_id} is too high for {process_count} processes; "
            f"allowed: 0 to {process_count - 1}"
        )
    if given_names and options.backend != "jax":
        raise InputError(f"--backend: several processes train with jax, not with {options.backend}")
    several_processes = has_several_processes(options)
    if options.minutes and several_processes:
        raise InputError(
            f"--minutes: {options.minutes:g} is not possible with several processes, which would "
            "measure different speeds; give --epochs"
        )
    if options.cache_features and several_processes:
        raise InputError(
            "--cache_features: computes the features of all images in one process; leave it out "
            "to train with several processes"
        )
    if options.teacher and several_processes:
        raise InputError(
            "--teacher: answers for all images in one process; leave it out to train with several "
            "processes"
        )
    device_type, indices = split_device_names(options.devices)
    if device_type != "all":
        device_count = indices[0] if device_type == "cpu" else len(indices)
        check_batch_size(options.batch_size, device_count * process_count)


def _check_backbone(options, input_size):
    name = options.backbone
    backbone = backbones.find(name)
    if backbone and input_size < backbone.min_size:
        raise InputError(
            f"--input_size: {input_size} is too small for {name}; its minimum is "
            f"{backbone.min_size}"
        )
    if options.block_attention != "se" and (backbone is None or backbone.family != "EfficientNet"):
        raise InputError(
            f"--block_attention: {options.block_attention} is not possible: {name} has no "
            "attention in its blocks to replace; only EfficientNetB0 to B7 have"
        )
    if backbone is None and options.norm == "group":
        raise InputError(f"--norm: group is not possible with {name}; allowed: batch")


def _check_head(options):
    if options.bilinear_dim and options.pooling != "bilinear":
        raise InputError(
            f"--bilinear_dim: {options.bilinear_dim} has no effect with --pooling "
            f"{options.pooling}; it needs --pooling bilinear"
        )
    # The default is allowed: the options.yaml of a run, used as --config, names it.
    if options.focal_gamma != FOCAL_GAMMA and options.loss != "focal":
        raise InputError(
            f"--focal_gamma: {options.focal_gamma:g} has no effect with --loss {options.loss}; it "
            "needs --loss focal"
        )


def _check_batches(options):
    for name in ("mixup", "cutmix"):
        if getattr(options, name) and options.batch_size < 2:
            raise InputError(
                f"--{name}: {getattr(options, name):g} mixes pairs of images of a batch, which "
                f"--batch_size {options.batch_size} does not have; give 2 or more"
            )
    if options.class_weights != "none" and options.sampler == "balanced":
        raise InputError(
            f"--class_weights: {options.class_weights} and --sampler balanced both compensate for "
            "rare classes, together they do so twice: choose one"
        )


def _check_epochs(options):
    if options.minutes and "epochs" in options.given:
        raise InputError(
            f"--minutes: {options.minutes:g} chooses the number of epochs itself; give it or "
            f"--epochs {options.epochs}, not both"
        )
    if options.freeze_epochs > options.epochs:
        raise InputError(
            f"--freeze_epochs: {options.freeze_epochs} is more than the {options.epochs} of "
            "--epochs, which include them"
        )


def _check_mirror(options):
    if options.weights_url and not weight_download.is_needed(options.weights, options.backbone):
        raise InputError(
            f"--weights_url: --backbone {options.backbone} with --weights {options.weights} "
            "downloads nothing from there; leave it out"
        )


def _check_teacher(options):
    if options.unlabelled and not options.teacher:
        raise InputError(
            f"--unlabelled: {show(options.unlabelled)} needs --teacher, a model that says what is "
            "on these photos"
        )
    if options.teacher and options.loss == "focal":
        raise InputError(
            "--loss: focal gives less weight to what is close to its label, --teacher wants its "
            "probabilities matched; leave one out"
        )


def _check_solved_head(options):
    if options.linear_head and not can_solve_head(options):
        option = f"--head: {options.head}" if options.head else "--linear_head: yes"
        raise InputError(
            f"{option} needs --attention none, --pooling "
            f"{' or '.join(SOLVABLE_POOLING)} and one device, not --attention "
            f"{options.attention} with --pooling {options.pooling}; --freeze_epochs trains any head"
        )
    if options.neighbour_count and options.head != "neighbours":
        raise InputError(
            f"--neighbour_count: {options.neighbour_count} has no effect without --head neighbours"
        )
    if not options.head:
        return
    if options.recipe != "solved":
        raise InputError(
            f"--head: {options.head} is solved on a frozen backbone and not trained; leave out "
            f"--recipe {options.recipe}"
        )
    if not options.linear_head:
        raise InputError(f"--linear_head: no contradicts --head {options.head}; leave one out")
    unused_names = NOT_SOLVED if options.head == "linear" else NOT_SOLVED | BALANCING
    for name in sorted(options.given & unused_names):
        value = getattr(options, name)
        if value != OPTIONS[name].default and not (name == "epochs" and value == 1):
            raise InputError(
                f"--{name}: {show(value)} has no effect with --head {options.head}, which is "
                "solved in one pass over the images as they are; leave it out"
            )


def _check_cached_features(options):
    if not options.freeze_epochs:
        raise InputError(
            "--cache_features: needs a frozen backbone: give --freeze_epochs, from 1 to the "
            f"{options.epochs} of --epochs"
        )
    enabled = [
        name
        for name, disabled in AUGMENTATION.items()
        if name in options.given and getattr(options, name) != disabled
    ]
    if enabled:
        raise InputError(
            "--cache_features: computes the features of each image once, without augmentation; "
            f"leave out {', '.join(f'--{name}' for name in enabled)}"
        )
    return options._replace(**AUGMENTATION)
