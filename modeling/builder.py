"""`build_model`: the one place where backbone, attention, pooling and head meet."""

import keras
from keras import layers

from bilinear_pooling import BilinearPooling, CompactBilinearPooling, GeMPooling
from CBAM import CBAM
from common.errors import InputError
from efficientnet import VARIANTS
from efficientnet.model import efficientnet
from Groupnormalization import to_group_normalization
from modeling import backbones, weight_files
from modeling.imagenet_weights import imagenet_file

MOST_HEAD_PARAMETERS = 100_000_000  # beyond that the head alone is a file of 400 MB
# Names of what follows the backbone
HEAD_LAYERS = (
    "squeeze_pool",
    *weight_files.SQUEEZE_LAYERS,
    "squeeze_scale",  # SEResNet50's, never pretrained
    "attention",
    "bilinear_conv",
    "pool",
    "top_dropout",
    weight_files.HEAD,
)


def build_model(
    backbone,
    classes,
    input_size,
    weights="none",
    dropout=0.2,
    drop_connect=0.2,
    attention="none",
    block_attention="se",
    pooling="avg",
    bilinear_dim=None,
    norm="batch",
    normalize=None,
):
    """Builds a classifier.

    Args:
        backbone: a key of `backbones.TABLE`, or hub:PRESET.
        classes: number of classes C.
        input_size: side S of the square input, in pixels.
        weights: "imagenet", "none" or the path of a weights file.
        dropout: share of features dropped before the head.
        drop_connect: stochastic depth of an EfficientNet (V2 too) or ConvNeXt.
        attention: "none" or "cbam", after the backbone.
        block_attention: "se", "cbam" or "none", inside the blocks of an EfficientNet.
        pooling: "avg", "max", "gem", "bilinear" or "compact_bilinear".
        bilinear_dim: channels that a 1x1 convolution leaves for "bilinear"; None is all.
        norm: "batch" or "group", the backbone's normalisation.
        normalize: means and standard deviations of red, green and blue, six numbers in 0-255,
            that scale the input; None is the backbone's own scaling.

    Returns:
        Functional model from uint8 (B, S, S, 3), RGB, 0-255, named "input_img",
        to float32 probabilities (B, C); its head is the layer "predictions", and
        what follows the backbone has the names of `HEAD_LAYERS`.

    Raises:
        InputError: a weights file that does not fit; a head of too many parameters.
        RunError: ImageNet's weights cannot be downloaded.
    """
    inputs = keras.Input((input_size, input_size, 3), dtype="uint8", name="input_img")
    scaling = None
    if normalize is not None:
        mean, deviation = normalize[:3], normalize[3:]
        scaling = [1 / each for each in deviation], [-m / d for m, d in zip(mean, deviation)]
    x = _features(inputs, backbone, drop_connect, block_attention, weights, scaling)
    if norm == "group":
        converted = to_group_normalization(keras.Model(inputs, x))
        inputs, x = converted.inputs[0], converted.outputs[0]
    if attention == "cbam":
        x = CBAM(name="attention")(x)
    x = _pool(x, pooling, bilinear_dim, classes)
    if dropout > 0:
        x = layers.Dropout(dropout, name="top_dropout")(x)
    # float32 whatever the policy: probabilities below 2^-8 of each other must stay apart.
    outputs = layers.Dense(classes, activation="softmax", dtype="float32", name=weight_files.HEAD)(
        x
    )
    model = keras.Model(inputs, outputs, name=backbone.replace(":", "_").replace("/", "_"))
    if weights == "imagenet":
        if backbone.startswith(backbones.HUB):
            return model  # the preset came with its weights
        weights = weight_files.fetch(backbone, *imagenet_file(backbone))
    if weights != "none":
        weight_files.load(model, weights, head=False)
    return model


def backbone_layers(model):
    """The layers of a model before its attention, pooling and head, in the graph's order."""
    return [layer for layer in model.layers if layer.name not in HEAD_LAYERS]


def _features(inputs, backbone, drop_connect, block_attention, weights, scaling):
    if backbone in VARIANTS:
        return efficientnet(inputs, backbone, drop_connect, block_attention, scaling=scaling)
    import other_model  # keras.applications costs time that an EfficientNet does not need

    if backbone.startswith(backbones.HUB):
        return other_model.hub_model(
            inputs, backbone.removeprefix(backbones.HUB), weights == "imagenet", scaling
        )
    return other_model.other_model(inputs, backbone, drop_connect, scaling)


def _pool(x, pooling, bilinear_dim, classes):
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="pool")(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="pool")(x)
    if pooling == "gem":
        return GeMPooling(name="pool")(x)
    if pooling == "compact_bilinear":
        return CompactBilinearPooling(name="pool")(x)
    channels = bilinear_dim or x.shape[-1]
    parameters = (channels**2 + 1) * classes
    if parameters > MOST_HEAD_PARAMETERS:
        raise InputError(
            f"--pooling bilinear: {channels} x {channels} features for {classes} classes make a "
            f"head of {parameters:,} parameters; allowed are {MOST_HEAD_PARAMETERS:,}: give "
            f"--bilinear_dim {_power_of_two_below((MOST_HEAD_PARAMETERS / classes) ** 0.5)} or "
            "less, or take --pooling compact_bilinear"
        )
    if bilinear_dim:
        x = layers.Conv2D(bilinear_dim, 1, name="bilinear_conv")(x)
    return BilinearPooling(name="pool")(x)


def _power_of_two_below(number):
    return 1 << (max(1, int(number)).bit_length() - 1)
