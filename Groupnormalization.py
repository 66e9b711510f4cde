"""Group normalization in place of batch normalization: no image depends on its batch.

Wu and He 2018, "Group Normalization". The statistics of batch normalization are too noisy with
few images per batch, and large inputs leave room for few.
"""

import keras

from common.errors import InputError

# Settings that both layers have, with the same meaning; both normalize the last axis.
SHARED_SETTINGS = (
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
    """The number of groups for a layer: the largest divisor of `channels` up to `groups`.

    Args:
        channels: int, channels of the layer, 1 or more.
        groups: int, the largest number allowed, 1 or more; 32 is the paper's.

    Returns:
        int.

    Raises:
        InputError: `channels` or `groups` is below 1.

    Example:
        >>> groups_for(40)
        20
    """
    if channels < 1:
        raise InputError(f"group normalization: {channels} channels; allowed: 1 or more")
    if groups < 1:
        raise InputError(f"group normalization: {groups} groups; allowed: 1 or more")
    candidates = range(min(groups, channels), 0, -1)
    return next(count for count in candidates if channels % count == 0)


def to_group_normalization(model, groups=32):
    """Copies a model with group normalization in place of batch normalization.

    Each BatchNormalization, in nested models too, becomes a GroupNormalization with the same
    name, epsilon and values of gamma and beta; the moving statistics are dropped. All other
    layers keep their settings and the values of their weights. If the model is compiled, the
    copy is compiled in the same way.

    Args:
        model: Functional `keras.Model`, channels last; is not changed.
        groups: int, the largest number of groups per layer, 1 or more; a layer whose channels
            are not a multiple of it gets fewer.

    Returns:
        `keras.Model` with weights of its own.

    Raises:
        InputError: a BatchNormalization normalizes another axis than the last; `groups` is
            below 1.

    Example:
        >>> model = to_group_normalization(keras.applications.ResNet50(weights=None))
    """
    layer_pairs = []

    def copy_layer(layer):
        if not isinstance(layer, keras.layers.Layer):
            return layer  # a plain operation has no state to copy
        if isinstance(layer, keras.layers.BatchNormalization):
            layer_copy = _group_normalization(layer, groups)
        else:
            layer_copy = layer.__class__.from_config(layer.get_config())
        layer_pairs.append((layer, layer_copy))
        return layer_copy

    model_copy = keras.models.clone_model(
        model, clone_function=copy_layer, call_function=_call_layer, recursive=True
    )
    for layer, layer_copy in layer_pairs:
        if isinstance(layer, keras.layers.BatchNormalization):
            variables = [variable for variable in (layer.gamma, layer.beta) if variable is not None]
            layer_copy.set_weights([keras.ops.convert_to_numpy(value) for value in variables])
        else:
            layer_copy.set_weights(layer.get_weights())
    return model_copy


def _call_layer(layer, *args, **kwargs):
    if isinstance(layer, keras.layers.GroupNormalization):
        # Recorded from the call of the BatchNormalization; this layer does not take them.
        kwargs = {key: kwargs[key] for key in kwargs if key not in ("mask", "training")}
    return layer(*args, **kwargs)


def _group_normalization(layer, groups):
    """The GroupNormalization, without weights yet, that replaces a BatchNormalization."""
    last_axis = layer.input_spec.ndim - 1
    if layer.axis not in (-1, last_axis):
        raise InputError(
            f"group normalization: layer {layer.name!r} normalizes axis {layer.axis}; "
            f"allowed: the last, {last_axis}"
        )
    config = layer.get_config()
    settings = {key: config[key] for key in SHARED_SETTINGS}
    channels = layer.moving_mean.shape[0]
    return keras.layers.GroupNormalization.from_config(
        {**settings, "groups": groups_for(channels, groups)}
    )
