"""How evenly codes fill the buckets of a hash table, against what a perfect hash would do.

A perfect hash throws every item into one of the buckets with equal chance. Its buckets are not of
one size either: with few items for each bucket they spread like a Poisson variable, and the entropy
of their fill is below the number of bits. All figures here stand beside the perfect hash's.

Bits that are balanced one by one, and even in pairs, do not balance the buckets of all of them
together (Singh et al., "FlowHash", 2023, measure single buckets); only the joint counts tell.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import stats

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

# Longest key whose buckets are counted one by one: 2²⁶ counts of eight bytes are 512 MiB.
MAX_COUNTED_BITS = 26

# Deviations above the mean at which the distribution of a bucket's load is cut off. What lies
# beyond is less than the rounding of float64, for Poisson loads and for clumps of them.
_TAIL_DEVIATIONS = 16

# Share of a perfect hash's buckets that the band of `Balance.in_band` is to hold.
BAND = 0.95


@dataclasses.dataclass(frozen=True)
class Balance:
    """How evenly items fill buckets; each figure of a hash beside the perfect hash's.

    Attributes:
      items: items that were counted, each in one bucket.
      buckets: ``2 ** key_bits``.
      entropy: of the joint fill, in bits.
      perfect_entropy: expected of a perfect hash with as many independent items.
      clumped_entropy: expected of a perfect hash whose items come in clumps: those of one group
        with one key fall together. None where no groups are given.
      collision_entropy: minus log2 of the chance that two items of different groups share a bucket;
        the number of bits for a perfect hash, however few the items. None without groups.
      cv: standard deviation of the load of a bucket over its mean.
      perfect_cv: of a perfect hash.
      gini: Gini coefficient of the loads; 0 where all are equal.
      perfect_gini: of a perfect hash.
      largest: load of the fullest bucket over the mean load.
      in_band: share of buckets whose load is in the central 95 % of a perfect hash's.
      perfect_in_band: of a perfect hash: above 0.95 because loads are whole numbers.
    """

    items: int
    buckets: int
    entropy: float
    perfect_entropy: float
    clumped_entropy: float | None
    collision_entropy: float | None
    cv: float
    perfect_cv: float
    gini: float
    perfect_gini: float
    largest: float
    in_band: float
    perfect_in_band: float

    @property
    def entropy_share(self) -> float:
        """Entropy over the perfect hash's."""
        return self.entropy / self.perfect_entropy if self.perfect_entropy > 0 else 1.0


def measure_balance(
    keys: npt.NDArray[np.integer], key_bits: int, groups: npt.NDArray[np.integer] | None = None
) -> Balance:
    """How evenly `keys` fill the ``2 ** key_bits`` buckets of a table.

    Args:
      keys: [n], one key an item: the primary one where items stand in several buckets.
      key_bits: bits of a key.
      groups: [n], whose items are not independent of one another: snippets of one track overlap.

    Raises:
      ValueError: no keys, keys outside the buckets, or more buckets than can be counted.

    >>> balance = measure_balance(np.arange(8), 3)
    >>> balance.entropy, round(balance.perfect_entropy, 3), balance.largest
    (3.0, 2.246, 1.0)
    """
    loads = bucket_loads(keys, key_bits)
    n, buckets = int(loads.sum()), loads.size
    if not n:
        raise ValueError("no keys: nothing fills the buckets")
    mean = n / buckets
    perfect = stats.binom(n, 1.0 / buckets)
    low, high = perfect.ppf((1.0 - BAND) / 2.0), perfect.ppf((1.0 + BAND) / 2.0)
    clumped = collision = None
    if groups is not None:
        clumped = clumped_entropy(clump_sizes(keys, groups), buckets)
        collision = collision_entropy(keys, groups)
    return Balance(
        items=n,
        buckets=buckets,
        entropy=entropy(loads),
        perfect_entropy=perfect_entropy(n, buckets),
        clumped_entropy=clumped,
        collision_entropy=collision,
        cv=float(loads.std() / mean),
        perfect_cv=float(np.sqrt((1.0 - 1.0 / buckets) / mean)),
        gini=gini(loads),
        perfect_gini=perfect_gini(n, buckets),
        largest=float(loads.max() / mean),
        in_band=float(np.mean((loads >= low) & (loads <= high))),
        perfect_in_band=float(perfect.cdf(high) - perfect.cdf(low - 1)),
    )


def bucket_loads(keys: npt.NDArray[np.integer], key_bits: int) -> Ints:
    """Items of each bucket, [2 ** key_bits].

    >>> bucket_loads(np.array([1, 1, 3], np.uint32), 2).tolist()
    [0, 2, 0, 1]
    """
    if not 0 <= key_bits <= MAX_COUNTED_BITS:
        raise ValueError(f"key_bits must be 0 to {MAX_COUNTED_BITS}, got {key_bits}")
    counted = np.asarray(keys).astype(np.int64)
    if counted.ndim != 1:
        raise ValueError(f"keys must be [n], got shape={counted.shape}")
    if counted.size and (counted.min() < 0 or counted.max() >= 1 << key_bits):
        raise ValueError(f"keys from {counted.min()} to {counted.max()} are not of {key_bits} bits")
    return np.bincount(counted, minlength=1 << key_bits)


def entropy(loads: npt.NDArray[np.integer]) -> float:
    """Shannon entropy in bits of which bucket an item is in (the plug-in estimate).

    >>> entropy(np.array([2, 1, 1, 0]))
    1.5
    """
    filled = loads[loads > 0].astype(np.float64)
    n = filled.sum()
    return float(np.log2(n) - (filled * np.log2(filled)).sum() / n) if n else 0.0


def perfect_entropy(n: int, buckets: int) -> float:
    """Expected entropy of `n` independent items in `buckets` buckets of equal chance, in bits.

    Exact: the load of every bucket is binomial with `n` draws of chance ``1 / buckets``, and the
    expectation of a sum is the sum of expectations, dependent as the loads are.

    >>> perfect_entropy(2, 2)  # both in one bucket half of the time
    0.5
    """
    _check(n, buckets)
    if n < 2 or buckets == 1:
        return 0.0
    mean = n / buckets
    most = min(n, int(mean + _TAIL_DEVIATIONS * np.sqrt(mean)) + 40)
    load = np.arange(2, most + 1)
    chance = stats.binom.pmf(load, n, 1.0 / buckets)
    return float(np.log2(n) - buckets / n * (chance * load * np.log2(load)).sum())


def clump_sizes(keys: npt.NDArray[np.integer], groups: npt.NDArray[np.integer]) -> Ints:
    """Sizes of the clumps of items that have their group and their key in common, [clumps].

    >>> clump_sizes(np.array([5, 5, 5, 2]), np.array([0, 0, 1, 1])).tolist()
    [2, 1, 1]
    """
    pair = _numbered(groups) * (int(np.max(keys, initial=0)) + 1) + np.asarray(keys, np.int64)
    _, first, sizes = np.unique(pair, return_index=True, return_counts=True)
    return np.asarray(sizes[np.argsort(first)], dtype=np.int64)


def clumped_entropy(sizes: npt.NDArray[np.integer], buckets: int) -> float:
    """Expected entropy when whole clumps are thrown into buckets of equal chance, in bits.

    Neighbouring snippets of a track share their key under every hash that forgives an offset. Then
    not items but clumps are thrown, and even a perfect hash fills its buckets less evenly. The
    number of clumps in a bucket is taken as Poisson, so that a load is compound Poisson; its
    distribution is the inverse Fourier transform of ``exp(rate * (transform of the sizes - 1))``.

    Args:
      sizes: items of each clump, [clumps].

    >>> one_by_one = clumped_entropy(np.ones(4096, int), 256)
    >>> abs(one_by_one - perfect_entropy(4096, 256)) < 1e-3
    True
    >>> clumped_entropy(np.full(1024, 4), 256) < one_by_one
    True
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    n = int(sizes.sum())
    _check(n, buckets)
    if sizes.size and sizes.min() < 1:
        raise ValueError("a clump has at least one item")
    if n < 2 or buckets == 1:
        return 0.0
    counts = np.bincount(sizes).astype(np.float64)
    rate, mean = sizes.size / buckets, n / buckets
    variance = float((sizes.astype(np.float64) ** 2).sum()) / buckets
    most = int(mean + _TAIL_DEVIATIONS * np.sqrt(variance)) + 4 * counts.size
    length = 1 << int(most).bit_length()
    transform = np.fft.rfft(counts / sizes.size, length)
    chance = np.fft.irfft(np.exp(rate * (transform - 1.0)), length)
    load = np.arange(2, length)
    return float(np.log2(n) - buckets / n * (chance[2:] * load * np.log2(load)).sum())


def collision_entropy(
    keys: npt.NDArray[np.integer], groups: npt.NDArray[np.integer] | None = None
) -> float:
    """Minus log2 of the chance that two items of different groups share a key (Rényi, order 2).

    Unbiased whatever the number of items and however alike those of one group are. Two to the power
    of minus this is the share of other music that a look-up of one bucket drawn like an item finds.

    Args:
      groups: [n]; every item is a group of its own where None.

    Returns:
      Bits; infinite where no two items of different groups share a key.

    >>> collision_entropy(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]))  # 1 of 5 pairs
    2.321928094887362
    """
    keys = np.asarray(keys, dtype=np.int64)
    own = np.ones(keys.size, np.int64) if groups is None else clump_sizes(keys, groups)
    sizes = np.ones(keys.size, np.int64) if groups is None else np.bincount(_numbered(groups))
    _, loads = np.unique(keys, return_counts=True)
    together, alike = _squares(loads), _squares(own)
    pairs = keys.size**2 - _squares(sizes)
    if together <= alike:
        return float("inf")
    return float(np.log2(pairs) - np.log2(together - alike))


def gini(loads: npt.NDArray[np.integer]) -> float:
    """Gini coefficient of the loads: mean difference of two buckets over twice the mean load.

    >>> gini(np.array([0, 0, 0, 4])), gini(np.array([2, 2]))
    (0.75, 0.0)
    """
    ordered = np.sort(np.asarray(loads, dtype=np.float64))
    total = ordered.sum()
    if not total:
        return 0.0
    rank = 2.0 * np.arange(1, ordered.size + 1) - ordered.size - 1.0
    return float((rank * ordered).sum() / (ordered.size * total))


def perfect_gini(n: int, buckets: int) -> float:
    """Gini coefficient of a perfect hash with `n` items: that of binomial loads.

    The mean difference of two independent draws is ``2 * sum(F * (1 - F))`` for a distribution
    function F. Two loads are not quite independent; with thousands of buckets that is not seen.

    >>> round(perfect_gini(10**6, 1000), 4)  # loads near normal: deviation / mean / sqrt(pi)
    0.0178
    """
    _check(n, buckets)
    if not n or buckets == 1:
        return 0.0
    mean = n / buckets
    most = min(n, int(mean + _TAIL_DEVIATIONS * np.sqrt(mean)) + 40)
    below = stats.binom.cdf(np.arange(most + 1), n, 1.0 / buckets)
    return float((below * (1.0 - below)).sum() / mean)


def _check(n: int, buckets: int) -> None:
    if n < 0 or buckets < 1:
        raise ValueError(f"{n} items cannot be put into {buckets} buckets")


def _numbered(groups: npt.NDArray[np.integer]) -> Ints:
    """Groups by number, counted from 0, [n]."""
    return np.asarray(np.unique(groups, return_inverse=True)[1], dtype=np.int64)


def _squares(counts: npt.NDArray[np.integer]) -> int:
    counts = np.asarray(counts, dtype=np.int64)
    return int(counts @ counts)
