"""How accuracy falls as photos get worse: blurred, noisy, dark, compressed, rotated.

After Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations": five strengths of each, here from hardly visible to hardly usable, on the
square that the model takes.
"""

import os

import cv2
import numpy as np
from tqdm import tqdm

from common.errors import ImageError
from prediction.streaming import stream

# Of each kind, from weak to strong
STRENGTHS = {
    "blur": (0.25, 0.5, 1.0, 1.5, 2.5),  # standard deviation, in hundredths of the side
    "noise": (5, 10, 20, 35, 60),  # standard deviation, of levels 0-255
    "darkness": (0.75, 0.55, 0.4, 0.25, 0.15),  # brightness that is left
    "JPEG": (50, 30, 15, 8, 4),  # quality
    "rotation": (5, 10, 20, 45, 90),  # degrees
}


def corrupt(image, kind, strength, generator):
    """An image made worse.

    Args:
        image: uint8 (S, S, 3), RGB.
        kind: str, a key of `STRENGTHS`.
        strength: number, in the unit that `STRENGTHS` names.
        generator: `numpy.random.Generator`, for the noise and the side to which it is rotated.

    Returns:
        uint8 (S, S, 3), RGB.

    Example:
        >>> corrupt(image, "darkness", 0.5, np.random.default_rng(0)).mean() / image.mean()
        0.498
    """
    if kind == "blur":
        return cv2.GaussianBlur(image, (0, 0), len(image) * strength / 100)
    if kind == "noise":
        noisy = image + generator.normal(0, strength, image.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if kind == "darkness":
        return np.rint(image * np.float32(strength)).astype(np.uint8)
    if kind == "JPEG":
        _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, strength])
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
    degrees = strength if generator.random() < 0.5 else -strength
    centre = ((len(image) - 1) / 2,) * 2
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1)
    return cv2.warpAffine(image, matrix, image.shape[:2], borderMode=cv2.BORDER_REFLECT_101)


def measure(classifier, samples, batch_size=32, workers=1):
    """The accuracy of a classifier on images made worse in five ways.

    Args:
        classifier: `Classifier`.
        samples: `Samples`, N images; one that cannot be decoded counts as wrong.
        batch_size: int, images that the model takes at once.
        workers: int, threads that decode.

    Returns:
        dict of kind -> list of five floats, from weak to strong.
    """
    paths = [os.path.join(samples.folder, name) for name in samples.file_names]
    pairs = [(kind, strength) for kind, strengths in STRENGTHS.items() for strength in strengths]
    generators = [np.random.default_rng(0) for _ in pairs]  # the same noise at every strength

    def compute(images):
        """int (B, 25), the class of each image made worse in each way."""
        predicted = []
        for (kind, strength), generator in zip(pairs, generators):
            worse = [corrupt(image, kind, strength, generator) for image in images]
            probabilities = classifier.probabilities(np.ascontiguousarray(np.stack(worse)))
            predicted.append(probabilities.argmax(axis=1))
        return np.stack(predicted, axis=1)

    answers = stream(paths, classifier.preprocessing, compute, batch_size, workers)
    bar = tqdm(answers, "robustness", len(paths), unit=" images", leave=False, disable=None)
    is_right = np.zeros((len(paths), len(pairs)), bool)
    for position, (_, predicted) in enumerate(bar):
        if not isinstance(predicted, ImageError):
            is_right[position] = predicted == samples.class_ids[position]
    accuracies = iter(is_right.mean(axis=0).tolist())
    return {kind: [next(accuracies) for _ in strengths] for kind, strengths in STRENGTHS.items()}
