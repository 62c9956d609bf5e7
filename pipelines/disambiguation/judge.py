"""All names of a catalogue, judged one after the other.

Only one name's embeddings are worked on at a time, and what is kept of each is small: numbers of
its tracks, centroids of its clusters, and the trees of those names that the report will show.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.clusters.typical import distances_to_centre, typical_tracks
from pipelines.disambiguation.cluster import Before, Clustered, Rules, cluster_group
from pipelines.disambiguation.group import Groups

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MEDOIDS = 3  # most typical tracks of a cluster: enough to hear whether it is one artist

# Groups that nobody was asked to judge are of no interest to an editor, the others in this order.
_SHOWN = ("clustered", "uncertain", "decided", "too-few-tracks", "opted-out", "placeholder")


@dataclasses.dataclass(frozen=True, eq=False)
class Centres:
    """The clusters of all names, as far as they were heard, [c].

    Attributes:
        group: the number of the name; `number` of the cluster in it; `size` its tracks.
        centroid: float32 [c, d], the mean of the embeddings.
        medoids: of each, the rows in the catalogue of its most typical tracks, the first the most.
    """

    group: Ints
    number: Ints
    size: Ints
    centroid: Floats
    medoids: list[tuple[int, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What was found about every member (a track in one of its groups) and every group.

    Attributes:
        numbers: int32 [members], number of the cluster; what was considered where the group is
            uncertain; of a track that failed, what it was before.
        confidence: float32 [members], NaN where nobody judged.
        typical: float32 [members], 1 at the centre of the cluster, 0 without one.
        member_status: a key of `STATUSES` for each member.
        status: of each group; `doubt` and `highest` as in `Clustered`.
        centres: all clusters.
        shown: group → its clustering, of the groups that the report shows, the most doubtful first.
    """

    numbers: npt.NDArray[np.int32]
    confidence: Floats
    typical: Floats
    member_status: list[str]
    status: list[str]
    doubt: Floats
    highest: Ints
    centres: Centres
    shown: dict[int, Clustered]

    def applied(self) -> npt.NDArray[np.int32]:
        """int32 [members]: the clusters that count: 0 where nothing was decided or clustered."""
        counts = np.array([status in ("clustered", "decided") for status in self.member_status])
        return np.where(counts, self.numbers, 0).astype(np.int32)


def judge(
    groups: Groups,
    catalog: pa.Table,
    heard: npt.NDArray[np.bool_],
    embeddings: Floats,
    rules: Rules,
    *,
    before: Callable[[str], Before],
    albums: Sequence[str] = (),
    recordings: Sequence[str] = (),
    shown: int = 0,
) -> Judged:
    """Judges every name.

    Args:
        groups, catalog: of the same catalogue.
        heard: bool [tracks]; `embeddings` float32 [tracks, d] is read where it is true.
        before: normalised name → what is known of it from earlier runs.
        albums: of each track, the album to keep together, or ""; empty: no wish.
        recordings: of each track, what names the recording of which it is a copy, or "".
        shown: how many groups the report shows.
    """
    ids = catalog["track_id"].to_pylist()
    total = len(groups.rows)
    numbers = np.zeros(total, np.int32)
    confidence = np.full(total, np.nan, np.float32)
    typical = np.zeros(total, np.float32)
    member_status = [""] * total
    status = list(groups.statuses)
    doubt = np.zeros(len(groups.keys), np.float32)
    highest = np.zeros(len(groups.keys), np.int64)
    best: list[tuple[tuple[float, ...], int, Clustered]] = []
    titled = "album" in catalog.column_names
    centres = _Centres(catalog["album"].to_pylist() if titled else ())
    for group, key in enumerate(groups.keys):
        known = before(key)
        members = np.arange(groups.starts[group], groups.starts[group + 1])
        rows = groups.rows[members]
        highest[group] = max([known.highest, *known.numbers.values()], default=0)
        if status[group]:
            for member in members.tolist():
                member_status[member] = status[group]
                # What was found before this name was left out is known again afterwards.
                numbers[member] = known.numbers.get(ids[groups.rows[member]], 0)
            found = _nothing(status[group])
        else:
            alive = heard[rows]
            own = [ids[row] for row in rows[alive].tolist()]
            vectors = np.asarray(embeddings[rows[alive]], np.float32)
            wishes = [albums[row] for row in rows[alive].tolist()] if albums else ()
            copies = [recordings[row] for row in rows[alive].tolist()] if recordings else ()
            found = cluster_group(vectors, own, rules, known, wishes, copies)
            status[group], doubt[group] = found.status, found.doubt
            highest[group] = found.highest
            numbers[members[alive]] = found.numbers
            confidence[members[alive]] = found.confidence
            typical[members[alive]] = centres.add(group, found.numbers, vectors, rows[alive])
            if found.status == "too-few-tracks":  # they may have been more, and be more again
                numbers[members[alive]] = [known.numbers.get(track_id, 0) for track_id in own]
            for member, decided in zip(members[alive].tolist(), found.decided, strict=True):
                member_status[member] = "decided" if decided else _undecided(found.status)
            for member in members[~alive].tolist():
                track_id = ids[groups.rows[member]]
                artist = known.decided.get(track_id, 0)
                numbers[member] = artist or known.numbers.get(track_id, 0)
                member_status[member] = "decided" if artist else "failed"
                confidence[member] = 1.0 if artist else np.nan
        if status[group] in _SHOWN:
            _keep(
                best,
                (*_interest(status[group], float(doubt[group]), len(rows)), -group),
                group,
                found,
                shown,
            )
    order = sorted(best, key=lambda item: item[0], reverse=True)
    return Judged(
        numbers,
        confidence,
        typical,
        member_status,
        status,
        doubt,
        highest,
        centres.finish(embeddings.shape[1]),
        {group: found for _, group, found in order},
    )


def _undecided(status: str) -> str:
    # Of a group whose other tracks an editor has decided, the rest is judged by sound.
    return "clustered" if status == "decided" else status


def _nothing(status: str) -> Clustered:
    empty = np.zeros(0, np.float32)
    nobody = np.zeros(0, bool)
    return Clustered(status, np.zeros(0, np.int32), empty, nobody, None, 0.0, 0)


def _interest(status: str, doubt: float, tracks: int) -> tuple[float, ...]:
    return doubt, -_SHOWN.index(status), tracks


def _keep(
    best: list[tuple[tuple[float, ...], int, Clustered]],
    interest: tuple[float, ...],
    group: int,
    found: Clustered,
    most: int,
) -> None:
    """Keeps the `most` groups of the highest interest."""
    if len(best) < most:
        heapq.heappush(best, (interest, group, found))
    elif best and interest > best[0][0]:
        heapq.heapreplace(best, (interest, group, found))


class _Centres:
    """Collects the clusters of one name after the other."""

    def __init__(self, albums: Sequence[str | None]) -> None:
        self._albums = albums
        self._places: list[tuple[int, int, int]] = []
        self._centroids: list[Floats] = []
        self._medoids: list[tuple[int, ...]] = []

    def add(
        self, group: int, numbers: npt.NDArray[np.int32], vectors: Floats, rows: Ints
    ) -> Floats:
        """Adds the clusters of a name; returns how typical each track is of its own."""
        if not len(numbers):
            return np.zeros(0, np.float32)
        # Of different albums if there are: a listener need not hear one twice.
        kinds = [self._albums[row] for row in rows.tolist()] if self._albums else None
        for number, near in typical_tracks(vectors, numbers, MEDOIDS, kinds).items():
            mine = numbers == number
            self._places.append((group, number, int(mine.sum())))
            self._centroids.append(vectors[mine].mean(axis=0))
            self._medoids.append(tuple(rows[near].tolist()))
        # Embeddings have length one, so that two that have nothing in common are √2 apart.
        typical = np.clip(1 - distances_to_centre(vectors, numbers) / np.sqrt(2), 0, 1)
        return np.where(numbers > 0, typical, 0).astype(np.float32)

    def finish(self, dimensions: int) -> Centres:
        """All that were added."""
        places = np.array(self._places, np.int64).reshape(-1, 3)
        centroid = np.array(self._centroids, np.float32).reshape(-1, dimensions)
        return Centres(places[:, 0], places[:, 1], places[:, 2], centroid, self._medoids)


def albums_of(catalog: pa.Table, groups: Groups) -> list[str]:
    """The album that each track must stay with, "" for none: `album_id`, or else `album`.

    An album on which tracks of several artists stand is a compilation, and keeps nothing together.
    So is the title that albums of several artists share, where there are no ids.

    >>> from hashing.artists.names import NameRules
    >>> from pipelines.disambiguation.group import group_tracks
    >>> names, albums = [["A"], ["A"], ["B"], ["A"]], ["x", "hits", "hits", ""]
    >>> ids = ["1", "2", "3", "4"]
    >>> table = pa.table({"track_id": ids, "artist_name": names, "album": albums})
    >>> albums_of(table, group_tracks(table, NameRules()))
    ['x', '', '', '']
    """
    column = next((name for name in ("album_id", "album") if name in catalog.column_names), None)
    if column is None:
        return [""] * catalog.num_rows
    albums = [album or "" for album in catalog[column].to_pylist()]
    group_of = groups.group_of
    artists: dict[str, set[int]] = {}
    for row, album in enumerate(albums):
        member = int(groups.first[row])
        artists.setdefault(album, set()).add(-1 if member < 0 else int(group_of[member]))
    return [album if len(artists[album]) == 1 else "" for album in albums]


def recordings_of(catalog: pa.Table, groups: Mapping[str, int]) -> list[str]:
    """What names the recording of each track, "" where the catalogue has no copy of it.

    Args:
        groups: group of every track that has duplicates, by its id.

    >>> recordings_of(pa.table({"track_id": ["a", "b"]}), {"b": 7})
    ['', '7']
    """
    found = map(groups.get, catalog["track_id"].to_pylist())
    return ["" if group is None else str(group) for group in found]


def count_by_status(status: Sequence[str]) -> Mapping[str, int]:
    """How many groups have each status, by name.

    >>> count_by_status(["clustered", "uncertain", "clustered"])
    {'clustered': 2, 'uncertain': 1}
    """
    return {name: status.count(name) for name in sorted(set(status))}
