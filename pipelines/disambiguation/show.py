"""A finished run as the report shows it: names with maps, clusters with what sets them apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.artists.measures import MEASURES
from pipelines.disambiguation.cluster import Clustered
from pipelines.disambiguation.group import Groups
from pipelines.disambiguation.judge import MEDOIDS, Judged
from pipelines.disambiguation.outcome import Cluster, Feature, Group, Track

Floats = npt.NDArray[np.float32]

MOST_FEATURES = 6  # of a cluster: what a person reads
# Shares of a cluster's and the other tracks that differ by less say nothing of small groups.
LEAST_SHARE = 0.3
LISTED = 12  # albums of a cluster that are named

_YEAR = re.compile(r"(\d{4})")


def show_group(
    group: int,
    groups: Groups,
    judged: Judged,
    found: Clustered,
    catalog: pa.Table,
    heard: npt.NDArray[np.bool_],
    embeddings: Floats,
    measures: Floats,
    cut: float,
    *,
    snippets: Mapping[str, str] | None = None,
    failures: Mapping[str, str] | None = None,
    truth: Mapping[str, float] | None = None,
) -> Group:
    """One name as the report shows it.

    Args:
        group: its number; `found` its clustering.
        heard, embeddings, measures: of the catalogue's tracks.
        snippets: track id → address of something to listen to.
        failures: track id → why it could not be heard.
        truth: agreement with the truth column.
    """
    members = np.arange(groups.starts[group], groups.starts[group + 1])
    judgeable = found.linkage is not None
    alive = heard[groups.rows[members]]
    members = np.concatenate([members[alive], members[~alive]])
    rows = groups.rows[members]
    facts = catalog.take(pa.array(rows)).to_pylist()
    tracks = []
    for place, (member, fact) in enumerate(zip(members.tolist(), facts, strict=True)):
        track_id = fact["track_id"]
        confidence = float(judged.confidence[member])
        status = judged.member_status[member]
        tracks.append(
            Track(
                track_id,
                fact.get("title") or "",
                fact.get("album") or "",
                int(judged.numbers[member]) if judgeable and status != "failed" else 0,
                None if np.isnan(confidence) else confidence,
                float(judged.typical[member]) if judgeable else 0.0,
                fact["uri"],
                status,
                (snippets or {}).get(track_id),
                (failures or {}).get(track_id, ""),
                groups.artist_ids[member],
                tuple(
                    groups.names[one] for one in groups.of_track(int(rows[place])) if one != group
                ),
            )
        )
    vectors = np.asarray(embeddings[rows[: int(alive.sum())]], np.float32)
    return Group(
        groups.keys[group],
        groups.names[group],
        groups.variants[group],
        tuple(tracks),
        tuple(_clusters(tracks, facts, measures[rows])) if judgeable else (),
        found.linkage,
        cut,
        positions(vectors),
        float(judged.doubt[group]),
        judged.status[group],
        truth or {},
        int(judged.highest[group]),
    )


def positions(embeddings: Floats) -> Floats:
    """The two directions in which tracks differ most, float32 [n, 2].

    The first two principal components, each turned so that its longest arm is positive.

    >>> positions(np.array([[0, 0, 2], [0, 0, -1], [0, 0, -1]], np.float32)).tolist()
    [[2.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]]
    """
    n = len(embeddings)
    out = np.zeros((n, 2), np.float32)
    if n < 2:
        return out
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    # [d, d], however many tracks there are.
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    found = centred @ axes
    far = found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])]
    found *= np.where(far < 0, -1.0, 1.0)
    out[:, : found.shape[1]] = found
    return np.where(np.abs(out) < 1e-7, np.float32(0), out)


def _clusters(
    tracks: Sequence[Track], facts: Sequence[Mapping[str, Any]], measures: Floats
) -> Iterator[Cluster]:
    labels = [_labels(fact) for fact in facts]
    years = np.array([_year(fact) for fact in facts])
    known = {"year of release": ("year", years)}
    for (name, unit), values in zip(MEASURES.items(), measures.T, strict=True):
        known[name] = (unit, values)
    for number in sorted({track.cluster for track in tracks} - {0}):
        mine = [place for place, track in enumerate(tracks) if track.cluster == number]
        rest = [place for place, track in enumerate(tracks) if track.cluster not in (0, number)]
        own = [tracks[place] for place in mine]
        typical = sorted(own, key=lambda track: -track.typical)
        confidence = [track.confidence for track in own if track.confidence is not None]
        apart = [*_shares(labels, mine, rest), *_differences(known, mine, rest)]
        apart.sort(key=lambda feature: -abs(feature.strength))
        yield Cluster(
            number,
            len(own),
            tuple(track.track_id for track in typical[:MEDOIDS]),
            float(np.mean(confidence)) if confidence else 0.0,
            all(track.status == "decided" for track in own),
            tuple(apart[:MOST_FEATURES]),
            _counted([track.album for track in own]),
            _counted([track.artist_id for track in own]),
        )


def _counted(values: Sequence[str]) -> tuple[tuple[str, int], ...]:
    counts = Counter(value for value in values if value)
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LISTED])


def _labels(fact: Mapping[str, Any]) -> set[str]:
    labels = {f"genre {genre}" for genre in fact.get("genres") or ()}
    if fact.get("mood"):
        labels.add(f"mood {fact['mood']}")
    return labels


def _year(fact: Mapping[str, Any]) -> float:
    """The year of release, NaN where it is not known.

    >>> _year({"release_date": "1999-04-01"}), _year({})
    (1999.0, nan)
    """
    match = _YEAR.search(str(fact.get("release_date") or ""))
    return float(match[1]) if match else np.nan


def _shares(
    labels: Sequence[set[str]], mine: Sequence[int], rest: Sequence[int]
) -> Iterator[Feature]:
    """Labels that the tracks of a cluster bear more often, or less, than the others."""
    if not rest:
        return
    for label in sorted(set().union(*(labels[place] for place in [*mine, *rest]))):
        value = float(np.mean([label in labels[place] for place in mine]))
        other = float(np.mean([label in labels[place] for place in rest]))
        if abs(value - other) >= LEAST_SHARE:
            yield Feature(label, 100 * value, 100 * other, "%", value - other)


def _differences(
    known: Mapping[str, tuple[str, npt.NDArray[Any]]], mine: Sequence[int], rest: Sequence[int]
) -> Iterator[Feature]:
    """How the means of a cluster differ from those of the other tracks."""
    for name, (unit, values) in known.items():
        own, other = (values[list(places)].astype(np.float64) for places in (mine, rest))
        own, other = own[~np.isnan(own)], other[~np.isnan(other)]
        spread = float(np.concatenate([own, other]).std()) if own.size and other.size else 0.0
        if spread > 0:
            value, away = float(own.mean()), float(other.mean())
            yield Feature(name, value, away, unit, (value - away) / spread)
