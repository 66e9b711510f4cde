"""`build_model`: the one place where backbone, attention, pooling and head meet."""

import re

import keras
from keras import layers

from bilinear_pooling import BilinearPooling, CompactBilinearPooling, GeMPooling
from CBAM import CBAM
from common.errors import InputError
from efficientnet import VARIANTS, lite_packages
from efficientnet.model import efficientnet
from Groupnormalization import to_group_normalization
from modeling import backbones, weight_download, weight_files
from modeling.layer_names import HEAD_LAYERS, NEIGHBOURS, PREDICTIONS, SQUEEZE_LAYERS, UNIT_LENGTH

COSINE_HEADS = ("prototype", "neighbours")
MAX_HEAD_PARAMETERS = 100_000_000  # a file of 400 MB for the head alone


def build_model(architecture, classes, weights="none"):
    """Builds a classifier.

    Args:
        architecture: `Architecture`.
        classes: int, number of classes C, 1 or more.
        weights: str, "imagenet" for pretrained weights of the backbone, "none" for random
            ones, or the path of a weight file; layers after the backbone that the file does
            not have keep their random weights.

    Returns:
        Functional `keras.Model` from uint8 (B, S, S, 3), RGB in 0-255, named "input_img", to
        float32 probabilities (B, C). The layers after the backbone have the names in
        `layer_names.HEAD_LAYERS`, the last of them "predictions".

    Raises:
        InputError: the weight file does not fit; the package with the weights is not installed;
            the head has too many parameters.
        RunError: the ImageNet weights cannot be downloaded.

    Example:
        >>> model = build_model(Architecture("EfficientNetB0", 224), classes=6)
        >>> model.predict(np.zeros((1, 224, 224, 3), np.uint8)).shape
        (1, 6)
    """
    input_size = architecture.input_size
    inputs = keras.Input((input_size, input_size, 3), dtype="uint8", name="input_img")
    x = _backbone_features(inputs, architecture, weights)
    if architecture.norm == "group":
        converted = to_group_normalization(keras.Model(inputs, x))
        inputs, x = converted.inputs[0], converted.outputs[0]
    if architecture.attention == "cbam":
        x = CBAM(name="attention")(x)
    x = _pool(x, architecture.pooling, architecture.bilinear_dim, classes)
    if architecture.dropout > 0:
        x = layers.Dropout(architecture.dropout, name="top_dropout")(x)
    outputs = _probabilities(x, architecture, classes)
    model_name = re.sub("[^A-Za-z0-9]+", "_", architecture.backbone)  # a preset can be a path
    model = keras.Model(inputs, outputs, name=model_name)
    _load_weights(model, architecture.backbone, weights)
    return model


def backbone_layers(model):
    """The layers of a model before its attention, pooling and head.

    Args:
        model: `keras.Model` of `build_model`.

    Returns:
        List of Keras layers, in the order of the graph.
    """
    return [layer for layer in model.layers if layer.name not in HEAD_LAYERS]


def _backbone_features(inputs, architecture, weights):
    """The last feature map of the backbone, Keras tensor (B, h, w, channels)."""
    backbone = architecture.backbone
    scaling = _scaling(architecture.normalize)
    if backbone in VARIANTS:
        return efficientnet(
            inputs,
            backbone,
            architecture.drop_connect,
            architecture.block_attention,
            scaling=scaling,
        )
    import other_model  # keras.applications costs time that an EfficientNet does not need

    if backbone.startswith(backbones.HUB):
        return other_model.hub_model(
            inputs, backbone, backbones.HUB, load_weights=weights == "imagenet", scaling=scaling
        )
    return other_model.other_model(
        inputs,
        backbone,
        backbones.find(backbone).family,
        SQUEEZE_LAYERS,
        drop_connect=architecture.drop_connect,
        scaling=scaling,
    )


def _scaling(normalize):
    """(scale, offset) lists of three floats that standardise pixels in 0-255, or None."""
    if normalize is None:
        return None
    means, deviations = normalize[:3], normalize[3:]
    return (
        [1 / deviation for deviation in deviations],
        [-mean / deviation for mean, deviation in zip(means, deviations)],
    )


def _load_weights(model, backbone, weights):
    if weights == "imagenet":
        if backbone.startswith(backbones.HUB):
            return  # KerasHub has loaded them with the preset
        if lite_packages.is_lite(backbone):
            layer_arrays = lite_packages.layer_arrays(backbone)
            weight_files.load_arrays(model, layer_arrays, f"the package of {backbone}", head=False)
            return
        weights = weight_download.fetch(backbone)
    if weights != "none":
        weight_files.load(model, weights, head=False)


def _pool(x, pooling, bilinear_dim, classes):
    """The feature map (B, h, w, channels) as one row of features per image."""
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="pool")(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="pool")(x)
    if pooling == "gem":
        return GeMPooling(name="pool")(x)
    if pooling == "compact_bilinear":
        return CompactBilinearPooling(name="pool")(x)
    channels = bilinear_dim or x.shape[-1]
    head_parameters = (channels**2 + 1) * classes
    if head_parameters > MAX_HEAD_PARAMETERS:
        largest_dim = _power_of_two_below((MAX_HEAD_PARAMETERS / classes) ** 0.5)
        raise InputError(
            f"--pooling bilinear: {channels} x {channels} features for {classes} classes make a "
            f"head of {head_parameters:,} parameters; at most {MAX_HEAD_PARAMETERS:,} are "
            f"allowed: give --bilinear_dim {largest_dim} or less, or use --pooling "
            "compact_bilinear"
        )
    if bilinear_dim:
        x = layers.Conv2D(bilinear_dim, 1, name="bilinear_conv")(x)
    return BilinearPooling(name="pool")(x)


def _probabilities(x, architecture, classes):
    """Features (B, D) as probabilities (B, C), by one of the heads."""
    # float32 whatever the policy: probabilities that differ by less than 2^-8 must stay apart.
    settings = {"dtype": "float32", "name": PREDICTIONS}
    if architecture.head not in COSINE_HEADS:
        return layers.Dense(classes, activation="softmax", **settings)(x)
    x = layers.UnitNormalization(dtype="float32", name=UNIT_LENGTH)(x)
    if architecture.head == "prototype":
        return layers.Dense(classes, activation="softmax", **settings)(x)
    votes = layers.Dense(
        architecture.neighbour_count, activation="softmax", dtype="float32", name=NEIGHBOURS
    )(x)
    return layers.Dense(classes, use_bias=False, **settings)(votes)


def _power_of_two_below(number):
    """The largest power of two that is at most `number`, and at least 1."""
    return 1 << (max(1, int(number)).bit_length() - 1)
