"""--mode embed: features as the network gives them, whatever stopped the computation before."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from conftest import write_image
from tiny_backbone import few_blocks

import run as front_door
from common.errors import InputError
from config import parser
from data.decoding import load
from data.geometry import Preprocessing
from data.label_names import read_label_names
from data.samples import read_samples
from data_gen_label import ImageBatches, Variation
from modeling.architecture import Architecture
from modeling.builder import build_model
from other import embed as tool
from prediction import feature_files
from prediction.feature_extractor import FeatureExtractor
from runs import run_folder
from training.fine_tuning import FeatureBatches

LITE = ["--backbone", "EfficientNetLite0", "--input_size", "32"]


@pytest.fixture(scope="module")
def extractor():
    return FeatureExtractor.from_backbone("EfficientNetLite0", preprocessing=Preprocessing(32))


@pytest.fixture
def one_network(extractor, monkeypatch):
    """The same network for every call, which would take a second to build."""
    monkeypatch.setattr(tool, "open_extractor", lambda options: extractor)


def main(folder, target, *words):
    return front_door.main(
        ["--mode", "embed", "--data", str(folder), "--target", str(target), *LITE,
         *map(str, words)]
    )


def rows_of(extractor, paths):
    return np.stack([row for _, row in extractor.stream(paths, 8)])


def paths_in(folder):
    return sorted(os.path.join(folder, name) for name in os.listdir(folder)
                  if name.endswith(".png"))


def test_features_are_those_of_the_network(folder, tmp_path, extractor, capsys):
    target = tmp_path / "features.npz"
    assert main(folder, target, "--json", "--batch_size", 5) in (0, None)
    result = json.loads(capsys.readouterr().out)
    paths = paths_in(folder)
    model = build_model(Architecture("EfficientNetLite0", 32), 3, "imagenet")
    import keras

    body = keras.Model(model.input, model.get_layer("top_dropout").input)
    images = np.stack([load(path, Preprocessing(32)) for path in paths])
    expected = body.predict(images, verbose=0)
    with np.load(target) as file:
        assert file["features"].dtype == np.float16 and file["features"].shape == (12, 1280)
        np.testing.assert_allclose(file["features"], expected, rtol=1e-3, atol=1e-4)
        assert file["paths"].tolist() == paths
        assert file["sizes"].tolist() == [os.path.getsize(path) for path in paths]
        description = json.loads(str(file["description"]))
    assert description["source"] == {"backbone": "EfficientNetLite0", "weights": "imagenet"}
    assert description["unit_length"] is False
    np.testing.assert_allclose(rows_of(extractor, paths), expected, atol=1e-4)
    assert result["images"] == result["computed"] == 12 and result["features"] == 1280
    with open(tmp_path / "features.csv", encoding="utf-8-sig") as file:
        assert list(csv.reader(file)) == [
            ["row", "path"], *([str(row), path] for row, path in enumerate(paths))
        ]
    assert sorted(os.listdir(tmp_path)) == ["data", "features.csv", "features.npz"]


def test_equal_to_cached_features(folder, tmp_path, extractor):
    class_names = read_label_names(os.path.join(folder, "label.json"))
    samples = read_samples(folder, class_names)
    batches = ImageBatches(samples, 3, 5, Preprocessing(32), Variation())
    cached, _, _ = FeatureBatches(extractor._model, batches, batches, str(tmp_path)).rows()
    batches.close()
    paths = [os.path.join(folder, name) for name in samples.file_names]
    np.testing.assert_allclose(rows_of(extractor, paths), cached, atol=1e-4)


def test_unit_length(folder, tmp_path, extractor, one_network):
    main(folder, tmp_path / "a.npz", "--unit_length", "yes")
    features = np.load(tmp_path / "a.npz")["features"].astype(np.float64)
    rows = rows_of(extractor, paths_in(folder)).astype(np.float64)
    expected = rows / np.linalg.norm(rows, axis=1)[:, None]
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-5)
    words = ["--data", folder, "--target", str(tmp_path / "a.npz")]
    with pytest.raises(InputError, match="a.npz: has features of another network, input size or"):
        tool.main(parser.parse("embed", words))
    assert not (tmp_path / "a.npz.rows").exists()


def test_an_interrupted_call_is_continued(folder, tmp_path, extractor, one_network, monkeypatch):
    main(folder, tmp_path / "whole.npz")
    whole_stream = extractor.stream

    def stopped_stream(paths, *rest):
        for number, answer in enumerate(whole_stream(paths, *rest)):
            if number == 7:
                raise KeyboardInterrupt
            yield answer

    extractor.stream = stopped_stream
    with pytest.raises(KeyboardInterrupt):
        tool.main(parser.parse(
            "embed", ["--data", folder, "--target", str(tmp_path / "part.npz")]))
    assert not (tmp_path / "part.npz").exists()
    asked = []
    extractor.stream = lambda paths, *rest: (asked.extend(paths), whole_stream(paths, *rest))[1]
    main(folder, tmp_path / "part.npz")
    del extractor.stream
    assert asked == paths_in(folder)[7:]
    parts, whole = (feature_files.read(str(tmp_path / name)) for name in ("part.npz", "whole.npz"))
    assert np.array_equal(parts.features, whole.features)
    assert not (tmp_path / "part.npz.rows").exists()


def test_what_was_begun_for_other_photos_is_not_taken(
        folder, tmp_path, extractor, one_network, capsys):
    target = tmp_path / "features.npz"
    (tmp_path / "features.npz.rows").write_bytes(b"f" * 64 + bytes(12 * 2 * 1280))
    main(folder, target)
    assert "unfinished features of other photos" in capsys.readouterr().err
    expected = rows_of(extractor, paths_in(folder))
    np.testing.assert_allclose(np.load(target)["features"], expected, rtol=1e-3, atol=1e-4)


def test_brought_up_to_date(folder, tmp_path, extractor, one_network, capsys):
    target = tmp_path / "features.npz"
    main(folder, target)
    capsys.readouterr()
    paths = paths_in(folder)
    os.remove(paths[0])
    write_image(paths[1], (9, 9, 9), (50, 50))
    write_image(os.path.join(folder, "new.png"), (200, 9, 200))
    main(folder, target, "--json")
    captured = capsys.readouterr()
    assert json.loads(captured.out)["computed"] == 2
    assert "1 of its photos are not in --data any more: left out" in captured.err
    paths = paths_in(folder)
    content = feature_files.read(str(target))
    assert content.paths.tolist() == paths
    np.testing.assert_allclose(content.features, rows_of(extractor, paths), rtol=1e-3, atol=1e-4)
    main(folder, target, "--json")
    assert json.loads(capsys.readouterr().out)["computed"] == 0


def test_the_features_of_other_photos_are_not_replaced(folder, tmp_path, one_network):
    main(folder, tmp_path / "f.npz")
    before = (tmp_path / "f.npz").read_bytes()
    (tmp_path / "others").mkdir()
    write_image(tmp_path / "others" / "a.png")
    words = ["--data", str(tmp_path / "others"), "--target", str(tmp_path / "f.npz")]
    with pytest.raises(InputError, match="f.npz: has the features of 12 other photos; choose"):
        tool.main(parser.parse("embed", words))
    assert (tmp_path / "f.npz").read_bytes() == before


def test_a_table_of_the_user_stays(folder, tmp_path, one_network):
    (tmp_path / "f.csv").write_text("path,label\na.png,red\n")
    with pytest.raises(InputError, match="would replace .*f.csv, which is not one of --mode embed"):
        tool.main(parser.parse("embed", ["--data", folder, "--target", str(tmp_path / "f.npz")]))
    assert (tmp_path / "f.csv").read_text() == "path,label\na.png,red\n"
    assert sorted(os.listdir(tmp_path)) == ["data", "f.csv"]


@pytest.mark.parametrize("change", [{"pooling": "max"}, {"normalize": (1, 2, 3, 4, 5, 6)}])
def test_graphs_of_equal_weights_are_told_apart(change):
    networks = [Architecture("EfficientNetB0", 32), Architecture("EfficientNetB0", 32, **change)]
    with few_blocks():
        models = [build_model(network, 2) for network in networks]
        models[1].set_weights(models[0].get_weights())
        one, other = (FeatureExtractor({}, network, model, Preprocessing(32))
                      for network, model in zip(networks, models))
        again = FeatureExtractor({}, networks[0]._replace(head="prototype"), models[0],
                                 Preprocessing(32))
    assert one.digest != other.digest and one.digest == again.digest


def test_undecodable_photos_are_left_out_and_named(folder, tmp_path, one_network, capsys):
    paths = paths_in(folder)
    with open(paths[3], "wb") as file:
        file.write(b"no picture")
    main(folder, tmp_path / "f.npz")
    captured = capsys.readouterr()
    assert "left out" in captured.out and paths[3] in captured.out and "11 photos" in captured.out
    content = feature_files.read(str(tmp_path / "f.npz"))
    assert content.paths.tolist() == paths[:3] + paths[4:]
    assert np.isfinite(content.features).all()


def test_no_photo_can_be_decoded(tmp_path, one_network):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="no photo can be decoded; .*a.png"):
        tool.main(parser.parse(
            "embed", ["--data", str(tmp_path / "d"), "--target", str(tmp_path / "f.npz")]))
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("value, reason", [
    (np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (1e6, "too large for float16"),
])
def test_features_that_cannot_be_kept(folder, tmp_path, extractor, one_network, value, reason):
    extractor.stream = lambda paths, *rest: [(path, np.full(1280, value)) for path in paths]
    try:
        with pytest.raises(InputError, match=f"img_0_0.png: its features are {reason}"):
            tool.main(parser.parse(
                "embed", ["--data", folder, "--target", str(tmp_path / "f.npz")]))
    finally:
        del extractor.stream
    assert not (tmp_path / "f.npz").exists()


@pytest.mark.parametrize("words, error", [
    (["--target", "features.txt"], "--target: features.txt: the name of a file of features ends"),
    (["--target", "nowhere/f.npz"], "--target: nowhere/f.npz: there is no folder"),
    (["--run", "demo", "--backbone", "VGG16"], "--backbone: has no effect with --run"),
    (["--run", "demo", "--input_size", "64"], "--input_size: has no effect with --run"),
    (["--data", "nowhere"], "--data: nowhere: no such folder"),
    (["--backbone", "InceptionV3", "--input_size", "64"], "--input_size: 64 is too small for Inc"),
    (["--weights", "nowhere.h5"], "--weights: nowhere.h5: no such file"),
])
def test_contradictions(folder, tmp_path, monkeypatch, words, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        tool.main(parser.parse("embed", ["--data", folder, "--target", "f.npz", *words]))
    assert str(caught.value).startswith(error)


def test_weights_of_a_file(folder, tmp_path):
    """Those of a run are a start like any other; the same network at another batch size."""
    model = make_run(tmp_path / "run")
    weights = str(tmp_path / "run" / run_folder.BEST)
    for name, batch_size in (("a.npz", 3), ("b.npz", 12)):
        front_door.main(["--mode", "embed", "--data", folder, "--target", str(tmp_path / name),
                         "--backbone", "EfficientNetLite0", "--input_size", "32", "--weights",
                         weights, "--workers", "2", "--batch_size", str(batch_size)])
    one, other = (feature_files.read(str(tmp_path / name)) for name in ("a.npz", "b.npz"))
    assert one.description == other.description
    assert one.description["source"] == {"backbone": "EfficientNetLite0", "weights": weights}
    np.testing.assert_allclose(one.features, other.features, rtol=1e-3, atol=1e-5)
    import keras

    images = np.stack([load(path, Preprocessing(32)) for path in paths_in(folder)])
    expected = keras.Model(model.input, model.layers[-2].input).predict(images, verbose=0)
    np.testing.assert_allclose(one.features, expected, rtol=1e-3, atol=1e-4)


def make_run(path):
    options = parser.parse("train", [*LITE, "--resize", "crop", "--dropout", "0.5"])
    options = options._replace(val_data=str(path), drop_connect=0.0)
    run_folder.create(str(path), options, ["red", "green", "blue"], False)
    model = build_model(run_folder.architecture(options), 3)
    model.save_weights(os.path.join(path, run_folder.BEST))
    return model


def test_features_of_a_run(folder, tmp_path, capsys):
    model = make_run(tmp_path / "run")
    front_door.main(["--mode", "embed", "--run", "run", "--save_dir", str(tmp_path), "--data",
                     folder, "--target", str(tmp_path / "f.npz")])
    images = np.stack([load(path, Preprocessing(32, "crop")) for path in paths_in(folder)])
    import keras

    expected = keras.Model(model.input, model.layers[-2].input).predict(images, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "f.npz")["features"], expected,
                               rtol=1e-3, atol=1e-4)
    assert feature_files.read(str(tmp_path / "f.npz")).description["source"] == {
        "run": str(tmp_path / "run")}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    with pytest.raises(InputError, match="is an exported model, which gives probabilities alone"):
        tool.main(parser.parse("embed", ["--run", str(tmp_path / "model"), "--data", folder,
                                         "--target", str(tmp_path / "g.npz")]))


# --- files --------------------------------------------------------------------------------

@pytest.fixture
def content():
    return feature_files.FeatureFile(
        np.arange(24, dtype=np.float16).reshape(6, 4), np.array(list("abcdef")),
        np.arange(6), np.arange(6), {"source": {"backbone": "VGG16", "weights": "imagenet"}},
    )


def test_files_come_back_as_they_were(content, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "BLOCK_ROWS", 4)
    path = str(tmp_path / "f.npz")
    feature_files.write(path, content)
    again = feature_files.read(path)
    assert isinstance(again.features, np.memmap)
    for name in ("features", "paths", "sizes", "modified"):
        assert np.array_equal(getattr(again, name), getattr(content, name))
        assert np.array_equal(np.load(path)[name], getattr(content, name))
    assert again.description == content.description
    feature_files.write(path, content, np.array([1, 4, 5]))
    assert feature_files.read(path).paths.tolist() == ["b", "e", "f"]
    np.savez_compressed(tmp_path / "g.npz", **{
        **content._asdict(), "description": json.dumps({"format": 1})})
    assert np.array_equal(feature_files.read(str(tmp_path / "g.npz")).features, content.features)


def test_names_that_are_not_unicode(content, tmp_path):
    path = str(tmp_path / "f.npz")
    feature_files.write(path, content._replace(paths=np.array(["\udcff.png", *"bcdef"])))
    assert feature_files.read(path).paths[0] == "\udcff.png"


@pytest.mark.parametrize("change, reason", [
    ({"paths": np.array(["a"])}, "its arrays differ in length"),
    ({"features": np.zeros((6, 4), np.int8)}, "features are not rows of numbers"),
    ({"features": np.zeros(6, np.float16)}, "features are not rows of numbers"),
    ({"features": np.array([None] * 6)}, ""),
    ({"paths": np.arange(6)}, "paths are not text"),
    ({"description": "["}, ""),
    ({"description": "[]"}, ""),
    ({"description": json.dumps({"format": 2})}, "its format is that of another version"),
])
def test_files_of_something_else(content, tmp_path, change, reason):
    path = str(tmp_path / "f.npz")
    arrays = {**content._asdict(), "description": json.dumps({"format": 1}), **change}
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=f"f.npz: is not a file of features: .*{reason}"):
        feature_files.read(path)


def test_damaged_files(content, tmp_path):
    path = tmp_path / "f.npz"
    with pytest.raises(InputError, match="f.npz: no such file; --mode embed writes one"):
        feature_files.read(str(path))
    feature_files.write(str(path), content)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="f.npz: is"):
            feature_files.read(str(path))
    generator = np.random.default_rng(0)
    for _ in range(300):  # spoilt bytes: an error of ours or a file, nothing else
        spoilt = bytearray(whole)
        for position in generator.integers(0, len(whole), 3):
            spoilt[position] = generator.integers(256)
        path.write_bytes(spoilt)
        try:
            feature_files.read(str(path))
        except InputError as error:
            assert str(error).startswith(str(path))


def test_a_file_with_code_in_it_runs_nothing(content, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was_here"),)

    for name in ("features", "paths", "description"):
        arrays = {**content._asdict(), "description": json.dumps({"format": 1})}
        np.savez(tmp_path / "f.npz", **{**arrays, name: np.array([Bomb()] * 6, object)})
        shutil.rmtree(tmp_path / "was_here", ignore_errors=True)
        with pytest.raises(InputError, match="is not a file of features"):
            feature_files.read(str(tmp_path / "f.npz"))
        assert not (tmp_path / "was_here").exists()


def test_openvino_gives_the_same_features(monkeypatch):
    pytest.importorskip("openvino")
    extractor = FeatureExtractor.from_backbone("EfficientNetLite0", preprocessing=Preprocessing(32))
    images = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)
    expected, of_keras = extractor.compute(images, 8), extractor.compute
    assert extractor.use_openvino() and extractor.compute is not of_keras
    features = extractor.compute(images, 8)
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(expected, axis=1)
    assert features.shape == (5, 1280)
    assert ((features * expected).sum(axis=1) > 0.99 * lengths).all()
    extractor.compute = of_keras
    monkeypatch.setattr("prediction.feature_extractor.SAME_COSINE", 1.1)
    assert not extractor.use_openvino() and extractor.compute is of_keras
