"""Pooling layers that keep more of a feature map than each channel's mean.

Bilinear pooling keeps the products of all pairs of channels, compact bilinear pooling
approximates them in fewer numbers, and GeM pooling lies between mean and maximum. All compute
in float32 whatever the dtype policy, because products and powers of half-precision features
overflow; their output has the policy's compute dtype.
"""

import keras
import numpy as np
from keras import ops

from common.errors import InputError

# The slope of a signed square root is infinite at 0; that of x / sqrt(|x| + ROOT_EPSILON) is
# 1000 there, and the two differ by 0.5 % at 1e-4 and by less above.
ROOT_EPSILON = 1e-6
NORM_EPSILON = 1e-12  # smallest squared norm to divide by: a map of zeros stays zeros
GEM_EPSILON = 1e-6  # smaller values are raised to this: negative ones have no power p


def _normalize(x):
    """Signed square root of each entry, then L2 normalization of each row (B, D)."""
    x = x / ops.sqrt(ops.abs(x) + ROOT_EPSILON)
    squared_norm = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squared_norm, NORM_EPSILON))


def _flatten_positions(x):
    """(B, H, W, C) of any dtype as float32 (B, H * W, C)."""
    shape = ops.shape(x)
    return ops.reshape(ops.cast(x, "float32"), (-1, shape[1] * shape[2], shape[3]))


@keras.saving.register_keras_serializable(package="toolkit")
class BilinearPooling(keras.layers.Layer):
    """Mean over all positions of the outer product of the channels with themselves.

    Followed by a signed square root and L2 normalization. Lin et al. 2015, "Bilinear CNN
    Models for Fine-grained Visual Recognition", section 3.

    Input: (B, H, W, C), float. Output: (B, C * C), rows with an L2 norm of 1. That is 1.6
    million numbers per image for EfficientNetB0, so a dense layer on them is large.

    Args:
        **settings: arguments of `keras.layers.Layer`, for example `name`.

    Example:
        >>> BilinearPooling()(keras.Input((7, 7, 64))).shape
        (None, 4096)
    """

    def __init__(self, **settings):
        super().__init__(**settings)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs):
        x = _flatten_positions(inputs)
        products = ops.matmul(ops.transpose(x, (0, 2, 1)), x)
        products = products / ops.cast(ops.shape(x)[1], "float32")
        pooled = ops.reshape(products, (-1, inputs.shape[-1] ** 2))
        return ops.cast(_normalize(pooled), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1] ** 2)


@keras.saving.register_keras_serializable(package="toolkit")
class CompactBilinearPooling(keras.layers.Layer):
    """Bilinear pooling approximated in `dim` numbers, by Tensor Sketch.

    The dot product of two outputs of `sketch` approximates that of the outer products which
    `BilinearPooling` averages, with a variance that falls as 1 / dim. A signed square root and
    L2 normalization follow. Gao et al. 2016, "Compact Bilinear Pooling", section 3 and
    algorithm 2; Pham and Pagh 2013, "Fast and Scalable Polynomial Kernels via Explicit Feature
    Maps".

    Input: (B, H, W, C), float. Output: (B, dim), rows with an L2 norm of 1. The layer has no
    weights: its hashes are a function of (C, dim, seed), so weight files need not contain them.
    Training keeps about 8 * B * H * W * dim float32 numbers until the backward pass.

    Args:
        dim: int, length of the output, 1 or more.
        seed: int, seed of the hashes, 0 or more.
        **settings: arguments of `keras.layers.Layer`, for example `name`.

    Raises:
        InputError: `dim` is below 1, or `seed` below 0.

    Example:
        >>> CompactBilinearPooling(dim=8192)(keras.Input((7, 7, 1280))).shape
        (None, 8192)
    """

    def __init__(self, dim=8192, seed=0, **settings):
        super().__init__(**settings)
        if dim < 1:
            raise InputError(f"CompactBilinearPooling: dim is {dim}; allowed: 1 or more")
        if seed < 0:
            raise InputError(f"CompactBilinearPooling: seed is {seed}; allowed: 0 or more")
        self.dim = dim
        self.seed = seed
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        # The raw stream of a bit generator: NumPy may change what a Generator draws between
        # releases, and a network trained with other hashes would be useless.
        random_bits = np.random.PCG64(self.seed).random_raw((2, input_shape[-1]))
        self.hashes = ((random_bits >> np.uint64(32)) % np.uint64(self.dim)).astype(np.int32)
        self.signs = np.where(random_bits & np.uint64(1), 1, -1).astype(np.float32)

    def call(self, inputs):
        return ops.cast(_normalize(self.sketch(inputs)), self.compute_dtype)

    def sketch(self, inputs):
        """Mean over all positions of each position's Tensor Sketch, not normalized.

        Args:
            inputs: (B, H, W, C), float, with the C that the layer was built for.

        Returns:
            float32 (B, dim).
        """
        # The circular convolution of count sketches a and b is half of the imaginary part
        # of that of z = a + ib with itself: one complex transform per position, not two. Its
        # squares are summed over positions before the only inverse transform.
        shape = ops.shape(inputs)
        position_count = shape[1] * shape[2]
        channel_rows = ops.transpose(ops.reshape(ops.cast(inputs, "float32"), (-1, shape[3])))
        count_sketches = tuple(
            # Whole rows are added this way: far faster than scattering single numbers.
            ops.transpose(ops.segment_sum(channel_rows * channel_signs[:, None], slots, self.dim))
            for slots, channel_signs in zip(self.hashes, self.signs)
        )
        real, imaginary = (
            ops.reshape(part, (-1, position_count, self.dim)) for part in ops.fft(count_sketches)
        )
        square_real = ops.sum(ops.square(real), axis=1) - ops.sum(ops.square(imaginary), axis=1)
        square_imaginary = 2 * ops.sum(real * imaginary, axis=1)
        # Keras has no inverse transform in one dimension: it is the conjugate of the
        # transform of the conjugate, divided by its length.
        conjugate = ops.fft((square_real, -square_imaginary))[1]
        return conjugate / (-2 * self.dim * ops.cast(position_count, "float32"))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.dim)

    def get_config(self):
        return {**super().get_config(), "dim": self.dim, "seed": self.seed}


@keras.saving.register_keras_serializable(package="toolkit")
class GeMPooling(keras.layers.Layer):
    """Generalized mean over all positions: (mean of x^p)^(1/p) per channel.

    p = 1 gives the mean, and the limit for large p is the maximum; p is trained, starts at 3
    and is the same for all channels. Values below 1e-6 are raised to 1e-6. Radenovic et al.
    2018, "Fine-tuning CNN Image Retrieval with No Human Annotation", section 3.2.

    Input: (B, H, W, C), float. Output: (B, C), 1e-6 or more.

    Args:
        **settings: arguments of `keras.layers.Layer`, for example `name`.

    Example:
        >>> GeMPooling()(keras.Input((7, 7, 1280))).shape
        (None, 1280)
    """

    def __init__(self, **settings):
        super().__init__(**settings)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        self.p = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(3.0),
            name="p",
            dtype="float32",
            autocast=False,
        )

    def call(self, inputs):
        x = ops.maximum(ops.cast(inputs, "float32"), GEM_EPSILON)
        # Divided by the largest value no power overflows, nor do all of them vanish. The
        # result does not depend on this value, so it needs no gradient.
        max_value = ops.stop_gradient(ops.max(x, axis=(1, 2), keepdims=True))
        mean_power = ops.mean(ops.power(x / max_value, self.p), axis=(1, 2))
        pooled = ops.power(mean_power, 1 / self.p) * max_value[:, 0, 0]
        return ops.cast(pooled, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])
