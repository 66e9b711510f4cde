"""evaluation.grad_cam: against gradients worked out by hand, and by finite differences."""

import keras
import numpy as np
import pytest

import efficientnet.model as network
from bilinear_pooling import GEM_EPSILON, NORM_EPSILON, ROOT_EPSILON
from config import parser
from evaluation.grad_cam import BATCH, grad_cam
from modeling.architecture import Architecture
from modeling.builder import build_model
from other.reporting.report_gallery import heat_maps
from runs import run_folder

FEW_BLOCKS = (network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 1, 2))
CLASSES = 3
IMAGES = np.random.default_rng(0).integers(0, 256, (BATCH + 1, 32, 32, 3), np.uint8)
ASKED = np.arange(len(IMAGES)) % CLASSES


def make(monkeypatch, **settings):
    """A model and its feature maps of `IMAGES`: few blocks, or for six channels only a layer."""
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    if settings["pooling"] != "avg":
        monkeypatch.setattr(
            "modeling.builder._backbone_features", lambda inputs, *_: keras.layers.Conv2D(
                6, 8, 8, activation="silu")(keras.layers.Rescaling(1 / 64, -2)(inputs)))
    keras.utils.set_random_seed(1)
    model = build_model(Architecture("EfficientNetB0", 32, **settings), CLASSES)
    maps = keras.Model(model.input, model.get_layer("pool").input)(IMAGES, training=False)
    return model, np.asarray(maps, np.float64)


def by_hand(maps, importance):
    """Equations 1 and 2 of the paper, image by image."""
    found = []
    for features, alphas in zip(maps, importance):
        heat = np.maximum(sum(a * features[..., k] for k, a in enumerate(alphas)), 0)
        found.append(heat / heat.max() if heat.max() else heat)
    return np.array(found)


def root_and_length(x):
    x = x / np.sqrt(np.abs(x) + ROOT_EPSILON)
    return x / np.sqrt(max((x**2).sum(), NORM_EPSILON))


def pooled(maps, how, layer):
    """One image's pooling (h, w, C) -> row, in float64, from its definition."""
    places = maps.reshape(-1, maps.shape[-1])
    if how == "max":
        return places.max(axis=0)
    if how == "gem":
        p = float(layer.p)
        return (np.maximum(places, GEM_EPSILON) ** p).mean(axis=0) ** (1 / p)
    if how == "bilinear":
        return root_and_length((places.T @ places / len(places)).ravel())
    sketches = []
    for row in places:
        counts = np.zeros((2, layer.dim))
        for one in (0, 1):
            np.add.at(counts[one], layer.hashes[one], row * layer.signs[one])
        sketches.append(np.fft.ifft(np.fft.fft(counts[0]) * np.fft.fft(counts[1])).real)
    return root_and_length(np.mean(sketches, axis=0))


def test_average_pooling_has_a_gradient_one_can_write_down(monkeypatch):
    """The score is the mean over places times the head's column, so alpha is that / places."""
    model, maps = make(monkeypatch, pooling="avg", attention="cbam")
    kernel = model.layers[-1].get_weights()[0]
    importance = kernel[:, ASKED].T / (maps.shape[1] * maps.shape[2])
    found = grad_cam(model, IMAGES, ASKED)
    assert found.dtype == np.float32 and found.shape == maps.shape[:3]
    np.testing.assert_allclose(found, by_hand(maps, importance), atol=1e-5)
    assert found.min() == 0 and (found.max(axis=(1, 2)) == 1).all()
    assert not np.allclose(found[:3], grad_cam(model, IMAGES[:3], [1, 2, 0]), atol=0.1)


@pytest.mark.parametrize("how", ["max", "gem", "bilinear", "compact_bilinear"])
def test_other_poolings_by_finite_differences(monkeypatch, how):
    """alpha, the mean of a channel's gradient, is the slope when all its places grow alike."""
    settings = {"bilinear_dim": 5} if how == "bilinear" else {}
    model, maps = make(monkeypatch, pooling=how, **settings)
    kernel, bias = model.layers[-1].get_weights()
    layer, step, images = model.get_layer("pool"), 1e-7, 3

    def score(features, asked):
        return (pooled(features, how, layer) @ kernel + bias)[asked]

    importance = []
    for features, asked in zip(maps[:images], ASKED):
        slopes = []
        for channel in range(features.shape[-1]):
            change = np.zeros(features.shape[-1])
            change[channel] = step
            slopes.append((score(features + change, asked) - score(features - change, asked))
                          / (2 * step) / features[..., 0].size)
        importance.append(slopes)
    found = grad_cam(model, IMAGES[:images], ASKED[:images])
    np.testing.assert_allclose(found, by_hand(maps[:images], importance), atol=1e-3)
    assert found.any()


def test_nothing_speaks_for_the_class(monkeypatch):
    model, _ = make(monkeypatch, pooling="max")
    head = model.layers[-1]
    kernel, bias = head.get_weights()
    head.set_weights([np.zeros_like(kernel), bias])
    assert not grad_cam(model, IMAGES[:1], [0]).any()


def test_of_a_runs_best_weights(monkeypatch, tmp_path):
    """Built again from what the run folder holds."""
    model, _ = make(monkeypatch, pooling="avg", attention="cbam")
    words = ["--input_size", "32", "--attention", "cbam"]
    resolved = parser.parse("train", words)._replace(dropout=0.2, drop_connect=0.2)
    run_folder.create(str(tmp_path / "run"), resolved, ("a", "b", "c"), False)
    model.save_weights(tmp_path / "run" / run_folder.BEST)
    found = heat_maps(run_folder.read(str(tmp_path / "run")), IMAGES[:2], ASKED[:2])
    np.testing.assert_allclose(found, grad_cam(model, IMAGES[:2], ASKED[:2]), atol=1e-5)
