"""Random erasing: a rectangle of the image is replaced by noise.

Source: Zhong et al., "Random Erasing Data Augmentation", 2017 (AAAI 2020),
section 3.2 and algorithm 1; the defaults are the paper's. As in the authors' code, the
place is drawn after a size that fits; the algorithm as printed draws both together and
drops both when the rectangle sticks out, which makes large ones rarer.
"""

import math

import numpy as np

ATTEMPTS = 100  # the paper repeats until a rectangle fits; a sliver of an image never ends


def random_eraser(
    image, generator, probability=0.5, area=(0.02, 0.4), aspect_ratio=(0.3, 1 / 0.3), per_pixel=True
):
    """Replaces a random rectangle of an image by random values.

    Args:
        image: uint8 (H, W, 3); changed in place.
        generator: a `numpy.random.Generator`, the only source of randomness.
        probability: chance that anything is erased, 0 to 1.
        area: least and greatest share of the image's area.
        aspect_ratio: least and greatest height over width of the rectangle. As in
            the paper, drawn uniformly, so tall ones are the more frequent.
        per_pixel: noise in each pixel and channel; else one random colour.

    Returns:
        uint8 (H, W, 3), `image` itself.
    """
    if generator.random() >= probability:
        return image
    height, width = image.shape[:2]
    for _ in range(ATTEMPTS):
        erased = generator.uniform(*area) * height * width
        ratio = generator.uniform(*aspect_ratio)
        rows, columns = round(math.sqrt(erased * ratio)), round(math.sqrt(erased / ratio))
        if 0 < rows < height and 0 < columns < width:
            break
    else:
        return image
    top = generator.integers(0, height - rows + 1)
    left = generator.integers(0, width - columns + 1)
    shape = (rows, columns, 3) if per_pixel else (1, 1, 3)
    image[top : top + rows, left : left + columns] = generator.integers(
        0, 256, shape, dtype=np.uint8
    )
    return image
