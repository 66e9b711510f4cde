"""Exact nearest neighbours by cosine distance, in blocks of matrix products."""

import mmap

import numpy as np

BLOCK_ROWS = 4096
KEPT_BYTES = 540_000_000  # rows that take no more as float32 stay in memory for all queries
QUERY_ROWS = 16  # similarities to a million rows take 64 MB
# A similarity in float32 is wrong by no more: rows that are this close are compared in float64
ROUNDING = 1e-5


def unit_rows(rows, dtype=np.float64):
    """Rows divided by their Euclidean length; rows of zeros stay.

    Args:
        rows: (N, D), any float type.
        dtype: float type to compute in.

    Returns:
        (N, D) of that type.
    """
    rows = np.asarray(rows, dtype)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _release_pages(rows):
    """Lets go of the memory that a file's rows take once they were read; they stay in the file."""
    mapped_file = getattr(rows, "_mmap", None)
    if mapped_file is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped_file.madvise(mmap.MADV_DONTNEED)


class NearestRows:
    """The rows of a matrix that are nearest to a query, by cosine distance.

    The answer is that of float64: float32 finds the candidates, and rows too close for it to
    tell apart are compared again. Rows of equal distance come in their order.

    Args:
        rows: float16 or float32 (N, D), finite; a `numpy.memmap` is read block by block.

    Example:
        >>> search = NearestRows(np.float32([[1, 0], [0, 1], [1, 1]]))
        >>> search.find(np.float32([[2, 1]]), count=2)
        (array([[2, 0]]), array([[0.0513167 , 0.10557281]]))
    """

    def __init__(self, rows):
        self._rows = rows
        self._unit_rows = None
        if rows.shape[0] * rows.shape[1] * 4 <= KEPT_BYTES:
            self._unit_rows = np.empty(rows.shape, np.float32)
            for start in range(0, len(rows), BLOCK_ROWS):
                block = slice(start, start + BLOCK_ROWS)
                self._unit_rows[block] = unit_rows(rows[block], np.float32)
                _release_pages(rows)

    def find(self, queries, count):
        """The nearest rows of each query.

        Args:
            queries: float (Q, D), finite.
            count: int, rows per query, 1 to N.

        Returns:
            (indices, distances): int (Q, count) and float64 (Q, count), nearest first; a distance
            is 1 - cosine, from 0 to 2.
        """
        queries = unit_rows(queries)
        parts = [
            self._find(queries[start : start + QUERY_ROWS], count)
            for start in range(0, len(queries), QUERY_ROWS)
        ]
        _release_pages(self._rows)
        indices, distances = zip(*parts)
        return np.concatenate(indices), np.concatenate(distances)

    def _find(self, queries, count):
        similarities = self._similarities(queries.astype(np.float32))
        answers = [
            self._sort(query, row, count) for query, row in zip(queries, similarities, strict=True)
        ]
        indices, distances = zip(*answers)
        return np.stack(indices), np.stack(distances)

    def _similarities(self, queries):
        """float32 (Q, N), the cosines of all rows."""
        if self._unit_rows is not None:
            return (self._unit_rows @ queries.T).T
        similarities = np.empty((len(queries), len(self._rows)), np.float32)
        for start in range(0, len(self._rows), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            similarities[:, block] = queries @ unit_rows(self._rows[block], np.float32).T
            _release_pages(self._rows)
        return similarities

    def _sort(self, query, similarities, count):
        """The `count` nearest rows of one query, (indices, distances)."""
        last = np.partition(similarities, -count)[-count]
        candidates = np.flatnonzero(similarities >= last - ROUNDING)
        exact = np.concatenate(
            [
                unit_rows(self._rows[candidates[start : start + BLOCK_ROWS]]) @ query
                for start in range(0, len(candidates), BLOCK_ROWS)
            ]
        )
        exact = np.round(exact, 12)  # the last bits depend on where a row stands in its block
        order = np.argsort(-exact, kind="stable")[:count]
        return candidates[order], np.maximum(0.0, 1 - exact[order])
