"""hub_model with KerasHub itself: tiny random presets in folders, and a hub on this machine.

What needs KerasHub (requirements/hub.txt) is left out where it is not installed.
"""

import contextlib
import os
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType, SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import command

import other_model
import run
from common.errors import InputError, RunError
from common.file_names import is_portable
from config import parser
from modeling import weight_files
from modeling.architecture import Architecture
from modeling.builder import build_model
from training import setup

SCALE = np.array([1 / 50, 1 / 60, 1 / 70])
TRANSFORMER = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
SIDE = 32
# name -> (class of KerasHub, settings, side of the map, whether the tokens are a dict's)
ENCODERS = {
    "dinov2": ("DINOV2Backbone", {"patch_size": 14, "num_register_tokens": 4,
                                  "position_embedding_shape": (SIDE, SIDE, 3)}, 2),
    "dinov3": ("DINOV3Backbone", {"patch_size": 8, "num_register_tokens": 4}, 4),
    "clip": ("CLIPVisionEncoder", {"patch_size": 8, "intermediate_output_index": 0}, 4),
    "metaclip2": ("MetaCLIP2VisionEncoder", {"patch_size": 8}, 4),
    "deit": ("DeiTBackbone", {"patch_size": 8}, 4),
    "siglip": ("SigLIPVisionEncoder", {"patch_size": 8}, 1),
}


@pytest.fixture(scope="module")
def hub():
    return pytest.importorskip("keras_hub")


def save(hub, network, path):
    network.save_to_preset(path)
    # One converter for all: what is read of it is its scaling.
    hub.layers.SigLIPImageConverter(
        image_size=(SIDE, SIDE), scale=SCALE.tolist(), offset=-1.0
    ).save_to_preset(path)
    return path


@pytest.fixture(scope="module")
def presets(hub, tmp_path_factory):
    """Name -> folder of a preset with random weights."""
    place = tmp_path_factory.mktemp("presets")
    folders = {}
    for name, (class_name, settings, _) in ENCODERS.items():
        keras.utils.set_random_seed(3)
        network = getattr(hub.models, class_name)(
            image_shape=(SIDE, SIDE, 3), **settings, **TRANSFORMER
        )
        for weight in network.weights:  # zeros, such as those of biases, hide what is lost
            if not weight.path.endswith("mask_token") and "seed" not in weight.path:
                noise = np.random.default_rng(len(weight.path)).normal(0, 0.1, weight.shape)
                if str(weight.dtype).startswith("float"):
                    weight.assign(np.asarray(weight) + noise)
        folders[name] = save(hub, network, str(place / f"a preset of {name}"))
    return folders


def pixels(side=SIDE, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def features_model(preset, side=SIDE, load_weights=True):
    inputs = keras.Input((side, side, 3), dtype="uint8")
    return keras.Model(inputs, other_model.hub_model(inputs, f"hub:{preset}", "hub:", load_weights))


@pytest.mark.training
@pytest.mark.parametrize("name", ENCODERS)
def test_features_are_kerashubs_own(name, hub, presets):
    network = hub.models.Backbone.from_preset(presets[name], image_shape=(SIDE, SIDE, 3))
    scaled = (pixels() * SCALE - 1).astype("float32")
    named = network.input if isinstance(network.input, dict) else None
    output = network(dict.fromkeys(named, scaled) if named else scaled)
    tokens = np.asarray(output["sequence_output"] if isinstance(output, dict) else output)
    side = ENCODERS[name][2]
    if name == "siglip":  # one row per image, from the pooling that it is trained with
        expected = tokens.reshape(2, 1, 1, 16)
    else:  # Touvron et al. 2021 (DeiT): class and distillation; DINO: class and four registers
        first = {"deit": 2, "dinov2": 5, "dinov3": 5}.get(name, 1)
        assert tokens.shape[1] == first + side * side
        expected = tokens[:, first:].reshape(2, side, side, 16)
    got = np.asarray(features_model(presets[name])(pixels()))
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5
    assert np.abs(got).max() > 0.1
    other = np.asarray(features_model(presets[name], load_weights=False)(pixels()))
    assert np.abs(got - other).max() > 0.1


@pytest.mark.training
@pytest.mark.parametrize("change", [-0.3, 0.3])
@pytest.mark.parametrize("name, side", [("dinov2", 64), ("dinov3", 48), ("siglip", SIDE)])
def test_trained_weights_come_back(name, side, change, presets, tmp_path):
    architecture = Architecture(f"hub:{presets[name]}", side)
    trained = build_model(architecture, 3, "imagenet")
    for weight in trained.trainable_weights:
        noise = np.random.default_rng(7).normal(change, 0.1, weight.shape)
        weight.assign(np.asarray(weight) + noise)
    before = np.asarray(trained(pixels(side)))
    path = str(tmp_path / "best.weights.h5")
    trained.save_weights(path)
    assert np.array_equal(before, np.asarray(trained(pixels(side))))  # saving changes nothing
    again = build_model(architecture, 3)
    weight_files.load(again, path)
    assert np.abs(before - np.asarray(again(pixels(side)))).max() <= 1e-6
    body = build_model(architecture, 5, path)  # another head on the same body
    features = [keras.Model(model.input, model.get_layer("pool").output) for model in (again, body)]
    first, second = (np.asarray(model(pixels(side))) for model in features)
    assert np.abs(first - second).max() <= 1e-6


@pytest.mark.parametrize("name", ["siglip", "clip", "deit"])
def test_another_size_than_the_presets_is_one_line(name, presets):
    with pytest.raises(InputError) as error:
        features_model(presets[name], 64)
    assert "--input_size 64" in str(error.value)
    assert f"allowed: --input_size {SIDE}" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=f"--input_size 30; allowed: .* {SIDE}") if (
        name == "deit"
    ) else contextlib.nullcontext():  # its patches have to cover the image
        features_model(presets[name], 30, load_weights=False)
    assert features_model(presets[name], 64, load_weights=False).output_shape[-1] == 16


def test_images_with_text_are_refused(hub, tmp_path):
    whole = hub.models.SigLIPBackbone(
        hub.models.SigLIPVisionEncoder(patch_size=8, image_shape=(SIDE, SIDE, 3), **TRANSFORMER),
        hub.models.SigLIPTextEncoder(
            vocabulary_size=20, embedding_dim=16, max_sequence_length=8, **TRANSFORMER
        ),
    )
    path = save(hub, whole, str(tmp_path / "whole"))
    with pytest.raises(InputError, match=r"SigLIPBackbone .*images, token_ids; allowed: .*DINOv2"):
        features_model(path)


def test_text_alone_is_refused(hub, tmp_path):
    text = hub.models.BertBackbone(vocabulary_size=20, max_sequence_length=8, **TRANSFORMER)
    text.save_to_preset(str(tmp_path / "text"))
    with pytest.raises((InputError, RunError), match="--backbone hub:.*text: ") as error:
        features_model(str(tmp_path / "text"))
    assert "\n" not in str(error.value)


def test_a_preset_without_a_scaling_is_one_line(hub, presets, tmp_path):
    folder = shutil.copytree(presets["dinov3"], tmp_path / "preset")
    os.remove(folder / "image_converter.json")
    with pytest.raises(RunError, match="image_converter.json.*doesn't exist"):
        features_model(folder)
    inputs = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    other_model.hub_model(inputs, f"hub:{folder}", "hub:", True, scaling=(1 / 255, 0.0))


@pytest.mark.parametrize("preset, reason", [
    ("no_such_preset", "Unknown preset identifier"),
    ("kaggle://keras/resnet", "Unexpected Kaggle preset"),
    ("hf://only/three/parts", "Unexpected Hugging Face preset"),
    ("hf://owner/name", "config.json"),
    ("modelscope://owner/name", "pip install modelscope"),
])
def test_kerashubs_error_is_one_line(preset, reason, hub, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setitem(sys.modules, "modelscope", None)
    from_preset, calls = hub.models.Backbone.from_preset, []
    monkeypatch.setattr(hub.models.Backbone, "from_preset", lambda *words, **settings: (
        calls.append(words), from_preset(*words, **settings))[1])
    with pytest.raises(RunError) as error:
        features_model(preset)
    assert str(error.value).startswith(f"--backbone hub:{preset}: KerasHub cannot load it: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert len(calls) == 1  # a hub that is away is not waited for twice


def test_presets_of_modelscope_and_kaggle_come_by_their_packages(hub, presets, monkeypatch):
    import kagglehub

    asked = []

    def snapshot_download(handle):
        asked.append(handle)
        return presets["dinov3"]

    def model_download(handle, path):
        asked.append(handle)
        file_path = os.path.join(presets["dinov3"], path)
        if not os.path.exists(file_path):
            raise ValueError(f"{path} is not present in the model files")
        return file_path

    module = ModuleType("modelscope.hub.snapshot_download")
    module.snapshot_download = snapshot_download
    for name in ("modelscope", "modelscope.hub"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(kagglehub, "model_download", model_download)
    expected = np.asarray(features_model(presets["dinov3"])(pixels()))
    for preset in ("modelscope://owner/name", "kaggle://owner/dino/keras/tiny/1"):
        asked.clear()
        assert np.array_equal(features_model(preset)(pixels()), expected)
        assert set(asked) == {preset.split("://")[1]}


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks for: the files of a repository, by HEAD and GET."""

    folder, paths = None, []

    def do_HEAD(self, body=False):
        self.paths.append(self.path)
        owner, name, _, _, file_name = self.path.strip("/").split("/", 4)
        path = os.path.join(self.folder, file_name)
        known = (owner, name) == ("owner", "name") and os.path.isfile(path)
        content = open(path, "rb").read() if known else b""
        self.send_response(200 if known else 404)
        if not known:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", f'"{len(content)}{file_name}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_GET(self):
        self.do_HEAD(body=True)

    def log_message(self, *_):
        pass


QUICK = ("--input_size", SIDE, "--batch_size", 8, "--epochs", 1, "--workers", 2)


@pytest.mark.training
def test_a_training_starts_from_a_mirror(hub, presets, folder, tmp_path):
    handler = type("Mirror", (Hub,), {"folder": presets["dinov2"], "paths": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        process = command(
            "--mode", "train", "--train_data", folder, "--backbone", "hub:hf://owner/name", *QUICK,
            cwd=tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{server.server_address[1]}",
            HF_HOME=str(tmp_path / "hub"), HF_HUB_DISABLE_TELEMETRY="1",
        )
    finally:
        server.shutdown()
        server.server_close()
    assert process.returncode == 0, process.stderr
    assert any(path.endswith("/model.weights.h5") for path in handler.paths)
    assert "Gradients do not exist" not in process.stderr
    (name,) = os.listdir(tmp_path / "save_h5_model")
    assert name.startswith("hub-hf-owner-name-")


@pytest.mark.training
@pytest.mark.parametrize("name", ["dinov2", "dinov3", "siglip", "clip"])
def test_a_run_is_trained_evaluated_and_exported(name, presets, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--mode", "train", "--train_data", folder, "--backbone", f"hub:{presets[name]}",
             "--run", "first", *QUICK]
    assert run.main([str(word) for word in words]) == 0
    assert run.main(["--mode", "eval", "--run", "first", "--data", folder]) == 0
    assert run.main(["--mode", "export", "--run", "first", "--format", "savedmodel,onnx"]) == 0


NAMES = [
    "hub:modelscope://OWNER/NAME", "hub:hf://OWNER/NAME", "hub:kaggle://a/b/keras/c/1",
    r"hub:C:\presets\my preset", "hub:/presets/tiny", r"hub:\\server\share\b", "hub:a\tb?*<>|\"",
    "hub:" + "/very/long" * 40, "hub:/\u732b" + "\u732b" * 300, "EfficientNetB0",
]


@pytest.mark.parametrize("backbone", NAMES)
def test_the_runs_name_is_one_for_every_system(backbone):
    name = setup._default_run_name(SimpleNamespace(backbone=backbone))
    assert is_portable(name)
    assert len(name.encode()) <= 255
    assert parser.parse("predict", ["--run", name, "--image", "x"]).run == name
    assert parser.parse("train", ["--backbone", backbone]).backbone == backbone


@pytest.mark.parametrize("preset", ["modelscope://a/b", "/presets/tiny"])
def test_fetch_weights_says_who_brings_presets(preset, capsys):
    assert run.main(["--mode", "fetch_weights", "--backbone", f"hub:{preset}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"hub:{preset}" in error and "KerasHub brings" in error
