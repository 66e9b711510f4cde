"""Test-time augmentation: the views of an image whose probabilities are averaged."""

import cv2
import numpy as np

CROP = 0.875  # side of a crop as a fraction of the image's: 224 of 256, as is usual


def views(images, kind):
    """The views of a batch.

    Args:
        images: uint8 (N, S, S, 3).
        kind: "none" for the images alone; "flip" for them and their mirror images; "five_crop"
            for the four corners and the centre, resized to the full size
            (Krizhevsky et al. 2012, section 4.1, without mirroring).

    Yields:
        uint8 (N, S, S, 3), once per view.
    """
    if kind != "five_crop":
        yield images
        if kind == "flip":
            yield np.ascontiguousarray(images[:, :, ::-1])
        return
    full_size = images.shape[1]
    crop_size = round(CROP * full_size)
    last, middle = full_size - crop_size, (full_size - crop_size) // 2
    for top, left in ((0, 0), (0, last), (last, 0), (last, last), (middle, middle)):
        crops = images[:, top : top + crop_size, left : left + crop_size]
        target_size = (full_size, full_size)
        yield np.stack(
            [cv2.resize(crop, target_size, interpolation=cv2.INTER_LINEAR) for crop in crops]
        )
