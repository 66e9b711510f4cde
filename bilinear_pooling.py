"""Poolings of a feature map that keep more than each channel's mean.

Bilinear pooling keeps how channels go together, compact bilinear pooling the same in
fewer numbers, GeM pooling something between mean and maximum. All compute in float32
whatever the policy, because products and powers of half-precision features overflow,
and give the policy's compute dtype.
"""

import keras
import numpy as np
from keras import ops

from common.errors import InputError

# The slope of a signed square root is infinite at 0; x / sqrt(|x| + ROOT_EPSILON) has
# 1000 there, and differs from it by 0.5 % at 1e-4 and by less above.
ROOT_EPSILON = 1e-6
NORM_EPSILON = 1e-12  # smallest squared length to divide by: a map of zeros stays zeros
GEM_EPSILON = 1e-6  # what is below counts as this: powers of negative numbers do not exist


def _normalize(x):
    """Signed square root of each entry, then each row (B, D) to length 1."""
    x = x / ops.sqrt(ops.abs(x) + ROOT_EPSILON)
    length = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(length, NORM_EPSILON))


def _rows(x):
    """(B, H, W, C) of any dtype as float32 (B, H * W, C)."""
    shape = ops.shape(x)
    return ops.reshape(ops.cast(x, "float32"), (-1, shape[1] * shape[2], shape[3]))


@keras.saving.register_keras_serializable(package="toolkit")
class BilinearPooling(keras.layers.Layer):
    """Mean over all places of the outer product of the channels with themselves.

    Then a signed square root and division by the length. Lin et al. 2015, "Bilinear CNN
    Models for Fine-grained Visual Recognition", section 3.

    Input (B, H, W, C), output (B, C * C), rows of length 1: 1.6 million numbers an
    image for EfficientNetB0, so a dense layer on them is large.
    """

    def __init__(self, **settings):
        super().__init__(**settings)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs):
        x = _rows(inputs)
        products = ops.matmul(ops.transpose(x, (0, 2, 1)), x)
        products = products / ops.cast(ops.shape(x)[1], "float32")
        pooled = ops.reshape(products, (-1, inputs.shape[-1] ** 2))
        return ops.cast(_normalize(pooled), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1] ** 2)


@keras.saving.register_keras_serializable(package="toolkit")
class CompactBilinearPooling(keras.layers.Layer):
    """Bilinear pooling in `dim` numbers, by Tensor Sketch.

    The products of two outputs before root and length approximate those of
    `BilinearPooling`, with a variance that falls as 1 / dim. Gao et al. 2016, "Compact
    Bilinear Pooling", section 3 and algorithm 2; Pham and Pagh 2013, "Fast and Scalable
    Polynomial Kernels via Explicit Feature Maps".

    Input (B, H, W, C), output (B, dim), rows of length 1. No weights: the hashes are a
    function of (C, dim, seed), so weight files need not hold them. Training keeps about
    8 * B * H * W * dim float32 numbers until the backward pass.

    Args:
        dim: numbers of the output.
        seed: start of the hashes, 0 or more.

    Raises:
        InputError: `dim` below 1 or `seed` below 0.
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
        # The raw stream of a bit generator: NumPy may change a Generator's draws between
        # releases, and a network trained with other hashes would be useless.
        raw = np.random.PCG64(self.seed).random_raw((2, input_shape[-1]))
        self.hashes = ((raw >> np.uint64(32)) % np.uint64(self.dim)).astype(np.int32)
        self.signs = np.where(raw & np.uint64(1), 1, -1).astype(np.float32)

    def call(self, inputs):
        return ops.cast(_normalize(self.sketch(inputs)), self.compute_dtype)

    def sketch(self, inputs):
        """Mean over all places of each place's Tensor Sketch; no root, no length.

        Args:
            inputs: (B, H, W, C), with the C that the layer was built for.

        Returns:
            float32 (B, dim).
        """
        # The circular convolution of count sketches a and b is half of the imaginary part
        # of that of z = a + ib with itself: one complex transform a place, not two. Its
        # squares are added up over places before the only inverse transform.
        shape = ops.shape(inputs)
        places = shape[1] * shape[2]
        columns = ops.transpose(ops.reshape(ops.cast(inputs, "float32"), (-1, shape[3])))
        counts = tuple(
            # Whole rows are added this way: far faster than scattering single numbers.
            ops.transpose(ops.segment_sum(columns * sign[:, None], slots, self.dim))
            for slots, sign in zip(self.hashes, self.signs)
        )
        real, imaginary = (ops.reshape(part, (-1, places, self.dim)) for part in ops.fft(counts))
        square_real = ops.sum(ops.square(real), axis=1) - ops.sum(ops.square(imaginary), axis=1)
        square_imaginary = 2 * ops.sum(real * imaginary, axis=1)
        # Keras has no inverse transform in one dimension: it is the conjugate of the
        # transform of the conjugate, divided by its length.
        conjugate = ops.fft((square_real, -square_imaginary))[1]
        return conjugate / (-2 * self.dim * ops.cast(places, "float32"))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.dim)

    def get_config(self):
        return {**super().get_config(), "dim": self.dim, "seed": self.seed}


@keras.saving.register_keras_serializable(package="toolkit")
class GeMPooling(keras.layers.Layer):
    """Generalised mean over all places: (mean of x^p)^(1/p) of each channel.

    p = 1 is the mean, p towards infinity the maximum; p is trained, begins at 3 and is
    one for all channels. Values below 1e-6 count as 1e-6. Radenovic et al. 2018,
    "Fine-tuning CNN Image Retrieval with No Human Annotation", section 3.2.

    Input (B, H, W, C), output (B, C).
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
        # Relative to the largest value no power overflows, nor do all of them vanish. The
        # result does not depend on this value, so it needs no gradient.
        largest = ops.stop_gradient(ops.max(x, axis=(1, 2), keepdims=True))
        mean = ops.mean(ops.power(x / largest, self.p), axis=(1, 2))
        pooled = ops.power(mean, 1 / self.p) * largest[:, 0, 0]
        return ops.cast(pooled, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])
