"""CBAM and the poolings against NumPy loops written from the papers; all of it on JAX too."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from bilinear_pooling import BilinearPooling, CompactBilinearPooling, GeMPooling
from CBAM import CBAM
from common.errors import InputError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LAYERS = {
    "cbam": lambda: CBAM(reduction=2, kernel=3),
    "bilinear": BilinearPooling,
    "compact": lambda: CompactBilinearPooling(dim=24, seed=3),
    "gem": GeMPooling,
}


@pytest.fixture(autouse=True)
def seeded():
    """The same first weights each time: others may leave every ReLU of a small layer at 0."""
    keras.utils.set_random_seed(1)


def features(shape, seed=0, low=-1.0):
    return np.random.default_rng(seed).uniform(low, 1, shape).astype(np.float32)


def set_random(layer, seed=1):
    generator = np.random.default_rng(seed)
    layer.set_weights([generator.normal(0, 0.7, w.shape) for w in layer.get_weights()])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cbam(x, squeeze, excite, spatial):
    """One image (H, W, C), equations (1) to (3) of the paper, place by place."""
    height, width, channels = x.shape

    def perceptron(descriptor):
        return np.maximum(descriptor @ squeeze, 0) @ excite

    mean, largest = np.zeros(channels), np.full(channels, -np.inf)
    for row in range(height):
        for column in range(width):
            mean += x[row, column] / (height * width)
            largest = np.maximum(largest, x[row, column])
    x = x * sigmoid(perceptron(mean) + perceptron(largest))
    reach = len(spatial) // 2
    out = np.empty_like(x)
    for row in range(height):
        for column in range(width):
            total = 0.0
            for down in range(-reach, reach + 1):
                for right in range(-reach, reach + 1):
                    if 0 <= row + down < height and 0 <= column + right < width:
                        place = x[row + down, column + right]
                        factors = spatial[down + reach, right + reach, :, 0]
                        total += factors[0] * place.mean() + factors[1] * place.max()
            out[row, column] = x[row, column] * sigmoid(total)
    return out


def outer_products(x):
    """One image: the mean over places of the outer products, (C, C)."""
    total = np.zeros((x.shape[-1], x.shape[-1]))
    for row in x:
        for place in row:
            total += np.outer(place, place)
    return total / (x.shape[0] * x.shape[1])


def tensor_sketch(x, hashes, signs, dim):
    """One image: every product of two channels goes to the sum of their hashes."""
    products, out = outer_products(x), np.zeros(dim)
    for i in range(x.shape[-1]):
        for j in range(x.shape[-1]):
            out[(hashes[0, i] + hashes[1, j]) % dim] += signs[0, i] * signs[1, j] * products[i, j]
    return out


def root_and_length(x):
    x = np.sign(x) * np.sqrt(np.abs(x))
    return x / np.linalg.norm(x)


def gem(x, p):
    out = np.empty(x.shape[-1])
    for channel in range(x.shape[-1]):
        values = np.maximum(x[..., channel].astype(np.float64), 1e-6)
        out[channel] = np.mean(values**p) ** (1 / p)
    return out


# CBAM


@pytest.mark.parametrize("shape, reduction, kernel", [
    ((2, 5, 6, 8), 4, 7), ((2, 9, 8, 3), 16, 3), ((1, 1, 1, 4), 2, 7),
])
def test_cbam_is_the_papers(shape, reduction, kernel):
    layer, x = CBAM(reduction, kernel), features(shape)
    assert layer(x).shape == shape
    set_random(layer)
    weights = [weight.astype(np.float64) for weight in layer.get_weights()]
    assert weights[0].shape == (shape[-1], max(1, shape[-1] // reduction))
    expected = np.stack([cbam(image.astype(np.float64), *weights) for image in x])
    assert np.allclose(layer(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [{"reduction": 0}, {"kernel": 4}, {"kernel": -1}])
def test_cbam_refuses(settings):
    with pytest.raises(InputError, match="allowed"):
        CBAM(**settings)


# Poolings


def test_bilinear_pooling_is_the_papers():
    x = features((3, 4, 5, 6))
    expected = [root_and_length(outer_products(image)).reshape(-1) for image in x]
    # The root's slope at 0 is bounded, which moves small entries a little.
    assert np.allclose(BilinearPooling()(x), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape, dim", [
    ((2, 3, 4, 10), 32), ((2, 2, 3, 40), 17), ((1, 1, 1, 1), 1),
])
def test_sketch_is_the_papers(shape, dim):
    layer, x = CompactBilinearPooling(dim, seed=5), features(shape)
    out = layer(x)
    found = np.asarray(layer.sketch(x))
    expected = [tensor_sketch(image, layer.hashes, layer.signs, dim) for image in x]
    assert found.shape == (shape[0], dim) and np.allclose(found, expected, rtol=0, atol=1e-5)
    assert np.allclose(out, [root_and_length(row) for row in expected], rtol=0, atol=1e-3)


def test_hashes_are_spread_evenly_and_depend_on_the_seed_alone():
    def hashes(seed):
        layer = CompactBilinearPooling(16, seed)
        layer.build((None, 7, 7, 4000))
        return layer.hashes, layer.signs

    (slots, signs), (again, _), (other, _) = hashes(1), hashes(1), hashes(2)
    assert np.array_equal(slots, again) and np.mean(slots == other) < 0.1
    assert np.mean(slots[0] == slots[1]) < 0.1
    # 250 expected; the standard deviation of a binomial count is 15.
    counts = [np.bincount(row, minlength=16) for row in slots]
    assert np.min(counts) > 175 and np.max(counts) < 325
    assert set(np.unique(signs)) == {-1, 1} and np.all(np.abs(signs.mean(axis=1)) < 0.07)
    # Frozen: a network trained with these hashes is useless with others.
    small = CompactBilinearPooling(1000, seed=0)
    small.build((None, 1, 1, 3))
    raw = np.random.PCG64(0).random_raw(6).reshape(2, 3)
    assert np.array_equal(small.hashes, [[(int(r) >> 32) % 1000 for r in row] for row in raw])


def test_sketch_approximates_the_bilinear_kernel():
    # Avron, Nguyen and Woodruff 2014, "Subspace Embeddings for the Polynomial Kernel": the
    # mean squared error is at most (2 + 3^2) / dim times the squared lengths.
    x = features((6, 3, 3, 64))
    full = np.array([outer_products(image).reshape(-1) for image in x])
    kernel, lengths = full @ full.T, np.linalg.norm(full, axis=1)
    seeds, squared, bias = 30, {}, {}
    for dim in (1024, 4096, 16384):
        errors = []
        for seed in range(seeds):
            layer = CompactBilinearPooling(dim, seed)
            layer.build(x.shape)
            sketch = np.asarray(layer.sketch(x), np.float64)
            errors.append((sketch @ sketch.T - kernel) / np.outer(lengths, lengths))
        squared[dim] = np.mean(np.square(errors))
        bias[dim] = np.abs(np.mean(errors))
        assert squared[dim] <= 11 / dim
        assert bias[dim] <= 4 * np.sqrt(11 / dim / seeds)
    # As 1 / dim: a factor of 4 per step, within what 30 seeds tell.
    assert 2.5 < squared[1024] / squared[4096] < 6
    assert 2.5 < squared[4096] / squared[16384] < 6


def test_gem_is_the_papers():
    layer, x = GeMPooling(), features((2, 5, 4, 6))
    assert np.allclose(layer(x), [gem(image, 3.0) for image in x], rtol=1e-5)
    assert [w.shape for w in layer.trainable_weights] == [()]
    positive = np.abs(x) + 0.1
    layer.set_weights([np.array(1.0)])
    assert np.allclose(layer(positive), positive.mean(axis=(1, 2)), rtol=1e-5)
    layer.set_weights([np.array(500.0)])  # a plain power would overflow
    assert np.allclose(layer(positive), positive.max(axis=(1, 2)), rtol=0.02)


@pytest.mark.parametrize("settings", [{"dim": 0}, {"seed": -1}])
def test_compact_bilinear_pooling_refuses(settings):
    with pytest.raises(InputError, match="allowed"):
        CompactBilinearPooling(**settings)


# What holds for all of them


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name):
    x = features((2, 4, 3, 6), low=0.05)
    layer = LAYERS[name]()
    out = np.asarray(layer(x))
    factors = features(out.shape, seed=2)
    variables = [v.value for v in layer.trainable_variables]
    value = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(value)
        loss = tf.reduce_sum(layer(value) * factors)
    gradients = tape.gradient(loss, [value, *variables])

    def loss_at():
        return float(np.sum(np.asarray(layer(value), np.float64) * factors))

    step = 2e-3
    for number, gradient in enumerate(gradients):
        gradient = np.asarray(gradient)
        direction = features(gradient.shape, seed=number + 3)
        sides = []
        for sign in (1, -1):
            if number == 0:
                value = tf.constant(x + sign * step * direction)
                sides.append(loss_at())
                value = tf.constant(x)
            else:
                variable = variables[number - 1]
                before = variable.numpy()
                variable.assign(before + np.float32(sign * step) * direction)
                sides.append(loss_at())
                variable.assign(before)
        difference = (sides[0] - sides[1]) / (2 * step)
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(difference - np.sum(gradient * direction)) < 0.02 * scale
        assert scale > 0


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("value", [0.0, -1.0, 1e-4])
def test_gradients_are_finite_on_flat_maps(name, value):
    layer, x = LAYERS[name](), tf.fill((2, 3, 3, 6), np.float32(value))
    layer(x)
    if name == "gem":
        layer.set_weights([np.array(8.0)])  # (1e-6)^8 is 0 in float32
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = layer(x)
        loss = tf.reduce_sum(out)
    for gradient in tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)]):
        assert np.all(np.isfinite(gradient))
    assert np.all(np.isfinite(out))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", LAYERS)
def test_mixed_precision(name, policy):
    exact, mixed = LAYERS[name](), LAYERS[name]()
    mixed.dtype_policy = keras.DTypePolicy(policy)
    x = features((2, 4, 3, 6), low=0.0)
    half = tf.cast(x, mixed.compute_dtype)
    expected = exact(tf.cast(half, "float32"))
    assert mixed(half).dtype == policy.removeprefix("mixed_")
    mixed.set_weights(exact.get_weights())
    assert all(weight.dtype == "float32" for weight in mixed.weights)
    assert np.allclose(tf.cast(mixed(half), "float32"), expected, rtol=0.03, atol=0.01)
    if name != "cbam":  # products and powers that half precision cannot hold
        large = mixed(half * 30000)
        assert np.all(np.isfinite(tf.cast(large, "float32")))


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_is_saved_and_read_back(name, tmp_path):
    inputs = keras.Input((4, 3, 6), name="input_img")
    model = keras.Model(inputs, LAYERS[name]()(inputs))
    assert model.output_shape == (None, *model(np.zeros((1, 4, 3, 6))).shape[1:])
    for layer in model.layers:
        set_random(layer) if name == "cbam" else None
    x = features((2, 4, 3, 6))
    expected = np.asarray(model(x))
    model.save_weights(tmp_path / "a.weights.h5")
    again = keras.Model.from_config(model.get_config())
    again.load_weights(tmp_path / "a.weights.h5")
    assert np.array_equal(again(x), expected)
    model.export(tmp_path / "model", verbose=False)
    served = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    (found,) = served(input_img=x).values()
    assert np.allclose(found, expected, rtol=0, atol=1e-6)
    folder = tmp_path / "model"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 200_000


# JAX

ON_JAX = """
import jax, keras, numpy as np
import Groupnormalization, tests.test_layers as here
from other.focal_loss import FocalLoss
from keras import layers

assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(1)
x = here.features((2, 4, 3, 6), low=0.05)
expected = {
    "cbam": lambda image, layer: here.cbam(image, *layer.get_weights()),
    "bilinear": lambda image, layer: here.root_and_length(here.outer_products(image)).reshape(-1),
    "compact": lambda image, layer: here.root_and_length(
        here.tensor_sketch(image, layer.hashes, layer.signs, layer.dim)),
    "gem": lambda image, layer: here.gem(image, 3.0),
}
for name, make in here.LAYERS.items():
    layer = make()
    out = np.asarray(layer(x))
    wanted = np.stack([expected[name](image, layer) for image in x])
    assert np.allclose(out, wanted, rtol=0, atol=1e-3 if name == "compact" else 1e-4), name
    for at in (x, np.zeros_like(x)):
        gradient = jax.grad(lambda value: layer(value).sum())(at)
        assert np.all(np.isfinite(gradient)), name

inputs = keras.Input((4, 3, 6))
y = layers.BatchNormalization(name="norm")(layers.Conv2D(6, 1)(inputs))
y = here.LAYERS["cbam"]()(y)
y = layers.Concatenate()([here.LAYERS[name]()(y) for name in ("bilinear", "compact", "gem")])
model = keras.Model(inputs, layers.Dense(3, activation="softmax")(y))
model = Groupnormalization.to_group_normalization(model)
norm = model.get_layer("norm")
assert isinstance(norm, layers.GroupNormalization) and norm.groups == 6  # one channel a group
centred = x - x.mean(axis=(1, 2), keepdims=True)
wanted = centred / np.sqrt(x.var(axis=(1, 2), keepdims=True) + 1e-3)
assert np.allclose(norm(x), wanted, atol=1e-5)
labels = np.eye(3, dtype=np.float32)[[0, 2]]
p = np.asarray(model(x))
by_hand = -np.mean([1.0 * (1 - p[0, 0]) ** 2 * np.log(p[0, 0]),
                    0.5 * (1 - p[1, 2]) ** 2 * np.log(p[1, 2])])
loss = FocalLoss(class_weights=[1.0, 2.0, 0.5])
model.compile(keras.optimizers.Adam(1e-2), loss)
weights = model.get_weights()
losses = model.fit(x, labels, epochs=10, verbose=0).history["loss"]
assert np.isclose(losses[0], by_hand, rtol=1e-4) and losses[-1] < 0.9 * losses[0]
assert all(np.any(a != b) for a, b in zip(weights, model.get_weights()))
print("all of it")
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_everything_runs_on_jax():
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": ROOT},
    )
    assert done.returncode == 0 and "all of it" in done.stdout, done.stderr[-3000:]
