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
from modeling.architecture import Architecture
from modeling.builder import build_model
from modeling.similarity import CenterSimilarity, JointFeatures, find_centers
from prediction import centers, runtimes
from prediction.classifier import Classifier
from prediction.feature_extractor import FeatureExtractor
from prediction.loading import best_model
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
def test_features_side_by_side(dtype):
    """Each layer counts the same, whatever its length; maps by their mean."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(7, 5)).astype(dtype)
    maps = generator.normal(size=(7, 3, 2, 4)).astype(dtype)
    found = np.asarray(JointFeatures(dtype="float32")([rows, maps]))
    assert found.shape == (7, 9) and found.dtype == np.float32
    means = maps.astype(float).mean(axis=(1, 2))
    for row, mean, joint in zip(rows.astype(float), means, found):
        both = np.concatenate([row / np.linalg.norm(row), mean / np.linalg.norm(mean)])
        np.testing.assert_allclose(joint, both / np.sqrt(2), atol=1e-6)
    assert np.asarray(JointFeatures()([np.zeros((1, 3), np.float32)])).tolist() == [[0, 0, 0]]


def test_the_layer_gives_the_largest_cosine():
    generator = np.random.default_rng(0)
    features, rows = generator.normal(size=(7, 5)), generator.normal(size=(3, 5))
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, rows)]
    layer = CenterSimilarity(3, dtype="float32")
    layer.build((None, 5))
    layer.set_weights([units[1].T])
    found = np.asarray(layer(units[0].astype(np.float32)))
    assert found.shape == (7, 1) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], cosines(features, rows), atol=1e-6)
    assert not layer.trainable_weights
    assert CenterSimilarity.from_config(layer.get_config()).center_count == 3


def test_which_features_of_a_network_are_compared():
    """Those of the head, and the mean of the last sum of branches."""
    with few_blocks():
        model = build_model(Architecture("EfficientNetB0", 32), 3)
    last_sum = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    outputs = [similarity.joint_features(model), model.get_layer("pool").output]
    outputs += [last_sum[-1].output] if last_sum else []
    joint, *parts = keras.Model(model.input, outputs).predict_on_batch(images)
    expected = np.asarray(JointFeatures()(parts))
    np.testing.assert_allclose(joint, expected, atol=1e-6)
    assert joint.shape[1] == sum(part.shape[-1] for part in parts)


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


def features_of(path, images, joint=True):
    """What is compared with the centers, or what `embed` computes."""
    with few_blocks():
        run = run_folder.read(str(path))
        if not joint:
            return FeatureExtractor.from_run(run).compute(images, len(images))
        model = best_model(run)
    body = keras.Model(model.input, similarity.joint_features(model))
    return np.asarray(body.predict_on_batch(images))


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
    own = [node for node in model.graph.node if "center_similarity" in node.name]
    made_there = {name for node in own for name in node.output}
    taken = sorted({name for node in own for name in node.input} - made_there - {
        constant.name for constant in model.graph.initializer
    })
    model.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, taken))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = val_images(made)
    expected = features_of(made.run, images, joint=False)
    found = session.run(taken, {runtimes.INPUT: images})
    [features] = [each for each in found if each.shape == expected.shape]
    assert np.abs(features - expected).max() < 1e-4


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


def test_a_class_without_photos_from_the_start_is_none_that_is_gone(run):
    """label.json may have classes that no photo has."""
    read = run_folder.read(str(run))
    more = read._replace(class_names=(*read.class_names, "empty"))
    os.unlink(run / run_folder.CENTERS)
    assert centers.find(more, best_model(read)).shape[0] == 12


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
    familiarity = loaded.calibration.familiarity
    measured = familiarity.measure(answer.probabilities.max(), answer.similarity)
    for minimum, expected in ((measured + 1e-3, {"unlike anything seen"}),
                              (measured - 1e-3, {"", "unsure"})):
        loaded.calibration = loaded.calibration._replace(
            familiarity=familiarity._replace(minimum=minimum)
        )
        assert loaded.unknown(answer) in expected


def test_keras_saves_and_loads_the_layers(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, CenterSimilarity(2)(JointFeatures()([inputs])))
    model.layers[-1].set_weights([np.eye(3)[:, :2]])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    rows = np.float32([[3, 4, 0]])
    np.testing.assert_allclose(again.predict_on_batch(rows), [[0.8]], rtol=1e-6)
