"""Further views of the images that an export is compared on, where these are few.

A lower precision may change the class of 0.5 % of the images: of 36 photos that is less than one.
Mirrored and cropped they are several hundred inputs, which the network has not learned either.
"""

import itertools
import os

import cv2
import numpy as np

from data.decoding import load
from data.samples import write_sample
from prediction.tta import views

ENOUGH_INPUTS = 400  # of which 0.5 % are two


def write_views(image_paths, class_ids, preprocessing, folder):
    """Writes views of images to a folder, until there are enough with the images themselves.

    Args:
        image_paths: list of N image files.
        class_ids: int (N,), their classes, -1 where unknown; a view has a text file with it.
        preprocessing: `Preprocessing` of the model; it leaves the files that are written as they
            are.
        folder: str, an empty folder.

    Returns:
        (list of M paths, list of M uint8 (S, S, 3)): both empty where the images are enough.
    """
    missing_count = ENOUGH_INPUTS - len(image_paths)
    if missing_count <= 0:
        return [], []
    images = np.stack([load(image_path, preprocessing) for image_path in image_paths])
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    kinds = itertools.chain([mirrored], views(images, "five_crop"), views(mirrored, "five_crop"))
    view_paths, view_images = [], []
    for kind, batch in enumerate(kinds):
        for position, (image, class_id) in enumerate(zip(batch, class_ids)):
            if len(view_paths) == missing_count:
                return view_paths, view_images
            file_name = f"{position}_{kind}.png"
            view_paths.append(os.path.join(folder, file_name))
            view_images.append(image)
            cv2.imwrite(view_paths[-1], image[..., ::-1])
            if class_id >= 0:
                write_sample(folder, file_name, class_id)
    return view_paths, view_images
