"""A run's best weights as a Keras model, and the calibration that belongs to them."""

import os

from common.files import checksum
from prediction import calibration
from runs import run_folder


def best_model(run):
    """Builds a run's Keras model with its best weights; call `import_keras` first.

    Args:
        run: `run_folder.Run`.

    Returns:
        Keras model from uint8 (N, S, S, 3) to float32 (N, C).
    """
    from modeling import weight_files
    from modeling.builder import build_model

    model = build_model(run_folder.architecture(run.options), classes=len(run.class_names))
    weight_files.load(model, run.file(run_folder.BEST))
    return model


def run_calibration(run):
    """Reads the calibration of a run's best weights.

    Args:
        run: `run_folder.Run`.

    Returns:
        `calibration.Calibration`, or None where there is none; also None, with a line on
        standard error, where it belongs to other weights.

    Raises:
        InputError: the run's calibration.json is damaged.
    """
    json_path = run.file(run_folder.CALIBRATION)
    if not os.path.exists(json_path):
        return None
    return calibration.read(json_path, run.class_names, checksum(run.file(run_folder.BEST)))
