"""Forgiving hash: which bits of an ensemble make up which hash table.

Baluja & Covell, "Learning 'Forgiving' Hash Functions" (IJCAI 2007): many small networks, each
trained to give neighbouring snippets of a song one code, offer candidate bits; hash tables are
built of bits that share as little information as possible. The rule that deals bits out to tables
is the conservative one of the same authors' "Permutation Grouping" (ICASSP 2008).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.bool_]


def mutual_information(bits: Bits) -> npt.NDArray[np.float64]:
    """Mutual information of every pair of bits, in bits.

    Args:
      bits: [n, k], one row a snippet.

    Returns:
      [k, k]; the diagonal is the entropy of each bit.

    >>> mutual_information(np.array([[0, 0, 1], [1, 1, 1]], bool)).round(3).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    n = bits.shape[0]
    ones = bits.astype(np.float32)
    both = (ones.T @ ones).astype(np.float64) / n
    single = np.diag(both)
    joint = np.stack(
        [
            both,
            single[:, None] - both,
            single[None, :] - both,
            1.0 - single[:, None] - single[None, :] + both,
        ]
    )
    marginal = np.stack(
        [
            single[:, None] * single[None, :],
            single[:, None] * (1.0 - single[None, :]),
            (1.0 - single[:, None]) * single[None, :],
            (1.0 - single[:, None]) * (1.0 - single[None, :]),
        ]
    )
    joint = np.maximum(joint, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0.0, joint * np.log2(joint / np.maximum(marginal, 1e-300)), 0.0)
    return np.asarray(terms.sum(axis=0))


def group_bits(bits: Bits, n_tables: int, key_bits: int) -> npt.NDArray[np.int16]:
    """Deal the bits out to tables so that no table holds two bits that tell the same.

    Each table starts with one of the `n_tables` bits of highest entropy. Then, again and again, the
    pair of a free bit and a table with room is chosen whose largest mutual information with a bit
    already in the table is smallest (rule 3 of Permutation Grouping). No bit is in two tables while
    bits last; where ``n_tables * key_bits`` asks for more than there are, tables are filled up with
    bits of others. The first bits of a table are its most independent ones, so a shorter key is cut
    from the front.

    Args:
      bits: [n, k] over snippets of training music.

    Returns:
      [n_tables, key_bits] numbers of bits, int16.

    >>> rng = np.random.default_rng(1)
    >>> independent = rng.random((500, 3)) < 0.5
    >>> tables = group_bits(np.repeat(independent, 2, axis=1), n_tables=2, key_bits=3)
    >>> sorted(int(b) // 2 for b in tables[0])
    [0, 1, 2]
    """
    information = mutual_information(bits)
    k = bits.shape[1]
    if n_tables > k or key_bits > k:
        raise ValueError(f"{n_tables} tables of {key_bits} bits need more than {k} bits")
    tables: list[list[int]] = [[int(b)] for b in np.argsort(-np.diag(information))[:n_tables]]
    free = np.ones(k, dtype=bool)
    free[[table[0] for table in tables]] = False
    disjoint_bits = min(key_bits, k // n_tables)
    # worst[s, g]: the largest information that bit s shares with a bit of table g.
    worst = np.stack([information[:, table[0]] for table in tables], axis=1)

    def deal(limit: int, reuse: bool) -> None:
        for _ in range(sum(limit - len(table) for table in tables)):
            cost = worst.copy()
            for g, table in enumerate(tables):
                cost[table, g] = np.inf
                if len(table) >= limit:
                    cost[:, g] = np.inf
            if not reuse:
                cost[~free] = np.inf
            bit, g = (int(i) for i in np.unravel_index(np.argmin(cost), cost.shape))
            tables[g].append(bit)
            free[bit] = False
            worst[:, g] = np.maximum(worst[:, g], information[:, bit])

    deal(disjoint_bits, reuse=False)
    deal(key_bits, reuse=True)
    return np.asarray(tables, dtype=np.int16)
