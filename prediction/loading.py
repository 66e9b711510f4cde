"""A run's best weights as a Keras model, and the calibration that belongs to them."""

import os

from common.files import checksum
from prediction import calibration
from runs import run_folder


def best_model(run):
    """The Keras model of a `run_folder.Run` with its best weights; `import_keras` comes before."""
    from modeling import weight_files
    from modeling.builder import build_model

    model = build_model(run_folder.architecture(run.options), classes=len(run.class_names))
    weight_files.load(model, run.file(run_folder.BEST))
    return model


def run_calibration(run):
    """The `calibration.Calibration` of a run's best weights.

    None where there is none, or, with a line on standard error, only one of other weights.

    Raises:
        InputError: the run's calibration.json is damaged.
    """
    path = run.file(run_folder.CALIBRATION)
    if not os.path.exists(path):
        return None
    return calibration.read(path, run.class_names, checksum(run.file(run_folder.BEST)))
