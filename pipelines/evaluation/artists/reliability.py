"""Whether clusters are as sure as they say: confidence against what is true of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists.homonyms import Group
from hashing.clusters.links import Link
from hashing.clusters.ward import ward
from pipelines.evaluation.artists.trees import Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 5  # of as many tracks each, from the least sure to the surest

# Names of several artists count as much as names of one: nobody knows their share in a catalogue.
_KINDS = ("mixed", "single")


def reliability(
    embeddings: npt.NDArray[np.float32],
    groups: Sequence[Group],
    links: Sequence[Sequence[Link]],
    cuts: Floats,
    table: Table,
) -> dict[str, Any]:
    """How the confidence of tracks agrees with the overlap of their cluster and their artist.

    Args:
        embeddings: of all tracks, [tracks, d].
        links: tracks that are kept together, of each group, or none at all.
        cuts: that the groups are cut at, [groups].
        table: figures at all cuts.

    Returns:
        ``bins``, each with means of ``confidence`` and ``overlap`` (tracks in both over tracks in
        either, 0 to 1); ``error``, the mean difference of the two; ``cut_spread``, the standard
        deviation of ln(best cut of a name / its cut), which the confidence stands on; and
        ``one_artist``, the mean confidence of names of one artist that stayed whole and of those
        that were split.
    """
    sure, right, weights = list[Floats](), list[Floats](), list[Floats]()
    chosen = [number for number, group in enumerate(groups) if group.kind in _KINDS]
    count = {kind: sum(groups[number].kind == kind for number in chosen) for kind in _KINDS}
    left = dict[str, list[float]](whole=[], split=[])
    for number in chosen:
        group = groups[number]
        points = embeddings[group.rows].astype(np.float64)
        found = ward(points, float(cuts[number]), links[number] if links else ())
        sure.append(found.confidence.astype(np.float64))
        right.append(overlap(found.labels.astype(np.int64), group.truth))
        weights.append(np.full(len(points), 1.0 / (count[group.kind] * len(points))))
        if group.kind == "single":
            left["whole" if found.n_clusters == 1 else "split"].append(1.0 - found.doubt())
    bins = in_bins(np.concatenate(sure), np.concatenate(right), np.concatenate(weights))
    return {
        "bins": bins,
        "error": round(
            sum(one["share"] * abs(one["confidence"] - one["overlap"]) for one in bins), 4
        ),
        "cut_spread": _spread(table, groups, cuts),
        "one_artist": {
            name: round(float(np.mean(values)), 4) for name, values in left.items() if values
        },
    }


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
