"""The report's galleries: photos as small pictures inside the page, with what is said of them."""

import os

import cv2
import numpy as np

from common.errors import ImageError
from compute.backend import import_keras
from data.decoding import load
from data.geometry import Preprocessing
from evaluation.confusion import NO_ANSWER
from other.reporting import html_pages
from prediction.loading import best_model

MOST_ERRORS, MOST_SUSPECTS = 24, 48
THUMBNAIL = 160  # pixels
HEAT = 0.45  # share of the heat map's colours over the photo


def surest_errors(answers, preprocessing, run):
    """Cards of the wrong answers that the model was surest of.

    Args:
        answers: `other.report.Answers`.
        preprocessing: the model's `Preprocessing`.
        run: `run_folder.Run` whose best weights explain the answers, or None.

    Returns:
        (list of dict, whether they have heat maps).
    """
    samples, labels, probabilities, predicted, _ = answers
    wrong = np.flatnonzero((predicted != samples.class_ids) & (predicted != NO_ANSWER))
    surest = probabilities[wrong, predicted[wrong]]
    cards, shown = [], []
    for position in wrong[np.argsort(-surest, kind="stable")][:MOST_ERRORS]:
        image = _load(samples, position, preprocessing)
        if image is not None:  # it is gone since
            shown.append(image)
            cards.append(
                {
                    "image": html_pages.thumbnail(sized(image, THUMBNAIL)),
                    "heat": None,
                    "name": samples.file_names[position],
                    "true": labels[samples.class_ids[position]],
                    "predicted": labels[predicted[position]],
                    "id": int(predicted[position]),
                    "probability": float(probabilities[position, predicted[position]]),
                }
            )
    maps = None
    if run and cards:
        maps = heat_maps(run, np.stack(shown), np.array([card["id"] for card in cards]))
    if maps is None:
        return cards, False
    for card, image, heat in zip(cards, shown, maps):
        small = sized(image, THUMBNAIL)
        card["heat"] = html_pages.thumbnail(overlay(small, heat))
    return cards, True


def heat_maps(run, images, classes):
    """Grad-CAM of a run's best weights; None where there is none.

    That is where Keras does not compute with TensorFlow, and where the last feature map is one
    place, as for images of 32 pixels.

    That is where Keras does not compute with TensorFlow, and where the last feature map is one
    place, as of images of 32 pixels: it cannot tell one from another.

    Args:
        run: `Run`.
        images: uint8 (N, S, S, 3), RGB.
        classes: int (N,), ids of the classes to explain.

    Returns:
        float32 (N, h, w), 0 to 1, or None.
    """
    if import_keras().backend.backend() != "tensorflow":
        return None
    from evaluation.grad_cam import grad_cam

    found = grad_cam(best_model(run), images, classes)
    return found if found[0].size > 1 else None


def doubtful(suspects, answers):
    """Cards, a dict each, of the most doubtful labels.

    Args:
        suspects: as `other.label_suspects.find` gives them.
        answers: `other.report.Answers`.
    """
    samples, labels, probabilities, *_ = answers
    cards = []
    for each in suspects[:MOST_SUSPECTS]:
        image = _load(samples, each.position, Preprocessing(THUMBNAIL))
        label = samples.class_ids[each.position]
        cards.append(
            {
                "image": None if image is None else html_pages.thumbnail(image),
                "name": samples.file_names[each.position],
                "label": labels[label],
                "suggested": labels[each.suggested],
                "how": each.how,
                "of_label": float(probabilities[each.position, label]),
                "of_suggested": float(probabilities[each.position, each.suggested]),
            }
        )
    return cards


def sized(image, side):
    """Resizes a square picture; small ones keep their pixels visible.

    Args:
        image: uint8 (S, S, 3).
        side: int, pixels of the result's side.

    Returns:
        uint8 (side, side, 3).
    """
    method = cv2.INTER_AREA if len(image) > side else cv2.INTER_NEAREST
    return cv2.resize(image, (side, side), interpolation=method)


def overlay(image, heat):
    """A photo with a heat map over it, from blue through green to red.

    Args:
        image: uint8 (S, S, 3), RGB.
        heat: float32 (h, w), 0 to 1.
    """
    grey = cv2.resize(heat, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) * 255
    colors = cv2.applyColorMap(grey.astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return cv2.addWeighted(image, 1 - HEAT, np.ascontiguousarray(colors), HEAT, 0)


def _load(samples, position, preprocessing):
    try:
        return load(os.path.join(samples.folder, samples.file_names[position]), preprocessing)
    except ImageError:
        return None
