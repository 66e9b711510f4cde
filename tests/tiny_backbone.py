"""EfficientNetB0 with few blocks, and weights for it: what tests of heads take as pretrained."""

import contextlib

import keras
import pytest

import efficientnet.model as network
from modeling.architecture import Architecture
from modeling.builder import build_model

FEW_BLOCKS = (network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 6, 2))
SIZE = 32


@contextlib.contextmanager
def few_blocks():
    """A context in which EfficientNetB0 has three blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", FEW_BLOCKS)
        yield
    keras.config.set_dtype_policy("float32")


def write_weights(folder):
    """Writes random weights of a tiny backbone, within `few_blocks`; returns words of `train`."""
    keras.utils.set_random_seed(0)
    path = str(folder / "start.weights.h5")
    build_model(Architecture("EfficientNetB0", SIZE), 2).save_weights(path)
    return ["--weights", path, "--input_size", str(SIZE)]
