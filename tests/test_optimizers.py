"""optimizers.py: every kind trains; layer-wise rates, clipping, accumulation as worked by hand."""

import keras
import numpy as np
import pytest

from training.optimizers import DECAYED, KINDS, layer_factors, make_optimizer
from warmup_cosine_decay_scheduler import WarmupCosineDecay

pytestmark = pytest.mark.training


def cosine(peak_rate, steps):
    return WarmupCosineDecay(peak_rate, total_steps=steps)


def linear(optimizer, start=1.0):
    """One weight and one bias; the loss is the mean output, so the gradients are 1 * input."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, name="only")(inputs))
    model.layers[1].set_weights([np.array([[start]]), np.array([start])])
    model.compile(optimizer, lambda y, p: keras.ops.mean(p))
    return model


def step(model, x=1.0):
    model.train_on_batch(np.array([[x]]), np.array([[0.0]]))
    return [float(np.squeeze(weight)) for weight in model.get_weights()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_the_loss_smaller(kind):
    keras.utils.set_random_seed(1)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 5)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")
    model = keras.Sequential([
        keras.Input((5,)), keras.layers.Dense(8, "tanh"),
        keras.layers.Dense(1, "sigmoid", name="predictions"),
    ])
    rate = 0.1 if kind in ("sgd", "muon") else 0.02
    model.compile(make_optimizer(kind, cosine(rate, 100), weight_decay=0.01), "binary_crossentropy")
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=64, epochs=40, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.8 * before


@pytest.mark.parametrize("kind", DECAYED)
def test_decay_is_on_kernels_only(kind):
    optimizer = make_optimizer(kind, cosine(0.1, 10), weight_decay=0.5)
    model = linear(optimizer)
    decayed = [optimizer._use_weight_decay(weight) for weight in model.trainable_weights]
    assert decayed == [True, False]


def test_sgd_with_decay_clipping_and_the_cosine():
    """The rate of the first step is the highest; the gradients (3, 1) have the norm sqrt 10."""
    model = linear(make_optimizer("sgd", cosine(0.1, 1000), weight_decay=0.5, clipnorm=1.0))
    kernel, bias = step(model, 3.0)
    # Nesterov's first step is 1 + momentum times the gradient; decay takes 0.5 * 0.1 of 1.
    assert kernel == pytest.approx(1 - 0.05 - 0.1 * 1.9 * 3 / 10**0.5, abs=1e-5)
    assert bias == pytest.approx(1 - 0.1 * 1.9 / 10**0.5, abs=1e-5)


def test_accumulated_gradients_make_one_update_of_their_mean():
    model = linear(make_optimizer("sgd", cosine(0.1, 1000), accumulate=2))
    assert step(model, 1.0) == [1.0, 1.0]
    kernel, bias = step(model, 3.0)
    assert kernel == pytest.approx(1 - 0.1 * 1.9 * 2, abs=1e-5)
    assert bias == pytest.approx(1 - 0.1 * 1.9, abs=1e-5)


def test_a_moving_average_of_the_weights():
    optimizer = make_optimizer("sgd", cosine(0.1, 100000), ema=0.75)
    model = linear(optimizer)
    one, two = step(model)[0], step(model)[0]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    # The average begins with the weights after the first step.
    averaged = float(np.squeeze(model.get_weights()[0]))
    assert averaged == pytest.approx(0.75 * one + 0.25 * two, abs=1e-5)


def test_layer_factors_of_two_groups_of_six_layers_and_more():
    layers = [keras.layers.Dense(1, name=f"dense_{number}") for number in range(24)]
    for layer in layers:
        layer.build((None, 1))
    rates = layer_factors([*layers[:3], keras.layers.ReLU(), *layers[3:]], 0.5)
    assert len(rates) == 48
    assert rates["dense_23/kernel"] == rates["dense_22/bias"] == 0.5
    assert rates["dense_21/kernel"] == 0.25
    assert rates["dense_0/kernel"] == rates["dense_1/kernel"] == 0.5**12


def test_layers_inside_others_have_factors_of_their_own():
    inputs = x = keras.Input((1,))
    for number in range(11):
        x = keras.layers.Dense(1, name=f"inner_{number}")(x)
    nested = keras.Model(inputs, x, name="nested")
    last = keras.layers.Dense(1, name="last")
    last.build((None, 1))
    rates = layer_factors([nested, last], 0.5)
    assert rates["last/kernel"] == 0.5
    assert sorted({value for path, value in rates.items() if "inner_" in path}) == [
        0.5**power for power in range(12, 1, -1)]


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lion"])
def test_a_rate_of_its_own_scales_a_variables_step(kind):
    plain = step(linear(make_optimizer(kind, cosine(0.1, 1000))))
    scaled = step(linear(make_optimizer(kind, cosine(0.1, 1000), factors={"only/kernel": 0.25})))
    assert scaled[1] == pytest.approx(plain[1], abs=1e-6)
    assert 1 - scaled[0] == pytest.approx((1 - plain[0]) / 4, abs=1e-5)
