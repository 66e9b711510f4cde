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
    log_one_step_late,
    remember_skipped_attributes,
    skip_steps,
    synchronize_batch_norm,
    with_learning_rate_factors,
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


def test_logs_come_one_step_late_and_those_of_the_epoch_do_not():
    class Read(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.steps = []

        def on_train_batch_end(self, batch, logs=None):
            self.steps.append(dict(logs))

        def on_epoch_end(self, epoch, logs=None):
            self.epoch = dict(logs)

    model, late, (x, y) = classifier(), classifier(), batches(4)
    late.set_weights(model.get_weights())
    for _ in range(2):  # as for each stage of a training
        log_one_step_late(late)
    epochs = []
    for one in (model, late):
        read = Read()
        for _ in range(2):
            one.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[read])
            epochs.append((read.steps, read.epoch))
    on_time, late_ones = epochs[:2], epochs[2:]
    assert [epoch for _, epoch in late_ones] == [epoch for _, epoch in on_time]
    first, second = (steps for steps, _ in on_time)
    assert late_ones[0][0] == [first[0], *first[:3]]
    assert late_ones[1][0] == [first[3], *second[:3]]
    for weights, expected_weights in zip(late.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(weights, expected_weights)


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


def test_the_variable_of_an_update_has_no_path_and_factors_find_it():
    given = []

    class Recorder(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            given.append(variable)
            super().update_step(gradient, variable, learning_rate)

    steps = []
    for factors in ({}, {"only/kernel": 0.25}):
        inputs = keras.Input((1,))
        model = keras.Model(inputs, keras.layers.Dense(1, name="only")(inputs))
        model.set_weights([np.ones((1, 1)), np.ones(1)])
        optimizer = with_learning_rate_factors(Recorder, factors)(0.1)
        assert type(optimizer).__name__ == "Recorder"
        model.compile(optimizer, "mean_absolute_error")
        model.train_on_batch(np.ones((1, 1)), np.zeros((1, 1)))
        steps.append([1 - float(np.squeeze(weight)) for weight in model.get_weights()])
    assert not any(hasattr(variable, "path") for variable in given)  # why the index is needed
    np.testing.assert_allclose(steps, [[0.1, 0.1], [0.025, 0.1]], rtol=1e-5)


# Gradient descent on the mean absolute error of w * x, from w = 0 with targets below 0: the
# gradient is the mean of x. A batch of rows 1, 1, 4 goes to two devices as (1, 1) and (4), and
# one of 1, 3 as (1) and (3), whose gradient is then clipped to a norm of 1.
TWO_DEVICES = """
import json
from compute.backend import import_keras
keras = import_keras("tensorflow")
import numpy as np
import tensorflow as tf
from compute.devices import tensorflow_strategy
from compute.keras_patches import build_from_one_device, mean_over_devices, with_clipping_of_the_sum

names, strategy = tensorflow_strategy("cpu:2")
column, row = tf.TensorSpec((None, 1)), tf.TensorSpec((None,))

def gradient_of(rows, patch_loss=lambda loss: loss, optimizer_class=keras.optimizers.SGD, **clip):
    def batches():  # the first without a gradient: from it Keras learns the shapes
        for values in ([0, 0], rows):
            x = np.float32(values)[:, None]
            yield x, np.full_like(x, -9), np.ones(len(x), np.float32)

    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(
            1, use_bias=False, kernel_initializer="zeros")])
        loss = keras.losses.MeanAbsoluteError(reduction="mean_with_sample_weight")
        model.compile(optimizer_class(1.0, **clip), patch_loss(loss))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=(column, column, row))
    model.fit(dataset, verbose=0)
    return -float(model.get_weights()[0][0, 0])

def error_of(patch):
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mae")
    patch(model)
    x = np.ones((3, 1), np.float32)  # two rows for one device, one for the other
    try:
        model.evaluate(tf.data.Dataset.from_tensors((x, x)), verbose=0)
    except tf.errors.InvalidArgumentError as error:
        return str(error)

print(json.dumps([
    [error_of(lambda model: None), error_of(build_from_one_device)],
    gradient_of([1, 1, 4]),
    gradient_of([1, 1, 4], mean_over_devices),
    gradient_of([1, 3], global_clipnorm=1.0),
    gradient_of([1, 3], optimizer_class=with_clipping_of_the_sum(keras.optimizers.SGD),
                global_clipnorm=1.0),
]))
"""


@pytest.fixture(scope="module")
def gradients():
    """Of two devices: errors, losses and clipping, each without the patch and with it."""
    process = subprocess.run([sys.executable, "-c", TWO_DEVICES], cwd=ROOT, text=True,
                             capture_output=True, timeout=300)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_keras_cannot_begin_with_an_uneven_batch_and_the_patch_can(gradients):
    unpatched, patched = gradients[0]
    assert "must have the same size" in unpatched and patched is None


def test_keras_averages_the_means_of_devices_and_the_patch_all_rows(gradients):
    _, unpatched, patched, _, _ = gradients
    assert unpatched == pytest.approx((1 + 4) / 2)
    assert patched == pytest.approx((1 + 1 + 4) / 3)


def test_keras_clips_each_devices_gradient_and_the_patch_their_sum(gradients):
    _, _, _, unpatched, patched = gradients
    assert unpatched == pytest.approx(1 / 2 + 1)  # of 1 / 2 and 3 / 2
    assert patched == pytest.approx(1)
