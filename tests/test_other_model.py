"""other_model.py and weight files against keras.applications and NumPy."""

import sys
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import other_model
from common.errors import InputError, RunError
from config import parser
from Groupnormalization import to_group_normalization
from modeling import backbones, weight_files
from modeling.architecture import Architecture
from modeling.builder import build_model
from modeling.layer_names import SQUEEZE_LAYERS

pytestmark = pytest.mark.training

applications = keras.applications
# name, size, the family's preprocess_input (None: the model of Keras has it inside)
FAMILIES = [
    ("EfficientNetV2B0", 64, None),
    ("EfficientNetV2S", 32, None),
    ("ConvNeXtTiny", 64, None),
    ("DenseNet121", 64, applications.densenet.preprocess_input),
    ("InceptionV3", 96, applications.inception_v3.preprocess_input),
    ("MobileNet", 64, applications.mobilenet.preprocess_input),
    ("MobileNetV2", 75, applications.mobilenet_v2.preprocess_input),
    ("MobileNetV3Small", 64, None),
    ("NASNetMobile", 32, applications.nasnet.preprocess_input),
    ("ResNet50", 64, applications.resnet.preprocess_input),
    ("ResNet50V2", 64, applications.resnet_v2.preprocess_input),
    ("VGG16", 32, applications.vgg16.preprocess_input),
    ("Xception", 75, applications.xception.preprocess_input),
]
PREPROCESS = {name: function for name, _, function in FAMILIES}


def reference(name, size, seed=0, **settings):
    """The network of keras.applications with random weights, statistics and layer scales too."""
    settings = {"include_top": False, "weights": None, "input_shape": (size, size, 3), **settings}
    network = getattr(applications, name)(**settings)
    generator = np.random.default_rng(seed)
    ranges = {"gamma": (0.5, 1.5), "beta": (-0.2, 0.2), "moving_mean": (-0.2, 0.2),
              "moving_variance": (0.5, 1.5), "variable": (0.5, 1.5)}
    for weight in network.weights:
        if weight.name in ranges:
            weight.assign(generator.uniform(*ranges[weight.name], weight.shape))
    return network


def write_published(network, path, renamed=lambda name: name):
    """Writes weights as Keras publishes them, under other names where `renamed` says so."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
        names = [str(name) for name in file.attrs["layer_names"]]
        for name in sorted(names, key=len, reverse=True):
            if renamed(name) != name:
                file.move(name, renamed(name) + ".new")
        for name in names:
            if renamed(name) != name:
                file.move(renamed(name) + ".new", renamed(name))
        file.attrs["layer_names"] = [renamed(name).encode() for name in names]
    return str(path)


def add_backbone(inputs, name, drop_connect=0.2):
    return other_model.other_model(
        inputs, name, backbones.find(name).family, SQUEEZE_LAYERS, drop_connect
    )


def classifier(name, size, classes=3, attach=lambda x: x):
    inputs = keras.Input((size, size, 3), dtype="uint8", name="input_img")
    features = add_backbone(inputs, name)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(attach(features))
    outputs = keras.layers.Dense(classes, name="predictions")(x)
    return keras.Model(inputs, outputs), keras.Model(inputs, features)


def pixels(size, count=2, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def expected(theirs, name, x):
    x = x.astype(np.float32)
    preprocess = PREPROCESS[name]
    return np.asarray(theirs(preprocess(x.copy()) if preprocess else x))


def assert_same(found, expected):
    """Equal to 1e-5 of the largest value, and not merely because everything is nothing."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert expected.std() > 1e-4
    assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


def numbered(names):
    """The names that Keras made itself, with their class's name and perhaps a number."""
    start = ("conv2d", "batch_normalization", "layer_normalization", "activation", "add")
    return [name for name in names if name.startswith(start)]


@pytest.mark.parametrize("name, size, preprocess", FAMILIES)
def test_a_published_file_gives_the_published_output(name, size, preprocess, tmp_path):
    theirs = reference(name, size)
    path = write_published(theirs, tmp_path / "published.h5")
    model, features = classifier(name, size)
    head = model.get_layer("predictions").get_weights()
    weight_files.load(model, path, head=False)
    x = pixels(size)
    assert_same(features(x), expected(theirs, name, x))
    assert np.array_equal(head[0], model.get_layer("predictions").get_weights()[0])
    momenta = {layer.momentum for layer in model.layers
               if isinstance(layer, keras.layers.BatchNormalization)}
    assert momenta <= {0.9}


@pytest.mark.parametrize("name, size", [("InceptionV3", 75), ("Xception", 71)])
def test_names_are_those_of_a_process_that_builds_nothing_else(name, size):
    first = [layer.name for layer in classifier(name, size)[0].layers]
    assert first == [layer.name for layer in classifier(name, size)[0].layers]
    keras.utils.clear_session()
    theirs = getattr(applications, name)(
        include_top=False, weights=None, input_shape=(size, size, 3)
    )
    fresh = numbered(layer.name for layer in theirs.layers)
    assert "conv2d" in fresh
    assert numbered(first) == fresh


def shifted(name):
    """Numbers of nameless layers as older releases counted, from 1."""
    for kind in ("conv2d", "batch_normalization"):
        if name == kind or name.startswith(kind + "_"):
            return f"{kind}_{int(name[len(kind) + 1:] or 0) + 1}"
    return name


@pytest.mark.parametrize("name, size", [("InceptionV3", 75), ("Xception", 71)])
def test_other_numbers_in_the_file_do_not_matter(name, size, tmp_path):
    keras.utils.clear_session()
    theirs = reference(name, size, seed=2, include_top=True, classes=7)
    path = write_published(theirs, tmp_path / "published.h5", shifted)
    assert "conv2d_1" in weight_files.read(path) and "conv2d" not in weight_files.read(path)
    model, features = classifier(name, size)
    weight_files.load(model, path, head=False)
    theirs = keras.Model(theirs.inputs[0], theirs.get_layer("avg_pool").input)
    x = pixels(size)
    assert_same(features(x), expected(theirs, name, x))


def test_a_file_with_a_head_is_taken_and_its_head_too_where_it_fits(tmp_path):
    theirs = reference("ResNet50", 32, seed=3, include_top=True, classes=3,
                       classifier_activation=None)
    path = write_published(theirs, tmp_path / "published.h5")
    x = pixels(32)
    for classes in (3, 4):
        model, features = classifier("ResNet50", 32, classes)
        weight_files.load(model, path, head=False)
        if classes == 3:
            assert_same(model(x), expected(theirs, "ResNet50", x))
    theirs = keras.Model(theirs.inputs[0], theirs.get_layer("avg_pool").input)
    assert_same(features(x), expected(theirs, "ResNet50", x))


def test_another_networks_file_is_refused_and_loads_nothing(tmp_path):
    path = write_published(reference("MobileNet", 32), tmp_path / "mobilenet.h5")
    for name, size, facts in (
        # MobileNet begins with a convolution like InceptionV3's; the next layers differ
        ("InceptionV3", 75, ("'conv2d_1'", "(3, 3, 32, 32)", "'conv1_bn'", "(32,)")),
        ("ResNet50", 32, ("'conv1_conv'", "(7, 7, 3, 64)", "'conv1'", "(3, 3, 3, 32)")),
    ):
        model, _ = classifier(name, size)
        before = model.get_weights()
        with pytest.raises(InputError) as error:
            weight_files.load(model, path, head=False)
        assert path in str(error.value) and "\n" not in str(error.value)
        for fact in facts:
            assert fact in str(error.value)
        assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights()))


def test_a_runs_file_fits_whatever_was_built_before(tmp_path):
    before, _ = classifier("InceptionV3", 75)
    generator = np.random.default_rng(4)
    before.set_weights([generator.uniform(0.1, 1, each.shape) for each in before.get_weights()])
    path = str(tmp_path / "best.weights.h5")
    before.save_weights(path)
    after, _ = classifier("InceptionV3", 75)
    weight_files.load(after, path)
    assert all(np.array_equal(*pair) for pair in zip(before.get_weights(), after.get_weights()))


@pytest.mark.parametrize("name, size, scale", [("MobileNetV2", 32, True),
                                               ("InceptionV3", 75, False)])
def test_group_normalization_takes_scale_and_shift_of_batch_normalization(
    name, size, scale, tmp_path
):
    theirs = reference(name, size, seed=5)
    path = write_published(theirs, tmp_path / "published.h5")
    model = to_group_normalization(classifier(name, size)[1])
    weight_files.load(model, path, head=False)
    pairs = [
        (one, two) for one, two in zip(
            [layer for layer in theirs.layers if layer.weights],
            [layer for layer in model.layers if layer.weights],
        ) if isinstance(two, keras.layers.GroupNormalization)
    ]
    assert len(pairs) > 50
    for one, two in pairs:
        assert np.array_equal(one.beta, two.beta)
        if scale:
            assert np.array_equal(one.gamma, two.gamma)
        else:
            assert one.gamma is None and two.gamma is None


def test_group_normalization_has_a_scale_of_one_where_the_file_has_none(tmp_path):
    inputs = keras.Input((4, 4, 3))
    theirs = keras.Model(inputs, keras.layers.BatchNormalization(scale=False, name="bn")(inputs))
    theirs.layers[1].set_weights(np.arange(1.0, 10).reshape(3, 3))
    path = write_published(theirs, tmp_path / "published.h5")
    ours = keras.Model(inputs, keras.layers.GroupNormalization(1, name="bn")(inputs))
    weight_files.load(ours, path, head=False)
    assert np.array_equal(ours.get_weights(), [[1, 1, 1], [1, 2, 3]])


def test_seresnet50_is_resnet50_with_squeeze_and_excitation_by_numpy(tmp_path):
    theirs = reference("ResNet50", 64, seed=6)
    path = write_published(theirs, tmp_path / "resnet50.h5")
    model, features = classifier("SEResNet50", 64)
    names = ("squeeze_reduce", "squeeze_expand")
    before = [model.get_layer(name).get_weights() for name in names]
    weight_files.load(model, path, head=False)
    (w1, b1), (w2, b2) = [model.get_layer(name).get_weights() for name in names]
    assert w1.shape == (2048, 128) and w2.shape == (128, 2048)
    assert np.array_equal(before[0][0], w1) and np.array_equal(before[1][0], w2)
    x = pixels(64)
    maps = expected(theirs, "ResNet50", x)
    hidden = np.maximum(maps.mean((1, 2)) @ w1 + b1, 0)
    weights = 1 / (1 + np.exp(-(hidden @ w2 + b2)))
    assert_same(features(x), maps * weights[:, None, None, :])


def test_new_layers_keep_what_they_have(tmp_path):
    path = write_published(reference("MobileNetV3Small", 32), tmp_path / "published.h5")

    def attach(x):
        for name in ("attention", "bilinear_conv", "pool", "block1a_cbam"):
            x = keras.layers.Dense(8, name=name)(x)
        return x

    model, _ = classifier("MobileNetV3Small", 32, attach=attach)
    names = ["attention", "bilinear_conv", "pool", "predictions", "block1a_cbam"]
    before = [model.get_layer(name).get_weights()[0] for name in names]
    weight_files.load(model, path, head=False)
    for name, kernel in zip(names, before):
        assert np.array_equal(kernel, model.get_layer(name).get_weights()[0])
    with pytest.raises(InputError, match="no such layer"):
        weight_files.load(model, path)
    other, _ = classifier("MobileNetV3Small", 32, attach=keras.layers.Dense(8, name="neck"))
    with pytest.raises(InputError, match="'neck'"):
        weight_files.load(other, path, head=False)


@pytest.mark.parametrize("name", ["EfficientNetV2B0", "ConvNeXtTiny"])
def test_stochastic_depth_grows_to_what_is_asked_for(name):
    for asked in (0.0, 0.4):
        inputs = keras.Input((32, 32, 3))
        model = keras.Model(inputs, add_backbone(inputs, name, asked))
        skips = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
        rates = [layer.rate for layer in skips]
        assert {layer.noise_shape for layer in skips} == {(None, 1, 1, 1)}
        assert rates == sorted(rates)
        assert asked * 0.9 <= rates[-1] <= asked
        if name == "ConvNeXtTiny":  # 18 blocks; Liu et al. 2022: a linear ramp from 0
            assert rates == pytest.approx(np.linspace(0, asked, 18))
        else:  # 21 blocks from number 0; the last has a way around it
            assert rates[-1] == pytest.approx(asked * 20 / 21)


def test_without_kerashub_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(RunError, match=r"hub:vit_tiny: .*pip install -r requirements/hub.txt"):
        other_model.hub_model(keras.Input((32, 32, 3)), "hub:vit_tiny", "hub:", True)


@pytest.fixture
def hub(monkeypatch):
    """Stands in for KerasHub: a preset is a convolution, or tokens with one for the class."""
    asked = []

    def from_preset(preset, load_weights, image_shape):
        asked.append((preset, load_weights, image_shape))
        if preset == "nowhere":
            raise ValueError("no such\npreset")
        inputs = keras.Input(image_shape)
        x = keras.layers.Conv2D(4, 8, strides=8)(inputs)
        if preset == "tokens":
            x = keras.layers.Reshape((16, 4))(x)
            x = keras.layers.Concatenate(axis=1)([x[:, :1] * 0, x])
        return keras.Model(inputs, x)

    class ImageConverter:
        @classmethod
        def from_preset(cls, name):
            return SimpleNamespace(scale=[1 / 50, 1 / 60, 1 / 70], offset=-1)

    monkeypatch.setitem(sys.modules, "keras_hub", SimpleNamespace(
        models=SimpleNamespace(Backbone=SimpleNamespace(from_preset=from_preset)),
        layers=SimpleNamespace(ImageConverter=ImageConverter),
    ))
    return asked


@pytest.mark.parametrize("preset", ["map", "tokens"])
def test_a_preset_is_scaled_and_gives_a_map(preset, hub, tmp_path):
    def build(classes):
        inputs = keras.Input((32, 32, 3), dtype="uint8")
        features = other_model.hub_model(inputs, "hub:" + preset, "hub:", True)
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)
        outputs = keras.layers.Dense(classes, name="predictions")(x)
        return keras.Model(inputs, outputs), keras.Model(inputs, features)

    model, features = build(3)
    assert hub == [(preset, True, (32, 32, 3))]
    nested = next(layer for layer in model.layers if hasattr(layer, "layers"))
    kernel, bias = nested.get_weights()
    x = pixels(32)
    scaled = x / np.array([50, 60, 70]) - 1
    patches = scaled.reshape(2, 4, 8, 4, 8, 3).swapaxes(2, 3).reshape(2, 4, 4, -1)
    assert_same(features(x), patches @ kernel.reshape(-1, 4) + bias)

    path = str(tmp_path / "best.weights.h5")
    model.save_weights(path)
    again, _ = build(3)
    weight_files.load(again, path)
    assert_same(again(x), model(x))
    other, features_of_other = build(5)
    weight_files.load(other, path, head=False)
    assert_same(features_of_other(x), features(x))
    with pytest.raises(InputError, match="does not fit"):
        weight_files.load(other, path)


@pytest.mark.parametrize("preset", [
    "modelscope://OWNER/NAME", "hf://OWNER/NAME", "kaggle://OWNER/MODEL/keras/VARIATION",
    "/presets/my preset", r"C:\presets\tiny", "../tiny", "hub:twice",
])
def test_kerashub_gets_the_name_as_it_was_given(preset, hub):
    options = parser.parse("train", ["--backbone", "hub:" + preset])
    architecture = Architecture(options.backbone, 32)
    assert build_model(architecture, 3, "imagenet").output_shape == (None, 3)
    assert hub == [(preset, True, (32, 32, 3))]
    build_model(architecture, 3)
    assert hub[1:] == [(preset, False, (32, 32, 3))]


def test_a_preset_that_is_not_there_is_one_line(hub):
    with pytest.raises(RunError, match="hub:nowhere: .*no such preset"):
        other_model.hub_model(keras.Input((32, 32, 3)), "hub:nowhere", "hub:", False)


def test_every_backbone_has_a_scaling():
    families = {each.family for each in backbones.TABLE.values()}
    assert families - {"EfficientNet", "EfficientNetLite"} == set(other_model.SCALING)
