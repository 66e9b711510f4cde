"""What a model says of a whole folder of samples."""

import os
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.errors import ImageError


class Predictions(NamedTuple):
    """What a model says of N samples.

    Attributes:
        probabilities: float32 (N, C), a row of zeros for an image that cannot be decoded.
        errors: dict of position -> ImageError, the images that cannot be decoded.
        similarities: float32 (N,), NaN for those; None for a model without centers.
    """

    probabilities: np.ndarray
    errors: dict
    similarities: np.ndarray | None


def predict_samples(classifier, samples, batch_size, workers):
    """Predicts every sample, with a progress bar.

    Args:
        classifier: `Classifier`.
        samples: `Samples`, N images.
        batch_size: int, images the model takes at once.
        workers: int, threads that decode.

    Returns:
        `Predictions`.
    """
    count = len(samples.file_names)
    probabilities = np.zeros((count, len(classifier.class_names)), np.float32)
    similarities = np.full(count, np.nan, np.float32)
    errors = {}
    image_paths = [os.path.join(samples.folder, file_name) for file_name in samples.file_names]
    answers = classifier.stream(image_paths, batch_size, workers)
    progress_bar = tqdm(answers, "evaluating", count, unit=" images", leave=False, disable=None)
    for position, (_, answer) in enumerate(progress_bar):
        if isinstance(answer, ImageError):
            errors[position] = answer
        else:
            probabilities[position], similarity = answer
            similarities[position] = np.nan if similarity is None else similarity
    has_similarities = not np.isnan(similarities).all()
    return Predictions(probabilities, errors, similarities if has_similarities else None)
