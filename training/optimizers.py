"""The optimizer of a training: its kind, schedule, decay, clipping, averaging."""

import keras

from warmup_cosine_decay_scheduler import WarmupCosineDecay

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
    learning_rate,
    steps,
    warmup_steps=0,
    weight_decay=0.0,
    clipnorm=0.0,
    accumulate=1,
    ema=0.0,
    rates=None,
    devices=False,
):
    """Makes an optimizer with a cosine rate after a linear warm-up.

    Args:
        kind: a key of `KINDS`.
        learning_rate: its highest value.
        steps, warmup_steps: of the schedule; steps whose gradients are only
            accumulated count too.
        weight_decay: decoupled, for the kinds of `DECAYED`, not on biases and norms.
        clipnorm: largest norm of all gradients together; 0 is off.
        accumulate: steps whose gradients make one update.
        ema: momentum of the moving average of the weights; 0 is off.
        rates: dict of a variable's path -> factor on its learning rate, or None.
        devices: whether it computes under a `tf.distribute` strategy.
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
    schedule = WarmupCosineDecay(learning_rate, total_steps=steps, warmup_steps=warmup_steps)
    made = _with_rates(KINDS[kind], rates) if rates else KINDS[kind]
    if devices and clipnorm:
        made = _clipping_together(made)
    optimizer = made(schedule, **settings)
    if kind in DECAYED:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _with_rates(kind, rates):
    """The optimizer class with a learning rate of its own for each variable.

    Scaling the gradients instead would change nothing: most of these optimizers
    divide by the gradients' size.
    """

    class WithRates(kind):
        def update_step(self, gradient, variable, learning_rate):
            # On TensorFlow `variable` is not Keras's own and has no path.
            path = self._trainable_variables[self._get_variable_index(variable)].path
            super().update_step(gradient, variable, learning_rate * rates.get(path, 1.0))

    WithRates.__name__ = kind.__name__
    return WithRates


def _clipping_together(kind):
    """The optimizer class clipping what the devices' gradients add up to.

    Keras clips each device's part before it adds them up.
    """
    import tensorflow as tf

    class ClippingTogether(kind):
        def _clip_gradients(self, gradients):
            replica = tf.distribute.get_replica_context()
            whole = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            clipped = super()._clip_gradients(whole)
            # The update adds the devices' up again.
            return [gradient / replica.num_replicas_in_sync for gradient in clipped]

    ClippingTogether.__name__ = kind.__name__
    return ClippingTogether


def layer_rates(layers, decay):
    """Layer-wise learning rates of a backbone (Bao et al. 2022, BEiT, appendix).

    The layers with weights, in the graph's order, form at most `GROUPS` groups of
    equal size; the last has the rate times `decay`, the one before times `decay`
    squared, and so on to the input.

    Args:
        layers: list of Keras layers, built.
        decay: factor from a group to the one before it, above 0, at most 1.

    Returns:
        Dict of a variable's path -> factor.
    """
    weighty = [layer for layer in layers if layer.trainable_weights]
    rates = {}
    for number, layer in enumerate(weighty):
        group = number * GROUPS // len(weighty)
        for variable in layer.trainable_weights:
            rates[variable.path] = decay ** (GROUPS - group)
    return rates
