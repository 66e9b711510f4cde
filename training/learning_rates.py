"""The learning rate of a training: the default, and what --scale_lr makes of it."""

RATE_IMAGES = 16  # images a step that a learning rate is for, under --scale_lr linear


def default_learning_rate(options):
    """The learning rate where none is given; docs/benchmarks.md has what it rests on."""
    if options.optimizer == "sgd":
        return 1e-2
    rate = 5e-4 if options.weights != "none" else 1e-3
    if options.weights == "none" and options.scale_lr == "none":
        rate = min(4e-3, rate * options.batch_size / RATE_IMAGES)
    # Its steps have the size of the rate whatever the gradients (Chen et al. 2023, section 5).
    return rate / 5 if options.optimizer == "lion" else rate


def step_rate(options):
    """The highest learning rate of the steps, from a training's resolved options.

    Linear scaling: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1.
    """
    scale = options.batch_size / RATE_IMAGES if options.scale_lr == "linear" else 1
    return options.learning_rate * scale
