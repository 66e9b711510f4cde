"""The optimizer of a training: its kind, schedule, decay, clipping, averaging."""

import keras

from compute.keras_patches import with_clipping_of_the_sum, with_learning_rate_factors

KINDS = {
    "adafactor": keras.optimizers.Adafactor,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "lamb": keras.optimizers.Lamb,
    "lion": keras.optimizers.Lion,
    "muon": keras.optimizers.Muon,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
DECAYED = ("adamw", "lamb", "lion", "muon", "sgd")  # those that `weight_decay` is for
GROUPS = 12  # of a backbone's layers under layer-wise decay, as ConvNeXt's fine-tuning has


def make_optimizer(
    kind,
    schedule,
    *,
    weight_decay=0.0,
    clipnorm=0.0,
    accumulate=1,
    ema=0.0,
    factors=None,
    several_devices=False,
):
    """Makes an optimizer.

    Args:
        kind: str, a key of `KINDS`.
        schedule: float or a Keras `LearningRateSchedule`; steps whose gradients are only
            accumulated count too.
        weight_decay: float, decoupled, for the kinds of `DECAYED`, not on biases and norms.
        clipnorm: float, largest norm of all gradients together; 0 is off.
        accumulate: int, steps whose gradients make one update.
        ema: float, momentum of the moving average of the weights; 0 is off.
        factors: dict of a variable's path -> factor on its learning rate, or None.
        several_devices: bool, whether it computes under a `tf.distribute` strategy.

    Returns:
        `keras.optimizers.Optimizer`.

    Example:
        >>> make_optimizer("adamw", 1e-3, weight_decay=0.01, clipnorm=1.0)
    """
    settings = {"clipnorm": None, "global_clipnorm": clipnorm or None}
    if accumulate > 1:
        settings["gradient_accumulation_steps"] = accumulate
    if ema:
        settings.update(use_ema=True, ema_momentum=ema)
    if kind in DECAYED:
        settings["weight_decay"] = weight_decay
    if kind == "sgd":
        settings.update(momentum=0.9, nesterov=True)
    if kind == "muon":
        settings["exclude_layers"] = ["predictions"]  # its method is for hidden layers
    optimizer_class = KINDS[kind]
    if factors:
        optimizer_class = with_learning_rate_factors(optimizer_class, factors)
    if several_devices and clipnorm:
        optimizer_class = with_clipping_of_the_sum(optimizer_class)
    optimizer = optimizer_class(schedule, **settings)
    if kind in DECAYED:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def layer_factors(layers, decay):
    """Factors for layer-wise learning rates of a backbone (Bao et al. 2022, BEiT, appendix).

    The layers with weights, in the graph's order, form at most `GROUPS` groups of equal size;
    the last one has the rate times `decay`, the one before times `decay` squared, and so on to
    the input. A layer inside another, as in KerasHub's backbones, counts by itself.

    Args:
        layers: list of Keras layers, built.
        decay: float, factor from a group to the one before it, above 0, at most 1.

    Returns:
        dict of a variable's path -> factor on its learning rate.
    """
    paths = [variable.path for layer in layers for variable in layer.trainable_weights]
    # A variable's path begins with that of the layer that owns it.
    layer_paths = list(dict.fromkeys(path.rpartition("/")[0] for path in paths))
    factors = {}
    for path in paths:
        layer_index = layer_paths.index(path.rpartition("/")[0])
        factors[path] = decay ** (GROUPS - layer_index * GROUPS // len(layer_paths))
    return factors
