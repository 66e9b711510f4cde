"""The part of a classifier that turns images into features: everything but its head."""

import hashlib

import keras
import numpy as np

POOL = "pool"  # the layer whose output are a classifier's features


def cut_head(model):
    """Cuts a classifier into what computes features and what makes probabilities of them.

    Args:
        model: a Keras model of `build_model`.

    Returns:
        (body, head): `keras.Model`s from uint8 (B, S, S, 3) to features (B, D), and from those to
        probabilities (B, C); they share the classifier's layers.

    Example:
        >>> body, _ = cut_head(build_model(Architecture("EfficientNetLite0", 224), 6, "imagenet"))
        >>> body.predict(np.zeros((1, 224, 224, 3), np.uint8)).shape
        (1, 1280)
    """
    features = model.get_layer(POOL).output
    return keras.Model(model.input, features), keras.Model(features, model.output)


def weights_digest(model, graph):
    """What tells a model from all others.

    Args:
        model: a Keras model.
        graph: str, what its layers do that have no weights.

    Returns:
        str, SHA-256 of that and of all weights in their order, 64 hexadecimal digits.
    """
    digest = hashlib.sha256(graph.encode())
    for variable in model.weights:
        digest.update(np.ascontiguousarray(np.asarray(variable.value)).tobytes())
    return digest.hexdigest()
