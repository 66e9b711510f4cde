"""The report's galleries: thumbnails inside the page, with the model's answers."""

import os

import cv2
import numpy as np

from common.errors import ImageError
from compute.backend import import_keras
from data.decoding import load
from evaluation.confusion import NO_ANSWER
from other.reporting import html_pages
from prediction.loading import best_model

MOST_ERRORS, MOST_SUSPECTS = 24, 48
HEAT_OPACITY = 0.45  # of the heat map over the photo


def surest_errors(answers, preprocessing, run):
    """Cards of the wrong answers that the model was surest of.

    Args:
        answers: `other.report.Answers`.
        preprocessing: `Preprocessing` of the model.
        run: `run_folder.Run` whose best weights explain the answers, or None.

    Returns:
        (list of dict, whether they have heat maps).
    """
    samples, class_names, probabilities, predicted, _ = answers
    wrong = np.flatnonzero((predicted != samples.class_ids) & (predicted != NO_ANSWER))
    wrong_probabilities = probabilities[wrong, predicted[wrong]]
    cards, shown_images = [], []
    for position in wrong[np.argsort(-wrong_probabilities, kind="stable")][:MOST_ERRORS]:
        image = _load(samples, position, preprocessing)
        if image is not None:  # None where the file has been deleted since
            shown_images.append(image)
            cards.append(
                {
                    "image": html_pages.thumbnail(sized(image, html_pages.SIDE)),
                    "heat": None,
                    "name": samples.file_names[position],
                    "true": class_names[samples.class_ids[position]],
                    "predicted": class_names[predicted[position]],
                    "id": int(predicted[position]),
                    "probability": float(probabilities[position, predicted[position]]),
                }
            )
    attention_maps = None
    if run and cards:
        attention_maps = heat_maps(
            run, np.stack(shown_images), np.array([card["id"] for card in cards])
        )
    if attention_maps is None:
        return cards, False
    for card, image, heat in zip(cards, shown_images, attention_maps):
        small_image = sized(image, html_pages.SIDE)
        card["heat"] = html_pages.thumbnail(overlay(small_image, heat))
    return cards, True


def heat_maps(run, images, classes):
    """Grad-CAM of a run's best weights; None where there is none.

    There is none where Keras does not compute with TensorFlow, and where the last feature map has
    a single position (as for images of 32 pixels).

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

    attention_maps = grad_cam(best_model(run), images, classes)
    return attention_maps if attention_maps[0].size > 1 else None


def doubtful(suspects, answers):
    """Cards of the most doubtful labels.

    Args:
        suspects: list of `label_errors.Suspect`, the most doubtful first.
        answers: `other.report.Answers`.

    Returns:
        list of dict, one per label.
    """
    samples, class_names, probabilities, *_ = answers
    cards = []
    for suspect in suspects[:MOST_SUSPECTS]:
        image_path = os.path.join(samples.folder, samples.file_names[suspect.position])
        class_id = samples.class_ids[suspect.position]
        cards.append(
            {
                "image": html_pages.photo(image_path),
                "name": samples.file_names[suspect.position],
                "label": class_names[class_id],
                "suggested": class_names[suspect.suggested],
                "how": suspect.how,
                "of_label": float(probabilities[suspect.position, class_id]),
                "of_suggested": float(probabilities[suspect.position, suspect.suggested]),
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

    Returns:
        uint8 (S, S, 3), RGB.
    """
    grey_levels = cv2.resize(heat, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) * 255
    heat_colors = cv2.applyColorMap(grey_levels.astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return cv2.addWeighted(
        image, 1 - HEAT_OPACITY, np.ascontiguousarray(heat_colors), HEAT_OPACITY, 0
    )


def _load(samples, position, preprocessing):
    try:
        return load(os.path.join(samples.folder, samples.file_names[position]), preprocessing)
    except ImageError:
        return None
