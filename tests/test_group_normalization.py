"""Group normalization against NumPy loops and Keras, and networks turned over to it."""

import keras
import numpy as np
import pytest
from keras import layers

from common.errors import InputError
from Groupnormalization import groups_for, to_group_normalization


def normalize(x, groups, gamma, beta, epsilon):
    """Equations (1), (2) and (7) of the paper, image by image and group by group."""
    out, size = np.empty(x.shape), x.shape[-1] // groups
    for image in range(len(x)):
        for group in range(groups):
            part = slice(group * size, (group + 1) * size)
            values = x[image, ..., part].astype(np.float64)
            mean = values.sum() / values.size
            variance = np.square(values - mean).sum() / values.size
            out[image, ..., part] = (values - mean) / np.sqrt(variance + epsilon)
    return out * gamma + beta


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(0.5, 2, shape).astype(np.float32)


def randomize(model, seed=0):
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])


def tiny(scale=True, center=True):
    inputs = keras.Input((8, 8, 3), name="input_img")
    x = layers.Conv2D(12, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm", epsilon=1e-2, scale=scale, center=center)(x)
    x = keras.ops.relu(x) + 0.5 * x  # plain operations, no layers
    inner = keras.Sequential([layers.Conv2D(5, 1), layers.BatchNormalization(name="deep")])
    x = inner(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="predictions")(x))
    randomize(model)
    randomize(inner)
    return model


def replay(model, x, groups=32):
    """The graph with group normalization, by walking the original's nodes one after another."""

    def apply(layer, *given, **settings):
        if isinstance(layer, keras.Sequential):
            (value,) = given
            for inner in layer.layers:
                value = apply(inner, value)
            return value
        if not isinstance(layer, layers.BatchNormalization):
            return layer(*given, **settings)
        channels = given[0].shape[-1]
        count = max(n for n in range(1, groups + 1) if channels % n == 0)
        gamma = 1.0 if layer.gamma is None else np.asarray(layer.gamma)
        beta = np.asarray(layer.beta)
        return normalize(np.asarray(given[0]), count, gamma, beta, layer.epsilon).astype("float32")

    values = {id(tensor): x for tensor in model.inputs}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not isinstance(node.operation, layers.InputLayer):
                given, settings = node.arguments.fill_in(values)
                values[id(node.outputs[0])] = apply(node.operation, *given, **settings)
    return np.asarray(values[id(model.outputs[0])])


@pytest.mark.parametrize("channels, groups, expected", [
    (64, 32, 32), (2048, 32, 32), (24, 32, 24), (40, 32, 20), (112, 32, 28), (37, 32, 1),
    (1, 32, 1), (96, 32, 32), (48, 32, 24), (1280, 16, 16), (33, 32, 11),
])
def test_groups(channels, groups, expected):
    assert groups_for(channels, groups) == expected


@pytest.mark.parametrize("channels, groups", [(0, 32), (-4, 32), (8, 0)])
def test_groups_refuses(channels, groups):
    with pytest.raises(InputError, match="allowed: 1 or more"):
        groups_for(channels, groups)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("channels, groups, expected", [(12, 4, 4), (10, 4, 2), (7, 4, 1)])
def test_a_layer_is_the_papers_and_keras(channels, groups, expected, scale, center):
    inputs = keras.Input((3, 5, channels))
    before = keras.Model(inputs, layers.BatchNormalization(
        axis=3, epsilon=1e-2, scale=scale, center=center, name="norm",
        gamma_regularizer="l2", trainable=False, dtype="float32",
    )(inputs))
    randomize(before)
    batch = before.get_layer("norm")
    made = to_group_normalization(before, groups).get_layer("norm")
    assert (made.groups, made.epsilon, made.scale, made.center) == (expected, 1e-2, scale, center)
    assert not made.trainable
    assert isinstance(made.gamma_regularizer, keras.regularizers.L2)
    assert len(made.weights) == scale + center
    gamma = np.asarray(batch.gamma) if scale else 1.0
    beta = np.asarray(batch.beta) if center else 0.0
    x = noise((2, 3, 5, channels))
    assert np.allclose(made(x), normalize(x, expected, gamma, beta, 1e-2), atol=1e-5)
    kerass = layers.GroupNormalization(expected, epsilon=1e-2, scale=scale, center=center)
    kerass.build(x.shape)
    kerass.set_weights([value for value, there in ((gamma, scale), (beta, center)) if there])
    assert np.array_equal(made(x), kerass(x))


def test_a_small_model():
    before = tiny(scale=False)
    kept = [weight.copy() for weight in before.get_weights()]
    after = to_group_normalization(before)
    x = noise((3, 8, 8, 3))
    expected = replay(before, x)
    assert np.allclose(after(x), expected, atol=1e-5)
    assert [layer.name for layer in after.operations] == [
        layer.name for layer in before.operations
    ]
    assert after.inputs[0].name == "input_img" and after.name == before.name
    # A copy: training it leaves the original alone.
    after.set_weights([weight + 1 for weight in after.get_weights()])
    assert all(np.array_equal(a, b) for a, b in zip(before.get_weights(), kept))


def test_another_axis_is_refused():
    inputs = keras.Input((4, 5, 6))
    model = keras.Model(inputs, layers.BatchNormalization(axis=1, name="odd")(inputs))
    with pytest.raises(InputError, match="layer 'odd' normalizes axis 1; allowed: the last, 3"):
        to_group_normalization(model)


def test_resnet50():
    before = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))
    randomize(before)
    after = to_group_normalization(before)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in after.layers)
    names = [[layer.name for layer in model.layers[1:]] for model in (before, after)]
    assert names[0] == names[1]  # but for the input, which has no name of its own
    norms = [layer for layer in after.layers if isinstance(layer, layers.GroupNormalization)]
    assert len(norms) == 53  # one a convolution
    x = noise((2, 32, 32, 3))
    found, expected = np.asarray(after(x)), replay(before, x)
    assert np.allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    for training in (False, True):
        whole, alone = after(x, training=training), after(x[:1], training=training)
        assert np.allclose(whole[:1], alone, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        assert np.array_equal(np.asarray(after(x, training=True)), found)


def test_it_learns_from_batches_of_two():
    keras.utils.set_random_seed(0)
    model = to_group_normalization(tiny())
    x = noise((16, 8, 8, 3))
    y = np.eye(2)[(x[..., 0].mean(axis=(1, 2)) > x[..., 1].mean(axis=(1, 2))).astype(int)]
    model.compile(keras.optimizers.Adam(3e-3), "categorical_crossentropy")
    losses = model.fit(x, y, batch_size=2, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
