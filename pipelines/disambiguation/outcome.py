"""What a run of ``hashbeam disambiguate`` has found, as the report shows it.

Everything here is plain data, so that the page can be built and tested without a run. Names,
titles and albums are as the catalogue spells them: whatever a stranger typed, markup included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

# What a row of clusters.parquet, a track and a group may say about themselves.
STATUSES = {
    "clustered": "judged by sound",
    "decided": "decided by an editor",
    "uncertain": "left alone: the clusters are too uncertain",
    "too-few-tracks": "left alone: too few tracks that can be heard",
    "placeholder": "left alone: a placeholder, not a name",
    "opted-out": "left alone: opted out",
    "not-asked": "left alone: not among the names that were asked for",
    "no-name": "left alone: the track has no artist name",
    "failed": "the track could not be heard; failures/ has the reason",
}


@dataclasses.dataclass(frozen=True)
class Track:
    """A track of a group.

    Attributes:
        track_id, title, album, uri: as in the catalogue; "" where it has none.
        cluster: number of its cluster in the group, also where the group was left alone as
            uncertain (then it is what was considered); 0: none.
        confidence: that the track belongs to its cluster, 0 to 1; None where nobody judged.
        typical: how typical of its cluster, from 1 (at its centre) down to 0; 0 without a cluster.
        status: a key of `STATUSES`.
        snippet: something short to listen to: a ``data:`` address of audio, or a path relative to
            the folder of the page; None where there is nothing.
        failure: why it could not be heard, "" if it could.
        artist_id: the known id, "" where there is none.
        others: the other artists of the track, as the catalogue spells them.
    """

    track_id: str
    title: str
    album: str
    cluster: int
    confidence: float | None
    typical: float
    uri: str
    status: str = "clustered"
    snippet: str | None = None
    failure: str = ""
    artist_id: str = ""
    others: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Feature:
    """Something that sets a cluster apart from the rest of its group.

    Either a measure (`value` and `rest` are means, in `unit`), or a share (`unit` is "%") of the
    tracks, such as those of a genre. `strength` is the difference in standard deviations of the
    group, for measures, or the difference of the shares, 0 to 1; signed.
    """

    name: str
    value: float
    rest: float
    unit: str
    strength: float


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One artist, as heard.

    Attributes:
        number: from 1; stays the same from run to run.
        size: tracks.
        medoids: ids of the most typical tracks, the most typical first.
        confidence: mean of its tracks, 0 to 1.
        decided: an editor has accepted it.
        apart: what sets it apart from the rest of the group, the strongest first.
        albums, artist_ids: which its tracks have, the most frequent first, with their counts.
    """

    number: int
    size: int
    medoids: tuple[str, ...]
    confidence: float
    decided: bool = False
    apart: tuple[Feature, ...] = ()
    albums: tuple[tuple[str, int], ...] = ()
    artist_ids: tuple[tuple[str, int], ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """All tracks of one normalised name.

    Attributes:
        key: the normalised name: what a review calls the group by.
        name: its most frequent spelling; `variants` are all, with their counts.
        tracks: those that were heard first, in the order of `positions` and of the leaves of
            `linkage`; then those that failed.
        clusters: by number; empty where nothing was judged.
        linkage: float64 [heard - 1, 4] as scipy's, or None where nothing was clustered.
        cut: the distance at which `linkage` is cut.
        positions: float32 [heard, 2], a map on which tracks that sound alike lie together; both
            axes in the unit of the embedding's distance, centred on 0.
        doubt: 0 (nothing to look at) to 1; groups are sorted by it, the most doubtful first.
        status: a key of `STATUSES`; a group of which an editor has decided every track is
            "decided".
        truth: agreement with the truth column where it is known ("ari", "ami", …).
        highest: the highest number that a cluster of the group ever had; a new one is above it.
    """

    key: str
    name: str
    variants: tuple[tuple[str, int], ...]
    tracks: tuple[Track, ...]
    clusters: tuple[Cluster, ...]
    linkage: npt.NDArray[np.float64] | None
    cut: float
    positions: npt.NDArray[np.float32]
    doubt: float
    status: str
    truth: Mapping[str, float] = dataclasses.field(default_factory=dict)
    highest: int = 0


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a proposal: a cluster of a name, or an id.

    `key` and `cluster` find it among the groups (which the report may leave out); `tracks` are
    the ids of its most typical tracks.
    """

    key: str
    name: str
    cluster: int
    size: int
    tracks: tuple[str, ...]
    artist_id: str = ""


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A split (one id, several voices) or a merge (two names or ids, one voice); never applied.

    Attributes:
        proposal_id: a short text, the same from run to run while the sides are the same.
        kind: "split" or "merge".
        sides: the clusters concerned, the largest first.
        score: 0 to 1, how strong the evidence is; proposals are sorted by it.
        reason: one plain sentence.
        evidence: the figures behind it, with units in their names.
    """

    proposal_id: str
    kind: str
    sides: tuple[Side, ...]
    score: float
    reason: str
    evidence: Mapping[str, float | str | None]


@dataclasses.dataclass(frozen=True)
class Failure:
    """A track that could not be heard, as in ``failures/``."""

    track_id: str
    uri: str
    stage: str
    error: str
    message: str


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        run_id: names the run; a review that the editor exports carries it.
        facts: what was done, as in run.json: ``catalog``, ``model``, ``tracks``, ``tracks_heard``,
            ``tracks_failed``, ``groups`` (all), ``groups_by_status``, ``clusters``, ``cut``,
            ``settings``, ``created``, ``wall_s``, ``versions``; text, numbers, lists or dicts.
        groups: those that are shown, the most doubtful first; ``groups_left_out`` of them are not.
        proposals: the strongest first.
        failures: of the tracks (the first `FAILURES_SHOWN`).
        figures: agreement with the truth column, as in metrics.json; None where it is not known.
    """

    run_id: str
    facts: Mapping[str, Any]
    groups: tuple[Group, ...]
    proposals: tuple[Proposal, ...]
    failures: tuple[Failure, ...]
    figures: Mapping[str, Any] | None = None
    groups_left_out: int = 0


FAILURES_SHOWN = 200  # a page; all are in failures/
