"""RandAugment and AugMix: random operations on one image, on top of `augmentation.py`.

Sources: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced
search space", 2020 (CVPR workshops), section 3: two operations per image, of its fourteen.
Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and
Uncertainty", 2020 (ICLR), algorithm 1 and its nine operations, without the consistency
loss. The maximum strengths are those of Cubuk et al., "AutoAugment: Learning Augmentation
Policies from Data", 2019 (CVPR), in the table of operations of its appendix. RandAugment holds
the strength constant; here it is the maximum of uniform draws.

Keras's layers (3.15) are not used: `RandAugment` ignores the seed that is passed to its
`get_random_transformation`, and computes all of its operations for each one that it
applies; `AugMix` draws its chains with Python's global `random`; both give every image of
a batch the same operations. Its layers for single operations, put together as here, took
more than ten times as long.
"""

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

OPERATIONS_PER_IMAGE = 2  # N of RandAugment
CHAINS, MAX_DEPTH = 3, 3  # of AugMix: k chains of 1 to MAX_DEPTH operations
BORDER_GRAY = (128, 128, 128)  # comes in from outside, as in RandAugment's code


class ImagePolicy:
    """RandAugment, then AugMix, of one image at a time. Threads may share it.

    Args:
        mixing: a `mixing.Mixing`, whose `randaugment` and `augmix` count: strengths
            from 0, which is off, to 1.

    Example:

    ```python
    policy = ImagePolicy(Mixing(randaugment=0.5))
    policy(image, np.random.default_rng(0), np.random.default_rng(1))
    ```
    """

    def __init__(self, mixing):
        self._randaugment, self._augmix = mixing.randaugment, mixing.augmix

    def __bool__(self):
        return bool(self._randaugment or self._augmix)

    def __call__(self, image, randaugment_generator, augmix_generator):
        """Changes an image in place; what it becomes is a function of the generators alone.

        Args:
            image: uint8 (S, S, 3), RGB.
            randaugment_generator, augmix_generator: two `numpy.random.Generator`, so that
                neither of the two changes what the other does.
        """
        if self._randaugment:
            image[...] = _chain(
                image, RANDAUGMENT, OPERATIONS_PER_IMAGE, self._randaugment, randaugment_generator
            )
        if self._augmix:
            image[...] = _augmix(image, self._augmix, augmix_generator)


def _augmix(image, strength, generator):
    chain_weights = generator.dirichlet(np.ones(CHAINS))
    original_weight = generator.beta(1, 1)
    mixed_image = np.float32(original_weight) * image
    for chain_weight in chain_weights:
        depth = generator.integers(1, MAX_DEPTH + 1)
        chain_image = _chain(image, AUGMIX, depth, strength, generator)
        mixed_image += np.float32((1 - original_weight) * chain_weight) * chain_image
    return np.rint(mixed_image, out=mixed_image)  # the weights add up to 1: stays within 0 to 255


def _chain(image, operations, count, strength, generator):
    """`count` operations, drawn with replacement, one after the other; a new uint8 array."""
    functions = tuple(operations.values())
    pillow_image = Image.fromarray(image)
    for operation_index in generator.integers(len(functions), size=count):
        # Every operation draws, so that none changes what those after it do.
        amount = strength * generator.uniform(-1, 1)
        pillow_image = functions[operation_index](pillow_image, amount)
    return np.asarray(pillow_image)


def _shear_x(image, amount):
    # About the first row, not the middle, as in the code of the papers; so does _shear_y.
    return _warp(image, [[1, 0.3 * amount, 0], [0, 1, 0]])


def _shear_y(image, amount):
    return _warp(image, [[1, 0, 0], [0.3 * amount, 1, 0]])


def _translate_x(image, amount):
    return _warp(image, [[1, 0, 0.45 * amount * image.width], [0, 1, 0]])


def _translate_y(image, amount):
    return _warp(image, [[1, 0, 0], [0, 1, 0.45 * amount * image.height]])


def _rotate(image, amount):
    image_center = (image.width - 1) / 2, (image.height - 1) / 2
    return _warp(image, cv2.getRotationMatrix2D(image_center, 30 * amount, 1))


def _warp(image, matrix):
    """`matrix`, 2x3, leads from source to target pixels."""
    # Several times as fast as Pillow's `transform`.
    return Image.fromarray(
        cv2.warpAffine(
            np.asarray(image),
            np.array(matrix, np.float64),
            image.size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=BORDER_GRAY,
        )
    )


def _posterize(image, amount):
    return ImageOps.posterize(image, 8 - round(4 * abs(amount)))


def _solarize(image, amount):
    return ImageOps.solarize(image, round(256 * (1 - abs(amount))))


def _autocontrast(image, amount):
    return ImageOps.autocontrast(image)


def _equalize(image, amount):
    return ImageOps.equalize(image)


def _brightness(image, amount):
    return ImageEnhance.Brightness(image).enhance(1 + 0.9 * amount)


def _color(image, amount):
    return ImageEnhance.Color(image).enhance(1 + 0.9 * amount)


def _contrast(image, amount):
    return ImageEnhance.Contrast(image).enhance(1 + 0.9 * amount)


def _sharpness(image, amount):
    return ImageEnhance.Sharpness(image).enhance(1 + 0.9 * amount)


def _identity(image, amount):
    return image


# Functions (RGB `PIL.Image.Image`, amount) -> image of the same size. The amount runs from -1
# to 1; its sign is the direction, or has no meaning.
AUGMIX = {  # without the four that resemble the corruptions in the paper's tests
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
RANDAUGMENT = {
    **AUGMIX,
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "identity": _identity,
}
