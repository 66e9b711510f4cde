"""Each patch of Keras: what it does, and that this version of Keras still needs it.

Where a test here fails after an update of Keras, see whether the patch can go.
"""

import inspect
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from keras.src.saving import saving_lib

from compute.keras_patches import (
    build_metrics,
    remember_skipped_attributes,
    skip_steps,
    synchronize_batch_norm,
)


def classifier():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
    model.compile("sgd", "categorical_crossentropy", weighted_metrics=["accuracy"])
    return model


def batches(count):
    generator = np.random.default_rng(0)
    return generator.normal(size=(4 * count, 2)), np.eye(3)[generator.integers(0, 3, 4 * count)]


def test_keras_forgets_the_attributes_that_it_does_not_save():
    unpatched = inspect.unwrap(saving_lib.get_attr_skipset)
    assert unpatched("Layer") is not unpatched("Layer")  # meant to be kept after the first call


def test_skipped_attributes_are_remembered(monkeypatch):
    unpatched = inspect.unwrap(saving_lib.get_attr_skipset)
    monkeypatch.setattr(saving_lib, "get_attr_skipset", unpatched)
    remember_skipped_attributes()
    patched = saving_lib.get_attr_skipset
    assert patched("Layer") is patched("Layer")
    assert patched("Layer") == unpatched("Layer")
    remember_skipped_attributes()
    assert saving_lib.get_attr_skipset is patched  # not wrapped twice


def test_fit_cannot_begin_in_the_middle_of_an_epoch():
    parameters = inspect.signature(keras.Model.fit).parameters
    assert {name for name in parameters if "step" in name} == {
        "steps_per_epoch", "validation_steps",
    }


@pytest.mark.parametrize("skipped", [1, 3])
def test_skipped_steps_take_their_batch_and_compute_nothing(skipped):
    def fit(model, x, y, callbacks):
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)

    class Skip(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.logs = []

        def on_epoch_begin(self, epoch, logs=None):
            skip_steps(self.model, skipped)

        def on_train_batch_end(self, batch, logs=None):
            self.logs.append(dict(logs))

    model, expected, (x, y) = classifier(), classifier(), batches(5)
    expected.set_weights(model.get_weights())
    skip = Skip()
    build_metrics(model, 3)
    fit(model, x, y, [skip])
    fit(expected, x[4 * skipped :], y[4 * skipped :], [])
    assert int(model.optimizer.iterations) == 5 - skipped
    for weights, expected_weights in zip(model.get_weights(), expected.get_weights()):
        np.testing.assert_array_equal(weights, expected_weights)
    assert len(skip.logs) == 5
    assert skip.logs[0] == skip.logs[skipped - 1] != skip.logs[skipped]


def test_keras_makes_metrics_in_the_first_step_and_build_metrics_before_it():
    model, (x, y) = classifier(), batches(1)
    before = [variable.path for variable in model.metrics_variables]
    build_metrics(model, 3)
    built = [variable.path for variable in model.metrics_variables]
    assert len(before) < len(built)
    assert all(not np.any(variable) for variable in model.metrics_variables)
    model.fit(x, y, verbose=0)
    assert [variable.path for variable in model.metrics_variables] == built


def test_batch_normalization_in_nested_models_is_synchronized():
    normalization = keras.layers.BatchNormalization()
    nested = keras.Sequential([keras.Input((2,)), normalization])
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(nested(inputs)))
    assert normalization not in model.layers  # why the public list is not enough
    assert not normalization.synchronized
    synchronize_batch_norm(model)
    assert normalization.synchronized and model.layers[-1].synchronized


# One step of gradient descent on the mean absolute error of w * x, from w = 0 with targets
# below 0: the gradient is the mean of x. One device has two of the three rows, the other one.
TWO_DEVICES = """
import json
from compute.backend import import_keras
keras = import_keras("tensorflow")
import numpy as np
import tensorflow as tf
from compute.devices import tensorflow_strategy
from compute.keras_patches import mean_over_devices

names, strategy = tensorflow_strategy("cpu:2")
def batches():  # the first without a gradient: from it Keras learns the shapes, which must agree
    for rows in ([0, 0], [1, 1, 4]):
        x = np.float32(rows)[:, None]
        yield x, np.full_like(x, -9), np.ones(len(x), np.float32)

column, row = tf.TensorSpec((None, 1)), tf.TensorSpec((None,))
gradients = []
for patch in (lambda loss: loss, mean_over_devices):
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(
            1, use_bias=False, kernel_initializer="zeros")])
        loss = patch(keras.losses.MeanAbsoluteError(reduction="mean_with_sample_weight"))
        model.compile(keras.optimizers.SGD(1.0), loss)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=(column, column, row))
    model.fit(dataset, verbose=0)
    gradients.append(-float(model.get_weights()[0][0, 0]))
print(json.dumps(gradients))
"""


def test_keras_averages_the_means_of_devices_and_the_patch_all_rows():
    process = subprocess.run([sys.executable, "-c", TWO_DEVICES], cwd=ROOT, text=True,
                             capture_output=True, timeout=300)
    assert process.returncode == 0, process.stderr[-3000:]
    unpatched, patched = json.loads(process.stdout.splitlines()[-1])
    assert unpatched == pytest.approx((1 + 4) / 2)  # 2 where Keras no longer needs the patch
    assert patched == pytest.approx((1 + 1 + 4) / 3)
