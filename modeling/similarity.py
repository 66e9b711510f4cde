"""How similar an image is to what a classifier has learned from: a second output beside its head.

A class that was never seen has features unlike those of the photos learned from, whatever
probabilities the head gives it (Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest
Neighbors", section 3). The photos are summed up by a few centers per class, which tell as much as
all of them (`benchmarks/unseen.py`) and are a small table in the graph of every exported format.
What fine-tuning has narrowed down to the classes is wider in the layers before, so both count.
"""

import keras
import numpy as np

from common.nearest import unit_rows
from modeling.feature_model import POOL
from modeling.layer_names import SIMILARITY_LAYER

CENTERS_PER_CLASS = 10
MOST_VALUES = 2**21  # in the table of centers: 8 MB


@keras.saving.register_keras_serializable(package="toolkit")
class JointFeatures(keras.layers.Layer):
    """Features of several layers side by side, each with the same weight.

    Call:
        features: list of K float tensors (B, D) or maps (B, H, W, D), which are averaged; returns
            float32 (B, sum of D), rows of unit length: each of the K has the length sqrt(1 / K).

    Example:
        >>> JointFeatures()([np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]])])
        [[0.424, 0.566, 0.0, 0.707]]
    """

    def call(self, features):
        parts = []
        for values in features:
            values = keras.ops.cast(values, "float32")
            if len(values.shape) == 4:
                values = keras.ops.mean(values, axis=(1, 2))
            squares = keras.ops.sum(keras.ops.square(values), axis=-1, keepdims=True)
            parts.append(
                values * keras.ops.rsqrt(len(features) * keras.ops.maximum(squares, 1e-12))
            )
        return keras.ops.concatenate(parts, axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], sum(shape[-1] for shape in input_shape))


@keras.saving.register_keras_serializable(package="toolkit")
class CenterSimilarity(keras.layers.Layer):
    """The largest cosine between features and one of some centers.

    Args:
        center_count: int R, number of centers.

    Call:
        features: float32 (B, D), rows of unit length; returns float32 (B, 1), -1 to 1.

    Weights:
        centers: float32 (D, R), columns of unit length, not trainable.

    Example:
        >>> layer = CenterSimilarity(2)
        >>> layer.build((None, 3))
        >>> layer.set_weights([np.array([[1, 0], [0, 1], [0, 0]])])
        >>> layer(np.array([[0.6, 0.8, 0.0]]))
        [[0.8]]
    """

    def __init__(self, center_count, **arguments):
        super().__init__(**arguments)
        self.center_count = center_count

    def build(self, input_shape):
        self.centers = self.add_weight(
            shape=(input_shape[-1], self.center_count), name="centers", trainable=False
        )

    def call(self, features):
        return keras.ops.max(keras.ops.matmul(features, self.centers), axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 1)

    def get_config(self):
        return {**super().get_config(), "center_count": self.center_count}


def joint_features(model):
    """The features of a classifier that are compared, as a symbolic tensor.

    They are those that its head takes, and the mean of its last sum of branches, where it has one.

    Args:
        model: a Keras model of `build_model`.

    Returns:
        `keras.KerasTensor`, float32 (B, D), rows of unit length.
    """
    outputs = [model.get_layer(POOL).output]
    maps = [
        layer.output
        for layer in model.layers
        if isinstance(layer, keras.layers.Add) and len(layer.output.shape) == 4
    ]
    layer = JointFeatures(dtype="float32", name=f"{SIMILARITY_LAYER}_features")
    return layer(outputs + maps[-1:])


def find_centers(features, class_ids):
    """Sums features up by a few centers per class, by k-means on directions.

    Args:
        features: float (N, D), of photos learned from.
        class_ids: int (N,).

    Returns:
        float32 (R, D), rows of unit length: at most `CENTERS_PER_CLASS` of each class, fewer
        where they would be more than `MOST_VALUES` values; None where even one would be.

    Example:
        >>> find_centers(features, class_ids).shape  # of 480 photos of 6 classes
        (60, 1280)
    """
    from sklearn.cluster import KMeans

    units = unit_rows(features, np.float32)
    present = np.unique(class_ids)
    most = min(CENTERS_PER_CLASS, MOST_VALUES // (len(present) * units.shape[1]))
    if not most:
        return None
    parts = []
    for class_id in present:
        own = units[class_ids == class_id]
        count = min(most, len(np.unique(own, axis=0)))
        parts.append(KMeans(count, n_init=1, random_state=0).fit(own).cluster_centers_)
    return unit_rows(np.concatenate(parts), np.float32)


def with_similarity(model, centers):
    """Gives a classifier the similarity as a second output.

    Args:
        model: a Keras model of `build_model`, uint8 (B, S, S, 3) to float32 (B, C).
        centers: float32 (R, D), rows of unit length.

    Returns:
        `keras.Model` from the same images to [float32 (B, C), float32 (B, 1)]; it shares the
        classifier's layers.
    """
    layer = CenterSimilarity(len(centers), dtype="float32", name=SIMILARITY_LAYER)
    similarity = layer(joint_features(model))
    layer.set_weights([np.asarray(centers, np.float32).T])
    return keras.Model(model.input, [model.output, similarity])
