"""The augmentations of one image and their order: flips, shift, rotation, zoom, erasing.

Flips, shift, rotation and zoom are one affine map, sampled once: one pass over the pixels, and
no blur upon blur. Keras's layers `RandomTranslation`, `RandomRotation` and `RandomZoom` would
resample the image three times.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from data.buffers import scratch
from random_eraser import random_eraser

# Fraction of the images that are shifted, rotated and zoomed. The others stay as they are, as all
# images will be in use; it also keeps decoding, not warping, the main cost of a batch.
WARPED_FRACTION = 0.75


class Augmentation(NamedTuple):
    """What may happen to an image; the defaults change nothing.

    Attributes:
        horizontal_flip: bool, mirror half of the images left to right.
        vertical_flip: bool, mirror half of the images top to bottom.
        shift: largest shift in either direction, as a fraction of the side.
        rotation: largest rotation in either direction, in degrees.
        zoom: largest change of the scale in either direction, as a fraction: 0.1 is 0.9 to 1.1.
        random_eraser: probability of erasing a random rectangle, 0 to 1.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    random_eraser: float = 0.0


def augment(image, augmentation, generator):
    """Applies the augmentations to one image, in place.

    Pixels from outside repeat the border. Three of four images are shifted, rotated and
    zoomed.

    Args:
        image: uint8 (S, S, 3), RGB; changed in place.
        augmentation: an `Augmentation`.
        generator: a `numpy.random.Generator`. The same number of values is drawn
            whatever is switched on, so one option never changes what another does.

    Returns:
        uint8 (S, S, 3), `image` itself.

    Example:

    ```python
    augment(image, Augmentation(horizontal_flip=True, rotation=15.0), np.random.default_rng(0))
    ```
    """
    draws = generator.random(7)
    flip_x = augmentation.horizontal_flip and draws[0] < 0.5
    flip_y = augmentation.vertical_flip and draws[1] < 0.5
    shift_x, shift_y, turn, scaling = draws[2:6] * 2 - 1
    is_warping = augmentation.shift or augmentation.rotation or augmentation.zoom
    if is_warping and draws[6] < WARPED_FRACTION:
        affine_matrix = _affine(
            image.shape[0],
            augmentation.shift * shift_x,
            augmentation.shift * shift_y,
            augmentation.rotation * turn,
            1 + augmentation.zoom * scaling,
            flip_x,
            flip_y,
        )
        _warp(image, affine_matrix)
    elif flip_x or flip_y:
        image[...] = cv2.flip(image, -1 if flip_x and flip_y else int(flip_x))
    return random_eraser(image, generator, augmentation.random_eraser)


def _warp(image, affine_matrix):
    # With four channels OpenCV is more than twice as fast as with three.
    rgba_shape = (*image.shape[:2], 4)
    source = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=scratch("source", rgba_shape))
    target = cv2.warpAffine(
        source,
        affine_matrix,
        rgba_shape[1::-1],
        dst=scratch("target", rgba_shape),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    cv2.cvtColor(target, cv2.COLOR_RGBA2RGB, dst=image)


def _affine(size, shift_x, shift_y, degrees, scale, flip_x, flip_y):
    """2x3 matrix from source to target pixels, about the centre of the image."""
    center = (size - 1) / 2
    cosine = scale * math.cos(math.radians(degrees))
    sine = scale * math.sin(math.radians(degrees))
    mirror_x, mirror_y = (-1 if flip_x else 1), (-1 if flip_y else 1)
    linear_part = np.array(
        [[cosine * mirror_x, sine * mirror_y], [-sine * mirror_x, cosine * mirror_y]]
    )
    translation = center - linear_part.sum(axis=1) * center + np.array([shift_x, shift_y]) * size
    return np.column_stack([linear_part, translation])
