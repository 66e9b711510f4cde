"""The augmentations of one image and their order: flips, shift, rotation, zoom, erasing."""

from typing import NamedTuple

from data.decoding import load
from data.geometry import Preprocessing
from data.warping import Movement, Warp, move_to_square
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


NO_AUGMENTATION = Augmentation()


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
    movement = _draw_movement(augmentation, generator)
    move_to_square(image, Preprocessing(len(image), "stretch"), movement, image)
    return random_eraser(image, generator, augmentation.random_eraser)


def load_augmented(source, preprocessing, augmentation, generator, out, name=None):
    """What `decoding.load` and then `augment` do, with one resampling instead of two.

    Args:
        source: str or path of the file, or its bytes.
        preprocessing: `geometry.Preprocessing`, which gives the side S.
        augmentation: an `Augmentation`.
        generator: a `numpy.random.Generator`.
        out: uint8 (S, S, 3) to write to, a row of a batch.
        name: str that errors call the image; default: the path.

    Returns:
        uint8 (S, S, 3), `out`.

    Raises:
        ImageError: the image cannot be read or decoded.
    """
    movement = _draw_movement(augmentation, generator)

    def to_square(image, preprocessing, out, shape):
        return move_to_square(image, preprocessing, movement, out, shape)

    load(source, preprocessing, name, out, to_square)
    return random_eraser(out, generator, augmentation.random_eraser)


def _draw_movement(augmentation, generator):
    draws = generator.random(7).tolist()
    flip_x = augmentation.horizontal_flip and draws[0] < 0.5
    flip_y = augmentation.vertical_flip and draws[1] < 0.5
    shift_x, shift_y, turn, scaling = (draw * 2 - 1 for draw in draws[2:6])
    is_warping = augmentation.shift or augmentation.rotation or augmentation.zoom
    if not is_warping or draws[6] >= WARPED_FRACTION:
        return Movement(flip_x, flip_y)
    warp = Warp(
        augmentation.shift * shift_x,
        augmentation.shift * shift_y,
        augmentation.rotation * turn,
        1 + augmentation.zoom * scaling,
    )
    return Movement(flip_x, flip_y, warp)
