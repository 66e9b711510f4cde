"""Test-time augmentation: the views of an image whose probabilities are averaged."""

import cv2
import numpy as np

CROP = 0.875  # side of a crop, as a share of the image's: 224 of 256, as is usual


def views(x, kind):
    """The views of a batch.

    Args:
        x: uint8 (N, S, S, 3).
        kind: "none": the images alone; "flip": they and their mirror images; "five_crop":
            the four corners and the centre, brought back to the whole size
            (Krizhevsky et al. 2012, section 4.1, without mirroring).

    Yields:
        uint8 (N, S, S, 3), one for each view.
    """
    if kind != "five_crop":
        yield x
        if kind == "flip":
            yield np.ascontiguousarray(x[:, :, ::-1])
        return
    size = x.shape[1]
    side = round(CROP * size)
    far, middle = size - side, (size - side) // 2
    for top, left in ((0, 0), (0, far), (far, 0), (far, far), (middle, middle)):
        crops = x[:, top : top + side, left : left + side]
        yield np.stack(
            [cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR) for crop in crops]
        )
