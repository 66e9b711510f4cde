"""Recipes, the solved head and the time budget: what `train` does where nobody says otherwise."""

import os

import keras
import numpy as np
import pytest
from conftest import write_samples
from scipy.optimize import minimize

import efficientnet.model as network
import train
from common.errors import InputError
from config import parser
from modeling import weight_files
from runs.results import read_results
from training import fine_tuning, linear_head, recipes, setup, time_budget, weights_selection
from training.stages import list_stages

FEW_BLOCKS = (network.Stage(3, 1, 16, 1, 2), network.Stage(3, 2, 24, 6, 2))


def resolved(*words, photo_count=None):
    """The resolved options; --weights is this file, which only has to be there."""
    words = words if "--weights" in words else (*words, "--weights", __file__)
    return setup.resolve(parser.parse("train", list(words)), photo_count)


# --- which recipe, and which values -----------------------------------------------------


@pytest.mark.parametrize("words, photo_count, expected", [
    (["--weights", "none"], 400, ("scratch", 30, 1.0, False, False, 1e-3)),
    ([], 400, ("fine_tuning", 13, 0.8, True, True, 5e-4)),  # 1 + 5,000 / 400, rounded
    ([], 100, ("fine_tuning", 31, 0.8, True, True, 2e-4)),  # not 50
    ([], 5000, ("fine_tuning", 6, 0.8, True, True, 1e-3)),  # not 1
    ([], 20_001, ("fine_tuning", 5, 0.8, False, True, 1e-3)),
    (["--pooling", "gem"], 400, ("fine_tuning", 12, 0.8, False, True, 5e-4)),
    (["--attention", "cbam"], 400, ("fine_tuning", 12, 0.8, False, True, 5e-4)),
    (["--devices", "cpu:2"], 400, ("fine_tuning", 12, 0.8, False, True, 5e-4)),
    (["--recipe", "scratch"], 400, ("scratch", 30, 1.0, False, False, 5e-4)),
    (["--head", "linear"], 400, ("solved", 1, 1.0, True, True, 5e-4)),
    (["--recipe", "solved"], 400, ("solved", 1, 1.0, True, True, 5e-4)),
    (["--epochs", "3", "--layer_decay", "1", "--linear_head", "no", "--freeze_batchnorm", "no",
      "--learning_rate", "0.1"], 400, ("fine_tuning", 3, 1.0, False, False, 0.1)),
])
def test_weights_and_photos_choose_what_nobody_gave(words, photo_count, expected):
    options = resolved(*words, photo_count=photo_count)
    assert (options.recipe, options.epochs, options.layer_decay, options.linear_head,
            options.freeze_batchnorm, options.learning_rate) == expected


@pytest.mark.parametrize("words, photo_count, expected", [
    ([], 600, 0.75e-3),  # of 800 photos; 8 epochs of 38 steps are enough
    ([], 20, 2e-4),  # a fortieth of them, but not below a fifth
    (["--epochs", "4"], 1600, 1e-3),  # 3 x 100 steps, besides the solved head
    (["--epochs", "4", "--batch_size", "8"], 400, 0.25e-3),  # half the photos, 3 x 50 steps
    (["--epochs", "2"], 1600, 1e-3 / 3),
    (["--optimizer", "sgd"], 200, 0.25e-2),
    (["--layer_decay", "1"], 200, 0.125e-3),
    (["--recipe", "scratch", "--weights", "none"], 20, 1e-3),
    (["--learning_rate", "0.3"], 20, 0.3),
])
def test_few_photos_or_steps_have_a_smaller_rate(words, photo_count, expected):
    assert resolved(*words, photo_count=photo_count).learning_rate == pytest.approx(expected)


def test_a_number_of_epochs_that_is_measured_has_the_rate_of_one_that_is_given():
    for words in ([], ["--warmup_epochs", "0.5"], ["--learning_rate", "0.3"]):
        measured = setup.with_epochs(resolved(*words, photo_count=400), 4, 400)
        given = resolved(*words, "--epochs", "4", photo_count=400)
        assert (measured.learning_rate, measured.warmup_epochs, measured.epochs) == (
            given.learning_rate, given.warmup_epochs, 4)


def test_a_run_repeats_its_recipe():
    """options.yaml as --config gives the same values, whatever the number of photos."""
    options = resolved(photo_count=400)
    again = options._replace(given=frozenset(options._fields))
    assert recipes.apply(again, recipes.choose(again, 50)) == again


def test_the_stages_of_a_recipe():
    assert [tuple(stage) for stage in list_stages(resolved("--epochs", "4"))] == [
        (0, 1, True, True), (1, 4, False, False)]
    both = resolved("--epochs", "4", "--freeze_epochs", "2")
    assert [tuple(stage) for stage in list_stages(both)] == [
        (0, 1, True, True), (1, 2, True, False), (2, 4, False, False)]
    assert [tuple(stage) for stage in list_stages(resolved("--head", "linear"))] == [
        (0, 1, True, True)]


# --- the solved head ---------------------------------------------------------------------


def regression(features, class_ids, weights, classes, strength):
    """Multinomial logistic regression by SciPy, from its definition: kernel and bias."""
    targets = np.eye(classes)[class_ids]

    def loss(flat):
        kernel, bias = flat[:-classes].reshape(-1, classes), flat[-classes:]
        logits = features @ kernel + bias
        log_sums = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
        errors = np.exp(logits - log_sums[:, None]) - targets
        errors *= weights[:, None]
        value = (weights * (log_sums - (logits * targets).sum(1))).sum()
        value += (kernel**2).sum() / (2 * strength)
        return value, np.r_[(features.T @ errors + kernel / strength).ravel(), errors.sum(0)]

    start = np.zeros((features.shape[1] + 1) * classes)
    flat = minimize(loss, start, jac=True, method="L-BFGS-B", tol=1e-14,
                    options={"maxiter": 5000}).x
    return flat[:-classes].reshape(-1, classes), flat[-classes:]


def points(classes=3, count=90):
    generator = np.random.default_rng(0)
    class_ids = np.arange(count) % classes
    features = generator.normal(class_ids[:, None], 1.5, (count, 5)).astype(np.float32)
    return features, class_ids


def probabilities(features, kernel, bias):
    exponents = np.exp(features @ kernel + bias - (features @ kernel + bias).max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_that_of_logistic_regression(classes):
    features, class_ids = points(classes)
    weights = np.where(np.arange(90) % 7 == 0, 0, 1).astype(np.float32)
    found = linear_head.solve(features, class_ids, weights, classes)
    rms = np.sqrt(np.mean(features[weights > 0] ** 2))
    # Of two classes scikit-learn has one row of weights w, whose penalty is w^2; that of our
    # two halves is 2 (w / 2)^2.
    strength = linear_head.PENALTY_C / (2 if classes == 2 else 1)
    kernel, bias = regression(features / rms, class_ids, weights, classes, strength)
    np.testing.assert_allclose(probabilities(features, *found),
                               probabilities(features / rms, kernel, bias), atol=2e-3)
    assert [part.dtype for part in found] == [np.float32, np.float32]


def test_the_scale_of_the_features_does_not_matter():
    features, class_ids = points()
    ones = np.ones(90, np.float32)
    one = linear_head.solve(features, class_ids, ones, 3)
    two = linear_head.solve(features * 50, class_ids, ones, 3)
    np.testing.assert_allclose(probabilities(features, *one),
                               probabilities(features * 50, *two), atol=1e-3)


def test_classes_without_photos_are_the_least_probable():
    features, class_ids = points()
    found = probabilities(features, *linear_head.solve(features, class_ids + (class_ids > 0),
                                                      np.ones(90, np.float32), 4))
    assert (found.argmax(1) != 1).all() and found[:, 1].mean() < 1 / 4
    assert linear_head.solve(features, np.zeros(90, int), np.ones(90, np.float32), 4) is None


def test_balanced_counts_each_class_alike():
    features, class_ids = points(2, 90)
    rare = np.r_[np.flatnonzero(class_ids == 0), np.flatnonzero(class_ids == 1)[:5]]
    features, class_ids, ones = features[rare], class_ids[rare], np.ones(len(rare), np.float32)
    plain, balanced = (
        probabilities(features, *linear_head.solve(features, class_ids, ones, 2, balanced=choice))
        for choice in (False, True)
    )
    assert balanced[:, 1].mean() > 2 * plain[:, 1].mean()


# --- the time budget ---------------------------------------------------------------------


@pytest.mark.parametrize("seconds, mirrored, epochs", [
    # 24 steps of 0.5 s and 3 validation batches at a third of that: 12.5 s per epoch
    (8 + 12.5 * 7, None, 7),
    (8 + 12.5 * 7 - 0.1, None, 6),
    (8 + 12.5 * 7 + 8 + 27 / 6, False, 7),  # the graph again, and the features of 27 batches
    (8 + 12.5 * 7 + 8 + 51 / 6 - 0.1, True, 6),
    (3, None, 0),
    (-50, True, 0),
])
def test_epochs_within_a_budget(seconds, mirrored, epochs):
    assert time_budget.count_epochs(seconds, 8.0, 0.5, 24, 3, mirrored) == epochs


# --- in a training -----------------------------------------------------------------------


@pytest.fixture
def few_blocks(monkeypatch):
    monkeypatch.setattr(network, "STAGES", FEW_BLOCKS)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def pretrained(few_blocks, tmp_path):
    """A function that trains from a weights file, as `train` does by itself."""
    write_samples(tmp_path / "train", 6)
    write_samples(tmp_path / "val", 2, seed=5)
    place = ["--train_data", str(tmp_path / "train"), "--val_data", str(tmp_path / "val"),
             "--input_size", "32", "--batch_size", "6", "--workers", "2",
             "--save_dir", str(tmp_path / "runs"), "--log_dir", str(tmp_path / "logs")]
    start = train.fit(parser.parse("train", [*place, "--weights", "none", "--epochs", "1",
                                             "--run", "start"]))["run"]
    weights = os.path.join(start, "best.weights.h5")

    def fit(*words, name="tuned"):
        return train.fit(parser.parse("train", [*place, "--weights", weights, "--run", name,
                                                *words])), weights

    return fit


def layer_arrays(run_path):
    return weight_files.read(os.path.join(run_path, "last.weights.h5"))


@pytest.mark.training
def test_the_first_epoch_is_the_linear_head(pretrained, tmp_path):
    """Only the head differs from the start, and it is the solution on the backbone's features."""
    found, weights = pretrained("--head", "linear", "--horizontal_flip", "no")
    before, after = weight_files.read(weights), layer_arrays(found["run"])
    for name in before.keys() - {"predictions"}:
        for one, two in zip(before[name], after[name]):
            np.testing.assert_array_equal(one, two)
    assert not np.array_equal(before["predictions"][0], after["predictions"][0])
    assert [row["learning_rate"] for row in read_results(found["run"])] == [0]

    from data.decoding import load
    from data.geometry import Preprocessing
    from modeling.architecture import Architecture
    from modeling.builder import build_model

    model = build_model(Architecture("EfficientNetB0", 32), 3, weights)
    body = keras.Model(model.input, model.get_layer("pool").output)
    names = sorted(name for name in os.listdir(tmp_path / "train")
                   if name.endswith(".png"))
    images = np.stack([load(str(tmp_path / "train" / name), Preprocessing(32)) for name in names])
    class_ids = np.array([int((tmp_path / "train" / name).with_suffix(".txt").read_text()
                              .split(",")[1]) for name in names])
    features = body.predict(images, verbose=0)
    ones, folds = np.ones(len(names), np.float32), linear_head.make_folds(class_ids)
    expected = linear_head.solve(features, class_ids, ones, 3, folds=folds)
    for one, two in zip(after["predictions"], expected):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.training
def test_frozen_batch_normalization_keeps_its_statistics_while_kernels_learn(pretrained):
    found, weights = pretrained("--epochs", "3")
    before, after = weight_files.read(weights), layer_arrays(found["run"])
    for name in before:
        changed = any(not np.array_equal(a, b) for a, b in zip(before[name], after[name]))
        assert changed == (not name.endswith("_bn")), name
    updated, _ = pretrained("--epochs", "3", "--freeze_batchnorm", "no", name="updated")
    moved = layer_arrays(updated["run"])["stem_bn"]
    assert all(not np.array_equal(a, b) for a, b in zip(before["stem_bn"], moved))


@pytest.mark.training
def test_mirrored_copies_are_features_too(few_blocks, pretrained, tmp_path, monkeypatch):
    rows = []
    whole = fine_tuning.FeatureBatches.rows

    def remember(self):
        rows.append(whole(self))
        return rows[-1]

    monkeypatch.setattr(fine_tuning.FeatureBatches, "rows", remember)
    for word in ("yes", "no"):
        pretrained("--head", "linear", "--horizontal_flip", word, name=f"flip_{word}")
    (both, ids, weights), (plain, *_) = rows
    assert len(both) == len(ids) == len(weights) == 2 * len(plain) == 36
    np.testing.assert_array_equal(both[:18], plain)
    np.testing.assert_array_equal(ids[:18], ids[18:])
    assert not np.allclose(both[:18], both[18:], rtol=1e-3)


@pytest.mark.training
def test_a_budget_gives_the_same_run_as_its_number_of_epochs(pretrained, monkeypatch, capsys):
    monkeypatch.setattr(time_budget, "count_epochs", lambda *_, **settings: 2)
    budget, _ = pretrained("--minutes", "5", name="budget")
    assert "--minutes 5: 3 epochs" in capsys.readouterr().err
    assert budget["epochs"] == 3
    same, _ = pretrained("--epochs", "3", name="same")
    one, two = layer_arrays(budget["run"]), layer_arrays(same["run"])
    assert all(np.array_equal(a, b) for name in one for a, b in zip(one[name], two[name]))
    resumed = train.fit(parser.parse("train", ["--resume", budget["run"]]))
    assert resumed["epochs"] == 3  # nothing is measured again


@pytest.mark.training
def test_too_short_a_budget_leaves_the_linear_head(pretrained, capsys):
    found, _ = pretrained("--minutes", "0.001")
    assert found["epochs"] == 1
    assert "an epoch of all layers would take longer" in capsys.readouterr().err


def test_several_processes_cannot_measure(tmp_path):
    with pytest.raises(InputError, match="--minutes: 5 .*several processes"):
        setup.prepare(parser.parse("train", [
            "--minutes", "5", "--backend", "jax", "--coordinator", "localhost:1", "--process_id",
            "0", "--num_processes", "2", "--weights", "none", "--save_dir", str(tmp_path)]))


@pytest.mark.training
@pytest.mark.parametrize("words, select", [
    ((), "last"), (("--select", "best"), "best"), (("--patience", "9"), "best"),
    (("--recipe", "scratch"), "best"),
])
def test_which_epoch_is_kept_can_be_chosen(pretrained, monkeypatch, words, select):
    kept = []
    monkeypatch.setattr(weights_selection.WeightsSelection, "takes_last",
                        lambda self, *accuracies: kept.append(self) or self.select == "last")
    found, _ = pretrained("--epochs", "2", *words)
    assert kept == [(select, 2, found["val_images"])]
    if select == "last":
        assert found["best_epoch"] == 2
