"""Convolutional block attention module: which channels matter, then which positions.

Woo et al. 2018, "CBAM: Convolutional Block Attention Module", section 3.
"""

import keras
from keras import ops

from common.errors import InputError


@keras.saving.register_keras_serializable(package="toolkit")
class CBAM(keras.layers.Layer):
    """Multiplies a feature map by a factor per channel, then by a factor per position.

    Channel attention (the paper's equation 2): one perceptron with a hidden layer and ReLU
    takes the mean and the maximum over all positions; the sigmoid of the sum of its two
    outputs gives a factor per channel. Spatial attention (equation 3): a convolution over the
    mean and the maximum of the channels, then a sigmoid, gives a factor per position. As in
    both equations, there are no biases.

    Input: (B, H, W, C), float. Output: the same shape and dtype.

    Args:
        reduction: int, 1 or more; the hidden layer has C // reduction units, at least 1. The
            paper's is 16.
        kernel: int, odd, 1 or more; side of the spatial convolution, in positions. The
            paper's is 7.
        **settings: arguments of `keras.layers.Layer`, for example `name`.

    Raises:
        InputError: `reduction` is below 1, or `kernel` is even or below 1.

    Example:
        >>> CBAM(reduction=16)(keras.Input((7, 7, 1280))).shape
        (None, 7, 7, 1280)
    """

    def __init__(self, reduction=16, kernel=7, **settings):
        super().__init__(**settings)
        if reduction < 1:
            raise InputError(f"CBAM: reduction is {reduction}; allowed: 1 or more")
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"CBAM: kernel is {kernel}; allowed: odd numbers, 1 or more")
        self.reduction = reduction
        self.kernel = kernel
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden_units = max(1, channels // self.reduction)
        # Weights of its own instead of layers inside: weight files are read one level deep.
        self.squeeze = self.add_weight(
            shape=(channels, hidden_units), initializer="glorot_uniform", name="squeeze"
        )
        self.excite = self.add_weight(
            shape=(hidden_units, channels), initializer="glorot_uniform", name="excite"
        )
        self.spatial = self.add_weight(
            shape=(self.kernel, self.kernel, 2, 1), initializer="glorot_uniform", name="spatial"
        )

    def call(self, inputs):
        x = inputs * self._channel_attention(inputs)
        return x * self._spatial_attention(x)

    def _channel_attention(self, x):
        pooled = ops.stack([ops.mean(x, (1, 2)), ops.max(x, (1, 2))], axis=1)  # (B, 2, C)
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
