"""Where in an image a model saw a class.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", section 3, equations 1 and 2. TensorFlow only.
"""

import keras
import numpy as np
import tensorflow as tf

from modeling import layer_names

TINY = 1e-30  # below any vote that counts, within float32
BATCH = 8  # images at once: large inputs need memory


def grad_cam(model, images, class_ids):
    """The regions of the last feature map that increase the score of a class.

    The map is the input of pooling, after attention and the channels of --bilinear_dim. The
    score is the class's before the softmax, as in the paper: the gradient of the probability
    nearly vanishes where the model is confident, which is where an explanation is wanted.

    Args:
        model: Keras model of `builder.build_model`.
        images: uint8 (N, S, S, 3), RGB.
        class_ids: int (N,), the class to explain for each image.

    Returns:
        float32 (N, h, w), 0 to 1, of the feature map's size. The maximum of an image is 1; an
        image where nothing increases the score has zeros.

    Example:
        >>> grad_cam(model, images, model.predict(images).argmax(axis=1)).shape
        (8, 7, 7)
    """
    feature_map = model.get_layer("pool").input
    body = keras.Model(model.input, feature_map)
    head = model.get_layer(layer_names.PREDICTIONS)
    pooling = keras.Model(feature_map, head.input)
    heat_maps = []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        features = body(images[part], training=False)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            pooled = tf.cast(pooling(features, training=False), tf.float32)
            scores = tf.linalg.matmul(pooled, head.kernel)
            if head.bias is None:  # votes of neighbours, which are probabilities already
                scores = tf.math.log(tf.maximum(scores, TINY))
            else:
                scores += head.bias
            class_scores = tf.gather(scores, class_ids[part], axis=1, batch_dims=1)
        # An image's score depends on no other image, so the gradient of the sum is each image's.
        gradients = tape.gradient(class_scores, features)
        importance = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        heat_maps.append(tf.nn.relu(tf.reduce_sum(importance * features, axis=-1)).numpy())
    heat_map = np.concatenate(heat_maps).astype(np.float32)
    maximum = heat_map.max(axis=(1, 2), keepdims=True)
    return heat_map / np.where(maximum > 0, maximum, 1)
