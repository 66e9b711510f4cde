"""The focal loss and class weights against Keras, scikit-learn and numbers worked by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from common.errors import InputError
from other.focal_loss import FocalLoss, class_weights


def batch(rows=16, classes=5, seed=0):
    """Soft labels and probabilities, rows of sum 1."""
    generator = np.random.default_rng(seed)
    return (
        generator.dirichlet(np.ones(classes), rows).astype(np.float32),
        generator.dirichlet(np.ones(classes) / 2, rows).astype(np.float32),
    )


def test_numbers_worked_by_hand():
    y = np.array([[0, 1, 0], [1, 0, 0], [0, 0.25, 0.75]], np.float32)
    p = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.0, 0.5, 0.5]], np.float32)
    # 0.5^2 ln 2; 0.1^2 * 0.1053605; both shares of the third image are 0.25 ln 2.
    each = [0.1732868, 0.0010536, 0.1732868]
    assert np.allclose(FocalLoss(reduction=None)(y, p), each, atol=1e-6)
    assert np.isclose(FocalLoss()(y, p), 0.1158757, atol=1e-6)
    # Class weights 3, 1, 2: the third image's share is 0.25 * 1 + 0.75 * 2 = 1.75.
    weighted = FocalLoss(class_weights=[3, 1, 2], reduction=None)(y, p)
    assert np.allclose(weighted, [0.1732868, 0.0031608, 0.3032519], atol=1e-6)
    # gamma 1: 0.5 ln 2, 0.1 * 0.1053605.
    assert np.allclose(
        FocalLoss(gamma=1.0, reduction=None)(y[:2], p[:2]), [0.3465736, 0.0105361], atol=1e-6
    )


def test_gamma_0_is_kerass_cross_entropy():
    y, p = batch()
    p[0] *= 7  # Keras divides by the sum
    p[1] = [1, 0, 0, 0, 0]
    expected = keras.losses.CategoricalCrossentropy(reduction=None)(y, p)
    assert np.allclose(FocalLoss(gamma=0.0, reduction=None)(y, p), expected, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_it_is_kerass_focal_loss(gamma):
    y, p = batch()
    theirs = keras.losses.CategoricalFocalCrossentropy(alpha=1, gamma=gamma, reduction=None)
    ours = FocalLoss(gamma=gamma, reduction=None)
    assert np.allclose(ours(y, p), theirs(y, p), rtol=1e-5, atol=1e-7)
    alpha = [0.2, 1.0, 3.0, 0.0, 0.5]
    theirs = keras.losses.CategoricalFocalCrossentropy(alpha=alpha, gamma=gamma, reduction=None)
    ours = FocalLoss(gamma=gamma, class_weights=alpha, reduction=None)
    assert np.allclose(ours(y, p), theirs(y, p), rtol=1e-5, atol=1e-7)


def test_sample_weights():
    y, p = batch(4)
    each = np.asarray(FocalLoss(reduction=None)(y, p))
    # Rows of weight 0 count for nothing, not even in the number of rows.
    assert np.isclose(FocalLoss()(y, p, np.array([1, 0, 1, 0])), each[[0, 2]].mean())
    assert np.isclose(
        FocalLoss(reduction="sum")(y, p, np.array([2, 0, 0, 1])), 2 * each[0] + each[3]
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_extremes_are_finite(dtype, gamma):
    p = tf.cast([[1, 0, 0], [0, 1, 0], [0, 0, 0], [6e-8, 1, 1e-5]], dtype)
    y = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    with tf.GradientTape() as tape:
        tape.watch(p)
        loss = FocalLoss(gamma=gamma, reduction=None)(y, p)
        total = tf.reduce_sum(loss) / 1e4  # float16 itself ends at 65504
    assert loss.dtype == "float32"
    assert np.all(np.isfinite(tf.cast(tape.gradient(total, p), "float32")))
    # -ln 1e-7 = 16.118, all but certain and wrong.
    assert np.isclose(loss[0], 0, atol=1e-6) and np.isclose(loss[1], 16.118, atol=1e-3)
    assert np.all(np.isfinite(loss))


def test_it_travels_in_a_configuration():
    y, p = batch()
    loss = FocalLoss(gamma=1.5, class_weights=np.arange(5), reduction="sum", name="mine")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, FocalLoss) and again.name == "mine"
    assert np.array_equal(again(y, p), loss(y, p))


@pytest.mark.parametrize("settings, words", [
    ({"gamma": -1.0}, "gamma is -1.0"),
    ({"gamma": float("nan")}, "gamma is nan"),
    ({"class_weights": [1, -2]}, "the weight of class 1 is -2.0"),
])
def test_the_loss_refuses(settings, words):
    with pytest.raises(InputError, match=words):
        FocalLoss(**settings)


def test_the_number_of_weights_is_checked():
    with pytest.raises(InputError, match="3 class weights for 5 classes"):
        FocalLoss(class_weights=[1, 1, 1])(*batch())


# Class weights


def test_balanced_is_scikit_learns():
    counts = [50, 3, 400, 12]
    labels = np.repeat(np.arange(4), counts)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    assert np.allclose(class_weights(counts, "balanced"), expected)


def test_effective_number_by_hand():
    # beta 0.5: 0.5 / (1 - 0.5), 0.5 / (1 - 0.25), 0.5 / (1 - 0.125) = 1, 2/3, 4/7; the sum over
    # the images is 1 + 2 * 2/3 + 3 * 4/7 = 85/21 for 6 images, so the factor is 126/85.
    expected = np.array([1, 2 / 3, 4 / 7]) * 126 / 85
    assert np.allclose(class_weights([1, 2, 3], "effective_number", beta=0.5), expected)
    # beta 0: every class has one effective image; towards 1: as many as it has.
    assert np.allclose(class_weights([9, 2, 5], "effective_number", beta=0.0), 1)
    assert np.allclose(
        class_weights([9, 2, 5], "effective_number", beta=1 - 1e-7),
        class_weights([9, 2, 5], "balanced"), rtol=1e-5,
    )
    # The default, for 100 and 10,000 images: (1 - 0.999^10000) / (1 - 0.999^100) = 10.503.
    small, large = class_weights([100, 10_000], "effective_number")
    assert np.isclose(small / large, 10.503, atol=1e-3)


@pytest.mark.parametrize("how", ["balanced", "effective_number"])
@pytest.mark.parametrize("counts", [[7, 90, 2100, 1], [5, 0, 20, 0], [4]])
def test_the_mean_over_the_images_is_1(counts, how):
    weights = class_weights(counts, how)
    assert np.isclose(np.average(weights, weights=counts), 1)
    assert all(weight == 1 for weight, count in zip(weights, counts) if count == 0)
    there = [(count, weight) for count, weight in zip(counts, weights) if count]
    assert [w for _, w in sorted(there)] == sorted((w for _, w in there), reverse=True)


@pytest.mark.parametrize("counts, how, beta", [
    ([1, -1], "balanced", 0.9), ([0, 0], "balanced", 0.9), ([], "balanced", 0.9),
    ([[1, 2]], "balanced", 0.9), ([1, 2], "inverse", 0.9), ([1, 2], "effective_number", 1.0),
    ([1, float("nan")], "balanced", 0.9),
])
def test_class_weights_refuses(counts, how, beta):
    with pytest.raises(InputError, match="allowed"):
        class_weights(counts, how, beta)
