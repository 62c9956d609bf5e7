"""How well clusters agree with the artists behind them, and embeddings with who is who.

Truth and clusters are any labels that compare as equal: only which tracks are together counts. All
figures are 1 where clusters and artists are the same. Tracks whose artist is not known are to be
left out before.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from hashing.metrics import RESAMPLES, draws, interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


# What reports tell of a name, as attributes of `ClusterScores`.
FIGURES = (
    "ari",
    "ami",
    "v_measure",
    "pair_precision",
    "pair_recall",
    "pair_f1",
    "b_cubed_precision",
    "b_cubed_recall",
    "b_cubed_f1",
)


@dataclasses.dataclass(frozen=True)
class ClusterScores:
    """Agreement of clusters with the truth over the tracks of one name.

    Attributes:
      ari: Rand index, adjusted for chance (Hubert & Arabie, J. Classification 1985), up to 1;
        about 0 for clusters at random.
      ami: mutual information, adjusted for chance, over the mean of the two entropies (Vinh, Epps &
        Bailey, JMLR 2010), up to 1; about 0 for clusters at random.
      homogeneity: 1 where each cluster has one artist (Rosenberg & Hirschberg, EMNLP 2007).
      completeness: 1 where each artist is in one cluster.
      v_measure: harmonic mean of the two.
      pair_precision: share of the pairs of tracks in one cluster that are of one artist; 1 where no
        two tracks are together.
      pair_recall: share of the pairs of one artist that are in one cluster; 1 where there are none.
      b_cubed_precision: mean over tracks of the share of its cluster that is of its artist (Bagga &
        Baldwin, LREC 1998), itself counted.
      b_cubed_recall: mean over tracks of the share of its artist's tracks that are in its cluster.
    """

    ari: float
    ami: float
    homogeneity: float
    completeness: float
    v_measure: float
    pair_precision: float
    pair_recall: float
    b_cubed_precision: float
    b_cubed_recall: float

    @property
    def pair_f1(self) -> float:
        """Harmonic mean of pairwise precision and recall."""
        return _harmonic(self.pair_precision, self.pair_recall)

    @property
    def b_cubed_f1(self) -> float:
        """Harmonic mean of B-cubed precision and recall."""
        return _harmonic(self.b_cubed_precision, self.b_cubed_recall)


def score_clusters(truth: npt.ArrayLike, labels: npt.ArrayLike) -> ClusterScores:
    """All figures at once.

    Args:
      truth: artist of each track, [n].
      labels: cluster of each track, [n].

    Raises:
      ValueError: not as many artists as clusters, or none.

    >>> scores = score_clusters(["a", "a", "b", "b"], [1, 1, 1, 2])
    >>> round(scores.pair_precision, 3), scores.pair_recall, scores.b_cubed_recall
    (0.333, 0.5, 0.75)
    """
    artists, clusters = np.asarray(truth), np.asarray(labels)
    if artists.ndim != 1 or artists.shape != clusters.shape or not artists.size:
        raise ValueError(f"{list(clusters.shape)} labels for {list(artists.shape)} true ones")
    # The table of contingency without its zeros: tracks of each artist in each cluster.
    artist = np.unique(artists, return_inverse=True)[1]
    cluster = np.unique(clusters, return_inverse=True)[1]
    wide = int(cluster.max()) + 1
    cells, counts = np.unique(artist * wide + cluster, return_counts=True)
    of_artist, of_cluster = np.bincount(artist), np.bincount(cluster)
    rows, columns = of_artist[cells // wide], of_cluster[cells % wide]
    n = artists.size
    homogeneity, completeness = _entropies(counts, rows, columns, of_artist, of_cluster)
    together, same, found = (int(_pairs(sizes)) for sizes in (counts, of_artist, of_cluster))
    return ClusterScores(
        ari=_adjusted_rand(together, same, found, n),
        ami=_adjusted_information(counts, rows, columns, of_artist, of_cluster),
        homogeneity=homogeneity,
        completeness=completeness,
        v_measure=_harmonic(homogeneity, completeness),
        pair_precision=together / found if found else 1.0,
        pair_recall=together / same if same else 1.0,
        b_cubed_precision=float((counts / columns * counts).sum() / n),
        b_cubed_recall=float((counts / rows * counts).sum() / n),
    )


def _harmonic(one: float, other: float) -> float:
    return 2.0 * one * other / (one + other) if one + other else 0.0


def _pairs(sizes: Ints) -> Ints:
    return np.asarray((sizes * (sizes - 1) // 2).sum())


def _adjusted_rand(together: int, same: int, found: int, n: int) -> float:
    everything = n * (n - 1) // 2
    # In whole numbers, so that a figure of 1 is 1.
    if same == found == together:
        return 1.0
    expected = same * found / everything
    return (together - expected) / ((same + found) / 2 - expected)


def _entropy(sizes: Ints) -> float:
    shares = sizes / sizes.sum()
    return float(-(shares * np.log(shares)).sum())


def _information(counts: Ints, rows: Ints, columns: Ints) -> float:
    """Mutual information of the table, in nats."""
    n = counts.sum()
    return max(0.0, float((counts / n * np.log(counts * n / (rows * columns))).sum()))


def _entropies(
    counts: Ints, rows: Ints, columns: Ints, artists: Ints, clusters: Ints
) -> tuple[float, float]:
    """Homogeneity and completeness; what has no entropy is perfect."""
    information = _information(counts, rows, columns)
    of_artists, of_clusters = _entropy(artists), _entropy(clusters)
    return (
        information / of_artists if of_artists else 1.0,
        information / of_clusters if of_clusters else 1.0,
    )


def _adjusted_information(
    counts: Ints, rows: Ints, columns: Ints, artists: Ints, clusters: Ints
) -> float:
    if len(counts) == len(artists) == len(clusters):
        return 1.0  # one to one
    expected = _expected_information(artists, clusters)
    highest = (_entropy(artists) + _entropy(clusters)) / 2.0
    left = highest - expected
    # Where chance reaches as much as there is, nothing can be said in favour.
    left = min(left, -np.finfo(float).eps) if left < 0 else max(left, np.finfo(float).eps)
    return (_information(counts, rows, columns) - expected) / left


def _expected_information(artists: Ints, clusters: Ints) -> float:
    """Mean mutual information of tables with the same sums, in nats (Vinh et al., 2010, eq. 24a).

    Sizes that occur several times are weighed once: the sum is over pairs of different sizes.
    """
    n = int(artists.sum())
    some, some_times = np.unique(artists, return_counts=True)
    others, others_times = np.unique(clusters, return_counts=True)
    logs = gammaln(np.arange(n + 2))  # ln((i - 1)!)
    total = 0.0
    for a, a_times in zip(some.tolist(), some_times.tolist(), strict=True):
        for b, b_times in zip(others.tolist(), others_times.tolist(), strict=True):
            k = np.arange(max(1, a + b - n), min(a, b) + 1)
            chance = np.exp(
                (logs[a + 1] + logs[b + 1] + logs[n - a + 1] + logs[n - b + 1] - logs[n + 1])
                - (logs[k + 1] + logs[a - k + 1] + logs[b - k + 1] + logs[n - a - b + k + 1])
            )
            total += a_times * b_times * float((k / n * np.log(n * k / (a * b)) * chance).sum())
    return total


def equal_error_rate(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """Where as many pairs of one artist are refused as pairs of two are accepted, as shares.

    A pair is accepted when its score is at least the threshold. Between two thresholds both rates
    are taken to be linear (the crossing of the detection curve with its diagonal, as in NIST's
    speaker recognition evaluations).

    Args:
      scores: likeness of each pair; higher is more alike.
      same: whether the pair is of one artist.

    Raises:
      ValueError: no pair of one artist, or none of two, or a score that is not a number.

    >>> equal_error_rate([0.9, 0.8, 0.7, 0.2], [True, False, True, False])
    0.5
    """
    values, match = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if values.shape != match.shape or not match.any() or match.all() or np.isnan(values).any():
        raise ValueError("an equal error rate needs scores of pairs of one artist and of two")
    order = np.argsort(-values, kind="stable")
    last = np.append(np.flatnonzero(np.diff(values[order])), values.size - 1)
    accepted, right = last + 1, np.cumsum(match[order])[last]
    refused = np.append(1.0, 1.0 - right / match.sum())
    wrong = np.append(0.0, (accepted - right) / (~match).sum())
    at = int(np.argmax(wrong >= refused))
    before, after = refused[at - 1] - wrong[at - 1], wrong[at] - refused[at]
    share = before / (before + after)
    return float(wrong[at - 1] + share * (wrong[at] - wrong[at - 1]))


def bootstrap_mean(
    values: npt.ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """Mean of a figure over names, and the 95 % interval of the mean, names drawn anew.

    For whether one system is better than another, give the differences on the same names.

    Args:
      values: the figure of each name; NaN where it has none, which is left out.

    Returns:
      Mean, low and high; three NaN for no values.

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    (1.0, 1.0, 1.0)
    """
    given = np.asarray(values, dtype=np.float64)
    given = given[~np.isnan(given)]
    if not given.size:
        return (float("nan"),) * 3
    rng = np.random.default_rng(seed)
    means = [weights @ given / given.size for weights in draws(given.size, rng, resamples)]
    return (float(given.mean()), *interval(np.concatenate(means)))
