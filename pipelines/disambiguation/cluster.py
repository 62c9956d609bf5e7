"""One name: its tracks → clusters with numbers that last, a confidence each, and a status.

What an editor has decided comes first, then the clusters of the run before (new tracks join one of
them or open a new one), then copies of one recording, which are by one artist, then the wish to
keep albums together, and sound decides the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hashing.clusters.links import Link, chain, hold, settle
from hashing.clusters.numbers import keep_numbers
from hashing.clusters.ward import Clustering, ward

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

# Earlier clusters of one name that are held apart: two million pairs, half a gigabyte and seconds.
# A name of more clusters is clustered afresh, and keeps its numbers where clusters agree.
MOST_HELD = 2000


@dataclasses.dataclass(frozen=True)
class Rules:
    """How groups are clustered.

    Attributes:
        cut: Ward distance, in the unit of the embedding's distance.
        min_tracks: groups with fewer tracks that were heard are left alone.
        min_confidence: of the tracks' mean, 0 to 1; less certain clusters are not applied.
        hold: keep the clusters of the run before.
    """

    cut: float
    min_tracks: int
    min_confidence: float
    hold: bool = True


@dataclasses.dataclass(frozen=True)
class Before:
    """What is known of a group from earlier runs.

    Attributes:
        decided: track id → number of the artist, from an editor.
        numbers: track id → number of its cluster in the run before.
        highest: the highest number that a cluster ever had.
        applied: whether the clusters of the run before were applied.
    """

    decided: Mapping[str, int] = dataclasses.field(default_factory=dict)
    numbers: Mapping[str, int] = dataclasses.field(default_factory=dict)
    highest: int = 0
    applied: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Clustered:
    """The clusters of a group.

    Attributes:
        status: of the group, a key of `pipelines.disambiguation.outcome.STATUSES`.
        numbers: int32 [heard], the cluster of each track, also where the group is uncertain; all 0
            where nothing was clustered.
        confidence: float32 [heard]; NaN where nobody judged.
        decided: bool [heard], by an editor.
        linkage: as scipy's, or None.
        doubt: 0 to 1, of what no editor has decided.
        highest: the highest number that a cluster ever had.
    """

    status: str
    numbers: Ints
    confidence: Floats
    decided: npt.NDArray[np.bool_]
    linkage: npt.NDArray[np.float64] | None
    doubt: float
    highest: int


def cluster_group(
    embeddings: Floats,
    track_ids: Sequence[str],
    rules: Rules,
    before: Before | None = None,
    albums: Sequence[str] = (),
    recordings: Sequence[str] = (),
) -> Clustered:
    """Clusters the tracks of one name.

    Args:
        embeddings: [heard, d], finite.
        track_ids: of the tracks, [heard].
        albums: of each track, a text that names its album, or "" to keep it free; empty: no wish.
        recordings: of each track, a text that names its recording, or "" where it is the only one;
            empty: nobody knows. Copies are kept together, and count as one for `min_tracks`.

    >>> two = np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1]], np.float32)
    >>> found = cluster_group(two, ["a", "b", "c", "d"], Rules(0.5, 2, 0.5))
    >>> found.status, found.numbers.tolist()
    ('clustered', [1, 1, 2, 2])
    >>> again = cluster_group(two, ["a", "b", "c", "d"], Rules(0.5, 2, 0.5), Before({"b": 7}))
    >>> again.numbers.tolist(), again.decided.tolist(), again.highest
    ([7, 7, 8, 8], [False, True, False, False], 8)
    """
    before = before or Before()
    n = len(track_ids)
    artists = np.array([before.decided.get(track_id, 0) for track_id in track_ids], np.int32)
    decided = artists > 0
    highest = max([before.highest, *before.decided.values(), *before.numbers.values()], default=0)
    wishes = [*_label_links(recordings), *_label_links(albums)]
    copies = len(list(filter(None, recordings))) - len(set(filter(None, recordings)))
    if n - copies < max(rules.min_tracks, 1) and not decided.any():
        nothing = np.full(n, np.nan, np.float32)
        return Clustered(
            "too-few-tracks", np.zeros(n, np.int32), nothing, decided, None, 0.0, highest
        )
    earlier = np.array([before.numbers.get(track_id, 0) for track_id in track_ids], np.int32)
    # Clusters that were too uncertain to be applied are no ground to stand on.
    holds = rules.hold and before.applied and len(set(before.numbers.values())) <= MOST_HELD
    held = np.where(decided, artists, earlier if holds else 0)
    # What sound, copies, albums and the editor say; it tells the confidence, whatever is held.
    found = heard = _linked_ward(embeddings, rules.cut, artists * decided, wishes)
    if not _agrees(found.labels, held):
        found = _linked_ward(embeddings, rules.cut, held, wishes)
    numbers = _number(track_ids, found.labels, held, earlier, highest)
    confidence = np.where(decided, np.float32(1), heard.confidence).astype(np.float32)
    doubt = float((1 - confidence).mean(dtype=np.float64))
    free = confidence[~decided]
    status = "decided" if decided.all() else "clustered"
    if (
        len(set(numbers.tolist())) > 1
        and not (before.applied and holds)
        and not decided.any()
        and float(free.mean(dtype=np.float64)) < rules.min_confidence
    ):
        status = "uncertain"
    return Clustered(
        status,
        numbers,
        confidence,
        decided,
        found.linkage,
        doubt,
        max(highest, int(numbers.max(initial=0))),
    )


def _linked_ward(embeddings: Floats, cut: float, held: Ints, wishes: Sequence[Link]) -> Clustering:
    """Ward's clusters, those of `held` kept together and apart, and wishes where that allows."""
    must, cannot = hold(held.tolist())
    granted, _ = settle(len(held), must, cannot, wishes)
    return ward(embeddings, cut, [*must, *granted], cannot)


def _agrees(labels: Ints, held: Ints) -> bool:
    """Whether tracks of one number, 0 for none, are just those that one cluster has of them.

    >>> labels = np.array([1, 1, 2, 3])
    >>> [_agrees(labels, np.array(held)) for held in ([5, 5, 0, 7], [5, 5, 5, 0], [5, 7, 0, 0])]
    [True, False, False]
    """
    pairs = {(int(a), int(b)) for a, b in zip(labels, held, strict=True) if b}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def _label_links(labels: Sequence[str]) -> list[Link]:
    """Must-links between the tracks of each album, or of each recording; "" is none.

    >>> _label_links(["a", "", "b", "a"])
    [(0, 3)]
    """
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label:
            rows.setdefault(label, []).append(row)
    return [link for together in rows.values() for link in chain(together)]


def _number(
    track_ids: Sequence[str], labels: Ints, held: Ints, earlier: Ints, highest: int
) -> Ints:
    """Numbers in place of labels: those that are held, then by what clusters share with earlier.

    >>> labels, held = np.array([1, 1, 2, 3]), np.array([0, 0, 0, 9])
    >>> _number(["a", "b", "c", "d"], labels, held, np.array([4, 4, 4, 0]), 9).tolist()
    [4, 4, 10, 9]
    """
    if not earlier.any() and not held.any():
        return np.where(labels > 0, labels + highest, 0).astype(np.int32)
    marked = np.isin(labels, labels[held > 0])
    free = ~marked & ~np.isin(earlier, held[held > 0])
    old = np.where(marked, held, np.where(free, earlier, 0))
    known = {track_ids[row]: int(old[row]) for row in np.flatnonzero(old).tolist()}
    return keep_numbers(track_ids, labels, known, highest).labels
