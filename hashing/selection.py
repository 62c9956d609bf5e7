"""Which bits make up a hash: three ways to choose them, after the same rule of no bit twice.

Baluja & Covell, "Learning 'Forgiving' Hash Functions" (IJCAI 2007) tried a random choice, the
least correlated bits, and the bits with the least mutual information, and kept the last
(`hashing.forgiving.group_bits`). For bits that are one half of the time, mutual information is an
increasing function of the absolute correlation, so that the last two rank pairs alike; what is left
between them is how ties and bits off balance are treated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hashing.forgiving import group_bits

Bits = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int16]


def correlation(bits: Bits) -> npt.NDArray[np.float64]:
    """Pearson's correlation of every pair of bits, [k, k]; 0 beside a bit that never changes.

    >>> correlation(np.array([[0, 1, 0], [1, 0, 0]], bool)).tolist()
    [[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    centred = bits - bits.mean(axis=0, dtype=np.float64)
    covariance: npt.NDArray[np.float64] = centred.T @ centred / len(bits)
    deviation = np.sqrt(np.diag(covariance))
    scale = deviation[:, None] * deviation[None, :]
    out = np.zeros_like(covariance)
    np.divide(covariance, scale, out=out, where=scale > 0)
    return out


def random_bits(k: int, n_tables: int, key_bits: int, rng: np.random.Generator) -> Positions:
    """Bits of tables drawn at random, [n_tables, key_bits] of 0 to `k` − 1.

    No bit is in two tables while bits last, and none is twice in one.

    >>> sorted(random_bits(6, 2, 3, np.random.default_rng(1)).ravel().tolist())
    [0, 1, 2, 3, 4, 5]
    """
    _check(k, n_tables, key_bits)
    tables: list[list[int]] = []
    stock: list[int] = []
    for _ in range(n_tables):
        table: list[int] = []
        while len(table) < key_bits:
            if not any(bit not in table for bit in stock):
                stock = rng.permutation(k).tolist()
            at = next(i for i, bit in enumerate(stock) if bit not in table)
            table.append(stock.pop(at))
        tables.append(table)
    return np.array(tables, dtype=np.int16)


def least_correlated_bits(bits: Bits, n_tables: int, key_bits: int) -> Positions:
    """Deal bits out greedily so that those of a table are correlated as little as possible.

    Tables are seeded with the bits whose mean absolute correlation with all others is smallest.
    Then they take turns: each takes the free bit whose largest absolute correlation with a bit that
    it has is smallest. The sign is of no matter: a bit and its opposite tell the same. No bit is in
    two tables while bits last; then all but its own are free again.

    Args:
      bits: [n, k] over snippets of training music.

    Returns:
      [n_tables, key_bits] numbers of bits, int16.

    >>> one, two = np.array([[0, 0, 1, 1], [0, 1, 0, 1]], bool)
    >>> tables = least_correlated_bits(np.stack([one, ~one, two, ~two], axis=1), 2, 2)
    >>> sorted(sorted(int(bit) // 2 for bit in table) for table in tables)
    [[0, 1], [0, 1]]
    """
    k = bits.shape[1]
    _check(k, n_tables, key_bits)
    distance = np.abs(correlation(bits))
    seeds = np.argsort(distance.sum(axis=1), kind="stable")[:n_tables]
    tables = [[int(seed)] for seed in seeds]
    free = np.ones(k, dtype=bool)
    free[seeds] = False
    worst = distance[seeds].copy()  # [tables, k]: the largest correlation with a bit of the table
    for _ in range(key_bits - 1):
        for table, largest in zip(tables, worst, strict=True):
            allowed = free.copy()
            allowed[table] = False
            if not allowed.any():
                free[:] = True
                allowed[:] = True
                allowed[table] = False
            bit = int(np.argmin(np.where(allowed, largest, np.inf)))
            table.append(bit)
            free[bit] = False
            np.maximum(largest, distance[bit], out=largest)
    return np.array(tables, dtype=np.int16)


def selectors(
    rng: np.random.Generator,
) -> dict[str, Callable[[Bits, int, int], Positions]]:
    """The three selectors by name, each ``(bits [n, k], n_tables, key_bits) → [tables, key_bits]``.

    >>> list(selectors(np.random.default_rng(1)))
    ['random', 'correlation', 'information']
    """
    return {
        "random": lambda bits, n_tables, key_bits: random_bits(
            bits.shape[1], n_tables, key_bits, rng
        ),
        "correlation": least_correlated_bits,
        "information": group_bits,
    }


def _check(k: int, n_tables: int, key_bits: int) -> None:
    if n_tables > k or key_bits > k:
        raise ValueError(f"{n_tables} tables of {key_bits} bits need more than {k} bits")
