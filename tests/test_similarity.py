"""What was never seen: the similarity in the graph, its centers, and what they are found from."""

import os
import shutil

import keras
import numpy as np
import onnx
import pytest
from conftest import write_samples
from test_export import go, made, val_images  # noqa: F401  the fixture
from tiny_backbone import few_blocks

from data.decoding import load
from modeling import similarity
from modeling.similarity import CenterSimilarity, find_centers
from prediction import centers, runtimes
from prediction.classifier import Classifier
from prediction.feature_extractor import FeatureExtractor
from runs import run_folder

WORDS = ("--mode", "export", "--format", "onnx")


# --- numbers --------------------------------------------------------------------------


def cosines(features, centers):
    """The largest cosine of each row, by its definition."""
    return np.array([
        max(row @ center / np.linalg.norm(row) / np.linalg.norm(center) for center in centers)
        for row in features.astype(float)
    ])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_layer_gives_the_largest_cosine(dtype):
    generator = np.random.default_rng(0)
    features, rows = generator.normal(size=(7, 5)), generator.normal(size=(3, 5))
    layer = CenterSimilarity(3, dtype="float32")
    layer.build((None, 5))
    layer.set_weights([(rows / np.linalg.norm(rows, axis=1, keepdims=True)).T])
    found = np.asarray(layer(features.astype(dtype)))
    assert found.shape == (7, 1) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], cosines(features.astype(dtype), rows), atol=1e-6)
    assert not layer.trainable_weights
    assert CenterSimilarity.from_config(layer.get_config()).center_count == 3


def test_features_of_zeros_are_similar_to_nothing():
    layer = CenterSimilarity(2)
    layer.build((None, 3))
    layer.set_weights([np.eye(3)[:, :2]])
    assert np.asarray(layer(np.zeros((1, 3), np.float32))).tolist() == [[0]]


def test_centers_are_the_middles_of_what_lies_together():
    """Two heaps per class, whatever the length of the features."""
    generator = np.random.default_rng(0)
    heaps = np.eye(4)[np.repeat(np.arange(4), 50)]
    features = heaps + generator.normal(0, 0.01, heaps.shape)
    features *= generator.uniform(0.1, 10, (200, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "CENTERS_PER_CLASS", 2)
        found = find_centers(features, np.repeat([0, 1], 100))
    assert found.shape == (4, 4) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    for first, heap in ((0, (0, 1)), (2, (2, 3))):  # class by class
        order = found[first : first + 2].argmax(axis=1)
        assert sorted(order) == list(heap)
        np.testing.assert_allclose(found[first : first + 2], np.eye(4)[order], atol=0.01)


def test_as_many_centers_as_there_are_photos_and_room():
    features = np.random.default_rng(0).normal(size=(26, 8))
    class_ids = np.repeat([0, 1, 2], [1, 5, 20])
    assert len(find_centers(features, class_ids)) == 1 + 5 + 10
    features[1:6] = features[1]  # copies are one photo
    assert len(find_centers(features, class_ids)) == 1 + 1 + 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "MOST_VALUES", 2 * 3 * 8)
        assert len(find_centers(features, class_ids)) == 1 + 1 + 2
        patch.setattr(similarity, "MOST_VALUES", 3 * 8 - 1)
        assert find_centers(features, class_ids) is None


# --- exported models ------------------------------------------------------------------


@pytest.fixture
def run(made, tmp_path):  # noqa: F811
    """A copy of the trained run that can be changed."""
    with few_blocks():
        yield shutil.copytree(made.run, tmp_path / "tiny")


def features_of(path, images):
    with few_blocks():
        extractor = FeatureExtractor.from_run(run_folder.read(str(path)))
    return extractor.compute(images, len(images))


@pytest.mark.parametrize("name", ["savedmodel", "onnx", "openvino"])
def test_every_runtime_computes_it(made, name):  # noqa: F811
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    images = np.concatenate([val_images(made), noise, noise // 9, noise // 50])
    found = runtimes.open_model(str(made.model), name)(images).similarities
    with np.load(made.run / run_folder.CENTERS) as arrays:
        expected = cosines(features_of(made.run, images), arrays["centers"])
    assert found.shape == (30,) and np.abs(found - expected).max() < 1e-4
    assert np.ptp(expected) > 1e-3


def test_the_exported_model_without_its_head_computes_the_features_of_embed(made, tmp_path):  # noqa: F811
    import onnxruntime

    model = onnx.load(str(made.model / "model.onnx"))
    taken = [node.input[0] for node in model.graph.node if "center_similarity" in node.name]
    given = {name for node in model.graph.node if "center_similarity" in node.name
             for name in node.output}
    [features] = {name for name in taken if name not in given}
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(features))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = val_images(made)
    [found] = session.run([features], {runtimes.INPUT: images})
    assert np.abs(found - features_of(made.run, images)).max() < 1e-4


def test_a_run_that_is_not_exported_answers_the_same(made, run):  # noqa: F811
    images = val_images(made)
    expected = Classifier.load(str(run)).answers(images)
    shutil.rmtree(run / "model")
    found = Classifier.load(str(run)).answers(images)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-4)
        assert one.similarity == pytest.approx(two.similarity, abs=1e-4)
    divided = Classifier.load(str(run), devices="cpu:0").answers(images)
    assert [one.similarity for one in divided] == pytest.approx(
        [one.similarity for one in expected], abs=1e-4
    )


def test_the_centers_are_those_of_the_photos_learned_from(made):  # noqa: F811
    """Four photos of each of three classes: each is a center of its own."""
    run = run_folder.read(str(made.run))
    paths, class_ids = centers.training_photos(run)
    assert class_ids.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    found = centers.read(run)
    assert found.shape[0] == 12
    features = features_of(made.run, np.stack([load(path, run.preprocessing) for path in paths]))
    np.testing.assert_allclose(cosines(features, found), 1, atol=1e-4)


# --- what is not there -------------------------------------------------------------------


def test_centers_of_other_weights_are_found_anew(run):
    os.utime(run / run_folder.CENTERS, ns=(0, 0))
    assert go(*WORDS, "--run", run).status == 0
    assert os.stat(run / run_folder.CENTERS).st_mtime_ns == 0  # those that are there serve
    with np.load(run / run_folder.CENTERS) as arrays:
        rows = arrays["centers"]
    np.savez(run / run_folder.CENTERS, centers=rows[::-1], weights="other")
    assert centers.read(run_folder.read(str(run))) is None
    assert go(*WORDS, "--run", run).status == 0
    np.testing.assert_array_equal(centers.read(run_folder.read(str(run))), rows)
    (run / run_folder.CENTERS).write_bytes(b"damaged")
    assert centers.read(run_folder.read(str(run))) is None


@pytest.mark.parametrize("gone", ["class", "folder"])
def test_without_the_photos_it_is_exported_without(run, tmp_path, gone):
    options = run_folder.read(str(run)).options
    data = shutil.copytree(options.train_data, tmp_path / "train")
    for file in (run / run_folder.OPTIONS, run / run_folder.MARGINS / "images.csv"):
        file.write_text(file.read_text().replace(options.train_data, str(data)))
    if gone == "class":
        for number in range(4):
            os.unlink(data / f"img_1_{number}.png")
    else:
        shutil.rmtree(data)
        shutil.rmtree(run / run_folder.MARGINS)
    os.unlink(run / run_folder.CENTERS)
    result = go(*WORDS, "--run", run)
    assert result.status == 0 and "note: " in result.err and "are gone" in result.err
    assert not (run / run_folder.CENTERS).exists()
    assert runtimes.open_model(str(run / "model"), "onnx")(
        np.zeros((1, 32, 32, 3), np.uint8)).similarities is None
    # ... and calibrated and served as before
    status = go("--mode", "calibrate", "--run", run, "--data", options.val_data)
    assert status.status == 0 and "does not compute how similar" in status.err


# --- from training to an answer -----------------------------------------------------------


@pytest.mark.parametrize("exported", ["before", "after"])
def test_what_was_never_seen_is_told(run, tmp_path, exported):
    """Whether the model is exported before it is calibrated or after."""
    data = write_samples(tmp_path / "data", 8, seed=9)
    shutil.rmtree(run / "model")
    os.unlink(run / run_folder.CENTERS)
    calibrate = ("--mode", "calibrate", "--run", run, "--data", data)
    steps = [(*WORDS, "--run", run), calibrate]
    for words in steps if exported == "before" else steps[::-1]:
        result = go(*words)
        assert result.status == 0, result.err
    loaded = Classifier.load(str(run))
    assert loaded.runtime == ("onnx", "float32")
    assert loaded.calibration.false_alarms == 1 / 24  # of 24, 5 % are one
    black = np.zeros((1, 32, 32, 3), np.uint8)
    [answer] = loaded.answers(black)
    loaded.calibration = loaded.calibration._replace(min_similarity=answer.similarity + 1e-6)
    assert loaded.unknown(answer) == "unlike anything seen"
    loaded.calibration = loaded.calibration._replace(min_similarity=answer.similarity - 1e-6)
    assert loaded.unknown(answer) in ("", "unsure")


def test_keras_saves_and_loads_the_layer(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, CenterSimilarity(2)(inputs))
    model.layers[-1].set_weights([np.eye(3)[:, :2]])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    rows = np.float32([[3, 4, 0]])
    np.testing.assert_allclose(again.predict_on_batch(rows), [[0.8]], rtol=1e-6)
