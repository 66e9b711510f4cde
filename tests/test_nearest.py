"""common/nearest.py: the same rows and distances as scikit-learn's brute force in float64."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from common import nearest
from common.nearest import NearestRows


def expected(rows, queries, count):
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute")
    distances, indices = search.fit(rows.astype(np.float64)).kneighbors(
        queries.astype(np.float64)
    )
    return indices, distances


@pytest.fixture(params=["kept", "in blocks"])
def memory(request, monkeypatch):
    """Both ways: everything as float32 in memory, and block by block."""
    monkeypatch.setattr(nearest, "BLOCK_ROWS", 64)
    if request.param == "in blocks":
        monkeypatch.setattr(nearest, "KEPT_BYTES", 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("count", [1, 10, 500])
def test_equals_scikit_learn(memory, dtype, count):
    generator = np.random.default_rng(count)
    rows = generator.gamma(0.3, size=(500, 40)).astype(dtype)
    queries = generator.gamma(0.3, size=(33, 40)).astype(np.float32)
    indices, distances = NearestRows(rows).find(queries, count)
    expected_indices, expected_distances = expected(rows, queries, count)
    np.testing.assert_allclose(distances, expected_distances, atol=1e-12)
    assert np.array_equal(indices, expected_indices)


def test_rows_that_float32_cannot_tell_apart(memory):
    """Cosines of 1 - 5e-11 to 1 - 5e-9, all of them 1 in float32, the nearest last."""
    angles = np.linspace(1e-4, 1e-5, 100)
    rows = np.stack([np.ones(100), angles], 1).astype(np.float32)
    indices, distances = NearestRows(rows).find(np.float32([[1, 0]]), 5)
    assert indices.tolist() == [[99, 98, 97, 96, 95]]
    np.testing.assert_allclose(distances[0], angles[:-6:-1] ** 2 / 2, rtol=0.02)


def test_rows_that_float32_puts_in_another_order(memory):
    """Near copies in many dimensions, whose cosines differ by less than its rounding."""
    generator = np.random.default_rng(1)
    rows = generator.random(1280) + 1e-4 * generator.normal(size=(400, 1280))
    rows, query = rows.astype(np.float32), rows[:1].astype(np.float32)
    indices, distances = NearestRows(rows).find(query, 20)
    expected_indices, expected_distances = expected(rows, query, 20)
    assert np.array_equal(indices, expected_indices)
    np.testing.assert_allclose(distances, expected_distances, atol=1e-12)


def test_equal_rows_in_their_order(memory):
    generator = np.random.default_rng(0)
    for count, size in ((300, 77), (63, 129), (65, 1280)):  # some of which BLAS sums in two ways
        rows = np.tile(generator.random((1, size), np.float32), (count, 1))
        queries = np.concatenate([rows[:1], generator.random((4, size), np.float32)])
        indices, distances = NearestRows(rows).find(queries, count)
        assert np.array_equal(indices, np.tile(np.arange(count), (5, 1)))
        assert distances[0].max() < 1e-9 and distances.min() >= 0


def test_length_does_not_count_and_zeros_are_far(memory):
    rows = np.float32([[0, 0], [0, 5], [1e-3, 0], [-9, 0]])
    indices, distances = NearestRows(rows).find(np.float32([[70, 0]]), 4)
    assert indices.tolist() == [[2, 0, 1, 3]] and distances.tolist() == [[0, 1, 1, 2]]
