"""The centers of what a run has learned, and its best model with similarity to them."""

import numpy as np

from common.console import say
from common.errors import ImageError, InputError
from common.files import checksum, replacing
from prediction.loading import best_model
from prediction.streaming import stream
from runs import run_folder
from runs.reference_images import training_photos

MOST_PHOTOS = 2000  # of all classes together that the centers are found from
BATCH_SIZE = 32
LOST = "it will not tell what is unlike anything seen"


def read(run):
    """The centers of a run's best weights.

    Args:
        run: `run_folder.Run`.

    Returns:
        float32 (R, D), rows of unit length, or None where there are none of these weights.
    """
    try:
        with np.load(run.file(run_folder.CENTERS), allow_pickle=False) as arrays:
            if str(arrays["weights"]) != checksum(run.file(run_folder.BEST)):
                return None
            return np.array(arrays["centers"], np.float32)
    except Exception:  # missing or damaged: they are found anew
        return None


def find(run, model, workers=1):
    """The centers of a run's best weights; finds and keeps them where there are none.

    Args:
        run: `run_folder.Run`.
        model: Keras model with the run's best weights.
        workers: int, threads that decode.

    Returns:
        float32 (R, D), rows of unit length, or None, with a line on standard error, where photos
        of a class are gone or their features are too many.

    Raises:
        OSError: the file cannot be written.
    """
    centers = read(run)
    if centers is not None:
        return centers
    paths, class_ids = _photos(run)
    chosen = _spread(np.asarray(class_ids), len(run.class_names))
    features, present = _compute(model, run.preprocessing, [paths[n] for n in chosen], workers)
    wanted = set(np.asarray(class_ids).tolist()) or {0}
    class_ids = np.asarray(class_ids)[chosen][present]
    missing = sorted(wanted - set(class_ids.tolist()))
    if missing:
        say(
            f"note: {run.path}: photos that it has learned {run.class_names[missing[0]]} from "
            f"are gone or cannot be decoded; {LOST}"
        )
        return None
    from modeling.similarity import find_centers

    centers = find_centers(features, class_ids)
    if centers is None:
        say(f"note: {run.path}: {features.shape[1]} features are too many to compare; {LOST}")
        return None
    with replacing(run.file(run_folder.CENTERS)) as partial_path, open(partial_path, "wb") as file:
        np.savez_compressed(file, centers=centers, weights=checksum(run.file(run_folder.BEST)))
    return centers


def _photos(run):
    try:
        return training_photos(run)
    except InputError:  # the folder is gone, or has other classes now
        return [], []


def best_model_with_similarity(run):
    """Builds a run's Keras model with its best weights, and its similarity where it has centers.

    Args:
        run: `run_folder.Run`.

    Returns:
        Keras model from uint8 (N, S, S, 3) to float32 (N, C), or to that and float32 (N, 1).
    """
    from modeling.similarity import with_similarity

    model, centers = best_model(run), read(run)
    return model if centers is None else with_similarity(model, centers)


def _spread(class_ids, classes):
    """Positions of at most `MOST_PHOTOS`, evenly over each class."""
    most = max(1, MOST_PHOTOS // classes)
    parts = []
    for class_id in range(classes):
        own = np.flatnonzero(class_ids == class_id)
        parts.append(own[np.unique(np.linspace(0, len(own) - 1, min(len(own), most)).astype(int))])
    return np.concatenate(parts)


def _compute(model, preprocessing, paths, workers):
    """(features (M, D), bool (N,) which of the N photos can be decoded and so have a row)."""
    import keras

    from modeling.similarity import joint_features

    body = keras.Model(model.input, joint_features(model))

    def compute(images):
        # Always of one shape: for another the network would be traced again.
        full_batch = np.resize(images, (BATCH_SIZE, *images.shape[1:]))
        return np.asarray(body.predict_on_batch(full_batch))[: len(images)]

    answers = [answer for _, answer in stream(paths, preprocessing, compute, BATCH_SIZE, workers)]
    present = np.array([not isinstance(answer, ImageError) for answer in answers], bool)
    rows = [answer for answer in answers if not isinstance(answer, ImageError)]
    return np.array(rows, np.float32), present
