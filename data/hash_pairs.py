"""Pairs of 64-bit hashes that differ in few bits."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

HASH_BYTES = 8
ROW_BLOCK, COLUMN_BLOCK = 64, 4096  # of one comparison: 2 MB, which stays in the cache
# Up to here every hash is compared with every other one, which takes seconds; of more only those
# that have one of their bytes in common: by the pigeonhole principle all that differ in less than
# `HASH_BYTES` bits.
MAX_ALL_PAIRS = 200_000


def near_pairs(hashes, other_hashes, max_bits, max_partners, workers=1):
    """Pairs (i, j), i before j, of which `hashes[i]` and `other_hashes[j]` nearly agree.

    Args:
        hashes, other_hashes: uint64 (N,), two hashes of N pictures, may be the same array.
        max_bits: int, the number of bits that may differ.
        max_partners: int, partners of a hash that are kept, the nearest ones.
        workers: int, threads.

    Returns:
        (int (M, 2) pairs, uint8 (M,) numbers of bits that differ).

    Example:

    ```python
    near_pairs(hashes, hashes, 2, 10)  # of [0b0, 0b111, 0b1]: pairs (0, 2), (1, 2)
    ```
    """
    if len(hashes) <= MAX_ALL_PAIRS:
        columns = np.arange(len(hashes))
        tasks = [
            (columns[start : start + ROW_BLOCK], columns[start:])
            for start in range(0, len(hashes), ROW_BLOCK)
        ]
    else:
        tasks = list(_buckets(hashes, other_hashes))

    from tqdm import tqdm

    def search(task):
        return _search(hashes, other_hashes, *task, max_bits, max_partners)

    with ThreadPoolExecutor(workers) as pool:
        results = list(
            tqdm(
                pool.map(search, tasks),
                "comparing hashes",
                len(tasks),
                leave=False,
                disable=None,
                delay=1,
            )
        )
    if not results:
        return np.empty((0, 2), int), np.empty(0, np.uint8)
    pairs = np.concatenate([pairs for pairs, _ in results])
    distances = np.concatenate([distances for _, distances in results])
    pairs, first_positions = np.unique(pairs, axis=0, return_index=True)
    return pairs, distances[first_positions]


def _buckets(hashes, other_hashes):
    """Yields (rows, columns) whose hashes have the same byte at the same place."""
    row_bytes = hashes.view(np.uint8).reshape(-1, HASH_BYTES)
    column_bytes = other_hashes.view(np.uint8).reshape(-1, HASH_BYTES)
    for row_values, column_values in zip(row_bytes.T, column_bytes.T):
        for value in range(256):
            rows = np.flatnonzero(row_values == value)
            columns = np.flatnonzero(column_values == value)
            for start in range(0, len(rows), ROW_BLOCK):
                yield rows[start : start + ROW_BLOCK], columns


def _search(hashes, other_hashes, rows, columns, max_bits, max_partners):
    """The near pairs of some rows with some columns, as `near_pairs` returns them."""
    row_parts, column_parts, distance_parts = [], [], []
    for start in range(0, len(columns), COLUMN_BLOCK):
        block = columns[start : start + COLUMN_BLOCK]
        distances = np.bitwise_count(hashes[rows, None] ^ other_hashes[None, block])
        # Four times as fast as np.nonzero of two dimensions.
        positions = np.flatnonzero(distances <= max_bits)
        row_positions, column_positions = np.divmod(positions, len(block))
        after = rows[row_positions] < block[column_positions]
        row_positions, column_positions = row_positions[after], column_positions[after]
        row_parts.append(rows[row_positions])
        column_parts.append(block[column_positions])
        distance_parts.append(distances[row_positions, column_positions])
    if not row_parts:
        return np.empty((0, 2), int), np.empty(0, np.uint8)
    pairs = np.stack([np.concatenate(row_parts), np.concatenate(column_parts)], axis=1)
    distances = np.concatenate(distance_parts)
    # The nearest of each row: by row, then distance; a row's position from its first one on.
    order = np.lexsort((distances, pairs[:, 0]))
    pairs, distances = pairs[order], distances[order]
    row_starts = np.searchsorted(pairs[:, 0], pairs[:, 0])
    kept = np.arange(len(pairs)) - row_starts < max_partners
    return pairs[kept], distances[kept]
