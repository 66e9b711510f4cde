"""other/mean_std.py: against NumPy in float64; and --normalize, which takes what it writes."""

import json
import os

import keras
import numpy as np
import pytest
from conftest import command, write_image, write_samples
from PIL import Image

import efficientnet.model as network
import train
from common.errors import InputError
from config import parser
from data.decoding import load
from data.geometry import Preprocessing
from data.image_files import walk_images
from modeling.architecture import Architecture
from modeling.builder import build_model
from other import mean_std
from prediction.classifier import Classifier
from runs import run_folder
from save_model import export
from training.normalization import read_normalization
from training.setup import prepare

FEW_BLOCKS = (network.Stage(3, 1, 8, 1, 1), network.Stage(3, 2, 16, 6, 2))
NUMBERS = (120.5, 100.25, 90.0, 60.5, 55.0, 50.75)


@pytest.fixture
def images(tmp_path):
    """Images of different sizes, in a folder and one below it."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    for number, (name, color, size) in enumerate([
        ("a.png", (250, 250, 250), (33, 20)), ("b.bmp", (5, 100, 200), (8, 51)),
        ("below/c.png", (128, 3, 250), (64, 64)),
    ]):
        write_image(folder / name, color, size, number)
    return folder


def assert_moments(moments, pixels):
    pixels = np.concatenate([np.reshape(each, (-1, 3)) for each in pixels]).astype(np.float64)
    assert moments.pixels == len(pixels)
    np.testing.assert_allclose(moments.mean, pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, pixels.var(0), rtol=1e-6)


@pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
def test_pixels_of_the_models_input_are_numpys(images, resize):
    paths = walk_images(str(images))
    assert [os.path.relpath(path, images) for path in paths] == ["a.png", "b.bmp", "below/c.png"]
    preprocessing = Preprocessing(32, resize, (10, 200, 30))
    moments, errors = mean_std.measure(paths, preprocessing)
    assert not errors
    assert_moments(moments, [load(path, preprocessing) for path in paths])


def test_pixels_of_the_files_are_numpys(images):
    paths = walk_images(str(images))
    moments, _ = mean_std.measure(paths, Preprocessing(mean_std.FULL_SIZE), original=True)
    assert_moments(moments, [np.asarray(Image.open(path)) for path in paths])


def test_a_jpeg_counts_at_its_full_size(tmp_path):
    write_image(tmp_path / "large.jpg", size=(640, 480))
    moments, _ = mean_std.measure(
        [str(tmp_path / "large.jpg")], Preprocessing(mean_std.FULL_SIZE), original=True
    )
    assert moments.pixels == 640 * 480


def test_any_number_of_threads_gives_the_same_bits(images):
    paths = walk_images(str(images)) * 20
    found = [mean_std.measure(paths, Preprocessing(32), workers)[0] for workers in (1, 3)]
    for one, two in zip(*found):
        assert np.array_equal(one, two)


def test_small_variance_beside_a_large_mean_is_not_lost():
    """The sum of squares less the square of the sum would leave nothing of it in float32."""
    image = np.full((1000, 1000, 3), 255, np.uint8)
    image[0, :10] = 254
    moments = mean_std.Moments()
    for part in np.array_split(image, 7):
        moments = moments.merge(mean_std.of_image(part))
    share = 10 / 1e6  # of ones below: the variance of a coin with this chance
    np.testing.assert_allclose(moments.variance, share * (1 - share), rtol=1e-6)
    np.testing.assert_allclose(moments.mean, 255 - share, rtol=1e-12)


def test_the_file_is_written_and_read(images, tmp_path):
    (images / "broken.png").write_bytes(b"no image")
    process = command("--mode", "mean_std", "--source", images, "--target", tmp_path / "out.json",
                      "--input_size", 32, "--json")
    assert process.returncode == 0, process.stderr
    said = json.loads(process.stdout)
    with open(tmp_path / "out.json") as file:
        kept = json.load(file)
    assert said == {**kept, "target": str(tmp_path / "out.json")}
    assert kept["images"] == 3 and kept["pixels"] == 3 * 32 * 32
    assert "broken.png" in kept["undecodable"][0]
    np.testing.assert_allclose(np.square(kept["standard_deviation"]), kept["variance"])
    assert read_normalization(str(tmp_path / "out.json")) == (
        *kept["mean"], *kept["standard_deviation"]
    )


@pytest.mark.parametrize(
    "text,said",
    [
        (None, "no such file"),
        ("{", "is not a file of --mode mean_std"),
        ("[1]", "is not a file of --mode mean_std"),
        ('{"mean": [1, 2, 3]}', "is not a file of --mode mean_std"),
        ('{"mean": [1, 2], "standard_deviation": [1, 2]}', "must hold three means"),
        ('{"mean": [1, 2, NaN], "standard_deviation": [1, 2, 3]}', "must hold three means"),
        ('{"mean": [1, 2, 3], "standard_deviation": [1, 0, 3]}', "a deviation is 0"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, said):
    path = tmp_path / "numbers.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"--normalize: .*numbers.json: {said}"):
        read_normalization(str(path))


def test_bad_folders_are_refused(tmp_path):
    for words, said in (
        (("--source", tmp_path / "nowhere"), "no such folder"),
        (("--source", tmp_path), "no images"),
    ):
        process = command("--mode", "mean_std", *words, "--target", tmp_path / "out.json")
        assert process.returncode == 2
        assert said in process.stderr and process.stderr.count("\n") == 1
    write_image(tmp_path / "a.png")
    for target in (tmp_path, tmp_path / "nowhere" / "out.json"):
        process = command("--mode", "mean_std", "--source", tmp_path, "--target", target)
        assert process.returncode == 2 and "--target" in process.stderr


@pytest.fixture
def few_blocks(monkeypatch):
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)


def random_images(size):
    return np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)


def scaled(backbone, normalize):
    """What a model's first layers make of some images, and the images."""
    model = build_model(Architecture(backbone, 32, normalize=normalize), 3)
    first = keras.Model(model.input, model.get_layer("input_scaling").output)
    return first.predict(random_images(32), verbose=0)


@pytest.mark.parametrize(
    "backbone,mean,deviation",
    [
        # The family's own scaling, written as means and deviations
        ("EfficientNetB0", np.multiply(network.MEAN, 255), np.multiply(network.STDDEV, 255)),
        ("MobileNetV2", (127.5,) * 3, (127.5,) * 3),
        ("ResNet50", (123.68, 116.779, 103.939), (1, 1, 1)),
    ],
)
def test_numbers_take_the_place_of_the_backbones_own(few_blocks, backbone, mean, deviation):
    own = scaled(backbone, None)
    np.testing.assert_allclose(scaled(backbone, (*mean, *deviation)), own, atol=1e-5)
    given = (random_images(32).astype(np.float64) - NUMBERS[:3]) / NUMBERS[3:]
    np.testing.assert_allclose(scaled(backbone, NUMBERS), given, atol=1e-5)


@pytest.mark.training
def test_a_run_keeps_the_numbers_and_not_the_file(few_blocks, tmp_path):
    """Training, going on, evaluation and export, the file gone after the training."""
    write_samples(tmp_path / "train", 4)
    (tmp_path / "numbers.json").write_text(
        json.dumps({"mean": NUMBERS[:3], "standard_deviation": NUMBERS[3:]})
    )
    words = ["--train_data", str(tmp_path / "train"), "--weights", "none", "--input_size", "32",
             "--epochs", "1", "--normalize", str(tmp_path / "numbers.json"),
             "--save_dir", str(tmp_path / "runs"), "--log_dir", str(tmp_path / "logs")]
    path = train.fit(parser.parse("train", [*words, "--run", "kept"]))["run"]
    assert prepare(parser.parse("train", [*words, "--resume", "kept"])).options.normalize == (
        NUMBERS
    )
    os.unlink(tmp_path / "numbers.json")
    run = run_folder.read(path)
    assert run.options.normalize == NUMBERS
    model = build_model(run_folder.architecture(run.options), classes=3)
    np.testing.assert_allclose(model.get_layer("input_scaling").scale, 1 / np.array(NUMBERS[3:]))
    images = random_images(32)
    before = Classifier.load(path).probabilities(images)
    assert export(run)["difference"] < 1e-5
    np.testing.assert_allclose(Classifier.load(path).probabilities(images), before, atol=1e-5)
    again = parser.parse(
        "train", ["--config", os.path.join(path, run_folder.OPTIONS), "--run", "again"]
    )
    assert prepare(again).options.normalize == NUMBERS
