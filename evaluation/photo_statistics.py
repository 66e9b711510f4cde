"""What a photo looks like in five numbers, whatever it shows."""

import cv2
import numpy as np

NAMES = ("brightness", "contrast", "saturation", "sharpness", "warmth")


def photo_statistics(image):
    """Five numbers about the look of a photo.

    Args:
        image: uint8 (S, S, 3), RGB, as the model takes it.

    Returns:
        float32 (5,): brightness, the mean of the grey levels, 0-255; contrast, their standard
        deviation; saturation, the mean of HSV's, 0-255; sharpness, the logarithm of the standard
        deviation of the Laplacian; warmth, mean red minus mean blue, -255 to 255.

    Example:
        >>> photo_statistics(np.full((8, 8, 3), 200, np.uint8))[0]
        200.0
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    saturation = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1]
    laplacian = cv2.Laplacian(grey, cv2.CV_32F)
    red, _, blue = cv2.mean(image)[:3]
    return np.array(
        [grey.mean(), grey.std(), saturation.mean(), np.log1p(laplacian.std()), red - blue],
        np.float32,
    )
