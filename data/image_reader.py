"""One image of a training batch: read, augmented, and changed by the image policies."""

from typing import NamedTuple

import numpy as np

from common.errors import ImageError
from data.augmentation import NO_AUGMENTATION, Augmentation, load_augmented
from data.auto_augment import ImagePolicy
from data.decoding import load
from data.geometry import Preprocessing
from data.mixing import Mixing
from data.moved_photos import find_moved

# Last number of a generator's seed, so that no two uses of randomness share one; 1 is
# `data_gen_label.MIX`, 4 is `epoch_sampler.CLASS_ORDER`.
RANDAUGMENT, AUGMIX = 2, 3


class ImageReader(NamedTuple):
    """Reads images as a training wants them. Threads may share it, and other processes have it.

    Attributes:
        preprocessing: `geometry.Preprocessing`, which gives the side S.
        augmentation: `augmentation.Augmentation`.
        mixing: `mixing.Mixing`, of which `randaugment` and `augmix` count.
    """

    preprocessing: Preprocessing
    augmentation: Augmentation = NO_AUGMENTATION
    mixing: Mixing = Mixing()

    def read(self, image_path, draw, out, content=None):
        """Reads one image; what it becomes is a function of the file and the draw alone.

        A photo that the page of `--mode label` has moved meanwhile is read where it is now.

        Args:
            image_path: str.
            draw: tuple of int, (seed, epoch, position, repeat), for all random numbers.
            out: uint8 (S, S, 3) to write to, RGB.
            content: bytes of the file where they have been read already, or None.

        Raises:
            ImageError: the image cannot be read or decoded.

        Example:

        ```python
        row = np.empty((224, 224, 3), np.uint8)
        ImageReader(Preprocessing(224)).read("photo.jpg", (0, 0, 0, 0), row)
        ```
        """
        try:
            self._load(image_path, draw, out, content)
        except ImageError as error:
            moved_path = find_moved(image_path) if error.code == "unreadable" else None
            if moved_path is None:
                raise
            self._load(moved_path, draw, out)
        policy = ImagePolicy(self.mixing)
        if policy:
            policy(
                out,
                np.random.default_rng((*draw, RANDAUGMENT)),
                np.random.default_rng((*draw, AUGMIX)),
            )

    def _load(self, image_path, draw, out, content=None):
        source = image_path if content is None else content
        if self.augmentation == NO_AUGMENTATION:
            load(source, self.preprocessing, image_path, out)
        else:
            # A last number 0 counts as none: the first draw's seed is (seed, epoch, position).
            generator = np.random.default_rng(draw)
            load_augmented(
                source, self.preprocessing, self.augmentation, generator, out, image_path
            )
