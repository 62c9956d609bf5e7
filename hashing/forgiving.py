"""Forgiving hash: which bits of an ensemble make up which hash table.

Baluja & Covell, "Learning 'Forgiving' Hash Functions" (IJCAI 2007): many small networks, each
trained to give neighbouring snippets of a song one code, offer candidate bits; hash tables are
built of bits that share as little information as possible. The rule that deals bits out to tables
is the conservative one of the same authors' "Permutation Grouping" (ICASSP 2008).

A query's snippet is looked up in all tables; the networks' real-valued responses tell which bits
are in doubt, and keys with those bits flipped are looked up as well (multi-probe: Lv et al., VLDB
2007).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing import codes

Bits = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


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


def probe_keys(
    margins: Floats, positions: npt.NDArray[np.int16], probes: int
) -> npt.NDArray[np.uint32]:
    """Keys to look a snippet up with, the likeliest first.

    Args:
      margins: response minus threshold over the spread of each bit, [n, bits]; a bit is 1 where its
        margin is above 0, and in doubt where it is near 0.
      positions: numbers of each table's bits, [n_tables, key_bits].
      probes: keys a table; the first is the snippet's own, the following have the bits flipped
        whose margins have the smallest sum of squares, one bit or two.

    Returns:
      [n, probes, n_tables] uint32.

    >>> probe_keys(np.array([[0.1, -2.0]], np.float32), np.array([[0, 1]], np.int16), 2).tolist()
    [[[2], [0]]]
    """
    key_bits = positions.shape[1]
    own = codes.keys(codes.pack(margins > 0.0), positions)
    if probes <= 1:
        return own[:, None, :]
    # With the d least certain bits, all single flips and all pairs of flips are candidates.
    d = min(key_bits, max(2, probes))
    doubt = np.square(margins[:, positions])
    uncertain = np.argpartition(doubt, d - 1, axis=2)[:, :, :d]
    costs = np.take_along_axis(doubt, uncertain, axis=2)
    flips = (np.uint32(1) << (key_bits - 1 - uncertain).astype(np.uint32)).astype(np.uint32)
    first, second = np.triu_indices(d, k=1)
    all_costs = np.concatenate((costs, costs[:, :, first] + costs[:, :, second]), axis=2)
    all_flips = np.concatenate((flips, flips[:, :, first] | flips[:, :, second]), axis=2)
    wanted = min(probes - 1, all_costs.shape[2])
    best = np.argsort(all_costs, axis=2, kind="stable")[:, :, :wanted]
    masks = np.take_along_axis(all_flips, best, axis=2)
    flipped = own[:, :, None] ^ masks
    return np.concatenate((own[:, None, :], flipped.transpose(0, 2, 1)), axis=1)
