"""Probabilities of a whole folder of samples."""

import os

import numpy as np
from tqdm import tqdm

from common.errors import ImageError


def predict_samples(classifier, samples, batch_size, workers):
    """Probabilities of every sample.

    Returns:
        float32 (N, C), rows of zeros for images that cannot be decoded, and a dict
        of position -> ImageError for those.
    """
    count = len(samples.file_names)
    probabilities = np.zeros((count, len(classifier.class_names)), np.float32)
    errors = {}
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    answers = classifier.stream(paths, batch_size, workers)
    bar = tqdm(answers, "evaluating", count, unit=" images", leave=False, disable=None)
    for position, (_, answer) in enumerate(bar):
        if isinstance(answer, ImageError):
            errors[position] = answer
        else:
            probabilities[position] = answer
    return probabilities, errors
