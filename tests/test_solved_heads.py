"""train --head: what each head computes, worked out another way, and runs made with it."""

import csv
import json
import os

import numpy as np
import pytest
from conftest import COLORS, write_samples
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestCentroid
from tiny_backbone import SIZE, few_blocks, write_weights

import eval as evaluation
import run as front_door
import train
from common.errors import InputError
from config import parser
from evaluation.grad_cam import grad_cam
from modeling.architecture import Architecture
from modeling.builder import build_model
from modeling.layer_names import PREDICTIONS
from prediction.classifier import Classifier
from runs import run_folder
from save_model import export
from training import linear_head, neighbours_head, prototype_head


def clusters(per_class=(30, 20, 25), size=12, views=1, spread=0.6, seed=0):
    """Features around one direction per class, and their classes; further views beside them."""
    generator = np.random.default_rng(seed)
    class_ids = np.repeat(np.arange(len(per_class)), per_class)
    centres = generator.normal(size=(len(per_class), size))
    features = centres[class_ids] + spread * generator.normal(size=(len(class_ids), size))
    rows = [features + 0.05 * generator.normal(size=features.shape) for _ in range(views)]
    return np.concatenate(rows).astype(np.float32), np.tile(class_ids, views)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# --- prototypes -----------------------------------------------------------------------------

def test_prototypes_are_the_mean_directions():
    features, class_ids = clusters()
    kernel, bias = prototype_head.solve(features, class_ids, 3)
    means = unit(np.stack([unit(features)[class_ids == one].mean(0) for one in range(3)]))
    scale = np.linalg.norm(kernel[:, 0])
    np.testing.assert_allclose(kernel, scale * means.T, rtol=1e-4, atol=1e-5)
    assert not bias.any()
    others, _ = clusters(seed=1)
    nearest = NearestCentroid().fit(means, np.arange(3)).predict(unit(others))
    assert np.array_equal((unit(others) @ kernel + bias).argmax(1), nearest)


@pytest.mark.parametrize("views", [1, 2])
def test_the_scale_is_chosen_without_the_photo_itself(views):
    features, class_ids = clusters((8, 6), spread=1.5, views=views)
    kernel, _ = prototype_head.solve(features, class_ids, 2, views)
    units, photo_count = unit(features.astype(np.float64)), len(class_ids) // views
    losses = []
    for scale in prototype_head.SCALES:
        loss = 0
        for photo in range(photo_count):
            left = np.arange(len(units)) % photo_count != photo
            means = unit(np.stack([units[left & (class_ids == one)].sum(0) for one in (0, 1)]))
            loss -= np.log(softmax(scale * (means @ units[photo]))[class_ids[photo]])
        losses.append(loss)
    expected = prototype_head.SCALES[np.argmin(losses)]
    assert np.linalg.norm(kernel[:, 0]) == pytest.approx(expected, rel=1e-4)
    assert prototype_head.SCALES[0] < expected < prototype_head.SCALES[-1]


def test_prototypes_of_few_photos():
    features, class_ids = clusters((1, 1, 1))
    kernel, _ = prototype_head.solve(features, class_ids, 3)
    assert np.linalg.norm(kernel[:, 0]) == pytest.approx(prototype_head.DEFAULT_SCALE, rel=1e-4)
    kernel, bias = prototype_head.solve(features, class_ids * 2, 6)
    assert set((unit(np.random.default_rng(0).normal(size=(500, 12))) @ kernel + bias).argmax(1)) \
        == {0, 2, 4}
    assert prototype_head.solve(features, np.zeros(3, int), 3) is None


# --- neighbours -----------------------------------------------------------------------------

def votes_of(features, kernel, bias, votes):
    return softmax(unit(features) @ kernel + bias, axis=1) @ votes


@pytest.mark.parametrize("views", [1, 2])
def test_neighbours_vote_by_their_cosine(views):
    features, class_ids = clusters(views=views, spread=3)
    solution = neighbours_head.solve(features, class_ids, 3, len(features) + 7, views)
    scale = np.linalg.norm(solution[0][:, 0])
    assert np.isclose(neighbours_head.SCALES, scale, rtol=1e-4).any()
    others, _ = clusters(seed=1)
    found = votes_of(others, *solution)
    for row, other in zip(found, others):
        weights = [np.exp(scale * (unit(other[None])[0] @ one - 1)) for one in unit(features)]
        expected = [sum(w for w, k in zip(weights, class_ids) if k == one) for one in range(3)]
        np.testing.assert_allclose(row, np.array(expected) / sum(weights), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("views", [1, 2])
def test_neighbours_scale_is_chosen_without_the_photo_itself(views):
    features, class_ids = clusters((8, 9), spread=3, views=views)
    kernel, _, _ = neighbours_head.solve(features, class_ids, 2, len(features), views)
    units, photo_count = unit(features.astype(np.float64)), len(class_ids) // views
    losses = []
    for scale in neighbours_head.SCALES:
        loss = 0
        for photo in range(photo_count):
            left = np.arange(len(units)) % photo_count != photo
            votes = softmax(scale * (units[left] @ units[photo]))
            loss -= np.log(max(1e-6, votes[class_ids[left] == class_ids[photo]].sum()))
        losses.append(loss)
    expected = neighbours_head.SCALES[np.argmin(losses)]
    assert np.linalg.norm(kernel[:, 0]) == pytest.approx(expected, rel=1e-4)


def test_fewer_places_than_photos_are_divided_among_the_classes():
    features, class_ids = clusters((60, 20, 20))
    kernel, bias, votes = neighbours_head.solve(features, class_ids, 3, 10)
    assert kernel.shape == (12, 10) and not bias.any()
    assert votes.sum(0).tolist() == [6, 2, 2]
    for place, row in enumerate(unit(kernel.T)):  # each a photo, with the vote of its class
        (photo,) = np.flatnonzero(np.isclose(unit(features) @ row, 1, atol=1e-5))
        assert votes[place].argmax() == class_ids[photo]
    assert len(np.unique(kernel.round(4), axis=1).T) == 10


# --- linear ---------------------------------------------------------------------------------

@pytest.mark.parametrize("views, spread", [(1, 0.3), (1, 3.0), (2, 3.0)])
def test_the_penalty_is_that_of_a_cross_validation(views, spread):
    features, class_ids = clusters((15, 15), spread=spread, views=views, size=40)
    folds = linear_head.make_folds(class_ids, views)
    ones = np.ones(len(class_ids), np.float32)
    kernel, _ = linear_head.solve(features, class_ids, ones, 2, folds=folds)
    photo_count = len(class_ids) // views
    scaled = features / np.sqrt(np.mean(features.astype(np.float64) ** 2))
    groups = np.tile(np.arange(photo_count), views)
    losses, kernels = [], []
    for strength in linear_head.CHOICES_OF_C:
        whole = LogisticRegression(C=strength, max_iter=500).fit(scaled, class_ids)
        kernels.append(whole.coef_[0] / np.linalg.norm(features) * np.sqrt(features.size))
        loss = 0  # each photo alone left out: what few folds estimate
        for learned, judged in GroupKFold(photo_count).split(scaled, class_ids, groups):
            model = LogisticRegression(C=strength, max_iter=500)
            model.fit(scaled[learned], class_ids[learned])
            rows = model.predict_proba(scaled[judged[:1]])
            loss += log_loss(class_ids[judged[:1]], rows, labels=[0, 1])
        losses.append(loss / photo_count)
    (position,) = [number for number, one in enumerate(kernels)
                   if np.allclose(kernel[:, 1] - kernel[:, 0], one, rtol=0.02, atol=1e-3)]
    chosen = losses[position]
    assert chosen < min(losses) * 1.15 + 1e-3
    assert max(losses) > chosen * 1.3


def test_no_penalty_can_be_chosen_of_single_photos():
    features, class_ids = clusters((5, 1))
    assert linear_head.make_folds(class_ids) is None
    assert len(linear_head.make_folds(np.array([0, 0, 2, 2, 2]))) == 2


def test_the_views_of_a_photo_are_never_on_both_sides():
    class_ids = np.tile(np.repeat([0, 1], 7), 2)
    folds = linear_head.make_folds(class_ids, views=2)
    assert len(folds) == linear_head.FOLDS
    for learned, judged in folds:
        assert not set(learned % 14) & set(judged % 14) and judged.max() < 14
        others = np.setdiff1d(np.arange(14), judged)
        assert set(class_ids[judged]) == {0, 1}
        assert sorted(learned) == sorted([*others, *(others + 14)])


# --- runs -----------------------------------------------------------------------------------

@pytest.fixture(scope="module", autouse=True)
def tiny():
    with few_blocks():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("heads") / "data", 10)


@pytest.fixture(scope="module", params=["linear", "prototype", "neighbours"])
def trained(request, data, tmp_path_factory):
    """(path of a run with one of the heads, what training returned)."""
    place = tmp_path_factory.mktemp(request.param)
    options = parser.parse("train", [
        "--head", request.param, "--train_data", data, *write_weights(place),
        "--save_dir", str(place), "--log_dir", str(place / "log"),
        "--run", "run", "--val_fraction", "0.3"])
    return str(place / "run"), train.fit(options)


def test_a_run_like_any_other(trained, data, capsys):
    path, metrics = trained
    assert metrics["epochs"] == 1 and metrics["val_accuracy"] > 0.8
    run = run_folder.read(path)
    assert run.options.recipe == "solved" and run.options.dropout == 0
    evaluation.main(parser.parse("eval", ["--run", path, "--data", data, "--json"]))
    scores = json.loads(capsys.readouterr().out)
    assert scores["accuracy"] > 0.8
    result = export(run)
    assert result["difference"] < 1e-4
    image = os.path.join(data, "img_0_0.png")
    before, after = (Classifier.load(place).classify([image], 1)[0][0]
                     for place in (path, os.path.join(path, "model")))
    assert before["label"] == after["label"] == "red"
    with open(os.path.join(path, "results.csv"), encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 1


def test_a_report_explains_its_errors(trained, data, tmp_path):
    """Also where votes take the place of a layer with a bias."""
    status = front_door.main(["--mode", "report", "--run", trained[0], "--data", data,
                              "--target", str(tmp_path / "r.html")])
    assert status == 0 and "<html" in (tmp_path / "r.html").read_text(encoding="utf-8")
    run = run_folder.read(trained[0])
    model = build_model(run_folder.architecture(run.options), 3)
    model.load_weights(os.path.join(trained[0], run_folder.BEST))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    maps = grad_cam(model, images, np.array([0, 1, 2]))
    assert np.isfinite(maps).all() and maps.max() == 1


def test_more_epochs_are_refused_when_it_resumes(trained):
    place, name = os.path.split(trained[0])
    with pytest.raises(InputError, match="--epochs: 6 is more than .* whose head is solved in"):
        train.fit(parser.parse("train", ["--resume", name, "--save_dir", place, "--epochs", "6"]))


def test_the_backbone_stays_as_it_was(trained):
    run = run_folder.read(trained[0])
    model = build_model(run_folder.architecture(run.options), 3)
    model.load_weights(os.path.join(trained[0], run_folder.BEST))
    start = os.path.join(os.path.dirname(trained[0]), "start.weights.h5")
    pretrained = build_model(Architecture("EfficientNetB0", SIZE), 3, start)
    for layer in pretrained.layers:
        if layer.weights and layer.name != PREDICTIONS:
            for one, other in zip(layer.get_weights(), model.get_layer(layer.name).get_weights()):
                assert np.array_equal(one, other)
    if run.options.head == "neighbours":  # 10 of each class, a part held out; mirrored as well
        count = run.options.neighbour_count
        assert count % 2 == 0 and 36 <= count < 60
        assert model.get_layer("neighbours").weights[0].shape[1] == count


def test_neighbours_that_cannot_be_decoded_have_no_vote(tmp_path):
    folder = write_samples(tmp_path / "data", 6, dict(list(COLORS.items())[:2]))
    with open(os.path.join(folder, "img_0_3.png"), "wb") as file:
        file.write(b"no picture")
    val = write_samples(tmp_path / "val", 2, dict(list(COLORS.items())[:2]), seed=1)
    options = parser.parse("train", [
        "--head", "neighbours", "--train_data", folder, "--val_data", val,
        *write_weights(tmp_path), "--save_dir", str(tmp_path), "--max_bad", "0.5",
        "--log_dir", str(tmp_path / "log"), "--run", "run", "--horizontal_flip", "no",
        "--neighbour_count", "12"])
    train.fit(options)
    run = run_folder.read(str(tmp_path / "run"))
    model = build_model(run_folder.architecture(run.options), 2)
    model.load_weights(str(tmp_path / "run" / run_folder.BEST))
    _, bias = model.get_layer("neighbours").get_weights()
    assert sorted(bias) == [neighbours_head.NO_PHOTO] + [0] * 11


@pytest.mark.parametrize("words, error", [
    (["--recipe", "fine_tuning"], "--head: prototype is solved on a frozen backbone"),
    (["--recipe", "scratch"], "--head: prototype is solved on a frozen backbone"),
    (["--epochs", "5"], "--epochs: 5 has no effect with --head prototype"),
    (["--minutes", "1"], "--minutes: 1 has no effect with --head prototype"),
    (["--freeze_epochs", "1"], "--freeze_epochs: 1 has no effect with --head prototype"),
    (["--pooling", "gem"], "--head: prototype needs --attention none"),
    (["--attention", "cbam"], "--head: prototype needs --attention none"),
    (["--linear_head", "no"], "--linear_head: no contradicts --head prototype"),
    (["--mixup", "0.5"], "--mixup: 0.5 has no effect with --head prototype"),
    (["--optimizer", "lion"], "--optimizer: lion has no effect with --head prototype"),
    (["--learning_rate", "0.1"], "--learning_rate: 0.1 has no effect with --head prototype"),
    (["--sampler", "balanced"], "--sampler: balanced has no effect with --head prototype"),
    (["--neighbour_count", "9"], "--neighbour_count: 9 has no effect without --head neighbours"),
])
def test_contradictions(data, tmp_path, words, error):
    with pytest.raises(InputError) as caught:
        train.fit(parser.parse("train", [
            "--head", "prototype", "--train_data", data, "--save_dir", str(tmp_path),
            "--backbone", "EfficientNetLite0", *words]))
    assert str(caught.value).startswith(error)
