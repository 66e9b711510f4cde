"""`build_model`: the one place where backbone, pooling and head meet."""

import keras
from keras import layers

import pretrained
from efficientnet.model import efficientnet
from efficientnet.weights import imagenet_file


def build_model(
    backbone, classes, input_size, weights="none", dropout=0.2, drop_connect=0.2
):
    """Builds a classifier.

    Args:
        backbone: a key of `efficientnet.VARIANTS`.
        classes: number of classes C.
        input_size: side S of the square input, in pixels.
        weights: "imagenet", "none" or the path of a weights file.
        dropout: share of features dropped before the head.
        drop_connect: stochastic depth of the backbone.

    Returns:
        Functional model from uint8 (B, S, S, 3), RGB, 0-255, named "input_img",
        to float32 probabilities (B, C); its head is the layer "predictions".

    Raises:
        InputError: a weights file that does not fit.
        RunError: ImageNet's weights cannot be downloaded.
    """
    inputs = keras.Input((input_size, input_size, 3), dtype="uint8", name="input_img")
    x = efficientnet(inputs, backbone, drop_connect)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if dropout > 0:
        x = layers.Dropout(dropout, name="top_dropout")(x)
    # float32 whatever the policy: probabilities below 2^-8 of each other must stay apart.
    outputs = layers.Dense(
        classes, activation="softmax", dtype="float32", name=pretrained.HEAD
    )(x)
    model = keras.Model(inputs, outputs, name=backbone)
    if weights == "imagenet":
        weights = pretrained.fetch(backbone, *imagenet_file(backbone))
    if weights != "none":
        pretrained.load(model, weights, head=False)
    return model
