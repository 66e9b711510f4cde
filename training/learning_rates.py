"""The learning rate of a training: the default, --scale_lr, a frozen backbone, reductions."""

from training.stages import count_frozen_epochs

RATE_IMAGES = 16  # images per step that a learning rate is for, under --scale_lr linear
FROZEN_FACTOR = 10  # on the rate: a new head has farther to go than a trained backbone


# Fine-tuning with fewer photos or steps than these has a smaller rate, in proportion, but not
# below a fifth: what the first steps at a high rate destroy, these could not teach again.
FULL_RATE_PHOTOS, FULL_RATE_STEPS = 800, 300
SMALLEST_FACTOR = 0.2


def default_learning_rate(options, photo_count=None):
    """float, the learning rate where none is given; docs/benchmarks.md has the evidence.

    Args:
        options: the options of `--mode train`, with `recipe` and `epochs`.
        photo_count: int, photos to train on; None where they have not been counted yet.
    """
    factor = 1.0
    if options.recipe == "fine_tuning" and photo_count is not None:
        factor = _fine_tuning_factor(options, photo_count)
    if options.optimizer == "sgd":
        return 1e-2 * factor
    learning_rate = 1e-3 * factor
    if options.weights != "none" and options.layer_decay == 1:
        learning_rate *= 0.5  # at which all layers of a pretrained backbone may learn
    if options.weights == "none" and options.scale_lr == "none":
        learning_rate = min(4e-3, learning_rate * options.batch_size / RATE_IMAGES)
    # Lion's steps have the size of the rate whatever the gradients (Chen et al. 2023, section 5).
    return learning_rate / 5 if options.optimizer == "lion" else learning_rate


def _fine_tuning_factor(options, photo_count):
    """float, at most 1."""
    steps_per_epoch = -(-photo_count // options.batch_size)
    steps = (options.epochs - count_frozen_epochs(options)) * steps_per_epoch
    factor = min(1.0, photo_count / FULL_RATE_PHOTOS) * min(1.0, steps / FULL_RATE_STEPS)
    return max(SMALLEST_FACTOR, factor)


def peak_learning_rate(options, frozen=False, lr_reductions=0):
    """float, the highest learning rate of a stage's steps.

    Linear scaling: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1.

    Args:
        options: the resolved options of `--mode train`.
        frozen: bool, whether the stage trains the head of a frozen backbone.
        lr_reductions: int, how often the rate was halved because the loss was NaN.

    Example:
        >>> peak_learning_rate(options)  # --learning_rate 1e-3 --batch_size 64 --scale_lr linear
        0.004
    """
    scale = options.batch_size / RATE_IMAGES if options.scale_lr == "linear" else 1
    learning_rate = options.learning_rate * scale
    return learning_rate * (FROZEN_FACTOR if frozen else 1) * 0.5**lr_reductions
