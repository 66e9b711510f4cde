"""Training in stages and with the options of fine-tuning, on a network with few blocks."""

import os

import keras
import numpy as np
import pytest
from conftest import write_samples

import efficientnet.model as network
import train
from compute.devices import Devices
from config import parser
from modeling.architecture import Architecture
from modeling.builder import HEAD_LAYERS, backbone_layers, build_model
from prediction.classifier import Classifier
from runs import run_folder
from runs.run_folder import find
from save_model import export
from training import callbacks, fine_tuning

pytestmark = pytest.mark.training

FEW_BLOCKS = (network.Stage(3, 1, 16, 1, 2), network.Stage(3, 2, 24, 6, 2))
PLAIN = ("--horizontal_flip", "no", "--shift", "0", "--rotation", "0", "--zoom", "0",
         "--random_eraser", "0")


@pytest.fixture(autouse=True)
def few_blocks(monkeypatch):
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    write_samples(place / "train", 6)
    write_samples(place / "val", 2, seed=5)
    return place


def fit(data, place, *words, epochs=4, name="run"):
    return train.fit(parser.parse("train", [
        "--train_data", str(data / "train"), "--val_data", str(data / "val"), "--weights", "none",
        "--recipe", "scratch",
        "--input_size", "32", "--batch_size", "6", "--epochs", str(epochs), "--workers", "2",
        "--save_dir", str(place / "runs"), "--log_dir", str(place / "logs"), "--run", name,
        *words,
    ]))


def weights(path, name="last.weights.h5"):
    """A run's weights, layer -> list of arrays."""
    from modeling import weight_files

    return weight_files.read(os.path.join(path, name))


def equal(one, two):
    return one.keys() == two.keys() and all(
        len(one[name]) == len(two[name])
        and all(np.array_equal(a, b) for a, b in zip(one[name], two[name]))
        for name in one
    )


def test_a_frozen_backbone_is_bit_equal_before_and_after(data, tmp_path):
    """Weights and moving statistics; the head has learned, and then everything learns."""
    start = fit(data, tmp_path, "--freeze_epochs", "1", "--learning_rate", "1e-9", epochs=1,
                name="start")
    first = os.path.join(start["run"], "last.weights.h5")
    frozen = fit(data, tmp_path, "--weights", first, "--freeze_epochs", "2", epochs=2,
                 name="frozen")
    before, after = weights(start["run"]), weights(frozen["run"])
    head = {"predictions"}
    assert equal({n: before[n] for n in before.keys() - head},
                 {n: after[n] for n in after.keys() - head})
    assert not np.array_equal(before["predictions"][0], after["predictions"][0])
    thawed = fit(data, tmp_path, "--weights", first, "--freeze_epochs", "2", epochs=3,
                 name="thawed")
    changed = weights(thawed["run"])
    assert all(not np.array_equal(before[n][0], changed[n][0]) for n in ("stem_conv", "stem_bn"))
    assert not np.array_equal(before["stem_bn"][2], changed["stem_bn"][2])  # a moving mean


def test_stochastic_depth_rests_while_frozen_and_comes_back():
    model = build_model(Architecture("EfficientNetB0", 32, drop_connect=0.3), 3)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    body, _ = fine_tuning.split_model(model, Devices())
    with fine_tuning.FrozenBackbone(model):
        assert not any(layer.trainable_weights for layer in backbone_layers(model))
        np.testing.assert_array_equal(body(x, training=True), body(x, training=False))
    assert rates == [
        layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)
    ]
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("settings, names", [
    ({}, {"top_dropout", "predictions"}),
    ({"dropout": 0.0}, {"predictions"}),
    ({"pooling": "gem"}, {"pool", "top_dropout", "predictions"}),
    ({"attention": "cbam"}, {"attention", "pool", "top_dropout", "predictions"}),
    ({"pooling": "bilinear", "bilinear_dim": 8},
     {"bilinear_conv", "pool", "top_dropout", "predictions"}),
])
def test_a_split_model_computes_the_same(settings, names):
    model = build_model(Architecture("EfficientNetB0", 32, **settings), 3)
    assert {layer.name for layer in model.layers} & set(HEAD_LAYERS) >= names
    body, head = fine_tuning.split_model(model, Devices())
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(
        head.predict_on_batch(body.predict_on_batch(x)), model.predict_on_batch(x), atol=1e-6
    )
    parts = {layer.name for layer in head.layers if not isinstance(layer, keras.layers.InputLayer)}
    assert parts == names


def test_cached_features_give_the_same_head(data, tmp_path):
    found = [
        fit(data, tmp_path, "--freeze_epochs", "4", *more, name=name)
        for name, more in (("plain", PLAIN), ("cached", ["--cache_features"]))
    ]
    one, two = (weights(result["run"]) for result in found)
    assert one.keys() == two.keys()
    for name in one:
        for a, b in zip(one[name], two[name]):
            np.testing.assert_allclose(a, b, atol=1e-4)
    assert found[0]["val_accuracy"] == found[1]["val_accuracy"]
    assert not [name for name in os.listdir(found[1]["run"]) if "tmp" in name]


FROZEN = ("--freeze_epochs", "2")
CACHED = (*FROZEN, "--cache_features", "--ema", "0.5")
MIXED = ("--ema", "0.5", "--accumulate", "2", "--sampler", "balanced", "--mixup", "0.4")


@pytest.fixture(scope="module")
def wholes():
    """Paths of runs that nothing stopped, by their options."""
    return {}


@pytest.mark.parametrize("words, stop", [
    (FROZEN, 2), (CACHED, 1), (CACHED, 2), (CACHED, 3), (MIXED, 2),
])
def test_going_on_gives_the_same_run(
    data, tmp_path_factory, tmp_path, monkeypatch, wholes, words, stop
):
    """Stopped in each stage and between them, after `stop` complete epochs."""
    if words not in wholes:
        wholes[words] = fit(data, tmp_path_factory.mktemp("whole"), *words)["run"]
    whole = wholes[words]
    ended = callbacks.EpochMonitor.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        ended(self, epoch, logs)
        if epoch == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.EpochMonitor, "on_epoch_begin", on_epoch_begin)
        with pytest.raises(KeyboardInterrupt):
            fit(data, tmp_path, *words, name="halves")
    halves = train.fit(parser.parse("train", [
        "--resume", "halves", "--save_dir", str(tmp_path / "runs"),
    ]))["run"]
    for name in ("last.weights.h5", "best.weights.h5"):
        assert equal(weights(whole, name), weights(halves, name))
    read = [open(os.path.join(path, "results.csv")).read() for path in (whole, halves)]
    assert read[0] == read[1]
    assert len(os.listdir(os.path.join(halves, "checkpoint"))) == 2


def test_the_average_is_what_is_validated_and_kept(data, tmp_path):
    """A moving average that never moves keeps the weights after the first step."""
    words = ("--warmup_epochs", "0", "--learning_rate", "0.02")
    path = fit(data, tmp_path, "--ema", "0.999999", *words)["run"]
    with open(os.path.join(path, "results.csv")) as file:
        lines = [line.split(",") for line in file.read().splitlines()[1:]]
    first, last = weights(path, "best.weights.h5"), weights(path)
    np.testing.assert_allclose(first["predictions"][0], last["predictions"][0], atol=1e-4)
    plain = weights(fit(data, tmp_path, *words, name="plain")["run"])
    assert np.abs(plain["predictions"][0] - last["predictions"][0]).max() > 1e-2
    assert len(lines) == 4


@pytest.mark.parametrize("words", [
    ("--attention", "cbam", "--pooling", "gem", "--norm", "group", "--batch_size", "2"),
    ("--pooling", "compact_bilinear", "--block_attention", "cbam"),
    ("--pooling", "bilinear", "--bilinear_dim", "8", "--block_attention", "none"),
    ("--pooling", "max", "--loss", "focal", "--class_weights", "effective_number"),
    ("--class_weights", "balanced", "--layer_decay", "0.7", "--clipnorm", "1"),
    ("--mixed_precision", "bfloat16", "--randaugment", "0.3", "--cutmix", "1"),
    ("--mixed_precision", "float16", "--ema", "0.9", "--optimizer", "sgd"),
])
def test_any_combination_trains_exports_and_predicts(data, tmp_path, words):
    found = fit(data, tmp_path, *words, epochs=1)
    run = run_folder.read(find(found["run"], "."))
    assert export(run)["difference"] <= 1e-4
    one = Classifier.load(run.path)
    image = data / "val" / "img_0_0.png"
    assert sum(each["probability"] for each in one.classify([str(image)])[0]) == pytest.approx(
        1, abs=1e-4
    )
