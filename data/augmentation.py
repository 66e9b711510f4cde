"""The augmentations of one image and their order: flips, shift, rotation, zoom, erasing."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from data.buffers import scratch
from random_eraser import random_eraser

# Share of the images that are shifted, rotated and zoomed. Some stay as they are, as
# all will be in use; and it keeps decoding, not warping, what a batch costs.
WARPED = 0.75


class Augmentation(NamedTuple):
    """What may happen to an image; the defaults change nothing.

    Attributes:
        horizontal_flip: mirror half of the images left to right.
        vertical_flip: mirror half of the images top to bottom.
        shift: largest shift either way, as a share of the side.
        rotation: largest rotation either way, in degrees.
        zoom: largest scaling either way, as a share.
        random_eraser: chance of random erasing.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    random_eraser: float = 0.0


def augment(image, augmentation, generator):
    """Applies the augmentations to one image, in place.

    Flips, shift, rotation and zoom are one affine map, sampled once: one pass over
    the pixels, and no blur upon blur. Pixels from outside repeat the border. Three
    of four images are shifted, rotated and zoomed.

    Args:
        image: uint8 (S, S, 3), RGB; changed in place.
        augmentation: an `Augmentation`.
        generator: a `numpy.random.Generator`. The same number of values is drawn
            whatever is switched on, so one option never changes what another does.

    Returns:
        uint8 (S, S, 3), `image` itself.
    """
    draws = generator.random(7)
    flip_x = augmentation.horizontal_flip and draws[0] < 0.5
    flip_y = augmentation.vertical_flip and draws[1] < 0.5
    shift_x, shift_y, turn, scaling = draws[2:6] * 2 - 1
    warps = augmentation.shift or augmentation.rotation or augmentation.zoom
    if warps and draws[6] < WARPED:
        matrix = _affine(
            image.shape[0],
            augmentation.shift * shift_x,
            augmentation.shift * shift_y,
            augmentation.rotation * turn,
            1 + augmentation.zoom * scaling,
            flip_x,
            flip_y,
        )
        _warp(image, matrix)
    elif flip_x or flip_y:
        image[...] = cv2.flip(image, -1 if flip_x and flip_y else int(flip_x))
    return random_eraser(image, generator, augmentation.random_eraser)


def _warp(image, matrix):
    # Four channels at a time, OpenCV is more than twice as fast as with three.
    shape = (*image.shape[:2], 4)
    source = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=scratch("source", shape))
    target = cv2.warpAffine(
        source,
        matrix,
        shape[1::-1],
        dst=scratch("target", shape),
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
    turn = np.array([[cosine * mirror_x, sine * mirror_y], [-sine * mirror_x, cosine * mirror_y]])
    move = center - turn.sum(axis=1) * center + np.array([shift_x, shift_y]) * size
    return np.column_stack([turn, move])
