"""Random erasing: a rectangle of the image is replaced by noise.

Source: Zhong et al., "Random Erasing Data Augmentation", 2017 (AAAI 2020),
section 3.2 and algorithm 1; the defaults are the paper's. As in the authors' code, the
position is drawn after a size that fits; the algorithm as printed draws both together and
drops both when the rectangle sticks out, which makes large rectangles rarer.

`keras.layers.RandomErasing` (3.15) is not used: it draws the two sides independently instead of
area and aspect ratio, and fills the rectangle with normal noise.
"""

import math

import numpy as np

MAX_ATTEMPTS = 100  # the paper repeats until a rectangle fits; none may fit a sliver of an image


def random_eraser(
    image, generator, probability=0.5, area=(0.02, 0.4), aspect_ratio=(0.3, 1 / 0.3), per_pixel=True
):
    """Replaces a random rectangle of an image by random values.

    Args:
        image: uint8 (H, W, 3); changed in place.
        generator: a `numpy.random.Generator`, the only source of randomness.
        probability: probability that a rectangle is erased, 0 to 1.
        area: (minimum, maximum) of the rectangle's area, as a fraction of the image's.
        aspect_ratio: (minimum, maximum) of the rectangle's height over its width. As in
            the paper, drawn uniformly, so tall rectangles are more frequent than wide ones.
        per_pixel: bool, noise in each pixel and channel; else one random colour.

    Returns:
        uint8 (H, W, 3), `image` itself.

    Example:

    ```python
    random_eraser(image, np.random.default_rng(0), probability=1.0, area=(0.1, 0.2))
    ```
    """
    if generator.random() >= probability:
        return image
    height, width = image.shape[:2]
    for _ in range(MAX_ATTEMPTS):
        erased_area = generator.uniform(*area) * height * width
        ratio = generator.uniform(*aspect_ratio)
        rows, columns = round(math.sqrt(erased_area * ratio)), round(math.sqrt(erased_area / ratio))
        if 0 < rows < height and 0 < columns < width:
            break
    else:
        return image
    top = generator.integers(0, height - rows + 1)
    left = generator.integers(0, width - columns + 1)
    noise_shape = (rows, columns, 3) if per_pixel else (1, 1, 3)
    image[top : top + rows, left : left + columns] = generator.integers(
        0, 256, noise_shape, dtype=np.uint8
    )
    return image
