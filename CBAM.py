"""Convolutional block attention module: which channels matter, then which places.

Woo et al. 2018, "CBAM: Convolutional Block Attention Module", section 3.
"""

import keras
from keras import ops

from common.errors import InputError


@keras.saving.register_keras_serializable(package="toolkit")
class CBAM(keras.layers.Layer):
    """Weighs a feature map by channel, then by place.

    Channel attention: a perceptron of one hidden layer with ReLU, the same for both,
    takes the mean and the maximum over all places; the sigmoid of the sum of its two
    outputs is a factor per channel. Spatial attention: a convolution over the mean and
    the maximum of the channels, then a sigmoid, is a factor per place. As in the
    paper's equations (2) and (3), neither has biases.

    Input (B, H, W, C), output of the same shape and dtype.

    Args:
        reduction: the hidden layer has C / reduction units, at least 1.
        kernel: odd side of the spatial convolution, in places of the feature map.

    Raises:
        InputError: `reduction` below 1, or `kernel` even or below 1.
    """

    def __init__(self, reduction=16, kernel=7, **settings):
        super().__init__(**settings)
        if reduction < 1:
            raise InputError(f"CBAM: reduction is {reduction}; allowed: 1 or more")
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"CBAM: kernel is {kernel}; allowed: an odd number from 1")
        self.reduction = reduction
        self.kernel = kernel
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = max(1, channels // self.reduction)
        # Weights of its own, not layers inside: weight files are read one level deep.
        self.squeeze = self.add_weight(
            shape=(channels, hidden), initializer="glorot_uniform", name="squeeze"
        )
        self.excite = self.add_weight(
            shape=(hidden, channels), initializer="glorot_uniform", name="excite"
        )
        self.spatial = self.add_weight(
            shape=(self.kernel, self.kernel, 2, 1), initializer="glorot_uniform", name="spatial"
        )

    def call(self, inputs):
        x = inputs * self._channel_attention(inputs)
        return x * self._spatial_attention(x)

    def _channel_attention(self, x):
        pooled = ops.stack([ops.mean(x, (1, 2)), ops.max(x, (1, 2))], axis=1)
        logits = ops.matmul(ops.relu(ops.matmul(pooled, self.squeeze)), self.excite)
        return ops.sigmoid(ops.sum(logits, axis=1))[:, None, None, :]

    def _spatial_attention(self, x):
        pooled = ops.concatenate(
            [ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)], axis=-1
        )
        return ops.sigmoid(
            ops.conv(pooled, self.spatial, padding="same", data_format="channels_last")
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction, "kernel": self.kernel}
