"""Own EfficientNet, its weight files and the classifier, held to `keras.applications`."""


import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import efficientnet as published
from keras.src.legacy.saving import legacy_h5_format

import efficientnet.weights as efficientnet_weights
from common.errors import InputError, RunError
from efficientnet import VARIANTS
from efficientnet.model import efficientnet
from efficientnet.weights import imagenet_file
from modeling import backbones, weight_download, weight_files
from modeling.architecture import Architecture
from modeling.builder import build_model

pytestmark = pytest.mark.training

MEAN, STDDEV = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# Parameters with the 1000-class head, as published, and the channels that go into the head.
PUBLISHED = {
    "EfficientNetB0": (5_330_571, 1280),
    "EfficientNetB1": (7_856_239, 1280),
    "EfficientNetB2": (9_177_569, 1408),
    "EfficientNetB3": (12_320_535, 1536),
    "EfficientNetB4": (19_466_823, 1792),
    "EfficientNetB5": (30_562_527, 2048),
    "EfficientNetB6": (43_265_143, 2304),
    "EfficientNetB7": (66_658_687, 2560),
}


def backbone(name, size):
    inputs = keras.Input((size, size, 3), dtype="uint8")
    return keras.Model(inputs, efficientnet(inputs, name))


def reference(name, size, seed=0, **settings):
    """The network of `keras.applications`, scaled as with ImageNet's weights, with random ones."""
    settings = {"include_top": False, "weights": None, "input_shape": (size, size, 3), **settings}
    network = getattr(keras.applications, name)(**settings)
    generator = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.set_weights([MEAN, STDDEV**2, np.array(1)])
            layer.finalize_state()
        elif isinstance(layer, keras.layers.BatchNormalization):
            count = layer.gamma.shape[0]
            layer.set_weights([
                generator.uniform(0.5, 1.5, count), generator.normal(0, 0.2, count),
                generator.normal(0, 0.2, count), generator.uniform(0.5, 1.5, count),
            ])
        elif layer.get_weights() and "se_" in layer.name:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, generator.normal(0, 0.5, bias.shape)])
    return network


def write_published(network, path, inside=None):
    """Writes weights as Keras publishes them; `inside` a group as whole-model files have."""
    with h5py.File(path, "w") as file:
        group = file.create_group(inside) if inside else file
        legacy_h5_format.save_weights_to_hdf5_group(group, network)


def features(classifier):
    return keras.Model(classifier.inputs[0], classifier.get_layer("top_activation").output)


def pixels(size, count=2, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def assert_same(found, expected):
    """Equal to 1e-5 of the largest value, and not merely because everything is nothing."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert expected.std() > 1e-3
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_every_backbone_is_an_option_and_stands_in_the_table():
    assert [name for name in VARIANTS if not VARIANTS[name].lite] == list(PUBLISHED)
    assert set(VARIANTS) <= set(backbones.TABLE)
    for name in PUBLISHED:
        assert callable(getattr(keras.applications, name))  # names are Keras's class names


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_count(name):
    with_head, channels = PUBLISHED[name]
    ours = backbone(name, 32)
    assert ours.output_shape == (None, 1, 1, channels)
    # 1000 classes and their biases, and the 7 values of Keras's Normalization layer
    assert ours.count_params() == with_head - 1000 * channels - 1000 - 7


@pytest.mark.parametrize("name, input_size", [
    ("EfficientNetB0", 224), ("EfficientNetB1", 240), ("EfficientNetB2", 260),
    ("EfficientNetB3", 300), ("EfficientNetB4", 380), ("EfficientNetB5", 456),
    ("EfficientNetB6", 528), ("EfficientNetB7", 600),
])
def test_default_input_size_is_the_published_one(name, input_size):
    assert VARIANTS[name].input_size == input_size


@pytest.mark.parametrize("name, size", [
    ("EfficientNetB0", 64), ("EfficientNetB0", 75), ("EfficientNetB1", 64), ("EfficientNetB1", 75),
])
def test_copied_weights_give_the_published_output(name, size):
    theirs, ours = reference(name, size), backbone(name, size)
    with_weights = [layer for layer in theirs.layers if layer.weights][1:]  # without Normalization
    assert [layer.name for layer in ours.layers if layer.weights] == [
        layer.name for layer in with_weights
    ]
    for layer in with_weights:
        ours.get_layer(layer.name).set_weights(layer.get_weights())
    x = pixels(size)
    assert_same(ours(x), theirs(x.astype(np.float32)))


@pytest.mark.parametrize("inside", [None, "model_weights"])
def test_a_published_file_gives_the_published_output(tmp_path, inside):
    theirs = reference("EfficientNetB0", 64, seed=2)
    path = tmp_path / "published.h5"
    write_published(theirs, path, inside)
    ours = build_model(Architecture("EfficientNetB0", 64), 5)
    head = ours.get_layer("predictions").get_weights()
    weight_files.load(ours, str(path), head=False)
    x = pixels(64)
    assert_same(features(ours)(x), theirs(x.astype(np.float32)))
    for before, after in zip(head, ours.get_layer("predictions").get_weights()):
        assert np.array_equal(before, after)


def test_a_published_file_with_a_head_that_fits_gives_its_probabilities(tmp_path):
    theirs = reference("EfficientNetB0", 64, seed=3, include_top=True, classes=7)
    write_published(theirs, tmp_path / "published.h5")
    path = str(tmp_path / "published.h5")
    ours = build_model(Architecture("EfficientNetB0", 64), 7, weights=path)
    x = pixels(64)
    assert_same(ours(x), theirs(x.astype(np.float32)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_imagenet_asks_for_the_file_that_keras_asks_for(name):
    short = name.removeprefix("EfficientNet").lower()
    file = f"efficientnet{short}_notop.h5"
    assert imagenet_file(name) == (
        file, published.BASE_WEIGHTS_PATH + file, published.WEIGHTS_HASHES[short][1])


def test_imagenet_weights_are_loaded(tmp_path, monkeypatch):
    theirs = reference("EfficientNetB0", 64, seed=4)
    path = tmp_path / "imagenet.h5"
    write_published(theirs, path)
    monkeypatch.setattr(weight_download, "fetch", lambda name: str(path))
    ours = build_model(Architecture("EfficientNetB0", 64), 3, weights="imagenet")
    x = pixels(64)
    assert_same(features(ours)(x), theirs(x.astype(np.float32)))


@pytest.mark.parametrize("names", [[], ["EfficientNetLite0"], ["EfficientNetLite0", "x"]])
def test_without_a_network_the_error_names_an_installed_backbone(names, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("WEIGHTS_URL", raising=False)
    monkeypatch.setattr(efficientnet_weights, "STORE", "http://127.0.0.1:9/keras-applications/")
    monkeypatch.setattr(weight_download.lite_packages, "installed", lambda: names)
    with pytest.raises(RunError) as error:
        build_model(Architecture("EfficientNetB0", 32), 3, weights="imagenet")
    way_out = "--backbone EfficientNetLite0 has its weights installed"
    assert (way_out in str(error.value)) == bool(names)
    assert "Without a network: " + (way_out if names else "train") in str(error.value)


def randomize(network, seed):
    generator = np.random.default_rng(seed)
    network.set_weights([generator.uniform(0.1, 1, each.shape) for each in network.get_weights()])


def test_a_runs_weights_with_another_number_of_classes_keep_the_new_head(tmp_path):
    before = build_model(Architecture("EfficientNetB0", 32), 4)
    randomize(before, 0)
    path = str(tmp_path / "best.weights.h5")
    before.save_weights(path)
    after = build_model(Architecture("EfficientNetB0", 32), 3)
    head = after.get_layer("predictions").get_weights()
    weight_files.load(after, path, head=False)
    for layer in before.layers:
        new = after.get_layer(layer.name).get_weights()
        expected = head if layer.name == "predictions" else layer.get_weights()
        assert len(new) == len(expected)
        assert all(np.array_equal(one, two) for one, two in zip(new, expected)), layer.name
    with pytest.raises(InputError) as error:
        weight_files.load(after, path)
    for fact in (path, "'predictions'", "(1280, 3)", "(1280, 4)"):
        assert fact in str(error.value)


def test_a_runs_weights_come_back_bit_for_bit(tmp_path):
    before = build_model(Architecture("EfficientNetB0", 32), 3)
    randomize(before, 1)
    path = str(tmp_path / "best.weights.h5")
    before.save_weights(path)
    after = build_model(Architecture("EfficientNetB0", 32), 3)
    weight_files.load(after, path)
    assert all(np.array_equal(*pair) for pair in zip(before.get_weights(), after.get_weights()))


def test_another_backbone_is_refused_with_the_first_layer_and_both_shapes(tmp_path):
    path = str(tmp_path / "b2.weights.h5")
    build_model(Architecture("EfficientNetB2", 32), 3).save_weights(path)
    with pytest.raises(InputError) as error:
        build_model(Architecture("EfficientNetB0", 32), 3, weights=path)
    # B0 and B2 have the same stem and first project 32 channels to 16. The second block of
    # stage 1 stands in B2 only; stage 2 is 24 channels wide in both, stage 3 is 40 or 48.
    for fact in (path, "'block3a_project_conv'", "(1, 1, 144, 40)", "(1, 1, 144, 48)"):
        assert fact in str(error.value)
    path = str(tmp_path / "b0.weights.h5")
    build_model(Architecture("EfficientNetB0", 32), 3).save_weights(path)
    with pytest.raises(InputError, match="'block1b_dwconv'.*no such layer"):
        build_model(Architecture("EfficientNetB1", 32), 3, weights=path)


@pytest.mark.parametrize("content", [b"", b"not a weights file", b"\x89HDF\r\n\x1a\n" + bytes(99)])
def test_not_an_h5_file_is_refused(tmp_path, content):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match="weights.h5: is not a weights file"):
        weight_files.read(str(path))


def test_no_such_weights_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere.h5: no such weights file"):
        weight_files.read(str(tmp_path / "nowhere.h5"))


@pytest.mark.parametrize("key", ["data", "layers", "layers/dense", "layers/dense/vars"])
def test_an_h5_file_of_something_else_is_refused(tmp_path, key):
    path = str(tmp_path / "other.h5")
    with h5py.File(path, "w") as file:
        file[key] = np.zeros(3)  # the last three stand where a run's weights have groups
    with pytest.raises(InputError, match="other.h5"):
        weight_files.read(path)


def test_a_cut_off_weights_file_is_refused(tmp_path):
    whole = tmp_path / "whole.weights.h5"
    build_model(Architecture("EfficientNetB0", 32), 3).save_weights(whole)
    part = tmp_path / "part.weights.h5"
    part.write_bytes(whole.read_bytes()[:-10000])
    with pytest.raises(InputError, match="part.weights.h5"):
        weight_files.read(str(part))


def test_batchnorm_momentum_works_on_small_data():
    found = [
        layer.momentum for layer in build_model(Architecture("EfficientNetB0", 32), 3).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert found == [0.9] * 49  # stem and top, 15 in expansions, 2 in each of the 16 blocks


def test_stochastic_depth_grows_from_the_first_block_to_the_last():
    network = build_model(Architecture("EfficientNetB0", 32, drop_connect=0.16), 3)
    rates = [
        layer.rate for layer in network.layers
        if isinstance(layer, keras.layers.Dropout) and layer.name != "top_dropout"
    ]
    # The 9 blocks with a way around them are numbers 2, 4, 6, 7, 9, 10, 12, 13, 14 of 0 to 15.
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.07, 0.09, 0.10, 0.12, 0.13, 0.14])


@pytest.fixture
def policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_uint8_in_float32_probabilities_out(policy, name):
    policy(name)
    network = build_model(Architecture("EfficientNetB0", 32), 6)
    assert network.inputs[0].name == "input_img"
    assert keras.backend.standardize_dtype(network.inputs[0].dtype) == "uint8"
    found = network(pixels(32, 3))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    found = np.asarray(found)
    assert found.shape == (3, 6)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_mixed_precision_reaches_the_backbone(policy):
    policy("mixed_bfloat16")
    network = build_model(Architecture("EfficientNetB0", 32), 6)
    assert network.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert network.get_layer("stem_conv").kernel.dtype == "float32"
