"""Whether clusters are as sure as they say: confidence against what is true of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists.homonyms import Group
from hashing.clusters.dendrogram import read_tree
from hashing.clusters.ward import CUT_SPREAD
from pipelines.disambiguation.options import MIN_CONFIDENCE
from pipelines.evaluation.artists.trees import FIGURES, Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 5  # of as many tracks each, from the least sure to the surest

# Spreads that confidence is tried with, from that of best cuts alone to one that also stands for
# errors of the tree: `CUT_SPREAD` is chosen by them.
SPREADS = (0.2, 0.3, 0.4, 0.5)

# Names of several artists count as much as names of one: nobody knows their share in a catalogue.
_KINDS = ("mixed", "single")


def reliability(groups: Sequence[Group], table: Table, chosen: Ints) -> dict[str, Any]:
    """How the confidence of tracks agrees with the overlap of their cluster and their artist.

    Args:
        table: figures of the groups at all cuts, and their trees.
        chosen: the number of the cut of each group, [groups].

    Returns:
        ``bins``, each with means of ``confidence`` and ``overlap`` (tracks in both over tracks in
        either, 0 to 1); ``error``, the mean difference of the two; ``errors``, the same with each
        of `SPREADS` in place of `CUT_SPREAD`; ``cut_spread``, the standard deviation of ln(best cut
        of a name / its cut), which the confidence stands on; ``one_artist``, the mean confidence of
        names of one artist that stayed whole and of those that were split; and ``sides``, see
        `by_side`.
    """
    rows = [row for row, group in enumerate(groups) if group.kind in _KINDS]
    kinds = [groups[row].kind for row in rows]
    count = Counter(kinds)
    sizes = [len(groups[row].rows) for row in rows]
    shares = [1.0 / (count[kind] * n) for kind, n in zip(kinds, sizes, strict=True)]
    weights = np.repeat(shares, sizes)

    def read(row: int, spread: float) -> tuple[Ints, Floats]:
        cut, n = float(table.cuts[chosen[row]]), len(groups[row].rows)
        labels, sure = read_tree(table.trees[row], n, cut, spread)
        return labels.astype(np.int64), sure.astype(np.float64)

    found = [read(row, CUT_SPREAD) for row in rows]
    right = np.concatenate(
        [overlap(labels, groups[row].truth) for row, (labels, _) in zip(rows, found, strict=True)]
    )
    bins = in_bins(np.concatenate([sure for _, sure in found]), right, weights)
    names = np.array([sure.mean() for _, sure in found])
    single = np.array([kind == "single" for kind in kinds])
    figures = table.at(chosen)[rows]
    whole = figures[:, FIGURES.index("whole")] > 0
    left = {"whole": names[single & whole], "split": names[single & ~whole]}
    return {
        "bins": bins,
        "error": _error(bins),
        "errors": {
            f"{spread:g}": _error(
                in_bins(np.concatenate([read(row, spread)[1] for row in rows]), right, weights)
            )
            for spread in SPREADS
        },
        "cut_spread": _spread(table, groups, table.cuts[chosen]),
        "one_artist": {
            name: round(float(values.mean()), 4) for name, values in left.items() if values.size
        },
        "sides": by_side(names, figures[:, FIGURES.index("ari")], whole, single),
    }


def by_side(
    sure: Floats,
    ari: Floats,
    whole: npt.NDArray[np.bool_],
    single: npt.NDArray[np.bool_],
    least: float = MIN_CONFIDENCE,
) -> dict[str, Any]:
    """Figures of the names whose clusters ``hashbeam disambiguate`` applies, and of the others.

    Args:
        sure, ari: of each name, [names]; its mean confidence, and its figure.
        whole: whether it is one cluster.
        single: whether it is one artist's.
        least: confidence from which clusters are applied.

    Returns:
        ``min_confidence``, which is `least`, and ``below`` and ``above`` it: how many ``names`` of
        several artists, and their mean ``ari``; how many of ``one_artist``, how many of these were
        ``split``, and what share, ``split_share``. None where there is no such name.

    >>> sure, ari = np.array([0.5, 0.7, 0.5, 0.9]), np.array([0.2, 0.8, 0.0, 0.0])
    >>> single = np.array([False, False, True, True])
    >>> found = by_side(sure, ari, np.array([False, False, False, True]), single)
    >>> found["below"]
    {'names': 1, 'ari': 0.2, 'one_artist': 1, 'split': 1, 'split_share': 1.0}
    >>> found["above"]
    {'names': 1, 'ari': 0.8, 'one_artist': 1, 'split': 0, 'split_share': 0.0}
    """
    found: dict[str, Any] = {"min_confidence": least}
    for side, here in (("below", sure < least), ("above", sure >= least)):
        several, one = here & ~single, here & single
        found[side] = {
            "names": int(several.sum()),
            "ari": round(float(ari[several].mean()), 4) if several.any() else None,
            "one_artist": int(one.sum()),
            "split": int((~whole[one]).sum()),
            "split_share": round(float((~whole[one]).mean()), 4) if one.any() else None,
        }
    return found


def _error(bins: Sequence[dict[str, float]]) -> float:
    """Mean difference of confidence and overlap."""
    return round(sum(one["share"] * abs(one["confidence"] - one["overlap"]) for one in bins), 4)


def overlap(labels: Ints, truth: Ints) -> Floats:
    """Tracks that a track's cluster and its artist have in common, of those in either, [n].

    >>> overlap(np.array([1, 1, 2]), np.array([7, 7, 7])).round(2).tolist()
    [0.67, 0.67, 0.33]
    """
    both = np.unique(labels, return_inverse=True)[1], np.unique(truth, return_inverse=True)[1]
    counts = np.zeros((both[0].max() + 1, both[1].max() + 1))
    np.add.at(counts, both, 1.0)
    common = counts[both]
    either = counts.sum(axis=1)[both[0]] + counts.sum(axis=0)[both[1]] - common
    return np.asarray(common / either)


def in_bins(sure: Floats, right: Floats, weights: Floats) -> list[dict[str, float]]:
    """Means of bins of equal weight, by rising confidence.

    >>> rows = in_bins(np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.ones(2))
    >>> [(row["confidence"], row["overlap"]) for row in rows]
    [(0.1, 0.0), (0.9, 1.0)]
    """
    order = np.argsort(sure, kind="stable")
    place = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    of_bin = np.minimum((place * BINS).astype(int), BINS - 1)
    rows = []
    for number in np.unique(of_bin).tolist():
        here = order[of_bin == number]
        means = {
            name: round(float(np.average(values[here], weights=weights[here])), 4)
            for name, values in (("confidence", sure), ("overlap", right))
        }
        rows.append({**means, "share": round(float(weights[here].sum() / weights.sum()), 4)})
    return rows


def _spread(table: Table, groups: Sequence[Group], cuts: Floats) -> float | None:
    """See `reliability`; of equally good cuts of a name, the one that is nearest to its own."""
    ami, off = table.column("ami"), []
    for number, group in enumerate(groups):
        if group.kind == "mixed":
            best = np.flatnonzero(ami[number] >= ami[number].max() - 1e-12)
            ratios = np.log(np.asarray(table.cuts)[best] / cuts[number])
            off.append(float(ratios[np.argmin(np.abs(ratios))]))
    return round(float(np.sqrt(np.mean(np.square(off)))), 4) if off else None
