"""Where in an image a model saw a class.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", section 3, equations 1 and 2. TensorFlow only.
"""

import keras
import numpy as np
import tensorflow as tf

from modeling import layer_names

BATCH = 8  # images at once: large inputs need memory


def grad_cam(model, images, classes):
    """The places of the last feature map that speak for a class.

    The map is what pooling takes, after attention and the channels of --bilinear_dim. The score
    is the class's before the softmax, as in the paper: the probability's own gradient nearly
    vanishes where the model is sure, which is where one asks.

    Args:
        model: as `builder.build_model` gives it.
        images: uint8 (N, S, S, 3), RGB.
        classes: int (N,), the class id to explain for each image.

    Returns:
        float32 (N, h, w), 0 to 1, of the feature map's size. The highest place of an image has
        1; an image where nothing speaks for the class has zeros.
    """
    features = model.get_layer("pool").input
    body = keras.Model(model.input, features)
    top = model.get_layer(layer_names.PREDICTIONS)
    middle = keras.Model(features, top.input)
    parts = []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        maps = body(images[part], training=False)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(maps)
            rows = tf.cast(middle(maps, training=False), tf.float32)
            scores = tf.linalg.matmul(rows, top.kernel) + top.bias
            own = tf.gather(scores, classes[part], axis=1, batch_dims=1)
        # An image's score depends on no other image, so the sum's gradient is each one's own.
        gradients = tape.gradient(own, maps)
        importance = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        parts.append(tf.nn.relu(tf.reduce_sum(importance * maps, axis=-1)).numpy())
    heat = np.concatenate(parts).astype(np.float32)
    most = heat.max(axis=(1, 2), keepdims=True)
    return heat / np.where(most > 0, most, 1)
