"""The gauge of drift: how far the answers of late are from those calibrated on."""

import threading

import numpy as np
import pytest
from scipy.stats import ks_2samp

from deployment import drift_window
from deployment.drift_window import DriftWindow, distance
from prediction.calibration import Calibration, quantiles
from prediction.classifier import Answer


def calibrated(probabilities=None, similarities=None):
    return Calibration(1.0, np.zeros(2), 0.95, 100, "", None, None, probabilities, similarities)


def answers(generator, count, low=0.5):
    rows = generator.uniform(low, 1, count)
    return [Answer(np.float32([row, 1 - row]), float(generator.uniform(0, 1))) for row in rows]


@pytest.mark.parametrize("digits", [1, 8])  # with equal values, and without
def test_the_distance_is_scipys(digits):
    generator = np.random.default_rng(0)
    for count in (1, 7, 300):
        one = np.sort(generator.normal(0, 1, count)).round(digits)
        two = np.sort(generator.normal(0.5, 1, 50)).round(digits)
        assert distance(one, two) == pytest.approx(ks_2samp(one, two).statistic)


def test_quantiles_sum_up_a_sample():
    values = np.random.default_rng(0).permutation(np.arange(1000) / 1000)
    found = quantiles(values)
    assert len(found) == 50 and (np.diff(found) > 0).all()
    assert ks_2samp(found, values).statistic <= 0.011  # half a step of 1/50
    assert quantiles([0.25]).tolist() == [0.25] * 50


def test_once_in_a_hundred_images_the_last_thousand_are_measured():
    generator = np.random.default_rng(0)
    given = answers(generator, 1250)
    given += [Answer(np.float32([1, 0]), 0.0)] * 950
    window = DriftWindow(calibrated(np.linspace(0.5, 1, 50), np.linspace(0, 1, 50)))
    found = [window.add(answer) for answer in given]
    assert [number for number, each in enumerate(found, 1) if each] == list(range(100, 2201, 100))
    for number in (100, 1200, 2200):
        last = given[max(0, number - 1000) : number]
        top = [float(answer.probabilities.max()) for answer in last]
        expected = ks_2samp(top, np.linspace(0.5, 1, 50)).statistic
        assert found[number - 1]["probability"] == pytest.approx(expected)
        similarities = [answer.similarity for answer in last]
        expected = ks_2samp(similarities, np.linspace(0, 1, 50)).statistic
        assert found[number - 1]["similarity"] == pytest.approx(expected)
    assert found[1199]["probability"] < 0.1 and found[-1]["probability"] > 0.9


def test_a_model_that_is_nearly_always_sure_does_not_drift():
    """Probabilities that differ from 1 in the sixth digit are not all alike."""
    generator = np.random.default_rng(0)

    def draw(count):
        rows = 1 - generator.uniform(0, 4e-6, count).astype(np.float32)
        return np.where(generator.uniform(size=count) < 0.9, rows, rows - np.float32(0.3))

    window = DriftWindow(calibrated(quantiles(draw(500))))
    given = [Answer(np.float32([row, 1 - row]), 0.5) for row in draw(1000)]
    assert [window.add(answer) for answer in given][-1]["probability"] < 0.15


def test_a_model_without_similarity_has_one_distance():
    rows = answers(np.random.default_rng(0), 100)
    for window, given in (
        (DriftWindow(calibrated(np.linspace(0.5, 1, 50))), rows),
        (DriftWindow(calibrated(np.linspace(0.5, 1, 50), np.linspace(0, 1, 50))),
         [answer._replace(similarity=None) for answer in rows]),
    ):
        assert set([window.add(answer) for answer in given][-1]) == {"probability"}


def test_threads_lose_no_image():
    window = DriftWindow(calibrated(np.linspace(0.5, 1, 50)))
    measured, rows = [], answers(np.random.default_rng(0), 500)

    def work():
        measured.extend(filter(None, map(window.add, rows)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(measured) == 6 * 500 / drift_window.EVERY
