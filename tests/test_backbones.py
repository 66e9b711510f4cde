"""The table of backbones against published numbers and the built models; the modes that show it."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import pytest
from conftest import ROOT, command

from benchmarks.backbones import build, classifier, export_difference, learn, multiply_adds
from common.errors import InputError
from efficientnet import lite_packages
from modeling import backbones, weight_download
from modeling.imagenet_weights import cache_folder, imagenet_file
from other import backbone_table, fetch_weights

pytestmark = pytest.mark.training

SMALLEST = {  # of each family
    "EfficientNet": "EfficientNetB0", "EfficientNetLite": "EfficientNetLite0",
    "EfficientNetV2B": "EfficientNetV2B0",
    "EfficientNetV2": "EfficientNetV2S", "ConvNeXt": "ConvNeXtTiny", "DenseNet": "DenseNet121",
    "Inception": "InceptionV3", "MobileNet": "MobileNet", "MobileNetV2": "MobileNetV2",
    "MobileNetV3": "MobileNetV3Small", "NASNet": "NASNetMobile", "ResNet": "ResNet50",
    "ResNetV2": "ResNet50V2", "VGG": "VGG16", "Xception": "Xception",
}
# Parameters with the head of 1000 classes, as Keras's documentation publishes them, and the
# channels that go into that head.
PUBLISHED = {
    "EfficientNetV2B0": (7_200_312, 1280), "EfficientNetV2B1": (8_212_124, 1280),
    "EfficientNetV2B2": (10_178_374, 1408), "EfficientNetV2B3": (14_467_622, 1536),
    "EfficientNetV2S": (21_612_360, 1280), "EfficientNetV2M": (54_431_388, 1280),
    "EfficientNetV2L": (119_027_848, 1280), "ConvNeXtTiny": (28_589_128, 768),
    "ConvNeXtSmall": (50_223_688, 768), "ConvNeXtBase": (88_591_464, 1024),
    "ConvNeXtLarge": (197_767_336, 1536), "ConvNeXtXLarge": (350_196_968, 2048),
    "DenseNet121": (8_062_504, 1024), "DenseNet169": (14_307_880, 1664),
    "DenseNet201": (20_242_984, 1920), "InceptionV3": (23_851_784, 2048),
    "InceptionResNetV2": (55_873_736, 1536), "MobileNet": (4_253_864, 1024),
    "MobileNetV2": (3_538_984, 1280), "NASNetMobile": (5_326_716, 1056),
    "NASNetLarge": (88_949_818, 4032), "ResNet50": (25_636_712, 2048),
    "ResNet101": (44_707_176, 2048), "ResNet152": (60_419_944, 2048),
    "ResNet50V2": (25_613_800, 2048), "ResNet101V2": (44_675_560, 2048),
    "ResNet152V2": (60_380_648, 2048), "Xception": (22_910_480, 2048),
}
# 10^9 multiply-adds in the papers: He et al. 2015 table 1, Sandler et al. 2018 table 4, Tan and Le
# 2019 table 2, Liu et al. 2022 table 1; VGG16 as He et al. 2015 count it.
PAPERS = {"ResNet50": 3.8, "ResNet101": 7.6, "ResNet152": 11.3, "MobileNetV2": 0.30,
          "EfficientNetB0": 0.39, "EfficientNetB1": 0.70, "EfficientNetB7": 37, "VGG16": 15.3,
          "VGG19": 19.6, "ConvNeXtTiny": 4.5, "ConvNeXtBase": 15.4}


def test_every_classifier_of_keras_has_a_line_and_every_line_a_classifier():
    theirs = {name for name in dir(keras.applications) if name[0].isupper()}
    assert len(theirs) == 40
    lite = {f"EfficientNetLite{number}" for number in range(5)}
    assert set(backbones.TABLE) == theirs | lite | {"SEResNet50"}
    assert {each.family for each in backbones.TABLE.values()} == set(SMALLEST)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones_without_the_head(name):
    with_head, channels = PUBLISHED[name]
    assert backbones.TABLE[name].parameters == with_head - 1000 * channels - 1000


@pytest.mark.parametrize("name", PAPERS)
def test_multiply_adds_are_those_of_the_papers(name):
    assert backbones.TABLE[name].gflops == pytest.approx(PAPERS[name], rel=0.05)


@pytest.mark.parametrize("name", [*SMALLEST.values(), "SEResNet50"])
def test_the_built_model_has_the_numbers_of_the_table(name):
    known = backbones.TABLE[name]
    model = build(name, known.input_size)
    assert model.count_params() == known.parameters
    assert round(multiply_adds(model) / 1e9, 3) == known.gflops


def test_multiply_adds_worked_out_by_hand():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)  # 4*4 * 3*3*3*4
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)  # 4*4 * 3*3*4
    x = keras.layers.SeparableConv2D(5, 3, padding="same")(x)  # 4*4 * (3*3*4 + 4*5)
    x = keras.Sequential([keras.layers.Conv2D(6, 1, groups=1), keras.layers.ReLU()])(x)  # 4*4 * 5*6
    x = keras.layers.Dense(7)(x)  # 4*4 * 6*7
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(x))  # 112*2
    expected = 16 * (108 + 36 + 36 + 20 + 30 + 42) + 224
    assert multiply_adds(keras.Model(inputs, outputs)) == expected


# EfficientNetB0, EfficientNetV2S, ResNet50V2 and Xception are left to benchmarks/backbones.py,
# which does this for all: the others here have what they are made of.
@pytest.mark.parametrize("name", [
    "EfficientNetV2B0", "ConvNeXtTiny", "DenseNet121", "InceptionV3", "MobileNet", "MobileNetV2",
    "MobileNetV3Small", "NASNetMobile", "SEResNet50", "VGG16",
])
def test_it_learns_and_its_export_gives_the_same_numbers(name):
    keras.utils.set_random_seed(0)
    model = classifier(name, backbones.TABLE[name].min_size)
    assert min(model.get_layer("avg_pool").input.shape[1:3]) >= 1
    losses = learn(model, 3)
    assert losses[-1] < losses[0]
    if name not in ("DenseNet121", "NASNetMobile"):  # their export alone takes half a minute
        assert export_difference(model) <= 1e-5


def hashes(name):
    """Checksum, as the dictionaries of Keras's modules have it, for the file without head."""
    from keras.src.applications import convnext, efficientnet_v2, mobilenet_v3, resnet

    family = backbones.TABLE[name].family
    if family == "ConvNeXt":
        return convnext.WEIGHTS_HASHES[f"convnext_{name[8:].lower()}"][1]
    if family == "EfficientNetV2B":
        return efficientnet_v2.WEIGHTS_HASHES[name[-2:].lower()][1]
    if family == "EfficientNetV2":
        return efficientnet_v2.WEIGHTS_HASHES[f"-{name[-1].lower()}"][1]
    if family == "MobileNetV3":
        return mobilenet_v3.WEIGHTS_HASHES[f"{name[11:].lower()}_224_1.0_float"][1]
    return resnet.WEIGHTS_HASHES[name.removeprefix("SE").lower()][1]


@pytest.mark.parametrize("name", [
    name for name, each in backbones.TABLE.items()
    if each.family in ("ConvNeXt", "EfficientNetV2B", "EfficientNetV2", "MobileNetV3", "ResNet",
                       "ResNetV2")
])
def test_checksums_are_those_of_keras(name):
    file, address, checksum = imagenet_file(name)
    assert checksum == hashes(name)
    assert address.endswith("/" + file)


class Asked(Exception):
    """Ends a build of keras.applications where it asks for its file."""


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2", "MobileNetV3Small", "DenseNet121",
                                  "VGG16", "VGG19", "InceptionV3", "Xception", "NASNetMobile",
                                  "ResNet50", "EfficientNetV2B0", "EfficientNetB0"])
def test_files_are_those_that_keras_asks_for(name, monkeypatch):
    def get_file(fname=None, origin=None, cache_subdir=None, file_hash=None):
        assert cache_subdir == "models"
        raise Asked(fname, origin, file_hash)

    monkeypatch.setattr(keras.src.utils.file_utils, "get_file", get_file)
    with pytest.raises(Asked) as asked:
        getattr(keras.applications, name)(include_top=False, weights="imagenet")
    assert imagenet_file(name) == asked.value.args


def test_every_backbone_has_a_file():
    files = [imagenet_file(name) for name in backbones.TABLE
             if name != "SEResNet50" and not lite_packages.is_lite(name)]
    assert len({file for file, _, _ in files}) == len({address for _, address, _ in files}) == 40
    assert imagenet_file("SEResNet50") == imagenet_file("ResNet50")


def test_the_mode_lists_them_and_says_which_weights_are_here(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    found = command("--mode", "backbones", "--json", KERAS_HOME=str(tmp_path))
    assert found.returncode == 0 and found.stdout.count("\n") == 1
    rows = {row["name"]: row for row in json.loads(found.stdout)}
    assert list(rows) == list(backbones.TABLE)
    assert rows["VGG16"] == {"name": "VGG16", "parameters": 14_714_688, "gflops": 15.347,
                             "input_size": 224, "weights_here": True}
    here = [*lite_packages.installed(), "VGG16"]
    assert [name for name, row in rows.items() if row["weights_here"]] == here
    text = command("--mode", "backbones", KERAS_HOME=str(tmp_path)).stdout.splitlines()
    assert [line.split()[0] for line in text[1:]] == [*backbones.TABLE, "hub:PRESET"]
    assert [line.split()[0] for line in text if line.endswith("yes")] == here


def test_the_mode_needs_no_keras():
    code = (
        "import sys, other.backbone_table as table; table.rows(); "
        "assert not {'keras', 'tensorflow', 'numpy', 'h5py'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_cache_is_keras_own(monkeypatch):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    home = os.path.join(os.path.expanduser("~"), ".keras", "models")
    assert cache_folder() == home


def test_fetching_weights_says_where_they_are(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(weight_download, "fetch",
                        lambda *words: asked.append(words) or "/cache/models/there.h5")
    fetch_weights.main(SimpleNamespace(backbone="VGG16", weights_url="http://a", json=False))
    assert "/cache/models/there.h5" in capsys.readouterr().out
    fetch_weights.main(SimpleNamespace(backbone="NASNetLarge", weights_url=None, json=True))
    assert json.loads(capsys.readouterr().out) == {
        "backbone": "NASNetLarge", "weights": "/cache/models/there.h5"
    }
    assert asked == [("VGG16", "http://a"), ("NASNetLarge", None)]


def test_fetching_a_preset_is_refused():
    with pytest.raises(InputError, match="'hub:resnet_50_imagenet'"):
        fetch_weights.main(SimpleNamespace(backbone="hub:resnet_50_imagenet", weights_url=None,
                                           json=False))


def test_the_table_names_every_backbone_once():
    assert [row["name"] for row in backbone_table.rows()] == list(backbones.TABLE)
