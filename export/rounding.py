"""Rounding of weights to 8 bits such that a layer's output stays, instead of each weight by itself.

A depthwise kernel has nine or 25 weights that see nearly the same pixel: rounded one by one, their
errors add up to one that the whole channel shares. Here the rounding error of one weight is passed
on to those not yet rounded, weighted by how their inputs go together (Frantar et al. 2022, "GPTQ",
equation 2 and 3), and what remains in the mean goes into the bias.
"""

from typing import NamedTuple

import numpy as np

LARGEST = 127  # of a weight; symmetric about zero
DAMPING = 0.01  # of the mean variance, so that inputs that never change can be inverted
MOST_INPUTS = 2400  # of an output; more take too long, and are rounded one by one


class Rounded(NamedTuple):
    """Weights in 8 bits.

    Attributes:
        weights: int8 (G, O, K), -127 to 127.
        mean_error: float (G, O), by how much the outputs are too small in the mean; belongs to the
            bias.
    """

    weights: np.ndarray
    mean_error: np.ndarray


class InputMoments:
    """Mean and covariance of what a layer multiplies its weights with, over many photos.

    Args:
        groups: int, G, number of groups; 1 but for grouped and depthwise convolutions.
        size: int, K, number of inputs of an output.
    """

    def __init__(self, groups, size):
        self._count = 0
        self._sum = np.zeros((groups, size))
        self._is_small = size <= MOST_INPUTS
        self._products = np.zeros((groups, size, size) if self._is_small else 0)

    def add(self, rows):
        """Adds inputs.

        Args:
            rows: float32 (N, G, K).
        """
        self._count += len(rows)
        self._sum += rows.sum(axis=0, dtype=np.float64)
        if self._is_small:
            columns = rows.transpose(1, 2, 0)
            self._products += columns @ columns.transpose(0, 2, 1)

    def round(self, weights, scales):
        """Rounds weights to multiples of their scales.

        Args:
            weights: float32 (G, O, K).
            scales: float32 (G, O), the step of each output, above 0.

        Returns:
            `Rounded`.
        """
        mean = self._sum / self._count
        if self._is_small:
            covariance = self._products / self._count - mean[:, :, None] * mean[:, None, :]
            whole = np.stack(
                [_pass_errors_on(*group) for group in zip(weights, scales, covariance)]
            )
        else:
            whole = _nearest(weights / scales[:, :, None])
        error = weights - whole * scales[:, :, None]
        return Rounded(whole.astype(np.int8), np.einsum("gok,gk->go", error, mean))


def scales_of(weights):
    """The step of each output whose largest weight becomes 127.

    Args:
        weights: float32 (..., K).

    Returns:
        float32 (...).
    """
    return (np.maximum(np.abs(weights).max(axis=-1), 1e-9) / LARGEST).astype(np.float32)


def _nearest(values):
    return np.clip(np.round(values), -LARGEST, LARGEST)


def _pass_errors_on(weights, scales, covariance):
    """Rounds (O, K) weights one input after the other, those that vary most first."""
    variances = np.diag(covariance)
    damped = covariance + np.eye(len(covariance)) * (DAMPING * variances.mean() + 1e-12)
    order = np.argsort(-variances, kind="stable")
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    factor = np.linalg.cholesky(inverse).T
    remaining = weights[:, order].astype(np.float64)
    whole = np.empty_like(remaining)
    for position in range(len(order)):
        whole[:, position] = _nearest(remaining[:, position] / scales)
        error = remaining[:, position] - whole[:, position] * scales
        row = factor[position, position:] / factor[position, position]
        remaining[:, position:] -= np.outer(error, row)
    result = np.empty_like(whole)
    result[:, order] = whole
    return result


def patches(maps, geometry, groups, positions, generator):
    """What a convolution multiplies its kernel with, at some positions of each image.

    Args:
        maps: float32 (N, C, H, W), its input.
        geometry: dict of kernel, strides, dilations (each of two ints) and pads (top, left,
            bottom, right).
        groups: int, G.
        positions: int, how many of an image at most.
        generator: `numpy.random.Generator`, which chooses them.

    Returns:
        float32 (N * positions, G, C / G * kernel height * kernel width), in the order of the
        kernel's values in ONNX.
    """
    top, left, bottom, right = geometry["pads"]
    (high, wide), (down, across) = geometry["kernel"], geometry["dilations"]
    maps = np.pad(maps, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = ((high - 1) * down + 1, (wide - 1) * across + 1)
    windows = np.lib.stride_tricks.sliding_window_view(maps, reach, axis=(2, 3))
    windows = windows[:, :, :: geometry["strides"][0], :: geometry["strides"][1], ::down, ::across]
    count, channels, rows, columns = windows.shape[:4]
    chosen = generator.choice(rows * columns, min(rows * columns, positions), replace=False)
    taken = windows[:, :, chosen // columns, chosen % columns].transpose(0, 2, 1, 3, 4)
    return taken.reshape(count * len(chosen), groups, channels // groups * high * wide)
