"""Group normalisation in the place of batch normalisation: no image depends on its batch.

Wu and He 2018, "Group Normalization". Batch normalisation measures badly with few
images a batch, which is what large inputs leave room for.
"""

import keras

from common.errors import InputError

# What the settings of both layers have in common; the axis is the last in both.
SHARED = (
    "name",
    "trainable",
    "dtype",
    "epsilon",
    "center",
    "scale",
    "beta_initializer",
    "gamma_initializer",
    "beta_regularizer",
    "gamma_regularizer",
    "beta_constraint",
    "gamma_constraint",
)


def groups_for(channels, groups=32):
    """Groups for a layer: the largest divisor of `channels` that is at most `groups`.

    Args:
        channels: channels of the layer, 1 or more.
        groups: most groups; the paper's 32.

    Raises:
        InputError: either is below 1.
    """
    if channels < 1:
        raise InputError(f"group normalisation: {channels} channels; allowed: 1 or more")
    if groups < 1:
        raise InputError(f"group normalisation: {groups} groups; allowed: 1 or more")
    return next(n for n in range(min(groups, channels), 0, -1) if channels % n == 0)


def to_group_normalization(model, groups=32):
    """Copies a model with group normalisation in the place of batch normalisation.

    Each BatchNormalization, in nested models too, becomes a GroupNormalization of the
    same name, epsilon, scale and shift, with the values of gamma and beta; the moving
    statistics go. All other layers keep their settings and the values of their weights.
    The copy is compiled as the model is.

    Args:
        model: a Functional model, channels last; stays as it is.
        groups: most groups of a layer; fewer where its channels do not divide by it.

    Returns:
        A model with weights of its own.

    Raises:
        InputError: a BatchNormalization over another axis than the last; `groups` below 1.
    """
    pairs = []

    def copy(layer):
        if not isinstance(layer, keras.layers.Layer):
            return layer  # a plain operation has no state to copy
        if isinstance(layer, keras.layers.BatchNormalization):
            made = _group_normalization(layer, groups)
        else:
            made = layer.__class__.from_config(layer.get_config())
        pairs.append((layer, made))
        return made

    copied = keras.models.clone_model(
        model, clone_function=copy, call_function=_call, recursive=True
    )
    for layer, made in pairs:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = [value for value in (layer.gamma, layer.beta) if value is not None]
            made.set_weights([keras.ops.convert_to_numpy(value) for value in values])
        else:
            made.set_weights(layer.get_weights())
    return copied


def _call(layer, *args, **settings):
    if isinstance(layer, keras.layers.GroupNormalization):
        # Recorded from the BatchNormalization's call; this layer has no use for them.
        settings = {key: settings[key] for key in settings if key not in ("mask", "training")}
    return layer(*args, **settings)


def _group_normalization(layer, groups):
    rank = layer.input_spec.ndim
    if layer.axis not in (-1, rank - 1):
        raise InputError(
            f"group normalisation: layer {layer.name!r} normalises axis {layer.axis}; "
            f"allowed: the last, {rank - 1}"
        )
    config = layer.get_config()
    channels = layer.moving_mean.shape[0]
    return keras.layers.GroupNormalization.from_config(
        {**{key: config[key] for key in SHARED}, "groups": groups_for(channels, groups)}
    )
