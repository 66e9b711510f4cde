"""prediction.tta: which views there are, and that their answers are averaged."""

import numpy as np
import pytest

from data.geometry import Preprocessing
from prediction.classifier import Classifier
from prediction.runtimes import Answers
from prediction.tta import views

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)


def test_the_views_of_each_kind():
    assert [view.tolist() for view in views(IMAGES, "none")] == [IMAGES.tolist()]
    same, mirrored = views(IMAGES, "flip")
    assert np.array_equal(same, IMAGES)
    assert np.array_equal(mirrored[1, 3, 2], IMAGES[1, 3, 13])


def test_five_crops_are_the_corners_and_the_centre():
    """One bright corner pixel; crops have 14 of 16 pixels a side, so only one has it."""
    picture = np.zeros((1, 16, 16, 3), np.uint8)
    picture[0, 0, 0] = 255
    found = list(views(picture, "five_crop"))
    assert [view.shape for view in found] == [(1, 16, 16, 3)] * 5
    assert [bool(view.max() > 200) for view in found] == [True, False, False, False, False]
    flat = np.full((1, 16, 16, 3), 77, np.uint8)
    assert all((view == 77).all() for view in views(flat, "five_crop"))


@pytest.mark.parametrize("kind, count", [("none", 1), ("flip", 2), ("five_crop", 5)])
def test_the_answer_is_the_mean_over_the_views(kind, count):
    seen = []

    def predict(x):
        seen.append(x)
        share = len(seen) / 10
        similarities = np.full(len(x), share, np.float32)
        return Answers(np.tile(np.float32([share, 1 - share]), (len(x), 1)), similarities)

    classifier = Classifier(("a", "b"), Preprocessing(16), predict)
    classifier.tta = kind
    found = classifier.probabilities(IMAGES)
    assert len(seen) == count
    expected = np.mean(np.arange(1, count + 1) / 10)
    np.testing.assert_allclose(found, [[expected, 1 - expected]] * 2, rtol=1e-6)
    seen.clear()
    assert [answer.similarity for answer in classifier.answers(IMAGES)] == [
        pytest.approx(expected)
    ] * 2
