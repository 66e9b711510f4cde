"""Probabilities of a whole folder of samples."""

import os

import numpy as np
from tqdm import tqdm

from common.errors import ImageError


def predict_samples(classifier, samples, batch_size, workers):
    """Predicts every sample, with a progress bar.

    Args:
        classifier: `Classifier`.
        samples: `Samples`, N images.
        batch_size: int, images the model takes at once.
        workers: int, threads that decode.

    Returns:
        float32 (N, C) probabilities, a row of zeros for an image that cannot be decoded, and a
        dict of position -> ImageError for those.
    """
    count = len(samples.file_names)
    probabilities = np.zeros((count, len(classifier.class_names)), np.float32)
    errors = {}
    image_paths = [os.path.join(samples.folder, file_name) for file_name in samples.file_names]
    answers = classifier.stream(image_paths, batch_size, workers)
    progress_bar = tqdm(answers, "evaluating", count, unit=" images", leave=False, disable=None)
    for position, (_, answer) in enumerate(progress_bar):
        if isinstance(answer, ImageError):
            errors[position] = answer
        else:
            probabilities[position] = answer
    return probabilities, errors
