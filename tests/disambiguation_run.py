"""Runs of ``hashbeam disambiguate`` for tests of its page: generated, of any size, in a moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from pipelines.disambiguation.outcome import (
    Cluster,
    Failure,
    Feature,
    Group,
    Proposal,
    Run,
    Side,
    Track,
)

CUT = 4.0


def make_group(
    name: str,
    sizes: Sequence[int],
    *,
    seed: int = 0,
    failed: int = 0,
    title: str = "Song",
    snippet: str | None = None,
) -> Group:
    """A name with artists of these `sizes` (tracks), far apart, and tracks that failed."""
    rng = np.random.default_rng(seed)
    centres = 4.0 * rng.normal(size=(len(sizes), 8))
    voices = np.repeat(np.arange(len(sizes)), sizes)
    points = centres[voices] + 0.3 * rng.normal(size=(len(voices), 8))
    tree = linkage(points, "ward") if len(points) > 1 else None
    labels = np.array([1]) if tree is None else fcluster(tree, CUT, "distance")
    # Numbers in the order of the clusters' first tracks, as the pipeline gives them.
    order = list(dict.fromkeys(labels.tolist()))
    numbers = [1 + order.index(label) for label in labels.tolist()]
    positions = (points - points.mean(axis=0))[:, :2].astype(np.float32)
    key = f"{name.casefold()}-{seed}"
    tracks = [
        Track(
            track_id=f"{key}/{place}",
            title=f"{title} {place}",
            album=f"Album {number}",
            cluster=number,
            confidence=0.9,
            typical=1.0,
            uri=f"music/{place}.opus",
            snippet=snippet,
        )
        for place, number in enumerate(numbers)
    ]
    clusters = tuple(
        Cluster(
            number=number,
            size=numbers.count(number),
            medoids=tuple(t.track_id for t in tracks if t.cluster == number)[:3],
            confidence=0.9,
            apart=(Feature("tempo", 120.0 + number, 100.0, "bpm", 1.5),),
            albums=((f"Album {number}", numbers.count(number)),),
        )
        for number in sorted(set(numbers))
    )
    tracks += [
        Track(f"{key}/lost {place}", f"{title} lost", "", 0, None, 0.0, "gone.opus", "failed",
              failure="no such file")
        for place in range(failed)
    ]  # fmt: skip
    return Group(
        key=key,
        name=name,
        variants=((name, len(tracks)),),
        tracks=tuple(tracks),
        clusters=clusters,
        linkage=tree,
        cut=CUT,
        positions=positions,
        doubt=float(rng.uniform()),
        status="clustered",
        highest=len(clusters),
    )


def make_run(groups: Sequence[Group], proposals: Sequence[Proposal] = ()) -> Run:
    """A run with these groups, the most doubtful first."""
    tracks = sum(len(group.tracks) for group in groups)
    failed = [track for group in groups for track in group.tracks if track.failure]
    return Run(
        run_id="run-1",
        facts={"model": "artists", "catalog": "catalog.csv", "tracks": tracks, "cut": CUT},
        groups=tuple(sorted(groups, key=lambda group: -group.doubt)),
        proposals=tuple(proposals),
        failures=tuple(
            Failure(track.track_id, track.uri, "decode", "AudioError", track.failure)
            for track in failed
        ),
        figures={"mean": {"ari": 0.65}},
    )


def merge_of(first: Group, second: Group, proposal_id: str = "merge-1") -> Proposal:
    """A proposal to make the first artists of two names one."""
    sides = tuple(
        Side(group.key, group.name, 1, group.clusters[0].size, group.clusters[0].medoids)
        for group in (first, second)
    )
    evidence = {"distance": 0.42, "spelling_share": 0.8}
    return Proposal(proposal_id, "merge", sides, 0.77, "They sound alike.", evidence)
