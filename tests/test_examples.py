"""The examples in docstrings give what they say."""

import doctest
import importlib

import keras
import numpy as np
import pytest

from modeling.architecture import Architecture
from modeling.layer_names import SQUEEZE_LAYERS

MODULES = [
    "CBAM", "Groupnormalization", "bilinear_pooling", "common.console", "common.errors",
    "compute.device_names", "compute.devices", "config.modes", "config.parser",
    "efficientnet.model", "efficientnet.weights", "evaluation.calibration_error",
    "evaluation.confusion", "evaluation.cross_validation", "evaluation.intervals",
    "evaluation.scores", "modeling.architecture",
    "modeling.backbones", "modeling.builder", "modeling.imagenet_weights", "other.focal_loss",
    "other.labelling.usefulness", "other_model", "prediction.calibration", "run",
    "runs.training_state", "training.callbacks",
    "training.weights_selection",
    "warmup_cosine_decay_scheduler",
]
NEEDS_DOWNLOAD = ("hub_model",)


@pytest.fixture(autouse=True, scope="module")
def without_progress_bars():
    """They would be part of an example's output."""
    keras.config.disable_interactive_logging()
    yield
    keras.config.enable_interactive_logging()


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    module = importlib.import_module(name)
    names = {**vars(module), "keras": keras, "np": np, "Architecture": Architecture,
             "SQUEEZE_LAYERS": SQUEEZE_LAYERS}
    tests = [test for test in doctest.DocTestFinder().find(module, globs=names)
             if test.examples and not test.name.endswith(NEEDS_DOWNLOAD)]
    assert tests
    for test in tests:
        report = []
        result = doctest.DocTestRunner().run(test, out=report.append)
        assert not result.failed, "".join(report)
